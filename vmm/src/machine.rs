//! One virtual machine: built, run, taken down.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use mmio::VmId;
use thiserror::Error;
use tracing::info;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::boot::{self, BootError, BootSource, Entry};
use crate::bus::{AddressSpace, BusError};
use crate::control::{Controller, Seat, Switches};
use crate::devices::keyboard::Keyboard;
use crate::devices::marker::{Marker, Marks};
use crate::devices::power::{self, Power};
use crate::devices::serial::Serial;
use crate::ending::{EndSwitch, Ending};
use crate::gpu::{self, GpuConfig, GpuError};
use crate::io::{self as events, Console, ConsolePlace, LoopError, Subscriber};
use crate::irq::Interrupts;
use crate::memory::{self, GuestMemory, MemoryError};
use crate::memory_slots::MemorySlots;
use crate::metrics::Metrics;
use crate::pci::{HostBridge, PciError, PciHost};
use crate::seccomp::SeccompMode;
use crate::store_rings::StoreRings;
use crate::vcpu::collected::CollectedWrites;
use crate::vcpu::exit::ExitCounters;
use crate::vcpu::gate::{Gate, install_kick_handler};
use crate::vcpu::state::StateError;
use crate::vcpu::{Team, Vcpu, cpuid, state};
use crate::virtio::{Block, DiskOptions, Rng, VirtioDevice, VirtioPci};
use crate::vm::{HostMemory, KvmVm, StoreLog, VmError, VmOps, call};
use crate::{layout, logging};

/// Least RAM of a guest.
const LEAST_MEMORY: u64 = 16 << 20;
/// RAM comes in such steps, so that it can be made of huge pages.
const MEMORY_UNIT: u64 = 2 << 20;

/// What to build.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// What to boot.
    pub boot: BootSource,
    /// Bytes of RAM.
    pub memory: u64,
    /// What the host makes it of.
    pub pages: memory::Pages,
    /// Number of processors.
    pub cpus: u8,
    /// Its number among the machines that share a card.
    pub id: VmId,
    /// Where an operator finds it.
    pub seat: Arc<Seat>,
    /// Counts what it does.
    pub metrics: Metrics,
    /// Moments that the guest marked.
    pub marks: Marks,
    /// Where its console is.
    pub console: ConsolePlace,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<DiskOptions>,
    /// The GPU, if there is one.
    pub gpu: Option<GpuConfig>,
    /// How stores of the guest to the GPU's memory are logged.
    pub store_log: StoreLog,
    /// Whether threads are kept from system calls that they do not need.
    pub seccomp: SeccompMode,
}

