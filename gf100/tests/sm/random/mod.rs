//! Random programs on a warp, each thread of which must end as a reference says that runs it alone.

mod float;
mod ops;
mod programs;
mod rng;

use proptest::prelude::*;

pub use self::{
    ops::{FIRST, PREDS, REGS, constants},
    programs::Program,
    rng::Rng,
};
use self::{
    ops::{Generator, Operation, Thread},
    programs::Node,
};
use crate::{asm::*, machine::Machine, prologue};

/// Threads of a test: more than one warp, and one that is not whole.
pub const THREADS: usize = 75;
/// Words of a thread's result: registers, then predicates.
pub const WORDS: usize = REGS + PREDS;

/// As many random programs, unless `PROPTEST_CASES` says how many.
pub fn cases(count: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(count),
    }
}

/// What threads start with.
fn threads(seed: u64) -> Vec<Thread> {
    let mut rng = Rng(seed);
    (0..THREADS)
        .map(|_| Thread {
            regs: std::array::from_fn(|_| rng.word()),
            preds: std::array::from_fn(|_| rng.flip()),
        })
        .collect()
}

/// Loads the threads' registers and predicates from the data, runs `body`, and stores them to where
/// they came from.
pub fn framed(body: &[Line]) -> Vec<u64> {
    let mut lines = prologue!().map(Line::from).to_vec();
    // r4 is the thread's first word; words of a register are THREADS words apart.
    let place = |word: usize| (4 * THREADS * word) as i32;
    for word in 0..PREDS {
        lines.push(ld(6, ty::B32, 4, place(REGS + word)).into());
        lines.push(isetp_imm(word as u64, cond::NE, 6, 0).into());
    }
    for word in 0..REGS {
        lines.push(ld(FIRST + word as u64, ty::B32, 4, place(word)).into());
    }
    lines.extend_from_slice(body);
    for word in 0..REGS {
        lines.push(st(FIRST + word as u64, ty::B32, 4, place(word)).into());
    }
    for word in 0..PREDS {
        lines.push(mov_imm(6, 0).into());
        lines.push(mov_imm(6, 1).on(word as u64).into());
        lines.push(st(6, ty::B32, 4, place(REGS + word)).into());
    }
    lines.push(exit().into());
    link(&lines)
}

/// Runs `body` on the card.
fn on_card(body: &[Line], constants: &[u32], threads: &[Thread]) -> Vec<Thread> {
    let mut machine = Machine::new(&framed(body)).threads(THREADS as u32);
    machine.bind(0, constants);
    let words: Vec<u32> = (0..WORDS)
        .flat_map(|word| {
            threads.iter().map(move |t| match word {
                ..REGS => t.regs[word],
                _ => t.preds[word - REGS].into(),
            })
        })
        .collect();
    machine.set(0, &words);
    machine.done();
    let words = machine.get(0, WORDS * THREADS);
    (0..THREADS)
        .map(|n| Thread {
            regs: std::array::from_fn(|word| words[word * THREADS + n]),
            preds: std::array::from_fn(|word| words[(REGS + word) * THREADS + n] != 0),
        })
        .collect()
}

proptest! {
    #![proptest_config(cases(200))]

    /// Operations one after the other, some of them guarded.
    #[test]
    fn operations_do_what_the_documents_say(seed: u64) {
        let constants = constants(seed);
        let mut rng = Rng(seed);
        let mut expected = threads(seed);
        let mut body = Vec::new();
        for _ in 0..40 {
            let Operation { code, effect } = Generator { rng: &mut rng, constants: &constants }.operation();
            // Sequences are not guarded: they may change their own guard.
            let guard = (code.len() == 1 && rng.below(4) == 0).then(|| (rng.below(PREDS as u64), rng.flip()));
            for i in code {
                body.push(Line::from(match guard {
                    None => i,
                    Some((p, false)) => i.on(p),
                    Some((p, true)) => i.unless(p),
                }));
            }
            for thread in &mut expected {
                if guard.is_none_or(|(p, not)| thread.preds[p as usize] != not) {
                    effect(thread);
                }
            }
        }
        let ours = on_card(&body, &constants, &threads(seed));
        prop_assert_eq!(ours, expected);
    }

    /// Ifs, loops with breaks and continues, and calls, nested.
    #[test]
    fn control_flow_is_that_of_each_thread_alone(seed: u64) {
        let constants = constants(seed);
        let program = Program::new(&mut Rng(seed), &constants);
        let mut expected = threads(seed);
        for thread in &mut expected {
            Node::run_all(&program.body, thread);
        }
        let ours = on_card(&program.lines(), &constants, &threads(seed));
        prop_assert_eq!(ours, expected);
    }
}
