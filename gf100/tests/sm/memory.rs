//! Memory: global, shared, local and constant, and what happens to many at once.

use gf100::sm::{Failure, LaunchError, Outcome, WarpError};

use crate::{
    asm::{cond::*, *},
    machine::{DATA, Machine, TEMP},
    program, threaded,
};

#[test]
fn shared_memory_under_contention_loses_no_update() {
    // s[(tid & 3) * 4] += tid, in Mesa's manner of shared atomics.
    let code = program![
        s2r(0, 0x21),
        and_imm(6, 0, 3),
        shl_imm(6, 6, 2),
        ssy("join"),
        bra("try"),
        label("try"),
        ld_lock(8, 0, 6),
        iadd(9, 8, 0).on(0),
        st_unlock(9, 6).on(0),
        bra_unless(0, "try"),
        nop().join(),
        label("join"),
        bar(0, 0, 0, PT),
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        isetp_imm(0, GE, 0, 4),
        exit().on(0),
        iadd(2, 2, 6),
        ld_shared(8, ty::B32, 6, 0),
        st(8, ty::B32, 2, 0),
        exit(),
    ];
    let machine = Machine::new(&code).threads(256).shared(16);
    machine.done();
    let sum = |k: u32| (0..256).filter(|n| n & 3 == k).sum::<u32>();
    assert_eq!(machine.get(0, 4), [sum(0), sum(1), sum(2), sum(3)]);
}

#[test]
fn global_atomics_of_many_ctas_lose_no_update() {
    let code = program![
        s2r(0, 0x21),
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        mov_imm(8, 1),
        atom(9, 0x14, 0, 8, 2),
        shl_imm(4, 9, 2),
        iadd(4, 4, 2),
        mov_imm(5, 0),
        st(8, ty::B32, 4, 0x100),
        exit(),
    ];
    let machine = Machine::new(&code).threads(64).ctas(100);
    machine.done();
    assert_eq!(machine.get(0, 1), [6400]);
    // Each old value was seen once.
    assert!(machine.get(0x100, 6400).iter().all(|n| *n == 1));
}

#[test]
fn every_atomic_does_what_its_name_says() {
    // Each is applied twice, with 5 and then with 3, to words that start at 4.
    let cases: [(u64, u64, u32); 11] = [
        (0x14, 0x00, 12),        // add
        (0x14, 0x01, 3),         // min
        (0x14, 0x02, 5),         // max
        (0x14, 0x03, 0),         // inc: 4 -> 5 -> 0
        (0x14, 0x04, 2),         // dec: 4 -> 3 -> 2
        (0x14, 0x05, 4 & 5 & 3), // and
        (0x14, 0x06, 4 | 5 | 3), // or
        (0x14, 0x07, 4 ^ 5 ^ 3), // xor
        (0x14, 0x08, 3),         // exch
        (0x16, 0x11, 3),         // s32 min
        (0x16, 0x12, 5),         // s32 max
    ];
    for (family, kind, expected) in cases {
        let code = program![
            mov_imm(2, DATA as u32),
            mov_imm(3, 0),
            mov_imm(8, 5),
            mov_imm(10, 3),
            atom(9, family, kind, 8, 2),
            atom(11, family, kind, 10, 2),
            st(9, ty::B32, 2, 4),
            exit(),
        ];
        let machine = Machine::new(&code);
        machine.set(0, &[4]);
        machine.done();
        assert_eq!(machine.get(0, 2), [expected, 4], "{family:#x} {kind:#x}");
    }
}

#[test]
fn compare_and_swap_compares() {
    let code = program![
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        mov_imm(8, 7),
        mov_imm(9, 8),
        atom(12, 0x14, 0x09, 8, 2).c(9),
        atom(13, 0x14, 0x09, 8, 2).c(9),
        st(12, ty::B64, 2, 8),
        exit(),
    ];
    let machine = Machine::new(&code);
    machine.set(0, &[7]);
    machine.done();
    assert_eq!(machine.get(0, 4), [8, 0, 7, 8]);
}

#[test]
fn wide_atomics_and_float_sums() {
    let code = program![
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        mov_imm(8, u32::MAX),
        mov_imm(9, 1),
        atom(10, 0x14, 0x10, 8, 2),
        st(10, ty::B64, 2, 8),
        mov_imm(12, 1.5f32.to_bits()),
        iadd_imm(2, 2, 16),
        atom(13, 0x1a, 0x10, 12, 2),
        red(0x0a, 0x10, 12, 2),
        exit(),
    ];
    let machine = Machine::new(&code);
    machine.set(0, &[1, 0, 0, 0, 2.0f32.to_bits()]);
    machine.done();
    assert_eq!(machine.get(0, 5), [0, 2, 1, 0, 5.0f32.to_bits()]);
}

