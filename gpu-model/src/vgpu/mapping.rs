//! What of a guest's BARs may be accessed without the device: memory of its own, behind pages that
//! nobody has to watch.

use std::ops::Range;
use std::sync::Arc;

use mmio::Bar;
use mmio::regs::{PRAMIN, pfifo};
use shadow_pt::GuestAddress;

use super::VirtualGpu;
use super::apertures::PAGE;
use super::copies::Copies;
use super::memory::flushed_directory;
use crate::optimisations::Optimisations;

/// A stretch of a BAR that leads to one stretch of the card's video memory; both are of whole
/// pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the BAR.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
    /// Where it leads in the card's video memory.
    pub vram: u64,
    /// Stores have to trap.
    pub read_only: bool,
}

/// Maps parts of BARs into a machine.
///
/// It may be called with locks of the virtual GPU held, and must not call back.
pub trait Mapper: Send + Sync {
    /// From now on exactly `pieces` of `bar` may be mapped, in ascending order; in force on return.
    fn remap(&self, bar: Bar, pieces: &[Piece]);

    /// From now on stores to exactly `runs` of BAR0 may reach the device late, but in order, and before
    /// a store or a load that does not.
    fn defer(&self, runs: &[Range<u32>]);

    /// Calls `found` with each stretch of the card's video memory, address and bytes, that may have
    /// been stored to through what is mapped since the last call.
    fn dirty(&self, found: &mut dyn FnMut(u64, u64));
}

/// The mapper, and what it was told.
#[derive(Default)]
pub struct Mapped {
    mapper: Option<Arc<dyn Mapper>>,
    pieces: [Vec<Piece>; 3],
    /// The tables behind the BARs.
    copies: Copies,
}

impl Mapped {
    /// Whether anything may be mapped.
    pub(super) fn is_possible(&self) -> bool {
        self.mapper.is_some()
    }

    /// Video memory was cleared.
    pub(super) fn forget(&mut self) {
        self.copies.clear();
    }
}

/// BARs of which parts can be mapped, and the switch for each.
const BARS: [(Bar, Optimisations); 3] = [
    (Bar::Bar0, Optimisations::PRAMIN_MAP),
    (Bar::Bar1, Optimisations::BAR1_MAP),
    (Bar::Bar3, Optimisations::BAR3_REMAP),
];

impl VirtualGpu {
    /// Gives the guest's BARs a mapper, or takes it away.
    pub fn set_mapper(&self, mapper: Option<Arc<dyn Mapper>>) {
        *self.mapped.lock() = Mapped {
            mapper,
            ..Mapped::default()
        };
        self.remap_all();
        self.defer_again();
    }

    /// Which stores may be late has changed.
    pub(super) fn defer_again(&self) {
        if let Some(mapper) = &self.mapped.lock().mapper {
            mapper.defer(self.deferrable());
        }
    }

    /// What may be mapped has changed in all BARs.
    pub(super) fn remap_all(&self) {
        for (bar, _) in BARS {
            self.remap(bar);
        }
    }

    /// What may be mapped of `bar` may have changed.
    pub(super) fn remap(&self, bar: Bar) {
        let mut mapped = self.mapped.lock();
        let Some(mapper) = mapped.mapper.clone() else {
            return;
        };
        let Some(place) = BARS.iter().position(|(of, _)| *of == bar) else {
            return;
        };
        let mut pieces = Vec::new();
        if self.optimisations().contains(BARS[place].1) {
            // Also tables may have been stored to through mappings.
            self.collect_dirty(&*mapper);
            self.pieces(bar, &mut mapped.copies, &mut pieces);
        }
        if bar == Bar::Bar1 {
            self.control_pieces(&mut pieces);
        }
        if mapped.pieces[place] == pieces {
            return;
        }
        // The log ends with the mapping.
        self.collect_dirty(&*mapper);
        mapper.remap(bar, &pieces);
        mapped.pieces[place] = pieces;
    }

    /// The BARs whose directory a flush register's value names; all for none.
    pub(super) fn behind(&self, space: Option<u32>) -> impl Iterator<Item = Bar> {
        let mut windows = self.windows.lock();
        let mut is = |bar| {
            let directory = windows
                .space(bar)
                .ok()
                .flatten()
                .map(|space| space.directory);
            space.is_none_or(|space| directory == Some(flushed_directory(space)))
        };
        let bars = [Bar::Bar1, Bar::Bar3].map(|bar| (bar, is(bar)));
        bars.into_iter().filter(|(_, is)| *is).map(|(bar, _)| bar)
    }

