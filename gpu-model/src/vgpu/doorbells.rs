//! Control pages of channels, and the doorbells in them.
//!
//! The control page that the card reads is the hypervisor's. How a put index comes there:
//!
//! * trapped: a store of the guest exits, and the dispatcher stores it when it is the channel's turn;
//! * polled: the guest stores to its own page without an exit, and somebody looks there;
//! * direct: the guest has the card's page. Where the card does not see such stores, as the software
//!   card does not, somebody looks there too and makes it look; nobody but the guest stores the index,
//!   which may be a newer one at any time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mmio::Bar;
use mmio::layout::userd;
use mmio::regs::pfifo;
use parking_lot::{Mutex, MutexGuard};

use super::VirtualGpu;
use super::apertures::PAGE;
use crate::optimisations::Optimisations;
use crate::partition::Layout;

/// How doorbells come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ringing {
    /// By an exit.
    Trapped,
    /// Somebody looks at the guest's own pages.
    Polled,
    /// The guest stores to the card's pages.
    Direct,
}

impl Ringing {
    fn by(switches: Optimisations) -> Self {
        if switches.contains(Optimisations::DOORBELL_DIRECT) {
            Self::Direct
        } else if switches.contains(Optimisations::DOORBELL_POLL) {
            Self::Polled
        } else {
            Self::Trapped
        }
    }
}

/// What is known of the channels of a guest, to be looked at without a lock.
pub struct Doorbells {
    /// Held by whoever passes a doorbell on: a later one must not be overtaken.
    turn: Mutex<()>,
    /// Channels that exist, as bits.
    live: [AtomicU64; pfifo::CHANNELS as usize / 64],
    /// By channel, the put index that was passed on last.
    puts: [AtomicU32; pfifo::CHANNELS as usize],
    /// By channel, the guest's own control page in its video memory, or [`NO_PAGE`].
    pages: [AtomicU64; pfifo::CHANNELS as usize],
}

/// No page of video memory.
const NO_PAGE: u64 = u64::MAX;

impl Default for Doorbells {
    fn default() -> Self {
        Self {
            turn: Mutex::default(),
            live: Default::default(),
            puts: [const { AtomicU32::new(0) }; pfifo::CHANNELS as usize],
            pages: [const { AtomicU64::new(NO_PAGE) }; pfifo::CHANNELS as usize],
        }
    }
}

impl Doorbells {
    /// Keeps doorbells from being passed on. Taken before all other locks.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Whether channel `guest` exists.
    #[inline]
    pub fn live(&self, guest: u32) -> bool {
        let word = self.live.get(guest as usize / 64);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (guest % 64) & 1 != 0)
    }

    /// Channel `guest` exists from now on, or no more.
    pub fn set_live(&self, guest: u32, live: bool) {
        let Some(word) = self.live.get(guest as usize / 64) else {
            return;
        };
        let bit = 1 << (guest % 64);
        match live {
            true => word.fetch_or(bit, Ordering::AcqRel),
            false => word.fetch_and(!bit, Ordering::AcqRel),
        };
    }

    /// The put index of channel `guest` that was passed on last.
    pub fn put(&self, guest: u32) -> u32 {
        let put = self.puts.get(guest as usize);
        put.map_or(0, |put| put.load(Ordering::Relaxed))
    }

    /// The guest's own control page of a channel, in its video memory.
    pub fn page(&self, guest: u32) -> Option<u64> {
        let page = self.pages.get(guest as usize)?.load(Ordering::Relaxed);
        (page != NO_PAGE).then_some(page)
    }

    /// Names that page.
    pub fn set_page(&self, guest: u32, page: Option<u64>) {
        if let Some(to) = self.pages.get(guest as usize) {
            to.store(page.unwrap_or(NO_PAGE), Ordering::Relaxed);
        }
    }

    /// Names that index.
    pub fn set_put(&self, guest: u32, put: u32) {
        if let Some(to) = self.puts.get(guest as usize) {
            to.store(put, Ordering::Relaxed);
        }
    }
}

