//! An engine's view of an address space.

use std::sync::{Arc, atomic::AtomicU64};

use super::blocklinear::{self, GOB_BYTES, Layout, Rect};
use super::tlb::Tlb;
use super::{Access, BusError, Fault, Guard, HostSpan, Memory, PhysAddr, Privilege, Word};

/// What bulk accesses move under one guard.
const CHUNK: usize = 1 << 20;

/// One engine's view of one channel's address space, with a TLB.
///
/// Each engine thread has its own; nothing is shared but memory itself.
pub struct Client {
    memory: Arc<Memory>,
    tlb: Tlb,
}

impl Client {
    /// A client that is bound to nothing: every access faults for want of a channel
    /// ([`FaultReason::NoChannel`](super::FaultReason::NoChannel)).
    pub fn new(memory: Arc<Memory>, privilege: Privilege) -> Self {
        let tlb = Tlb::new(&memory, privilege);
        Self { memory, tlb }
    }

    /// The memory it looks at.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// The instance block it is bound to.
    pub fn instance(&self) -> Option<PhysAddr> {
        self.tlb.instance()
    }

    /// Enters the address space of the instance block at `at`, which is read now.
    ///
    /// # Errors
    ///
    /// There is no such memory; the client is then bound to nothing.
    pub fn bind(&mut self, at: PhysAddr) -> Result<(), BusError> {
        self.tlb.bind(&self.memory, Some(at))
    }

    /// Whether it is in the address space of the instance block at `at`, as that is now, so that
    /// what it knows is still good.
    pub fn is_in(&self, at: PhysAddr) -> bool {
        self.tlb.is_in(&self.memory, at)
    }

    /// Leaves the address space.
    pub fn unbind(&mut self) {
        // Nothing is read for it that could be missing.
        let _ = self.tlb.bind(&self.memory, None);
    }

    /// Counts what may change translations of this address space. What [`Client::page`] yields is
    /// as good as it was while the count, seen under a guard, is the same.
    #[inline]
    pub fn epoch(&self) -> &AtomicU64 {
        self.tlb.epoch()
    }

