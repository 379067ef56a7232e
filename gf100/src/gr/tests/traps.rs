//! What goes wrong, and how the driver deals with it.

use super::*;

#[test]
fn a_bad_address_is_a_fault_of_pgraph_and_the_next_method_works() {
    let rig = Rig::new();
    rig.current();
    rig.methods(2, 0x238, &[0x50, 0]);
    rig.methods(2, 0x30c, &[(DATA >> 32) as u32, DATA as u32, 0, 0, 4, 1]);
    let Err(Stop::Fault(report)) = rig.method(2, 0x300, 0x100110) else {
        panic!("no fault");
    };
    assert_eq!(report.fault.va, 0x50_0000_0000);
    assert_eq!(report.fault.reason, FaultReason::PtNotPresent);
    rig.methods(2, 0x238, &[(DATA >> 32) as u32, DATA as u32 + 0x100]);
    rig.method(2, 0x300, 0x100110).unwrap();
}

#[test]
fn unknown_classes_and_methods_stop_until_acknowledged() {
    let rig = Rig::new();
    let channel = rig.current();
    for (address, data, what) in [
        (0, 0x5039, Intr::ILLEGAL_CLASS),
        (0x1528, 1, Intr::ILLEGAL_MTHD),
    ] {
        assert_eq!(rig.method(0, address, data), Err(Stop::Trapped));
        assert!(rig.pgraph.stalled());
        assert_eq!(rig.interrupts(), what);
        assert_ne!(rig.shared.interrupts.status() & pmc::Intr::PGRAPH.bits(), 0);
        assert_eq!(rig.read(0x400704), u32::from(address));
        assert_eq!(rig.read(0x400708), data);
        assert_eq!(rig.read(0x404200), THREED);
        let instance = PhysAddr::from_channel_word(rig.read(0x409b00) & 0x0fff_ffff);
        assert_eq!(instance, Some(channel.instance));
        rig.acknowledge(what);
        assert!(!rig.pgraph.stalled());
        assert_eq!(rig.shared.interrupts.status(), 0);
    }
    assert_eq!(rig.method(5, 0x100, 0), Err(Stop::Trapped));
}

#[test]
fn an_acknowledgement_wakes_pfifo() {
    let rig = Rig::new();
    let woken = Arc::new(AtomicBool::new(false));
    let flag = woken.clone();
    rig.pgraph
        .connect(Waker::new(move || flag.store(true, Ordering::Release)));
    rig.acknowledge(Intr::empty());
    assert!(woken.load(Ordering::Acquire));
}

#[test]
fn reset_forgets_contexts_and_registers() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.method(0, 0x0d94, 1).unwrap();
    Block::reset(&rig.pgraph);
    assert!(rig.pgraph.stalled());
    assert_eq!(rig.read(0x404200), 0);
    // Whatever PFIFO has in flight goes nowhere.
    rig.method(0, 0x0d94, 1).unwrap();
    rig.pgraph.switch_to(channel).unwrap();
    assert_eq!(rig.pgraph.exec().peek(classes::Class::ThreeD, 0x0d94), 0);
}

#[test]
fn bindings_are_of_their_channel_and_stage() {
    let rig = Rig::new();
    rig.current();
    rig.method(1, 0, COMPUTE).unwrap();
    rig.method(1, 0x228, 1 | 15 << 4 | 3 << 12).unwrap();
    assert_eq!(rig.method(1, 0x228, 1 | 16 << 4), Err(Stop::Trapped));
    assert_eq!(rig.interrupts(), Intr::DATA_ERROR);
    assert_eq!(rig.read(0x400110), 4);
}
