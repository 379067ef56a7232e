//! A stretch of host memory that guests, engines and other processes use at the same time.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

// The card is little-endian and so is what it leaves in memory; words are not swapped.
const _: () = assert!(cfg!(target_endian = "little"));

mod sealed {
    pub trait Sealed {}
}

/// A word that memory is read and written in: `u8`, `u16`, `u32` or `u64`.
///
/// Aligned accesses are single-copy atomic, as they are on a bus, and in order: a store is seen
/// after everything that its thread stored before (a fence after the data that it announces), a
/// load is done before everything that its thread does next. Others may tear.
pub trait Word: sealed::Sealed + Copy + Sized + 'static {
    /// All bits set: what a read yields where there is no memory.
    const ONES: Self;

    /// The word at the start of `bytes`.
    #[doc(hidden)]
    fn from_bytes(bytes: [u8; 8]) -> Self;

    /// The word's bytes, and zeros.
    #[doc(hidden)]
    fn to_bytes(self) -> [u8; 8];

    /// # Safety
    ///
    /// `ptr` is valid for reads of the word for the length of the call.
    #[doc(hidden)]
    unsafe fn load(ptr: *mut u8) -> Self;

    /// # Safety
    ///
    /// `ptr` is valid for writes of the word for the length of the call.
    #[doc(hidden)]
    unsafe fn store(ptr: *mut u8, value: Self);
}

macro_rules! words {
    ($($word:ident $atomic:ident),*) => {$(
        impl sealed::Sealed for $word {}

        impl Word for $word {
            const ONES: Self = Self::MAX;

            fn from_bytes(bytes: [u8; 8]) -> Self {
                u64::from_le_bytes(bytes) as Self
            }

            fn to_bytes(self) -> [u8; 8] {
                u64::from(self).to_le_bytes()
            }

            #[inline]
            unsafe fn load(ptr: *mut u8) -> Self {
                let ptr = ptr.cast::<Self>();
                if ptr.is_aligned() {
                    // SAFETY: valid by the caller, aligned by the test.
                    unsafe { $atomic::from_ptr(ptr) }.load(Ordering::Acquire)
                } else {
                    // SAFETY: valid by the caller.
                    unsafe { ptr.read_unaligned() }
                }
            }

            #[inline]
            unsafe fn store(ptr: *mut u8, value: Self) {
                let ptr = ptr.cast::<Self>();
                if ptr.is_aligned() {
                    // SAFETY: valid by the caller, aligned by the test.
                    unsafe { $atomic::from_ptr(ptr) }.store(value, Ordering::Release);
                } else {
                    // SAFETY: valid by the caller.
                    unsafe { ptr.write_unaligned(value) }
                }
            }
        }
    )*};
}

words!(u8 AtomicU8, u16 AtomicU16, u32 AtomicU32, u64 AtomicU64);

/// Contiguous host memory, borrowed for `'a`: from video memory, or from a DMA window for as long
/// as a [`Guard`](super::Guard) lives.
///
/// The bytes may change at any time. Words are accessed atomically; bulk copies may tear, as DMA
/// does. Accesses outside the span are refused with `None` or `false`, never a panic.
#[derive(Clone, Copy, Debug)]
pub struct HostSpan<'a> {
    ptr: NonNull<u8>,
    len: usize,
    writable: bool,
    life: PhantomData<&'a [AtomicU8]>,
}

// SAFETY: a span is a shared reference to bytes that are only accessed atomically or by copies that
// tolerate tearing; which thread does so makes no difference.
unsafe impl Send for HostSpan<'_> {}
// SAFETY: as above.
unsafe impl Sync for HostSpan<'_> {}

impl<'a> HostSpan<'a> {
    /// The span of `len` bytes at `ptr`.
    ///
    /// # Safety
    ///
    /// For `'a` the bytes are mapped, readable, and writable if `writable`; nobody holds a Rust
    /// reference to them other than to atomics.
    #[inline]
    pub unsafe fn new(ptr: NonNull<u8>, len: usize, writable: bool) -> Self {
        Self {
            ptr,
            len,
            writable,
            life: PhantomData,
        }
    }

    /// Where it starts. Dereferencing is up to the rules of [`HostSpan::new`].
    #[inline]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.ptr
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No bytes at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores are allowed.
    #[inline]
    pub fn writable(&self) -> bool {
        self.writable
    }

    /// The span without its first `offset` bytes; empty past the end.
    #[inline]
    pub fn skip(&self, offset: usize) -> Self {
        let offset = offset.min(self.len);
        Self {
            // SAFETY: at most one past the end of the span.
            ptr: unsafe { self.ptr.add(offset) },
            len: self.len - offset,
            ..*self
        }
    }

    /// The first `len` bytes, or all if there are fewer.
    #[inline]
    pub fn take(&self, len: usize) -> Self {
        Self {
            len: len.min(self.len),
            ..*self
        }
    }

    /// The address of `bytes` bytes at `offset`.
    #[inline]
    fn at(&self, offset: usize, bytes: usize) -> Option<*mut u8> {
        let end = offset.checked_add(bytes)?;
        // SAFETY: inside the span.
        (end <= self.len).then(|| unsafe { self.ptr.as_ptr().add(offset) })
    }

    /// The word at byte `offset`.
    #[inline]
    pub fn load<T: Word>(&self, offset: usize) -> Option<T> {
        let ptr = self.at(offset, size_of::<T>())?;
        // SAFETY: inside the span, which is readable.
        Some(unsafe { T::load(ptr) })
    }

