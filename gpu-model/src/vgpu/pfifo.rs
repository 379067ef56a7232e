//! PFIFO of a guest: shadow channels, its runlist, kicks, and what it sees of its PBDMAs.

use std::sync::atomic::Ordering;

use mmio::layout::pagetable::Aperture;
use mmio::layout::{instance, userd};
use mmio::regs::pfifo::{self, ChanState};
use mmio::{Bar, Hit, RegId};
use shadow_pt::GuestAddress;

use super::VirtualGpu;
use super::doorbells::Ringing;
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
    /// What it says of the control page.
    userd: u64,
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
                let pending = match self.host.runlist_pending(self.vm()) {
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
                let enabled = pfifo::Intr::from_bits_retain(value);
                self.host
                    .listen(self.vm(), enabled.contains(pfifo::Intr::ENGINE));
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
            pfifo::BAR1_BASE => {
                self.file.write(at.register.id.offset(), value);
                self.remap(Bar::Bar1);
            }
            pfifo::CHAN => self.set_channel(at.index, value),
            pfifo::CHAN_STATE => {
                if let Some(chid) = self.live(at.index) {
                    let runnable = ChanState::from_bits_retain(value);
                    self.use_space_of(at.index);
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
    pub(super) fn live(&self, guest: u32) -> Option<u32> {
        let live = self.doorbells.live(guest);
        live.then(|| self.partition.channel(guest)).flatten()
    }

    /// The card is about to use the address space of a channel.
    pub(super) fn use_space_of(&self, guest: u32) {
        if !self.put_off.load(Ordering::Acquire) {
            return;
        }
        let row = self.channels.lock().0.get(guest as usize).copied();
        if let Some(directory) = row.and_then(|row| row.channel?.directory) {
            let mut memory = self.memory.lock();
            memory.use_space(&self.around(), directory);
            self.put_off.store(memory.is_stale(), Ordering::Release);
        }
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

    /// The guest stored a row of the channel table.
    fn set_channel(&self, guest: u32, word: u32) {
        let Some(chid) = self.partition.channel(guest) else {
            // Beyond the quota: the row does not exist.
            return;
        };
        // Doorbells of the last channel with this number are no doorbells of the next one.
        let _turn = self.doorbells.turn();
        let mut channels = self.channels.lock();
        let row = &mut channels.0[guest as usize];
        let same = std::mem::replace(&mut row.word, word) == word;
        if same && row.channel.is_some() {
            return;
        }
        if let Some(old) = row.channel.take() {
            self.doorbells.set_live(guest, false);
            let gone = self.host.kill(chid);
            self.look_at_pbdmas();
            self.forget(chid, old, gone);
            self.remap_all();
        }
        if word & pfifo::CHAN_VALID == 0 {
            return;
        }
        let block = u64::from(word & 0x0fff_ffff) << 12;
        let vram = word >> 28 & 3 == 0;
        let error = if !vram || self.partition.vram(block, instance::SIZE).is_none() {
            Some(pfifo::CHAN_TABLE_ERROR_TARGET)
        } else if !self.host.is_gone(chid) {
            Some(pfifo::CHAN_TABLE_ERROR_ACTIVE)
        } else {
            None
        };
        if let Some(error) = error {
            row.word &= !pfifo::CHAN_VALID;
            self.file.write(pfifo::CHAN_TABLE_ERROR.offset(), error);
            drop(channels);
            return self.with_events(|events| {
                events.latched |= pfifo::Intr::CHAN_TABLE_ERROR;
            });
        }
        // Stores that come from now on are mirrored once the row is complete.
        self.watch.set(block, true);
        self.remap(Bar::Bar0);
        self.remap(Bar::Bar3);
        let mut channel = Channel {
            block,
            directory: None,
            base: 0,
            userd: NO_TARGET,
        };
        self.copy_block(chid, &mut channel, None);
        self.copy_userd(chid, channel, true);
        row.channel = Some(channel);
        self.host.bind(Owner {
            vm: self.vm(),
            guest,
            chid,
            instance: word & 0x3fff_ffff,
        });
        let put = self.host.control_load(chid, userd::GP_PUT);
        self.doorbells.set_put(guest, put);
        self.doorbells.set_page(guest, self.own_userd(channel).1);
        self.host
            .set_direct(chid, self.ringing() == Ringing::Direct);
        self.doorbells.set_live(guest, true);
        self.remap(Bar::Bar1);
    }

    /// A channel is no more; whether it is `gone` from the card, too.
    fn forget(&self, chid: u32, channel: Channel, gone: bool) {
        self.copy_userd(chid, channel, false);
        self.watch.set(channel.block, false);
        if let Some(directory) = channel.directory {
            self.leave(directory, gone);
        }
    }

    /// A channel uses a directory no more; whether it is `gone` from the card, too.
    fn leave(&self, directory: GuestAddress, gone: bool) {
        let mut memory = self.memory.lock();
        memory.detach(&self.host, directory, gone);
        if !gone {
            self.lingering.store(true, Ordering::Release);
        }
    }

    /// The guest's own control page for a channel, if it is its memory; and if it is video memory.
    fn own_userd(&self, channel: Channel) -> (Option<GuestAddress>, Option<u64>) {
        let own = Aperture::from_target(channel.userd).and_then(|aperture| {
            let at = GuestAddress::new(aperture, channel.userd & PAGE_MASK);
            let memory = self.memory.lock();
            memory.translation().card_address(at, userd::STRIDE)?;
            Some(at)
        });
        match own {
            Some(GuestAddress::Vram(at)) => (own, Some(at)),
            _ => (own, None),
        }
    }

    /// The control page of a channel is the hypervisor's, so that the card sees a put index only
    /// when the channel's turn has come. It starts as what is in the guest's page, and is left
    /// there.
    fn copy_userd(&self, chid: u32, channel: Channel, there: bool) {
        let vram = self.host.vram();
        let page = self.host.layout().userd(chid);
        let own = self.own_userd(channel).0;
        let mut bytes = [0; userd::STRIDE as usize];
        if there {
            match own {
                Some(GuestAddress::Vram(at)) => self.load_vram(at, &mut bytes),
                Some(GuestAddress::Ram(at)) => {
                    self.memory.lock().ram().read(at, &mut bytes);
                }
                None => {}
            }
            return vram.write(page, &bytes);
        }
        self.host.fetch(page, &mut bytes);
        match own {
            Some(GuestAddress::Vram(at)) => {
                self.store_plain(at, &bytes);
            }
            Some(GuestAddress::Ram(at)) => {
                self.memory.lock().ram().write(at, &bytes);
            }
            None => {}
        }
    }

    /// Brings a guest's instance block to the shadow of channel `chid`: all of it, or the `part`
    /// that changed. What names memory is translated; everything else is virtual addresses and
    /// state of the channel's own.
    fn copy_block(&self, chid: u32, channel: &mut Channel, part: Option<std::ops::Range<u64>>) {
        let mut block: Block = [0; instance::SIZE as usize];
        let Some(at) = self.partition.vram(channel.block, instance::SIZE) else {
            return;
        };
        self.host.fetch(at, &mut block);

        let base = wide(&block, instance::PAGE_DIR_BASE);
        if part.is_none() {
            channel.base = base;
            self.set_directory(chid, channel);
        } else if base != channel.base {
            channel.base = base;
            let old = channel.directory.take();
            // The card remembers the old directory as long as the channel is on it.
            let gone = self
                .host
                .with_channel_off(chid, || self.set_directory(chid, channel));
            if let Some(old) = old {
                self.leave(old, gone);
            }
        }

        channel.userd = wide(&block, instance::USERD);
        set_wide(&mut block, instance::USERD, self.host.layout().userd(chid));

        let to = self.host.layout().instance(chid);
        let part = part.unwrap_or(0..instance::SIZE);
        let directory = instance::PAGE_DIR_BASE..instance::PAGE_DIR_BASE + 8;
        for range in [
            part.start..part.end.min(directory.start),
            part.start.max(directory.end)..part.end,
        ] {
            if range.start < range.end {
                let bytes = &block[range.start as usize..range.end as usize];
                self.write_words(to + range.start, bytes);
            }
        }
    }

    /// Makes a part of a shadow instance block, in whole words, that of the guest: most words of most
    /// blocks are 0 and were so before. The card has stored to it meanwhile, so it is looked at.
    fn write_words(&self, to: u64, bytes: &[u8]) {
        let vram = self.host.vram();
        let mut there: Block = [0; instance::SIZE as usize];
        let there = &mut there[..bytes.len()];
        self.host.fetch(to, there);
        let words = there.chunks(4).zip(bytes.chunks(4));
        for (at, (_, new)) in (to..)
            .step_by(4)
            .zip(words)
            .filter(|(_, (old, new))| old != new)
        {
            vram.write(at, new);
            self.counters.add_block_bytes(new.len() as u64);
        }
    }

    /// Gives channel `chid` the shadow of the directory that its guest wants.
    fn set_directory(&self, chid: u32, channel: &mut Channel) {
        let shadow = self.memory.lock().attach(&self.around(), channel.base);
        channel.directory = shadow.map(|(directory, _)| directory);
        let shadow = shadow.map_or(NO_TARGET, |(_, shadow)| shadow);
        let to = self.host.layout().instance(chid) + instance::PAGE_DIR_BASE;
        self.host.vram().write(to, &shadow.to_le_bytes());
        self.counters.add_block_bytes(8);
    }

    /// The guest stored to pages among which there are instance blocks.
    pub(super) fn mirror(&self, address: u64, len: u64) {
        self.counters.count(&self.counters.mirrored);
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
            self.copy_block(chid, channel, Some(part));
        }
    }

    /// The guest submitted a runlist of `length` entries.
    fn submit_runlist(&self, length: u32) {
        let word = self.file.read(pfifo::RUNLIST_WR.offset());
        let address = u64::from(word & 0x0fff_ffff) << 12;
        let mut entries = vec![0; length as usize * RUNLIST_ENTRY];
        match self.partition.vram(address, entries.len() as u64) {
            Some(at) if word >> 28 & 3 == 0 => self.host.fetch(at, &mut entries),
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
        self.memory.lock().catch_up(&self.around());
        self.host.set_runlist(self.vm(), list);
    }

    /// The guest makes `unit` fault on behalf of whatever engine `number` does for it.
    fn inject(&self, number: u32, unit: u32) {
        let state = self.host.engine_state(self.vm(), number);
        let mut block = 0;
        let mut guilty = None;
        if state != 0 {
            let guest = state & pfifo::EngState::CHID.bits();
            guilty = Some(guest);
            block = self.channels.lock().0[guest as usize].word & 0x3fff_ffff;
            if let Some(chid) = self.live(guest) {
                self.host.stop(chid);
            }
        }
        self.deliver(Event::Fault {
            unit,
            guest: guilty,
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
                self.host.acknowledge_pbdma(self.vm(), unit, value);
                self.look_at_pbdmas();
            }
            _ => return false,
        }
        true
    }

    /// All channels are gone.
    pub(super) fn reset_channels(&self) {
        let _turn = self.doorbells.turn();
        let gone = self.host.evict(self.vm());
        let rows = std::mem::take(&mut *self.channels.lock()).0;
        for (guest, row) in (0..).zip(&rows) {
            self.doorbells.set_live(guest, false);
            if let (Some(channel), Some(chid)) = (row.channel, self.partition.channel(guest)) {
                self.forget(chid, channel, gone);
            }
        }
    }
}

/// A register that each PBDMA has.
fn is_pbdma(id: RegId) -> bool {
    (pfifo::PBDMA_IB_PUT.offset()..pfifo::PBDMA_IB_PUT.offset() + 0x2000).contains(&id.offset())
}