impl VirtualGpu {
    /// How doorbells come here.
    pub(super) fn ringing(&self) -> Ringing {
        Ringing::by(self.optimisations())
    }

    /// Where byte `offset` of BAR1 is in the control page of a channel that exists, if it is: the
    /// guest's number, the card's number, and the place in the page.
    #[inline]
    pub(super) fn userd(&self, offset: u64) -> Option<(u32, u32, u64)> {
        let base = self.file.read(pfifo::BAR1_BASE.offset());
        if base & pfifo::BAR1_BASE_ENABLE == 0 {
            return None;
        }
        let first = u64::from(base & 0x0fff_ffff) * userd::STRIDE;
        let place = offset.checked_sub(first)?;
        let guest = u32::try_from(place / userd::STRIDE).ok()?;
        let chid = self.live(guest)?;
        Some((guest, chid, place % userd::STRIDE))
    }

    /// Where in BAR1 the control page of a channel that exists is.
    fn control_page(&self, guest: u32) -> Option<u64> {
        if !self.doorbells.live(guest) {
            return None;
        }
        let base = self.file.read(pfifo::BAR1_BASE.offset());
        let first = u64::from(base & 0x0fff_ffff) * userd::STRIDE;
        let offset = first + u64::from(guest) * userd::STRIDE;
        self.userd(offset).map(|_| offset)
    }

    /// Where in BAR1 the control page of a channel is, and where in the card's video memory that
    /// may be mapped to; `None` if it has to trap.
    pub(super) fn open_control_page(&self, guest: u32) -> Option<(u64, u64)> {
        let ringing = self.ringing();
        if ringing == Ringing::Trapped {
            return None;
        }
        let offset = self.control_page(guest)?;
        let vram = match ringing {
            Ringing::Direct => self.host.layout().userd(self.live(guest)?),
            _ => {
                let own = self.doorbells.page(guest)?;
                self.partition.vram(own, PAGE)?
            }
        };
        Some((offset, vram))
    }

    /// Loads from a control page. The put index is what the guest stored: the card may not have it
    /// yet.
    pub(super) fn userd_read(&self, (guest, chid, place): (u32, u32, u64), data: &mut [u8]) {
        let at = Layout::control_page(chid) + place;
        self.host.card().read(Bar::Bar1, at, data);
        let put = self.stored_put(self.ringing(), guest, chid).to_le_bytes();
        for (byte, value) in (userd::GP_PUT..).zip(put) {
            if let Some(byte) = byte
                .checked_sub(place)
                .and_then(|n| data.get_mut(n as usize))
            {
                *byte = value;
            }
        }
    }

    /// Stores to a control page; the put index goes to whoever decides when it is the channel's
    /// turn.
    pub(super) fn userd_write(&self, (guest, chid, place): (u32, u32, u64), data: &[u8]) {
        let end = place + data.len() as u64;
        let put = userd::GP_PUT..userd::GP_PUT + 4;
        let page = Layout::control_page(chid);
        for part in [place..end.min(put.start), place.max(put.end)..end] {
            if part.start < part.end {
                let bytes = &data[(part.start - place) as usize..(part.end - place) as usize];
                self.host.card().write(Bar::Bar1, page + part.start, bytes);
            }
        }
        if place >= put.end || end <= put.start {
            return;
        }
        let _turn = self.doorbells.turn();
        if !self.doorbells.live(guest) {
            return;
        }
        let ringing = self.ringing();
        let mut word = self.stored_put(ringing, guest, chid).to_le_bytes();
        for (at, byte) in (place..).zip(data).filter(|(at, _)| put.contains(at)) {
            word[(at - put.start) as usize] = *byte;
        }
        self.store_put(ringing, guest, chid, u32::from_le_bytes(word));
        self.doorbell(ringing, guest, chid, u32::from_le_bytes(word));
    }

