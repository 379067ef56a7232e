//! What the card reaches on its bus: the windows that its owner opened, and nothing else.

use std::any::Any;
use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use imbl::OrdMap;
use parking_lot::Mutex;

use super::dma_error::{DmaError, MAX_WINDOWS};
use super::epoch::Flush;
use super::files::Files;
use super::gate::{Guard, Published};
use super::mapping::Mapping;
use super::span::HostSpan;
use super::{BusError, Shared};

/// Granularity of windows.
const PAGE: u64 = 0x1000;

/// What the card may do in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The card may load. Where it may store it may always load, too.
    pub read: bool,
    /// The card may store.
    pub write: bool,
}

impl Protection {
    /// Loads and stores.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
    };
    /// Loads alone.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
}

#[derive(Clone)]
struct Window {
    size: u64,
    /// Where in the mapping it starts.
    offset: usize,
    protection: Protection,
    mapping: Arc<Mapping>,
}

impl Window {
    /// The part of the window, which is at `iova`, in `from..to`, and where that is; if any.
    fn part(&self, iova: u64, from: u64, to: u64) -> Option<(u64, Self)> {
        let (start, end) = (iova.max(from), (iova + self.size).min(to));
        (start < end).then(|| {
            let part = Self {
                size: end - start,
                offset: self.offset + (start - iova) as usize,
                ..self.clone()
            };
            (start, part)
        })
    }

    /// Whether `next`, which follows on the bus, follows in memory as well.
    fn continues_in(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.mapping, &next.mapping)
            && self.offset + self.size as usize == next.offset
            && self.protection == next.protection
    }
}

/// Windows by address, disjoint. Copies share what they have in common, so that a new state costs
/// next to nothing.
type Tree = OrdMap<u64, Window>;

/// So many windows are found in a list more quickly than in a tree. A guest's RAM is in fewer,
/// unless an IOMMU is before it.
const FEW: usize = 32;

/// The open windows, to be looked up.
struct Windows {
    all: Tree,
    /// The same, if they are few.
    few: Vec<(u64, Window)>,
}

impl Windows {
    fn new(all: Tree) -> Self {
        let few = match all.len() {
            0..=FEW => all.iter().map(|(&iova, w)| (iova, w.clone())).collect(),
            _ => Vec::new(),
        };
        Self { all, few }
    }

    /// The last window that starts at `iova` or before, and where it starts.
    #[inline]
    fn before(&self, iova: u64) -> Option<(u64, &Window)> {
        if self.all.len() > FEW {
            return self.all.get_prev(&iova).map(|(&at, window)| (at, window));
        }
        let next = self.few.partition_point(|(at, _)| *at <= iova);
        let (at, window) = &self.few[next.checked_sub(1)?];
        Some((*at, window))
    }
}

/// The card's view of its bus.
pub struct DmaSpace {
    shared: Arc<Shared>,
    windows: Published<Windows>,
    /// Whoever edits the windows holds this.
    files: Mutex<Files>,
}

