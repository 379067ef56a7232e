//! PFIFO of a guest: shadow channels, its runlist, kicks, and what it sees of its PBDMAs.

use std::sync::atomic::Ordering;

use mmio::layout::instance;
use mmio::layout::pagetable::Aperture;
use mmio::regs::pfifo::{self, ChanState};
use mmio::{Hit, RegId};
use shadow_pt::GuestAddress;

use super::VirtualGpu;
use crate::aggregator::{Event, Owner, pbdma};
use crate::card::Registers;

/// Bytes of an entry of a runlist.
const RUNLIST_ENTRY: usize = 8;
/// The bits of a channel number.
const CHID: u32 = pfifo::CHANNELS - 1;
/// A target that names no memory.
const NO_TARGET: u64 = 1;
/// The page of an address in an instance block.
const PAGE_MASK: u64 = 0xff_ffff_f000;
/// A fault's type when nobody accessed anything: reason 0, from the hub.
const INJECTED: u32 = 1 << 6;

/// A channel of the guest that exists.
#[derive(Clone, Copy)]
struct Channel {
    /// The guest's instance block, in its video memory.
    block: u64,
    /// The guest's directory, if the channel has an address space.
    directory: Option<GuestAddress>,
    /// What the guest's instance block said of it.
    base: u64,
}

/// A row of the channel table.
#[derive(Clone, Copy, Default)]
struct Row {
    /// What the guest stored.
    word: u32,
    channel: Option<Channel>,
}

/// The channel table.
pub struct Channels([Row; pfifo::CHANNELS as usize]);

impl Default for Channels {
    fn default() -> Self {
        Self([Row::default(); pfifo::CHANNELS as usize])
    }
}

/// A copy of an instance block.
type Block = [u8; instance::SIZE as usize];

