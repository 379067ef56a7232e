//! The card's channels: whose they are, which may run, and taking them away.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mmio::layout::userd;
use mmio::regs::pfifo::{self, ChanState, EngState};
use mmio::{Bar, VmId};
use parking_lot::{Mutex, MutexGuard};

use super::events::ENGINE_UNITS;
use super::{AFTERMATH, Aggregator};
use crate::card::Registers;
use crate::partition::{Layout, MOST_VGPUS, OWN_CHANNEL};
use crate::submission::{Activity, Gate, Submission};

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

/// A row of the card's channel table.
#[derive(Clone, Copy, Default)]
pub(super) struct Row {
    /// Whose the channel is; nobody's if it is none.
    owner: Option<Owner>,
    /// Counts the channels that had this number.
    binding: u64,
    /// Its guest lets it run.
    runnable: bool,
    /// The dispatcher does not.
    held: bool,
    /// The dispatcher wants it killed.
    expelled: bool,
    /// It was killed, but the card did not give it up.
    lingers: bool,
    /// Its address space is being replaced.
    frozen: bool,
    /// Its guest stores put indices where the card finds them.
    direct: bool,
    /// The put index of the last doorbell.
    submitted: u32,
    /// The put index that the card knows.
    rung: u32,
    /// The card may not have come there yet.
    in_flight: bool,
    /// The engine that was last seen to work for it.
    engine: Option<u32>,
}

impl Row {
    fn may_run(&self) -> bool {
        self.runnable && !self.held && !self.frozen
    }
}

/// A row behind a lock of its own: machines ring at the same time, and share no cache line then.
#[derive(Default)]
#[repr(align(128))]
struct Locked(Mutex<Row>);

/// The channel table of the card.
pub(super) struct Table(Box<[Locked]>);

impl Table {
    pub(super) fn new() -> Self {
        Self((0..pfifo::CHANNELS).map(|_| Locked::default()).collect())
    }

    /// The row of channel `chid`. Nobody holds two.
    fn row(&self, chid: u32) -> Option<MutexGuard<'_, Row>> {
        Some(self.0.get(chid as usize)?.0.lock())
    }

    /// What each row is just now.
    fn rows(&self) -> impl Iterator<Item = (u32, Row)> {
        (0..).zip(self.0.iter().map(|row| *row.0.lock()))
    }
}

/// The runlists of all machines. The card has one buffer at most; the other one is filled while it
/// takes that over, and given to it afterwards.
pub(super) struct Runlists {
    /// By machine, channels of the card in the guest's order.
    lists: Vec<Vec<u32>>,
    /// Machines whose list is in the one that the card takes over, as bits.
    submitted: u32,
    /// Machines whose list waits for that; a bit behind theirs is the hypervisor's.
    waiting: u32,
    /// The buffer that the card does not use.
    next: u64,
}

impl Runlists {
    pub(super) fn new(vgpus: u16) -> Self {
        Self {
            lists: vec![Vec::new(); vgpus.into()],
            submitted: 0,
            waiting: 0,
            next: 0,
        }
    }
}

pub(super) const fn channel(register: mmio::RegId, chid: u32) -> u32 {
    register.offset() + 8 * chid
}

impl Aggregator {
    /// Whose channel `chid` is.
    pub fn owner(&self, chid: u32) -> Option<Owner> {
        self.table.row(chid)?.owner
    }

    /// Gives channel `owner.chid` its shadow instance block and its control page, which are
    /// complete.
    pub fn bind(&self, owner: Owner) {
        let chid = owner.chid;
        let put = self.control_load(chid, userd::GP_PUT);
        if let Some(mut row) = self.table.row(chid) {
            *row = Row {
                owner: Some(owner),
                binding: row.binding + 1,
                submitted: put,
                rung: put,
                ..Row::default()
            };
        }
        let block = self.layout.instance(chid);
        self.card.flush(false);
        let word = pfifo::CHAN_VALID | (block >> 12) as u32;
        self.card.store(channel(pfifo::CHAN, chid), word);
    }

