//! The classes: which methods they have, and where the context keeps each.
//!
//! A class's methods are scattered over 16 KiB of addresses, few of them exist. Those that do are
//! numbered densely, so that a context is small and is moved by one copy.
//!
//! Source: ENV `rnndb/fifo/nv_object.xml`, `rnndb/graph/gf100_{3d,compute,m2mf}.xml`,
//! `rnndb/graph/g80_2d.xml`; the initial methods of K61 `nvkm/engine/gr/ctxgf100.c`.

/// Addresses of a class, in words.
const ADDRESSES: usize = 0x4000 / 4;
/// No such method.
const NONE: u16 = u16::MAX;

/// A class of objects that PGRAPH executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 2D blits and fills.
    TwoD,
    /// Memory to memory copies.
    M2mf,
    /// 3D.
    ThreeD,
    /// Compute.
    Compute,
}

impl Class {
    /// The class with this number.
    pub const fn from_id(id: u32) -> Option<Self> {
        match id {
            0x902d => Some(Class::TwoD),
            0x9039 => Some(Class::M2mf),
            0x9097 => Some(Class::ThreeD),
            0x90c0 => Some(Class::Compute),
            _ => None,
        }
    }

    /// Its number.
    pub const fn id(self) -> u32 {
        match self {
            Class::TwoD => 0x902d,
            Class::M2mf => 0x9039,
            Class::ThreeD => 0x9097,
            Class::Compute => 0x90c0,
        }
    }

    /// Where a context keeps the method at `address`; `None` if the class has none there.
    #[inline]
    pub fn slot(self, address: u16) -> Option<usize> {
        let slots = match self {
            Class::TwoD => &TWOD_SLOTS,
            Class::M2mf => &M2MF_SLOTS,
            Class::ThreeD => &THREED_SLOTS,
            Class::Compute => &COMPUTE_SLOTS,
        };
        match slots[usize::from(address) / 4 % ADDRESSES] {
            NONE => None,
            slot => Some(usize::from(slot)),
        }
    }

    /// The first method of those that the context switcher's firmware is to handle, 32 of them.
    pub const fn firmware_methods(self) -> u16 {
        match self {
            Class::TwoD => 0x08e0,
            Class::M2mf => 0x027c,
            Class::ThreeD => 0x2300,
            Class::Compute => 0x0500,
        }
    }
}

/// `count` runs of `words` methods each, `stride` bytes apart.
struct Runs {
    address: u16,
    words: u16,
    count: u16,
    stride: u16,
}

const fn run(address: u16, words: u16) -> Runs {
    runs(address, words, 1, 0)
}

const fn runs(address: u16, words: u16, count: u16, stride: u16) -> Runs {
    Runs {
        address,
        words,
        count,
        stride,
    }
}

/// Methods that all classes share, state included.
const COMMON: &[Runs] = &[
    run(0x0100, 10),
    run(0x0130, 5),
    run(0x0150, 2),
    run(0x3400, 128),
];

const TWOD: &[Runs] = &[
    run(0x0200, 212),
    run(0x0580, 4),
    run(0x05e0, 1),
    run(0x0600, 136),
    run(0x0838, 11),
    run(0x0870, 1),
    run(0x0880, 4),
    run(0x08b0, 44),
];

const M2MF: &[Runs] = &[
    run(0x0204, 5),
    run(0x0220, 5),
    run(0x0238, 59),
    run(0x032c, 10),
];

const THREED: &[Runs] = &[
    run(0x0200, 55),
    run(0x02ec, 1),
    run(0x0300, 27),
    run(0x037c, 6),
    runs(0x03a0, 5, 3, 0x20),
    run(0x0400, 195),
    runs(0x0710, 3, 3, 0x10),
    run(0x0740, 6),
    run(0x075c, 18),
    run(0x07b0, 19),
    runs(0x0800, 10, 8, 0x40),
    runs(0x0a00, 6, 16, 0x20),
    run(0x0c00, 102),
    run(0x0d9c, 2),
    run(0x0dac, 9),
    run(0x0dd8, 2),
    run(0x0de4, 3),
    run(0x0df4, 6),
    runs(0x0e10, 3, 15, 0x10),
    run(0x0f00, 4),
    run(0x0f54, 3),
    run(0x0f84, 4),
    run(0x0f98, 3),
    run(0x0fac, 2),
    run(0x0fbc, 6),
    run(0x0fdc, 8),
    run(0x1000, 1),
    run(0x1008, 3),
    run(0x1018, 4),
    run(0x1040, 16),
    run(0x10cc, 1),
    run(0x10e0, 8),
    run(0x110c, 4),
    run(0x1120, 4),
    run(0x1140, 2),
    run(0x114c, 37),
    run(0x1214, 4),
    run(0x1228, 4),
    run(0x123c, 1),
    run(0x1284, 2),
    run(0x1290, 1),
    run(0x12a4, 1),
    run(0x12ac, 1),
    run(0x12c8, 10),
    run(0x1300, 11),
    run(0x1330, 28),
    run(0x13a4, 5),
    run(0x1418, 1),
    run(0x1420, 8),
    run(0x1444, 5),
    run(0x1464, 1),
    run(0x1500, 9),
    run(0x1530, 4),
    run(0x1550, 6),
    run(0x156c, 5),
    run(0x1590, 6),
    run(0x15b4, 3),
    run(0x15c8, 3),
    run(0x15e4, 17),
    run(0x162c, 1),
    run(0x1634, 7),
    run(0x1658, 2),
    run(0x1664, 12),
    run(0x169c, 4),
    run(0x16b4, 1),
    run(0x1700, 32),
    run(0x1790, 2),
    run(0x179c, 1),
    run(0x17bc, 16),
    run(0x187c, 33),
    run(0x1910, 1),
    run(0x1918, 4),
    run(0x192c, 2),
    run(0x193c, 6),
    run(0x1958, 1),
    run(0x1968, 3),
    run(0x1978, 4),
    run(0x19bc, 7),
    run(0x19e0, 16),
    run(0x1a24, 1),
    run(0x1a2c, 5),
    run(0x1b00, 4),
    run(0x1c00, 135),
    runs(0x1e20, 7, 7, 0x20),
    run(0x1f00, 73),
    runs(0x2040, 9, 5, 0x40),
    runs(0x2200, 3, 5, 0x10),
    run(0x2300, 52),
    runs(0x2400, 5, 5, 0x20),
    runs(0x2500, 5, 5, 0x20),
    run(0x2600, 1),
    runs(0x2700, 6, 8, 0x20),
    run(0x2800, 128),
    run(0x335c, 34),
];

