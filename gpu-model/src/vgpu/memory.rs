//! A guest's memory: what it has, its page tables, and their shadows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;

use mmio::layout::pagetable::{Aperture, Geometry};
use shadow_pt::{
    AddressSpace, Algorithm, CardTables, GuestAddress, GuestTables, RamRegion, Report, Shadow,
    TablePool, Translation, TranslationError, Untracked, Vm,
};

use crate::aggregator::Aggregator;
use crate::card::Protection;
use crate::partition::Partition;
use crate::vram::Vram;

/// Mappings of a guest's memory: one per bank and hole.
const MOST_REGIONS: usize = 256;
const PAGE: u64 = 0x1000;

/// The page size that the card is set to; nouveau sets no other.
pub const GEOMETRY: Geometry = Geometry::Large128K;

/// Tables of a guest and of its shadows, in the card's memory.
///
/// What a guest keeps in its RAM, where no driver keeps tables, reads as empty.
pub struct Tables<'a> {
    vram: &'a Vram,
    partition: &'a Partition,
}

impl<'a> Tables<'a> {
    /// The tables of the machine with this partition.
    pub fn new(vram: &'a Vram, partition: &'a Partition) -> Self {
        Self { vram, partition }
    }

    fn place(&self, at: GuestAddress, len: u64) -> Option<u64> {
        match at {
            GuestAddress::Vram(address) => self.partition.vram(address, len),
            GuestAddress::Ram(_) => None,
        }
    }
}

impl GuestTables for Tables<'_> {
    fn read_word(&mut self, at: GuestAddress) -> u32 {
        self.place(at, 4).map_or(0, |at| self.vram.load(at))
    }

    fn read_block(&mut self, at: GuestAddress, out: &mut [u64]) {
        out.fill(0);
        let Some(at) = self.place(at, out.len() as u64 * 8) else {
            return;
        };
        let mut bytes = [0; 4096];
        for (n, entries) in out.chunks_mut(bytes.len() / 8).enumerate() {
            let bytes = &mut bytes[..entries.len() * 8];
            self.vram.read(at + n as u64 * PAGE, bytes);
            for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(8)) {
                *entry = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            }
        }
    }
}

impl CardTables for Tables<'_> {
    fn write_word(&mut self, address: u64, word: u32) {
        self.vram.store(address, word);
    }

    fn write_block(&mut self, address: u64, entries: &[u64]) {
        for (at, entry) in (address..).step_by(8).zip(entries) {
            self.vram.write(at, &entry.to_le_bytes());
        }
    }
}

/// The shadow of one address space, and how many channels use it.
struct Space {
    shadow: Shadow,
    users: usize,
}

/// What the guest has.
pub struct Memory {
    /// Its RAM as the card sees it: guest-physical address and bytes.
    regions: BTreeMap<u64, u64>,
    translation: Translation,
    pool: TablePool,
    spaces: HashMap<GuestAddress, Space>,
    algorithm: Algorithm,
}

fn translation(
    partition: &Partition,
    regions: &BTreeMap<u64, u64>,
) -> Result<Translation, TranslationError> {
    let ram = regions
        .iter()
        .map(|(&start, &len)| RamRegion { start, len });
    let vram = (partition.vram.start, partition.vram_size());
    Translation::new(vram, partition.dma.start, ram)
}

impl Memory {
    /// A guest with a partition and no RAM yet.
    ///
    /// # Errors
    ///
    /// The partition cannot be described in page tables.
    pub fn new(partition: &Partition, algorithm: Algorithm) -> Result<Self, TranslationError> {
        let regions = BTreeMap::new();
        let tables = &partition.tables;
        Ok(Self {
            translation: translation(partition, &regions)?,
            regions,
            pool: TablePool::new(tables.start, tables.end - tables.start),
            spaces: HashMap::new(),
            algorithm,
        })
    }

    /// Where the guest's memory is for the card.
    pub fn translation(&self) -> &Translation {
        &self.translation
    }

    /// Shows `size` bytes of RAM at guest-physical `address` to the card.
    ///
    /// # Errors
    ///
    /// They are not the guest's to have, or the card cannot map them.
    pub fn map(
        &mut self,
        host: &Aggregator,
        partition: &Partition,
        (address, size): (u64, u64),
        protection: Protection,
        (file, offset): (File, u64),
    ) -> io::Result<()> {
        if self.regions.len() >= MOST_REGIONS {
            return Err(io::Error::other("Too many mappings"));
        }
        let Some(iova) = partition.dma(address, size) else {
            return Err(io::Error::other("Above what a virtual GPU reaches"));
        };
        let mut regions = self.regions.clone();
        // A card does not store where it may not; a table need not know.
        regions.insert(address, size);
        let translation = translation(partition, &regions).map_err(io::Error::other)?;
        host.card().dma_map(iova, size, protection, file, offset)?;
        (self.regions, self.translation) = (regions, translation);
        self.translate_again(host, partition);
        Ok(())
    }

