//! What a virtual CPU does when the guest exits.

use kvm_bindings::KVM_EXIT_DIRTY_RING_FULL;
use kvm_ioctls::VcpuExit;
use quanta::Clock;
use tracing::trace;

use crate::bus::BusView;
use crate::metrics::{Counter, Metrics};

/// What to do after an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter the guest again.
    Resume,
    /// The guest cannot go on, and why.
    Crash(String),
}

/// Exits of a kind.
#[derive(Clone, Debug)]
struct Kind {
    exits: Counter,
    /// The time that devices took for them.
    time: Counter,
    clock: Clock,
}

impl Kind {
    fn new(metrics: &Metrics, vcpu: &str, kind: &str) -> Self {
        let labels = [("vcpu", vcpu), ("kind", kind)];
        Self {
            exits: metrics.counter("exits_total", &labels),
            time: metrics.counter("exit_ns_total", &labels),
            clock: Clock::new(),
        }
    }

    /// Counts an exit, and how long `serve` takes, by the processor's own counter where that is a
    /// clock; what `serve` says.
    fn count(&self, serve: impl FnOnce() -> bool) -> bool {
        let begin = self.clock.raw();
        let claimed = serve();
        self.exits.increment();
        self.time
            .add(self.clock.delta_as_nanos(begin, self.clock.raw()));
        claimed
    }
}

/// One processor's exits by kind.
#[derive(Clone, Debug)]
pub struct ExitCounters {
    pio: Kind,
    mmio_read: Kind,
    mmio_write: Kind,
    unclaimed: Counter,
    other: Counter,
}

impl ExitCounters {
    /// The counters of processor `vcpu` in `metrics`.
    pub fn new(metrics: &Metrics, vcpu: u8) -> Self {
        let vcpu = vcpu.to_string();
        let kind = |kind| Kind::new(metrics, &vcpu, kind);
        ExitCounters {
            pio: kind("pio"),
            mmio_read: kind("mmio-read"),
            mmio_write: kind("mmio-write"),
            unclaimed: metrics.counter("unclaimed_accesses_total", &[("vcpu", &vcpu)]),
            other: kind("other").exits,
        }
    }

    fn claimed(&self, claimed: bool, address: u64) {
        if !claimed {
            self.unclaimed.increment();
            trace!(address = format_args!("{address:#x}"), "nobody there");
        }
    }
}

/// Serves one exit from the devices on `bus`.
pub fn handle_exit(exit: VcpuExit<'_>, bus: &mut BusView, counters: &ExitCounters) -> Next {
    match exit {
        VcpuExit::IoIn(port, data) => {
            let claimed = counters.pio.count(|| bus.pio_read(port, data));
            counters.claimed(claimed, u64::from(port));
        }
        VcpuExit::IoOut(port, data) => {
            let claimed = counters.pio.count(|| bus.pio_write(port, data));
            counters.claimed(claimed, u64::from(port));
        }
        VcpuExit::MmioRead(address, data) => {
            let claimed = counters.mmio_read.count(|| bus.mmio_read(address, data));
            counters.claimed(claimed, address);
        }
        VcpuExit::MmioWrite(address, data) => {
            let claimed = counters.mmio_write.count(|| bus.mmio_write(address, data));
            counters.claimed(claimed, address);
        }
        // What it waits for has been done: see `Vcpu`.
        VcpuExit::Unsupported(KVM_EXIT_DIRTY_RING_FULL) => counters.other.increment(),
        VcpuExit::Hlt | VcpuExit::Intr | VcpuExit::IrqWindowOpen => counters.other.increment(),
        VcpuExit::Shutdown => return Next::Crash("triple fault".into()),
        VcpuExit::FailEntry(reason, cpu) => {
            return Next::Crash(format!("entry failed on CPU {cpu}, reason {reason:#x}"));
        }
        VcpuExit::InternalError => return Next::Crash("the hypervisor cannot emulate it".into()),
        other => return Next::Crash(format!("unexpected exit {other:?}")),
    }
    Next::Resume
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vm_device::MutDevicePio;
    use vm_device::bus::{PioAddress, PioAddressOffset};

    use super::*;
    use crate::bus::AddressSpace;

    /// A port that remembers what was written and answers with it.
    #[derive(Default)]
    struct Latch(u8);

    impl MutDevicePio for Latch {
        fn pio_read(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &mut [u8]) {
            data.fill(self.0);
        }
        fn pio_write(&mut self, _base: PioAddress, _offset: PioAddressOffset, data: &[u8]) {
            self.0 = data[0];
        }
    }

    fn machine() -> (BusView, ExitCounters, Metrics) {
        let space = AddressSpace::new();
        space
            .add_pio(0x80, 1, Arc::new(std::sync::Mutex::new(Latch::default())))
            .unwrap();
        let metrics = Metrics::default();
        let counters = ExitCounters::new(&metrics, 0);
        (space.view(), counters, metrics)
    }

    #[test]
    fn port_write_then_read_reaches_the_device() {
        let (mut bus, counters, metrics) = machine();
        let mut data = [0];

        handle_exit(VcpuExit::IoOut(0x80, &[0x5a]), &mut bus, &counters);
        let next = handle_exit(VcpuExit::IoIn(0x80, &mut data), &mut bus, &counters);

        assert_eq!((next, data), (Next::Resume, [0x5a]));
        assert_eq!(
            metrics.snapshot()["exits_total{vcpu=\"0\",kind=\"pio\"}"],
            2
        );
    }

    #[test]
    fn read_of_nothing_is_all_ones_and_counted() {
        let (mut bus, counters, metrics) = machine();
        let mut data = [0; 4];

        let next = handle_exit(
            VcpuExit::MmioRead(0xdead_0000, &mut data),
            &mut bus,
            &counters,
        );

        assert_eq!((next, data), (Next::Resume, [0xff; 4]));
        assert_eq!(
            metrics.snapshot()["unclaimed_accesses_total{vcpu=\"0\"}"],
            1
        );
    }

    #[test]
    fn triple_fault_is_a_crash() {
        let (mut bus, counters, _) = machine();

        let next = handle_exit(VcpuExit::Shutdown, &mut bus, &counters);

        assert_eq!(next, Next::Crash("triple fault".into()));
    }

    #[test]
    fn exit_that_was_not_asked_for_is_a_crash() {
        let (mut bus, counters, _) = machine();

        assert!(matches!(
            handle_exit(VcpuExit::Hyperv, &mut bus, &counters),
            Next::Crash(_)
        ));
    }
}
