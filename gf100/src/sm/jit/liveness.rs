//! Which registers, predicates and flags somebody may still look at.
//!
//! Seen from one thread: control goes where its instructions lead, whatever other lanes do. What a
//! region's end leads to is not followed by region; every such place of the program counts.

use crate::sm::{
    decode::{MinMaxPart, Op, Target},
    effects::Effects,
    program::{Exec, Inst, Program},
};

/// Registers by row, then predicates, then the condition code: a bit each.
pub type Set = u128;

/// Bit of predicate 0.
const PREDS: u32 = 96;
/// Bit of the carry flag.
pub const CARRY: Set = 1 << 104;
/// Bit of the zero flag.
pub const ZERO: Set = 1 << 105;
/// Both flags.
const FLAGS: Set = CARRY | ZERO;

/// The bit of a row.
pub fn row(row: u16) -> Set {
    1 << row
}

/// The bit of a predicate.
pub fn pred(pred: u8) -> Set {
    1 << (PREDS + u32::from(pred))
}

/// What an instruction reads and writes.
#[derive(Clone, Copy)]
pub struct Uses {
    /// Read.
    pub reads: Set,
    /// Written in the lanes that execute it.
    pub writes: Set,
    /// Written in all lanes that are there.
    pub kills: Set,
}

impl Uses {
    /// Of an instruction; `gprs` are the rows of a warp without the sink.
    pub fn of(i: &Inst, gprs: u32) -> Self {
        let Exec::Op(op) = i.exec else {
            return Self {
                reads: Set::MAX,
                writes: 0,
                kills: 0,
            };
        };
        let effects = Effects::of(i, gprs);
        let set = |places: crate::sm::effects::Places| {
            places.rows & ((1 << PREDS) - 1) | Set::from(places.preds) << PREDS
        };
        let mut reads = set(effects.reads) & !pred(7);
        let mut writes = set(effects.writes) & !pred(7);
        match op {
            Op::IAdd { carry_in: true, .. } | Op::IMad { carry_in: true, .. } => reads |= CARRY,
            Op::ISet { carry_in: true, .. }
            | Op::IMinMax {
                part: MinMaxPart::Low,
                ..
            } => reads |= FLAGS,
            _ => {}
        }
        if i.set_cc {
            writes |= FLAGS;
        }
        let always = i.guard == 7 && !i.guard_not;
        // Only what these do to flags is known to be done by every lane.
        let sets_flags = matches!(
            op,
            Op::IAdd { .. }
                | Op::IMad { .. }
                | Op::IShlAdd { .. }
                | Op::Lop(_)
                | Op::IMinMax { .. }
        );
        let whole = !effects.crosses;
        let kills = match always && whole {
            true if sets_flags => writes,
            true => writes & !FLAGS,
            false => 0,
        };
        Self {
            reads,
            writes,
            kills,
        }
    }
}

/// Where threads go from an instruction.
struct Edges {
    joins: Vec<u32>,
    breaks: Vec<u32>,
    continues: Vec<u32>,
    returns: Vec<u32>,
    /// Not all targets are known.
    open: bool,
}

impl Edges {
    fn of(insts: &[Inst]) -> Self {
        let mut edges = Self {
            joins: Vec::new(),
            breaks: Vec::new(),
            continues: Vec::new(),
            returns: Vec::new(),
            open: false,
        };
        for i in insts {
            match i.exec {
                Exec::Op(Op::PushJoin { .. }) => edges.joins.push(i.target),
                Exec::Op(Op::PushBreak { .. }) => edges.breaks.push(i.target),
                Exec::Op(Op::PushContinue { .. }) => edges.continues.push(i.target),
                Exec::Op(Op::PushReturn { .. }) => edges.returns.push(i.target),
                Exec::Op(Op::Call { .. }) => edges.returns.push(i.next),
                _ => {}
            }
            edges.open |= match i.exec {
                Exec::Op(Op::Bra { target, .. } | Op::Call { target }) => {
                    !matches!(target, Target::Address(_))
                }
                // Lanes that were not there come and go with whole quads.
                Exec::Op(Op::QuadOn | Op::QuadPop) | Exec::Missing => true,
                _ => false,
            };
        }
        edges
    }
}

/// What is alive before each instruction.
pub struct Liveness {
    before: Vec<Set>,
    open: bool,
}

impl Liveness {
    /// Follows a program until nothing changes.
    pub fn of(program: &Program) -> Self {
        let insts = program.insts();
        let edges = Edges::of(insts);
        let mut found = Self {
            before: vec![0; insts.len() + 1],
            open: edges.open,
        };
        if edges.open {
            return found;
        }
        let uses: Vec<Uses> = insts.iter().map(|i| Uses::of(i, program.gprs())).collect();
        loop {
            let all = |targets: &[u32]| targets.iter().fold(0, |set, &t| set | found.at(t));
            let joins = all(&edges.joins);
            let breaks = all(&edges.breaks);
            let continues = all(&edges.continues);
            let returns = all(&edges.returns);
            let mut changed = false;
            for (at, i) in insts.iter().enumerate().rev() {
                let always = i.guard == 7 && !i.guard_not;
                let next = found.at(i.next);
                let mut after = match i.exec {
                    Exec::Jump => found.at(i.target),
                    Exec::Op(op) => {
                        let (elsewhere, falls) = match op {
                            Op::Bra { uniform, .. } => (found.at(i.target), !always || uniform),
                            Op::Call { .. } => (found.at(i.target), !always),
                            Op::Break => (breaks, !always),
                            Op::Continue => (continues, !always),
                            Op::Return => (returns, !always),
                            Op::Exit => (0, !always),
                            _ => (0, true),
                        };
                        elsewhere | if falls { next } else { 0 }
                    }
                    Exec::Trap(_) => 0,
                    Exec::Missing => Set::MAX,
                };
                if i.join {
                    after |= joins;
                }
                let before = match i.exec {
                    Exec::Op(_) => after & !uses[at].kills | uses[at].reads,
                    _ => after,
                };
                changed |= before & !found.before[at] != 0;
                found.before[at] |= before;
            }
            if !changed {
                return found;
            }
        }
    }

    /// The rows that may be read before they are written; all, if that is not known.
    pub fn rows_at_start(&self) -> Set {
        match self.at(0) {
            Set::MAX => Set::MAX,
            alive => alive & ((1 << PREDS) - 1),
        }
    }

    /// What is alive before an instruction.
    pub fn at(&self, at: u32) -> Set {
        match self.open {
            true => Set::MAX,
            false => self.before.get(at as usize).copied().unwrap_or(Set::MAX),
        }
    }
}
