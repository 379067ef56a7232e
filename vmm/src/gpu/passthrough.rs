//! A whole software card in a guest's slot: registers are the card's, memory is mapped.
//!
//! What a bus would do for a real card, memory slots do here: BAR1, BAR3 and PRAMIN lead straight
//! to video memory, by the card's own page tables, which are read when the guest flushes the
//! card's TLB. The control pages of channels stay registers, as they are on the card.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use gf100::Card;
use gf100::memory::Vram;
use gpu_model::{Mapper, Piece};
use mmio::layout::{instance, userd};
use mmio::regs::{PRAMIN, pbus, pfb, pfifo};
use mmio::{Bar, RegId};
use shadow_pt::{AddressSpace, GuestAddress, GuestTables, Translation};

use super::SlotMapper;
use crate::vfio_user::{Function, Protection};

/// Bit of the control register of an aperture that selects translation.
///
/// Source: ENV `rnndb/bus/pbus.xml` HOST_MEM BAR1, MODE.
const TRANSLATE: u32 = 1 << 31;
/// The page in a control register, in 4 KiB; its target is above.
const PAGE: u32 = 0x0fff_ffff;
const TARGET: u32 = 3 << 28;

/// Tables in the card's memory; what is in the guest's RAM, where no driver keeps tables, is empty.
struct Tables<'a>(&'a Vram);

impl GuestTables for Tables<'_> {
    fn read_word(&mut self, at: GuestAddress) -> u32 {
        match at {
            GuestAddress::Vram(address) => self.0.load(address),
            GuestAddress::Ram(_) => 0,
        }
    }

    fn read_block(&mut self, at: GuestAddress, out: &mut [u64]) {
        out.fill(0);
        if let GuestAddress::Vram(address) = at {
            for (at, entry) in (address..).step_by(8).zip(out) {
                *entry = self.0.load(at);
            }
        }
    }
}

/// A card that one guest has for itself.
pub struct WholeCard {
    card: Arc<Card>,
    mapper: Arc<SlotMapper>,
    /// All of the card's memory.
    everything: Translation,
}

impl WholeCard {
    /// `card` for a guest whose slots `mapper` manages.
    ///
    /// # Errors
    ///
    /// Its memory cannot be described in page tables.
    pub fn new(card: Arc<Card>, mapper: Arc<SlotMapper>) -> io::Result<Self> {
        let vram = card.memory().vram().size();
        let everything = Translation::new((0, vram), 0, []).map_err(io::Error::other)?;
        Ok(Self {
            card,
            mapper,
            everything,
        })
    }

    fn register(&self, register: RegId) -> u32 {
        let mut word = [0; 4];
        self.card
            .read(Bar::Bar0, register.offset().into(), &mut word);
        u32::from_le_bytes(word)
    }

    /// The guest stored `len` bytes at `offset` of BAR0: what is mapped follows.
    fn stored(&self, offset: u64, len: usize) {
        let hit = |register: RegId| {
            let at = u64::from(register.offset());
            at < offset + len as u64 && offset < at + 4
        };
        if hit(pbus::BAR0_WINDOW) {
            self.mapper.remap(Bar::Bar0, &self.pramin());
        }
        let flushed = hit(pfb::VM_FLUSH) || hit(pfb::MMU_CTRL);
        if flushed || hit(pbus::BAR1_BLOCK) || hit(pfifo::BAR1_BASE) {
            self.mapper.remap(Bar::Bar1, &self.aperture(Bar::Bar1));
        }
        if flushed || hit(pbus::BAR2_BLOCK) {
            self.mapper.remap(Bar::Bar3, &self.aperture(Bar::Bar3));
        }
    }

    fn pramin(&self) -> Vec<Piece> {
        let window = self.register(pbus::BAR0_WINDOW);
        let vram = u64::from(window & 0x00ff_ffff) << 16;
        let piece = Piece {
            offset: PRAMIN.start.into(),
            len: PRAMIN.len() as u64,
            vram,
            read_only: false,
        };
        let here = window >> 24 & 3 == 0 && vram + piece.len <= self.everything.vram_len();
        Vec::from_iter(here.then_some(piece))
    }

