//! Random numbers from a seed, with a taste for those that matter.

/// A generator (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A word: a special one, a small one, a float of moderate size, or any.
    pub fn word(&mut self) -> u32 {
        const SPECIAL: [u32; 20] = [
            0,
            1,
            u32::MAX,
            1 << 31,
            i32::MAX as u32,
            0x8000_0001,
            0x3f80_0000,
            0xbf80_0000,
            0x7f80_0000,
            0xff80_0000,
            0x7fc0_0000,
            0x7fff_ffff,
            0x0080_0000,
            0x007f_ffff,
            0x8000_0001,
            0x7f7f_ffff,
            0x4f00_0000,
            0xcf00_0000,
            0x3c00,
            31,
        ];
        match self.below(5) {
            0 => self.pick(&SPECIAL),
            1 => self.below(64) as u32,
            2 | 3 => (self.next() as u32 & 0x807f_ffff) | (100 + self.below(56) as u32) << 23,
            _ => self.next() as u32,
        }
    }
}
