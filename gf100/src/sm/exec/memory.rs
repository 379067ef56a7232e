//! Loads and stores of local and shared memory.

use super::{Cx, Halt, Inst};
use crate::memory::{Access, HostSpan};
use crate::sm::{
    decode::{MemType, Pred, Window},
    lanes::{LANES, each, for_each, map, mask_of},
    launch::WarpError,
};

/// Bytes of the windows onto local and shared memory.
pub const WINDOW: u64 = 1 << 24;
/// Bytes of a word of local memory, of all lanes of a warp.
const ROW_BYTES: u64 = 4 * LANES as u64;
/// Addresses of local and shared memory have this many bits.
pub const WINDOW_MASK: u32 = (1 << 24) - 1;

/// The words of one lane's access, lowest first.
pub type Words = [u32; 4];

/// What the upper bytes of a word are when less is loaded.
#[inline(always)]
pub fn extend(ty: MemType, value: u32) -> u32 {
    match ty {
        MemType::U8 => value & 0xff,
        MemType::S8 => value as i8 as u32,
        MemType::U16 => value & 0xffff,
        MemType::S16 => value as i16 as u32,
        _ => value,
    }
}

/// Where an address of the generic address space leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Into a window, at this address of the memory behind it.
    Window(Window, u32),
    /// To the MMU.
    Virtual(u64),
}

impl Cx<'_> {
    /// Where an address leads.
    pub fn place(&self, va: u64) -> Place {
        let local = va.wrapping_sub(self.env.launch.local_base.into());
        let shared = va.wrapping_sub(self.env.launch.shared_base.into());
        match (local < WINDOW, shared < WINDOW) {
            (true, _) => Place::Window(Window::Local, local as u32),
            (_, true) => Place::Window(Window::Shared, shared as u32),
            _ => Place::Virtual(va),
        }
    }

    /// The virtual address of a word of local memory, of all lanes, by its 24-bit address.
    fn local_row(&self, address: u32) -> Result<u64, WarpError> {
        let launch = &self.env.launch;
        let size = launch.local_pos_alloc + launch.local_neg_alloc;
        let at = address.wrapping_add(launch.local_neg_alloc) & WINDOW_MASK;
        match at < size {
            true => Ok(self.local.wrapping_add(u64::from(at / 4) * ROW_BYTES)),
            false => Err(WarpError::OorAddr),
        }
    }

    /// A lane's word of local memory, to be accessed as `access` says.
    fn local_word(
        &mut self,
        address: u32,
        lane: usize,
        access: Access,
    ) -> Result<HostSpan<'_>, Halt> {
        let va = self.local_row(address)?.wrapping_add(4 * lane as u64);
        Ok(self.client.page(self.guard, va, access)?)
    }

    /// A word of local or shared memory.
    pub fn window_load(&mut self, window: Window, address: u32, lane: usize) -> Result<u32, Halt> {
        match window {
            Window::Local => {
                let word = self.local_word(address, lane, Access::Read)?;
                // Rows do not cross pages.
                Ok(word.load(0).unwrap_or(0))
            }
            Window::Shared => {
                let words = &self.cta.shared;
                let at = (address & WINDOW_MASK) as usize / 4;
                Ok(words.get(at).copied().ok_or(WarpError::OorAddr)?)
            }
        }
    }

    /// Replaces the bits of `mask` in a word of local or shared memory.
    pub fn window_store(
        &mut self,
        window: Window,
        address: u32,
        lane: usize,
        value: u32,
        mask: u32,
    ) -> Result<(), Halt> {
        match window {
            Window::Local => {
                let word = self.local_word(address, lane, Access::Write)?;
                let old = word.load(0).unwrap_or(0);
                // The page has the row and may be written, or there would be none.
                let _stored = word.store(0, old & !mask | value & mask);
            }
            Window::Shared => {
                let at = (address & WINDOW_MASK) as usize / 4;
                let word = self.cta.shared.get_mut(at).ok_or(WarpError::OorAddr)?;
                *word = *word & !mask | value & mask;
            }
        }
        Ok(())
    }

    /// One lane's load from a window.
    pub fn lane_load(
        &mut self,
        window: Window,
        ty: MemType,
        address: u32,
        lane: usize,
    ) -> Result<Words, Halt> {
        if !address.is_multiple_of(ty.bytes()) {
            return Err(WarpError::MisalignedAddr.into());
        }
        let mut words = [0; 4];
        for (n, word) in words.iter_mut().take(ty.regs() as usize).enumerate() {
            *word = self.window_load(window, address.wrapping_add(4 * n as u32), lane)?;
        }
        words[0] = extend(ty, words[0] >> (8 * (address & 3)));
        Ok(words)
    }

    /// One lane's store to a window.
    pub fn lane_store(
        &mut self,
        window: Window,
        ty: MemType,
        address: u32,
        lane: usize,
        words: &Words,
    ) -> Result<(), Halt> {
        if !address.is_multiple_of(ty.bytes()) {
            return Err(WarpError::MisalignedAddr.into());
        }
        let shift = 8 * (address & 3);
        match ty {
            MemType::U8 | MemType::S8 => {
                self.window_store(window, address, lane, words[0] << shift, 0xff << shift)
            }
            MemType::U16 | MemType::S16 => {
                self.window_store(window, address, lane, words[0] << shift, 0xffff << shift)
            }
            _ => {
                for (n, word) in words.iter().take(ty.regs() as usize).enumerate() {
                    let at = address.wrapping_add(4 * n as u32);
                    self.window_store(window, at, lane, *word, u32::MAX)?;
                }
                Ok(())
            }
        }
    }

    /// The words that a lane stores.
    pub fn data(&self, i: &Inst, ty: MemType, lane: usize) -> Words {
        let mut words = [0; 4];
        for (n, word) in words.iter_mut().take(ty.regs() as usize).enumerate() {
            *word = self.row_at(i.src[1], n as u16)[lane];
        }
        words
    }

    /// Keeps what active lanes have loaded, which leaves the others as they were.
    pub fn write_words(&mut self, dst: u16, ty: MemType, words: &[Words; LANES]) {
        for n in 0..ty.regs() as u16 {
            let row = map(|lane| words[lane][usize::from(n)]);
            self.write(dst + n, &row);
        }
    }
}