#[test]
fn loads_and_stores_of_every_size() {
    let code = threaded![
        shl_imm(6, 0, 4),
        iadd(6, 6, 2),
        mov_imm(7, 0),
        ld(8, ty::B128, 6, 0),
        ld(12, ty::U8, 6, 1),
        ld(13, ty::S8, 6, 3),
        ld(14, ty::U16, 6, 2),
        ld(15, ty::S16, 6, 2),
        st(8, ty::B128, 6, 0x1000),
        st(12, ty::B64, 6, 0x2000),
        st(14, ty::B64, 6, 0x2008),
        st(8, ty::U8, 6, 0x3005),
        st(8, ty::U16, 6, 0x3002),
        exit(),
    ];
    let machine = Machine::new(&code).threads(32);
    let data: Vec<u32> = (0..128u32)
        .map(|n| n.wrapping_mul(0x9e37_79b9) ^ 0x8182_8384)
        .collect();
    machine.set(0, &data);
    machine.done();
    assert_eq!(machine.get(0x1000, 128), data);
    let small = machine.get(0x2000, 128);
    let stored = machine.get(0x3000, 128);
    for lane in 0..32 {
        let word = data[4 * lane];
        assert_eq!(small[4 * lane], word >> 8 & 0xff);
        assert_eq!(small[4 * lane + 1], (word as i32 >> 24) as u32);
        assert_eq!(small[4 * lane + 2], word >> 16);
        assert_eq!(small[4 * lane + 3], (word as i32 >> 16) as u32);
        assert_eq!(stored[4 * lane], word << 16);
        assert_eq!(stored[4 * lane + 1], (word & 0xff) << 8);
    }
}

#[test]
fn vectors_that_follow_each_other_keep_their_order() {
    // Thread n copies 8 bytes at 8 * n, then 16 at 16 * n; with and without a lane that sits it out.
    for (threads, lost) in [(64, None), (64, Some(5))] {
        let skip = isetp_imm(0, NE, 0, lost.map_or(-1, |n: u32| n.into()));
        let code = threaded![
            skip,
            shl_imm(6, 0, 3),
            iadd(6, 6, 2),
            mov_imm(7, 0),
            ld(8, ty::B64, 6, 0).on(0),
            st(8, ty::B64, 6, 0x1000).on(0),
            shl_imm(6, 0, 4),
            iadd(6, 6, 2),
            ld(8, ty::B128, 6, 0).on(0),
            st(8, ty::B128, 6, 0x2000).on(0),
            exit(),
        ];
        let machine = Machine::new(&code).threads(threads);
        let data: Vec<u32> = (1..=256).collect();
        machine.set(0, &data);
        machine.done();
        let kept = |words: usize| -> Vec<u32> {
            let lost = lost.map(|n| n as usize);
            let word = |at: usize| {
                if Some(at / words) == lost {
                    0
                } else {
                    data[at]
                }
            };
            (0..words * threads as usize).map(word).collect()
        };
        assert_eq!(machine.get(0x1000, 128), kept(2));
        assert_eq!(machine.get(0x2000, 256), kept(4));
    }
}

