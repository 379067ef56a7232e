//! Launches of grids.

use mmio::regs::pgraph::tpc;

use super::*;

/// Where code is in the data of the channel.
const CODE: u64 = 0x8000;
/// Ends the thread.
const EXIT: u64 = 0x8000_0000_0000_1de7;
/// Goes on where it is.
const FOREVER: u64 = 0x4003_ffff_e000_1de7;
/// No instruction.
const ILLEGAL: u64 = 0xffff_ffff_ffff_ffff;

/// A channel with compute on subchannel 1 and `code` to be launched as one warp.
fn with_code(rig: &Rig, code: &[u64]) -> ChannelRef {
    let channel = rig.current();
    for (n, &word) in (0..).zip(code) {
        rig.set_data(channel, CODE + n * 8, word as u32);
        rig.set_data(channel, CODE + n * 8 + 4, (word >> 32) as u32);
    }
    rig.method(1, 0, COMPUTE).unwrap();
    rig.methods(1, 0x1608, &[(DATA >> 32) as u32, DATA as u32]);
    rig.method(1, 0x03b4, CODE as u32).unwrap();
    rig.method(1, 0x02c0, 16).unwrap();
    rig.methods(1, 0x03ac, &[1 << 16 | 32, 1]);
    rig.methods(1, 0x0238, &[1 << 16 | 1, 1]);
    channel
}

#[test]
fn a_grid_runs_to_its_end() {
    let rig = Rig::new();
    with_code(&rig, &[EXIT]);
    rig.method(1, 0x0368, 0x1000).unwrap();
    assert_eq!(rig.interrupts(), Intr::empty());
}

#[test]
fn a_macro_launches_grids() {
    let rig = Rig::new();
    with_code(&rig, &[ILLEGAL]);
    // Launches what was described, with its argument.
    load_macro(&rig, &[0x00da << 14 | 0x21, 0x08c1, 0x11]);
    assert_eq!(rig.method(1, 0x3800, 0x1000), Err(Stop::Trapped));
    assert_eq!(rig.read(0x400704), 1 << 16 | 0x0368);
}

#[test]
fn a_warp_that_traps_is_shown_by_its_multiprocessor() {
    let rig = Rig::new();
    with_code(&rig, &[ILLEGAL]);
    assert_eq!(rig.method(1, 0x0368, 0x1000), Err(Stop::Trapped));
    assert_eq!(rig.interrupts(), Intr::TRAP);
    assert_eq!(rig.read(0x400108), Trap::GPC.bits());
    assert_eq!(rig.read(0x400118), 1);
    assert_eq!(rig.read(0x502c90), 1 << 16);
    let register = |register| tpc::offset(0, 0, register);
    assert_eq!(rig.read(register(tpc::TRAP)), tpc::TRAP_MP);
    assert_eq!(rig.read(register(tpc::MP_WARP_ERROR)) & 0xffff, 9);
    // The driver's handler.
    rig.write(register(tpc::MP_WARP_ERROR), 0);
    let global = rig.read(register(tpc::MP_GLOBAL_ERROR));
    rig.write(register(tpc::MP_GLOBAL_ERROR), global);
    rig.write(0x502c90, 1 << 16);
    rig.write(0x400118, 1);
    rig.write(0x400108, Trap::GPC.bits());
    rig.acknowledge(Intr::TRAP);
    let left = [0x400108, 0x400118, 0x502c90, register(tpc::TRAP)].map(|at| rig.read(at));
    assert_eq!(left, [0; 4]);
    rig.method(1, 0x0100, 0).unwrap();
}

#[test]
fn a_grid_that_does_not_fit_is_a_data_error() {
    let rig = Rig::new();
    with_code(&rig, &[EXIT]);
    rig.methods(1, 0x03ac, &[64 << 16 | 64, 1]);
    assert_eq!(rig.method(1, 0x0368, 0x1000), Err(Stop::Trapped));
    assert_eq!(rig.interrupts(), Intr::DATA_ERROR);
}

#[test]
fn code_that_cannot_be_read_is_a_fault_of_a_gpc() {
    let rig = Rig::new();
    with_code(&rig, &[EXIT]);
    rig.methods(1, 0x1608, &[0x70, 0]);
    let Err(Stop::Fault(report)) = rig.method(1, 0x0368, 0x1000) else {
        panic!("no fault");
    };
    assert!(matches!(report.client, FaultClient::Gpc { .. }));
    assert_eq!(report.fault.va, 0x70_0000_0000 + CODE);
}

#[test]
fn an_endless_grid_is_paused_and_discarded_with_its_channel() {
    let rig = Arc::new(Rig::new());
    let channel = with_code(&rig, &[FOREVER]);
    let asks = rig.clone();
    let asker = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        asks.pause.ask();
    });
    assert_eq!(rig.method(1, 0x0368, 0x1000), Err(Stop::Paused));
    asker.join().unwrap();
    rig.pgraph.evict(channel).unwrap();
    rig.pgraph.discard(channel);
    rig.pause.clear();
    rig.pgraph.switch_to(channel).unwrap();
    rig.pgraph.resume(&rig.pause).unwrap();
}

#[test]
fn the_state_of_the_class_is_what_a_grid_gets() {
    let rig = Rig::new();
    with_code(&rig, &[EXIT]);
    rig.methods(1, 0x0238, &[3 << 16 | 2, 4]);
    rig.methods(1, 0x2380, &[0x100, 0x12, 0x3400]);
    rig.method(1, 0x1694, 2 << 8 | 1).unwrap();
    rig.method(1, 0x022c, 5 << 9 | 7 << 1 | 1).unwrap();
    rig.method(1, 0x0228, 6 << 12 | 8 << 4 | 1).unwrap();
    rig.method(1, 0x02c8, 0x8000_0000 | 9 << 16 | 0xaa).unwrap();
    rig.methods(1, 0x2740, &[0x1, 0x5000, 64, 1, 0xe40, 0x10]);
    let exec = rig.pgraph.exec();
    let launch = exec.peek_launch();
    assert_eq!((launch.grid, launch.block), ([2, 3, 4], [32, 1, 1]));
    assert_eq!((launch.code_address, launch.start_id), (DATA, CODE as u32));
    let buffer = launch.constants[2];
    assert_eq!((buffer.address, buffer.size), (0x12_0000_3400, 0x100));
    assert_eq!((launch.textures[7], launch.samplers[8]), (Some(5), Some(6)));
    assert_eq!(launch.global_base[9] & 0xff, 0xaa);
    assert_eq!(launch.images[2].address, 0x1_0000_5000);
    assert_eq!(launch.multiprocessors, 14);
}
