//! What a channel is fed with: indirect-buffer entries, method headers, and the methods that the
//! PBDMA executes itself.
//!
//! Source: ENV `docs/hw/fifo/dma-pusher.rst`, `docs/hw/fifo/puller.rst`; K61
//! `include/nvhw/class/cl906f.h`, `nouveau_dma.c nv50_dma_push`.

use bitflags::bitflags;

/// An entry of the indirect buffer: where a segment of methods is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IbEntry(pub u64);

impl IbEntry {
    /// Bytes of an entry.
    pub const SIZE: u64 = 8;
    /// Most words of a segment.
    pub const MAX_WORDS: u32 = (1 << 21) - 1;

    /// An entry for `words` words at virtual address `address`, which is a multiple of 4.
    pub const fn new(address: u64, words: u32) -> Self {
        Self(address & 0xff_ffff_fffc | ((words & Self::MAX_WORDS) as u64) << 42)
    }

    /// The same segment, fetched only when everything before it is done.
    pub const fn no_prefetch(self) -> Self {
        Self(self.0 | 1 << 63)
    }

    /// Virtual address of the segment.
    pub const fn address(self) -> u64 {
        self.0 & 0xff_ffff_fffc
    }

    /// Words of the segment; 0 is an error.
    pub const fn words(self) -> u32 {
        (self.0 >> 42) as u32 & Self::MAX_WORDS
    }

    /// The segment is not part of the ring whose position `TOP_LEVEL_GET` shows.
    pub const fn not_main(self) -> bool {
        self.0 >> 41 & 1 != 0
    }

    /// The segment may be the product of what is before it.
    pub const fn is_no_prefetch(self) -> bool {
        self.0 >> 63 != 0
    }
}

/// How the methods of a command follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Each word goes to the next method.
    Increasing,
    /// All words go to one method.
    NonIncreasing,
    /// The first word goes to the method, all others to the next.
    IncreaseOnce,
}

/// What the first word of a command says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `count` words follow. A count of 0 does nothing: the all-zero word is the usual filler.
    Methods {
        /// How they are to be used.
        mode: Mode,
        /// 0-7.
        subchannel: u8,
        /// Byte address of the first method.
        address: u16,
        /// Words that follow.
        count: u16,
    },
    /// One method, with its argument in the header.
    Immediate {
        /// 0-7.
        subchannel: u8,
        /// Byte address of the method.
        address: u16,
        /// 13 bits.
        data: u16,
    },
    /// Methods count from here only if this card is in the mask.
    SubdeviceMask(u16),
    /// Remembers a mask.
    StoreSubdeviceMask(u16),
    /// Like [`Header::SubdeviceMask`] with the remembered mask.
    UseSubdeviceMask,
    /// The rest of the segment is skipped.
    EndSegment,
    /// No command.
    Illegal,
}

impl Header {
    /// Bits of the mask in a sub-device command.
    const MASK: u32 = 0xfff;

    /// Decodes a first word.
    #[inline]
    pub const fn decode(word: u32) -> Self {
        let subchannel = (word >> 13 & 7) as u8;
        // The formats of the GF100 count methods, those of the NV4 bytes.
        let address = ((word & 0xfff) << 2) as u16;
        let old_address = (word & 0x1ffc) as u16;
        let count = (word >> 16 & 0x1fff) as u16;
        let old_count = (word >> 18 & 0x7ff) as u16;
        match (word >> 29, word >> 16 & 3) {
            (0, 0) => Header::Methods {
                mode: Mode::Increasing,
                subchannel,
                address: old_address,
                count: old_count,
            },
            (0, 1) => Header::SubdeviceMask((word >> 4 & Self::MASK) as u16),
            (0, 2) => Header::StoreSubdeviceMask((word >> 4 & Self::MASK) as u16),
            (0, _) => Header::UseSubdeviceMask,
            (1, _) => Header::Methods {
                mode: Mode::Increasing,
                subchannel,
                address,
                count,
            },
            (2, 0) => Header::Methods {
                mode: Mode::NonIncreasing,
                subchannel,
                address: old_address,
                count: old_count,
            },
            (3, _) => Header::Methods {
                mode: Mode::NonIncreasing,
                subchannel,
                address,
                count,
            },
            (4, _) => Header::Immediate {
                subchannel,
                address,
                data: count,
            },
            (5, _) => Header::Methods {
                mode: Mode::IncreaseOnce,
                subchannel,
                address,
                count,
            },
            (7, _) => Header::EndSegment,
            _ => Header::Illegal,
        }
    }

