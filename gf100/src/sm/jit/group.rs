//! A group of lanes within a run: what is known of its registers and masks.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_codegen::ir::{
    InstBuilder, Value,
    condcodes::IntCC,
    types::{I32, I32X4},
};

use super::{
    liveness::{self, Set},
    translate::{Translator, constant, trusted},
};
use crate::sm::{
    decode::{Logic, PredSrc},
    program::{Inst, RowRef, Uniform},
};

/// Bytes of a row.
const ROW_BYTES: i32 = 128;

/// A condition, by lane.
#[derive(Clone, Copy)]
pub enum Mask {
    /// True everywhere.
    All,
    /// False everywhere.
    None,
    /// All ones where it is true.
    Some(Value),
}

/// Registers and masks of the lanes that a run is at.
pub struct Group {
    /// The group's part of the first row.
    base: Value,
    /// The group's first lane.
    pub first: Value,
    /// Offset of the group's part in a row.
    pub at: Value,
    /// Registers, as far as they were looked at or written.
    rows: BTreeMap<u16, Value>,
    dirty: BTreeSet<u16>,
    /// Masks of the warp as they were before the run.
    words: BTreeMap<Set, Value>,
    /// Masks of the group.
    masks: BTreeMap<Set, Value>,
    /// The active lanes, unless all are.
    active: Option<Value>,
}

impl Group {
    pub fn new(
        t: &mut Translator<'_>,
        at: Value,
        words: BTreeMap<Set, Value>,
        active: Option<Value>,
    ) -> Self {
        let base = t.b.ins().iadd(t.regs, at);
        let first = t.b.ins().ushr_imm_u(at, 2);
        let first = t.b.ins().ireduce(I32, first);
        let mut group = Self {
            base,
            first,
            at,
            rows: BTreeMap::new(),
            dirty: BTreeSet::new(),
            words,
            masks: BTreeMap::new(),
            active: None,
        };
        group.active = active.map(|active| group.spread(t, active));
        group
    }

    /// The group's part of a mask of the warp.
    fn spread(&self, t: &mut Translator<'_>, word: Value) -> Value {
        let bits = t.b.ins().ushr(word, self.first);
        let bits = t.b.ins().splat(I32X4, bits);
        let own = t.vector([1, 2, 4, 8]);
        let bits = t.b.ins().band(bits, own);
        t.b.ins().icmp(IntCC::Equal, bits, own)
    }

    /// The group's bits in a mask of the warp.
    pub fn bits(&mut self, t: &mut Translator<'_>, mask: Set) -> Value {
        let value = self.mask(t, mask);
        let bits = t.b.ins().vhigh_bits(I32, value);
        t.b.ins().ishl(bits, self.first)
    }

    /// A predicate or a flag.
    pub fn mask(&mut self, t: &mut Translator<'_>, mask: Set) -> Value {
        if let Some(&value) = self.masks.get(&mask) {
            return value;
        }
        let value = match self.words.get(&mask) {
            Some(&word) => self.spread(t, word),
            None => t.splat(0),
        };
        self.masks.insert(mask, value);
        value
    }

    /// Sets a predicate or a flag where `guard` says.
    pub fn set_mask(
        &mut self,
        t: &mut Translator<'_>,
        mask: Set,
        value: Mask,
        guard: Option<Value>,
    ) {
        let value = t.ones(value);
        let value = match guard {
            None => value,
            Some(guard) => {
                let old = self.mask(t, mask);
                t.b.ins().blendv(guard, value, old)
            }
        };
        self.masks.insert(mask, value);
    }

    /// A predicate as a source.
    pub fn pred(&mut self, t: &mut Translator<'_>, source: PredSrc) -> Mask {
        let mask = match source.pred.0 & 7 {
            7 => Mask::All,
            pred => Mask::Some(self.mask(t, liveness::pred(pred))),
        };
        match source.not {
            true => t.not(mask),
            false => mask,
        }
    }

    /// Lanes where the instruction's guard holds, unless it always does.
    pub fn guard(&mut self, t: &mut Translator<'_>, i: &Inst) -> Option<Value> {
        if i.guard & 7 == 7 {
            return None;
        }
        let value = self.mask(t, liveness::pred(i.guard));
        Some(match i.guard_not {
            true => t.b.ins().bnot(value),
            false => value,
        })
    }

