//! Indexed loads from constant buffers.

use super::{Cx, Halt, Inst};
use crate::sm::{
    decode::{LdcMode, MemType},
    lanes::{LANES, each, map},
    launch::WarpError,
};

/// Loads; what is behind a buffer's end is 0.
///
/// Source: Mesa `nv50_ir_lowering_nvc0.cpp handleLDST` for the segmented mode.
pub fn load(
    cx: &mut Cx<'_>,
    i: &Inst,
    ty: MemType,
    bank: u8,
    offset: i32,
    mode: LdcMode,
) -> Result<(), Halt> {
    let a = *cx.row(i.src[0]);
    let mut rows = [[0; LANES]; 4];
    for lane in each(cx.mask) {
        let (bank, index) = match mode {
            LdcMode::Default => (u32::from(bank), a[lane]),
            LdcMode::Segmented => (u32::from(bank) + (a[lane] >> 16), a[lane] & 0xffff),
        };
        let address = index.wrapping_add_signed(offset);
        if address % ty.bytes() != 0 {
            return Err(WarpError::MisalignedAddr.into());
        }
        for (n, row) in rows.iter_mut().take(ty.regs() as usize).enumerate() {
            let at = address.wrapping_add(4 * n as u32);
            row[lane] = cx.env.constants.word(cx.client, bank, at & !3)?;
        }
        let word = rows[0][lane] >> (8 * (address & 3));
        rows[0][lane] = match ty {
            MemType::U8 => word & 0xff,
            MemType::S8 => word as i8 as u32,
            MemType::U16 => word & 0xffff,
            MemType::S16 => word as i16 as u32,
            _ => word,
        };
    }
    for n in 0..ty.regs() as u16 {
        let row = map(|lane| rows[usize::from(n)][lane]);
        cx.write(i.dst + n, &row);
    }
    Ok(())
}