    /// Loads a word of the control page of channel `chid`.
    pub fn control_load(&self, chid: u32, offset: u64) -> u32 {
        let mut word = [0; 4];
        let at = Layout::control_page(chid) + offset;
        self.card.read(Bar::Bar1, at, &mut word);
        u32::from_le_bytes(word)
    }

    /// Stores a word of the control page of channel `chid`.
    pub fn control_store(&self, chid: u32, offset: u64, word: u32) {
        let at = Layout::control_page(chid) + offset;
        self.card.write(Bar::Bar1, at, &word.to_le_bytes());
    }

    /// From now on the guest stores the put indices of channel `chid` where the card finds them, or
    /// no more. They are not stored by anybody else then.
    pub fn set_direct(&self, chid: u32, direct: bool) {
        if let Some(mut row) = self.table.row(chid) {
            row.direct = direct;
        }
    }

    /// Lets the card have the put index of a channel: whoever has the row says what that is.
    fn show_put(&self, chid: u32, row: &Row) {
        self.card.flush(false);
        match row.direct {
            // The guest may have stored another one by now.
            true => self.card.look(chid),
            false => self.control_store(chid, userd::GP_PUT, row.rung),
        }
    }

    /// The channels that the dispatcher wants killed.
    pub(super) fn expelled(&self) -> Vec<Owner> {
        let expelled = self.table.rows().filter(|(_, row)| row.expelled);
        expelled.filter_map(|(_, row)| row.owner).collect()
    }

    /// Lets channel `chid` run as far as its guest is concerned, or not.
    pub fn allow(&self, chid: u32, runnable: bool) {
        self.change_row(chid, |row| row.runnable = runnable);
    }

    fn change_row(&self, chid: u32, change: impl FnOnce(&mut Row)) {
        // The store is made under the lock, so that the last change is the one that stays.
        let Some(mut row) = self.table.row(chid) else {
            return;
        };
        let before = row.may_run();
        change(&mut row);
        let word = match row.may_run() {
            // The engine field is what nouveau stores.
            true => ChanState::RUNNABLE | ChanState::ENGINE,
            false => ChanState::empty(),
        };
        self.card
            .store(channel(pfifo::CHAN_STATE, chid), word.bits());
        if row.may_run() && !before && row.owner.is_some() {
            // It may have lost sight of work when it was taken off.
            self.show_put(chid, &row);
        }
    }

    /// Takes channel `chid` off the card while `change` does something to what the card knows of
    /// it. A channel that does not go in time ends; whether it went.
    pub fn with_channel_off(&self, chid: u32, change: impl FnOnce()) -> bool {
        self.change_row(chid, |row| row.frozen = true);
        let gone = self.kick(chid);
        if !gone {
            self.kill(chid);
        }
        change();
        self.change_row(chid, |row| row.frozen = false);
        gone
    }

    /// What channel `chid` is doing; runnable as its guest said.
    pub fn channel_state(&self, chid: u32) -> u32 {
        let state = self.card.load(channel(pfifo::CHAN_STATE, chid));
        let mut state = ChanState::from_bits_retain(state);
        let runnable = self.table.row(chid).is_some_and(|row| row.runnable);
        state.set(ChanState::RUNNABLE, runnable);
        state.bits()
    }

    /// Takes channel `chid` off its PBDMA and engines; `false` if it does not leave in time.
    pub fn kick(&self, chid: u32) -> bool {
        // Others can be kicked meanwhile.
        if !self.wait(|| !self.awaits_guest(chid)) {
            return false;
        }
        let _one = self.kick.lock();
        self.card.set(pfifo::KICK, chid);
        self.wait(|| self.card.get(pfifo::KICK) & pfifo::KICK_PENDING == 0)
    }

    /// Stops channel `chid` for good, whatever it is doing. Its owner may bind it again. `false`
    /// if the card does not give it up: what it uses must not be used otherwise.
    pub fn stop(&self, chid: u32) -> bool {
        self.change_row(chid, |row| {
            row.runnable = false;
            row.in_flight = false;
        });
        if self.kick(chid) {
            return true;
        }
        tracing::debug!("Channel {chid} does not leave its engine: it is taken away");
        self.card.store(channel(pfifo::CHAN, chid), 0);
        self.wait(|| !self.is_on_card(chid)) || self.tear_off(chid)
    }

