//! Who owns what of the card.

use std::ops::{Range, RangeInclusive};

use mmio::layout::{instance, pagetable, userd};
use mmio::regs::pfifo;
use mmio::{Bar, VmId};

use crate::stretch::{Stretch, Stretches};

/// Bytes of bus addresses that a machine has: `iova = base + guest physical address`.
const DMA_SHIFT: u32 = 36;
/// Most machines: bus addresses have as many bits as virtual ones.
pub const MOST_VGPUS: u16 = 1 << (pagetable::VA_BITS - DMA_SHIFT);
/// Video memory is given in units of this.
pub const VRAM_UNIT: u64 = 1 << 20;
/// Least video memory of a machine: nouveau keeps some of it for itself.
const LEAST_VRAM: u64 = 64 << 20;
/// What a machine's BAR1 and BAR3 may have, and least of them with which nouveau works: control pages
/// of all channels and some buffers are behind BAR1, a structure after the other behind BAR3.
const BAR1_SIZES: RangeInclusive<u64> = 16 << 20..=1 << 30;
const BAR3_SIZES: RangeInclusive<u64> = 4 << 20..=1 << 30;
/// Least memory for the shadow tables of a machine.
const LEAST_TABLES: u64 = 8 << 20;

/// Bytes of the hypervisor's structures, the shadow tables apart.
const STRUCTURES: u64 = 2 << 20;
/// The hypervisor's own channel, with which it moves memory; those before it are the machines'.
pub(crate) const OWN_CHANNEL: u32 = pfifo::CHANNELS - 1;
/// Least channels of a machine: nouveau keeps two for itself.
const LEAST_CHANNELS: u32 = 4;
/// Bytes of a runlist buffer.
const RUNLIST_SIZE: u64 = 0x1000;
const DIRECTORY_SIZE: u64 = pagetable::PDE_COUNT * pagetable::ENTRY_SIZE;
/// A BAR has one directory entry, with large pages.
const BAR_TABLE_SIZE: u64 = pagetable::LARGE_COUNT * pagetable::ENTRY_SIZE;
const BAR_REACH: u64 = 1 << pagetable::PDE_SHIFT;
/// Bytes of the control pages of all channels: whole large pages.
const CONTROL_SIZE: u64 = pfifo::CHANNELS as u64 * userd::STRIDE;

/// Why a card cannot be shared like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The number of machines.
    #[error("{0} virtual GPUs: 1 to {MOST_VGPUS} are possible")]
    Count(u16),
    /// The channels of a machine.
    #[error(
        "{each} channels for each of {vgpus} virtual GPUs: at least {LEAST_CHANNELS} are needed, and the card has {OWN_CHANNEL} in all"
    )]
    Channels {
        /// So many machines.
        vgpus: u16,
        /// So many channels.
        each: u32,
    },
    /// The memory of a machine.
    #[error("{0:#x} bytes of video memory for each: at least 64 MiB in steps of 1 MiB are needed")]
    Vram(u64),
    /// What a machine's BAR shows.
    #[error(
        "A BAR{} of {size:#x} bytes: powers of two from {least:#x} to {most:#x} are possible",
        bar.index()
    )]
    Bar {
        /// Which.
        bar: Bar,
        /// So many bytes.
        size: u64,
        /// The fewest.
        least: u64,
        /// The most.
        most: u64,
    },
    /// The card's memory.
    #[error("A card of {have:#x} bytes is too small: {need:#x} are needed")]
    Card {
        /// Its bytes.
        have: u64,
        /// The bytes that it would need.
        need: u64,
    },
}

/// How a card is shared: equal slices of memory from address 0, and of channels from 0, and the rest
/// for the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    vgpus: u16,
    vram_each: u64,
    channels_each: u32,
    vram: u64,
    /// By machine.
    bars: Vec<BarSizes>,
}

