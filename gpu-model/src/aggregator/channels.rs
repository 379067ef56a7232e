//! The card's channels: whose they are, which may run, and taking them away.

use mmio::Bar;
use mmio::VmId;
use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, Pte};
use mmio::layout::userd;
use mmio::regs::pfifo::{self, ChanState};

use super::Aggregator;
use crate::card::Registers;
use crate::partition::Layout;

/// The second word of a runlist entry.
///
/// Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_runlist_commit`.
const RUNLIST_ENTRY: u32 = 4;

/// Whose a channel of the card is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The machine.
    pub vm: VmId,
    /// Its number for the channel.
    pub guest: u32,
    /// The card's number.
    pub chid: u32,
    /// The guest's instance block, as a channel register names it.
    pub instance: u32,
}

/// The channel table of the card.
pub(super) struct Table([Option<Owner>; pfifo::CHANNELS as usize]);

impl Table {
    pub(super) fn new() -> Self {
        Self([None; pfifo::CHANNELS as usize])
    }
}

/// The runlists of all machines.
pub(super) struct Runlists {
    /// By machine, channels of the card in the guest's order.
    lists: Vec<Vec<u32>>,
    /// Machines that wait to hear that theirs was taken over, as bits.
    pub(super) waiting: u32,
    /// The buffer that the card does not use.
    next: u64,
}

impl Runlists {
    pub(super) fn new(vgpus: u16) -> Self {
        Self {
            lists: vec![Vec::new(); vgpus.into()],
            waiting: 0,
            next: 0,
        }
    }
}

const fn channel(register: mmio::RegId, chid: u32) -> u32 {
    register.offset() + 8 * chid
}

impl Aggregator {
    /// Whose channel `chid` is.
    pub fn owner(&self, chid: u32) -> Option<Owner> {
        *self.table.lock().0.get(chid as usize)?
    }

    /// Gives channel `owner.chid` its shadow instance block, which is complete, and its control
    /// page at `userd` (an address of the card; `None` leaves it without).
    pub fn bind(&self, owner: Owner, userd: Option<(Aperture, u64)>) {
        let chid = owner.chid;
        self.table.lock().0[chid as usize] = Some(owner);
        self.set_control_page(chid, userd);
        let block = self.layout.instance(chid);
        let word = pfifo::CHAN_VALID | (block >> 12) as u32;
        self.card.store(channel(pfifo::CHAN, chid), word);
    }

    /// Lets BAR1 show the control page of a channel.
    pub fn set_control_page(&self, chid: u32, page: Option<(Aperture, u64)>) {
        let entry = page.map_or(0, |(aperture, address)| Pte::new(aperture, address).0);
        let at = self.layout.bar1_table() + u64::from(chid) * ENTRY_SIZE;
        self.vram.store_wide(at, entry);
        self.flush_tlb(self.layout.bar1_directory());
    }

    /// Lets channel `chid` run, or not.
    pub fn allow(&self, chid: u32, runnable: bool) {
        let word = match runnable {
            // The engine field is what nouveau stores.
            true => ChanState::RUNNABLE | ChanState::ENGINE,
            false => ChanState::empty(),
        };
        self.card
            .store(channel(pfifo::CHAN_STATE, chid), word.bits());
    }

    /// What channel `chid` is doing.
    pub fn channel_state(&self, chid: u32) -> u32 {
        self.card.load(channel(pfifo::CHAN_STATE, chid))
    }

    /// Takes channel `chid` off its PBDMA and engines; `false` if it does not leave in time.
    pub fn kick(&self, chid: u32) -> bool {
        let _one = self.kick.lock();
        self.card.set(pfifo::KICK, chid);
        self.wait(|| self.card.get(pfifo::KICK) & pfifo::KICK_PENDING == 0)
    }

    /// Stops channel `chid` for good, whatever it is doing. Its owner may bind it again.
    pub fn stop(&self, chid: u32) {
        self.allow(chid, false);
        if !self.kick(chid) {
            tracing::debug!("Channel {chid} does not leave its engine: it is taken away");
            self.card.store(channel(pfifo::CHAN, chid), 0);
        }
    }

    /// Ends channel `chid`: nobody owns it.
    pub fn kill(&self, chid: u32) {
        if self.table.lock().0[chid as usize].is_none() {
            return;
        }
        self.stop(chid);
        self.card.store(channel(pfifo::CHAN, chid), 0);
        self.release_handlers(|handler| handler.owner.chid == chid);
        self.set_control_page(chid, None);
        self.table.lock().0[chid as usize] = None;
    }

    /// Puts a machine's list of channels in the place of its last one, and gives the card the
    /// merged list.
    pub fn set_runlist(&self, vm: VmId, channels: Vec<u32>) {
        let mut runlists = self.runlists.lock();
        runlists.lists[usize::from(vm.0)] = channels;
        runlists.waiting |= 1 << vm.0;
        self.commit(&mut runlists);
    }

    fn commit(&self, runlists: &mut Runlists) {
        let pending = || self.card.get(pfifo::RUNLIST_RD_LEN) & pfifo::RUNLIST_PENDING;
        // The card may still read the buffer before the last.
        if !self.wait(|| pending() == 0) {
            tracing::debug!("The card does not take over its runlist");
        }
        let merged: Vec<u8> = runlists
            .lists
            .iter()
            .flatten()
            .flat_map(|&chid| [chid, RUNLIST_ENTRY])
            .flat_map(u32::to_le_bytes)
            .collect();
        let buffer = self.layout.runlist(runlists.next);
        runlists.next ^= 1;
        self.vram.write(buffer, &merged);
        self.card.set(pfifo::RUNLIST_WR, (buffer >> 12) as u32);
        self.card
            .set(pfifo::RUNLIST_WR_LEN, merged.len() as u32 / 8);
    }

    /// A runlist has not yet been taken over.
    pub fn runlist_pending(&self) -> bool {
        self.card.get(pfifo::RUNLIST_RD_LEN) & pfifo::RUNLIST_PENDING != 0
    }

    /// Brings a doorbell to the card: the point at which submissions could wait for their turn.
    pub fn submit(&self, chid: u32, put: u32) {
        let at = Layout::control_page(chid) + userd::GP_PUT;
        self.card.write(Bar::Bar1, at, &put.to_le_bytes());
    }

    /// What engine `number` is doing, if it does it for a channel of `vm`.
    pub fn engine_state(&self, vm: VmId, number: u32) -> u32 {
        let state = self.card.load(pfifo::ENG_STATE.offset() + 4 * number);
        let chid = pfifo::EngState::CHID.bits();
        match self.owner(state & chid) {
            Some(owner) if owner.vm == vm && state != 0 => state & !chid | owner.guest,
            _ => 0,
        }
    }
}