    /// Whether a PBDMA or an engine works for channel `chid`.
    fn is_on_card(&self, chid: u32) -> bool {
        let state = self.card.load(channel(pfifo::CHAN_STATE, chid));
        let loaded = ChanState::from_bits_retain(state).contains(ChanState::LOADED);
        loaded || self.engines().contains(&Some(chid))
    }

    /// Makes the engines that work for channel `chid`, which the channel table no longer has, fault
    /// on its behalf: they drop what they do for it. `false` if one does not.
    ///
    /// Source: K612 `nvkm/engine/fifo/base.c nvkm_runl_rc`, where an engine is reset then; that
    /// would take everybody's work along.
    fn tear_off(&self, chid: u32) -> bool {
        let _one = self.kick.lock();
        let card = self.card();
        let on = |&(number, _): &(u32, u32)| self.engines()[number as usize] == Some(chid);
        let stuck: Vec<_> = ENGINE_UNITS.into_iter().filter(on).collect();
        let engines = stuck.iter().map(|(number, _)| 1 << number).sum();
        // Nobody else gets to them until this is over.
        card.set(pfifo::ENG_FREEZE, engines);
        let inject = |number: u32, value: u32| {
            card.store(pfifo::VM_FAULT_INJECT.offset() + 4 * number, value);
        };
        for &(number, unit) in stuck.iter().filter(|engine| on(engine)) {
            inject(number, pfifo::INJECT_VALID | unit);
        }
        let gone = self.wait(|| {
            card.set(pfifo::ENG_FAULT, engines);
            !self.is_on_card(chid)
        });
        for (number, unit) in stuck {
            inject(number, 0);
            card.set(pfifo::VM_FAULT_SOURCE, 1 << unit);
        }
        card.set(pfifo::ENG_FREEZE, 0);
        gone
    }

    /// Whether the card has given channel `chid` up, which was killed: until then its number names
    /// no other channel, and what it used is used for nothing else.
    pub fn is_gone(&self, chid: u32) -> bool {
        let Some(mut row) = self.table.row(chid) else {
            return true;
        };
        row.lingers = row.lingers && self.is_on_card(chid);
        !row.lingers
    }

    /// Whether the card has given up all channels of `vm` that were killed.
    pub fn are_gone(&self, vm: VmId) -> bool {
        let mut channels = self.layout.partition(vm).channels;
        channels.all(|chid| self.is_gone(chid))
    }

    /// Ends channel `chid`: nobody owns it. `false` as in [`Aggregator::stop`].
    pub fn kill(&self, chid: u32) -> bool {
        if self.owner(chid).is_none() {
            return self.is_gone(chid);
        }
        // A PBDMA that waits for its guest would not let it go.
        self.allow(chid, false);
        self.release_handlers(|handler| handler.owner.chid == chid);
        let gone = self.stop(chid);
        if !gone {
            tracing::warn!("The card does not give channel {chid} up: its number stays unused");
        }
        self.card.store(channel(pfifo::CHAN, chid), 0);
        if let Some(mut row) = self.table.row(chid) {
            row.owner = None;
            row.in_flight = false;
            row.expelled = false;
            row.lingers = !gone;
        }
        // Behind that: from here on it gets no other.
        self.release_handlers(|handler| handler.owner.chid == chid);
        self.dispatcher.forget(chid);
        gone
    }

    /// Puts a machine's list of channels in the place of its last one, and sees to it that the card
    /// gets the merged list.
    pub fn set_runlist(&self, vm: VmId, channels: Vec<u32>) {
        let mut runlists = self.runlists.lock();
        runlists.lists[usize::from(vm.0)] = channels;
        runlists.waiting |= 1 << vm.0;
        self.commit(&mut runlists);
    }

