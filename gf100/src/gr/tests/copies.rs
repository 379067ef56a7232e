//! Copies, reports and constants.

use super::*;

#[test]
fn m2mf_copies_lines_with_their_pitches() {
    let rig = Rig::new();
    let channel = rig.current();
    for word in 0..64 {
        rig.set_data(channel, word * 4, word as u32);
    }
    let [from, to] = [DATA, DATA + 0x1000];
    rig.methods(2, 0x238, &[(to >> 32) as u32, to as u32]);
    rig.methods(
        2,
        0x30c,
        &[(from >> 32) as u32, from as u32, 16, 0x20, 12, 3],
    );
    rig.method(2, 0x300, 0x100110).unwrap();
    for line in 0..3 {
        for word in 0..3 {
            let copied = rig.data(channel, 0x1000 + line * 0x20 + word * 4);
            assert_eq!(copied, (line * 4 + word) as u32);
        }
        assert_eq!(rig.data(channel, 0x1000 + line * 0x20 + 12), 0);
    }
}

#[test]
fn m2mf_takes_inline_data_and_reports() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.methods(2, 0x238, &[(DATA >> 32) as u32, DATA as u32]);
    rig.methods(2, 0x318, &[0x10, 6, 2]);
    let report = DATA + 0x100;
    rig.methods(2, 0x32c, &[(report >> 32) as u32, report as u32, 77]);
    rig.method(2, 0x300, 0x10_2111).unwrap();
    for (n, data) in [0x0403_0201, 0x6605, 0x1413_1211, 0x1615]
        .into_iter()
        .enumerate()
    {
        assert_eq!(rig.data(channel, 0x100), 0, "before word {n}");
        rig.method(2, 0x304, data).unwrap();
    }
    let words = [0, 4, 0x10, 0x14, 0x100].map(|at| rig.data(channel, at));
    assert_eq!(words, [0x0403_0201, 0x6605, 0x1413_1211, 0x1615, 77]);
    assert_eq!(rig.method(2, 0x304, 0), Err(Stop::Trapped));
    assert_eq!(rig.read(0x400108), Trap::M2MF.bits());
    assert_eq!(rig.read(0x404600) & 3, 1);
}

#[test]
fn a_copy_that_was_paused_goes_on_after_another_channels_turn() {
    let rig = Rig::new();
    let other = rig.channel(2);
    let channel = rig.current();
    rig.set_data(channel, 0x4_fffc, 0xdead_beef);
    let [from, to] = [DATA, DATA + 0x8_0000];
    rig.methods(2, 0x238, &[(to >> 32) as u32, to as u32]);
    rig.methods(
        2,
        0x30c,
        &[(from >> 32) as u32, from as u32, 0, 0, 0x5_0000, 1],
    );
    rig.pause.ask();
    assert_eq!(rig.method(2, 0x300, 0x100110), Err(Stop::Paused));
    rig.pause.clear();
    rig.pgraph.switch_to(other).unwrap();
    rig.method(2, 0, M2MF).unwrap();
    rig.pgraph.resume(&rig.pause).unwrap();
    rig.pgraph.switch_to(channel).unwrap();
    assert_eq!(rig.data(channel, 0x8_0000 + 0x4_fffc), 0);
    rig.pgraph.resume(&rig.pause).unwrap();
    assert_eq!(rig.data(channel, 0x8_0000 + 0x4_fffc), 0xdead_beef);
}

#[test]
fn queries_and_constants_reach_memory() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.methods(
        0,
        0x1b00,
        &[(DATA >> 32) as u32, DATA as u32, 5, 0x1000_f010],
    );
    assert_eq!(rig.data(channel, 0), 5);
    let long = DATA as u32 + 0x10;
    rig.methods(0, 0x1b00, &[(DATA >> 32) as u32, long, 6, 0x0000_5002]);
    assert_eq!((rig.data(channel, 0x10), rig.data(channel, 0x14)), (6, 0));
    assert_ne!(rig.data(channel, 0x18), 0);
    let buffer = DATA as u32 + 0x100;
    rig.methods(0, 0x2380, &[0x100, (DATA >> 32) as u32, buffer, 8]);
    rig.method(0, 0x2390, 21).unwrap();
    rig.method(0, 0x2390, 22).unwrap();
    assert_eq!(
        (rig.data(channel, 0x108), rig.data(channel, 0x10c)),
        (21, 22)
    );
}

#[test]
fn inline_data_goes_to_where_the_tiles_are() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.methods(2, 0x238, &[(DATA >> 32) as u32, DATA as u32]);
    rig.methods(2, 0x220, &[0x10, 128, 32, 1, 0]);
    rig.methods(2, 0x34c, &[68, 9]);
    rig.methods(2, 0x31c, &[4, 1]);
    rig.method(2, 0x300, 0x10_0011).unwrap();
    rig.method(2, 0x304, 0xcafe_f00d).unwrap();
    // The second block of two GOBs, its second GOB, row 1, byte 4.
    assert_eq!(rig.data(channel, 2 * 512 + 512 + 0x10 + 4), 0xcafe_f00d);
}
