//! The walk from a virtual to a physical address.

use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, Pde, Pte, SMALL_SHIFT, TablePointer};
use mmio::layout::{instance, kind};

use super::{Access, BusError, Fault, FaultReason, Guard, Memory, PhysAddr};

/// What a client may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Pages of user space.
    User,
    /// All pages: the hardware's own accesses to context memory, and the CPU's.
    System,
}

/// An address space: what an instance block says about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The page directory; `None` if the instance block's target is the reserved one.
    pub directory: Option<PhysAddr>,
    /// The highest virtual address.
    pub limit: u64,
}

/// Where a virtual address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The start of the page.
    pub page: PhysAddr,
    /// log2 of its bytes.
    pub shift: u32,
    /// Stores fault.
    pub read_only: bool,
    /// Its storage kind, which decides nothing about where a byte is.
    pub kind: u8,
}

impl Translation {
    /// The physical address of `va`, which is in this page.
    pub fn at(&self, va: u64) -> PhysAddr {
        self.page.offset(va & ((1 << self.shift) - 1))
    }
}

impl Space {
    /// The address space of the instance block at `at`.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub fn load(memory: &Memory, at: PhysAddr) -> Result<Self, BusError> {
        let base: u64 = memory.load(at.offset(instance::PAGE_DIR_BASE))?;
        let limit = memory.load(at.offset(instance::ADDR_LIMIT))?;
        Ok(Self {
            directory: Aperture::from_target(base).map(|aperture| PhysAddr {
                aperture,
                address: base & 0xff_ffff_f000,
            }),
            limit,
        })
    }

    /// Translates `va`, from tables as they are in memory now.
    ///
    /// Of a directory entry with both tables the large page counts if it is valid, else the small:
    /// see [`Pde`].
    ///
    /// # Errors
    ///
    /// What the hardware reports for such an address and access.
    pub fn walk(
        &self,
        memory: &Memory,
        guard: &Guard<'_>,
        va: u64,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translation, Fault> {
        let found = self.look_up(memory, guard, va, access, privilege)?;
        memory.aliases.note(memory, guard, self, va, &found);
        Ok(found)
    }

    /// The walk itself, of which nobody takes note.
    pub(super) fn look_up(
        &self,
        memory: &Memory,
        guard: &Guard<'_>,
        va: u64,
        access: Access,
        privilege: Privilege,
    ) -> Result<Translation, Fault> {
        let fault = |reason| Fault { reason, va, access };
        let geometry = memory.geometry();
        if va > self.limit || va >> geometry.pde_shift() >= geometry.pde_count() {
            return Err(fault(FaultReason::VmLimitExceeded));
        }
        let directory = self.directory.ok_or(fault(FaultReason::PtNotPresent))?;
        let entry = |table: PhysAddr, index: u64| -> Result<u64, Fault> {
            memory
                .span(guard, table.offset(index * ENTRY_SIZE), Access::Read)
                .ok()
                .and_then(|span| span.load(0))
                .ok_or(fault(FaultReason::RegionViolation))
        };
        let pde = Pde(entry(directory, geometry.pde_index(va))?);
        let (small, large) = (pde.small(), pde.large());
        if small.is_none() && large.is_none() {
            return Err(fault(FaultReason::PtNotPresent));
        }
        if va & ((1 << geometry.pde_shift()) - 1) >= pde.span() {
            return Err(fault(FaultReason::PtTooShort));
        }
        let page = |table: Option<TablePointer>, index| -> Result<Option<Pte>, Fault> {
            let Some(table) = table else { return Ok(None) };
            let table = PhysAddr {
                aperture: table.aperture,
                address: table.address,
            };
            Ok(Some(Pte(entry(table, index)?)).filter(|pte| pte.valid()))
        };
        let (pte, shift) = match page(large, geometry.large_index(va))? {
            Some(pte) => (pte, geometry.large_shift()),
            None => match page(small, geometry.small_index(va))? {
                Some(pte) => (pte, SMALL_SHIFT),
                None => return Err(fault(FaultReason::PageNotPresent)),
            },
        };
        Self::check(pte, access, privilege).map_err(fault)?;
        let aperture = pte.aperture().ok_or(fault(FaultReason::CompressedSysram))?;
        Ok(Translation {
            page: PhysAddr {
                aperture,
                address: pte.address() & !((1 << shift) - 1),
            },
            shift,
            read_only: pte.read_only(),
            kind: pte.kind(),
        })
    }

    fn check(pte: Pte, access: Access, privilege: Privilege) -> Result<(), FaultReason> {
        if pte.privileged() && privilege == Privilege::User {
            return Err(FaultReason::PageSystemOnly);
        }
        if pte.read_only() && access == Access::Write {
            return Err(FaultReason::PageReadOnly);
        }
        if !kind::is_valid(pte.kind()) {
            return Err(FaultReason::InvalidStorageType);
        }
        if kind::is_compressed(pte.kind()) && pte.aperture() != Some(Aperture::Vram) {
            return Err(FaultReason::CompressedSysram);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use mmio::layout::pagetable::Geometry;
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Protection;
    use crate::memory::dma::tests::memory_file;

    const MIB: u64 = 1 << 20;
    /// The one DMA window.
    const WINDOW: (u64, u64) = (0x40_0000, 0x4_0000);

    /// The two memories as plain bytes, and a walker over them that knows only the format: word
    /// numbers, shifts and masks as they are in nouveau and envytools.
    struct Reference {
        vram: Vec<u8>,
        system: Vec<u8>,
        large_bits: u32,
    }

    impl Reference {
        fn word(&self, target: u64, address: u64) -> Option<u64> {
            let (bytes, base) = match target {
                0 => (&self.vram, 0),
                _ => (&self.system, WINDOW.0),
            };
            let start = usize::try_from(address.checked_sub(base)?).ok()?;
            let bytes = bytes.get(start..start.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().unwrap()))
        }

        /// Reason, or (target, address of the byte, kind).
        fn translate(
            &self,
            inst: u64,
            va: u64,
            write: bool,
            system_client: bool,
        ) -> Result<(u64, u64, u64), u8> {
            let base = self.word(0, inst + 0x200).unwrap();
            let limit = self.word(0, inst + 0x208).unwrap();
            if va > limit || va >= 1 << 40 {
                return Err(3);
            }
            if base & 3 == 1 {
                return Err(0);
            }
            let covered = self.large_bits + 10;
            let pde = self
                .word(base & 3, (base & 0xff_ffff_f000) + (va >> covered) * 8)
                .ok_or(0xd)?;
            let inside = va % (1 << covered);
            let lpt = (pde & 3, (pde & 0xffff_fff0) << 8);
            let spt = (pde >> 32 & 3, (pde >> 32 & 0xffff_fff0) << 8);
            if lpt.0 == 0 && spt.0 == 0 {
                return Err(0);
            }
            if inside >= [128, 64, 32, 16][(pde >> 2 & 3) as usize] * MIB {
                return Err(1);
            }
            let mut found = None;
            for ((target, table), bits) in [(spt, 12), (lpt, self.large_bits)] {
                let Some(target) = [None, Some(0), Some(2), Some(3)][target as usize] else {
                    continue;
                };
                match self.word(target, table + (inside >> bits) * 8) {
                    None if bits != 12 => return Err(0xd),
                    // Only asked when the large page is not there; settled below.
                    None => found = Some(Err(0xd)),
                    Some(pte) if pte & 1 == 1 => found = Some(Ok((pte, bits))),
                    Some(_) => (),
                }
            }
            let (pte, bits) = found.unwrap_or(Err(2))?;
            let kind = pte >> 36 & 0xff;
            let target = pte >> 33 & 3;
            if pte & 2 != 0 && !system_client {
                return Err(5);
            }
            if pte & 4 != 0 && write {
                return Err(6);
            }
            match kind {
                // A plain kind, a compressed one, one that does not exist.
                0x00 | 0xfe => (),
                0xdb if target == 0 => (),
                0xdb => return Err(0xa),
                0xff => return Err(0xc),
                _ => unreachable!("not generated"),
            }
            if target == 1 {
                return Err(0xa);
            }
            let page = ((pte & 0xffff_fff0) << 8) >> bits << bits;
            Ok((target, page + va % (1 << bits), kind))
        }
    }

    fn kind_field() -> impl Strategy<Value = u64> {
        prop_oneof![6 => Just(0u64), 2 => Just(0xfe), 1 => Just(0xdb), 1 => Just(0xff)]
    }

    /// A page-table entry: any address, every flag, mostly valid.
    fn pte() -> impl Strategy<Value = u64> {
        (
            prop_oneof![4 => Just(1u64), 1 => Just(0)],
            prop_oneof![4 => Just(0u64), 1 => Just(2), 1 => Just(4), 1 => Just(6)],
            0u64..1 << 28,
            0u64..4,
            kind_field(),
        )
            .prop_map(|(valid, flags, page, target, kind)| {
                valid | flags | page << 4 | target << 33 | kind << 36
            })
    }

    /// Where a table may be: in either memory, or where there is none. In units of 4 KiB.
    fn table_page() -> impl Strategy<Value = (u64, u64)> {
        prop_oneof![
            6 => (4u64..64).prop_map(|page| (1, page)),
            2 => (0u64..16).prop_map(|page| (2, (WINDOW.0 >> 12) + page)),
            1 => (0u64..16).prop_map(|page| (3, (WINDOW.0 >> 12) + page)),
            2 => Just((0, 0)),
            1 => (1u64..4, 0u64..1 << 28),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_walk_finds_what_the_reference_finds(
            (wide, directory_target) in (any::<bool>(), prop_oneof![6 => Just(0u64), 1 => Just(1), 1 => Just(2)]),
            (lpt, spt) in (table_page(), table_page()),
            span_code in prop_oneof![4 => Just(0u64), 1 => 1u64..4],
            (large, small) in (pte(), pte()),
            va in prop_oneof![4 => 0u64..1 << 27, 2 => 0u64..1 << 40, 1 => any::<u64>()],
            limit in prop_oneof![4 => Just((1u64 << 40) - 1), 1 => 0u64..1 << 28],
            (write, system_client) in (any::<bool>(), any::<bool>()),
        ) {
            let mut reference = Reference {
                vram: vec![0; MIB as usize],
                system: vec![0; WINDOW.1 as usize],
                large_bits: if wide { 16 } else { 17 },
            };
            let covered = reference.large_bits + 10;
            let directory = match directory_target {
                2 => WINDOW.0 + 0x8000,
                _ => 0x8000,
            };
            let mut put = |target: u64, address: u64, word: u64| {
                let (bytes, base) = match target {
                    0 | 1 => (&mut reference.vram, 0),
                    _ => (&mut reference.system, WINDOW.0),
                };
                let start = address.wrapping_sub(base) as usize;
                if let Some(bytes) = start.checked_add(8).and_then(|end| bytes.get_mut(start..end)) {
                    bytes.copy_from_slice(&word.to_le_bytes());
                }
            };
            put(0, 0x1200, directory | directory_target);
            put(0, 0x1208, limit);
            let inside = va % (1 << covered);
            let large_bits = covered - 10;
            put(lpt.0, (lpt.1 << 12) + (inside >> large_bits) * 8, large);
            put(spt.0, (spt.1 << 12) + (inside >> 12) * 8, small);
            let pde = lpt.0 | span_code << 2 | lpt.1 << 4 | spt.0 << 32 | spt.1 << 36;
            put(directory_target, directory + ((va % (1 << 40)) >> covered) * 8, pde);

            let memory = Memory::new(MIB).unwrap();
            memory.set_geometry(if wide { Geometry::Large64K } else { Geometry::Large128K });
            memory.vram().write(0, &reference.vram);
            let file = memory_file(WINDOW.1);
            file.write_all_at(&reference.system, 0).unwrap();
            memory.dma().map(WINDOW.0, WINDOW.1, Protection::READ_WRITE, file, 0).unwrap();

            let access = if write { Access::Write } else { Access::Read };
            let privilege = if system_client { Privilege::System } else { Privilege::User };
            let found = Space::load(&memory, PhysAddr::vram(0x1000))
                .unwrap()
                .walk(&memory, &memory.enter(), va, access, privilege)
                .map(|page| {
                    let at = page.at(va);
                    (at.aperture.target(), at.address, u64::from(page.kind))
                })
                .map_err(|fault| {
                    assert_eq!((fault.va, fault.access), (va, access));
                    fault.reason as u8
                });
            prop_assert_eq!(found, reference.translate(0x1000, va, write, system_client));
        }
    }
}