    /// Sees to it that the card gets the hypervisor's own channel, which is in every list.
    pub(super) fn list_own_channel(&self) {
        let mut runlists = self.runlists.lock();
        runlists.waiting |= 1 << MOST_VGPUS;
        self.commit(&mut runlists);
    }

    /// The card has taken a runlist over: the machines that waited for that, as bits.
    pub(super) fn runlist_done(&self) -> u32 {
        let mut runlists = self.runlists.lock();
        if self.runlist_busy() {
            return 0;
        }
        let done = std::mem::take(&mut runlists.submitted);
        self.commit(&mut runlists);
        done
    }

    fn runlist_busy(&self) -> bool {
        self.card.get(pfifo::RUNLIST_RD_LEN) & pfifo::RUNLIST_PENDING != 0
    }

    /// Gives the card the lists that wait, unless it is busy: then its interrupt leads here again.
    fn commit(&self, runlists: &mut Runlists) {
        if runlists.waiting == 0 || self.runlist_busy() {
            return;
        }
        let own = std::iter::once(&OWN_CHANNEL);
        let merged: Vec<u8> = own
            .chain(runlists.lists.iter().flatten())
            .flat_map(|&chid| [chid, RUNLIST_ENTRY])
            .flat_map(u32::to_le_bytes)
            .collect();
        let buffer = self.layout.runlist(runlists.next);
        runlists.next ^= 1;
        runlists.submitted |= std::mem::take(&mut runlists.waiting);
        self.vram.write(buffer, &merged);
        self.card.flush(false);
        self.card.set(pfifo::RUNLIST_WR, (buffer >> 12) as u32);
        self.card
            .set(pfifo::RUNLIST_WR_LEN, merged.len() as u32 / 8);
    }

    /// The runlist of `vm` has not yet been taken over.
    pub fn runlist_pending(&self, vm: VmId) -> bool {
        let runlists = self.runlists.lock();
        let bit = 1 << vm.0;
        runlists.waiting & bit != 0 || runlists.submitted & bit != 0 && self.runlist_busy()
    }

    /// A guest rang the doorbell of channel `chid`: the dispatcher has its work.
    #[inline]
    pub fn submit(&self, chid: u32, put: u32) {
        if !self.dispatches {
            return self.has_rung(chid, put);
        }
        let submission = {
            let Some(mut row) = self.table.row(chid) else {
                return;
            };
            let Some(owner) = row.owner else { return };
            Submission {
                vm: owner.vm,
                guest: owner.guest,
                chid,
                first: std::mem::replace(&mut row.submitted, put),
                put,
                engine: row.engine,
                since: Instant::now(),
                binding: row.binding,
            }
        };
        self.dispatcher.submit(submission);
    }

    /// `put` is the put index of channel `chid` from now on, and nobody decides when.
    pub fn has_rung(&self, chid: u32, put: u32) {
        {
            let row = self.table.row(chid).filter(|row| row.owner.is_some());
            let Some(mut row) = row else { return };
            row.submitted = put;
            row.rung = put;
            row.in_flight = true;
            self.show_put(chid, &row);
        }
        self.watch_work();
    }

    /// There is work that somebody should look at.
    fn watch_work(&self) {
        // Who stops watching says so before the last look at the table, which is behind us.
        if self.watched.load(Ordering::SeqCst) {
            return;
        }
        let _flights = self.flights.lock();
        if !self.watched.swap(true, Ordering::SeqCst) {
            self.rung.notify_one();
        }
    }

    /// The machines that have, or lately had, work on the card: as bits.
    pub(super) fn busy_machines(&self) -> u32 {
        let mut flights = self.flights.lock();
        for (chid, row) in self.table.rows() {
            let Some(owner) = row.owner else { continue };
            // What a guest rang directly may be over before anybody has seen it.
            if !row.in_flight && !row.direct {
                continue;
            }
            // It had at the last look, so it may have interrupted since.
            flights[usize::from(owner.vm.0)] = Some(Instant::now());
            if self.progress(chid) == row.rung
                && let Some(mut now) = self.table.row(chid)
                && (now.binding, now.rung) == (row.binding, row.rung)
            {
                now.in_flight = false;
            }
        }
        let busy = |last: &Option<Instant>| last.is_some_and(|last| last.elapsed() < AFTERMATH);
        (0..)
            .zip(&*flights)
            .filter(|(_, last)| busy(last))
            .map(|(vm, _)| 1 << vm)
            .sum()
    }