    /// Takes the RAM inside `size` bytes at `address` away from the card.
    pub fn unmap(&mut self, host: &Aggregator, partition: &Partition, address: u64, size: u64) {
        let end = address.saturating_add(size);
        let gone: Vec<(u64, u64)> = self
            .regions
            .range(address..end)
            .filter(|&(start, len)| start + len <= end)
            .map(|(&start, &len)| (start, len))
            .collect();
        for (start, len) in gone {
            if let Some(iova) = partition.dma(start, len) {
                host.card().dma_unmap(iova, len);
            }
            self.regions.remove(&start);
        }
        // Fewer regions of those that were accepted are as acceptable.
        if let Ok(translation) = translation(partition, &self.regions) {
            self.translation = translation;
        }
        self.translate_again(host, partition);
    }

    /// The directory of the card's for the guest's directory that `base` (of an instance block)
    /// names: it has a user more. `None` if there can be none.
    pub fn attach(
        &mut self,
        host: &Aggregator,
        partition: &Partition,
        base: u64,
    ) -> Option<(GuestAddress, u64, Report)> {
        let directory = AddressSpace::new(base, 0, GEOMETRY)?.directory;
        let mut report = Report::default();
        if !self.spaces.contains_key(&directory) {
            let shadow = Shadow::new(
                directory,
                GEOMETRY,
                &mut Vm {
                    memory: &mut Tables::new(host.vram(), partition),
                    policy: &self.translation,
                    pool: &mut self.pool,
                    tracker: &mut Untracked,
                },
            );
            let shadow = shadow.ok()?;
            self.spaces.insert(directory, Space { shadow, users: 0 });
            report = self.sync(host, partition, directory, self.algorithm);
        }
        let space = self.spaces.get_mut(&directory)?;
        space.users += 1;
        Some((directory, space.shadow.directory(), report))
    }

    /// The directory has a user less.
    pub fn detach(&mut self, host: &Aggregator, directory: GuestAddress) {
        let Some(space) = self.spaces.get_mut(&directory) else {
            return;
        };
        space.users -= 1;
        if space.users == 0
            && let Some(space) = self.spaces.remove(&directory)
        {
            host.flush_tlb(space.shadow.directory());
            self.pool.release(space.shadow.close());
        }
    }

    /// The guest flushed translations of the directory that `space` (of the flush register)
    /// names.
    pub fn flush(&mut self, host: &Aggregator, partition: &Partition, space: u32) -> Report {
        let target = match space & 2 {
            0 => Aperture::Vram,
            _ => Aperture::SysCoherent,
        };
        let directory = GuestAddress::new(target, u64::from(space & 0xffff_fff0) << 8);
        self.sync(host, partition, directory, self.algorithm)
    }

    /// The guest flushed all translations.
    pub fn flush_all(&mut self, host: &Aggregator, partition: &Partition) -> Report {
        self.sync_all(host, partition, self.algorithm)
    }

    /// Entries that were translated lead elsewhere now: all are read again.
    fn translate_again(&mut self, host: &Aggregator, partition: &Partition) {
        self.sync_all(host, partition, Algorithm::Bulk);
    }

    fn sync_all(
        &mut self,
        host: &Aggregator,
        partition: &Partition,
        algorithm: Algorithm,
    ) -> Report {
        let directories: Vec<GuestAddress> = self.spaces.keys().copied().collect();
        let mut total = Report::default();
        for directory in directories {
            total += self.sync(host, partition, directory, algorithm);
        }
        total
    }

    /// Brings a shadow up to date, if there is one.
    fn sync(
        &mut self,
        host: &Aggregator,
        partition: &Partition,
        directory: GuestAddress,
        algorithm: Algorithm,
    ) -> Report {
        let Some(space) = self.spaces.get_mut(&directory) else {
            return Report::default();
        };
        let mut total = Report::default();
        // What the first sync retires may be what it lacked.
        for _ in 0..2 {
            let (report, retired) = space.shadow.sync(
                algorithm,
                &mut Vm {
                    memory: &mut Tables::new(host.vram(), partition),
                    policy: &self.translation,
                    pool: &mut self.pool,
                    tracker: &mut Untracked,
                },
            );
            host.flush_tlb(space.shadow.directory());
            let again = report.starved != 0 && !retired.is_empty();
            self.pool.release(retired);
            total += report;
            if !again {
                break;
            }
        }
        total
    }

    /// Forgets all address spaces: no channel uses any.
    pub fn clear(&mut self, host: &Aggregator) {
        for (_, space) in std::mem::take(&mut self.spaces) {
            host.flush_tlb(space.shadow.directory());
            self.pool.release(space.shadow.close());
        }
    }

    /// How the shadows follow from now on.
    pub fn set_algorithm(&mut self, algorithm: Algorithm) {
        self.algorithm = algorithm;
    }
}
