//! Real exits: a few instructions of user code on the host's KVM, whatever kind that is.
//!
//! Without `/dev/kvm` these tests show nothing and say so.

use std::sync::Arc;

use gpu_model::{Mapper, Piece};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment};
use kvm_ioctls::{VcpuExit, VcpuFd};
use mmio::{Access, Bar, VmId, Width};
use parking_lot::Mutex;
use vm_memory::{Bytes, GuestAddress};
use vmm::bus::AddressSpace;
use vmm::gpu::SlotMapper;
use vmm::layout;
use vmm::memory::{self, GuestMemory};
use vmm::memory_slots::MemorySlots;
use vmm::metrics::{Counter, Metrics};
use vmm::pci::{BarChange, BarKind, BarSpec, ConfigSpace, Identity, PciDevice, PciHost, Window};
use vmm::vcpu::collected::CollectedWrites;
use vmm::vcpu::exit::{ExitCounters, Next, handle_exit};
use vmm::vm::{HostMemory, KvmVm, MsiMessage, StoreLog, VmError, VmOps};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const RAM: u64 = 2 << 20;
/// Where the BAR goes; the guest's page tables map it.
const BAR: u64 = 0xd000_0000;
const BAR_SIZE: u64 = 0x10000;
/// Offsets in the BAR: plain memory, memory whose writes exit, and a doorbell.
const PLAIN: u64 = 0x1000;
const GUARDED: u64 = 0x2000;
const BELL: u64 = 0x3000;
/// A page that is mapped when it is hot, and where it is in the device's memory.
const WARM: u64 = 0x4000;
const WARM_AT: u64 = 0x2000;
/// Registers whose writes are collected.
const LATER: u64 = 0x5000;
/// The port at which a guest ends.
const END_PORT: u16 = 0x80;

const PML4: u64 = 0x2000;
const PDPT: u64 = 0x3000;
const PD_LOW: u64 = 0x4000;
const PD_BAR: u64 = 0x5000;
const CODE: u64 = 0x8000;

/// A device that writes down its accesses and answers reads with their offset.
struct Device {
    config: Mutex<ConfigSpace>,
    writes: Mutex<Vec<(u64, usize, u64)>>,
    bell: EventFd,
    /// Two pages behind the memory windows, and one that is mapped when it is hot.
    pages: GuestMemory,
    mapper: Arc<SlotMapper>,
}

impl PciDevice for Device {
    fn bars(&self) -> Vec<BarSpec> {
        self.config.lock().bars().to_vec()
    }

    fn config_read(&self, offset: u16, width: Width) -> u32 {
        self.config.lock().read(offset, width)
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Vec<BarChange> {
        self.config.lock().write(offset, width, value)
    }

    fn read(&self, access: &Access) -> u64 {
        self.mapper.trapped(access.bar, access.offset);
        access.offset
    }

    fn placed(&self, bar: Bar, base: Option<u64>) {
        self.mapper.place(bar, base);
    }

    fn write(&self, access: &Access, value: u64) {
        let entry = (access.offset, access.width.bytes(), value);
        self.writes.lock().push(entry);
        self.mapper.trapped(access.bar, access.offset);
    }

    fn windows(&self, _bar: Bar) -> Vec<Window> {
        let host = memory::ranges(&self.pages).next().unwrap().host;
        let memory = |offset, host, read_only| Window::Memory {
            offset,
            len: 0x1000,
            host,
            read_only,
        };
        vec![
            memory(PLAIN, host, false),
            memory(GUARDED, host + 0x1000, true),
            Window::Doorbell {
                offset: BELL,
                event: self.bell.try_clone().unwrap(),
                value: None,
            },
            Window::Collected {
                offset: LATER,
                len: 0x100,
            },
        ]
    }
}

/// A machine with the device at [`BAR`], ready to run user code.
struct Machine {
    vcpu: VcpuFd,
    vm: Arc<KvmVm>,
    device: Arc<Device>,
    space: Arc<AddressSpace>,
    _ram: GuestMemory,
}

impl Machine {
    fn new(code: &[u8]) -> Option<Self> {
        Self::logging(code, StoreLog::Slots)
    }

