//! From a program to a function of the host: blocks, what is between them, and runs of lanes' work.
//!
//! A block is what all its lanes execute one after the other. In a block, runs of instructions that
//! compiled code does itself are a loop over groups of lanes, in which registers are values; at the
//! end of a run they go back to the warp's rows, if anybody may look. Everything else, and where
//! lanes part or meet, is the interpreter's instruction by instruction.

use std::collections::BTreeMap;

use cranelift_codegen::ir::{
    AbiParam, Block, BlockArg, Function, InstBuilder, JumpTableData, MemFlagsData, SigRef,
    Signature, Type, Value,
    condcodes::IntCC,
    types::{I32, I64},
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use super::{
    access, alu,
    frame::{Functions, GO_ON, GROUP, HALTED, NOWHERE},
    group::Group,
    liveness::{self, Set, Uses},
    plan::{Plan, Way, ends_block, way},
};
use crate::sm::{
    decode::{Op, Target},
    lanes::LANES,
    program::{Exec, Inst, Program},
};

/// Bytes of a row, and of a group's part of it.
const ROW_BYTES: i64 = 4 * LANES as i64;
const GROUP_BYTES: i64 = 4 * GROUP as i64;

/// Instructions of a run at most: with more there are not enough registers anyway.
const MAX_RUN: usize = 256;

/// Memory of our own: rows, frames, predicates.
pub fn trusted() -> MemFlagsData {
    MemFlagsData::trusted()
}

/// What is the same as long as the code runs.
pub fn constant() -> MemFlagsData {
    MemFlagsData::trusted().with_readonly().with_can_move()
}

/// A field of the frame.
macro_rules! field {
    ($name:ident) => {
        std::mem::offset_of!(crate::sm::jit::frame::Frame, $name) as i32
    };
}
pub(super) use field;

/// Signatures of the functions that compiled code calls.
struct Signatures {
    step: SigRef,
    access: SigRef,
    forget: SigRef,
}

/// A function under construction.
pub struct Translator<'a> {
    pub b: FunctionBuilder<'a>,
    pub program: &'a Program,
    plan: &'a Plan,
    functions: Functions,
    signatures: Signatures,
    /// All lanes are active wherever the function is.
    pub full: bool,
    pub frame: Value,
    pub regs: Value,
    pub uniform: Value,
    preds: Value,
    active: Value,
    blocks: BTreeMap<u32, Block>,
    dispatch: Block,
}

/// Fills in `function`, which runs the program for warps whose lanes are all active, or for others.
pub fn translate(
    program: &Program,
    plan: &Plan,
    full: bool,
    functions: Functions,
    config: TargetFrontendConfig,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
) {
    let mut b = FunctionBuilder::new(function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let [frame, start] = *b.block_params(entry) else {
        return;
    };
    let mut pointer = |at| b.ins().load(I64, constant(), frame, at);
    let regs = pointer(field!(regs));
    let uniform = pointer(field!(uniform));
    let preds = pointer(field!(preds));
    let active = pointer(field!(active));
    let signatures = Signatures {
        step: b.import_signature(signature(&[I64, I32], true)),
        access: b.import_signature(signature(&[I64, I32, I32, I32, I32], true)),
        forget: b.import_signature(signature(&[I64], false)),
    };
    let blocks: BTreeMap<u32, Block> = (0..)
        .zip(&plan.blocks)
        .filter(|(_, number)| **number != NOWHERE)
        .map(|(at, _)| (at, b.create_block()))
        .collect();
    let dispatch = b.create_block();
    b.append_block_param(dispatch, I32);
    let mut translator = Translator {
        b,
        program,
        plan,
        functions,
        signatures,
        full,
        frame,
        regs,
        uniform,
        preds,
        active,
        blocks,
        dispatch,
    };
    translator.table(start);
    translator.dispatch();
    let starts: Vec<u32> = translator.blocks.keys().copied().collect();
    for at in starts {
        translator.block(at);
    }
    translator.b.seal_all_blocks();
    translator.b.finalize(config);
}

/// The signature of compiled code, and of what it calls.
pub fn signature(parameters: &[Type], returns: bool) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = parameters.iter().map(|ty| AbiParam::new(*ty)).collect();
    if returns {
        signature.returns.push(AbiParam::new(I32));
    }
    signature
}

