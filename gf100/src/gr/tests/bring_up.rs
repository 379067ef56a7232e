//! From power-on to a channel with its context.

use super::*;
use crate::config::Falcons;

#[test]
fn the_board_shows_its_units() {
    let rig = Rig::new();
    assert_eq!(rig.read(0x409604) & 0x1f, 4);
    let tpcs: Vec<_> = (0..5)
        .map(|gpc| rig.read(0x502608 + 0x8000 * gpc))
        .collect();
    assert_eq!(tpcs, [4, 4, 3, 3, 0]);
}

#[test]
fn starting_the_firmware_announces_the_context_size() {
    let rig = Rig::new();
    rig.write(falcon::FECS + 0x1c0, 0x0100_0000);
    rig.write(falcon::FECS + 0x1c4, 7);
    rig.write(falcon::FECS + 0x1c0, 0x0200_0000);
    assert_eq!(rig.read(falcon::FECS + 0x1c4), 7);
    assert_eq!(rig.read(0x409800), 0);
    rig.write(0x40910c, 0);
    rig.write(0x409100, 2);
    assert_ne!(rig.read(0x409800) & 1 << 31, 0);
    assert_eq!(rig.read(0x409804), context::SIZE);
}

#[test]
fn the_firmware_comes_up_once_that_of_hub_and_clusters_is_loaded() {
    let rig = Rig::with(testing::shared_with(Falcons::Empty));
    assert!(rig.pgraph.stalled());
    for base in [falcon::FECS, falcon::GPCCS] {
        rig.write(0x409100, 2);
        rig.write(0x409500, 1 << 31);
        rig.write(0x409504, 1);
        assert_eq!(rig.read(0x409800), 0);
        rig.write(base + 0x180, 0x0100_0000);
        rig.write(base + 0x184, 0x0089_04bd);
    }
    rig.write(0x409100, 2);
    assert_ne!(rig.read(0x409800) & 1 << 31, 0);
    assert!(!rig.pgraph.stalled());
    rig.pgraph.reset();
    rig.write(0x409100, 2);
    assert_eq!(rig.read(0x409800), 0);
}

#[test]
fn a_channel_starts_with_the_methods_of_the_golden_context() {
    let rig = Rig::new();
    let golden = rig.channel(0);
    rig.golden_context(golden);
    let user = rig.channel(1);
    let vram = rig.shared.memory.vram();
    let mut image = vec![0; context::SIZE as usize];
    vram.read(CONTEXT_VRAM, &mut image);
    vram.write(CONTEXT_VRAM + MIB, &image);
    // The driver's list of registers: one of a context, and one that is not a context's to set.
    vram.store(CONTEXT_VRAM + MIB, 2u32);
    vram.store(CONTEXT_VRAM + MIB + 4, (DATA >> 8) as u32);
    for (word, value) in [0x408004, 0xabcd, 0x400100, 0xff].into_iter().enumerate() {
        rig.set_data(user, word as u64 * 4, value);
    }
    rig.pgraph.switch_to(user).unwrap();
    assert_eq!(rig.read(0x408004), 0xabcd);
    assert_eq!(rig.interrupts(), Intr::empty());
    assert_eq!(vram.load::<u32>(CONTEXT_VRAM + MIB), 0);
    assert_eq!(
        rig.read(0x409b00),
        1 << 31 | user.instance.to_channel_word()
    );
    let exec = rig.pgraph.exec();
    assert_eq!(exec.peek(classes::Class::ThreeD, 0x0d94), 0x1234);
    assert_eq!(exec.peek(classes::Class::Compute, 0x0758), 0x5678);
}

#[test]
fn nvidias_firmware_answers_its_commands() {
    let rig = Rig::new();
    rig.write(0x409100, 2);
    assert_ne!(rig.read(0x409800) & 1, 0);
    for (command, reply) in [
        (0x10, context::SIZE),
        (0x16, 0x100),
        (0x25, 0x100),
        (0x30, 0x100),
    ] {
        rig.write(0x409840, u32::MAX);
        rig.write(0x409504, command);
        assert_eq!(rig.read(0x409800), reply, "command {command:#x}");
    }
    for command in [0x38, 0x39] {
        rig.write(0x409804, u32::MAX);
        rig.write(0x409504, command);
        assert_eq!(rig.read(0x409804), 1);
    }
    rig.write(0x409c24, u32::MAX);
    rig.write(0x409504, 0x77);
    assert_eq!(rig.interrupts(), Intr::CTXCTL_UP);
    assert_eq!(rig.read(0x409814), 0x77_0001);
    rig.write(0x409c20, 1);
    assert_eq!(rig.read(0x409c18), 0);
}

#[test]
fn a_context_without_memory_faults_as_the_context_switcher() {
    let rig = Rig::new();
    let channel = rig.channel(1);
    let pointer = channel.instance.offset(GR_CONTEXT);
    rig.shared.memory.store(pointer, 0u64).unwrap();
    let Err(Stop::Fault(report)) = rig.pgraph.switch_to(channel) else {
        panic!("no fault");
    };
    assert_eq!(report.client, FaultClient::Hub(HubClient::Ctxctl));
    assert_eq!(report.instance, Some(channel.instance));
    assert_eq!(rig.read(0x409b00), 0);
}

#[test]
fn each_channel_has_its_own_state() {
    let rig = Rig::new();
    let [one, two] = [rig.channel(1), rig.channel(2)];
    for (channel, value) in [(one, 11), (two, 22)] {
        rig.pgraph.switch_to(channel).unwrap();
        rig.method(0, 0, THREED).unwrap();
        rig.method(0, 0x0d94, value).unwrap();
        // Macro 3 sends 0x0d98... what its parameter is, once it comes.
        rig.methods(0, 0x114, &[0, 0x0001_0021 | 0x0365 << 14]);
        rig.methods(0, 0x11c, &[3, 0]);
    }
    for (channel, value) in [(one, 11), (two, 22)] {
        rig.pgraph.switch_to(channel).unwrap();
        assert_eq!(
            rig.pgraph.exec().peek(classes::Class::ThreeD, 0x0d94),
            value
        );
        assert_eq!(rig.read(0x404200), THREED);
        assert_eq!(rig.read(0x404204), 0);
    }
}
