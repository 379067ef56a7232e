//! Ranges of a space of addresses: first fit.

use std::collections::BTreeMap;

/// What of a space is free.
#[derive(Debug)]
pub struct Ranges {
    /// Start and length of each free range; no two touch.
    free: BTreeMap<u64, u64>,
}

impl Ranges {
    /// The space `start..end`, all free.
    pub fn new(start: u64, end: u64) -> Self {
        Self {
            free: BTreeMap::from([(start, end - start)]),
        }
    }

    /// Takes the first `len` bytes at a multiple of `align`, a power of two.
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        if len == 0 {
            return None;
        }
        let (start, size, at) = self.free.iter().find_map(|(&start, &size)| {
            let at = start.checked_next_multiple_of(align)?;
            let end = at.checked_add(len)?;
            (end <= start + size).then_some((start, size, at))
        })?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let rest = start + size - (at + len);
        if rest > 0 {
            self.free.insert(at + len, rest);
        }
        Some(at)
    }

    /// Gives back what [`Ranges::take`] gave.
    pub fn give(&mut self, at: u64, len: u64) {
        let (mut start, mut size) = (at, len);
        if let Some((&before, &length)) = self.free.range(..at).next_back()
            && before + length == at
        {
            self.free.remove(&before);
            (start, size) = (before, length + size);
        }
        if let Some(after) = self.free.remove(&(at + len)) {
            size += after;
        }
        self.free.insert(start, size);
    }

    /// Bytes that are free.
    pub fn available(&self) -> u64 {
        self.free.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_joins_its_neighbours() {
        let mut ranges = Ranges::new(0x1000, 0x9000);
        let parts: Vec<u64> = (0..4).map(|_| ranges.take(0x2000, 1).unwrap()).collect();
        assert_eq!(parts, [0x1000, 0x3000, 0x5000, 0x7000]);
        assert_eq!(ranges.take(1, 1), None);
        for &at in &[parts[0], parts[2], parts[1], parts[3]] {
            ranges.give(at, 0x2000);
        }
        assert_eq!(ranges.take(0x8000, 1), Some(0x1000));
    }

    #[test]
    fn an_alignment_leaves_what_is_before_it_free() {
        let mut ranges = Ranges::new(0x1000, 0x10000);
        assert_eq!(ranges.take(0x1000, 0x8000), Some(0x8000));
        assert_eq!(ranges.take(0x7000, 0x1000), Some(0x1000));
        assert_eq!(ranges.available(), 0x7000);
        assert_eq!(ranges.take(0, 1), None);
        assert_eq!(ranges.take(u64::MAX, 1), None);
        assert_eq!(ranges.take(1, 1 << 63), None);
    }
}