impl Translator<'_> {
    fn gprs(&self) -> u32 {
        self.program.gprs()
    }

    fn inst(&self, at: u32) -> Inst {
        self.program.insts()[at as usize]
    }

    /// Goes to the block with a number, or returns if there is none.
    fn table(&mut self, number: Value) {
        let out = self.b.create_block();
        let call =
            |block: Block, pool: &mut _| cranelift_codegen::ir::BlockCall::new(block, [], pool);
        let pool = &mut self.b.func.dfg.value_lists;
        let default = call(out, pool);
        let targets: Vec<_> = self
            .blocks
            .values()
            .map(|&block| call(block, pool))
            .collect();
        let table = JumpTableData::new(default, &targets);
        let table = self.b.create_jump_table(table);
        self.b.ins().br_table(number, table);
        self.b.switch_to_block(out);
        self.leave(GO_ON);
    }

    /// Goes to where the program counter leads, if that is in this function.
    fn dispatch(&mut self) {
        self.b.switch_to_block(self.dispatch);
        let pc = self.b.block_params(self.dispatch)[0];
        if self.full {
            let (inside, out) = (self.b.create_block(), self.b.create_block());
            let active = self.active();
            let all = self.b.ins().icmp_imm_s(IntCC::Equal, active, -1);
            self.b.ins().brif(all, inside, &[], out, &[]);
            self.b.switch_to_block(out);
            self.leave(GO_ON);
            self.b.switch_to_block(inside);
        }
        let table = self
            .b
            .ins()
            .load(I64, constant(), self.frame, field!(blocks));
        let pc = self.b.ins().uextend(I64, pc);
        let pc = self.b.ins().ishl_imm_u(pc, 2);
        let at = self.b.ins().iadd(table, pc);
        let number = self.b.ins().load(I32, trusted(), at, 0);
        self.table(number);
    }

    /// The mask of active lanes.
    pub fn active(&mut self) -> Value {
        self.b.ins().load(I32, trusted(), self.active, 0)
    }

    fn leave(&mut self, status: u32) {
        let status = self.b.ins().iconst(I32, i64::from(status));
        self.b.ins().return_(&[status]);
    }

    /// Leaves; the warp will go on at `pc`.
    fn leave_at(&mut self, pc: u32) {
        let at = self.b.ins().load(I64, constant(), self.frame, field!(pc));
        let pc = self.b.ins().iconst(I32, i64::from(pc));
        self.b.ins().store(trusted(), pc, at, 0);
        self.leave(GO_ON);
    }

    /// Goes to the block at `at`, which may not be there.
    fn go(&mut self, at: u32) {
        match self.blocks.get(&at) {
            Some(&block) => {
                self.b.ins().jump(block, &[]);
            }
            None => self.leave_at(at),
        }
    }

    fn block(&mut self, start: u32) {
        let block = self.blocks[&start];
        self.b.switch_to_block(block);
        let mut places = Vec::new();
        let mut at = start;
        let end = loop {
            places.push(at);
            let i = self.inst(at);
            if ends_block(&i) {
                break None;
            }
            at = i.next;
            if self.blocks.contains_key(&at) || at as usize >= self.program.insts().len() {
                break Some(at);
            }
        };
        self.pay(start, places.len());
        let mut rest = &places[..];
        while let Some((&first, others)) = rest.split_first() {
            let i = self.inst(first);
            let last = others.is_empty() && end.is_none();
            if last {
                self.end(first, &i);
                return;
            }
            let count = self.run_length(rest, end.is_none());
            match count {
                0 => {
                    self.step_at(first, others.len());
                    rest = others;
                }
                _ => {
                    self.run(&rest[..count]);
                    rest = &rest[count..];
                }
            }
        }
        if let Some(next) = end {
            self.go(next);
        }
    }

    /// Counts a block's instructions against the budget, and leaves if that is used up.
    fn pay(&mut self, start: u32, count: usize) {
        let at = self
            .b
            .ins()
            .load(I64, constant(), self.frame, field!(budget));
        let budget = self.b.ins().load(I32, trusted(), at, 0);
        let (go, stop) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(stop);
        let left = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, budget, 0);
        self.b.ins().brif(left, go, &[], stop, &[]);
        self.b.switch_to_block(stop);
        self.leave_at(start);
        self.b.switch_to_block(go);
        let rest = self.b.ins().iadd_imm_s(budget, -(count as i64));
        self.b.ins().store(trusted(), rest, at, 0);
    }

    /// How many instructions make a run: no load comes behind a store, and no store behind a load
    /// or another store, so that other lanes see them in the order of the program.
    fn run_length(&self, places: &[u32], ends: bool) -> usize {
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

    /// Calls one of our functions with the frame and these.
    fn call(&mut self, signature: SigRef, function: usize, arguments: &[Value]) -> Option<Value> {
        let callee = self.b.ins().iconst(I64, function as i64);
        let arguments = [&[self.frame], arguments].concat();
        let call = self.b.ins().call_indirect(signature, callee, &arguments);
        self.b.inst_results(call).first().copied()
    }

    /// Has the interpreter execute an instruction; leaves if the warp stops.
    fn step(&mut self, at: u32) {
        let index = self.b.ins().iconst(I32, i64::from(at));
        let status = self.call(self.signatures.step, self.functions.step, &[index]);
        let (go, stop) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(stop);
        if let Some(status) = status {
            self.b.ins().brif(status, stop, &[], go, &[]);
        }
        self.b.switch_to_block(stop);
        self.leave(HALTED);
        self.b.switch_to_block(go);
    }

    /// As [`Translator::step`], with `behind` instructions of the block behind it, which the clock
    /// must not count yet.
    fn step_at(&mut self, at: u32, behind: usize) {
        let clock = matches!(
            self.inst(at).exec,
            Exec::Op(Op::S2R {
                special: 0x50 | 0x51
            })
        );
        if clock {
            self.refund(behind as i64);
        }
        self.step(at);
        if clock {
            self.refund(-(behind as i64));
        }
    }

    fn refund(&mut self, count: i64) {
        let at = self
            .b
            .ins()
            .load(I64, constant(), self.frame, field!(budget));
        let budget = self.b.ins().load(I32, trusted(), at, 0);
        let budget = self.b.ins().iadd_imm_s(budget, count);
        self.b.ins().store(trusted(), budget, at, 0);
    }

    /// The last instruction of a block.
    fn end(&mut self, at: u32, i: &Inst) {
        match i.exec {
            Exec::Jump => return self.go(i.target),
            Exec::Op(Op::Bra {
                target: Target::Address(_),
                uniform,
            }) if !i.join => return self.branch(at, i, uniform),
            _ => {}
        }
        self.step(at);
        self.resume();
    }

    /// Goes to where the interpreter left the warp.
    fn resume(&mut self) {
        let pc = self.b.ins().load(I64, constant(), self.frame, field!(pc));
        let pc = self.b.ins().load(I32, trusted(), pc, 0);
        self.b.ins().jump(self.dispatch, &[BlockArg::Value(pc)]);
    }

    /// A branch that all lanes take, or none, goes on here.
    fn branch(&mut self, at: u32, i: &Inst, uniform: bool) {
        if i.guard == 7 && !i.guard_not {
            return self.go(i.target);
        }
        let active = self.active();
        let pred = self.scalar_pred(i.guard);
        let pred = match i.guard_not {
            true => self.b.ins().bnot(pred),
            false => pred,
        };
        let taken = self.b.ins().band(active, pred);
        let [all, some, other, none] = [(); 4].map(|()| self.b.create_block());
        let is_all = self.b.ins().icmp(IntCC::Equal, taken, active);
        self.b.ins().brif(is_all, all, &[], other, &[]);
        self.b.switch_to_block(all);
        self.go(i.target);
        self.b.switch_to_block(other);
        if uniform {
            self.b.ins().jump(none, &[]);
        } else {
            self.b.ins().brif(taken, some, &[], none, &[]);
        }
        self.b.switch_to_block(none);
        self.go(i.next);
        self.b.switch_to_block(some);
        self.step(at);
        self.resume();
    }

    /// A predicate as a mask of lanes.
    fn scalar_pred(&mut self, pred: u8) -> Value {
        let offset = 4 * i32::from(pred & 7);
        self.b.ins().load(I32, trusted(), self.preds, offset)
    }

    fn flag_pointer(&mut self, flag: Set) -> Value {
        let at = match flag {
            liveness::CARRY => field!(carry),
            _ => field!(zero),
        };
        self.b.ins().load(I64, constant(), self.frame, at)
    }

    /// A run: the lanes' work, group by group.
    fn run(&mut self, places: &[u32]) {
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
