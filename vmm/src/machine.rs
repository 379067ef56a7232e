//! One virtual machine: built, run, taken down.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kvm_bindings::KVM_MAX_CPUID_ENTRIES;
use mmio::VmId;
use thiserror::Error;
use tracing::{info, warn};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::boot::{self, BootError, BootSource, Entry};
use crate::bus::{AddressSpace, BusError};
use crate::devices::keyboard::Keyboard;
use crate::devices::power::{self, Power};
use crate::devices::serial::Serial;
use crate::ending::{EndSwitch, Ending};
use crate::io::{self as events, Console, LoopError, Output, Signals, Subscriber};
use crate::irq::Interrupts;
use crate::layout;
use crate::memory::{self, GuestMemory, MemoryError};
use crate::metrics::Metrics;
use crate::pci::{HostBridge, PciError, PciHost};
use crate::vcpu::exit::ExitCounters;
use crate::vcpu::gate::{Gate, Kick, install_kick_handler};
use crate::vcpu::state::StateError;
use crate::vcpu::{Vcpu, cpuid, state};
use crate::vm::{HostMemory, KvmVm, VmError, VmOps, call};

/// How long processors get to leave the guest when the machine ends.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);

/// What to build.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// What to boot.
    pub boot: BootSource,
    /// Bytes of RAM.
    pub memory: u64,
    /// Number of processors.
    pub cpus: u8,
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
    gate: Arc<Gate>,
    vcpus: Vec<JoinHandle<()>>,
    io: JoinHandle<Result<(), LoopError>>,
    /// Memory slots refer to it until the hypervisor's file is closed, which the devices do.
    _memory: GuestMemory,
}

impl Machine {
    /// Builds the machine and lets it run.
    pub fn start(config: &MachineConfig) -> Result<Self, MachineError> {
        events::block_signals()?;
        install_kick_handler()?;

        let vm = Arc::new(KvmVm::new()?);
        check_size(&vm, config.memory)?;
        let memory = memory::create(config.memory)?;
        let mut slots = 0;
        for range in memory::ranges(&memory) {
            let region = HostMemory {
                guest: range.guest,
                len: range.len,
                host: range.host,
                read_only: false,
            };
            vm.add_memory(slots, region)?;
            slots += 1;
        }

        let end = Arc::new(EndSwitch::new()?);
        let metrics = Arc::new(Metrics::default());
        let ops: Arc<dyn VmOps> = vm.clone();
        let interrupts = Interrupts::new(Arc::clone(&ops));
        let space = AddressSpace::new();
        let pci = PciHost::new(VmId(0), ops, Arc::clone(&space), config.memory, slots)?;
        pci.plug(Arc::new(HostBridge::new()))?;
        pci.connect()?;
        let subscribers = board(&space, &interrupts, &end)?;

        boot::acpi::write(&memory, config.cpus, config.memory).map_err(MachineError::Acpi)?;
        let entry = boot::load(&config.boot, &memory)?;
        let gate = Arc::new(Gate::default());
        let mut vcpus = Vec::new();
        for index in 0..config.cpus {
            vcpus.push(Vcpu {
                index,
                fd: processor(&vm, index, config.cpus, entry, &memory)?,
                bus: space.view(),
                counters: ExitCounters::new(&metrics, index),
                gate: Arc::clone(&gate),
                end: Arc::clone(&end),
            });
        }

        let loop_end = Arc::clone(&end);
        let io = thread::Builder::new().name("io".into()).spawn(move || {
            let result = events::serve(subscribers, &loop_end);
            if result.is_err() {
                loop_end.pull(Ending::Crash("the event loop failed".into()));
            }
            result
        })?;
        let vcpus = vcpus
            .into_iter()
            .map(|vcpu| vcpu.spawn(|| Ok(())))
            .collect::<io::Result<Vec<_>>>()
            .inspect_err(|_| end.pull(Ending::Stopped))?;
        info!(cpus = config.cpus, memory = config.memory, "started");
        Ok(Machine {
            end,
            gate,
            vcpus,
            io,
            _memory: memory,
        })
    }

    /// Waits for the machine's end and takes it down.
    pub fn wait(self) -> Result<Ending, MachineError> {
        let served = self.io.join();
        let kicks: Vec<_> = self.vcpus.iter().map(Kick::new).collect();
        if !self.gate.dismiss(&kicks, LEAVE_LIMIT) {
            warn!("a virtual CPU does not leave");
        }
        for vcpu in self.vcpus {
            // A panic was reported where it happened, and as the machine's ending.
            let _ = vcpu.join();
        }
        if let Ok(result) = served {
            result?;
        }
        let ending = self
            .end
            .pulled()
            .unwrap_or_else(|| Ending::Crash("the event loop panicked".into()));
        info!(?ending, "ended");
        Ok(ending)
    }
}

/// Refuses memory whose BAR window lies beyond the physical address width.
fn check_size(vm: &KvmVm, memory: u64) -> Result<(), MachineError> {
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
) -> Result<Vec<Subscriber>, MachineError> {
    space.add_pio(
        layout::POWER,
        power::SIZE,
        Arc::new(Power::new(Arc::clone(end))),
    )?;
    space.add_pio(layout::I8042, 5, Arc::new(Keyboard::new(Arc::clone(end))))?;

    let drained = EventFd::new(EFD_NONBLOCK)?;
    let serial = Serial::new(
        interrupts.edge(layout::COM1_IRQ)?,
        drained.try_clone()?,
        Output::new(Arc::clone(end)),
    );
    space.add_pio(layout::COM1, 8, serial.clone())?;
    let stdin = io::stdin();
    let interactive = stdin.is_terminal();
    let console = Console::new(stdin, serial, drained, Arc::clone(end), interactive);
    let signals = Signals::new(Arc::clone(end))?;
    Ok(vec![Box::new(console), Box::new(signals)])
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