/// Why a machine could not be built or run.
#[derive(Debug, Error)]
pub enum MachineError {
    /// The hypervisor refused.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// No memory for the guest.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Less memory than a kernel needs, or not whole pages.
    #[error("{0} bytes of memory: at least 16 MiB in steps of 2 MiB are needed")]
    MemorySize(u64),
    /// Memory and BARs together are beyond what the processor can address.
    #[error("{0} bytes of memory do not fit the processor's {1} address bits")]
    MemoryTooLarge(u64, u32),
    /// The guest cannot be started.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The ACPI tables do not fit.
    #[error("Cannot write the ACPI tables")]
    Acpi(#[source] vm_memory::GuestMemoryError),
    /// A processor could not be set up.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two devices want the same addresses.
    #[error("Cannot connect a device")]
    Bus(#[from] BusError),
    /// A device does not fit the PCI bus.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// A disk image cannot be opened.
    #[error("Cannot open the disk {}", path.display())]
    Disk {
        /// The image.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no GPU for it.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A log of stores would be late.
    #[error(
        "With several processors, --track ring needs a KVM without page-modification logging: load \
         kvm_intel with pml=0"
    )]
    LateStoreLog,
    /// Its console cannot be had.
    #[error("Cannot open the console {0}")]
    Console(ConsolePlace, #[source] io::Error),
    /// Threads, events or signals could not be had.
    #[error("Cannot set up the machine's threads")]
    Io(#[from] io::Error),
    /// The event loop failed.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

/// A running machine.
pub struct Machine {
    end: Arc<EndSwitch>,
    seat: Arc<Seat>,
    io: JoinHandle<Result<(), LoopError>>,
    vcpus: Team,
    /// Behind the processors, which must not run without them.
    devices: Devices,
    _memory: GuestMemory,
}

/// The devices of a machine, which part when it ends.
struct Devices(Arc<AddressSpace>);

impl Drop for Devices {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl Machine {
    /// Builds the machine and lets it run.
    pub fn start(config: &MachineConfig) -> Result<Self, MachineError> {
        install_kick_handler()?;
        let vm = Arc::new(KvmVm::new(config.store_log)?);
        check_size(&vm, config.memory)?;
        if config.store_log == StoreLog::Rings && config.cpus > 1 && !StoreRings::are_prompt() {
            return Err(MachineError::LateStoreLog);
        }
        let memory = memory::create(config.memory, config.pages)?;
        let slots = map_memory(&*vm, &memory)?;
        let end = Arc::new(EndSwitch::new()?);
        let metrics = config.metrics.clone();

        let ops: Arc<dyn VmOps> = vm.clone();
        let interrupts = Interrupts::new(Arc::clone(&ops));
        let space = AddressSpace::new();
        let devices = Devices(Arc::clone(&space));
        let memory_slots = MemorySlots::from(slots);
        let pci = PciHost::new(
            config.id,
            Arc::clone(&ops),
            Arc::clone(&space),
            config.memory,
            Arc::clone(&memory_slots),
        )?;
        pci.plug(Arc::new(HostBridge::new()))?;
        pci.connect()?;
        let mut subscribers = board(&space, &interrupts, &end, &config.console)?;
        let marker = Marker::new(metrics.clone(), config.marks.clone());
        space.add_pio(layout::MARKER, 1, Arc::new(marker))?;
        if let Some(gpu) = &config.gpu {
            let board = gpu::Board {
                vm: ops,
                memory_slots,
                interrupts: &interrupts,
                memory: &memory,
                metrics: &metrics,
            };
            pci.plug(gpu::device(gpu, pci.next_slot()?, &board)?)?;
        }
        for (name, device) in virtio_devices(&config.disks)? {
            let requests = metrics.counter("virtio_doorbells_total", &[("device", &name)]);
            let slot = pci.next_slot()?;
            let device = VirtioPci::new(device, slot, &interrupts, memory.clone(), requests)?;
            subscribers.push(Box::new(device.handler()));
            pci.plug(device)?;
        }

        boot::acpi::write(&memory, config.cpus, config.memory).map_err(MachineError::Acpi)?;
        let entry = boot::load(&config.boot, &memory)?;
        let gate = Arc::new(Gate::default());
        let processors = (0..config.cpus)
            .map(|index| processor(&vm, index, config.cpus, entry, &memory))
            .collect::<Result<Vec<_>, _>>()?;
        let counter = metrics.counter("collected_writes_total", &[]);
        let collected = Arc::new(CollectedWrites::new(&processors[0], counter)?);
        let vcpus = (0..)
            .zip(processors)
            .map(|(index, fd)| Vcpu {
                index,
                fd,
                bus: space.view(),
                counters: ExitCounters::new(&metrics, index),
                collected: Arc::clone(&collected),
                rings: vm.store_rings().cloned(),
                gate: Arc::clone(&gate),
                end: Arc::clone(&end),
            })
            .collect();
        let vcpus = Team::start(vcpus, Arc::clone(&gate), config.seccomp)?;

        let io = spawn_loop(subscribers, Arc::clone(&end), config.seccomp)?;
        config.seat.occupy(Controller {
            gate,
            vcpus: vcpus.kicks(),
            end: Arc::clone(&end),
            metrics,
            switches: switches(config.gpu.as_ref()),
            memory: config.memory,
            gpu: config.gpu.as_ref().and_then(GpuConfig::status),
            started: Instant::now(),
        });
        info!(
            vm = config.seat.name(),
            cpus = config.cpus,
            memory = config.memory,
            "started"
        );
        Ok(Machine {
            end,
            seat: Arc::clone(&config.seat),
            io,
            vcpus,
            devices,
            _memory: memory,
        })
    }

    /// Waits for the machine's end and takes it down.
    pub fn wait(self) -> Result<Ending, MachineError> {
        let served = self.io.join();
        self.seat.leave();
        drop(self.vcpus);
        drop(self.devices);
        if let Ok(result) = served {
            result?;
        }
        let ending = self
            .end
            .pulled()
            .unwrap_or_else(|| Ending::Crash("the event loop panicked".into()));
        info!(vm = self.seat.name(), ?ending, "ended");
        Ok(ending)
    }
}

/// Starts the event loop's thread.
fn spawn_loop(
    subscribers: Vec<Subscriber>,
    end: Arc<EndSwitch>,
    seccomp: SeccompMode,
) -> io::Result<JoinHandle<Result<(), LoopError>>> {
    thread::Builder::new().name("io".into()).spawn(move || {
        let result = events::serve(subscribers, &end, seccomp);
        if result.is_err() {
            end.pull(Ending::Crash("the event loop failed".into()));
        }
        result
    })
}

/// Gives the machine its RAM; returns how many memory slots that took.
fn map_memory(vm: &dyn VmOps, memory: &GuestMemory) -> Result<u32, VmError> {
    let mut slots = 0;
    for range in memory::ranges(memory) {
        let region = HostMemory {
            guest: range.guest,
            len: range.len,
            host: range.host,
            read_only: false,
            log_stores: false,
        };
        vm.add_memory(slots, region)?;
        slots += 1;
    }
    Ok(slots)
}

/// What can be switched on a machine.
fn switches(gpu: Option<&GpuConfig>) -> Switches {
    let mut switches = Switches::default();
    switches.add("log", logging::set_filter);
    if let Some(GpuConfig::Virtual(slot)) = gpu {
        slot.tenancy().add_switches(&mut switches);
    }
    switches
}

/// Refuses memory too small for a kernel, and memory whose BAR window lies beyond the physical
/// address width.
fn check_size(vm: &KvmVm, memory: u64) -> Result<(), MachineError> {
    if memory < LEAST_MEMORY || !memory.is_multiple_of(MEMORY_UNIT) {
        return Err(MachineError::MemorySize(memory));
    }
    let supported = call(
        "read the supported CPUID",
        vm.kvm().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES),
    )?;
    let bits = cpuid::physical_address_bits(&supported);
    let end = layout::pci64_start(memory) + layout::PCI64_SIZE;
    if end > 1 << bits.min(63) {
        return Err(MachineError::MemoryTooLarge(memory, bits));
    }
    Ok(())
}

/// Connects the devices that are on no PCI bus; returns those that wait for events.
fn board(
    space: &AddressSpace,
    interrupts: &Interrupts,
    end: &Arc<EndSwitch>,
    console: &ConsolePlace,
) -> Result<Vec<Subscriber>, MachineError> {
    space.add_pio(
        layout::POWER,
        power::SIZE,
        Arc::new(Power::new(Arc::clone(end))),
    )?;
    space.add_pio(layout::I8042, 5, Arc::new(Keyboard::new(Arc::clone(end))))?;

    let drained = EventFd::new(EFD_NONBLOCK)?;
    let place = |error| MachineError::Console(console.clone(), error);
    let serial = Serial::new(
        interrupts.edge(layout::COM1_IRQ)?,
        drained.try_clone()?,
        console.output(Arc::clone(end)).map_err(place)?,
    );
    space.add_pio(layout::COM1, 8, serial.clone())?;
    let input = console.input().map_err(place)?;
    let interactive = input.is_terminal();
    let console = Console::new(input, serial, drained, Arc::clone(end), interactive);
    Ok(vec![Box::new(console)])
}

/// A virtio device and what its counters call it.
type NamedDevice = (String, Box<dyn VirtioDevice>);

/// The disks and the source of entropy, by name.
fn virtio_devices(disks: &[DiskOptions]) -> Result<Vec<NamedDevice>, MachineError> {
    let mut devices: Vec<NamedDevice> = Vec::new();
    for (index, options) in disks.iter().enumerate() {
        let disk = Block::open(options).map_err(|source| MachineError::Disk {
            path: options.path.clone(),
            source,
        })?;
        devices.push((format!("disk{index}"), Box::new(disk)));
    }
    devices.push(("rng".into(), Box::new(Rng::default())));
    Ok(devices)
}

/// Creates processor `index`; the first one starts at `entry`.
fn processor(
    vm: &KvmVm,
    index: u8,
    cpus: u8,
    entry: Entry,
    memory: &GuestMemory,
) -> Result<kvm_ioctls::VcpuFd, MachineError> {
    let fd = vm.create_vcpu(index)?;
    let mut supported = call(
        "read the supported CPUID",
        vm.kvm().get_supported_cpuid(KVM_MAX_CPUID_ENTRIES),
    )?;
    cpuid::describe(&mut supported, index, cpus);
    call("set CPUID", fd.set_cpuid2(&supported))?;
    state::prepare(&fd)?;
    if index == 0 {
        state::start_at(&fd, entry, memory)?;
    }
    Ok(fd)
}
