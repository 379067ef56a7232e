//! Random programs on the interpreter and as machine code of the host, which have to do the same:
//! registers, predicates, memory, and of a program that fails the trap or the fault, which names
//! the first lane to fail.

use gf100::sm::{Engine, Failure, Outcome, WarpError};
use proptest::prelude::*;

use crate::{
    asm::*,
    machine::{DATA, Machine, TEMP},
    random::{FIRST, PREDS, Program, REGS, Rng, THREADS, WORDS, cases, constants, framed},
};

/// The pair of registers with a thread's address, and one with its offset in shared memory.
const ADDRESS: u64 = 44;
const SHARED: u64 = 46;
/// Where the threads' memory is, how much a warp has, and how much shared memory.
const AREAS: u64 = 0x1_0000;
const AREA: u64 = 0x4000;
const SHARED_AREA: u32 = 0x400;
/// Threads of programs that may fail: how far other warps are then is not said.
const ONE_WARP: u32 = 32;

/// A pair, or a register of four, that operations use.
fn aligned(rng: &mut Rng, ty: u64) -> u64 {
    let count = match ty {
        ty::B64 => 2,
        ty::B128 => 4,
        _ => 1,
    };
    FIRST + count * rng.below(REGS as u64 / count)
}

/// A load, a store or an atomic, of one of the first `types`.
fn access(rng: &mut Rng, types: u64) -> I {
    let ty = rng.below(types);
    let near = 16 * rng.below(16);
    let offset = near as i32 - 128;
    let data = aligned(rng, ty);
    let access = match rng.below(9) {
        0..3 => ld(data, ty, ADDRESS, offset),
        3..5 => st(data, ty, ADDRESS, offset),
        5 => ld_shared(data, ty, SHARED, near),
        6 => st_shared(data, ty, SHARED, near),
        7 => match rng.flip() {
            true => ld_local(data, ty, RZ, near),
            false => st_local(data, ty, RZ, near),
        },
        // An addition of 32 bits, with a result and without.
        _ if rng.flip() => atom(FIRST + rng.below(REGS as u64), 0x14, 0, data, ADDRESS),
        _ => red(0x04, 0, data, ADDRESS),
    };
    match rng.below(4) {
        0 => access.on(rng.below(PREDS as u64)),
        1 => access.unless(rng.below(PREDS as u64)),
        _ => access,
    }
}

/// A function of a number, with its modifiers: operations have none.
fn function(rng: &mut Rng) -> I {
    let [to, from] = [(); 2].map(|()| FIRST + rng.below(REGS as u64));
    let [sat, abs, neg] = [(); 3].map(|()| u64::from(rng.below(4) == 0));
    let function = I::new(0, 0x32).dst(to).a(from).field(26, 4, rng.below(8));
    function.field(5, 1, sat).field(7, 1, abs).field(9, 1, neg)
}

/// A program: what [`Program`] makes, with accesses of the first `types` and functions in between.
fn body(rng: &mut Rng, constants: &[u32], types: u64) -> Vec<Line> {
    // Behind the threads' results are their addresses.
    let place = |word: usize| (4 * THREADS * (WORDS + word)) as i32;
    let mut lines = vec![
        Line::from(ld(ADDRESS, ty::B32, 4, place(0))),
        ld(ADDRESS + 1, ty::B32, 4, place(1)).into(),
        ld(SHARED, ty::B32, 4, place(2)).into(),
    ];
    for line in Program::new(rng, constants).lines() {
        if matches!(line, Line::Plain(_)) && rng.below(3) == 0 {
            lines.extend((0..=rng.below(3)).map(|_| Line::from(access(rng, types))));
            lines.push(function(rng).into());
        }
        lines.push(line);
    }
    lines
}

/// The pattern that is aligned to nothing more than words.
const WORDWISE: u64 = 3;

/// An address in a warp's area: on its own, next to its neighbours, or that of another lane.
fn address(rng: &mut Rng, thread: u64, pattern: u64) -> u64 {
    let base = DATA + AREAS + thread / 32 * AREA + 0x1000;
    let lane = thread % 32;
    match pattern {
        0 => base + 16 * lane,
        1 => base + 0x800 - 32 * lane,
        2 => base + 16 * rng.below(0x80),
        WORDWISE => base + 4 * lane,
        _ => base + 16 * (lane / 5),
    }
}