    /// Stores a word at byte `offset`; `false` if it does not fit or the span is read-only.
    #[inline]
    #[must_use]
    pub fn store<T: Word>(&self, offset: usize, value: T) -> bool {
        match self.at(offset, size_of::<T>()) {
            Some(ptr) if self.writable => {
                // SAFETY: inside the span, which is writable.
                unsafe { T::store(ptr, value) };
                true
            }
            _ => false,
        }
    }

    /// The aligned 32-bit word at `offset` of a writable span, for read-modify-write.
    #[inline]
    pub fn atomic_u32(&self, offset: usize) -> Option<&'a AtomicU32> {
        let ptr = self.at(offset, 4)?.cast::<u32>();
        // SAFETY: inside the span, writable, aligned, for 'a.
        (self.writable && ptr.is_aligned()).then(|| unsafe { AtomicU32::from_ptr(ptr) })
    }

    /// The aligned 64-bit word at `offset` of a writable span, for read-modify-write.
    #[inline]
    pub fn atomic_u64(&self, offset: usize) -> Option<&'a AtomicU64> {
        let ptr = self.at(offset, 8)?.cast::<u64>();
        // SAFETY: inside the span, writable, aligned, for 'a.
        (self.writable && ptr.is_aligned()).then(|| unsafe { AtomicU64::from_ptr(ptr) })
    }

    /// The words from byte `offset` on; `None` if there are fewer. As bulk copies they may tear.
    #[inline]
    pub fn load_words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let ptr = self.at(offset, 4 * N)?.cast::<[u32; N]>();
        // SAFETY: inside the span, which is readable.
        Some(unsafe { ptr.read_unaligned() })
    }

    /// Stores words from byte `offset` on; `false` if they do not fit or the span is read-only.
    #[inline]
    #[must_use]
    pub fn store_words<const N: usize>(&self, offset: usize, words: &[u32; N]) -> bool {
        match self.at(offset, 4 * N) {
            Some(ptr) if self.writable => {
                // SAFETY: inside the span, which is writable.
                unsafe { ptr.cast::<[u32; N]>().write_unaligned(*words) };
                true
            }
            _ => false,
        }
    }

    /// Copies out as many bytes as both sides have and returns the count.
    #[inline]
    pub fn copy_to(&self, buf: &mut [u8]) -> usize {
        let len = self.len.min(buf.len());
        // SAFETY: both sides have `len` bytes; `buf` is exclusively borrowed, so they are distinct.
        unsafe {
            self.ptr
                .as_ptr()
                .copy_to_nonoverlapping(buf.as_mut_ptr(), len);
        };
        len
    }

    /// Copies in as many bytes as both sides have and returns the count; 0 if read-only.
    #[inline]
    pub fn copy_from(&self, buf: &[u8]) -> usize {
        if !self.writable {
            return 0;
        }
        let len = self.len.min(buf.len());
        // SAFETY: both sides have `len` bytes and this one is writable; `buf` is a plain slice, and
        // no such slice aliases a span.
        unsafe {
            self.ptr
                .as_ptr()
                .copy_from_nonoverlapping(buf.as_ptr(), len);
        };
        len
    }

    /// Copies as many bytes of `source` as both have and returns the count; 0 if read-only. The two
    /// may overlap.
    #[inline]
    pub fn copy_from_span(&self, source: &HostSpan<'_>) -> usize {
        if !self.writable {
            return 0;
        }
        let len = self.len.min(source.len);
        // SAFETY: both have `len` bytes and this one is writable; `copy` allows overlap.
        unsafe { self.ptr.as_ptr().copy_from(source.ptr.as_ptr(), len) };
        len
    }

    /// Sets all bytes; nothing if read-only.
    pub fn fill(&self, value: u8) {
        if self.writable {
            // SAFETY: the whole span is writable.
            unsafe { self.ptr.as_ptr().write_bytes(value, self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_span<R>(writable: bool, f: impl FnOnce(HostSpan<'_>) -> R) -> R {
        let words = [const { AtomicU64::new(0x8877_6655_4433_2211) }; 2];
        let ptr = NonNull::from(&words).cast::<u8>();
        // SAFETY: 16 bytes of atomics that outlive the call.
        f(unsafe { HostSpan::new(ptr, 16, writable) })
    }

    #[test]
    fn words_load_at_any_alignment_within_the_span() {
        with_span(false, |span| {
            assert_eq!(span.load::<u32>(4), Some(0x8877_6655));
            assert_eq!(span.load::<u32>(1), Some(0x5544_3322));
            assert_eq!(span.load::<u16>(7), Some(0x1188));
            assert_eq!(span.load::<u64>(9), None);
            assert_eq!(span.load::<u8>(usize::MAX), None);
        });
    }

    #[test]
    fn a_read_only_span_refuses_every_store() {
        with_span(false, |span| {
            assert!(!span.store(0, 1u32));
            assert_eq!(span.copy_from(&[0; 4]), 0);
            assert_eq!(span.copy_from_span(&span), 0);
            span.fill(0);
            assert!(span.atomic_u32(0).is_none());
            assert_eq!(span.load::<u64>(0), Some(0x8877_6655_4433_2211));
        });
    }

    #[test]
    fn a_misaligned_word_has_no_atomic() {
        with_span(true, |span| {
            assert!(span.atomic_u32(2).is_none());
            assert!(span.atomic_u64(4).is_none());
            assert!(span.atomic_u64(8).is_some());
            assert!(span.atomic_u32(16).is_none());
        });
    }

    #[test]
    fn copies_move_what_both_sides_have() {
        with_span(true, |span| {
            assert_eq!(span.skip(14).copy_from(&[1, 2, 3]), 2);
            let mut out = [0; 3];
            assert_eq!(span.skip(13).copy_to(&mut out), 3);
            assert_eq!(out, [0x66, 1, 2]);
            assert_eq!(span.skip(99).copy_to(&mut out), 0);
        });
    }
}
