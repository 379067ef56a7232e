//! Values of all lanes of a warp.

/// Lanes of a warp.
pub const LANES: usize = 32;

/// A 32-bit value per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Row(pub [u32; LANES]);

impl Row {
    /// 0 in every lane.
    pub const ZERO: Self = Row([0; LANES]);

    /// `value` in every lane.
    pub const fn splat(value: u32) -> Self {
        Row([value; LANES])
    }

    /// Takes over the lanes of `mask`.
    #[inline(always)]
    pub fn merge(&mut self, values: &[u32; LANES], mask: u32) {
        if mask == u32::MAX {
            self.0 = *values;
        } else {
            for (lane, (kept, value)) in self.0.iter_mut().zip(values).enumerate() {
                *kept = if mask & 1 << lane != 0 { *value } else { *kept };
            }
        }
    }
}

/// `f` of each lane.
#[inline(always)]
pub fn map<T>(mut f: impl FnMut(usize) -> T) -> [T; LANES]
where
    T: Copy + Default,
{
    let mut out = [T::default(); LANES];
    for (lane, out) in out.iter_mut().enumerate() {
        *out = f(lane);
    }
    out
}

/// The lanes where `f` is true, as a mask.
#[inline(always)]
pub fn mask_of(mut f: impl FnMut(usize) -> bool) -> u32 {
    // Bits of their own first: a disjunction of lanes is what a vector unit can do.
    let bits = map(|lane| if f(lane) { 1u32 << lane } else { 0 });
    bits.iter().fold(0, |mask, bit| mask | bit)
}

/// Calls `f` for the lanes of a mask, lowest first.
#[inline(always)]
pub fn for_each(mask: u32, mut f: impl FnMut(usize)) {
    if mask == u32::MAX {
        (0..LANES).for_each(f);
    } else {
        for lane in each(mask) {
            f(lane);
        }
    }
}

/// The lanes of a mask, lowest first.
#[inline]
pub fn each(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros() as usize;
        rest &= rest.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}