/// An address that is wrong, one way or another.
fn wrong(rng: &mut Rng, right: u64) -> u64 {
    match rng.below(5) {
        0 => right + 1 + rng.below(7),
        1 => right + (1 << 30),
        2 => right | 1 << 45,
        // Windows onto shared and local memory.
        3 => 0x0900_0000 + rng.below(0x400) * 4,
        _ => 0x0800_0000 + rng.below(0x400) * 4,
    }
}

/// What a program leaves behind.
#[derive(Debug, PartialEq)]
struct Left {
    outcome: Outcome,
    memory: Vec<u32>,
    local: Vec<u32>,
}

fn run(engine: Engine, seed: u64, may_fail: bool) -> Left {
    let rng = &mut Rng(seed);
    let constants = constants(seed);
    let pattern = rng.below(5);
    let types = match pattern == WORDWISE && !may_fail {
        true => ty::B32 + 1,
        false => ty::B128 + 1,
    };
    let code = framed(&body(rng, &constants, types));
    let threads = if may_fail { ONE_WARP } else { THREADS as u32 };
    let mut machine = Machine::on(engine, &code)
        .threads(threads)
        .shared(SHARED_AREA * THREADS.div_ceil(32) as u32);
    machine.bind(0, &constants);
    machine.launch.local_pos_alloc = 0x100;
    machine.launch.local_base = 0x0800_0000;
    machine.launch.shared_base = 0x0900_0000;
    let words: Vec<u32> = (0..WORDS * THREADS).map(|_| rng.word()).collect();
    machine.set(0, &words);
    let mut addresses = [const { Vec::new() }; 3];
    for thread in 0..THREADS as u64 {
        let mut at = address(rng, thread, pattern);
        if may_fail && rng.below(12) == 0 {
            at = wrong(rng, at);
        }
        let shared = thread / 32 * u64::from(SHARED_AREA) + 16 * rng.below(0x20);
        let far = may_fail && rng.below(40) == 0;
        let shared = if far { 0x1_0000 } else { shared };
        for (list, word) in addresses
            .iter_mut()
            .zip([at as u32, (at >> 32) as u32, shared as u32])
        {
            list.push(word);
        }
    }
    machine.set(4 * (WORDS * THREADS) as u64, &addresses.concat());
    for n in 0..4 * AREA / 4 {
        machine.set(AREAS + 4 * n, &[(n as u32).wrapping_mul(0x9e37_79b1)]);
    }
    let outcome = match machine.run() {
        // Which others would have executed the instruction is for the log alone.
        Outcome::Failed(Failure::Trap(mut trap)) => {
            trap.lanes = 0;
            Outcome::Failed(Failure::Trap(trap))
        }
        outcome => outcome,
    };
    let left = |from: u64, len: u64| machine.get(from, len as usize / 4);
    Left {
        outcome,
        memory: left(0, AREAS + 4 * AREA),
        local: left(TEMP.address - DATA, 0x1_0000),
    }
}

const COMPILED: Engine = Engine::Jit { patience: 0 };

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn programs_leave_the_same_behind(seed: u64) {
        let [one, other] = [Engine::Interpreter, COMPILED].map(|engine| run(engine, seed, false));
        prop_assert_eq!(one.outcome, Outcome::Done);
        prop_assert_eq!(other.outcome, Outcome::Done);
        prop_assert!(one.memory == other.memory && one.local == other.local);
    }

    #[test]
    fn programs_that_fail_fail_alike(seed: u64) {
        let [one, other] = [Engine::Interpreter, COMPILED].map(|engine| run(engine, seed, true));
        prop_assert_eq!(one.outcome, other.outcome);
        prop_assert!(one.memory == other.memory && one.local == other.local);
    }
}

#[test]
fn some_programs_fail_and_some_do_not() {
    let outcomes: Vec<Outcome> = (0..60)
        .map(|seed| run(COMPILED, seed, true).outcome)
        .collect();
    let fault = |outcome: &Outcome| matches!(outcome, Outcome::Failed(Failure::Fault(_)));
    let misaligned = |outcome: &Outcome| {
        matches!(outcome, Outcome::Failed(Failure::Trap(trap))
            if trap.error == WarpError::MisalignedAddr)
    };
    assert!(outcomes.iter().any(fault));
    assert!(outcomes.iter().any(misaligned));
    assert!(outcomes.contains(&Outcome::Done));
}
