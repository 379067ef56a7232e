//! Storage kinds: how the bytes of a page are arranged in video memory.
//!
//! Source: K61 `nvkm/subdev/mmu/gf100.c gf100_mmu_kind`; ENV `rnndb/memory/gf100_vm.xml`
//! GF100_STORAGE_TYPE.

/// Plain memory.
pub const PITCH: u8 = 0x00;
/// Block-linear memory of any format, uncompressed.
pub const BLOCK_LINEAR: u8 = 0xfe;

/// A page may have this kind.
pub const fn is_valid(kind: u8) -> bool {
    matches!(kind,
        0x00..=0x05 | 0x07..=0x0a | 0x11 | 0x17..=0x1a | 0x26..=0x29 | 0x3a..=0x41 | 0x46
        | 0x51..=0x54 | 0x7b | 0x86..=0x89 | 0x8b..=0x8e | 0xa3..=0xaa | 0xbf..=0xc3
        | 0xcc..=0xd1 | 0xd8 | 0xdb | 0xdd | 0xdf | 0xe0 | 0xe2..=0xe6 | 0xe9 | 0xeb | 0xed
        | 0xee | 0xf0..=0xfb | 0xfd | 0xfe)
}

/// Pages of this kind have compression tags, and so are large and lie in video memory.
pub const fn is_compressed(kind: u8) -> bool {
    uncompressed(kind) != kind
}

/// The kind that is arranged as this one, without compression.
pub const fn uncompressed(kind: u8) -> u8 {
    PLAIN[kind as usize]
}

/// [`uncompressed`] of each kind: every entry of a shadow table asks.
const PLAIN: [u8; 256] = {
    let mut plain = [0; 256];
    let mut kind = 0;
    while kind < plain.len() {
        plain[kind] = arranged_alike(kind as u8);
        kind += 1;
    }
    plain
};

const fn arranged_alike(kind: u8) -> u8 {
    match kind {
        0x02..=0x05 | 0x07..=0x0a => 0x01,
        0x17..=0x1a => 0x11,
        0x3a..=0x3d => kind - 0x3a + 0x26,
        0x3e..=0x41 => kind - 0x3e + 0x26,
        0x51..=0x54 => 0x46,
        0x86..=0x89 => 0x7b,
        0xa3..=0xa6 => kind - 0xa3 + 0x8b,
        0xbf..=0xc2 => kind - 0xbf + 0xa7,
        0xce..=0xd1 => 0xc3,
        0xcc | 0xcd | 0xd8 | 0xdb | 0xdd | 0xdf | 0xe0 => 0xfe,
        0xe2..=0xe6 | 0xe9 | 0xeb | 0xed | 0xee | 0xf0..=0xfb => 0xfe,
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_that_software_uses_plainly_are_not_compressed() {
        for kind in [PITCH, BLOCK_LINEAR, 0x11, 0x46, 0x7b, 0xc3] {
            assert!(is_valid(kind) && !is_compressed(kind), "{kind:#x}");
        }
        for kind in [0x17, 0x51, 0x86, 0xdb, 0xf4] {
            assert!(is_valid(kind) && is_compressed(kind), "{kind:#x}");
        }
        assert!(!is_valid(0xff) && !is_compressed(0xff));
    }

    #[test]
    fn what_is_not_compressed_any_more_is_a_valid_kind() {
        for kind in (0..=u8::MAX).filter(|kind| is_compressed(*kind)) {
            let plain = uncompressed(kind);
            assert!(is_valid(kind) && is_valid(plain) && !is_compressed(plain));
        }
    }
}