    /// Marks what was stored through mappings.
    pub(super) fn track_mapped(&self) {
        let mapper = self.mapped.lock().mapper.clone();
        if let Some(mapper) = mapper {
            self.collect_dirty(&*mapper);
        }
    }

    /// After a flush: where the tracker wants other stores to trap than before, they do from now on.
    pub(super) fn settle_tracker(&self) {
        let _one = self.settling.lock();
        if let Some(round) = self.tracker.settle() {
            self.remap_all();
            self.tracker.in_force(round);
        }
    }

    fn collect_dirty(&self, mapper: &dyn Mapper) {
        let vram = &self.partition.vram;
        mapper.dirty(&mut |address, len| {
            if let Some(own) = address.checked_sub(vram.start) {
                self.tracker.mark(own, len);
            }
        });
    }

    /// The stretches of `bar` that lead to pages of the guest's video memory which are not watched,
    /// control pages of channels left out.
    fn pieces(&self, bar: Bar, copies: &mut Copies, pieces: &mut Vec<Piece>) {
        let mut add = |offset: u64, address: u64, len: u64, read_only: bool| {
            for page in (0..len).step_by(PAGE as usize) {
                let (offset, address) = (offset + page, address + page);
                let control = bar == Bar::Bar1 && self.userd(offset).is_some();
                if control || self.watch.any(address, PAGE) {
                    continue;
                }
                let Some(vram) = self.partition.vram(address, PAGE) else {
                    continue;
                };
                self.push(
                    pieces,
                    Piece {
                        offset,
                        len: PAGE,
                        vram,
                        read_only: read_only || self.tracker.traps(address),
                    },
                );
            }
        };
        match bar {
            Bar::Bar0 => {
                if let Some(address) = self.pramin(PRAMIN.start) {
                    let len = u64::from(PRAMIN.end - PRAMIN.start);
                    add(PRAMIN.start.into(), address, len, false);
                }
            }
            _ => self.runs(bar, copies, &mut add),
        }
    }

    /// With doorbells that nobody traps, the control pages of channels.
    fn control_pieces(&self, pieces: &mut Vec<Piece>) {
        for guest in 0..pfifo::CHANNELS {
            if let Some((offset, vram)) = self.open_control_page(guest)
                && offset + PAGE <= self.bar_size(Bar::Bar1)
            {
                self.push(
                    pieces,
                    Piece {
                        offset,
                        len: PAGE,
                        vram,
                        read_only: false,
                    },
                );
            }
        }
        pieces.sort_unstable_by_key(|piece| piece.offset);
    }

    /// The guest's video memory behind `bar`: offset, address, bytes, read-only.
    fn runs(&self, bar: Bar, copies: &mut Copies, add: &mut impl FnMut(u64, u64, u64, bool)) {
        let mut windows = self.windows.lock();
        let size = self.bar_size(bar);
        match windows.space(bar) {
            Ok(Some(space)) => {
                let memory = self.memory.lock();
                if !self.optimisations().contains(Optimisations::INCREMENTAL) {
                    copies.clear();
                }
                let tables = memory.tables(&self.host, &self.partition);
                let mut tables = copies.of(tables, &*self.tracker);
                space.runs(&mut tables, memory.translation(), 0, size, |run| {
                    if let GuestAddress::Vram(address) = run.at {
                        add(run.va, address, run.len, run.read_only);
                    }
                });
            }
            Ok(None) => add(0, 0, size.min(self.partition.vram_size()), false),
            Err(()) => {}
        }
    }

    /// Adds a page, to the last piece if it goes on where that ends, and the hypervisor has both in one
    /// place.
    fn push(&self, pieces: &mut Vec<Piece>, page: Piece) {
        match pieces.last_mut() {
            Some(last)
                if last.offset + last.len == page.offset
                    && last.vram + last.len == page.vram
                    && last.read_only == page.read_only
                    && !self.seams.contains(&page.vram) =>
            {
                last.len += page.len;
            }
            _ => pieces.push(page),
        }
    }
}