const COMPUTE: &[Runs] = &[
    run(0x0204, 5),
    run(0x021c, 1),
    run(0x0228, 6),
    run(0x0244, 1),
    run(0x024c, 3),
    run(0x028c, 1),
    run(0x029c, 2),
    run(0x02c0, 3),
    run(0x0308, 2),
    run(0x0360, 1),
    run(0x0368, 2),
    run(0x03ac, 3),
    run(0x0500, 32),
    run(0x0758, 1),
    run(0x077c, 2),
    run(0x0790, 5),
    run(0x0a04, 2),
    run(0x0d64, 1),
    run(0x0d94, 1),
    run(0x0de4, 1),
    run(0x10f4, 1),
    run(0x1234, 1),
    run(0x1288, 1),
    run(0x12ac, 1),
    run(0x1330, 3),
    run(0x1354, 1),
    run(0x1424, 1),
    run(0x1550, 6),
    run(0x1574, 3),
    run(0x1608, 2),
    run(0x1664, 1),
    run(0x1690, 3),
    run(0x1930, 1),
    run(0x1944, 1),
    run(0x1a24, 1),
    run(0x1a2c, 5),
    run(0x1b00, 4),
    run(0x2380, 20),
    runs(0x2700, 6, 8, 0x20),
    run(0x335c, 34),
];

const fn words(list: &[Runs]) -> usize {
    let mut total = 0;
    let mut i = 0;
    while i < list.len() {
        total += list[i].words as usize * list[i].count as usize;
        i += 1;
    }
    total
}

/// Numbers the methods of `list` from `first`.
const fn number(mut slots: [u16; ADDRESSES], list: &[Runs], first: usize) -> [u16; ADDRESSES] {
    let mut next = first as u16;
    let mut i = 0;
    while i < list.len() {
        let Runs {
            address,
            words,
            count,
            stride,
        } = list[i];
        let mut n = 0;
        while n < count {
            let mut word = 0;
            while word < words {
                let index = ((address + n * stride) / 4 + word) as usize;
                assert!(slots[index] == NONE, "two runs overlap");
                slots[index] = next;
                next += 1;
                word += 1;
            }
            n += 1;
        }
        i += 1;
    }
    slots
}

const fn table(list: &[Runs], first: usize) -> [u16; ADDRESSES] {
    number(number([NONE; ADDRESSES], COMMON, 0), list, first)
}

const TWOD_FIRST: usize = words(COMMON);
const M2MF_FIRST: usize = TWOD_FIRST + words(TWOD);
const THREED_FIRST: usize = M2MF_FIRST + words(M2MF);
const COMPUTE_FIRST: usize = THREED_FIRST + words(THREED);
/// Words that a context keeps for methods.
pub const METHOD_WORDS: usize = COMPUTE_FIRST + words(COMPUTE);

static TWOD_SLOTS: [u16; ADDRESSES] = table(TWOD, TWOD_FIRST);
static M2MF_SLOTS: [u16; ADDRESSES] = table(M2MF, M2MF_FIRST);
static THREED_SLOTS: [u16; ADDRESSES] = table(THREED, THREED_FIRST);
static COMPUTE_SLOTS: [u16; ADDRESSES] = table(COMPUTE, COMPUTE_FIRST);

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [Class; 4] = [Class::TwoD, Class::M2mf, Class::ThreeD, Class::Compute];

    #[test]
    fn classes_share_the_common_methods_and_nothing_else() {
        let mut owners = vec![0; METHOD_WORDS];
        for class in CLASSES {
            for slot in (0..0x4000)
                .step_by(4)
                .filter_map(|address| class.slot(address))
            {
                owners[slot] += 1;
            }
        }
        let (common, own) = owners.split_at(TWOD_FIRST);
        assert!(common.iter().all(|&count| count == CLASSES.len()));
        assert!(own.iter().all(|&count| count == 1));
    }

    #[test]
    fn a_method_that_the_kernel_emulates_does_not_exist() {
        assert_eq!(Class::ThreeD.slot(0x1528), None);
        assert_eq!(Class::Compute.slot(0x1528), None);
    }

    #[test]
    fn numbers_lead_back_to_their_class() {
        for class in CLASSES {
            assert_eq!(Class::from_id(class.id()), Some(class));
        }
        assert_eq!(Class::from_id(0x5039), None);
    }
}
