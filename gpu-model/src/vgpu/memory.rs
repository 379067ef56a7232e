//! A guest's memory: what it has, its page tables, and their shadows.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, Geometry, PDE_COUNT};
use shadow_pt::{
    AddressSpace, Algorithm, CardTables, GuestAddress, GuestTables, RamRegion, Report, Retired,
    Shadow, TablePool, Translation, TranslationError, Vm, WriteTracker,
};

use crate::aggregator::Aggregator;
use crate::card::Protection;
use crate::counters::Counters;
use crate::optimisations::Optimisations;
use crate::partition::Partition;

/// Mappings of a guest's memory: one per bank and hole.
const MOST_REGIONS: usize = 256;
const PAGE: u64 = 0x1000;

/// A guest's RAM: what of it the card may reach, and the files that it is in.
#[derive(Default)]
pub struct Ram(BTreeMap<u64, Region>);

struct Region {
    len: u64,
    file: File,
    offset: u64,
}

impl Ram {
    /// The file with `len` bytes at guest-physical `address`, and where they are in it.
    fn find(&self, address: u64, len: u64) -> Option<(&File, u64)> {
        let (start, region) = self.0.range(..=address).next_back()?;
        let within = address - start;
        (within.checked_add(len)? <= region.len).then(|| (&region.file, region.offset + within))
    }

    /// Loads; whether all of it is there.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let found = self.find(address, data.len() as u64);
        found.is_some_and(|(file, at)| file.read_exact_at(data, at).is_ok())
    }

    /// Stores; whether all of it is there.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        let found = self.find(address, data.len() as u64);
        found.is_some_and(|(file, at)| file.write_all_at(data, at).is_ok())
    }
}

/// Tables of a guest and of its shadows.
pub struct Tables<'a> {
    host: &'a Aggregator,
    partition: &'a Partition,
    ram: &'a Ram,
}

impl GuestTables for Tables<'_> {
    fn read_word(&mut self, at: GuestAddress) -> u32 {
        let mut word = [0; 4];
        match at {
            GuestAddress::Vram(address) => {
                if let Some(at) = self.partition.vram(address, 4) {
                    self.host.vram().window_read(at, &mut word);
                }
            }
            GuestAddress::Ram(address) => {
                if !self.ram.read(address, &mut word) {
                    return 0;
                }
            }
        }
        u32::from_le_bytes(word)
    }

    fn read_block(&mut self, at: GuestAddress, out: &mut [u64]) {
        let page = (PAGE / ENTRY_SIZE) as usize;
        // Video memory may come in larger blocks than a page more quickly.
        let (most, buffer) = match at {
            GuestAddress::Vram(_) => (out.len().max(1), out.len()),
            GuestAddress::Ram(_) => (page, 0),
        };
        let mut small = [0; PAGE as usize];
        let mut large = vec![0; if buffer > page { 8 * buffer } else { 0 }];
        let mut at = at;
        for entries in out.chunks_mut(most) {
            let len = 8 * entries.len();
            let bytes = match large.get_mut(..len) {
                Some(bytes) => bytes,
                None => &mut small[..len],
            };
            let there = match at {
                GuestAddress::Vram(address) => {
                    let at = self.partition.vram(address, len as u64);
                    at.is_some_and(|at| {
                        self.host.fetch(at, bytes);
                        true
                    })
                }
                GuestAddress::Ram(address) => self.ram.read(address, bytes),
            };
            if !there {
                bytes.fill(0);
            }
            for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(8)) {
                *entry = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
            }
            at = at.offset(PAGE);
        }
    }
}

impl CardTables for Tables<'_> {
    fn write_word(&mut self, address: u64, word: u32) {
        self.host.vram().window_write(address, &word.to_le_bytes());
    }

    fn write_block(&mut self, address: u64, entries: &[u64]) {
        let mut bytes = [0; PAGE as usize];
        let mut at = address;
        for entries in entries.chunks(bytes.len() / 8) {
            let bytes = &mut bytes[..entries.len() * 8];
            for (entry, bytes) in entries.iter().zip(bytes.chunks_exact_mut(8)) {
                bytes.copy_from_slice(&entry.to_le_bytes());
            }
            self.host.vram().write_wide(at, bytes);
            at += PAGE;
        }
    }
}

/// The directory that a value of the flush register names.
pub fn flushed_directory(space: u32) -> GuestAddress {
    let target = match space & 2 {
        0 => Aperture::Vram,
        _ => Aperture::SysCoherent,
    };
    GuestAddress::new(target, u64::from(space & 0xffff_fff0) << 8)
}

/// The shadow of one address space, and how many channels use it.
struct Space {
    shadow: Shadow,
    users: usize,
    /// The guest flushed translations that the shadow still has.
    stale: bool,
}