    /// The memory at `va` to the end of its page (at least one byte), to be accessed as `access`
    /// says.
    ///
    /// # Errors
    ///
    /// What the hardware reports for such an address and access.
    ///
    /// # Panics
    ///
    /// The guard is of another card.
    #[inline]
    pub fn page<'g>(
        &mut self,
        guard: &'g Guard<'_>,
        va: u64,
        access: Access,
    ) -> Result<HostSpan<'g>, Fault> {
        self.tlb.page(&self.memory, guard, va, access)
    }

    /// Calls `each` for the pieces of the `len` bytes from `va`, in order, with their offset from
    /// `va`. The guard is held throughout, so `len` is bounded by what may be.
    ///
    /// # Errors
    ///
    /// The first fault; the pieces before it were visited.
    pub fn for_each_segment(
        &mut self,
        guard: &Guard<'_>,
        va: u64,
        len: usize,
        access: Access,
        each: impl FnMut(usize, HostSpan<'_>),
    ) -> Result<(), Fault> {
        self.tlb
            .for_each_segment(&self.memory, guard, va, len, access, each)
    }

    /// Copies out of the address space.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was copied.
    pub fn read(&mut self, va: u64, buf: &mut [u8]) -> Result<(), Fault> {
        for (n, chunk) in buf.chunks_mut(CHUNK).enumerate() {
            let va = va.wrapping_add((n * CHUNK) as u64);
            let guard = self.memory.enter();
            self.tlb.for_each_segment(
                &self.memory,
                &guard,
                va,
                chunk.len(),
                Access::Read,
                |at, span| {
                    span.copy_to(&mut chunk[at..]);
                },
            )?;
        }
        Ok(())
    }

    /// Copies into the address space.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was copied.
    pub fn write(&mut self, va: u64, buf: &[u8]) -> Result<(), Fault> {
        for (n, chunk) in buf.chunks(CHUNK).enumerate() {
            let va = va.wrapping_add((n * CHUNK) as u64);
            let guard = self.memory.enter();
            self.tlb.for_each_segment(
                &self.memory,
                &guard,
                va,
                chunk.len(),
                Access::Write,
                |at, span| {
                    span.copy_from(&chunk[at..]);
                },
            )?;
        }
        Ok(())
    }

    /// Loads a word of any alignment.
    ///
    /// # Errors
    ///
    /// The first fault.
    #[inline]
    pub fn load<T: Word>(&mut self, va: u64) -> Result<T, Fault> {
        let guard = self.memory.enter();
        match self
            .tlb
            .page(&self.memory, &guard, va, Access::Read)?
            .load(0)
        {
            Some(value) => Ok(value),
            None => self.tlb.load_across(&self.memory, &guard, va),
        }
    }

    /// Stores a word of any alignment.
    ///
    /// # Errors
    ///
    /// The first fault; of a word across two pages the part before it was stored.
    #[inline]
    pub fn store<T: Word>(&mut self, va: u64, value: T) -> Result<(), Fault> {
        let guard = self.memory.enter();
        match self
            .tlb
            .page(&self.memory, &guard, va, Access::Write)?
            .store(0, value)
        {
            true => Ok(()),
            false => self.tlb.store_across(&self.memory, &guard, va, value),
        }
    }

    /// Copies within the address space, in ascending order.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was copied.
    pub fn copy(&mut self, to: u64, from: u64, len: u64) -> Result<(), Fault> {
        let Self { memory, tlb } = self;
        let mut done = 0;
        while done < len {
            let guard = memory.enter();
            let end = len.min(done + CHUNK as u64);
            while done < end {
                let source = tlb
                    .page(memory, &guard, from.wrapping_add(done), Access::Read)?
                    .take((end - done) as usize);
                let target = tlb.page(memory, &guard, to.wrapping_add(done), Access::Write)?;
                done += target.copy_from_span(&source) as u64;
            }
        }
        Ok(())
    }

    /// Sets `len` bytes.
    ///
    /// # Errors
    ///
    /// The first fault; what came before it was set.
    pub fn fill(&mut self, va: u64, len: u64, value: u8) -> Result<(), Fault> {
        let mut done = 0;
        while done < len {
            let chunk = (len - done).min(CHUNK as u64);
            let guard = self.memory.enter();
            self.tlb.for_each_segment(
                &self.memory,
                &guard,
                va.wrapping_add(done),
                chunk as usize,
                Access::Write,
                |_, span| span.fill(value),
            )?;
            done += chunk;
        }
        Ok(())
    }
}

/// Tiled surfaces. They start at a multiple of a GOB: the low bits of their address count as 0. A
/// guard is held throughout a call, so its rectangle is bounded by what may be.
impl Client {
    /// Copies `rect` of the surface at `base` to rows that are `pitch` bytes apart; what does not
    /// fit into `out` is left out.
    ///
    /// # Errors
    ///
    /// The first fault; the GOBs before it were copied.
    pub fn read_tiled(
        &mut self,
        base: u64,
        layout: &Layout,
        rect: Rect,
        out: &mut [u8],
        pitch: usize,
    ) -> Result<(), Fault> {
        let guard = self.memory.enter();
        let base = base & !(GOB_BYTES - 1);
        blocklinear::to_linear(layout, rect, out, pitch, |at| {
            let va = base.wrapping_add(at);
            self.tlb.page(&self.memory, &guard, va, Access::Read)
        })
    }

    /// Copies rows that are `pitch` bytes apart to `rect` of the surface at `base`; what is not in
    /// `data` is left out.
    ///
    /// # Errors
    ///
    /// The first fault; the GOBs before it were copied.
    pub fn write_tiled(
        &mut self,
        base: u64,
        layout: &Layout,
        rect: Rect,
        data: &[u8],
        pitch: usize,
    ) -> Result<(), Fault> {
        let guard = self.memory.enter();
        let base = base & !(GOB_BYTES - 1);
        blocklinear::from_linear(layout, rect, data, pitch, |at| {
            let va = base.wrapping_add(at);
            self.tlb.page(&self.memory, &guard, va, Access::Write)
        })
    }
}

#[cfg(test)]
mod tests {
    use mmio::layout::pagetable::Pte;

    use super::*;
    use crate::memory::dma::tests::memory_file;
    use crate::memory::{FaultReason, Protection, Tables};

