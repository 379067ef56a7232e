//! What is known of a program before it is translated: where blocks start, how instructions are done.

use std::collections::{BTreeMap, BTreeSet};

use super::{access, alu, frame::NOWHERE, liveness::Liveness};
use crate::sm::{
    decode::Op,
    program::{Exec, Inst, Program, static_target},
};

/// How an instruction is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In a run, and it leaves memory as it is.
    Pure,
    /// In a run, and it loads from memory.
    Load,
    /// In a run, and it stores to memory.
    Store,
    /// By the interpreter.
    Step,
}

/// What is known of a program before it is translated.
pub struct Plan {
    /// By instruction: the number of the block that starts there, or [`NOWHERE`].
    pub blocks: Vec<u32>,
    /// By instruction: the slot of a memory instruction, or [`NOWHERE`].
    pub slots: Vec<u32>,
    /// How many slots there are.
    pub slot_count: usize,
    /// What somebody may still look at.
    pub liveness: Liveness,
}

impl Plan {
    /// Of a program.
    pub fn of(program: &Program) -> Self {
        let insts = program.insts();
        let mut starts = BTreeSet::from([0]);
        for i in insts {
            if static_target(i).is_some() || i.exec == Exec::Jump {
                starts.insert(i.target);
            }
            if ends_block(i) {
                starts.insert(i.next);
            }
        }
        let mut blocks = vec![NOWHERE; insts.len() + 1];
        let inside = starts.into_iter().filter(|&at| (at as usize) < insts.len());
        for (n, at) in inside.enumerate() {
            blocks[at as usize] = n as u32;
        }
        let mut slot_count = 0;
        let slots = insts
            .iter()
            .map(|i| match i.exec {
                Exec::Op(Op::LdGlobal { .. } | Op::StGlobal { .. }) => {
                    slot_count += 1;
                    slot_count as u32 - 1
                }
                _ => NOWHERE,
            })
            .collect();
        Self {
            blocks,
            slots,
            slot_count,
            liveness: Liveness::of(program),
        }
    }
}

/// Lanes may come, go or stop at the instruction.
pub fn ends_block(i: &Inst) -> bool {
    let flow = match i.exec {
        Exec::Op(op) => matches!(
            op,
            Op::Bra { .. }
                | Op::Call { .. }
                | Op::Break
                | Op::Continue
                | Op::Return
                | Op::Exit
                | Op::QuadOn
                | Op::QuadPop
                | Op::Bar { .. }
        ),
        _ => true,
    };
    flow || i.join
}

/// The names of the instructions that are left to the interpreter, and how often each is there.
pub fn interpreted(program: &Program) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for i in program.insts().iter().filter(|i| way(i) == Way::Step) {
        let name = format!("{:?}", i.exec);
        let name: String = name.chars().take_while(|&c| c != ' ' && c != '{').collect();
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

/// How an instruction is done.
pub fn way(i: &Inst) -> Way {
    let Exec::Op(op) = i.exec else {
        return Way::Step;
    };
    match access::kind(&op) {
        Some(access::Kind::Load) => return Way::Load,
        Some(access::Kind::Store) => return Way::Store,
        None => {}
    }
    match alu::can(i, &op) {
        true => Way::Pure,
        false => Way::Step,
    }
}