/// Bytes of a machine's apertures to memory; none: those of the card.
///
/// What a machine has behind them does not depend on what the card has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BarSizes {
    /// Control pages of channels, and buffers.
    pub bar1: Option<u64>,
    /// The driver's own structures.
    pub bar3: Option<u64>,
}

impl Layout {
    /// A card of `vram` bytes for `vgpus` machines with `vram_each` bytes.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn new(vgpus: u16, vram_each: u64, vram: u64) -> Result<Self, PartitionError> {
        if !(1..=MOST_VGPUS).contains(&vgpus) {
            return Err(PartitionError::Count(vgpus));
        }
        if !(LEAST_VRAM..=1 << DMA_SHIFT).contains(&vram_each)
            || !vram_each.is_multiple_of(VRAM_UNIT)
        {
            return Err(PartitionError::Vram(vram_each));
        }
        let need = Self::vram_for(vgpus, vram_each, LEAST_TABLES);
        if vram < need {
            return Err(PartitionError::Card { have: vram, need });
        }
        Ok(Self {
            vgpus,
            vram_each,
            channels_each: OWN_CHANNEL / u32::from(vgpus),
            vram,
            bars: vec![BarSizes::default(); vgpus.into()],
        })
    }

    /// The same with so many channels for each machine, and no more than an equal part is.
    ///
    /// # Errors
    ///
    /// Those are too many, or too few.
    pub fn with_channels(self, each: u32) -> Result<Self, PartitionError> {
        if !(LEAST_CHANNELS..=OWN_CHANNEL / u32::from(self.vgpus)).contains(&each) {
            let vgpus = self.vgpus;
            return Err(PartitionError::Channels { vgpus, each });
        }
        Ok(Self {
            channels_each: each,
            ..self
        })
    }

    /// The same with BARs of these sizes for each machine, from the first on.
    ///
    /// # Errors
    ///
    /// One of them is no size for a BAR.
    pub fn with_bars(mut self, sizes: &[BarSizes]) -> Result<Self, PartitionError> {
        for (own, sizes) in self.bars.iter_mut().zip(sizes) {
            for (bar, size, possible) in [
                (Bar::Bar1, sizes.bar1, BAR1_SIZES),
                (Bar::Bar3, sizes.bar3, BAR3_SIZES),
            ] {
                let fits = |size: u64| size.is_power_of_two() && possible.contains(&size);
                if let Some(size) = size.filter(|size| !fits(*size)) {
                    let (least, most) = possible.into_inner();
                    return Err(PartitionError::Bar {
                        bar,
                        size,
                        least,
                        most,
                    });
                }
            }
            *own = *sizes;
        }
        Ok(self)
    }

    /// The bytes of a card that has `tables` bytes for the shadow tables of each machine.
    pub fn vram_for(vgpus: u16, vram_each: u64, tables: u64) -> u64 {
        u64::from(vgpus) * (vram_each + tables) + STRUCTURES
    }

    /// The number of machines.
    pub fn vgpus(&self) -> u16 {
        self.vgpus
    }

    /// The part of machine `vm`.
    pub fn partition(&self, vm: VmId) -> Partition {
        let n = u64::from(vm.0);
        let first = self.channels_each * u32::from(vm.0);
        let pool = self.hypervisor() + STRUCTURES;
        let tables = (self.vram - pool) / u64::from(self.vgpus) / VRAM_UNIT * VRAM_UNIT;
        Partition {
            vm,
            vram: n * self.vram_each..(n + 1) * self.vram_each,
            channels: first..first + self.channels_each,
            dma: n << DMA_SHIFT..(n + 1) << DMA_SHIFT,
            tables: pool + n * tables..pool + (n + 1) * tables,
            bars: self.bars[usize::from(vm.0)],
        }
    }

    fn hypervisor(&self) -> u64 {
        u64::from(self.vgpus) * self.vram_each
    }

    /// The control page (USERD) of channel `chid` of the card.
    pub fn userd(&self, chid: u32) -> u64 {
        self.hypervisor() + u64::from(chid) * userd::STRIDE
    }

    /// The shadow instance block of channel `chid` of the card.
    pub fn instance(&self, chid: u32) -> u64 {
        self.userd(pfifo::CHANNELS) + u64::from(chid) * instance::SIZE
    }

    /// A second one of each machine, for contexts that no channel has.
    pub fn context_instance(&self, vm: VmId) -> u64 {
        self.runlist(2) + u64::from(vm.0) * instance::SIZE
    }

    /// The channel of the card whose shadow instance block is at `address`.
    pub fn channel_at(&self, address: u64) -> Option<u32> {
        let chid = address.checked_sub(self.instance(0))? / instance::SIZE;
        (chid < pfifo::CHANNELS.into()).then_some(chid as u32)
    }

    /// Runlist buffer `index`, 0 or 1.
    pub fn runlist(&self, index: u64) -> u64 {
        self.instance(pfifo::CHANNELS) + index * RUNLIST_SIZE
    }

    /// What the BARs that the hypervisor has lead to.
    pub(crate) fn bar_space(&self, bar: Bar) -> BarSpace {
        let first = self.context_instance(VmId(MOST_VGPUS));
        let (n, bars) = match bar {
            Bar::Bar3 => (1, 2),
            _ => (0, 2),
        };
        let directories = (first + bars * instance::SIZE).next_multiple_of(DIRECTORY_SIZE);
        BarSpace {
            instance: first + n * instance::SIZE,
            directory: directories + n * DIRECTORY_SIZE,
            table: directories + bars * DIRECTORY_SIZE + n * BAR_TABLE_SIZE,
        }
    }

    /// Bytes of large pages that are all memory of the hypervisor's own channel.
    pub(crate) const OWN_SIZE: u64 = 2 << pagetable::LARGE_SHIFT;

    /// The first of them.
    pub(crate) fn own_page(&self) -> u64 {
        let tables = self.bar_space(Bar::Bar3).table + BAR_TABLE_SIZE;
        tables.next_multiple_of(1 << pagetable::LARGE_SHIFT)
    }

    /// Bytes of large pages to which accesses go that the MMU of the GPCs turns away: one for stores,
    /// and behind it one for loads, in which nothing is.
    pub(crate) const STRAY_SIZE: u64 = 2 << pagetable::LARGE_SHIFT;

    /// The first of them.
    pub(crate) fn stray(&self) -> u64 {
        self.own_page() + Self::OWN_SIZE
    }

    /// Bytes that the structures take.
    #[cfg(test)]
    fn structures(&self) -> u64 {
        self.stray() + Self::STRAY_SIZE - self.hypervisor()
    }

    /// Where the card's engines see memory of the hypervisor: bus addresses behind those of the last
    /// machine, if there are some.
    pub(crate) fn staging(&self) -> Option<u64> {
        (self.vgpus < MOST_VGPUS).then(|| u64::from(self.vgpus) << DMA_SHIFT)
    }

    /// Where the control page of channel `chid` of the card is in its BAR1.
    pub fn control_page(chid: u32) -> u64 {
        u64::from(chid) * userd::STRIDE
    }

    /// What of video memory the hypervisor has behind BARs of so many bytes. Drivers keep instance
    /// blocks, contexts and page tables at the end of video memory, which is behind BAR3 with the
    /// hypervisor's own; and buffers at its start, behind BAR1 with the control pages.
    pub fn stretches(&self, bar1: u64, bar3: u64) -> Stretches {
        let vgpus = u64::from(self.vgpus);
        let whole = |bytes: u64| bytes / VRAM_UNIT * VRAM_UNIT;
        let share = |bar: u64, own| whole(bar.min(BAR_REACH).saturating_sub(own) / vgpus);

        let control = self.userd(0)..self.userd(pfifo::CHANNELS);
        let own = control.end..self.hypervisor() + STRUCTURES;
        let bottom = share(bar1, CONTROL_SIZE).min(self.vram_each);
        let share = share(bar3, STRUCTURES);
        let top = whole(share / 4 * 3).min(self.vram_each - bottom);
        let parts: Vec<Partition> = (0..self.vgpus).map(|n| self.partition(VmId(n))).collect();

        let bottoms = parts
            .iter()
            .map(|Partition { vram, .. }| vram.start..vram.start + bottom);
        let tops = parts
            .iter()
            .map(|Partition { vram, .. }| vram.end - top..vram.end);
        let tables = parts.iter().map(|Partition { tables, .. }| {
            tables.start..tables.end.min(tables.start + share - top)
        });
        let mut all = Vec::new();
        all.extend(Stretch::in_a_row(
            Bar::Bar1,
            [control].into_iter().chain(bottoms),
        ));
        all.extend(Stretch::in_a_row(
            Bar::Bar3,
            [own].into_iter().chain(tables).chain(tops),
        ));
        Stretches::new(all)
    }
}