    /// Lanes that execute the instruction, unless all do.
    pub fn executing(&mut self, t: &mut Translator<'_>, i: &Inst) -> Option<Value> {
        match (self.guard(t, i), self.active) {
            (Some(guard), Some(active)) => Some(t.b.ins().band(guard, active)),
            (guard, active) => guard.or(active),
        }
    }

    /// A source's lanes.
    pub fn source(&mut self, t: &mut Translator<'_>, i: &Inst, n: usize) -> Value {
        self.row(t, i.src[n])
    }

    /// A row's lanes.
    pub fn row(&mut self, t: &mut Translator<'_>, at: RowRef) -> Value {
        if at.0 & RowRef::UNIFORM != 0 {
            let index = at.0 & !RowRef::UNIFORM;
            return match t.program.uniforms().get(usize::from(index)) {
                Some(&Uniform::Literal(value)) => t.splat(value),
                _ => {
                    let offset = ROW_BYTES * i32::from(index);
                    t.b.ins().load(I32X4, constant(), t.uniform, offset)
                }
            };
        }
        if let Some(&value) = self.rows.get(&at.0) {
            return value;
        }
        let value = self.load(t, at.0);
        self.rows.insert(at.0, value);
        value
    }

    fn load(&self, t: &mut Translator<'_>, row: u16) -> Value {
        t.b.ins()
            .load(I32X4, trusted(), self.base, ROW_BYTES * i32::from(row))
    }

    /// Replaces a register where the instruction's guard holds.
    pub fn write(&mut self, t: &mut Translator<'_>, i: &Inst, row: u16, value: Value) {
        // What goes into the sink is gone.
        if u32::from(row) >= t.program.gprs() {
            return;
        }
        let value = match self.guard(t, i) {
            None => value,
            Some(guard) => {
                let old = self.row(t, RowRef(row));
                t.b.ins().blendv(guard, value, old)
            }
        };
        self.rows.insert(row, value);
        self.dirty.insert(row);
    }

    /// Puts registers back that somebody may look at.
    pub fn keep_rows(&mut self, t: &mut Translator<'_>, alive: Set) {
        for &row in &self.dirty {
            if alive & liveness::row(row) == 0 {
                continue;
            }
            let mut value = self.rows[&row];
            if let Some(active) = self.active {
                let old = self.load(t, row);
                value = t.b.ins().blendv(active, value, old);
            }
            let offset = ROW_BYTES * i32::from(row);
            t.b.ins().store(trusted(), value, self.base, offset);
        }
    }
}

/// Conditions.
impl Translator<'_> {
    /// A condition as lanes of ones and zeros.
    pub fn ones(&mut self, mask: Mask) -> Value {
        match mask {
            Mask::All => self.splat(u32::MAX),
            Mask::None => self.splat(0),
            Mask::Some(value) => value,
        }
    }

    pub fn not(&mut self, mask: Mask) -> Mask {
        match mask {
            Mask::All => Mask::None,
            Mask::None => Mask::All,
            Mask::Some(value) => Mask::Some(self.b.ins().bnot(value)),
        }
    }

    pub fn combine(&mut self, logic: Logic, a: Mask, b: Mask) -> Mask {
        match (logic, a, b) {
            (Logic::And, Mask::All, x) | (Logic::And, x, Mask::All) => x,
            (Logic::And, Mask::None, _) | (Logic::And, _, Mask::None) => Mask::None,
            (Logic::Or, Mask::None, x) | (Logic::Or, x, Mask::None) => x,
            (Logic::Or, Mask::All, _) | (Logic::Or, _, Mask::All) => Mask::All,
            (Logic::Xor, Mask::None, x) | (Logic::Xor, x, Mask::None) => x,
            (Logic::Xor, Mask::All, x) | (Logic::Xor, x, Mask::All) => self.not(x),
            (logic, Mask::Some(a), Mask::Some(b)) => Mask::Some(match logic {
                Logic::And => self.b.ins().band(a, b),
                Logic::Or => self.b.ins().bor(a, b),
                Logic::Xor => self.b.ins().bxor(a, b),
            }),
        }
    }

    /// a where the condition holds, else b.
    pub fn choose(&mut self, mask: Mask, a: Value, b: Value) -> Value {
        match mask {
            Mask::All => a,
            Mask::None => b,
            Mask::Some(mask) => self.b.ins().blendv(mask, a, b),
        }
    }
}
