//! Loads and stores: the generic address space, local and shared memory.

use super::{Cx, Halt, Inst};
use crate::memory::{Access, HostSpan};
use crate::sm::{
    decode::{MemType, Pred, Window},
    lanes::{LANES, Row, each, map, mask_of},
    launch::WarpError,
};

/// Bytes of the windows onto local and shared memory.
const WINDOW: u64 = 1 << 24;
/// Addresses of local and shared memory have this many bits.
const WINDOW_MASK: u32 = (1 << 24) - 1;

/// The words of one lane's access, lowest first.
pub type Words = [u32; 4];

/// What the upper bytes of a word are when less is loaded.
#[inline(always)]
fn extend(ty: MemType, value: u32) -> u32 {
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
    /// The addresses of an access through the generic address space, by lane.
    #[inline(always)]
    pub fn addresses(
        &self,
        i: &Inst,
        wide: bool,
        offset: i32,
        access: Access,
    ) -> Result<[u64; LANES], WarpError> {
        if wide {
            let a = self.pair(i.src[0]);
            return Ok(map(|lane| a.get(lane).wrapping_add_signed(offset.into())));
        }
        let a = self.row(i.src[0]);
        let ok = match access {
            Access::Read => 1 << 30,
            Access::Write => 1 << 31,
        };
        let base = &self.env.launch.global_base;
        let mut denied = 0;
        let addresses = map(|lane| {
            let address = a[lane].wrapping_add_signed(offset);
            let window = base[(address >> 24) as usize];
            denied |= u32::from(window & ok == 0) << lane;
            u64::from(window << 24 | address & WINDOW_MASK)
        });
        match denied & self.mask {
            0 => Ok(addresses),
            _ => Err(WarpError::InvalidAddrSpace),
        }
    }

    /// Lanes whose address is in the window onto local or shared memory.
    #[inline(always)]
    pub fn windowed(&self, va: &[u64; LANES]) -> u32 {
        let local = u64::from(self.env.launch.local_base);
        let shared = u64::from(self.env.launch.shared_base);
        self.mask
            & mask_of(|lane| {
                va[lane].wrapping_sub(local) < WINDOW || va[lane].wrapping_sub(shared) < WINDOW
            })
    }

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

    /// The index of a word of local memory, by its 24-bit address.
    fn local_word(&self, address: u32) -> Result<usize, WarpError> {
        let launch = &self.env.launch;
        let size = launch.local_pos_alloc + launch.local_neg_alloc;
        let at = address.wrapping_add(launch.local_neg_alloc) & WINDOW_MASK;
        match at < size {
            true => Ok(at as usize / 4),
            false => Err(WarpError::OorAddr),
        }
    }

    /// A word of local or shared memory.
    pub fn window_load(&self, window: Window, address: u32, lane: usize) -> Result<u32, WarpError> {
        match window {
            Window::Local => {
                let at = self.local_word(address)?;
                Ok(self.local.get(at).map_or(0, |row| row.0[lane]))
            }
            Window::Shared => {
                let words = &self.cta.shared;
                let at = (address & WINDOW_MASK) as usize / 4;
                words.get(at).copied().ok_or(WarpError::OorAddr)
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
    ) -> Result<(), WarpError> {
        let word = match window {
            Window::Local => {
                let at = self.local_word(address)?;
                &mut self.local_row(at).0[lane]
            }
            Window::Shared => {
                let at = (address & WINDOW_MASK) as usize / 4;
                self.cta.shared.get_mut(at).ok_or(WarpError::OorAddr)?
            }
        };
        *word = *word & !mask | value & mask;
        Ok(())
    }

    /// A row of local memory, to be written.
    fn local_row(&mut self, at: usize) -> &mut Row {
        if at >= self.local.len() {
            self.local.resize(at + 1, Row::ZERO);
        }
        &mut self.local[at]
    }

    /// One lane's load from a window.
    fn lane_load(
        &self,
        window: Window,
        ty: MemType,
        address: u32,
        lane: usize,
    ) -> Result<Words, WarpError> {
        if !address.is_multiple_of(ty.bytes()) {
            return Err(WarpError::MisalignedAddr);
        }
        let mut words = [0; 4];
        for (n, word) in words.iter_mut().take(ty.regs() as usize).enumerate() {
            *word = self.window_load(window, address.wrapping_add(4 * n as u32), lane)?;
        }
        words[0] = extend(ty, words[0] >> (8 * (address & 3)));
        Ok(words)
    }

    /// One lane's store to a window.
    fn lane_store(
        &mut self,
        window: Window,
        ty: MemType,
        address: u32,
        lane: usize,
        words: &Words,
    ) -> Result<(), WarpError> {
        if !address.is_multiple_of(ty.bytes()) {
            return Err(WarpError::MisalignedAddr);
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

/// Loads a lane's words from the start of a span that has them.
#[inline(always)]
fn span_load(span: &HostSpan<'_>, at: usize, ty: MemType) -> Option<Words> {
    let mut words = [0; 4];
    match ty {
        MemType::U8 | MemType::S8 => words[0] = extend(ty, span.load::<u8>(at)?.into()),
        MemType::U16 | MemType::S16 => words[0] = extend(ty, span.load::<u16>(at)?.into()),
        MemType::B32 => words[0] = span.load(at)?,
        MemType::B64 | MemType::B128 => {
            for n in 0..ty.regs() as usize / 2 {
                let pair = span.load::<u64>(at + 8 * n)?;
                words[2 * n] = pair as u32;
                words[2 * n + 1] = (pair >> 32) as u32;
            }
        }
    }
    Some(words)
}

/// Stores a lane's words at the start of a span; `false` if it does not have the room.
#[inline(always)]
fn span_store(span: &HostSpan<'_>, at: usize, ty: MemType, words: &Words) -> bool {
    let pair = |n: usize| u64::from(words[n + 1]) << 32 | u64::from(words[n]);
    match ty {
        MemType::U8 | MemType::S8 => span.store(at, words[0] as u8),
        MemType::U16 | MemType::S16 => span.store(at, words[0] as u16),
        MemType::B32 => span.store(at, words[0]),
        MemType::B64 => span.store(at, pair(0)),
        MemType::B128 => span.store(at, pair(0)) && span.store(at + 8, pair(2)),
    }
}

/// How the active lanes' addresses lie.
struct Extent {
    lowest: u64,
    /// Of the lowest address from that of lane 0: all lanes follow each other.
    contiguous: bool,
    /// Bytes from the lowest address to the end of the highest access.
    bytes: u64,
}

#[inline(always)]
fn extent(va: &[u64; LANES], mask: u32, bytes: u32) -> Result<Extent, WarpError> {
    let first = va[mask.trailing_zeros() as usize % LANES];
    // Inactive lanes do as the first active one.
    let va = match mask {
        u32::MAX => *va,
        _ => map(|lane| {
            if mask & 1 << lane != 0 {
                va[lane]
            } else {
                first
            }
        }),
    };
    let low_bits = va.iter().fold(0, |bits, va| bits | va);
    if low_bits & u64::from(bytes - 1) != 0 {
        return Err(WarpError::MisalignedAddr);
    }
    let steps = va.iter().enumerate().fold(0, |bits, (lane, va)| {
        bits | (va.wrapping_sub(first) ^ (lane as u64 * u64::from(bytes)))
    });
    if steps == 0 && mask == u32::MAX {
        return Ok(Extent {
            lowest: first,
            contiguous: true,
            bytes: LANES as u64 * u64::from(bytes),
        });
    }
    // Distances from the first lane, which are small unless pages are far apart.
    let lowest = va.iter().fold(first, |low, va| low.min(*va));
    let highest = va.iter().fold(first, |high, va| high.max(*va));
    Ok(Extent {
        lowest,
        contiguous: false,
        bytes: (highest - lowest).saturating_add(bytes.into()),
    })
}

#[inline(always)]
pub fn load_global(
    cx: &mut Cx<'_>,
    i: &Inst,
    ty: MemType,
    wide: bool,
    offset: i32,
) -> Result<(), Halt> {
    let va = cx.addresses(i, wide, offset, Access::Read)?;
    let extent = extent(&va, cx.mask, ty.bytes())?;
    if cx.windowed(&va) != 0 {
        return load_mixed(cx, i, ty, &va);
    }
    let span = cx.client.page(cx.guard, extent.lowest, Access::Read)?;
    if (span.len() as u64) < extent.bytes {
        return load_mixed(cx, i, ty, &va);
    }
    if extent.contiguous && ty == MemType::B32 {
        let mut bytes = [0; 4 * LANES];
        span.copy_to(&mut bytes);
        let out = words_of(&bytes);
        cx.write(i.dst, &out);
        return Ok(());
    }
    if ty == MemType::B32 {
        let mut out = cx.regs[usize::from(i.dst)].0;
        for lane in each(cx.mask) {
            let at = (va[lane] - extent.lowest) as usize;
            out[lane] = span.load(at).unwrap_or(0);
        }
        cx.regs[usize::from(i.dst)].0 = out;
        return Ok(());
    }
    let mut words = [[0; 4]; LANES];
    for lane in each(cx.mask) {
        let at = (va[lane] - extent.lowest) as usize;
        words[lane] = span_load(&span, at, ty).unwrap_or_default();
    }
    cx.write_words(i.dst, ty, &words);
    Ok(())
}

#[inline(always)]
fn words_of(bytes: &[u8; 4 * LANES]) -> [u32; LANES] {
    map(|lane| u32::from_le_bytes([0, 1, 2, 3].map(|n| bytes[4 * lane + n])))
}

#[inline(always)]
fn bytes_of(words: &[u32; LANES]) -> [u8; 4 * LANES] {
    let mut bytes = [0; 4 * LANES];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// Lane by lane: pages of their own, or windows.
#[cold]
#[inline(never)]
fn load_mixed(cx: &mut Cx<'_>, i: &Inst, ty: MemType, va: &[u64; LANES]) -> Result<(), Halt> {
    let mut words = [[0; 4]; LANES];
    for lane in each(cx.mask) {
        words[lane] = match cx.place(va[lane]) {
            Place::Window(window, address) => cx.lane_load(window, ty, address, lane)?,
            // Aligned accesses do not cross pages.
            Place::Virtual(va) => {
                let span = cx.client.page(cx.guard, va, Access::Read)?;
                span_load(&span, 0, ty).ok_or(WarpError::MisalignedAddr)?
            }
        };
    }
    cx.write_words(i.dst, ty, &words);
    Ok(())
}

#[inline(always)]
pub fn store_global(
    cx: &mut Cx<'_>,
    i: &Inst,
    ty: MemType,
    wide: bool,
    offset: i32,
) -> Result<(), Halt> {
    let va = cx.addresses(i, wide, offset, Access::Write)?;
    let extent = extent(&va, cx.mask, ty.bytes())?;
    if cx.windowed(&va) != 0 {
        return store_mixed(cx, i, ty, &va);
    }
    let span = cx.client.page(cx.guard, extent.lowest, Access::Write)?;
    if (span.len() as u64) < extent.bytes {
        return store_mixed(cx, i, ty, &va);
    }
    if extent.contiguous && ty == MemType::B32 {
        span.copy_from(&bytes_of(cx.row(i.src[1])));
        return Ok(());
    }
    for lane in each(cx.mask) {
        let at = (va[lane] - extent.lowest) as usize;
        let words = cx.data(i, ty, lane);
        // It has the room and may be written, or there would be no such span.
        let _stored = span_store(&span, at, ty, &words);
    }
    Ok(())
}

#[cold]
#[inline(never)]
fn store_mixed(cx: &mut Cx<'_>, i: &Inst, ty: MemType, va: &[u64; LANES]) -> Result<(), Halt> {
    for lane in each(cx.mask) {
        let words = cx.data(i, ty, lane);
        match cx.place(va[lane]) {
            Place::Window(window, address) => cx.lane_store(window, ty, address, lane, &words)?,
            Place::Virtual(va) => {
                let span = cx.client.page(cx.guard, va, Access::Write)?;
                if !span_store(&span, 0, ty, &words) {
                    return Err(WarpError::MisalignedAddr.into());
                }
            }
        }
    }
    Ok(())
}

/// Addresses of local or shared memory, by lane.
#[inline(always)]
fn window_addresses(cx: &Cx<'_>, i: &Inst, offset: i32) -> [u32; LANES] {
    let a = cx.row(i.src[0]);
    map(|lane| a[lane].wrapping_add_signed(offset))
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
    if ty == MemType::B32 {
        match window {
            Window::Shared => {
                if let Some(out) = gather_shared(cx, &addresses) {
                    cx.write(i.dst, &out);
                    return Ok(());
                }
            }
            Window::Local => {
                if let Some(at) = same_local_word(cx, &addresses)? {
                    let out = cx.local.get(at).map_or([0; LANES], |row| row.0);
                    cx.write(i.dst, &out);
                    return Ok(());
                }
            }
        }
    }
    let mut words = [[0; 4]; LANES];
    for lane in each(cx.mask) {
        words[lane] = cx.lane_load(window, ty, addresses[lane], lane)?;
    }
    cx.write_words(i.dst, ty, &words);
    Ok(())
}

/// A word of shared memory for each lane, if all addresses are fine.
#[inline(always)]
fn gather_shared(cx: &Cx<'_>, addresses: &[u32; LANES]) -> Option<[u32; LANES]> {
    let shared = &cx.cta.shared[..];
    // Inactive lanes read what is at 0.
    let mask = cx.mask;
    let at = map(|lane| {
        if mask & 1 << lane != 0 {
            addresses[lane] & WINDOW_MASK
        } else {
            0
        }
    });
    let bits = at.iter().fold(0, |bits, at| bits | at);
    let highest = at.iter().fold(0, |high, at| high.max(*at));
    if bits & 3 != 0 || highest as usize / 4 >= shared.len() {
        return None;
    }
    Some(map(|lane| shared[at[lane] as usize / 4]))
}

/// The word of local memory that all active lanes mean, if it is one.
#[inline(always)]
fn same_local_word(cx: &Cx<'_>, addresses: &[u32; LANES]) -> Result<Option<usize>, WarpError> {
    let first = addresses[cx.mask.trailing_zeros() as usize % LANES];
    let others = cx.mask & mask_of(|lane| addresses[lane] != first);
    match others == 0 && first.is_multiple_of(4) {
        true => cx.local_word(first).map(Some),
        false => Ok(None),
    }
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
    if ty == MemType::B32 {
        match window {
            Window::Shared => {
                let data = *cx.row(i.src[1]);
                let shared = &mut cx.cta.shared;
                for lane in each(cx.mask) {
                    let at = addresses[lane] & WINDOW_MASK;
                    if !at.is_multiple_of(4) {
                        return Err(WarpError::MisalignedAddr.into());
                    }
                    *shared.get_mut(at as usize / 4).ok_or(WarpError::OorAddr)? = data[lane];
                }
                return Ok(());
            }
            Window::Local => {
                if let Some(at) = same_local_word(cx, &addresses)? {
                    let (data, mask) = (*cx.row(i.src[1]), cx.mask);
                    cx.local_row(at).merge(&data, mask);
                    return Ok(());
                }
            }
        }
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