/// Where the structures of a BAR's address space are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BarSpace {
    /// The instance block.
    pub instance: u64,
    /// The page directory.
    pub directory: u64,
    /// The table of large pages.
    pub table: u64,
}

impl BarSpace {
    /// Bytes of the directory.
    pub const DIRECTORY_SIZE: u64 = DIRECTORY_SIZE;
}

/// What one machine has of the card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Whose it is.
    pub vm: VmId,
    /// Its video memory, in addresses of the card.
    pub vram: Range<u64>,
    /// Its channels, in numbers of the card.
    pub channels: Range<u32>,
    /// Its memory, in bus addresses of the card.
    pub dma: Range<u64>,
    /// Video memory for its shadow tables.
    pub tables: Range<u64>,
    /// What its BARs show.
    pub bars: BarSizes,
}

fn translate(range: &Range<u64>, address: u64, len: u64) -> Option<u64> {
    let at = range.start.checked_add(address)?;
    (at.checked_add(len)? <= range.end).then_some(at)
}

impl Partition {
    /// Bytes of video memory.
    pub fn vram_size(&self) -> u64 {
        self.vram.end - self.vram.start
    }

    /// Where `len` bytes of the guest's video memory are on the card; `None` unless all are its own.
    pub fn vram(&self, address: u64, len: u64) -> Option<u64> {
        translate(&self.vram, address, len)
    }