    /// A machine that logs stores in this way.
    fn logging(code: &[u8], log: StoreLog) -> Option<Self> {
        if !std::path::Path::new("/dev/kvm").exists() {
            eprintln!("No /dev/kvm: nothing is tested");
            return None;
        }
        let vm = match KvmVm::new(log) {
            Err(VmError::NoStoreRing(reason)) => {
                eprintln!("No dirty rings ({reason}): nothing is tested");
                return None;
            }
            vm => Arc::new(vm.unwrap()),
        };
        let ram = memory::create(RAM, memory::Pages::Small).unwrap();
        let range = memory::ranges(&ram).next().unwrap();
        let slot = HostMemory {
            guest: 0,
            len: RAM,
            host: range.host,
            read_only: false,
            log_stores: false,
        };
        vm.add_memory(0, slot).unwrap();
        map_and_load(&ram, code);

        let space = AddressSpace::new();
        let ops: Arc<dyn VmOps> = vm.clone();
        let slots = MemorySlots::from(1);
        let host = PciHost::new(VmId(0), ops.clone(), space.clone(), RAM, slots.clone()).unwrap();
        let mut config = ConfigSpace::new(&Identity::default());
        config.add_bar(BarSpec {
            bar: Bar::Bar0,
            kind: BarKind::Memory32,
            size: BAR_SIZE,
        });
        let pages = memory::create(0x3000, memory::Pages::Small).unwrap();
        let at = memory::ranges(&pages).next().unwrap().host;
        let video = Box::new(move |address, _| Some(at + address));
        let device = Arc::new(Device {
            config: Mutex::new(config),
            writes: Mutex::default(),
            bell: EventFd::new(EFD_NONBLOCK).unwrap(),
            mapper: SlotMapper::new(ops, slots, video, true, &Metrics::default()),
            pages,
        });
        host.plug(device.clone()).unwrap();
        host.connect().unwrap();
        let mut view = space.view();
        view.mmio_write(layout::ECAM_START + 0x10, &(BAR as u32).to_le_bytes());
        view.mmio_write(layout::ECAM_START + 4, &2u16.to_le_bytes());

        let vcpu = vm.create_vcpu(0).unwrap();
        start_user_code(&vm, &vcpu);
        Some(Machine {
            vcpu,
            vm,
            device,
            space,
            _ram: ram,
        })
    }

    /// Runs until the guest writes to [`END_PORT`]; returns how many other exits that took.
    fn run(&mut self) -> usize {
        let mut bus = self.space.view();
        let collected = CollectedWrites::new(&self.vcpu, Counter::default()).unwrap();
        let counters = ExitCounters::new(&Metrics::default(), 0);
        let mut exits = 0;
        loop {
            let exit = self.vcpu.run().unwrap();
            collected.pass_on(&mut bus);
            if matches!(exit, VcpuExit::IoOut(END_PORT, _)) {
                return exits;
            }
            assert_eq!(handle_exit(exit, &mut bus, &counters), Next::Resume);
            exits += 1;
        }
    }

    fn page(&self, index: u64) -> u32 {
        let at = GuestAddress(index * 0x1000);
        self.device.pages.read_obj(at).unwrap()
    }
}

/// Maps RAM and the BAR to themselves for user code, in pages of 2 MiB.
fn map_and_load(ram: &GuestMemory, code: &[u8]) {
    let put = |at: u64, value: u64| ram.write_obj(value, GuestAddress(at)).unwrap();
    put(PML4, PDPT | 7);
    put(PDPT, PD_LOW | 7);
    put(PDPT + 8 * (BAR >> 30), PD_BAR | 7);
    put(PD_LOW, 0x87);
    put(PD_BAR + 8 * (BAR >> 21 & 511), BAR | 0x87);
    ram.write_slice(code, GuestAddress(CODE)).unwrap();
}

/// 64-bit user mode at [`CODE`], with RBX at the BAR and every port allowed.
fn start_user_code(vm: &KvmVm, vcpu: &VcpuFd) {
    let cpuid = vm.kvm().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
    vcpu.set_cpuid2(&cpuid).unwrap();
    let mut sregs = vcpu.get_sregs().unwrap();
    sregs.cr0 = 0x8000_0033;
    sregs.cr3 = PML4;
    sregs.cr4 = 0x620;
    sregs.efer = 0x500;
    let code = kvm_segment {
        limit: 0xffff_ffff,
        g: 1,
        l: 1,
        s: 1,
        present: 1,
        dpl: 3,
        selector: 0xb,
        type_: 11,
        ..sregs.cs
    };
    let data = kvm_segment {
        l: 0,
        db: 1,
        selector: 0x13,
        type_: 3,
        ..code
    };
    sregs.cs = kvm_segment {
        db: 0,
        base: 0,
        ..code
    };
    for segment in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *segment = kvm_segment { base: 0, ..data };
    }
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    regs.rip = CODE;
    regs.rflags = 0x3002;
    regs.rbx = BAR;
    vcpu.set_regs(&regs).unwrap();
}