impl DmaSpace {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            windows: Published::new(Windows::new(Tree::new())),
            files: Mutex::default(),
        }
    }

    /// Opens a window: `size` bytes of `file` from `offset` appear at `iova`.
    ///
    /// Should the file shrink while the window is open, all windows on it are lost: the access that
    /// finds out reads zeros, and later ones find nothing there. For that, the process gets a
    /// handler of SIGBUS.
    ///
    /// # Errors
    ///
    /// The window is not made of whole 4 KiB pages, overlaps an open one, cannot be mapped, or is
    /// one too many.
    pub fn map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> Result<(), DmaError> {
        Self::check_shape(iova, size, offset)?;
        let mut files = self.files.lock();
        let mapping = files.mapping(&file, protection.write)?;
        let end = offset.checked_add(size);
        if end.is_none_or(|end| end > mapping.len() as u64) {
            // Beyond its end a file maps, but nobody can touch it.
            return Err(DmaError::Map(io::ErrorKind::UnexpectedEof.into()));
        }
        let window = Window {
            size,
            offset: offset as usize,
            protection,
            mapping,
        };
        self.insert(iova, window)
    }

    /// Opens a window onto memory that this process has mapped already.
    ///
    /// # Errors
    ///
    /// The window is not made of whole 4 KiB pages or overlaps an open one.
    ///
    /// # Safety
    ///
    /// The `size` bytes at `ptr` stay mapped, readable and if so protected writable, until `owner`
    /// is dropped, and nobody holds Rust references to them other than to atomics.
    pub unsafe fn map_host(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        ptr: NonNull<u8>,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<(), DmaError> {
        let len = Self::check_shape(iova, size, ptr.addr().get() as u64)?;
        // SAFETY: handed on to the caller.
        let mapping = unsafe { Mapping::existing(ptr, len, protection.write, owner) };
        let _edit = self.files.lock();
        let window = Window {
            size,
            offset: 0,
            protection,
            mapping: Arc::new(mapping),
        };
        self.insert(iova, window)
    }

    /// Closes what is open in the `size` bytes from `iova` and returns how many bytes that was.
    /// When it returns no access of the card is under way there, and none will follow.
    ///
    /// Waits for accesses in flight, so the caller may hold no [`Guard`] itself.
    pub fn unmap(&self, iova: u64, size: u64) -> u64 {
        let end = iova.saturating_add(size);
        let _edit = self.files.lock();
        let mut windows = self.snapshot();
        let before = windows.get_prev(&iova).map(|(&at, _)| at);
        let inside = windows.range(iova..end).map(|(&at, _)| at);
        let mut touched: Vec<u64> = before.into_iter().chain(inside).collect();
        touched.dedup();
        let mut closed = 0;
        for at in touched {
            let Some(window) = windows.remove(&at) else {
                continue;
            };
            closed += window.part(at, iova, end).map_or(0, |(_, part)| part.size);
            windows.extend(window.part(at, 0, iova));
            windows.extend(window.part(at, end, u64::MAX));
        }
        if closed != 0 {
            self.close_others(windows);
        }
        closed
    }

    /// Closes every window, as [`DmaSpace::unmap`] does.
    pub fn clear(&self) {
        let _edit = self.files.lock();
        self.close_others(Tree::new());
    }

    /// The open windows as (address, size), ascending. Those that continue each other are one.
    pub fn windows(&self) -> Vec<(u64, u64)> {
        self.snapshot()
            .iter()
            .map(|(&iova, window)| (iova, window.size))
            .collect()
    }

    /// The host memory from `iova` to the end of its window.
    pub(super) fn span<'g>(
        &self,
        guard: &'g Guard<'_>,
        iova: u64,
        write: bool,
    ) -> Result<HostSpan<'g>, BusError> {
        assert!(guard.is_of(&self.shared.gate), "guard of another card");
        // SAFETY: the guard is of the gate that `insert` and `close_others` wait at.
        let windows = unsafe { self.windows.get(guard) };
        let (start, window) = windows
            .before(iova)
            .filter(|(start, window)| iova - start < window.size && !window.mapping.lost())
            .ok_or(BusError::Nothing { address: iova })?;
        let allowed = match write {
            true => window.protection.write,
            false => window.protection.read || window.protection.write,
        };
        if !allowed {
            return Err(BusError::Protection { address: iova });
        }
        let inside = iova - start;
        Ok(window
            .mapping
            .span_from(window.offset + inside as usize)
            .take((window.size - inside) as usize))
    }

    fn check_shape(iova: u64, size: u64, offset: u64) -> Result<usize, DmaError> {
        let wrong = DmaError::Shape { iova, size };
        if size == 0
            || !(iova | size | offset).is_multiple_of(PAGE)
            || iova.checked_add(size).is_none()
        {
            return Err(wrong);
        }
        usize::try_from(size).map_err(|_| wrong)
    }

    /// Opens `window` at `iova`. The caller holds the editor's lock.
    fn insert(&self, iova: u64, mut window: Window) -> Result<(), DmaError> {
        let size = window.size;
        let end = iova + size;
        let mut windows = self.snapshot();
        let before = windows.get_prev(&iova);
        let before = before.map(|(&at, before)| (at, before.clone()));
        let after = windows.get_next(&iova);
        let after = after.map(|(&at, after)| (at, after.clone()));
        let ends = before.as_ref().map(|(at, before)| at + before.size);
        if ends.is_some_and(|ends| ends > iova) || after.as_ref().is_some_and(|&(at, _)| at < end) {
            return Err(DmaError::Overlap { iova, size });
        }
        let mut start = iova;
        if let Some((at, after)) = after
            && at == end
            && window.continues_in(&after)
        {
            windows.remove(&at);
            window.size += after.size;
        }
        if let Some((at, before)) = before
            && ends == Some(iova)
            && before.continues_in(&window)
        {
            start = at;
            window = Window {
                size: before.size + window.size,
                ..before
            };
        }
        windows.insert(start, window);
        if windows.len() > MAX_WINDOWS {
            return Err(DmaError::TooManyWindows);
        }
        // Every TLB entry that was right before still is.
        let windows = Windows::new(windows);
        self.windows.replace(&self.shared.gate, windows, || ());
        Ok(())
    }

    fn snapshot(&self) -> Tree {
        let guard = self.shared.gate.enter();
        // SAFETY: the guard is of the gate that `insert` and `close_others` wait at.
        unsafe { self.windows.get(&guard) }.all.clone()
    }

    /// Leaves `windows` open. TLBs hold addresses of the host, so they go as well.
    fn close_others(&self, windows: Tree) {
        let windows = Windows::new(windows);
        self.windows.replace(&self.shared.gate, windows, || {
            self.shared.epochs.flush(Flush::All);
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;
    use crate::memory::Gate;

    /// A file of `len` zeros.
    pub(in crate::memory) fn memory_file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    fn space() -> (DmaSpace, Arc<Shared>) {
        let shared = Arc::new(Shared::new());
        (DmaSpace::new(shared.clone()), shared)
    }

    fn reach(dma: &DmaSpace, gate: &Gate, iova: u64, write: bool) -> Result<usize, BusError> {
        dma.span(&gate.enter(), iova, write).map(|span| span.len())
    }

    #[test]
    fn a_window_is_reached_from_its_first_to_its_last_byte() {
        let (dma, shared) = space();
        dma.map(
            0x10000,
            0x3000,
            Protection::READ_WRITE,
            memory_file(0x4000),
            0x1000,
        )
        .unwrap();
        assert!(reach(&dma, &shared.gate, 0xffff, false).is_err());
        assert_eq!(reach(&dma, &shared.gate, 0x10000, true), Ok(0x3000));
        assert_eq!(reach(&dma, &shared.gate, 0x12fff, true), Ok(1));
        assert!(reach(&dma, &shared.gate, 0x13000, false).is_err());
        assert!(reach(&dma, &shared.gate, u64::MAX, false).is_err());
    }

    #[test]
    fn windows_that_continue_each_other_are_reached_as_one_and_closed_apart() {
        let (dma, shared) = space();
        let file = memory_file(0x8000);
        let map = |iova, offset, protection| {
            let file = file.try_clone().unwrap();
            dma.map(iova, 0x1000, protection, file, offset).unwrap();
        };
        map(0x1000, 0x4000, Protection::READ_WRITE);
        map(0x3000, 0x6000, Protection::READ_WRITE);
        map(0x2000, 0x5000, Protection::READ_WRITE);
        // Elsewhere in the file, and with other rights.
        map(0x4000, 0x2000, Protection::READ_WRITE);
        map(0x5000, 0x3000, Protection::READ);
        let apart = [(0x4000, 0x1000), (0x5000, 0x1000)];
        assert_eq!(dma.windows(), [&[(0x1000, 0x3000)], &apart[..]].concat());
        assert_eq!(reach(&dma, &shared.gate, 0x1800, true), Ok(0x2800));

        assert_eq!(dma.unmap(0x2000, 0x1000), 0x1000);
        assert_eq!(reach(&dma, &shared.gate, 0x1000, true), Ok(0x1000));
        assert!(reach(&dma, &shared.gate, 0x2000, true).is_err());
        assert_eq!(reach(&dma, &shared.gate, 0x3000, true), Ok(0x1000));
        map(0x2000, 0x5000, Protection::READ_WRITE);
        assert_eq!(dma.windows()[0], (0x1000, 0x3000));
    }

    /// As a client opens them for a guest with 512 MiB of RAM behind an IOMMU.
    #[test]
    fn a_window_for_each_of_131072_pages_leads_to_its_page() {
        const PAGES: u64 = 0x2_0000;
        let (dma, shared) = space();
        let file = memory_file(PAGES << 12);
        // Odd: every page has its turn, and no two in a row follow each other in the file.
        let place = |page: u64| page * 0x9e37 % PAGES;
        for page in 0..PAGES {
            let file = file.try_clone().unwrap();
            let protection = Protection::READ_WRITE;
            dma.map(page << 12, 0x1000, protection, file, place(page) << 12)
                .unwrap();
        }
        assert_eq!(dma.windows().len() as u64, PAGES);

        for page in (0..PAGES).step_by(0x777) {
            let mark = page.to_le_bytes();
            let at = (place(page) << 12) + 0x10;
            std::os::unix::fs::FileExt::write_all_at(&file, &mark, at).unwrap();
            let guard = shared.gate.enter();
            let span = dma.span(&guard, (page << 12) + 0x10, false).unwrap();
            assert_eq!((span.load(0), span.len()), (Some(page), 0xff0));
        }
        for page in (0..PAGES).step_by(2) {
            assert_eq!(dma.unmap(page << 12, 0x1000), 0x1000);
        }
        assert_eq!(dma.unmap(0, u64::MAX), (PAGES << 12) / 2);
    }

    #[test]
    fn a_read_only_window_refuses_stores() {
        let (dma, shared) = space();
        dma.map(0, 0x1000, Protection::READ, memory_file(0x1000), 0)
            .unwrap();
        assert_eq!(reach(&dma, &shared.gate, 8, false), Ok(0xff8));
        assert_eq!(
            reach(&dma, &shared.gate, 8, true),
            Err(BusError::Protection { address: 8 })
        );
    }

    #[test]
    fn unmapping_the_middle_of_a_window_leaves_its_ends() {
        let (dma, shared) = space();
        let file = memory_file(0x5000);
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xab], 0x4000).unwrap();
        dma.map(0x1000, 0x5000, Protection::READ_WRITE, file, 0)
            .unwrap();
        assert_eq!(dma.unmap(0x2000, 0x3000), 0x3000);
        assert_eq!(dma.windows(), [(0x1000, 0x1000), (0x5000, 0x1000)]);
        let guard = shared.gate.enter();
        let span = dma.span(&guard, 0x5000, false).unwrap();
        assert_eq!((span.load::<u8>(0), span.len()), (Some(0xab), 0x1000));
        drop(guard);
        assert_eq!(dma.unmap(0x2000, 0x3000), 0);
        assert_eq!(dma.unmap(0, u64::MAX), 0x2000);
        assert_eq!(dma.windows(), []);
    }

    #[test]
    fn memory_of_this_process_is_let_go_when_its_window_closes() {
        #[repr(align(4096))]
        struct Pages([AtomicU8; 0x2000]);

        let (dma, shared) = space();
        let pages = Arc::new(Pages([const { AtomicU8::new(7) }; 0x2000]));
        let ptr = NonNull::from(&pages.0).cast();
        // SAFETY: the owner keeps the pages, which are atomics.
        unsafe {
            dma.map_host(
                0x4000,
                0x2000,
                Protection::READ_WRITE,
                ptr,
                Box::new(pages.clone()),
            )
        }
        .unwrap();
        let guard = shared.gate.enter();
        let span = dma.span(&guard, 0x5fff, true).unwrap();
        assert_eq!((span.len(), span.load(0)), (1, Some(7u8)));
        assert!(span.store(0, 8u8));
        assert_eq!(pages.0[0x1fff].load(Ordering::Relaxed), 8);
        drop(guard);
        assert_eq!(Arc::strong_count(&pages), 2);
        dma.unmap(0x4000, 0x1000);
        assert_eq!(Arc::strong_count(&pages), 2);
        dma.unmap(0x5000, 0x1000);
        assert_eq!(Arc::strong_count(&pages), 1);
    }

    #[test]
    fn a_window_whose_file_shrinks_is_lost_and_nothing_else() {
        let (dma, shared) = space();
        let file = memory_file(0x4000);
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xab; 0x4000], 0).unwrap();
        let copy = file.try_clone().unwrap();
        dma.map(0x1_0000, 0x4000, Protection::READ_WRITE, file, 0)
            .unwrap();
        dma.map(
            0x2_0000,
            0x1000,
            Protection::READ_WRITE,
            memory_file(0x1000),
            0,
        )
        .unwrap();
        let guard = shared.gate.enter();
        let span = dma.span(&guard, 0x1_0000, true).unwrap();
        assert_eq!(span.load::<u8>(0x3000), Some(0xab));
        copy.set_len(0x3000).unwrap();
        let mut page = [1; 0x1000];
        assert_eq!(span.skip(0x3000).copy_to(&mut page), 0x1000);
        assert_eq!(page, [0; 0x1000]);
        drop(guard);
        for iova in [0x1_0000, 0x1_3000] {
            assert_eq!(
                reach(&dma, &shared.gate, iova, false),
                Err(BusError::Nothing { address: iova })
            );
        }
        assert_eq!(reach(&dma, &shared.gate, 0x2_0000, true), Ok(0x1000));
        assert_eq!(dma.unmap(0, u64::MAX), 0x5000);
        // Its place is free for memory that is there.
        dma.map(
            0x1_0000,
            0x1000,
            Protection::READ_WRITE,
            memory_file(0x1000),
            0,
        )
        .unwrap();
        assert_eq!(reach(&dma, &shared.gate, 0x1_0000, true), Ok(0x1000));
    }

    #[test]
    fn a_window_that_overlaps_or_has_no_shape_is_refused() {
        let (dma, _) = space();
        let map = |iova, size, len, offset| {
            dma.map(iova, size, Protection::READ_WRITE, memory_file(len), offset)
        };
        map(0x2000, 0x2000, 0x2000, 0).unwrap();
        for (iova, size) in [(0x1000, 0x2000), (0x3000, 0x1000), (0x2000, 0x2000)] {
            assert!(matches!(
                map(iova, size, size, 0),
                Err(DmaError::Overlap { .. })
            ));
        }
        map(0x1000, 0x1000, 0x1000, 0).unwrap();
        map(0x4000, 0x1000, 0x1000, 0).unwrap();
        for (iova, size, offset) in [
            (0x8000, 0, 0),
            (0x8001, 0x1000, 0),
            (0x8000, 0xfff, 0),
            (0x8000, 0x1000, 1),
            (u64::MAX - 0xfff, 0x2000, 0),
        ] {
            assert!(matches!(
                map(iova, size, 0x1000, offset),
                Err(DmaError::Shape { .. })
            ));
        }
        assert!(matches!(
            map(0x8000, 0x2000, 0x1000, 0),
            Err(DmaError::Map(_))
        ));
    }
}