    /// The bus address of `len` bytes of the guest's memory; `None` unless all could be its own.
    pub fn dma(&self, address: u64, len: u64) -> Option<u64> {
        translate(&self.dma, address, len)
    }

    /// The card's number of a channel of the guest.
    pub fn channel(&self, guest: u32) -> Option<u32> {
        let chid = self.channels.start.checked_add(guest)?;
        self.channels.contains(&chid).then_some(chid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hypervisors_structures_fit_before_the_tables() {
        for vgpus in [1, MOST_VGPUS] {
            let vram = Layout::vram_for(vgpus, LEAST_VRAM, LEAST_TABLES);
            let layout = Layout::new(vgpus, LEAST_VRAM, vram).unwrap();
            assert!(layout.structures() <= STRUCTURES);
            let last = layout.partition(VmId(vgpus - 1));
            assert_eq!(last.tables.end, vram);
        }
    }

    #[test]
    fn parts_are_disjoint_and_bounded() {
        let layout = Layout::new(3, 64 << 20, 1 << 30).unwrap();
        let parts = [0, 1, 2].map(|n| layout.partition(VmId(n)));
        for pair in parts.windows(2) {
            assert!(pair[0].vram.end <= pair[1].vram.start);
            assert!(pair[0].tables.end <= pair[1].tables.start);
            assert!(pair[0].channels.end <= pair[1].channels.start);
            assert!(pair[0].dma.end <= pair[1].dma.start);
        }
        let part = &parts[1];
        assert_eq!(part.vram((64 << 20) - 4, 4), Some((128 << 20) - 4));
        assert_eq!(part.vram((64 << 20) - 3, 4), None);
        assert_eq!(part.vram(u64::MAX, 4), None);
        assert_eq!(part.dma(1 << 36, 1), None);
        assert_eq!(part.channel(42), None);
        assert_eq!(part.channel(41), Some(83));
    }

    #[test]
    fn stretches_are_disjoint_and_reach_both_ends_of_each_part() {
        let (bar1, bar3) = (128 << 20, 64 << 20);
        for (vgpus, each) in [(1, 512 << 20), (2, 128 << 20), (MOST_VGPUS, LEAST_VRAM)] {
            let vram = Layout::vram_for(vgpus, each, LEAST_TABLES);
            let layout = Layout::new(vgpus, each, vram).unwrap();
            let stretches = layout.stretches(bar1, bar3);
            for (bar, size) in [(Bar::Bar1, bar1), (Bar::Bar3, bar3)] {
                let mut end = 0;
                for stretch in stretches.behind(bar) {
                    let len = stretch.vram.end - stretch.vram.start;
                    assert!(stretch.vram.end <= vram);
                    assert!(
                        stretch
                            .vram
                            .start
                            .is_multiple_of(1 << pagetable::LARGE_SHIFT)
                    );
                    assert!(len.is_multiple_of(1 << pagetable::LARGE_SHIFT));
                    end = end.max(stretch.offset + len);
                }
                assert!(end <= size);
            }
            let last = layout.partition(VmId(vgpus - 1));
            for at in [last.vram.start, last.vram.end - 4, last.tables.start] {
                assert!(stretches.find(at, 4).is_some(), "{at:#x}");
            }
            assert_eq!(
                stretches.find(layout.userd(5), 4),
                Some((Bar::Bar1, 0x5000))
            );
        }
    }

    #[test]
    fn channels_are_given_as_asked_for_while_there_are_some() {
        let layout = Layout::new(4, 64 << 20, 1 << 30).unwrap();
        let with = |each| layout.clone().with_channels(each);

        assert_eq!(layout.partition(VmId(3)).channels, 93..124);
        assert_eq!(with(8).unwrap().partition(VmId(3)).channels, 24..32);
        for each in [0, 3, 32, u32::MAX] {
            assert!(with(each).is_err(), "{each}");
        }
    }

    #[test]
    fn bars_are_as_large_as_asked_for_if_a_driver_can_do_with_them() {
        let layout = Layout::new(2, 64 << 20, 1 << 30).unwrap();
        let sizes = |bar1, bar3| BarSizes {
            bar1: Some(bar1),
            bar3: Some(bar3),
        };
        let small = sizes(16 << 20, 4 << 20);
        let with = |second| {
            layout
                .clone()
                .with_bars(&[BarSizes::default(), second])
                .map(|layout| [0, 1].map(|n| layout.partition(VmId(n)).bars))
        };

        assert_eq!(with(small), Ok([BarSizes::default(), small]));
        for (bar1, bar3, wrong) in [
            (48 << 20, 4 << 20, Bar::Bar1),
            (8 << 20, 4 << 20, Bar::Bar1),
            (2 << 30, 4 << 20, Bar::Bar1),
            (16 << 20, 0, Bar::Bar3),
            (16 << 20, 2 << 20, Bar::Bar3),
            (16 << 20, u64::MAX, Bar::Bar3),
        ] {
            let error = with(sizes(bar1, bar3)).unwrap_err();
            assert!(matches!(error, PartitionError::Bar { bar, .. } if bar == wrong));
        }
    }

    #[test]
    fn a_shadow_instance_block_names_its_channel() {
        let layout = Layout::new(2, 64 << 20, 1 << 30).unwrap();
        assert_eq!(layout.channel_at(layout.instance(77)), Some(77));
        assert_eq!(layout.channel_at(layout.runlist(0)), None);
        assert_eq!(layout.channel_at(0), None);
    }
}