    /// Where a BAR leads.
    fn aperture(&self, bar: Bar) -> Vec<Piece> {
        let size = self.card.bar_size(bar);
        let control = self.register(match bar {
            Bar::Bar3 => pbus::BAR2_BLOCK,
            _ => pbus::BAR1_BLOCK,
        });
        let mut pieces = Vec::new();
        if control & TRANSLATE == 0 {
            pieces.push(Piece {
                offset: 0,
                len: size.min(self.everything.vram_len()),
                vram: 0,
                read_only: false,
            });
        } else if control & TARGET == 0 {
            let vram = self.card.memory().vram();
            let block = u64::from(control & PAGE) << 12;
            let base = vram.load(block + instance::PAGE_DIR_BASE);
            let limit = vram.load(block + instance::ADDR_LIMIT);
            let geometry = pfb::geometry(self.register(pfb::MMU_CTRL));
            if let Some(space) = AddressSpace::new(base, limit, geometry) {
                space.runs(&mut Tables(vram), &self.everything, 0, size, |run| {
                    if let GuestAddress::Vram(vram) = run.at {
                        pieces.push(Piece {
                            offset: run.va,
                            len: run.len,
                            vram,
                            read_only: run.read_only,
                        });
                    }
                });
            }
        }
        match bar {
            Bar::Bar1 => without(&pieces, &self.control_pages()),
            _ => pieces,
        }
    }

    /// Where in BAR1 channels are driven.
    fn control_pages(&self) -> Range<u64> {
        let base = self.register(pfifo::BAR1_BASE);
        if base & pfifo::BAR1_BASE_ENABLE == 0 {
            return 0..0;
        }
        let first = u64::from(base & PAGE) * userd::STRIDE;
        first..first + u64::from(pfifo::CHANNELS) * userd::STRIDE
    }
}

/// `pieces` but for what is in `hole`.
fn without(pieces: &[Piece], hole: &Range<u64>) -> Vec<Piece> {
    let part = |piece: &Piece, from: u64, to: u64| {
        let from = from.max(piece.offset);
        let to = to.min(piece.offset + piece.len);
        (from < to).then(|| Piece {
            offset: from,
            len: to - from,
            vram: piece.vram + (from - piece.offset),
            ..*piece
        })
    };
    let around = |piece| {
        let before = part(piece, 0, hole.start);
        before
            .into_iter()
            .chain(part(piece, hole.end, u64::MAX))
            .collect::<Vec<_>>()
    };
    pieces.iter().flat_map(around).collect()
}

impl Function for WholeCard {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.card.bar_size(bar)
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.card.config_read(offset, data);
    }

    fn config_write(&self, offset: u64, data: &[u8]) {
        self.card.config_write(offset, data);
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.card.read(bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.card.write(bar, offset, data);
        if bar == Bar::Bar0 {
            self.stored(offset, data.len());
        }
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        Function::dma_map(&self.card, iova, size, protection, file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        Function::dma_unmap(&self.card, iova, size);
    }

    fn dma_clear(&self) {
        Function::dma_clear(&self.card);
    }

    fn reset(&self) {
        self.card.reset();
        self.mapper.remap(Bar::Bar0, &self.pramin());
        for bar in [Bar::Bar1, Bar::Bar3] {
            self.mapper.remap(bar, &self.aperture(bar));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hole_splits_the_piece_around_it() {
        let piece = |offset, len, vram| Piece {
            offset,
            len,
            vram,
            read_only: false,
        };
        let pieces = [piece(0, 0x5000, 0x10_0000), piece(0x6000, 0x1000, 0)];

        let left = without(&pieces, &(0x1000..0x3000));

        let halves = [
            piece(0, 0x1000, 0x10_0000),
            piece(0x3000, 0x2000, 0x10_3000),
        ];
        assert_eq!(left, [&halves[..], &pieces[1..]].concat());
        assert_eq!(without(&pieces, &(0..0)), pieces);
    }
}
