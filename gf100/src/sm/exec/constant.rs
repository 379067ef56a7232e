//! Indexed loads from constant buffers.

use super::{
    Cx, Halt, Inst,
    memory::{Words, extend},
};
use crate::sm::{
    decode::{LdcMode, MemType},
    lanes::{LANES, each, mask_of},
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
    let first = a[cx.mask.trailing_zeros() as usize % LANES];
    let same = cx.mask & mask_of(|lane| a[lane] != first) == 0;
    let mut rows = [[0; LANES]; 4];
    if same {
        let words = lane_load(cx, first, ty, bank, offset, mode)?;
        rows = words.map(|word| [word; LANES]);
    } else {
        for lane in each(cx.mask) {
            let words = lane_load(cx, a[lane], ty, bank, offset, mode)?;
            for (row, word) in rows.iter_mut().zip(words) {
                row[lane] = word;
            }
        }
    }
    for (n, row) in (0..ty.regs() as u16).zip(&rows) {
        cx.write(i.dst + n, row);
    }
    Ok(())
}

/// The words of one lane, whose register has `a`.
fn lane_load(
    cx: &mut Cx<'_>,
    a: u32,
    ty: MemType,
    bank: u8,
    offset: i32,
    mode: LdcMode,
) -> Result<Words, Halt> {
    let (bank, index) = match mode {
        LdcMode::Default => (u32::from(bank), a),
        LdcMode::Segmented => (u32::from(bank) + (a >> 16), a & 0xffff),
    };
    let address = index.wrapping_add_signed(offset);
    if address % ty.bytes() != 0 {
        return Err(WarpError::MisalignedAddr.into());
    }
    let mut words = [0; 4];
    for (n, word) in (0..ty.regs()).zip(&mut words) {
        let at = address.wrapping_add(4 * n);
        *word = cx.env.constants.word(cx.client, bank, at & !3)?;
    }
    words[0] = extend(ty, words[0] >> (8 * (address & 3)));
    Ok(words)
}
