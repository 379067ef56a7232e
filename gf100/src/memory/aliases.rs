//! Pages of video memory under two storage kinds at once.
//!
//! This card keeps the bytes of a page where its address says, whatever its kind; hardware
//! arranges them by kind. No access can tell the difference unless the same page is mapped with
//! two kinds, as when the CPU looks at a tiled buffer through a plain mapping. That is worth a
//! line in the log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mmio::layout::kind;
use mmio::layout::pagetable::{Aperture, SMALL_SHIFT};
use parking_lot::Mutex;

use super::{Access, Guard, Memory, Privilege, Space, Translation};

/// Pages that are remembered: 256 MiB of them.
const MOST_PAGES: usize = 1 << 16;
/// Lines in the log that a card's software can cause.
const MOST_LINES: u32 = 4;

/// How a page that is not plain was last reached.
#[derive(Clone, Copy)]
struct Reached {
    kind: u8,
    space: Space,
    va: u64,
}

/// The pages that are not plain, and what was found.
#[derive(Default)]
pub(super) struct Aliases {
    /// There are such pages.
    any: AtomicBool,
    pages: Mutex<HashMap<u64, Reached>>,
    found: AtomicU32,
}

impl Aliases {
    /// Takes note that `va` of `space` leads to `at`.
    #[inline]
    pub(super) fn note(
        &self,
        memory: &Memory,
        guard: &Guard<'_>,
        space: &Space,
        va: u64,
        at: &Translation,
    ) {
        let plain = at.kind == kind::PITCH && !self.any.load(Ordering::Relaxed);
        if at.page.aperture == Aperture::Vram && !plain {
            self.compare(memory, guard, space, va, at);
        }
    }

    #[cold]
    fn compare(
        &self,
        memory: &Memory,
        guard: &Guard<'_>,
        space: &Space,
        va: u64,
        at: &Translation,
    ) {
        let page = at.at(va).address >> SMALL_SHIFT;
        let new = Reached {
            kind: at.kind,
            space: *space,
            va,
        };
        let mut pages = self.pages.lock();
        let old = pages.get(&page).copied();
        if at.kind != kind::PITCH && (old.is_some() || pages.len() < MOST_PAGES) {
            pages.insert(page, new);
            self.any.store(true, Ordering::Relaxed);
        }
        let Some(old) = old.filter(|old| old.kind != at.kind) else {
            return;
        };
        // Memory is used for one thing after the other; what counts is whether the page is still
        // mapped the other way.
        let still = old
            .space
            .look_up(memory, guard, old.va, Access::Read, Privilege::System)
            .is_ok_and(|then| {
                then.kind == old.kind
                    && then.page.aperture == Aperture::Vram
                    && then.at(old.va).address >> SMALL_SHIFT == page
            });
        if !still {
            if at.kind == kind::PITCH {
                pages.remove(&page);
            }
            return;
        }
        drop(pages);
        if self.found.fetch_add(1, Ordering::Relaxed) < MOST_LINES {
            tracing::info!(
                "Page {:#x} of video memory is mapped with storage kinds {:#x} and {:#x}: both \
                 show the same bytes, which hardware would arrange differently",
                page << SMALL_SHIFT,
                old.kind,
                at.kind
            );
        }
    }

    /// How often a page was found under two kinds.
    #[cfg(test)]
    fn found(&self) -> u32 {
        self.found.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::{Client, Flush, PhysAddr, Tables};

    const PAGE: u64 = 0x10_0000;
    const TILED: u64 = 0x4000;
    const PLAIN: u64 = 0x8000;

    /// A page that is mapped tiled, and where plain mappings can be made.
    fn tiled() -> (Arc<Memory>, Tables, Client) {
        let memory = Memory::new(4 << 20).unwrap();
        let mut tables = Tables::new(memory.clone(), 0x1000);
        tables.map_with(TILED, PhysAddr::vram(PAGE), 0x1000, false, |pte| {
            pte.with_kind(kind::BLOCK_LINEAR)
        });
        let mut client = Client::new(memory.clone(), Privilege::User);
        client.bind(tables.instance()).unwrap();
        client.store(TILED, 1u32).unwrap();
        (memory, tables, client)
    }

    fn map_plain(tables: &mut Tables) {
        tables.map_with(PLAIN, PhysAddr::vram(PAGE), 0x1000, false, |pte| pte);
    }

    #[test]
    fn a_page_that_is_mapped_tiled_and_plain_is_found() {
        let (memory, mut tables, mut client) = tiled();
        assert_eq!(memory.aliases.found(), 0);
        map_plain(&mut tables);
        assert_eq!(client.load::<u32>(PLAIN), Ok(1));
        assert_eq!(memory.aliases.found(), 1);
    }

    #[test]
    fn a_page_that_was_mapped_tiled_is_not() {
        let (memory, mut tables, mut client) = tiled();
        tables.map_with(TILED, PhysAddr::vram(2 * PAGE), 0x1000, false, |pte| pte);
        map_plain(&mut tables);
        memory.flush(Flush::All);
        assert_eq!(client.load::<u32>(PLAIN), Ok(1));
        assert_eq!(memory.aliases.found(), 0);
        // It is forgotten.
        assert!(memory.aliases.pages.lock().is_empty());
    }
}
