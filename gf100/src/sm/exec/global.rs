//! Loads and stores through the generic address space.
//!
//! What the active lanes access mostly lies within a page: one look into the TLB serves them all.
//! Everything else goes lane by lane.

use super::{
    Cx, Halt, Inst,
    memory::{Place, WINDOW, WINDOW_MASK, Words, extend},
};
use crate::memory::{Access, HostSpan};
use crate::sm::{
    decode::MemType,
    lanes::{LANES, each, for_each, map},
    launch::WarpError,
};

/// Addresses of an access that lie close together.
struct Cluster {
    lowest: u64,
    /// Bytes from the lowest address to the end of the highest access.
    bytes: u64,
    /// Of each lane from the lowest address; inactive ones do as an active one.
    offsets: [u32; LANES],
    /// All lanes are active, and each follows the one before it.
    contiguous: bool,
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

    /// The addresses of an access of `len` bytes per lane, if they lie close together and outside
    /// of the windows onto local and shared memory.
    #[inline(always)]
    fn cluster(&self, i: &Inst, offset: i32, len: u32) -> Option<Cluster> {
        let (mask, row) = (self.mask, self.row(i.src[0]));
        let high = self.row_at(i.src[0], 1);
        let first = mask.trailing_zeros() as usize % LANES;
        let (low, differ) = match mask {
            u32::MAX => (*row, high.iter().fold(0, |bits, x| bits | x ^ high[first])),
            _ => {
                let active = |lane: usize| mask & 1 << lane != 0;
                let low = map(|lane| if active(lane) { row[lane] } else { row[first] });
                let differ = map(|lane| {
                    if active(lane) {
                        high[lane] ^ high[first]
                    } else {
                        0
                    }
                });
                (low, differ.iter().fold(0, |bits, x| bits | x))
            }
        };
        if differ != 0 {
            return None;
        }
        let least = low.iter().fold(u32::MAX, |least, x| least.min(*x));
        let most = low.iter().fold(0, |most, x| most.max(*x));
        let offsets = map(|lane| low[lane].wrapping_sub(least));
        let bits = offsets.iter().fold(0, |bits, x| bits | x);
        let lowest =
            (u64::from(high[first]) << 32 | u64::from(least)).wrapping_add_signed(offset.into());
        if (bits | lowest as u32) & (len - 1) != 0 {
            // Lane by lane, so that the first that fails is the one that counts.
            return None;
        }
        let bytes = u64::from(most - least) + u64::from(len);
        let launch = &self.env.launch;
        let windows = [launch.local_base, launch.shared_base].map(u64::from);
        let apart = |window: u64| {
            lowest >= window + WINDOW || lowest.wrapping_add(bytes) <= window && lowest < window
        };
        if !windows.into_iter().all(apart) {
            return None;
        }
        let steps = offsets
            .iter()
            .enumerate()
            .fold(0, |bits, (lane, at)| bits | (at ^ (lane as u32 * len)));
        Some(Cluster {
            lowest,
            bytes,
            offsets,
            contiguous: steps == 0 && mask == u32::MAX,
        })
    }

    /// Those addresses, and the memory there if it is one page and may be accessed so.
    #[inline(always)]
    fn clustered(
        &mut self,
        i: &Inst,
        wide: bool,
        offset: i32,
        len: u32,
        access: Access,
    ) -> Option<(Cluster, HostSpan<'_>)> {
        if !wide {
            return None;
        }
        let cluster = self.cluster(i, offset, len)?;
        let span = self.client.page(self.guard, cluster.lowest, access).ok()?;
        (span.len() as u64 >= cluster.bytes).then_some((cluster, span))
    }
}