#[test]
fn lanes_may_load_from_different_pages_and_be_masked() {
    // Lane n loads from n * 0x4_0000, odd lanes do not.
    let code = threaded![
        shl_imm(6, 0, 17),
        iadd(6, 6, 2),
        mov_imm(7, 0),
        and_imm(9, 0, 1),
        isetp_imm(0, EQ, 9, 0),
        mov_imm(8, 99),
        ld(8, ty::B32, 6, 0x1000).on(0),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let machine = Machine::new(&code).threads(32);
    for lane in 0..32u64 {
        machine.set((lane << 17) + 0x1000, &[lane as u32 + 1000]);
    }
    machine.done();
    let expected: Vec<u32> = (0..32)
        .map(|lane| if lane % 2 == 0 { lane + 1000 } else { 99 })
        .collect();
    assert_eq!(machine.get(0, 32), expected);
}

#[test]
fn local_memory_is_each_threads_own() {
    let code = threaded![
        and_imm(6, 0, 7),
        shl_imm(6, 6, 2),
        // Same address, then one of each lane's own.
        st_local(0, ty::B32, RZ, 0x20),
        iadd_imm(8, 0, 100),
        st_local(8, ty::B32, 6, 0),
        ld_local(9, ty::B32, RZ, 0x20),
        ld_local(10, ty::B32, 6, 0),
        ld_local(11, ty::U8, 6, 0),
        iadd(9, 9, 10),
        iadd(9, 9, 11),
        st(9, ty::B32, 4, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(64);
    machine.launch.local_pos_alloc = 0x30;
    machine.done();
    let expected: Vec<u32> = (0..64).map(|n| n + 2 * (n + 100)).collect();
    assert_eq!(machine.get(0, 64), expected);
}

#[test]
fn local_memory_is_in_temp_a_row_of_lanes_for_each_word() {
    let code = threaded![
        st_local(0, ty::B32, RZ, 0x4),
        ld_local(8, ty::B32, RZ, 0x4),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(64);
    machine.launch.local_pos_alloc = 0x10;
    machine.done();
    assert_eq!(machine.get(0, 64), (0..64).collect::<Vec<u32>>());
    // Four words of 32 lanes are a warp's.
    let temp = TEMP.address - DATA;
    for warp in 0..2 {
        let row = machine.get(temp + 512 * u64::from(warp) + 128, 32);
        let lanes: Vec<u32> = (32 * warp..32 * warp + 32).collect();
        assert_eq!(row, lanes, "warp {warp}");
    }
}

#[test]
fn local_memory_that_temp_has_no_room_for_is_refused_and_what_is_not_mapped_faults() {
    let code = threaded![st_local(0, ty::B32, RZ, 0), exit()];
    let mut machine = Machine::new(&code).threads(64);
    machine.launch.local_pos_alloc = 0x10;
    machine.launch.temp.size = 1023;
    let refused = machine.sm.launch(machine.launch.clone()).err();
    assert_eq!(refused, Some(LaunchError::Local(0x10)));
    machine.launch.temp.size = 1024;
    machine.done();
    machine.launch.temp.address = 1 << 39;
    assert!(matches!(
        machine.run(),
        Outcome::Failed(Failure::Fault(fault)) if fault.va == 1 << 39
    ));
}

#[test]
fn windows_onto_local_and_shared_memory_are_generic() {
    let code = threaded![
        st_shared(0, ty::B32, RZ, 0x10),
        st_local(0, ty::B32, RZ, 0x8),
        s2r(6, 0x30),
        mov_imm(7, 0),
        ld(8, ty::B32, 6, 0x10),
        s2r(6, 0x34),
        ld(9, ty::B32, 6, 0x8),
        iadd(8, 8, 9),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(32).shared(0x100);
    machine.launch.local_pos_alloc = 0x10;
    machine.done();
    // The highest lane stores last.
    let expected: Vec<u32> = (0..32).map(|lane| 31 + lane).collect();
    assert_eq!(machine.get(0, 32), expected);
}

#[test]
fn a_short_address_goes_through_the_map() {
    let short_ld = I(ld(8, ty::B32, 2, 0).0 & !(1 << 58));
    let short_st = I(st(8, ty::B32, 2, 4).0 & !(1 << 58));
    let code = program![mov_imm(2, 0x7700_0000), short_ld, short_st, exit()];
    let mut machine = Machine::new(&code);
    machine.launch.global_base[0x77] = 3 << 30 | (DATA >> 24) as u32;
    machine.set(0, &[42]);
    machine.done();
    assert_eq!(machine.get(4, 1), [42]);
    machine.launch.global_base[0x77] = 1 << 30 | (DATA >> 24) as u32;
    assert_eq!(machine.error(), WarpError::InvalidAddrSpace);
}

#[test]
fn constants_are_operands_and_can_be_indexed() {
    let ldc = |dst: u64, mode: u64, a: u64, offset: u64| {
        I::new(6, 0x05)
            .dst(dst)
            .a(a)
            .field(5, 3, ty::B32)
            .field(8, 2, mode)
            .field(26, 16, offset)
            .field(42, 5, 0)
    };
    let code = threaded![
        mov_const(8, 1, 8),
        shl_imm(6, 0, 2),
        ldc(9, 0, 6, 4),
        mov_imm(7, 1 << 16),
        iadd(7, 7, 6),
        ldc(10, 2, 7, 0),
        shl_imm(11, 9, 8),
        iadd(8, 8, 11),
        shl_imm(11, 10, 16),
        iadd(8, 8, 11),
        st(8, ty::B32, 4, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(4);
    machine.bind(0, &[10, 11, 12]);
    machine.bind(1, &[20, 21, 22, 23]);
    machine.done();
    // Behind the end there are zeros.
    let expected: Vec<u32> = (0..4u32)
        .map(|n| 22 + (if n < 2 { 11 + n } else { 0 } << 8) + ((20 + n) << 16))
        .collect();
    assert_eq!(machine.get(0, 4), expected);
}

#[test]
fn bad_addresses_trap() {
    let trap = |i: I| {
        let code = program![mov_imm(2, DATA as u32), mov_imm(3, 0), i, exit()];
        Machine::new(&code).shared(0x100).error()
    };
    assert_eq!(trap(ld(8, ty::B32, 2, 2)), WarpError::MisalignedAddr);
    assert_eq!(trap(st(8, ty::U16, 2, 1)), WarpError::MisalignedAddr);
    assert_eq!(
        trap(atom(9, 0x14, 0, 8, 2).field(26, 6, 2)),
        WarpError::MisalignedAddr
    );
    assert_eq!(trap(ld_shared(8, ty::B32, RZ, 0x100)), WarpError::OorAddr);
    assert_eq!(trap(st_shared(8, ty::B64, RZ, 0x100)), WarpError::OorAddr);
    assert_eq!(
        trap(ld_shared(8, ty::B32, RZ, 2)),
        WarpError::MisalignedAddr
    );
    assert_eq!(trap(ld_local(8, ty::B32, RZ, 0)), WarpError::OorAddr);
}
