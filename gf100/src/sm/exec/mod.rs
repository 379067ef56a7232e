//! Execution of instructions for all lanes of a warp.
//!
//! An operation computes all 32 lanes, whether they are active or not, in loops that the host's
//! vector unit takes, and keeps the results of the active ones. Only what has effects outside of
//! registers (memory, textures) looks at lanes one by one.

mod atomic;
mod constant;
mod convert;
mod double;
mod function;
mod global;
mod integer;
mod isa;
mod memory;
mod moves;
mod single;
mod surface;
mod texture;

use super::{
    cta::CtaMemory,
    decode::{BarMode, Logic, Op, Pred, PredSrc, Target},
    grid::Environment,
    lanes::{LANES, Row, map},
    launch::WarpError,
    program::{Exec, Inst, RowRef},
    warp::{Flags, Flow, Token},
};
use crate::memory::{Client, Fault, Guard};

pub use double::NAN as DOUBLE_NAN;
#[cfg(target_arch = "x86_64")]
pub use isa::{Avx2, Avx512};
pub use isa::{Baseline, Isa};
pub use memory::WINDOW;

/// A warp and what it can reach, for as long as it runs.
pub struct Cx<'a> {
    /// The warp's registers, the sink at the end.
    pub regs: &'a mut [Row],
    /// The launch's uniform rows.
    pub uniform: &'a [Row],
    /// Lanes that execute the current instruction.
    pub mask: u32,
    /// The warp's predicates.
    pub preds: &'a mut [u32; 8],
    /// The warp's condition code.
    pub flags: &'a mut Flags,
    /// The warp's place in the program.
    pub flow: &'a mut Flow,
    /// The warp's number in the CTA.
    pub warp: u32,
    /// Virtual address of the warp's local memory.
    pub local: u64,
    /// The CTA's memory.
    pub cta: &'a mut CtaMemory,
    /// The grid.
    pub env: &'a Environment,
    /// The channel's memory.
    pub client: &'a mut Client,
    /// Holds that memory.
    pub guard: &'a Guard<'a>,
    /// Instructions that it may execute yet; less than 0 if it has executed more.
    pub budget: i32,
}

/// What a warp stopped for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Halt {
    /// The budget is used up.
    Budget,
    /// All lanes have exited.
    Exited,
    /// It arrived at a barrier.
    Barrier(Arrival),
    /// The program has to be extended at this byte address; the instruction is executed again.
    Code(u32),
    /// It did something that cannot be; it stands at the instruction.
    Trap(WarpError),
    /// The MMU could not translate; it stands at the instruction.
    Fault(Fault),
}

impl From<WarpError> for Halt {
    fn from(error: WarpError) -> Self {
        Halt::Trap(error)
    }
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Halt::Fault(fault)
    }
}

/// A warp's arrival at a barrier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// Which barrier.
    pub id: u8,
    /// Threads that it waits for; 0: all.
    pub threads: u32,
    /// What it does.
    pub mode: BarMode,
    /// Lanes whose predicate is true.
    pub lanes: u32,
    /// Lanes that arrived.
    pub mask: u32,
    /// Row for the number of threads whose predicate is true.
    pub dst: u16,
    /// Predicate for the outcome.
    pub to: Pred,
}

impl Arrival {
    /// The barrier has opened; `popc` threads had a true predicate.
    pub fn opened(&self, popc: u32, outcome: bool, regs: &mut [Row], preds: &mut [u32; 8]) {
        regs[usize::from(self.dst)].merge(&[popc; LANES], self.mask);
        if self.to != Pred::TRUE {
            let pred = &mut preds[usize::from(self.to.0 & 7)];
            let lanes = if outcome { self.mask } else { 0 };
            *pred = *pred & !self.mask | lanes;
        }
    }

