//! From a program to a function of the host: blocks, what is between them, and runs of lanes' work.
//!
//! A block is what all its lanes execute one after the other. In a block, [runs](super::run) of
//! instructions are what compiled code does itself. Everything else, and where lanes part or meet, is
//! the interpreter's instruction by instruction.

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
    frame::{Functions, GO_ON, HALTED, NOWHERE},
    plan::{Plan, ends_block},
};
use crate::sm::{
    decode::{Op, Target},
    program::{Exec, Inst, Program},
};

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
pub struct Signatures {
    step: SigRef,
    pub access: SigRef,
    pub forget: SigRef,
}

/// A function under construction.
pub struct Translator<'a> {
    pub b: FunctionBuilder<'a>,
    pub program: &'a Program,
    pub plan: &'a Plan,
    pub functions: Functions,
    pub signatures: Signatures,
    /// All lanes are active wherever the function is.
    pub full: bool,
    pub frame: Value,
    pub regs: Value,
    pub uniform: Value,
    pub preds: Value,
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
    pub fn gprs(&self) -> u32 {
        self.program.gprs()
    }

    pub fn inst(&self, at: u32) -> Inst {
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

    pub fn leave(&mut self, status: u32) {
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

    /// Calls one of our functions with the frame and these.
    pub fn call(
        &mut self,
        signature: SigRef,
        function: usize,
        arguments: &[Value],
    ) -> Option<Value> {
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
    pub fn scalar_pred(&mut self, pred: u8) -> Value {
        let offset = 4 * i32::from(pred & 7);
        self.b.ins().load(I32, trusted(), self.preds, offset)
    }
}