fn wide(block: &Block, at: u64) -> u64 {
    let at = at as usize;
    block[at..at + 8]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn set_wide(block: &mut Block, at: u64, value: u64) {
    block[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
}

impl VirtualGpu {
    /// A load of a register of PFIFO; `None` where storage knows.
    pub(super) fn fifo_load(&self, at: Hit) -> Option<u32> {
        let index = at.index as usize;
        Some(match at.register.id {
            pfifo::INTR => self.events.lock().intr().bits(),
            pfifo::RUNLIST_RD_LEN => {
                let pending = match self.host.runlist_pending() {
                    true => pfifo::RUNLIST_PENDING,
                    false => 0,
                };
                self.file.read(pfifo::RUNLIST_WR_LEN.offset()) & pfifo::RUNLIST_LENGTH | pending
            }
            pfifo::VM_FAULT_SOURCE => self.events.lock().fault_source,
            pfifo::VM_FAULT_INST => self.events.lock().faults[index][0],
            pfifo::VM_FAULT_ADDR_LOW => self.events.lock().faults[index][1],
            pfifo::VM_FAULT_ADDR_HIGH => self.events.lock().faults[index][2],
            pfifo::VM_FAULT_TYPE => self.events.lock().faults[index][3],
            pfifo::PBDMA_INTR_SOURCE => self.events.lock().pbdmas,
            pfifo::ENGINE_INTR_SOURCE => self.events.lock().engine_source(),
            pfifo::ENGINE_INTR => self.events.lock().engines[index],
            pfifo::INTR_RUNLIST => self.events.lock().runlist,
            pfifo::ENG_STATE => self.host.engine_state(self.vm(), at.index),
            pfifo::CHAN => self.channels.lock().0[index].word,
            pfifo::CHAN_STATE => self.channel_state(at.index),
            id if is_pbdma(id) => return self.pbdma_load(at),
            _ => return None,
        })
    }

    /// A store to a register of PFIFO; `false` where storage is all there is to it.
    pub(super) fn fifo_store(&self, at: Hit, value: u32) -> bool {
        let index = at.index as usize;
        match at.register.id {
            pfifo::INTR => self.with_events(|events| {
                events.latched &= !pfifo::Intr::from_bits_retain(value);
            }),
            pfifo::INTR_EN => {
                self.file.write(at.register.id.offset(), value);
                self.with_events(|_| ());
            }
            pfifo::PBDMA_ENABLE | pfifo::PBDMA_ENABLE_PMC => {
                let mask = (1 << pfifo::PBDMAS) - 1;
                self.file.write(at.register.id.offset(), value & mask);
            }
            pfifo::RUNLIST_WR_LEN => {
                self.file.write(at.register.id.offset(), value);
                self.submit_runlist(value & pfifo::RUNLIST_LENGTH);
            }
            pfifo::VM_FAULT_SOURCE => self.with_events(|events| events.fault_source &= !value),
            pfifo::ENGINE_INTR => self.with_events(|events| events.engines[index] &= !value),
            pfifo::INTR_RUNLIST => self.with_events(|events| events.runlist &= !value),
            pfifo::KICK => {
                self.kick(value & CHID);
                self.file.write(at.register.id.offset(), value & CHID);
            }
            pfifo::VM_FAULT_INJECT => {
                self.file.write(at.register.offset_of(at.index), value);
                if value & pfifo::INJECT_VALID != 0 {
                    self.inject(at.index, value & 0x1f);
                }
            }
            pfifo::CHAN => self.set_channel(at.index, value),
            pfifo::CHAN_STATE => {
                if let Some(chid) = self.live(at.index) {
                    let runnable = ChanState::from_bits_retain(value);
                    self.host
                        .allow(chid, runnable.contains(ChanState::RUNNABLE));
                }
            }
            id if is_pbdma(id) => return self.pbdma_store(at, value),
            _ => return false,
        }
        true
    }

    /// The card's number of a channel that exists.
    fn live(&self, guest: u32) -> Option<u32> {
        let row = *self.channels.lock().0.get(guest as usize)?;
        row.channel.and_then(|_| self.partition.channel(guest))
    }

    fn channel_state(&self, guest: u32) -> u32 {
        self.live(guest)
            .map_or(0, |chid| self.host.channel_state(chid))
    }

    fn kick(&self, guest: u32) {
        if let Some(chid) = self.live(guest)
            && !self.host.kick(chid)
        {
            self.host.stop(chid);
        }
    }

    /// The guest rang the doorbell of a channel.
    pub(super) fn doorbell(&self, guest: u32, put: u32) {
        if let Some(chid) = self.live(guest) {
            self.counters.doorbells[guest as usize].fetch_add(1, Ordering::Relaxed);
            self.host.submit(chid, put);
        }
    }

    /// The guest stored a row of the channel table.
    fn set_channel(&self, guest: u32, word: u32) {
        let Some(chid) = self.partition.channel(guest) else {
            // Beyond the quota: the row does not exist.
            return;
        };
        let mut channels = self.channels.lock();
        let row = &mut channels.0[guest as usize];
        let same = std::mem::replace(&mut row.word, word) == word;
        if same && row.channel.is_some() {
            return;
        }
        if let Some(old) = row.channel.take() {
            self.host.kill(chid);
            self.forget(old);
        }
        if word & pfifo::CHAN_VALID == 0 {
            return;
        }
        let block = u64::from(word & 0x0fff_ffff) << 12;
        let vram = word >> 28 & 3 == 0;
        if !vram || self.partition.vram(block, instance::SIZE).is_none() {
            row.word &= !pfifo::CHAN_VALID;
            self.file.write(
                pfifo::CHAN_TABLE_ERROR.offset(),
                pfifo::CHAN_TABLE_ERROR_TARGET,
            );
            drop(channels);
            return self.with_events(|events| {
                events.latched |= pfifo::Intr::CHAN_TABLE_ERROR;
            });
        }
        // Stores that come from now on are mirrored once the row is complete.
        self.watch.set(block, true);
        let mut channel = Channel {
            block,
            directory: None,
            base: 0,
        };
        let userd = self.copy_block(chid, &mut channel, None);
        row.channel = Some(channel);
        let owner = Owner {
            vm: self.vm(),
            guest,
            chid,
            instance: word & 0x3fff_ffff,
        };
        self.host.bind(owner, userd);
    }

    /// A channel is no more.
    fn forget(&self, channel: Channel) {
        self.watch.set(channel.block, false);
        if let Some(directory) = channel.directory {
            self.memory.lock().detach(&self.host, directory);
        }
    }

    /// Brings a guest's instance block to the shadow of channel `chid`: all of it, or the `part`
    /// that changed. What names memory is translated; everything else is virtual addresses and
    /// state of the channel's own. The control page, as the card may see it.
    fn copy_block(
        &self,
        chid: u32,
        channel: &mut Channel,
        part: Option<std::ops::Range<u64>>,
    ) -> Option<(Aperture, u64)> {
        let mut block: Block = [0; instance::SIZE as usize];
        let at = self.partition.vram(channel.block, instance::SIZE)?;
        self.host.vram().read(at, &mut block);

        let base = wide(&block, instance::PAGE_DIR_BASE);
        if part.is_none() || base != channel.base {
            channel.base = base;
            let mut memory = self.memory.lock();
            let old = channel.directory.take();
            let shadow = memory.attach(&self.host, &self.partition, base);
            if let Some((directory, _, report)) = shadow {
                channel.directory = Some(directory);
                self.counters.add_sync(&report);
            }
            let shadow = shadow.map_or(NO_TARGET, |(_, shadow, _)| shadow);
            let to = self.host.layout().instance(chid) + instance::PAGE_DIR_BASE;
            self.host.vram().write(to, &shadow.to_le_bytes());
            if let Some(old) = old {
                memory.detach(&self.host, old);
            }
        }

        let userd = wide(&block, instance::USERD);
        let userd = Aperture::from_target(userd).and_then(|aperture| {
            let at = GuestAddress::new(aperture, userd & PAGE_MASK);
            let memory = self.memory.lock();
            let address = memory.translation().card_address(at, instance::SIZE)?;
            Some((aperture, address))
        });
        let shown = userd.map_or(NO_TARGET, |(aperture, at)| at | aperture.target());
        set_wide(&mut block, instance::USERD, shown);

        let to = self.host.layout().instance(chid);
        let part = part.unwrap_or(0..instance::SIZE);
        let directory = instance::PAGE_DIR_BASE..instance::PAGE_DIR_BASE + 8;
        for range in [
            part.start..part.end.min(directory.start),
            part.start.max(directory.end)..part.end,
        ] {
            if range.start < range.end {
                let bytes = &block[range.start as usize..range.end as usize];
                self.host.vram().write(to + range.start, bytes);
            }
        }
        userd
    }

    /// The guest stored to pages among which there are instance blocks.
    pub(super) fn mirror(&self, address: u64, len: u64) {
        let end = address + len;
        let mut channels = self.channels.lock();
        for (guest, row) in (0..).zip(&mut channels.0) {
            let (Some(channel), Some(chid)) = (&mut row.channel, self.partition.channel(guest))
            else {
                continue;
            };
            // Whole words: what the card loads.
            let start = address.max(channel.block) & !3;
            let end = end.min(channel.block + instance::SIZE).next_multiple_of(4);
            if start >= end {
                continue;
            }
            let part = start - channel.block..end - channel.block;
            let control = instance::USERD..instance::USERD + 8;
            let moved = part.start < control.end && control.start < part.end;
            let userd = self.copy_block(chid, channel, Some(part));
            if moved {
                self.host.set_control_page(chid, userd);
            }
        }
    }

    /// The guest submitted a runlist of `length` entries.
    fn submit_runlist(&self, length: u32) {
        let word = self.file.read(pfifo::RUNLIST_WR.offset());
        let address = u64::from(word & 0x0fff_ffff) << 12;
        let mut entries = vec![0; length as usize * RUNLIST_ENTRY];
        match self.partition.vram(address, entries.len() as u64) {
            Some(at) if word >> 28 & 3 == 0 => self.host.vram().read(at, &mut entries),
            // A list in no memory of the guest's is empty.
            _ => entries.clear(),
        }
        let mut list = Vec::new();
        for entry in entries.chunks_exact(RUNLIST_ENTRY) {
            let guest = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            if let Some(chid) = self.partition.channel(guest)
                && !list.contains(&chid)
            {
                list.push(chid);
            }
        }
        self.host.set_runlist(self.vm(), list);
    }

    /// The guest makes `unit` fault on behalf of whatever engine `number` does for it.
    fn inject(&self, number: u32, unit: u32) {
        let state = self.host.engine_state(self.vm(), number);
        let mut block = 0;
        if state != 0 {
            let guest = state & pfifo::EngState::CHID.bits();
            block = self.channels.lock().0[guest as usize].word & 0x3fff_ffff;
            if let Some(chid) = self.live(guest) {
                self.host.stop(chid);
            }
        }
        self.deliver(Event::Fault {
            unit,
            registers: [block, 0, 0, INJECTED],
        });
    }

    /// A load of a PBDMA's register: the card's while the unit waits for this guest.
    fn pbdma_load(&self, at: Hit) -> Option<u32> {
        let unit = at.index as usize;
        let Some(owner) = self.host.pbdma_owner(self.vm(), unit) else {
            return match at.register.id {
                pfifo::PBDMA_INTR | pfifo::PBDMA_CH => Some(0),
                _ => None,
            };
        };
        match at.register.id {
            pfifo::PBDMA_CH => Some(owner.guest | pfifo::PBDMA_CH_ACTIVE),
            pfifo::PBDMA_INTR_EN | pfifo::PBDMA_INTR_HALT_MASK => None,
            id => Some(self.host.card().load(pbdma(id, unit))),
        }
    }

    fn pbdma_store(&self, at: Hit, value: u32) -> bool {
        let unit = at.index as usize;
        match at.register.id {
            pfifo::PBDMA_CACHE_ADDR | pfifo::PBDMA_CACHE_DATA => {
                if self.host.pbdma_owner(self.vm(), unit).is_some() {
                    self.host.card().store(pbdma(at.register.id, unit), value);
                }
            }
            pfifo::PBDMA_INTR => {
                if self.host.acknowledge_pbdma(self.vm(), unit, value) {
                    self.with_events(|events| events.pbdmas &= !(1 << unit));
                }
            }
            _ => return false,
        }
        true
    }

    /// All channels are gone.
    pub(super) fn reset_channels(&self) {
        self.host.evict(self.vm());
        let rows = std::mem::take(&mut *self.channels.lock()).0;
        for channel in rows.iter().filter_map(|row| row.channel) {
            self.forget(channel);
        }
    }
}

/// A register that each PBDMA has.
fn is_pbdma(id: RegId) -> bool {
    (pfifo::PBDMA_IB_PUT.offset()..pfifo::PBDMA_IB_PUT.offset() + 0x2000).contains(&id.offset())
}