    /// The word of a command of the GF100 format with `count` words to follow.
    pub const fn encode(mode: Mode, subchannel: u8, address: u16, count: u16) -> u32 {
        let op = match mode {
            Mode::Increasing => 1,
            Mode::NonIncreasing => 3,
            Mode::IncreaseOnce => 5,
        };
        op << 29
            | (count as u32 & 0x1fff) << 16
            | (subchannel as u32 & 7) << 13
            | address as u32 >> 2 & 0xfff
    }

    /// The word of a command that carries its 13-bit argument.
    pub const fn encode_immediate(subchannel: u8, address: u16, data: u16) -> u32 {
        4 << 29
            | (data as u32 & 0x1fff) << 16
            | (subchannel as u32 & 7) << 13
            | address as u32 >> 2 & 0xfff
    }
}

/// Methods below [`method::ENGINE`]: the PBDMA's own, whatever the subchannel.
pub mod method {
    /// Binds an engine to the subchannel: class in bits 0-15, engine in bits 16-20.
    pub const OBJECT: u16 = 0x00;
    /// Nothing.
    pub const NOP: u16 = 0x08;
    /// Semaphore address, bits 32-39.
    pub const SEMAPHORE_ADDRESS_HIGH: u16 = 0x10;
    /// Semaphore address, bits 2-31.
    pub const SEMAPHORE_ADDRESS_LOW: u16 = 0x14;
    /// What is written or compared with.
    pub const SEMAPHORE_SEQUENCE: u16 = 0x18;
    /// Releases or acquires; see [`super::Semaphore`].
    pub const SEMAPHORE_TRIGGER: u16 = 0x1c;
    /// Raises the non-stalling interrupt of the engine in use.
    pub const NOTIFY_INTR: u16 = 0x20;
    /// Flushes the write cache.
    pub const WRCACHE_FLUSH: u16 = 0x24;
    /// Memory operation, argument.
    pub const MEM_OP_A: u16 = 0x28;
    /// Memory operation.
    pub const MEM_OP_B: u16 = 0x2c;
    /// Waits for the engine and shows its argument in USERD.
    pub const REF_CNT: u16 = 0x50;
    /// Semaphore address, bits 0-31, of the older pair of methods.
    pub const SEMAPHORE_OFFSET: u16 = 0x64;
    /// Acquires the argument.
    pub const SEMAPHORE_ACQUIRE: u16 = 0x68;
    /// Releases the argument, 4 bytes.
    pub const SEMAPHORE_RELEASE: u16 = 0x6c;
    /// Stores.
    pub const UNK70: u16 = 0x70;
    /// Stores.
    pub const UNK74: u16 = 0x74;
    /// Stores.
    pub const UNK78: u16 = 0x78;
    /// Interrupts unless the argument is 0.
    pub const UNK7C: u16 = 0x7c;
    /// Gives the PBDMA to another channel.
    pub const YIELD: u16 = 0x80;
    /// From here on methods are the engine's.
    pub const ENGINE: u16 = 0x100;
}

/// The number of "no engine, software handles it" in OBJECT and in RAMFC.
pub const ENGINE_SOFTWARE: u8 = 0x1f;

bitflags! {
    /// The argument of `SEMAPHORE_TRIGGER`, and `SEMAPHORE_STATE` of a PBDMA.
    ///
    /// Source: ENV `rnndb/fifo/gf100_pfifo.xml PSUBFIFO.SEMAPHORE_STATE`; K61
    /// `include/nvhw/class/cl906f.h NV906F_SEMAPHORED`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Semaphore: u32 {
        /// Waits until memory equals the sequence.
        const ACQUIRE_EQUAL = 1 << 0;
        /// Writes the sequence.
        const RELEASE = 1 << 1;
        /// Waits until memory has reached the sequence, modulo 2^32.
        const ACQUIRE_GEQUAL = 1 << 2;
        /// Waits until memory has a bit of the sequence.
        const ACQUIRE_MASK = 1 << 3;
        /// The operation.
        const OPERATION = 0xf;
        /// A wait gives the PBDMA to another channel at once.
        const ACQUIRE_SWITCH = 1 << 12;
        /// A wait goes on.
        const ACQUIRE_PENDING = 1 << 19;
        /// A release does not wait for the engine.
        const RELEASE_NO_WFI = 1 << 20;
        /// A release writes 4 bytes, not 16 with the time.
        const RELEASE_SHORT = 1 << 24;
    }
}

