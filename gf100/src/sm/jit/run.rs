//! Runs of instructions that compiled code does itself: a loop over groups of lanes, in which registers
//! are values. At the end of a run they go back to the warp's rows, if anybody may look.

use std::collections::BTreeMap;

use cranelift_codegen::ir::{
    BlockArg, InstBuilder, Value,
    condcodes::IntCC,
    types::{I32, I64},
};

use super::{
    access, alu,
    frame::{GROUP, HALTED, NOWHERE},
    group::Group,
    liveness::{self, Set, Uses},
    plan::{Way, way},
    translate::{Translator, constant, field, trusted},
};
use crate::sm::lanes::LANES;

/// Bytes of a row, and of a group's part of it.
const ROW_BYTES: i64 = 4 * LANES as i64;
const GROUP_BYTES: i64 = 4 * GROUP as i64;
/// Instructions of a run at most: with more there are not enough registers anyway.
const MAX_RUN: usize = 256;

impl Translator<'_> {
    /// How many instructions make a run: no load comes behind a store, and no store behind a load
    /// or another store, so that other lanes see them in the order of the program.
    pub fn run_length(&self, places: &[u32], ends: bool) -> usize {
        let places = &places[..places.len() - usize::from(ends)];
        let places = &places[..places.len().min(MAX_RUN)];
        let (mut loads, mut stores) = (false, false);
        for (n, &at) in places.iter().enumerate() {
            match way(&self.inst(at)) {
                Way::Pure => {}
                Way::Load if !stores => loads = true,
                Way::Store if !loads && !stores => stores = true,
                _ => return n,
            }
        }
        places.len()
    }

    fn flag_pointer(&mut self, flag: Set) -> Value {
        let at = match flag {
            liveness::CARRY => field!(carry),
            _ => field!(zero),
        };
        self.b.ins().load(I64, constant(), self.frame, at)
    }

    /// A run: the lanes' work, group by group.
    pub fn run(&mut self, places: &[u32]) {
        let uses: Vec<Uses> = places
            .iter()
            .map(|&at| Uses::of(&self.inst(at), self.gprs()))
            .collect();
        let ways: Vec<Way> = places.iter().map(|&at| way(&self.inst(at))).collect();
        let all = |f: fn(&Uses) -> Set| uses.iter().fold(0, |set, uses| set | f(uses));
        let (reads, writes) = (all(|u| u.reads), all(|u| u.writes));
        let next = self.inst(*places.last().unwrap_or(&0)).next;
        let alive = self.plan.liveness.at(next);
        if places
            .iter()
            .any(|&at| self.plan.slots[at as usize] != NOWHERE)
        {
            self.check_epoch();
        }
        // Masks that are kept in one word are taken apart, and put together, group by group.
        let kept = writes & alive;
        let masks: Vec<Set> = (0..7)
            .map(liveness::pred)
            .chain([liveness::CARRY, liveness::ZERO])
            .filter(|mask| (reads | writes) & mask != 0)
            .collect();
        let old: BTreeMap<Set, Value> = masks
            .iter()
            .map(|&mask| (mask, self.load_mask(mask)))
            .collect();
        let active = (!self.full).then(|| self.active());
        let kept_masks: Vec<Set> = masks.iter().copied().filter(|m| kept & m != 0).collect();

        let [header, latch, done] = [(); 3].map(|()| self.b.create_block());
        let at = self.b.append_block_param(header, I64);
        let mut sums = Vec::new();
        for _ in &kept_masks {
            sums.push(self.b.append_block_param(header, I32));
            self.b.append_block_param(latch, I32);
            self.b.append_block_param(done, I32);
        }
        let zero = self.b.ins().iconst(I64, 0);
        let none = self.b.ins().iconst(I32, 0);
        let mut arguments = vec![BlockArg::Value(zero)];
        arguments.extend(kept_masks.iter().map(|_| BlockArg::Value(none)));
        self.b.ins().jump(header, &arguments);
        self.b.switch_to_block(header);
        if let Some(active) = active {
            // A group without an active lane has nothing to do.
            let first = self.b.ins().ushr_imm_u(at, 2);
            let first = self.b.ins().ireduce(I32, first);
            let own = self.b.ins().ushr(active, first);
            let own = self.b.ins().band_imm_u(own, (1 << GROUP) - 1);
            let (some, none) = (self.b.create_block(), self.b.create_block());
            self.b.ins().brif(own, some, &[], none, &[]);
            self.b.switch_to_block(none);
            let same: Vec<_> = sums.iter().map(|&sum| BlockArg::Value(sum)).collect();
            self.b.ins().jump(latch, &same);
            self.b.switch_to_block(some);
        }
        let mut group = Group::new(self, at, old.clone(), active);
        for (&at, way) in places.iter().zip(&ways) {
            let i = self.inst(at);
            if i.guard == 7 && i.guard_not {
                continue;
            }
            match way {
                Way::Load | Way::Store => {
                    let slot = self.plan.slots[at as usize];
                    access::emit(self, &mut group, at, &i, slot);
                }
                _ => alu::emit(self, &mut group, &i),
            }
        }
        group.keep_rows(self, alive);
        let mut arguments = Vec::new();
        for (&mask, sum) in kept_masks.iter().zip(sums) {
            let bits = group.bits(self, mask);
            let sum = self.b.ins().bor(sum, bits);
            arguments.push(BlockArg::Value(sum));
        }
        self.b.ins().jump(latch, &arguments);
        self.b.switch_to_block(latch);
        let sums = self.b.block_params(latch).to_vec();
        let arguments: Vec<_> = sums.into_iter().map(BlockArg::Value).collect();
        let next = self.b.ins().iadd_imm_s(at, GROUP_BYTES);
        let more = self
            .b
            .ins()
            .icmp_imm_u(IntCC::UnsignedLessThan, next, ROW_BYTES);
        let again = [&[BlockArg::Value(next)], &arguments[..]].concat();
        self.b.ins().brif(more, header, &again, done, &arguments);
        self.b.switch_to_block(done);
        let results: Vec<Value> = self.b.block_params(done).to_vec();
        for (&mask, new) in kept_masks.iter().zip(results) {
            let new = match active {
                None => new,
                Some(active) => {
                    let new = self.b.ins().band(new, active);
                    let kept = self.b.ins().band_not(old[&mask], active);
                    self.b.ins().bor(new, kept)
                }
            };
            self.store_mask(mask, new);
        }
        if ways.contains(&Way::Load) {
            self.check_failure();
        }
    }

    fn load_mask(&mut self, mask: Set) -> Value {
        match (0..7).find(|&pred| liveness::pred(pred) == mask) {
            Some(pred) => self.scalar_pred(pred),
            None => {
                let at = self.flag_pointer(mask);
                self.b.ins().load(I32, trusted(), at, 0)
            }
        }
    }

    fn store_mask(&mut self, mask: Set, value: Value) {
        match (0..7).find(|&pred| liveness::pred(pred) == mask) {
            Some(pred) => {
                let offset = 4 * i32::from(pred);
                self.b.ins().store(trusted(), value, self.preds, offset);
            }
            None => {
                let at = self.flag_pointer(mask);
                self.b.ins().store(trusted(), value, at, 0);
            }
        }
    }

    /// Forgets the pages if translations have changed.
    fn check_epoch(&mut self) {
        let counter = self
            .b
            .ins()
            .load(I64, constant(), self.frame, field!(epoch));
        let now = self.b.ins().load(I64, trusted(), counter, 0);
        let then = self.b.ins().load(I64, trusted(), self.frame, field!(stamp));
        let (same, changed) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(changed);
        let is_same = self.b.ins().icmp(IntCC::Equal, now, then);
        self.b.ins().brif(is_same, same, &[], changed, &[]);
        self.b.switch_to_block(changed);
        self.call(self.signatures.forget, self.functions.forget, &[]);
        self.b.ins().jump(same, &[]);
        self.b.switch_to_block(same);
    }

    /// Leaves if a load of the run failed.
    fn check_failure(&mut self) {
        let failed = self
            .b
            .ins()
            .load(I32, trusted(), self.frame, field!(failed));
        let (go, stop) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(stop);
        let fine = self.b.ins().icmp_imm_s(IntCC::Equal, failed, -1);
        self.b.ins().brif(fine, go, &[], stop, &[]);
        self.b.switch_to_block(stop);
        self.leave(HALTED);
        self.b.switch_to_block(go);
    }

    /// Has some lanes of a group load or store the long way; the status.
    pub fn access(&mut self, at: u32, lanes: Value, first: Value, slot: u32) -> Option<Value> {
        let index = self.b.ins().iconst(I32, i64::from(at));
        let slot = self.b.ins().iconst(I32, i64::from(slot));
        self.call(
            self.signatures.access,
            self.functions.access,
            &[index, lanes, first, slot],
        )
    }

    /// Leaves because a store failed.
    pub fn fail(&mut self) {
        self.leave(HALTED);
    }
}
