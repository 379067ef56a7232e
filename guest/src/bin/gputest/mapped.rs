//! Video memory as a program sees it through a mapping, by the widest accesses that its processor has:
//! those that a C library copies memory with.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_loadu_si256, _mm256_storeu_si256,
};

use anyhow::{Result, ensure};
use guest::pattern::Pattern;
use guest::{Buffer, Domain};

use crate::case::{Case, Context};

pub const CASES: &[Case] = &[Case {
    name: "wide-accesses",
    about: "stores and loads of 16 and 32 bytes reach mapped video memory whole, at any offset",
    seconds: 60,
    run: wide_accesses,
}];

/// Pages, each of which is stored to for the first time by a wide store.
const PAGES: usize = 4;
const PAGE: usize = 0x1000;

/// A store of `N` bytes.
type Store<const N: usize> = unsafe fn(*mut u8, [u8; N]);
/// A load of `N` bytes.
type Load<const N: usize> = unsafe fn(*const u8) -> [u8; N];

fn wide_accesses(context: &Context) -> Result<()> {
    accesses(context, Pattern::new(21), store_16, load_16)?;
    if is_x86_feature_detected!("avx") {
        accesses(context, Pattern::new(22), store_32, load_32)?;
    }
    Ok(())
}

fn accesses<const N: usize>(
    context: &Context,
    pattern: Pattern,
    store: Store<N>,
    load: Load<N>,
) -> Result<()> {
    let device = context.open()?;
    let buffer = Buffer::new(&device, Domain::Vram, (PAGES * PAGE) as u64)?;
    let words = buffer.words()?;
    let base = words.as_ptr().cast_mut().cast::<u8>();
    // Aligned, and not even to a word.
    for offset in (0..PAGES).flat_map(|page| [page * PAGE, page * PAGE + 3 * N + 1]) {
        let content: [u8; N] = std::array::from_fn(|n| pattern.byte((offset + n) as u64));
        // SAFETY: the bytes are in the mapping, which only this thread accesses; the processor has
        // the instruction.
        let found = unsafe {
            store(base.add(offset), content);
            load(base.add(offset))
        };
        ensure!(found == content, "{N} bytes at {offset:#x}: {found:02x?}");
        let bytes: [u8; N] = std::array::from_fn(|n| {
            let at = offset + n;
            let word = words[at / 4].load(std::sync::atomic::Ordering::Relaxed);
            word.to_le_bytes()[at % 4]
        });
        ensure!(
            bytes == content,
            "{N} bytes at {offset:#x}, by words: {bytes:02x?}"
        );
    }
    Ok(())
}

#[target_feature(enable = "sse2")]
unsafe fn store_16(at: *mut u8, content: [u8; 16]) {
    // SAFETY: arrays and vectors are 16 bytes that may have any value; the caller owns those at `at`.
    unsafe {
        _mm_storeu_si128(at.cast(), std::mem::transmute::<[u8; 16], __m128i>(content));
    }
}

#[target_feature(enable = "sse2")]
unsafe fn load_16(at: *const u8) -> [u8; 16] {
    // SAFETY: as for the store.
    unsafe { std::mem::transmute::<__m128i, [u8; 16]>(_mm_loadu_si128(at.cast())) }
}

#[target_feature(enable = "avx")]
unsafe fn store_32(at: *mut u8, content: [u8; 32]) {
    // SAFETY: as for 16 bytes.
    unsafe {
        _mm256_storeu_si256(at.cast(), std::mem::transmute::<[u8; 32], __m256i>(content));
    }
}

#[target_feature(enable = "avx")]
unsafe fn load_32(at: *const u8) -> [u8; 32] {
    // SAFETY: as for 16 bytes.
    unsafe { std::mem::transmute::<__m256i, [u8; 32]>(_mm256_loadu_si256(at.cast())) }
}
