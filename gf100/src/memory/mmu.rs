//! The walk from a virtual to a physical address.

use mmio::layout::{
    instance, kind,
    pagetable::{Aperture, ENTRY_SIZE, Pde, Pte, SMALL_SHIFT, TablePointer},
};

use super::{Access, BusError, Fault, FaultReason, Guard, Memory, PhysAddr, client::Privilege};

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
    /// Of a directory entry with both tables the small page counts if it is valid, else the large.
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
        let (pte, shift) = match page(small, geometry.small_index(va))? {
            Some(pte) => (pte, SMALL_SHIFT),
            None => match page(large, geometry.large_index(va))? {
                Some(pte) => (pte, geometry.large_shift()),
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