    const MIB: u64 = 1 << 20;
    const VA: u64 = 0x12_3456_0000;

    fn bound() -> (Arc<Memory>, Tables, Client) {
        let memory = Memory::new(32 * MIB).unwrap();
        let tables = Tables::new(memory.clone(), MIB);
        let mut client = Client::new(memory.clone(), Privilege::User);
        client.bind(tables.instance()).unwrap();
        (memory, tables, client)
    }

    fn reason<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultReason {
        result.unwrap_err().reason
    }

    #[test]
    fn an_unbound_client_faults() {
        let mut client = Client::new(Memory::new(MIB).unwrap(), Privilege::User);
        assert_eq!(reason(client.load::<u32>(0)), FaultReason::NoChannel);
        assert!(client.bind(PhysAddr::vram(1 << 39)).is_err());
        assert_eq!(reason(client.load::<u32>(0)), FaultReason::NoChannel);
    }

    #[test]
    fn words_and_bulk_cross_pages_of_both_sizes_and_memories() {
        let (memory, mut tables, mut client) = bound();
        memory
            .dma()
            .map(
                0x7000,
                0x3000,
                Protection::READ_WRITE,
                memory_file(0x3000),
                0,
            )
            .unwrap();
        let large = VA & !0x1_ffff;
        tables.map(large, PhysAddr::vram(8 * MIB), 0x2_0000, true);
        tables.map(large + 0x2_0000, PhysAddr::system(0x7000), 0x3000, false);
        client
            .store(large + 0x1_fffd, 0x8877_6655_4433_2211u64)
            .unwrap();
        assert_eq!(
            client.load::<u64>(large + 0x1_fffd),
            Ok(0x8877_6655_4433_2211)
        );
        assert_eq!(
            memory.load::<u16>(PhysAddr::vram(8 * MIB + 0x1_fffd)),
            Ok(0x2211)
        );
        assert_eq!(
            memory.load::<u32>(PhysAddr::system(0x7000)),
            Ok(0x7766_5544)
        );
        let data: Vec<u8> = (0..0x1_2000u32).map(|n| (n * 7) as u8).collect();
        client.write(large + 0x1_0800, &data).unwrap();
        let mut back = vec![0; data.len()];
        client.read(large + 0x1_0800, &mut back).unwrap();
        assert_eq!(back, data);
    }

    #[test]
    fn a_translation_stays_until_it_is_flushed() {
        let (memory, mut tables, mut client) = bound();
        memory.vram().store(8 * MIB, 1u32);
        memory.vram().store(9 * MIB, 2u32);
        tables.map(VA, PhysAddr::vram(8 * MIB), 0x1000, false);
        assert_eq!(client.load(VA), Ok(1u32));
        tables.map(VA, PhysAddr::vram(9 * MIB), 0x1000, false);
        assert_eq!(client.load(VA), Ok(1u32));
        tables.flush();
        assert_eq!(client.load(VA), Ok(2u32));
        tables.unmap(VA, 0x1000, false);
        tables.flush();
        assert_eq!(reason(client.load::<u32>(VA)), FaultReason::PageNotPresent);
    }

    #[test]
    fn a_closed_window_is_out_of_reach_without_a_flush_by_software() {
        let (memory, mut tables, mut client) = bound();
        memory
            .dma()
            .map(0, 0x1000, Protection::READ_WRITE, memory_file(0x1000), 0)
            .unwrap();
        tables.map(VA, PhysAddr::system(0), 0x1000, false);
        client.store(VA, 5u32).unwrap();
        memory.dma().unmap(0, 0x1000);
        assert_eq!(reason(client.load::<u32>(VA)), FaultReason::RegionViolation);
    }