    /// Nobody else comes: the barrier opens at once, if it waits for no more threads than a warp
    /// has. `false`: it does not.
    pub fn open_alone(&self, cx: &mut Cx<'_>) -> bool {
        if !cx.cta.alone || self.threads > LANES as u32 {
            return false;
        }
        if self.mode != BarMode::Arrive {
            let popc = self.lanes.count_ones();
            let outcome = match self.mode {
                BarMode::And => self.lanes == self.mask,
                _ => popc != 0,
            };
            self.opened(popc, outcome, cx.regs, cx.preds);
        }
        true
    }
}

/// A pair of rows: 64 bits per lane.
#[derive(Clone, Copy)]
struct Pair<'a> {
    low: &'a [u32; LANES],
    high: &'a [u32; LANES],
}

impl Pair<'_> {
    #[inline(always)]
    fn get(self, lane: usize) -> u64 {
        u64::from(self.high[lane]) << 32 | u64::from(self.low[lane])
    }
}

impl Cx<'_> {
    /// A source's lanes.
    #[inline(always)]
    fn row(&self, at: RowRef) -> &[u32; LANES] {
        let index = usize::from(at.0 & !RowRef::UNIFORM);
        match at.0 & RowRef::UNIFORM != 0 {
            true => &self.uniform[index].0,
            false => &self.regs[index].0,
        }
    }

    /// The row `n` behind a source.
    #[inline(always)]
    fn row_at(&self, at: RowRef, n: u16) -> &[u32; LANES] {
        self.row(RowRef(at.0 + n))
    }

    #[inline(always)]
    fn pair(&self, at: RowRef) -> Pair<'_> {
        Pair {
            low: self.row(at),
            high: self.row_at(at, 1),
        }
    }

    /// Keeps the active lanes of a result.
    #[inline(always)]
    fn write(&mut self, dst: u16, values: &[u32; LANES]) {
        let mask = self.mask;
        self.regs[usize::from(dst)].merge(values, mask);
    }

    #[inline(always)]
    fn write_pair(&mut self, dst: u16, values: &[u64; LANES]) {
        let low = map(|lane| values[lane] as u32);
        let high = map(|lane| (values[lane] >> 32) as u32);
        self.write(dst, &low);
        self.write(dst + 1, &high);
    }

    #[inline(always)]
    fn map_b(&mut self, i: &Inst, f: impl Fn(u32) -> u32) {
        let b = self.row(i.src[1]);
        let out = map(|lane| f(b[lane]));
        self.write(i.dst, &out);
    }

    #[inline(always)]
    fn map_ab(&mut self, i: &Inst, f: impl Fn(u32, u32) -> u32) {
        let (a, b) = (self.row(i.src[0]), self.row(i.src[1]));
        let out = map(|lane| f(a[lane], b[lane]));
        self.write(i.dst, &out);
    }

    #[inline(always)]
    fn map_abc(&mut self, i: &Inst, f: impl Fn(u32, u32, u32) -> u32) {
        let (a, b, c) = (self.row(i.src[0]), self.row(i.src[1]), self.row(i.src[2]));
        let out = map(|lane| f(a[lane], b[lane], c[lane]));
        self.write(i.dst, &out);
    }

    /// a in the lanes of `first`, b in the others.
    #[inline(always)]
    fn select(&mut self, i: &Inst, first: u32) {
        let (a, b) = (self.row(i.src[0]), self.row(i.src[1]));
        let out = map(|lane| {
            if first & 1 << lane != 0 {
                a[lane]
            } else {
                b[lane]
            }
        });
        self.write(i.dst, &out);
    }

    /// Lanes where a predicate is true.
    #[inline(always)]
    fn pred(&self, source: PredSrc) -> u32 {
        self.preds[usize::from(source.pred.0 & 7)] ^ complement(source.not)
    }

    /// Sets a predicate in the active lanes.
    #[inline(always)]
    fn set_pred(&mut self, pred: Pred, lanes: u32) {
        if pred != Pred::TRUE {
            let old = &mut self.preds[usize::from(pred.0 & 7)];
            *old = *old & !self.mask | lanes & self.mask;
        }
    }
}

