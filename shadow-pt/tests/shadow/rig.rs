//! A VM whose memories are arrays, with a card that walks shadow tables.

use mmio::layout::pagetable::{Aperture, Geometry, Pde, Pte};
use shadow_pt::{
    Algorithm, CardTables, GuestAddress, GuestTables, PageTimes, RamRegion, Report, Retired,
    Shadow, TablePool, Translation, Vm, WriteTracker,
};

/// Bytes of the guest's video memory, which end within a large page.
pub const VRAM: u64 = (2 << 20) - 0x3000;
/// Where the card has it.
pub const VRAM_BASE: u64 = 64 << 20;
/// The guest's RAM, with a hole, each part ending within a large page: start and bytes.
pub const RAM: [(u64, u64); 2] = [(0, 0x10_5000), (0x30_7000, 0x10_2000)];
/// Where the bus has it.
pub const IOVA_BASE: u64 = 1 << 32;
/// Where the card has the VM's shadow tables, and how much of it.
pub const POOL_BASE: u64 = 128 << 20;
/// The VM's quota.
pub const POOL: u64 = 8 << 20;

/// What is in the memories.
pub struct Memories {
    guest: Vec<u64>,
    pool: Vec<u64>,
    /// What the card could have seen: each entry after each write of a word to it.
    pub torn: Vec<(u64, u64)>,
}

impl Memories {
    fn guest(&self, at: GuestAddress) -> &u64 {
        &self.guest[Self::index(at)]
    }

    /// Where an address is: video memory, then RAM without its hole.
    fn index(at: GuestAddress) -> usize {
        let (address, regions, mut before) = match at {
            GuestAddress::Vram(address) => (address, &[(0, VRAM)][..], 0),
            GuestAddress::Ram(address) => (address, &RAM[..], VRAM),
        };
        for (start, len) in regions {
            if (*start..start + len).contains(&address) {
                return ((before + address - start) / 8) as usize;
            }
            before += len;
        }
        panic!("{at:x?} is not the guest's");
    }

    fn pool(&mut self, address: u64) -> &mut u64 {
        &mut self.pool[((address - POOL_BASE) / 8) as usize]
    }
}

impl GuestTables for Memories {
    fn read_word(&mut self, at: GuestAddress) -> u32 {
        let (GuestAddress::Vram(address) | GuestAddress::Ram(address)) = at;
        (*self.guest(at) >> (address % 8 * 8)) as u32
    }

    fn read_block(&mut self, at: GuestAddress, out: &mut [u64]) {
        for (n, entry) in out.iter_mut().enumerate() {
            *entry = *self.guest(at.offset(n as u64 * 8));
        }
    }
}

impl CardTables for Memories {
    fn write_word(&mut self, address: u64, word: u32) {
        let shift = address % 8 * 8;
        let entry = self.pool(address);
        *entry = *entry & !(0xffff_ffff << shift) | u64::from(word) << shift;
        let seen = (address & !7, *entry);
        self.torn.push(seen);
    }

    fn write_block(&mut self, address: u64, entries: &[u64]) {
        for (n, &entry) in entries.iter().enumerate() {
            *self.pool(address + n as u64 * 8) = entry;
        }
    }
}

/// A VM and the card's walker.
pub struct Rig {
    pub memories: Memories,
    pub policy: Translation,
    pub pool: TablePool,
    pub tracker: Box<dyn WriteTracker>,
    /// What the guest set.
    pub geometry: Geometry,
}

impl Default for Rig {
    fn default() -> Self {
        Self::with_pool(POOL)
    }
}

impl Rig {
    /// A VM with `quota` bytes for shadow tables. The card's memory is full of what would be
    /// foreign pages, were it walked.
    pub fn with_pool(quota: u64) -> Self {
        let foreign = Pte::new(Aperture::Vram, 1 << 30).0;
        Self {
            memories: Memories {
                guest: vec![0; (VRAM + RAM[0].1 + RAM[1].1) as usize / 8],
                pool: vec![foreign; (quota / 8) as usize],
                torn: Vec::new(),
            },
            policy: Translation::new(
                (VRAM_BASE, VRAM),
                IOVA_BASE,
                RAM.map(|(start, len)| RamRegion { start, len }),
            )
            .unwrap(),
            pool: TablePool::new(POOL_BASE, quota),
            tracker: Box::new(PageTimes::new(VRAM)),
            geometry: Geometry::default(),
        }
    }

    /// Likewise, with the VM's part of the card's memory cleared.
    pub fn cleared() -> Self {
        let mut rig = Self::default();
        rig.memories.pool.fill(0);
        rig.pool = TablePool::cleared(POOL_BASE, POOL);
        rig
    }

    pub fn vm(&mut self) -> Vm<'_, Memories> {
        Vm {
            memory: &mut self.memories,
            policy: &self.policy,
            geometry: self.geometry,
            pool: &mut self.pool,
            tracker: &*self.tracker,
        }
    }

    /// The guest writes to its memory, which is seen.
    pub fn put(&mut self, at: GuestAddress, entry: u64) {
        self.put_unseen(at, entry);
        if let GuestAddress::Vram(address) = at {
            self.tracker.mark(address, 8);
        }
    }

    /// The guest writes to its memory.
    pub fn put_unseen(&mut self, at: GuestAddress, entry: u64) {
        self.memories.guest[Memories::index(at)] = entry;
    }

    /// What the guest has there.
    pub fn guest(&self, at: GuestAddress) -> u64 {
        *self.memories.guest(at)
    }

    /// The shadow of the directory at `at`.
    pub fn shadow(&mut self, at: GuestAddress) -> Shadow {
        Shadow::new(at, &mut self.vm()).unwrap()
    }

    pub fn sync_only(&mut self, shadow: &mut Shadow, algorithm: Algorithm) -> (Report, Retired) {
        shadow.sync(algorithm, &mut self.vm())
    }

    /// A sync, with the TLB flush that follows.
    pub fn sync(&mut self, shadow: &mut Shadow, algorithm: Algorithm) -> Report {
        self.memories.torn.clear();
        let (report, retired) = self.sync_only(shadow, algorithm);
        self.pool.release(retired);
        report
    }

    /// The entry of the card's memory for shadow tables.
    pub fn card(&self, address: u64) -> u64 {
        self.memories.pool[((address - POOL_BASE) / 8) as usize]
    }

    /// What the card, whose large pages are of 128 KiB, finds for `va`: the entry, and log2 of its
    /// page's bytes.
    pub fn card_walk(&self, shadow: &Shadow, va: u64) -> Option<(Pte, u32)> {
        let geometry = Geometry::Large128K;
        let pde = Pde(self.card(shadow.directory() + geometry.pde_index(va) * 8));
        if va & ((1 << geometry.pde_shift()) - 1) >= pde.span() {
            return None;
        }
        let sides = [
            (
                pde.large(),
                geometry.large_index(va),
                geometry.large_shift(),
            ),
            (pde.small(), geometry.small_index(va), 12),
        ];
        sides.into_iter().find_map(|(table, index, shift)| {
            let pte = Pte(self.card(table?.address + index * 8));
            pte.valid().then_some((pte, shift))
        })
    }
}