/// What a machine's memory work needs from around it.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The card.
    pub host: &'a Aggregator,
    /// The machine's part of it.
    pub partition: &'a Partition,
    /// Which pages of its video memory it may have stored to.
    pub tracker: &'a dyn WriteTracker,
    /// Where work is counted.
    pub counters: &'a Counters,
    /// How it is done.
    pub optimisations: Optimisations,
    /// The size of large pages that the guest set.
    pub geometry: Geometry,
}

impl Around<'_> {
    fn algorithm(&self) -> Algorithm {
        if self.optimisations.contains(Optimisations::INCREMENTAL) {
            Algorithm::Incremental
        } else if self.optimisations.contains(Optimisations::BULK) {
            Algorithm::Bulk
        } else {
            Algorithm::Naive
        }
    }
}

/// What the guest has.
pub struct Memory {
    ram: Ram,
    translation: Translation,
    pool: TablePool,
    spaces: HashMap<GuestAddress, Space>,
    /// By directory of the card's, tables that a channel may still use which the card has not given
    /// up.
    lingering: Vec<(u64, Retired)>,
}

fn translation(
    partition: &Partition,
    regions: impl IntoIterator<Item = (u64, u64)>,
) -> Result<Translation, TranslationError> {
    let ram = regions
        .into_iter()
        .map(|(start, len)| RamRegion { start, len });
    let vram = (partition.vram.start, partition.vram_size());
    Translation::new(vram, partition.dma.start, ram)
}

impl Memory {
    /// A guest with a partition and no RAM yet.
    ///
    /// # Errors
    ///
    /// The partition cannot be described in page tables.
    pub fn new(partition: &Partition) -> Result<Self, TranslationError> {
        let tables = &partition.tables;
        Ok(Self {
            translation: translation(partition, [])?,
            ram: Ram::default(),
            pool: TablePool::cleared(tables.start, tables.end - tables.start),
            spaces: HashMap::new(),
            lingering: Vec::new(),
        })
    }

    /// Where the guest's memory is for the card.
    pub fn translation(&self) -> &Translation {
        &self.translation
    }