#[inline(always)]
fn complement(not: bool) -> u32 {
    if not { u32::MAX } else { 0 }
}

#[inline(always)]
fn combine(logic: Logic, a: u32, b: u32) -> u32 {
    match logic {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

/// Executes until something has to be done about the warp.
pub fn run<I: Isa>(isa: I, cx: &mut Cx<'_>, insts: &[Inst]) -> Halt {
    loop {
        if cx.budget <= 0 {
            return Halt::Budget;
        }
        cx.budget -= 1;
        if let Err(halt) = one(isa, cx, insts, cx.flow.pc) {
            return halt;
        }
    }
}

/// Executes the instruction at `at`.
///
/// # Errors
///
/// Something has to be done about the warp.
#[inline(always)]
pub fn one<I: Isa>(isa: I, cx: &mut Cx<'_>, insts: &[Inst], at: u32) -> Result<(), Halt> {
    // Places come from the program itself, which never gets shorter.
    let i = insts.get(at as usize).ok_or(WarpError::PcOverflow)?;
    let mask = guarded(cx, i);
    cx.flow.pc = i.next;
    if mask != 0 {
        cx.mask = mask;
        if let Err(halt) = step(isa, cx, i) {
            match halt {
                Halt::Trap(_) | Halt::Fault(_) | Halt::Code(_) => cx.flow.pc = at,
                // No lane is left behind by the instruction's own join.
                Halt::Barrier(_) if i.join => cx.flow.join(mask)?,
                _ => {}
            }
            return Err(halt);
        }
    }
    if i.join
        && let Err(error) = cx.flow.join(mask)
    {
        cx.flow.pc = at;
        return Err(error.into());
    }
    Ok(())
}

/// Lanes that execute an instruction.
#[inline(always)]
pub fn guarded(cx: &Cx<'_>, i: &Inst) -> u32 {
    cx.flow.active & (cx.preds[usize::from(i.guard & 7)] ^ complement(i.guard_not))
}

/// Executes an instruction for the lanes of `cx.mask`, of which there is at least one.
#[inline(always)]
fn step<I: Isa>(isa: I, cx: &mut Cx<'_>, i: &Inst) -> Result<(), Halt> {
    let op = match i.exec {
        Exec::Op(op) => op,
        Exec::Jump => {
            cx.flow.pc = i.target;
            return Ok(());
        }
        Exec::Trap(error) => return Err(error.into()),
        Exec::Missing => return Err(Halt::Code(i.target)),
    };
    match op {
        Op::FAdd(mode) => isa.call(|| single::add(cx, i, mode)),
        Op::FMul { mode, scale } => isa.call(|| single::mul(cx, i, mode, scale)),
        Op::FFma(mode) => isa.call(|| single::fma(cx, i, mode)),
        Op::FMinMax { min, ftz } => {
            let min = cx.pred(min);
            isa.call(|| single::min_max(cx, i, min, ftz));
        }
        Op::FSet {
            cond,
            ftz,
            combine,
            to,
        } => {
            let lanes = isa.call(|| single::set(cx, i, cond, ftz));
            isa.call(|| moves::set(cx, i, lanes, combine, to));
        }
        Op::FSlct { cond, ftz } => isa.call(|| single::slct(cx, i, cond, ftz)),
        Op::Rro => isa.call(|| function::rro(cx, i)),
        Op::Mufu { function, sat } => isa.call(|| function::mufu(cx, i, function, sat)),
        Op::QuadOp { ops, source, mode } => {
            isa.call(|| single::quad_op(cx, i, ops, source, mode));
        }
        Op::DAdd(round) => isa.call(|| double::add(cx, i, round)),
        Op::DMul(round) => isa.call(|| double::mul(cx, i, round)),
        Op::DFma(round) => isa.call(|| double::fma(cx, i, round)),
        Op::DMinMax { min } => {
            let min = cx.pred(min);
            isa.call(|| double::min_max(cx, i, min));
        }
        Op::DSet { cond, combine, to } => {
            let lanes = isa.call(|| double::set(cx, i, cond));
            isa.call(|| moves::set(cx, i, lanes, combine, to));
        }
        Op::IAdd { op, sat, carry_in } => {
            isa.call(|| integer::add(cx, i, op, sat, carry_in));
        }
        Op::IMul {
            high,
            signed_a,
            signed_b,
        } => isa.call(|| integer::mul(cx, i, high, signed_a, signed_b)),
        Op::IMad {
            high,
            signed_a,
            signed_b,
            op,
            sat,
            carry_in,
        } => {
            let mad = integer::Mad {
                high,
                signed_a,
                signed_b,
                op,
                sat,
                carry_in,
            };
            isa.call(|| integer::mad(cx, i, mad));
        }
        Op::ISad { signed } => isa.call(|| integer::sad(cx, i, signed)),
        Op::IShlAdd { shift, op } => isa.call(|| integer::shl_add(cx, i, shift, op)),
        Op::IMinMax { min, signed, part } => {
            let min = cx.pred(min);
            isa.call(|| integer::min_max(cx, i, min, signed, part));
        }
        Op::ISet {
            cond,
            signed,
            carry_in,
            combine,
            to,
        } => {
            let lanes = isa.call(|| integer::set(cx, i, cond, signed, carry_in));
            isa.call(|| moves::set(cx, i, lanes, combine, to));
        }
        Op::ISlct { cond, signed } => isa.call(|| integer::slct(cx, i, cond, signed)),
        Op::Shr {
            signed,
            wrap,
            reverse,
        } => isa.call(|| integer::shr(cx, i, signed, wrap, reverse)),
        Op::Shl { wrap } => isa.call(|| integer::shl(cx, i, wrap)),
        Op::Lop(op) => isa.call(|| integer::lop(cx, i, op)),
        Op::Bfe { signed, reverse } => isa.call(|| integer::bfe(cx, i, signed, reverse)),
        Op::Bfi => isa.call(|| integer::bfi(cx, i)),
        Op::Bfind {
            signed,
            shift_amount,
        } => isa.call(|| integer::bfind(cx, i, signed, shift_amount)),
        Op::Popc => isa.call(|| integer::popc(cx, i)),
        Op::Mov { lanes } => isa.call(|| moves::mov(cx, i, lanes)),
        Op::Sel { pred } => {
            let first = cx.pred(pred);
            isa.call(|| cx.select(i, first));
        }
        Op::Prmt { mode } => isa.call(|| integer::prmt(cx, i, mode)),
        Op::S2R { special } => moves::special(cx, i, special)?,
        Op::PSet {
            a,
            first,
            b,
            combine: with,
            to,
        } => {
            let lanes = combine(first, cx.pred(a), cx.pred(b));
            isa.call(|| moves::set(cx, i, lanes, with, to));
        }
        Op::F2F {
            to,
            from,
            round,
            integral,
            half,
            ftz,
            sat,
        } => {
            let cvt = convert::FloatToFloat {
                to,
                from,
                round,
                integral,
                half,
                ftz,
                sat,
            };
            isa.call(|| convert::float_to_float(cx, i, cvt));
        }
        Op::F2I {
            to,
            from,
            round,
            half,
            ftz,
        } => isa.call(|| convert::float_to_int(cx, i, to, from, round, half, ftz)),
        Op::I2F {
            to,
            from,
            round,
            byte,
        } => isa.call(|| convert::int_to_float(cx, i, to, from, round, byte)),
        Op::I2I {
            to,
            from,
            byte,
            sat,
        } => isa.call(|| convert::int_to_int(cx, i, to, from, byte, sat)),
        Op::Vote { mode, pred, to } => moves::vote(cx, i, mode, pred, to),
        Op::Bar { .. } => return Err(Halt::Barrier(moves::arrive(cx, i, op)?)),
        Op::Nop | Op::Fence => {}
        Op::LdGlobal { ty, wide, offset } => {
            isa.call(|| global::load(cx, i, ty, wide, offset))?;
        }
        Op::StGlobal { ty, wide, offset } => {
            isa.call(|| global::store(cx, i, ty, wide, offset))?;
        }
        Op::Ld { window, ty, offset } => isa.call(|| memory::load(cx, i, window, ty, offset))?,
        Op::St { window, ty, offset } => isa.call(|| memory::store(cx, i, window, ty, offset))?,
        Op::LdLock { ty, offset, locked } => memory::load_lock(cx, i, ty, offset, locked)?,
        Op::StUnlock { ty, offset } => memory::store_unlock(cx, i, ty, offset)?,
        Op::Ldc {
            ty,
            bank,
            offset,
            mode,
        } => constant::load(cx, i, ty, bank, offset, mode)?,
        Op::Atom {
            op,
            ty,
            wide,
            offset,
        } => atomic::atom(cx, i, op, ty, wide, offset)?,
        Op::SuLd { surface, ty } => surface::load(cx, i, surface, ty)?,
        Op::SuSt { surface, ty } => surface::store(cx, i, surface, ty)?,
        Op::SuStFormatted { surface, mask } => surface::store_formatted(cx, i, surface, mask)?,
        Op::SuLea {
            surface,
            ty,
            outside,
        } => surface::address(cx, i, surface, ty, outside)?,
        Op::Tex(tex) => texture::tex(cx, i, tex)?,
        Op::TexQuery {
            query,
            texture,
            indirect,
            mask,
        } => texture::query(cx, i, query, texture, indirect, mask)?,
        Op::Bra { target, uniform } => branch(cx, i, target, uniform)?,
        Op::Call { target } => {
            let to = find(cx, i, target)?;
            let back = cx.flow.pc;
            cx.flow.enter(Token::Return, back)?;
            cx.flow.pc = to;
        }
        Op::PushJoin { .. } => cx.flow.enter(Token::Join, i.target)?,
        Op::PushBreak { .. } => cx.flow.enter(Token::Break, i.target)?,
        Op::PushContinue { .. } => cx.flow.enter(Token::Continue, i.target)?,
        Op::PushReturn { .. } => cx.flow.enter(Token::Return, i.target)?,
        Op::Break => leave(cx, Token::Break)?,
        Op::Continue => leave(cx, Token::Continue)?,
        Op::Return => leave(cx, Token::Return)?,
        Op::Exit => {
            cx.flow.exit(cx.mask);
            if cx.flow.active == 0 {
                return Err(Halt::Exited);
            }
        }
        Op::QuadOn => cx.flow.quad_on()?,
        Op::QuadPop => cx.flow.quad_pop()?,
    }
    Ok(())
}

fn branch(cx: &mut Cx<'_>, i: &Inst, target: Target, uniform: bool) -> Result<(), Halt> {
    let to = find(cx, i, target)?;
    if uniform && cx.mask != cx.flow.active {
        return Ok(());
    }
    cx.flow.branch(cx.mask, to);
    Ok(())
}

/// The index that a transfer leads to.
fn find(cx: &Cx<'_>, i: &Inst, target: Target) -> Result<u32, Halt> {
    match target {
        Target::Address(_) => Ok(i.target),
        Target::Const { base, .. } => {
            let value = cx.row(i.src[0])[0];
            let address = base.map_or(value, |base| base.wrapping_add(value));
            cx.env.program.index(address).ok_or(Halt::Code(address))
        }
    }
}

fn leave(cx: &mut Cx<'_>, token: Token) -> Result<(), Halt> {
    cx.flow.leave(token, cx.mask)?;
    match cx.flow.active {
        0 => Err(Halt::Exited),
        _ => Ok(()),
    }
}
