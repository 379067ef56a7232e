//! Moves, predicates, votes, special registers and arrivals at barriers.

use super::{Arrival, Cx, Halt, Inst, combine};
use crate::sm::{
    decode::{Combine, Op, Pred, PredSrc, Reg, RegOrImm, SetTo, VoteMode},
    lanes::{LANES, map},
    launch::WarpError,
};

/// Every lane's bit of a quad's mask.
const QUADS: u32 = 0x1111_1111;

#[inline(always)]
pub fn mov(cx: &mut Cx<'_>, i: &Inst, lanes: u8) {
    cx.mask &= QUADS * u32::from(lanes & 0xf);
    cx.map_b(i, |b| b);
}

/// Combines a comparison's outcome with a predicate and leaves it where it belongs.
#[inline(always)]
pub fn set(cx: &mut Cx<'_>, i: &Inst, lanes: u32, with: Combine, to: SetTo) {
    let pred = cx.pred(with.with);
    let result = combine(with.logic, lanes, pred);
    let ones = match to {
        SetTo::Preds(first, second) => {
            let complement = combine(with.logic, !lanes, pred);
            cx.set_pred(first, result);
            cx.set_pred(second, complement);
            return;
        }
        SetTo::Mask => u32::MAX,
        SetTo::Float => 1f32.to_bits(),
    };
    let out = map(|lane| if result & 1 << lane != 0 { ones } else { 0 });
    cx.write(i.dst, &out);
}

pub fn vote(cx: &mut Cx<'_>, i: &Inst, mode: VoteMode, pred: PredSrc, to: Pred) {
    let ballot = cx.pred(pred) & cx.mask;
    let outcome = match mode {
        VoteMode::All => ballot == cx.mask,
        VoteMode::Any => ballot != 0,
        VoteMode::Uniform => ballot == 0 || ballot == cx.mask,
    };
    cx.write(i.dst, &[ballot; LANES]);
    cx.set_pred(to, super::complement(outcome));
}

/// What a special register holds.
///
/// Source: ENV `envydis/gf100.c sreg_sr`; Mesa `nv50_ir_emit_nvc0.cpp getSRegEncoding`.
pub fn special(cx: &mut Cx<'_>, i: &Inst, special: u8) -> Result<(), Halt> {
    const WINDOW: u32 = 1 << 24;
    let launch = &cx.env.launch;
    let lanes = |f: fn(u32) -> u32| Ok(map(|lane| f(lane as u32)));
    let all = |value: u32| Ok([value; LANES]);
    let multiprocessor = cx.cta.multiprocessor;
    let tids = &cx.env.tids[cx.warp as usize % cx.env.tids.len()];
    let out: Result<_, WarpError> = match special {
        0x00 => lanes(|lane| lane),
        // Warps of a multiprocessor, and multiprocessors.
        0x02 => all(48 << 8 | launch.multiprocessors << 20),
        0x03 => all(cx.warp << 8 | multiprocessor << 20),
        // Counters that nobody started.
        0x04..=0x0b => all(0),
        0x20..=0x23 => Ok(tids[usize::from(special - 0x20)].0),
        0x24 => all(launch.launch_arg),
        0x25..=0x27 => all(cx.cta.id[usize::from(special - 0x25)]),
        0x28 => {
            let [x, y, z] = launch.block;
            all(x | y << 16 | z << 26)
        }
        0x29..=0x2b => all(launch.block[usize::from(special - 0x29)]),
        0x2c => all(launch.grid_id),
        0x2d..=0x2f => all(launch.grid[usize::from(special - 0x2d)]),
        0x30 => all(launch.shared_base),
        0x31 | 0x35 => all(WINDOW),
        0x32 => all(launch.shared_size),
        0x34 => all(launch.local_base),
        0x36 => all(launch.local_pos_alloc),
        0x37 => all(WINDOW.wrapping_sub(launch.local_neg_alloc)),
        0x38 => lanes(|lane| 1 << lane),
        0x39 => lanes(|lane| (1 << lane) - 1),
        0x3a => lanes(|lane| u32::MAX >> (31 - lane)),
        0x3b => lanes(|lane| !(u32::MAX >> (31 - lane))),
        0x3c => lanes(|lane| !((1 << lane) - 1)),
        0x50 => all(cx.clock() as u32),
        0x51 => all((cx.clock() >> 32) as u32),
        _ => Err(WarpError::IllegalInstrParam),
    };
    let out = out?;
    cx.write(i.dst, &out);
    Ok(())
}

impl Cx<'_> {
    /// Instructions that warps of this CTA have executed.
    fn clock(&self) -> u64 {
        self.cta
            .clock_end
            .wrapping_add_signed(-i64::from(self.budget))
    }

    /// A number that is the same in all lanes, as far as the hardware is concerned.
    fn uniform(&self, value: RegOrImm) -> u32 {
        match value {
            RegOrImm::Imm(value) => value.into(),
            RegOrImm::Reg(reg) => self.register(reg, self.mask.trailing_zeros() as usize % LANES),
        }
    }

    /// A lane of a register that the program's check does not see.
    pub fn register(&self, reg: Reg, lane: usize) -> u32 {
        match reg {
            Reg::ZERO => 0,
            Reg(n) => self.regs.get(usize::from(n)).map_or(0, |row| row.0[lane]),
        }
    }
}

/// The arrival that a barrier instruction means.
pub fn arrive(cx: &Cx<'_>, i: &Inst, op: Op) -> Result<Arrival, Halt> {
    let Op::Bar {
        mode,
        id,
        count,
        pred,
        to,
    } = op
    else {
        return Err(WarpError::IllegalInstrEncoding.into());
    };
    let id = cx.uniform(id);
    if id > 15 {
        return Err(WarpError::IllegalInstrParam.into());
    }
    Ok(Arrival {
        id: id as u8,
        threads: cx.uniform(count),
        mode,
        lanes: cx.pred(pred) & cx.mask,
        mask: cx.mask,
        dst: i.dst,
        to,
    })
}