/// The words of a lane that are in memory like this.
pub fn words_from(ty: MemType, bytes: &[u8; 16]) -> Words {
    let mut words = [0, 1, 2, 3].map(|n| {
        let word = [0, 1, 2, 3].map(|byte| bytes[4 * n + byte]);
        u32::from_le_bytes(word)
    });
    words[0] = extend(ty, words[0]);
    words
}

/// Addresses of local or shared memory, by lane.
#[inline(always)]
fn window_addresses(cx: &Cx<'_>, i: &Inst, offset: i32) -> [u32; LANES] {
    let a = cx.row(i.src[0]);
    map(|lane| a[lane].wrapping_add_signed(offset))
}

/// The words of shared memory that lanes mean, if all addresses are fine: of each its first, inactive
/// lanes do as an active one.
#[inline(always)]
fn shared_words(cx: &Cx<'_>, addresses: &[u32; LANES], ty: MemType) -> Option<[u32; LANES]> {
    let mask = cx.mask;
    let first = addresses[mask.trailing_zeros() as usize % LANES];
    let at = map(|lane| {
        let address = if mask & 1 << lane != 0 {
            addresses[lane]
        } else {
            first
        };
        address & WINDOW_MASK
    });
    let bits = at.iter().fold(0, |bits, at| bits | at);
    let highest = at.iter().fold(0, |high, at| high.max(*at));
    let end = (highest + ty.bytes()) as usize / 4;
    let fine = bits & (ty.bytes() - 1) == 0 && end <= cx.cta.shared.len();
    fine.then(|| map(|lane| at[lane] / 4))
}

/// The virtual address of the first word of local memory that all active lanes mean, if it is the
/// same and they are all there.
#[inline(always)]
fn same_local_word(
    cx: &Cx<'_>,
    addresses: &[u32; LANES],
    ty: MemType,
) -> Result<Option<u64>, WarpError> {
    let first = addresses[cx.mask.trailing_zeros() as usize % LANES];
    let others = cx.mask & mask_of(|lane| addresses[lane] != first);
    if others != 0 || !first.is_multiple_of(ty.bytes()) {
        return Ok(None);
    }
    cx.local_row(first.wrapping_add(ty.bytes() - 4))?;
    cx.local_row(first).map(Some)
}

/// Whole words, which have faster ways than bytes.
fn is_words(ty: MemType) -> bool {
    matches!(ty, MemType::B32 | MemType::B64 | MemType::B128)
}