    /// The guest's RAM.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The guest's tables, and the card's memory for shadows.
    pub fn tables<'a>(&'a self, host: &'a Aggregator, partition: &'a Partition) -> Tables<'a> {
        Tables {
            host,
            partition,
            ram: &self.ram,
        }
    }

    /// Shows `size` bytes of RAM at guest-physical `address` to the card.
    ///
    /// # Errors
    ///
    /// They are not the guest's to have, or the card cannot map them.
    pub fn map(
        &mut self,
        around: &Around<'_>,
        (address, size): (u64, u64),
        protection: Protection,
        (file, offset): (File, u64),
    ) -> io::Result<()> {
        if self.ram.0.len() >= MOST_REGIONS {
            return Err(io::Error::other("Too many mappings"));
        }
        let Some(iova) = around.partition.dma(address, size) else {
            return Err(io::Error::other("Above what a virtual GPU reaches"));
        };
        let mut regions = self.regions();
        // A card does not store where it may not; a table need not know.
        regions.insert(address, size);
        let translation = translation(around.partition, regions).map_err(io::Error::other)?;
        let own = file.try_clone()?;
        let card = around.host.card();
        card.dma_map(iova, size, protection, file, offset)?;
        self.translation = translation;
        self.ram.0.insert(
            address,
            Region {
                len: size,
                file: own,
                offset,
            },
        );
        self.translate_again(around);
        Ok(())
    }

    fn regions(&self) -> BTreeMap<u64, u64> {
        let regions = self.ram.0.iter();
        regions
            .map(|(&start, region)| (start, region.len))
            .collect()
    }

    /// Takes the RAM inside `size` bytes at `address` away from the card.
    pub fn unmap(&mut self, around: &Around<'_>, address: u64, size: u64) {
        let end = address.saturating_add(size);
        let inside = |start: u64, len: u64| start >= address && start + len <= end;
        let (mut gone, mut left) = (self.regions(), self.regions());
        gone.retain(|&start, len| inside(start, *len));
        left.retain(|&start, len| !inside(start, *len));
        // Fewer regions of those that were accepted are as acceptable.
        if let Ok(translation) = translation(around.partition, left) {
            self.translation = translation;
        }
        // First the tables, then what they led to.
        self.translate_again(around);
        for (start, len) in gone {
            if let Some(iova) = around.partition.dma(start, len) {
                around.host.card().dma_unmap(iova, len);
            }
            self.ram.0.remove(&start);
        }
    }

    /// The directory of the card's for the guest's directory that `base` (of an instance block)
    /// names, up to date: it has a user more. `None` if there can be none.
    pub fn attach(&mut self, around: &Around<'_>, base: u64) -> Option<(GuestAddress, u64)> {
        let directory = AddressSpace::new(base, 0, around.geometry)?.directory;
        if !self.spaces.contains_key(&directory) {
            let shadow = Shadow::new(
                directory,
                &mut Vm {
                    memory: &mut Tables {
                        host: around.host,
                        partition: around.partition,
                        ram: &self.ram,
                    },
                    policy: &self.translation,
                    geometry: around.geometry,
                    pool: &mut self.pool,
                    tracker: around.tracker,
                },
            );
            let space = Space {
                shadow: shadow.ok()?,
                users: 0,
                stale: true,
            };
            self.spaces.insert(directory, space);
        }
        self.use_space(around, directory);
        let space = self.spaces.get_mut(&directory)?;
        space.users += 1;
        Some((directory, space.shadow.directory()))
    }

    /// The directory has a user less. If that is not `gone`, an engine may still walk the tables:
    /// it finds no page any more, and they are used for nothing else until [`Memory::release`].
    pub fn detach(&mut self, host: &Aggregator, directory: GuestAddress, gone: bool) {
        let Some(space) = self.spaces.get_mut(&directory) else {
            return;
        };
        space.users -= 1;
        if space.users == 0
            && let Some(space) = self.spaces.remove(&directory)
        {
            let directory = space.shadow.directory();
            if !gone {
                host.vram().scrub(directory, PDE_COUNT * ENTRY_SIZE);
            }
            host.flush_tlb(directory);
            let retired = space.shadow.close(&mut self.pool);
            match gone {
                true => self.pool.release(retired),
                false => self.lingering.push((directory, retired)),
            }
        }
    }

    /// The card has given all channels up that are gone: so are their tables.
    pub fn release(&mut self, host: &Aggregator) {
        for (directory, retired) in self.lingering.drain(..) {
            host.flush_tlb(directory);
            self.pool.release(retired);
        }
    }

    /// The card is about to use a directory: what was put off is done now, once for all channels.
    pub fn use_space(&mut self, around: &Around<'_>, directory: GuestAddress) {
        if self.spaces.get(&directory).is_some_and(|space| space.stale) {
            self.sync(around, directory, around.algorithm());
        }
    }

    /// The guest flushed translations of the directory that `space` (of the flush register) names,
    /// or of all.
    pub fn flush(&mut self, around: &Around<'_>, space: Option<u32>) {
        let directory = space.map(flushed_directory);
        for (_, space) in self
            .spaces
            .iter_mut()
            .filter(|(at, _)| directory.is_none_or(|directory| directory == **at))
        {
            space.stale = true;
        }
        match around.optimisations.lazy() {
            true => around.counters.count(&around.counters.syncs_deferred),
            false => self.catch_up(around),
        }
    }

    /// Whether anything is put off.
    pub fn is_stale(&self) -> bool {
        self.spaces.values().any(|space| space.stale)
    }

    /// Nothing is put off any more.
    pub fn catch_up(&mut self, around: &Around<'_>) {
        self.sync_stale(around, around.algorithm());
    }

    fn sync_stale(&mut self, around: &Around<'_>, algorithm: Algorithm) {
        let stale = self.spaces.iter().filter(|(_, space)| space.stale);
        let stale: Vec<GuestAddress> = stale.map(|(&directory, _)| directory).collect();
        for directory in stale {
            self.sync(around, directory, algorithm);
        }
    }

    /// Entries that were translated lead elsewhere now: all are read again.
    fn translate_again(&mut self, around: &Around<'_>) {
        self.spaces
            .values_mut()
            .for_each(|space| space.stale = true);
        self.sync_stale(around, Algorithm::Bulk);
    }

    /// Brings a shadow up to date, if there is one.
    fn sync(&mut self, around: &Around<'_>, directory: GuestAddress, algorithm: Algorithm) {
        let Some(space) = self.spaces.get_mut(&directory) else {
            return;
        };
        let begin = Instant::now();
        let mut total = Report::default();
        space.stale = false;
        // What the first sync retires may be what it lacked.
        for _ in 0..2 {
            let (report, retired) = space.shadow.sync(
                algorithm,
                &mut Vm {
                    memory: &mut Tables {
                        host: around.host,
                        partition: around.partition,
                        ram: &self.ram,
                    },
                    policy: &self.translation,
                    geometry: around.geometry,
                    pool: &mut self.pool,
                    tracker: around.tracker,
                },
            );
            around.host.flush_tlb(space.shadow.directory());
            let again = report.starved != 0 && !retired.is_empty();
            self.pool.release(retired);
            total += report;
            if !again {
                break;
            }
        }
        around.counters.add_sync(&total, begin.elapsed());
    }
}
