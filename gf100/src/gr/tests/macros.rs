//! Calls of macros.

use super::*;

/// Puts its argument and its parameter into the first two scratch registers.
const STORE_TWO: [u32; 5] = [
    0x0d00 << 14 | 1 << 26 | 0x21, // maddr 0x1d00
    0x0841,                        // send $r1
    0x0000_0301,                   // parm $r3
    0x18c1,                        // exit send $r3
    0x0000_0011,                   // nop
];

#[test]
fn a_macro_waits_for_its_parameter_across_a_switch() {
    let rig = Rig::new();
    let other = rig.channel(2);
    let channel = rig.current();
    load_macro(&rig, &STORE_TWO);
    rig.method(0, 0x3800, 31).unwrap();
    rig.pgraph.switch_to(other).unwrap();
    rig.pgraph.switch_to(channel).unwrap();
    rig.method(0, 0x3804, 32).unwrap();
    let exec = rig.pgraph.exec();
    let scratch = [0x3400, 0x3404].map(|at| exec.peek(classes::Class::ThreeD, at));
    assert_eq!(scratch, [31, 32]);
}

#[test]
fn macro_calls_with_a_wrong_number_of_parameters_trap() {
    let rig = Rig::new();
    rig.current();
    load_macro(&rig, &STORE_TWO);
    rig.method(0, 0x3800, 1).unwrap();
    assert_eq!(rig.method(0, 0x100, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x404490), macro_error::TOO_FEW_PARAMS);
    rig.write(0x404490, 0xc000_0000);
    assert_eq!(rig.read(0x404490), 0x4000_0000);
    assert_eq!(rig.method(0, 0x3804, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x404490) & 0x1f, macro_error::TOO_MANY_PARAMS);
    assert_eq!(rig.read(0x400108), Trap::MACRO.bits());
}

#[test]
fn a_macro_without_end_is_stopped() {
    let rig = Rig::new();
    rig.current();
    load_macro(&rig, &[0x27]); // bra annul to itself
    assert_eq!(rig.method(0, 0x3800, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x404490), macro_error::WATCHDOG);
    assert_eq!(rig.read(0x404494), 1 << 28);
    assert_eq!(rig.read(0x40449c), 0x27);
    rig.method(0, 0x100, 0).unwrap();
}