/// `mov dword [rbx + offset], value`.
fn store(offset: u64, value: u32) -> Vec<u8> {
    let mut code = vec![0xc7, 0x83];
    code.extend((offset as u32).to_le_bytes());
    code.extend(value.to_le_bytes());
    code
}

/// `mov eax, [rbx + offset]`.
fn load(offset: u64) -> Vec<u8> {
    let mut code = vec![0x8b, 0x83];
    code.extend((offset as u32).to_le_bytes());
    code
}

/// `out END_PORT, al`.
fn end() -> Vec<u8> {
    vec![0xe6, END_PORT as u8]
}

#[test]
fn register_accesses_exit_with_their_values() {
    let code = [store(0x10, 0x1234_5678), load(0x24), store(0x18, 0), end()].concat();
    let Some(mut machine) = Machine::new(&code) else {
        return;
    };

    assert_eq!(machine.run(), 3);

    assert_eq!(machine.vcpu.get_regs().unwrap().rax, 0x24);
    let writes = machine.device.writes.lock();
    assert_eq!(*writes, [(0x10, 4, 0x1234_5678), (0x18, 4, 0)]);
}

#[test]
fn plain_window_is_reached_without_an_exit() {
    let code = [store(PLAIN, 0xcafe), load(PLAIN), end()].concat();
    let Some(mut machine) = Machine::new(&code) else {
        return;
    };

    assert_eq!(machine.run(), 0);

    assert_eq!(machine.page(0), 0xcafe);
    assert_eq!(machine.vcpu.get_regs().unwrap().rax, 0xcafe);
}

#[test]
fn guarded_window_is_read_without_an_exit_and_written_with_one() {
    let code = [load(GUARDED), store(GUARDED + 8, 7), end()].concat();
    let Some(mut machine) = Machine::new(&code) else {
        return;
    };
    machine
        .device
        .pages
        .write_obj(0xbeefu32, GuestAddress(0x1000))
        .unwrap();

    assert_eq!(machine.run(), 1);

    assert_eq!(machine.vcpu.get_regs().unwrap().rax, 0xbeef);
    assert_eq!(*machine.device.writes.lock(), [(GUARDED + 8, 4, 7)]);
}

#[test]
fn doorbell_signals_its_event_without_an_exit() {
    let code = [store(BELL, 1), store(BELL, 2), end()].concat();
    let Some(mut machine) = Machine::new(&code) else {
        return;
    };

    assert_eq!(machine.run(), 0);

    assert_eq!(machine.device.bell.read().unwrap(), 2);
    assert!(machine.device.writes.lock().is_empty());
}

#[test]
fn hot_page_is_mapped_logs_stores_and_traps_again_when_it_is_taken_away() {
    hot_page(StoreLog::Slots);
}

#[test]
fn so_it_does_where_stores_are_logged_in_rings() {
    hot_page(StoreLog::Rings);
}

fn hot_page(log: StoreLog) {
    const STORES: u32 = 20;
    let stores = (0..STORES).map(|n| store(WARM + 4, n));
    let code = [stores.collect::<Vec<_>>().concat(), end()].concat();
    let Some(mut machine) = Machine::logging(&code, log) else {
        return;
    };
    let piece = Piece {
        offset: WARM,
        len: 0x1000,
        vram: WARM_AT,
        read_only: false,
    };
    machine.device.mapper.remap(Bar::Bar0, &[piece]);
    let dirty = |machine: &Machine| {
        let mut all = Vec::new();
        let mapper = &machine.device.mapper;
        mapper.dirty(&mut |address, len| all.push((address, len)));
        all
    };

    let trapped = machine.run();

    assert!(trapped < STORES as usize, "{trapped} of {STORES} trapped");
    let at = GuestAddress(WARM_AT + 4);
    let last: u32 = machine.device.pages.read_obj(at).unwrap();
    assert_eq!(last, STORES - 1);
    assert_eq!(dirty(&machine), [(WARM_AT, 0x1000)]);
    assert_eq!(dirty(&machine), []);

    let again = |machine: &mut Machine| {
        let mut regs = machine.vcpu.get_regs().unwrap();
        regs.rip = CODE;
        machine.vcpu.set_regs(&regs).unwrap();
        machine.run()
    };
    assert_eq!(again(&mut machine), 0);
    assert_eq!(dirty(&machine), [(WARM_AT, 0x1000)]);

    machine.device.mapper.remap(Bar::Bar0, &[]);
    assert_eq!(again(&mut machine), STORES as usize);
}

