//! Who owns what of the card.

use std::ops::Range;

use mmio::VmId;
use mmio::layout::{instance, pagetable, userd};
use mmio::regs::pfifo;

/// Bytes of bus addresses that a machine has: `iova = base + guest physical address`.
const DMA_SHIFT: u32 = 36;
/// Most machines: bus addresses have as many bits as virtual ones.
pub const MOST_VGPUS: u16 = 1 << (pagetable::VA_BITS - DMA_SHIFT);
/// Video memory is given in units of this.
pub const VRAM_UNIT: u64 = 1 << 20;
/// Least video memory of a machine: nouveau keeps some of it for itself.
const LEAST_VRAM: u64 = 64 << 20;
/// Least memory for the shadow tables of a machine.
const LEAST_TABLES: u64 = 8 << 20;

/// Bytes of the hypervisor's structures, the shadow tables apart.
const STRUCTURES: u64 = 2 << 20;
/// The channel with which the hypervisor clears memory; those before it are the machines'.
pub(crate) const SCRUBBER: u32 = pfifo::CHANNELS - 1;
/// Least channels of a machine: nouveau keeps two for itself.
const LEAST_CHANNELS: u32 = 4;
/// Bytes of a runlist buffer.
const RUNLIST_SIZE: u64 = 0x1000;
/// The first directory entry of BAR1 covers 16 MiB: more than the control pages of all channels.
const BAR1_TABLE_SIZE: u64 = 0x8000;
const DIRECTORY_SIZE: u64 = pagetable::PDE_COUNT * pagetable::ENTRY_SIZE;

/// Why a card cannot be shared like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    /// The number of machines.
    #[error("{0} virtual GPUs: 1 to {MOST_VGPUS} are possible")]
    Count(u16),
    /// The channels of a machine.
    #[error(
        "{each} channels for each of {vgpus} virtual GPUs: at least {LEAST_CHANNELS} are needed, and the card has {SCRUBBER} in all"
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
            channels_each: SCRUBBER / u32::from(vgpus),
            vram,
        })
    }

    /// The same with so many channels for each machine, and no more than an equal part is.
    ///
    /// # Errors
    ///
    /// Those are too many, or too few.
    pub fn with_channels(self, each: u32) -> Result<Self, PartitionError> {
        if !(LEAST_CHANNELS..=SCRUBBER / u32::from(self.vgpus)).contains(&each) {
            let vgpus = self.vgpus;
            return Err(PartitionError::Channels { vgpus, each });
        }
        Ok(Self {
            channels_each: each,
            ..self
        })
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
        }
    }

    fn hypervisor(&self) -> u64 {
        u64::from(self.vgpus) * self.vram_each
    }

    /// The shadow instance block of channel `chid` of the card.
    pub fn instance(&self, chid: u32) -> u64 {
        self.hypervisor() + u64::from(chid) * instance::SIZE
    }

    /// A second one of each machine, for contexts that no channel has.
    pub fn context_instance(&self, vm: VmId) -> u64 {
        self.runlist(2) + u64::from(vm.0) * instance::SIZE
    }

    /// The channel of the card whose shadow instance block is at `address`.
    pub fn channel_at(&self, address: u64) -> Option<u32> {
        let chid = address.checked_sub(self.hypervisor())? / instance::SIZE;
        (chid < pfifo::CHANNELS.into()).then_some(chid as u32)
    }

    /// Runlist buffer `index`, 0 or 1.
    pub fn runlist(&self, index: u64) -> u64 {
        self.instance(pfifo::CHANNELS) + index * RUNLIST_SIZE
    }

    /// The control page (USERD) of channel `chid` of the card.
    pub fn userd(&self, chid: u32) -> u64 {
        self.context_instance(VmId(MOST_VGPUS)) + u64::from(chid) * userd::STRIDE
    }

    /// The instance block of BAR1.
    pub fn bar1_instance(&self) -> u64 {
        self.userd(pfifo::CHANNELS)
    }

    /// The page directory of BAR1.
    pub fn bar1_directory(&self) -> u64 {
        (self.bar1_instance() + instance::SIZE).next_multiple_of(DIRECTORY_SIZE)
    }

    /// The page table of BAR1: an entry per channel.
    pub fn bar1_table(&self) -> u64 {
        self.bar1_directory() + DIRECTORY_SIZE
    }

    /// The large page that is all memory of the channel that clears memory.
    pub fn scrubber(&self) -> u64 {
        (self.bar1_table() + BAR1_TABLE_SIZE).next_multiple_of(1 << pagetable::LARGE_SHIFT)
    }

    /// Bytes that the structures take.
    #[cfg(test)]
    fn structures(&self) -> u64 {
        self.scrubber() + (1 << pagetable::LARGE_SHIFT) - self.hypervisor()
    }

    /// Where the control page of channel `chid` of the card is in its BAR1.
    pub fn control_page(chid: u32) -> u64 {
        u64::from(chid) * userd::STRIDE
    }

    /// Bytes of the page table of BAR1.
    pub const fn bar1_table_size() -> u64 {
        BAR1_TABLE_SIZE
    }
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
    fn a_shadow_instance_block_names_its_channel() {
        let layout = Layout::new(2, 64 << 20, 1 << 30).unwrap();
        assert_eq!(layout.channel_at(layout.instance(77)), Some(77));
        assert_eq!(layout.channel_at(layout.runlist(0)), None);
        assert_eq!(layout.channel_at(0), None);
    }
}