    /// The put index that the guest stored last.
    #[inline]
    fn stored_put(&self, ringing: Ringing, guest: u32, chid: u32) -> u32 {
        match (ringing, self.doorbells.page(guest)) {
            (Ringing::Direct, _) => self.host.control_load(chid, userd::GP_PUT),
            (Ringing::Polled, Some(own)) => {
                let mut put = [0; 4];
                self.load_vram(own + userd::GP_PUT, &mut put);
                u32::from_le_bytes(put)
            }
            _ => self.doorbells.put(guest),
        }
    }

    /// Stores a put index where the guest would have, had it not trapped.
    #[inline]
    fn store_put(&self, ringing: Ringing, guest: u32, chid: u32, put: u32) {
        match (ringing, self.doorbells.page(guest)) {
            (Ringing::Direct, _) => self.host.control_store(chid, userd::GP_PUT, put),
            (Ringing::Polled, Some(own)) => {
                self.store_plain(own + userd::GP_PUT, &put.to_le_bytes());
            }
            _ => {}
        }
    }

    /// Passes the doorbell of a channel on. Called with the turn held.
    fn doorbell(&self, ringing: Ringing, guest: u32, chid: u32, put: u32) {
        self.counters.add_doorbell(guest);
        self.doorbells.set_put(guest, put);
        self.use_space_of(guest);
        match ringing {
            Ringing::Direct => self.host.has_rung(chid, put),
            _ => self.host.submit(chid, put),
        }
    }

    /// Looks at the doorbells of all channels whose control pages are mapped, and brings what the
    /// card says of their progress there. Somebody has to call this again and again while
    /// doorbells are polled or direct; it does not wait for the guest's own processors. Whether one
    /// had been rung.
    pub fn poll_doorbells(&self) -> bool {
        let turn = self.doorbells.turn.try_lock();
        turn.is_some_and(|_turn| self.look_at_doorbells(self.ringing()))
    }

    fn look_at_doorbells(&self, ringing: Ringing) -> bool {
        if ringing == Ringing::Trapped {
            return false;
        }
        let mut any = false;
        for guest in 0..pfifo::CHANNELS {
            let Some(chid) = self.live(guest) else {
                continue;
            };
            let put = self.stored_put(ringing, guest, chid);
            if put != self.doorbells.put(guest) {
                self.doorbell(ringing, guest, chid, put);
                any = true;
            }
            if ringing == Ringing::Polled {
                self.show_progress(guest, chid);
            }
        }
        any
    }

    /// Brings what the card says of a channel's progress to the guest's own page.
    fn show_progress(&self, guest: u32, chid: u32) {
        let Some(own) = self.doorbells.page(guest) else {
            return;
        };
        let mut progress = [0; (userd::GP_PUT - userd::PUT) as usize];
        let page = self.host.layout().userd(chid);
        self.host.vram().read(page + userd::PUT, &mut progress);
        self.store_plain(own + userd::PUT, &progress);
    }

    /// Doorbells come as `switches` say from now on. While nothing is mapped, what was rung the old
    /// way is passed on, and the new pages get the index of each channel.
    pub(super) fn switch_doorbells(&self, switches: Optimisations) {
        let _turn = self.doorbells.turn();
        let (old, new) = (self.ringing(), Ringing::by(switches));
        let trapped = Optimisations::DOORBELL_DIRECT | Optimisations::DOORBELL_POLL;
        self.store_optimisations(switches - trapped);
        if old != new {
            self.remap(Bar::Bar1);
            self.look_at_doorbells(old);
            for guest in 0..pfifo::CHANNELS {
                if let Some(chid) = self.live(guest) {
                    self.host.set_direct(chid, new == Ringing::Direct);
                    self.store_put(new, guest, chid, self.doorbells.put(guest));
                    if new == Ringing::Polled {
                        self.show_progress(guest, chid);
                    }
                }
            }
        }
        self.store_optimisations(switches);
    }
}