impl Cx<'_> {
    /// One lane's load through the generic address space.
    pub fn load_generic(&mut self, ty: MemType, va: u64, lane: usize) -> Result<Words, Halt> {
        if !va.is_multiple_of(ty.bytes().into()) {
            return Err(WarpError::MisalignedAddr.into());
        }
        match self.place(va) {
            Place::Window(window, address) => self.lane_load(window, ty, address, lane),
            // Aligned accesses do not cross pages.
            Place::Virtual(va) => {
                let span = self.client.page(self.guard, va, Access::Read)?;
                Ok(span_load(&span, ty).ok_or(WarpError::MisalignedAddr)?)
            }
        }
    }

    /// One lane's store through the generic address space.
    pub fn store_generic(
        &mut self,
        ty: MemType,
        va: u64,
        lane: usize,
        words: &Words,
    ) -> Result<(), Halt> {
        if !va.is_multiple_of(ty.bytes().into()) {
            return Err(WarpError::MisalignedAddr.into());
        }
        match self.place(va) {
            Place::Window(window, address) => self.lane_store(window, ty, address, lane, words)?,
            Place::Virtual(va) => {
                let span = self.client.page(self.guard, va, Access::Write)?;
                if !span_store(&span, ty, words) {
                    return Err(WarpError::MisalignedAddr.into());
                }
            }
        }
        Ok(())
    }
}

/// Words of all lanes, by register.
type Rows = [[u32; LANES]; 4];

/// What all lanes have from a span, `N` words each, one after the other.
#[inline(always)]
fn contiguous<const N: usize, const WORDS: usize>(span: &HostSpan<'_>) -> Option<Rows> {
    const { assert!(WORDS == N * LANES) };
    let words = span.load_words::<WORDS>(0)?;
    let mut rows = [[0; LANES]; 4];
    for (n, row) in rows.iter_mut().take(N).enumerate() {
        *row = map(|lane| words[N * lane + n]);
    }
    Some(rows)
}

/// What each lane has from its place in a span.
#[inline(always)]
fn scattered(span: &HostSpan<'_>, cluster: &Cluster, ty: MemType) -> Rows {
    let mut rows = [[0; LANES]; 4];
    let word = |lane: usize, n: usize| {
        // The span has them all.
        span.load(cluster.offsets[lane] as usize + 4 * n)
            .unwrap_or(0)
    };
    match ty {
        MemType::U8 | MemType::S8 => {
            rows[0] = map(|lane| {
                let byte = span.load::<u8>(cluster.offsets[lane] as usize);
                extend(ty, byte.unwrap_or(0).into())
            });
        }
        MemType::U16 | MemType::S16 => {
            rows[0] = map(|lane| {
                let half = span.load::<u16>(cluster.offsets[lane] as usize);
                extend(ty, half.unwrap_or(0).into())
            });
        }
        MemType::B32 => rows[0] = map(|lane| word(lane, 0)),
        MemType::B64 | MemType::B128 => {
            for pair in 0..ty.regs() as usize / 2 {
                let words = map(|lane| {
                    let at = cluster.offsets[lane] as usize + 8 * pair;
                    span.load::<u64>(at).unwrap_or(0)
                });
                rows[2 * pair] = map(|lane| words[lane] as u32);
                rows[2 * pair + 1] = map(|lane| (words[lane] >> 32) as u32);
            }
        }
    }
    rows
}

#[inline(always)]
pub fn load(cx: &mut Cx<'_>, i: &Inst, ty: MemType, wide: bool, offset: i32) -> Result<(), Halt> {
    let found = cx.clustered(i, wide, offset, ty.bytes(), Access::Read);
    let Some((cluster, span)) = found else {
        return load_lanes(cx, i, ty, wide, offset);
    };
    let whole = match (cluster.contiguous, ty) {
        (true, MemType::B32) => contiguous::<1, 32>(&span),
        (true, MemType::B64) => contiguous::<2, 64>(&span),
        (true, MemType::B128) => contiguous::<4, 128>(&span),
        _ => None,
    };
    let rows = whole.unwrap_or_else(|| scattered(&span, &cluster, ty));
    for (n, row) in (0..ty.regs() as u16).zip(&rows) {
        cx.write(i.dst + n, row);
    }
    Ok(())
}