    /// Waits until work is in flight, but not longer than `at_most`; whether any is.
    pub fn await_work(&self, at_most: Duration) -> bool {
        let mut flights = self.flights.lock();
        // Who rings from here on finds nobody watching, and then the lock taken.
        self.watched.store(false, Ordering::SeqCst);
        if self.table.rows().any(|(_, row)| row.in_flight) {
            self.watched.store(true, Ordering::SeqCst);
            return true;
        }
        self.rung.wait_for(&mut flights, at_most);
        self.watched.load(Ordering::SeqCst)
    }

    /// Looks at what the engines do, on behalf of the time `elapsed` since the last look.
    pub fn sample(&self, elapsed: Duration) {
        for (number, chid) in (0..).zip(self.engines()) {
            let Some(chid) = chid else { continue };
            let owner = match self.table.row(chid) {
                Some(mut row) => {
                    row.engine = Some(number);
                    row.owner
                }
                None => None,
            };
            if let Some(owner) = owner {
                self.counters(owner.vm)
                    .add_engine_time(number, owner.guest, elapsed);
            }
        }
        self.busy_machines();
    }

    /// What engine `number` is doing, if it does it for a channel of `vm`.
    pub fn engine_state(&self, vm: VmId, number: u32) -> u32 {
        let state = self.card.load(pfifo::ENG_STATE.offset() + 4 * number);
        let chid = EngState::CHID.bits();
        match self.owner(state & chid) {
            Some(owner) if owner.vm == vm && state != 0 => state & !chid | owner.guest,
            _ => 0,
        }
    }
}

impl Gate for Aggregator {
    fn ring(&self, submission: &Submission) -> bool {
        {
            let row = self.table.row(submission.chid);
            let row = row.filter(|row| row.binding == submission.binding && row.owner.is_some());
            let Some(mut row) = row else { return false };
            row.rung = submission.put;
            row.in_flight = true;
            // Under the lock: the channel could be another one at once.
            self.show_put(submission.chid, &row);
        }
        self.counters(submission.vm)
            .add_queue_wait(submission.guest, submission.since.elapsed());
        self.watch_work();
        true
    }

    fn progress(&self, chid: u32) -> u32 {
        self.control_load(chid, userd::GP_GET)
    }

    fn activity(&self, chid: u32) -> Activity {
        let state = self.card.load(channel(pfifo::CHAN_STATE, chid));
        let state = ChanState::from_bits_retain(state);
        let waits = state.contains(ChanState::ACQUIRE_PENDING);
        match (state.contains(ChanState::PENDING), waits) {
            (false, _) => Activity::Idle,
            (true, false) if state.contains(ChanState::LOADED) => Activity::Running,
            (true, _) => Activity::Waiting,
        }
    }

    fn expel(&self, chid: u32) {
        if let Some(mut row) = self.table.row(chid) {
            row.expelled = true;
        }
    }

    fn engines(&self) -> [Option<u32>; pfifo::ENGINES as usize] {
        let mut engines = [None; pfifo::ENGINES as usize];
        for (number, engine) in (0..).zip(&mut engines) {
            let state = self.card.load(pfifo::ENG_STATE.offset() + 4 * number);
            let on = EngState::from_bits_retain(state).contains(EngState::ON_CHANNEL);
            *engine = on.then_some(state & EngState::CHID.bits());
        }
        engines
    }

    fn hold(&self, chid: u32, held: bool) {
        self.change_row(chid, |row| row.held = held);
        // What waits for its guest leaves when that has answered.
        if held && !self.awaits_guest(chid) {
            self.kick(chid);
        }
    }
}
