//! Read-modify-write through the generic address space.

use std::sync::atomic::Ordering::Relaxed;

use super::{Cx, Halt, Inst, memory::Place, single::NAN};
use crate::memory::{Access, HostSpan};
use crate::sm::{
    decode::{AtomOp, AtomType},
    lanes::{LANES, each, map},
    launch::WarpError,
};

/// The new value; for a comparison `b` is what is expected and `c` what is stored then.
fn apply(op: AtomOp, ty: AtomType, old: u64, b: u64, c: u64) -> u64 {
    let (old32, b32) = (old as u32, b as u32);
    let signed = ty == AtomType::S32;
    match op {
        AtomOp::Add => match ty {
            AtomType::F32 => {
                let sum = f32::from_bits(old32) + f32::from_bits(b32);
                let bits = if sum.is_nan() { NAN } else { sum.to_bits() };
                bits.into()
            }
            AtomType::U64 => old.wrapping_add(b),
            _ => old32.wrapping_add(b32).into(),
        },
        AtomOp::Min if signed => ((old32 as i32).min(b32 as i32) as u32).into(),
        AtomOp::Max if signed => ((old32 as i32).max(b32 as i32) as u32).into(),
        AtomOp::Min => old.min(b),
        AtomOp::Max => old.max(b),
        AtomOp::Inc => match old32 >= b32 {
            true => 0,
            false => (old32 + 1).into(),
        },
        AtomOp::Dec => match old32 == 0 || old32 > b32 {
            true => b,
            false => (old32 - 1).into(),
        },
        AtomOp::And => old & b,
        AtomOp::Or => old | b,
        AtomOp::Xor => old ^ b,
        AtomOp::Exch => b,
        AtomOp::Cas => match old == b {
            true => c,
            false => old,
        },
    }
}

/// Does it in memory that others use at the same time; the old value.
fn in_memory(
    span: &HostSpan<'_>,
    op: AtomOp,
    ty: AtomType,
    b: u64,
    c: u64,
) -> Result<u64, WarpError> {
    if ty == AtomType::U64 {
        let word = span.atomic_u64(0).ok_or(WarpError::MisalignedAddr)?;
        let old = match op {
            AtomOp::Add => word.fetch_add(b, Relaxed),
            AtomOp::Exch => word.swap(b, Relaxed),
            _ => {
                let (Ok(old) | Err(old)) =
                    word.fetch_update(Relaxed, Relaxed, |old| Some(apply(op, ty, old, b, c)));
                old
            }
        };
        return Ok(old);
    }
    let word = span.atomic_u32(0).ok_or(WarpError::MisalignedAddr)?;
    let b32 = b as u32;
    let old = match (op, ty) {
        (AtomOp::Add, AtomType::U32 | AtomType::S32) => word.fetch_add(b32, Relaxed),
        (AtomOp::And, _) => word.fetch_and(b32, Relaxed),
        (AtomOp::Or, _) => word.fetch_or(b32, Relaxed),
        (AtomOp::Xor, _) => word.fetch_xor(b32, Relaxed),
        (AtomOp::Exch, _) => word.swap(b32, Relaxed),
        (AtomOp::Cas, _) => {
            let (Ok(old) | Err(old)) = word.compare_exchange(b32, c as u32, Relaxed, Relaxed);
            old
        }
        _ => {
            let (Ok(old) | Err(old)) = word.fetch_update(Relaxed, Relaxed, |old| {
                Some(apply(op, ty, old.into(), b, c) as u32)
            });
            old
        }
    };
    Ok(old.into())
}

pub fn atom(
    cx: &mut Cx<'_>,
    i: &Inst,
    op: AtomOp,
    ty: AtomType,
    wide: bool,
    offset: i32,
) -> Result<(), Halt> {
    let va = cx.addresses(i, wide, offset, Access::Write)?;
    let words = 1 + u32::from(ty == AtomType::U64);
    let source = |cx: &Cx<'_>, n: usize, lane: usize| -> u64 {
        let low = cx.row(i.src[n])[lane].into();
        match words {
            1 => low,
            _ => low | u64::from(cx.row_at(i.src[n], 1)[lane]) << 32,
        }
    };
    let mut old = [0; LANES];
    for lane in each(cx.mask) {
        let (b, c) = (source(cx, 1, lane), source(cx, 2, lane));
        if va[lane] % u64::from(4 * words) != 0 {
            return Err(WarpError::MisalignedAddr.into());
        }
        old[lane] = match cx.place(va[lane]) {
            Place::Virtual(va) => {
                let span = cx.client.page(cx.guard, va, Access::Write)?;
                in_memory(&span, op, ty, b, c)?
            }
            Place::Window(window, address) => {
                let mut value = 0;
                for n in 0..words {
                    let word = cx.window_load(window, address + 4 * n, lane)?;
                    value |= u64::from(word) << (32 * n);
                }
                let new = apply(op, ty, value, b, c);
                for n in 0..words {
                    let word = (new >> (32 * n)) as u32;
                    cx.window_store(window, address + 4 * n, lane, word, u32::MAX)?;
                }
                value
            }
        };
    }
    match words {
        1 => cx.write(i.dst, &map(|lane| old[lane] as u32)),
        _ => cx.write_pair(i.dst, &old),
    }
    Ok(())
}