#[inline(always)]
pub fn load(
    cx: &mut Cx<'_>,
    i: &Inst,
    window: Window,
    ty: MemType,
    offset: i32,
) -> Result<(), Halt> {
    let addresses = window_addresses(cx, i, offset);
    match window {
        Window::Shared if is_words(ty) => {
            if let Some(at) = shared_words(cx, &addresses, ty) {
                for n in 0..ty.regs() as u16 {
                    let shared = &cx.cta.shared;
                    let out = map(|lane| shared[at[lane] as usize + usize::from(n)]);
                    cx.write(i.dst + n, &out);
                }
                return Ok(());
            }
        }
        Window::Local if is_words(ty) => {
            if let Some(at) = same_local_word(cx, &addresses, ty)? {
                for n in 0..ty.regs() as u16 {
                    let va = at.wrapping_add(u64::from(n) * ROW_BYTES);
                    let row = cx.client.page(cx.guard, va, Access::Read)?;
                    let out = row.load_words::<LANES>(0).unwrap_or([0; LANES]);
                    cx.write(i.dst + n, &out);
                }
                return Ok(());
            }
        }
        _ => {}
    }
    let mut words = [[0; 4]; LANES];
    for lane in each(cx.mask) {
        words[lane] = cx.lane_load(window, ty, addresses[lane], lane)?;
    }
    cx.write_words(i.dst, ty, &words);
    Ok(())
}

#[inline(always)]
pub fn store(
    cx: &mut Cx<'_>,
    i: &Inst,
    window: Window,
    ty: MemType,
    offset: i32,
) -> Result<(), Halt> {
    let addresses = window_addresses(cx, i, offset);
    match window {
        Window::Shared if is_words(ty) => {
            if let Some(at) = shared_words(cx, &addresses, ty) {
                for n in 0..ty.regs() as u16 {
                    let data = *cx.row_at(i.src[1], n);
                    let shared = &mut cx.cta.shared;
                    for_each(cx.mask, |lane| {
                        shared[at[lane] as usize + usize::from(n)] = data[lane];
                    });
                }
                return Ok(());
            }
        }
        Window::Local if is_words(ty) => {
            if let Some(at) = same_local_word(cx, &addresses, ty)? {
                for n in 0..ty.regs() as u16 {
                    let (data, mask) = (*cx.row_at(i.src[1], n), cx.mask);
                    let va = at.wrapping_add(u64::from(n) * ROW_BYTES);
                    let row = cx.client.page(cx.guard, va, Access::Write)?;
                    // The page has the row and may be written, or there would be none.
                    if mask == u32::MAX {
                        let _stored = row.store_words(0, &data);
                    } else {
                        for_each(mask, |lane| {
                            let _stored = row.store(4 * lane, data[lane]);
                        });
                    }
                }
                return Ok(());
            }
        }
        _ => {}
    }
    for lane in each(cx.mask) {
        let words = cx.data(i, ty, lane);
        cx.lane_store(window, ty, addresses[lane], lane, &words)?;
    }
    Ok(())
}

/// Loads, and locks the word for one lane of those that want it.
///
/// A lane gets the lock if nobody has it: the lowest wins, the others are told to try again.
pub fn load_lock(
    cx: &mut Cx<'_>,
    i: &Inst,
    ty: MemType,
    offset: i32,
    locked: Pred,
) -> Result<(), Halt> {
    let addresses = window_addresses(cx, i, offset);
    let mut words = [[0; 4]; LANES];
    let mut got = 0;
    for lane in each(cx.mask) {
        words[lane] = cx.lane_load(Window::Shared, ty, addresses[lane], lane)?;
        let word = (addresses[lane] & WINDOW_MASK) as usize / 4;
        got |= u32::from(cx.cta.lock(word)) << lane;
    }
    cx.write_words(i.dst, ty, &words);
    cx.set_pred(locked, got);
    Ok(())
}

/// Stores, and unlocks the word.
pub fn store_unlock(cx: &mut Cx<'_>, i: &Inst, ty: MemType, offset: i32) -> Result<(), Halt> {
    let addresses = window_addresses(cx, i, offset);
    for lane in each(cx.mask) {
        let words = cx.data(i, ty, lane);
        cx.lane_store(Window::Shared, ty, addresses[lane], lane, &words)?;
        cx.cta.unlock((addresses[lane] & WINDOW_MASK) as usize / 4);
    }
    Ok(())
}
