//! Grids: barriers, many CTAs, pauses.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use gf100::{
    engine::Pause,
    memory::FaultReason,
    sm::{Failure, LaunchError, Outcome, WarpError},
};

use crate::{
    asm::{cond::*, *},
    machine::{DATA, Machine},
    program,
};

#[test]
fn every_thread_of_every_cta_runs_once() {
    // data[(ctaid * 64 + tid)] += 1 + ctaid
    let code = program![
        s2r(0, 0x21),
        s2r(1, 0x25),
        shl_imm(6, 1, 6),
        iadd(0, 0, 6),
        shl_imm(4, 0, 2),
        mov_imm(2, DATA as u32),
        iadd(4, 4, 2),
        mov_imm(5, 0),
        ld(8, ty::B32, 4, 0),
        iadd(8, 8, 1),
        iadd_imm(8, 8, 1),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let machine = Machine::new(&code).threads(64).ctas(500);
    machine.done();
    let expected: Vec<u32> = (0..500 * 64).map(|n| 1 + n / 64).collect();
    assert_eq!(machine.get(0, 500 * 64), expected);
}

#[test]
fn a_barrier_in_a_loop_orders_the_shared_memory_of_a_cta() {
    // Each step every thread adds its right neighbour's value.
    let code = program![
        s2r(0, 0x21),
        mov_imm(2, DATA as u32),
        shl_imm(4, 0, 2),
        iadd(6, 4, 2),
        mov_imm(7, 0),
        iadd_imm(9, 0, 1),
        and_imm(9, 9, 127),
        shl_imm(9, 9, 2),
        mov(8, 0),
        mov_imm(10, 0),
        label("loop"),
        st_shared(8, ty::B32, 4, 0),
        bar(0, 0, 0, PT),
        ld_shared(11, ty::B32, 9, 0),
        bar(0, 0, 0, PT),
        iadd(8, 8, 11),
        iadd_imm(10, 10, 1),
        isetp_imm(0, LT, 10, 20),
        bra_on(0, "loop"),
        st(8, ty::B32, 6, 0),
        exit(),
    ];
    let machine = Machine::new(&code).threads(128).shared(512);
    machine.done();
    let mut values: Vec<u32> = (0..128).collect();
    for _ in 0..20 {
        values = (0..128)
            .map(|n| values[n].wrapping_add(values[(n + 1) % 128]))
            .collect();
    }
    assert_eq!(machine.get(0, 128), values);
}

/// Runs a barrier with a predicate that is true below `limit`, over 96 threads; the register and
/// the predicate of every thread.
fn reduce(mode: u64, limit: i64) -> (u32, bool) {
    let code = program![
        s2r(0, 0x21),
        mov_imm(2, DATA as u32),
        shl_imm(4, 0, 3),
        iadd(4, 4, 2),
        mov_imm(5, 0),
        isetp_imm(0, LT, 0, limit),
        bar(mode, 3, 96, 0).dst(8).field(53, 3, 1),
        mov_imm(10, 1),
        sel(9, 10, RZ, 1),
        st(8, ty::B64, 4, 0),
        exit(),
    ];
    let machine = Machine::new(&code).threads(96);
    machine.done();
    let out = machine.get(0, 192);
    assert!(out.chunks(2).all(|pair| pair == &out[..2]));
    (out[0], out[1] != 0)
}

#[test]
fn barriers_reduce_predicates() {
    assert_eq!(reduce(0, 50), (50, true));
    assert_eq!(reduce(1, 50), (50, false));
    assert_eq!(reduce(1, 96), (96, true));
    assert_eq!(reduce(2, 1), (1, true));
    assert_eq!(reduce(2, 0), (0, false));
}

#[test]
fn who_only_arrives_does_not_wait() {
    // Warp 0 waits for 64 threads; warp 1 arrives after it has stored.
    let code = program![
        s2r(0, 0x21),
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        isetp_imm(0, LT, 0, 32),
        bra_on(0, "wait"),
        mov_imm(8, 5),
        st(8, ty::B32, 2, 0),
        bar(4, 1, 64, PT),
        exit(),
        label("wait"),
        bar(0, 1, 64, PT),
        ld(8, ty::B32, 2, 0),
        st(8, ty::B32, 2, 4),
        exit(),
    ];
    let machine = Machine::new(&code).threads(64);
    machine.done();
    assert_eq!(machine.get(0, 2), [5, 5]);
}

#[test]
fn a_barrier_does_not_wait_for_warps_that_have_exited() {
    let code = program![
        s2r(0, 0x21),
        isetp_imm(0, GE, 0, 32),
        exit().on(0),
        bar(0, 0, 0, PT),
        exit(),
    ];
    Machine::new(&code).threads(128).done();
}

/// A grid of 8 CTAs that count until somebody stores to the data.
fn endless() -> Vec<u64> {
    program![
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        s2r(6, 0x25),
        shl_imm(6, 6, 2),
        iadd(6, 6, 2),
        mov_imm(7, 0),
        mov_imm(9, 0),
        label("loop"),
        iadd_imm(9, 9, 1),
        ld(8, ty::B32, 2, 0),
        isetp_imm(0, EQ, 8, 0),
        bra_on(0, "loop"),
        st(9, ty::B32, 6, 4),
        exit(),
    ]
}

#[test]
fn an_endless_loop_pauses_and_goes_on_on_another_thread() {
    let machine = Arc::new(Machine::new(&endless()).ctas(8));
    let mut grid = machine.sm.launch(machine.launch.clone()).unwrap();
    for _ in 0..3 {
        let pause = Arc::new(Pause::default());
        let asking = thread::spawn({
            let pause = pause.clone();
            move || {
                thread::sleep(Duration::from_millis(20));
                pause.ask();
            }
        });
        let (outcome, resumed) = thread::spawn({
            let machine = machine.clone();
            move || (machine.sm.run(&mut grid, &pause), grid)
        })
        .join()
        .unwrap();
        grid = resumed;
        asking.join().unwrap();
        assert_eq!(outcome, Outcome::Paused);
    }
    machine.set(0, &[1]);
    assert_eq!(machine.sm.run(&mut grid, &Pause::default()), Outcome::Done);
    assert!(machine.get(4, 8).iter().all(|count| *count > 0));
}

#[test]
fn a_grid_with_the_request_already_there_pauses_at_once() {
    let machine = Machine::new(&endless());
    let mut grid = machine.sm.launch(machine.launch.clone()).unwrap();
    let pause = Pause::default();
    pause.ask();
    assert_eq!(machine.sm.run(&mut grid, &pause), Outcome::Paused);
    std::sync::atomic::fence(Ordering::SeqCst);
    machine.set(0, &[1]);
    assert_eq!(machine.sm.run(&mut grid, &Pause::default()), Outcome::Done);
}

#[test]
fn a_barrier_that_never_opens_can_be_paused() {
    let code = program![bar(0, 0, 64, PT), exit()];
    let machine = Machine::new(&code);
    let mut grid = machine.sm.launch(machine.launch.clone()).unwrap();
    let pause = Arc::new(Pause::default());
    let asking = thread::spawn({
        let pause = pause.clone();
        move || {
            thread::sleep(Duration::from_millis(5));
            pause.ask();
        }
    });
    assert_eq!(machine.sm.run(&mut grid, &pause), Outcome::Paused);
    asking.join().unwrap();
}

#[test]
fn a_fault_ends_the_grid_and_the_next_grid_works() {
    let code = program![
        mov_imm(2, 0x1000),
        mov_imm(3, 0),
        ld(8, ty::B32, 2, 0),
        exit()
    ];
    let machine = Machine::new(&code).ctas(100);
    let Outcome::Failed(Failure::Fault(fault)) = machine.run() else {
        panic!("no fault");
    };
    assert_eq!(
        (fault.va, fault.reason),
        (0x1000, FaultReason::PageNotPresent)
    );
    machine.load(&program![exit()]);
    machine.done();
}

#[test]
fn code_that_cannot_be_read_faults() {
    let mut machine = Machine::new(&[]);
    machine.launch.code_address = 0x5000;
    assert!(matches!(machine.run(), Outcome::Failed(Failure::Fault(fault)) if fault.va == 0x5000));
}

#[test]
fn new_code_at_an_old_address_is_seen_by_the_next_launch() {
    let store = |value| {
        program![
            mov_imm(2, DATA as u32),
            mov_imm(3, 0),
            mov_imm(8, value),
            st(8, ty::B32, 2, 0),
            exit(),
        ]
    };
    let machine = Machine::new(&store(1));
    machine.done();
    assert_eq!(machine.get(0, 1), [1]);
    machine.load(&store(2));
    machine.done();
    assert_eq!(machine.get(0, 1), [2]);
}

#[test]
fn a_cta_that_does_not_fit_is_refused() {
    let refused = |machine: Machine| machine.sm.launch(machine.launch.clone()).err().unwrap();
    let machine = || Machine::new(&[]);
    assert_eq!(refused(machine().threads(0)), LaunchError::Threads(0));
    assert_eq!(refused(machine().threads(1537)), LaunchError::Threads(1537));
    assert_eq!(
        refused(machine().shared(0xc001)),
        LaunchError::Shared(0xc001)
    );
}

#[test]
fn registers_that_are_not_there_or_misaligned_trap() {
    let mut machine = Machine::new(&program![mov_imm(20, 0), exit()]);
    machine.launch.gpr_alloc = 20;
    assert_eq!(machine.error(), WarpError::OorReg);
    let machine = Machine::new(&program![ld(9, ty::B64, 2, 0), exit()]);
    assert_eq!(machine.error(), WarpError::MisalignedReg);
}