impl Semaphore {
    /// Whether an acquire of this kind is content with `value` in memory. An operation that is no
    /// acquire never is.
    pub const fn satisfied(self, value: u32, sequence: u32) -> bool {
        match self.bits() & Self::OPERATION.bits() {
            1 => value == sequence,
            4 => value.wrapping_sub(sequence) as i32 >= 0,
            8 => value & sequence != 0,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of ENV `docs/hw/fifo/dma-pusher.rst`, as patterns: C count, S subchannel, M method,
    /// V value, X anything.
    fn reference(word: u32) -> Header {
        const FORMS: [(&str, u32); 9] = [
            ("000CCCCCCCCCCC00SSSMMMMMMMMMMMXX", 0),
            ("000XXXXXXXXXXX01MMMMMMMMMMMMXXXX", 1),
            ("000XXXXXXXXXXX10MMMMMMMMMMMMXXXX", 2),
            ("000XXXXXXXXXXX11XXXXXXXXXXXXXXXX", 3),
            ("001CCCCCCCCCCCCCSSSXMMMMMMMMMMMM", 4),
            ("010CCCCCCCCCCC00SSSMMMMMMMMMMMXX", 5),
            ("011CCCCCCCCCCCCCSSSXMMMMMMMMMMMM", 6),
            ("100VVVVVVVVVVVVVSSSXMMMMMMMMMMMM", 7),
            ("101CCCCCCCCCCCCCSSSXMMMMMMMMMMMM", 8),
        ];
        let bits: Vec<char> = format!("{word:032b}").chars().collect();
        let matches = |form: &str| {
            form.chars()
                .zip(&bits)
                .all(|(want, have)| !want.is_ascii_digit() || want == *have)
        };
        let field = |form: &str, letter: char| {
            let text: String = form
                .chars()
                .zip(&bits)
                .filter(|(want, _)| *want == letter)
                .map(|(_, have)| *have)
                .collect();
            u32::from_str_radix(&text, 2).unwrap_or(0)
        };
        let Some((form, kind)) = FORMS.into_iter().find(|(form, _)| matches(form)) else {
            return match word >> 29 {
                7 => Header::EndSegment,
                _ => Header::Illegal,
            };
        };
        let subchannel = field(form, 'S') as u8;
        let address = (field(form, 'M') * 4) as u16;
        let methods = |mode| Header::Methods {
            mode,
            subchannel,
            address,
            count: field(form, 'C') as u16,
        };
        match kind {
            0 | 4 => methods(Mode::Increasing),
            1 => Header::SubdeviceMask(field(form, 'M') as u16),
            2 => Header::StoreSubdeviceMask(field(form, 'M') as u16),
            3 => Header::UseSubdeviceMask,
            5 | 6 => methods(Mode::NonIncreasing),
            7 => Header::Immediate {
                subchannel,
                address,
                data: field(form, 'V') as u16,
            },
            _ => methods(Mode::IncreaseOnce),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn headers_decode_as_the_table_of_patterns_says(word: u32) {
            prop_assert_eq!(Header::decode(word), reference(word));
        }

        #[test]
        fn an_entry_gives_back_its_segment(address in 0u64..1 << 38, words in 0u32..1 << 21) {
            let entry = IbEntry::new(address << 2, words);
            prop_assert_eq!(entry.address(), address << 2);
            prop_assert_eq!(entry.words(), words);
            prop_assert!(!entry.is_no_prefetch() && !entry.not_main());
            prop_assert!(entry.no_prefetch().is_no_prefetch());
            prop_assert_eq!(entry.no_prefetch().words(), words);
        }
    }

    #[test]
    fn the_drivers_encoding_of_an_entry_is_understood() {
        // nouveau_dma.c nv50_dma_push: address, then address >> 32 | bytes << 8.
        let entry = IbEntry(0x1234_5678 | (0x12 | 0x40 << 8) << 32);
        assert_eq!(entry.address(), 0x12_1234_5678);
        assert_eq!(entry.words(), 0x10);
    }

    #[test]
    fn headers_encode_to_what_decodes_to_them() {
        for mode in [Mode::Increasing, Mode::NonIncreasing, Mode::IncreaseOnce] {
            assert_eq!(
                Header::decode(Header::encode(mode, 5, 0x3ffc, 0x1fff)),
                Header::Methods {
                    mode,
                    subchannel: 5,
                    address: 0x3ffc,
                    count: 0x1fff
                }
            );
        }
        assert_eq!(
            Header::decode(Header::encode_immediate(7, 0x100, 0x1001)),
            Header::Immediate {
                subchannel: 7,
                address: 0x100,
                data: 0x1001
            }
        );
    }

    #[test]
    fn reaching_a_sequence_wraps() {
        let geq = Semaphore::ACQUIRE_GEQUAL;
        assert!(geq.satisfied(1, u32::MAX) && !geq.satisfied(u32::MAX, 1));
        assert!(Semaphore::ACQUIRE_EQUAL.satisfied(3, 3));
        assert!(
            Semaphore::ACQUIRE_MASK.satisfied(6, 2) && !Semaphore::ACQUIRE_MASK.satisfied(4, 2)
        );
        assert!(!Semaphore::RELEASE.satisfied(3, 3));
    }
}