    #[test]
    fn each_attribute_faults_with_its_reason() {
        let (_, mut tables, mut client) = bound();
        let at = PhysAddr::vram(8 * MIB);
        tables.map_with(0, at, 0x1000, false, Pte::with_read_only);
        assert!(client.load::<u32>(0).is_ok());
        assert_eq!(reason(client.store(0, 0u32)), FaultReason::PageReadOnly);
        tables.map_with(0x1000, at, 0x1000, false, |pte| Pte(pte.0 | 2));
        assert_eq!(
            reason(client.load::<u32>(0x1000)),
            FaultReason::PageSystemOnly
        );
        tables.map_with(0x2000, at, 0x1000, false, |pte| pte.with_kind(0xff));
        assert_eq!(
            reason(client.load::<u32>(0x2000)),
            FaultReason::InvalidStorageType
        );
        tables.map_with(0x3000, PhysAddr::system(0), 0x1000, false, |pte| {
            pte.with_kind(0xdb)
        });
        assert_eq!(
            reason(client.load::<u32>(0x3000)),
            FaultReason::CompressedSysram
        );
        tables.map(0x4000, PhysAddr::vram(32 * MIB), 0x1000, false);
        assert_eq!(
            reason(client.load::<u32>(0x4000)),
            FaultReason::RegionViolation
        );
        assert_eq!(
            reason(client.load::<u32>(0x5000)),
            FaultReason::PageNotPresent
        );
        assert_eq!(
            reason(client.load::<u32>(1 << 27)),
            FaultReason::PtNotPresent
        );
        assert_eq!(
            reason(client.load::<u32>(1 << 40)),
            FaultReason::VmLimitExceeded
        );
        assert_eq!(
            reason(client.load::<u32>(u64::MAX)),
            FaultReason::VmLimitExceeded
        );
    }

    #[test]
    fn a_limit_inside_a_page_ends_it_there() {
        let (_, mut tables, mut client) = bound();
        tables.map(0, PhysAddr::vram(8 * MIB), 0x2_0000, true);
        tables.set_limit(0x1_07ff);
        client.bind(tables.instance()).unwrap();
        for _ in 0..2 {
            assert!(client.load::<u32>(0x1_07fc).is_ok());
            assert_eq!(
                reason(client.load::<u32>(0x1_07fe)),
                FaultReason::VmLimitExceeded
            );
        }
    }

    #[test]
    fn a_tiled_surface_is_reached_through_pages_in_any_order() {
        let (memory, mut tables, mut client) = bound();
        // Four pages, backwards.
        for n in 0..4 {
            tables.map(
                VA + n * 0x1000,
                PhysAddr::vram(8 * MIB + (3 - n) * 0x1000),
                0x1000,
                false,
            );
        }
        let layout = Layout::new(0x20, 128, 128, 1);
        let rect = Rect {
            x: 3,
            y: 5,
            z: 0,
            width: 120,
            height: 110,
        };
        let data: Vec<u8> = (0..120 * 110).map(|n| (n % 251) as u8).collect();
        client
            .write_tiled(VA + 0x1ff, &layout, rect, &data, 120)
            .unwrap();
        let offset = layout.offset(3 + 77, 5 + 99, 0);
        let at = 8 * MIB + (3 - offset / 0x1000) * 0x1000 + offset % 0x1000;
        assert_eq!(memory.vram().load::<u8>(at), data[99 * 120 + 77]);
        let mut back = vec![0; data.len()];
        client
            .read_tiled(VA, &layout, rect, &mut back, 120)
            .unwrap();
        assert!(back == data);
        let beyond = Rect { y: 120, ..rect };
        let fault = client
            .read_tiled(VA, &layout, beyond, &mut back, 120)
            .unwrap_err();
        assert_eq!((fault.va, fault.access), (VA + 0x4000, Access::Read));
    }

    #[test]
    fn a_copy_within_the_address_space_moves_every_byte() {
        let (_, mut tables, mut client) = bound();
        tables.map(0, PhysAddr::vram(8 * MIB), 0x20_0000, true);
        tables.map(0x800_0000, PhysAddr::vram(16 * MIB), 0x20_0000, false);
        let data: Vec<u8> = (0..0x18_0000u32).map(|n| (n ^ n >> 8) as u8).collect();
        client.write(0x123, &data).unwrap();
        client.copy(0x800_0456, 0x123, data.len() as u64).unwrap();
        let mut back = vec![0; data.len()];
        client.read(0x800_0456, &mut back).unwrap();
        assert!(back == data);
        client.fill(0x800_0456, data.len() as u64, 9).unwrap();
        client.read(0x800_0456, &mut back).unwrap();
        assert!(back.iter().all(|byte| *byte == 9));
    }
}