/// Lane by lane: pages of their own, or windows.
#[cold]
#[inline(never)]
fn load_lanes(cx: &mut Cx<'_>, i: &Inst, ty: MemType, wide: bool, offset: i32) -> Result<(), Halt> {
    let va = cx.addresses(i, wide, offset, Access::Read)?;
    let mut words = [[0; 4]; LANES];
    for lane in each(cx.mask) {
        words[lane] = cx.load_generic(ty, va[lane], lane)?;
    }
    cx.write_words(i.dst, ty, &words);
    Ok(())
}

#[inline(always)]
pub fn store(cx: &mut Cx<'_>, i: &Inst, ty: MemType, wide: bool, offset: i32) -> Result<(), Halt> {
    let (mask, rows) = (cx.mask, data_rows(cx, i, ty));
    let found = cx.clustered(i, wide, offset, ty.bytes(), Access::Write);
    let Some((cluster, span)) = found else {
        return store_lanes(cx, i, ty, wide, offset);
    };
    let whole = match (cluster.contiguous, ty) {
        (true, MemType::B32) => span.store_words(0, &rows[0]),
        (true, MemType::B64) => span.store_words(0, &interleaved::<2, 64>(&rows)),
        (true, MemType::B128) => span.store_words(0, &interleaved::<4, 128>(&rows)),
        _ => false,
    };
    if !whole {
        for_each(mask, |lane| {
            let span = span.skip(cluster.offsets[lane] as usize);
            let words = [rows[0][lane], rows[1][lane], rows[2][lane], rows[3][lane]];
            // The span has the room and may be written, or there would be none.
            let _stored = span_store(&span, ty, &words);
        });
    }
    Ok(())
}

/// The data of a store, by register.
#[inline(always)]
fn data_rows(cx: &Cx<'_>, i: &Inst, ty: MemType) -> Rows {
    let mut rows = [[0; LANES]; 4];
    for (n, row) in (0..ty.regs() as u16).zip(&mut rows) {
        *row = *cx.row_at(i.src[1], n);
    }
    rows
}

/// The first `N` rows, lane by lane.
#[inline(always)]
fn interleaved<const N: usize, const WORDS: usize>(rows: &Rows) -> [u32; WORDS] {
    const { assert!(WORDS == N * LANES) };
    std::array::from_fn(|at| rows[at % N][at / N])
}

#[cold]
#[inline(never)]
fn store_lanes(
    cx: &mut Cx<'_>,
    i: &Inst,
    ty: MemType,
    wide: bool,
    offset: i32,
) -> Result<(), Halt> {
    let va = cx.addresses(i, wide, offset, Access::Write)?;
    for lane in each(cx.mask) {
        let words = cx.data(i, ty, lane);
        cx.store_generic(ty, va[lane], lane, &words)?;
    }
    Ok(())
}

/// A lane's words at the start of a span.
fn span_load(span: &HostSpan<'_>, ty: MemType) -> Option<Words> {
    let mut words = [0; 4];
    match ty {
        MemType::U8 | MemType::S8 => words[0] = extend(ty, span.load::<u8>(0)?.into()),
        MemType::U16 | MemType::S16 => words[0] = extend(ty, span.load::<u16>(0)?.into()),
        MemType::B32 => words[0] = span.load(0)?,
        MemType::B64 | MemType::B128 => {
            for n in 0..ty.regs() as usize / 2 {
                let pair = span.load::<u64>(8 * n)?;
                words[2 * n] = pair as u32;
                words[2 * n + 1] = (pair >> 32) as u32;
            }
        }
    }
    Some(words)
}

/// Stores a lane's words at the start of a span; `false` if it does not have the room.
#[inline(always)]
fn span_store(span: &HostSpan<'_>, ty: MemType, words: &Words) -> bool {
    let pair = |n: usize| u64::from(words[n + 1]) << 32 | u64::from(words[n]);
    match ty {
        MemType::U8 | MemType::S8 => span.store(0, words[0] as u8),
        MemType::U16 | MemType::S16 => span.store(0, words[0] as u16),
        MemType::B32 => span.store(0, words[0]),
        MemType::B64 => span.store(0, pair(0)),
        MemType::B128 => span.store(0, pair(0)) && span.store(8, pair(2)),
    }
}