#[test]
fn collected_writes_come_in_order_before_the_next_exit() {
    let code = [
        store(LATER, 1),
        store(LATER + 0x20, 2),
        store(0x10, 3),
        store(LATER + 4, 4),
        load(LATER),
        end(),
    ];
    let Some(mut machine) = Machine::new(&code.concat()) else {
        return;
    };

    assert_eq!(machine.run(), 2);

    let later = |offset, value| (LATER + offset, 4, value);
    let writes = machine.device.writes.lock();
    assert_eq!(
        *writes,
        [later(0, 1), later(0x20, 2), (0x10, 4, 3), later(4, 4)]
    );
}

#[test]
fn full_ring_exits_and_loses_nothing() {
    const WRITES: u32 = 400;
    let stores = (0..WRITES).map(|n| store(LATER, n)).collect::<Vec<_>>();
    let Some(mut machine) = Machine::new(&[stores.concat(), end()].concat()) else {
        return;
    };

    let exits = machine.run();

    assert!(exits < WRITES as usize / 10, "{exits} exits");
    let writes = machine.device.writes.lock();
    let values: Vec<u64> = writes.iter().map(|(_, _, value)| *value).collect();
    assert_eq!(values, (0..u64::from(WRITES)).collect::<Vec<_>>());
}

#[test]
fn bar_that_moves_takes_its_windows_along() {
    let code = [store(PLAIN, 5), store(BELL, 1), store(0, 1), end()].concat();
    let Some(mut machine) = Machine::new(&code) else {
        return;
    };
    // To the next 64 KiB, with RBX following.
    let to = BAR + BAR_SIZE;
    let mut view = machine.space.view();
    view.mmio_write(layout::ECAM_START + 0x10, &(to as u32).to_le_bytes());
    let mut regs = machine.vcpu.get_regs().unwrap();
    regs.rbx = to;
    machine.vcpu.set_regs(&regs).unwrap();

    assert_eq!(machine.run(), 1);

    assert_eq!(machine.page(0), 5);
    assert_eq!(machine.device.bell.read().unwrap(), 1);
    assert_eq!(*machine.device.writes.lock(), [(0, 4, 1)]);
}

#[test]
fn message_reaches_the_local_apic_it_names() {
    const GSI: u32 = layout::IO_APIC_PINS;
    const VECTOR: usize = 0x41;
    /// Spurious interrupt vector register, with the enable bit; first interrupt request register.
    const SPURIOUS: usize = 0xf0;
    const REQUESTS: usize = 0x200;
    let Some(machine) = Machine::new(&end()) else {
        return;
    };
    let mut apic = machine.vcpu.get_lapic().unwrap();
    apic.regs[SPURIOUS + 1] |= 1;
    machine.vcpu.set_lapic(&apic).unwrap();
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    machine.vm.add_interrupt(&event, GSI).unwrap();
    let message = MsiMessage {
        address: u64::from(layout::LOCAL_APIC),
        data: VECTOR as u32,
    };
    machine.vm.set_messages(&[(GSI, message)]).unwrap();

    event.write(1).unwrap();

    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let requested = || {
        let apic = machine.vcpu.get_lapic().unwrap();
        let word = apic.regs[REQUESTS + VECTOR / 32 * 16 + VECTOR % 32 / 8];
        word.cast_unsigned() & 1 << (VECTOR % 8) != 0
    };
    while !requested() {
        assert!(std::time::Instant::now() < deadline, "no interrupt came");
        std::thread::yield_now();
    }
}
