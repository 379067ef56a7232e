//! What of video memory the card's owner has behind BARs, as a way to it that takes no window.

use std::ops::Range;

use mmio::Bar;

/// A stretch of video memory behind a BAR, of whole large pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The BAR.
    pub bar: Bar,
    /// Where it is in the BAR.
    pub offset: u64,
    /// Its addresses in the card's memory.
    pub vram: Range<u64>,
}

impl Stretch {
    /// One after the other from the start of `bar`; empty ones are left out.
    pub(crate) fn in_a_row(
        bar: Bar,
        memory: impl Iterator<Item = Range<u64>>,
    ) -> impl Iterator<Item = Self> {
        let placed = memory.scan(0, move |end, vram| {
            let offset = *end;
            *end += vram.end - vram.start;
            Some(Self { bar, offset, vram })
        });
        placed.filter(|stretch| !stretch.vram.is_empty())
    }
}

/// All stretches, none of which overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretches(Vec<Stretch>);

impl Stretches {
    pub(crate) fn new(mut all: Vec<Stretch>) -> Self {
        all.sort_unstable_by_key(|stretch| stretch.vram.start);
        debug_assert!(all.is_sorted_by(|one, next| one.vram.end <= next.vram.start));
        Self(all)
    }

    /// Those of one BAR.
    pub(crate) fn behind(&self, bar: Bar) -> impl Iterator<Item = &Stretch> {
        self.0.iter().filter(move |stretch| stretch.bar == bar)
    }

    /// Where the `len` bytes of video memory at `address` are: a BAR, and the place in it; `None`
    /// unless all are in one stretch.
    pub fn find(&self, address: u64, len: u64) -> Option<(Bar, u64)> {
        let behind = self
            .0
            .partition_point(|stretch| stretch.vram.start <= address);
        let stretch = &self.0[behind.checked_sub(1)?];
        let end = address.checked_add(len)?;
        (end <= stretch.vram.end)
            .then(|| (stretch.bar, stretch.offset + address - stretch.vram.start))
    }

    /// The addresses in `vram` where a stretch begins or ends.
    pub(crate) fn seams(&self, vram: &Range<u64>) -> Vec<u64> {
        let ends = self
            .0
            .iter()
            .flat_map(|stretch| [stretch.vram.start, stretch.vram.end]);
        ends.filter(|at| vram.contains(at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found_inside_one_stretch() {
        let memory = [0x8_0000..0xa_0000, 0..0, 0x2_0000..0x6_0000];
        let all = Stretch::in_a_row(Bar::Bar3, memory.into_iter()).collect();
        let stretches = Stretches::new(all);

        assert_eq!(stretches.find(0x8_1000, 0x1000), Some((Bar::Bar3, 0x1000)));
        assert_eq!(stretches.find(0x5_fffc, 4), Some((Bar::Bar3, 0x5_fffc)));
        for (address, len) in [(0x5_fffd, 4), (0x1_ffff, 1), (0x7_0000, 1), (u64::MAX, 2)] {
            assert_eq!(stretches.find(address, len), None, "{address:#x}");
        }
        assert_eq!(stretches.seams(&(0..0x8_0000)), [0x2_0000, 0x6_0000]);
    }
}
