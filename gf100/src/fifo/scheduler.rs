//! The scheduler: what has to be done beside executing channels. It waits for PBDMAs and engines so
//! that no register access has to.

use std::time::{Duration, Instant};

use mmio::regs::pfifo::{self, Intr};
use parking_lot::MutexGuard;

use super::Inner;
use super::state::{Owner, PBDMAS, State, Update, Wait};
use crate::engine::{ChannelRef, Stop};
use crate::memory::{Client, PhysAddr, Privilege};

/// Bytes of a runlist entry: a channel number, and a word that is always 4.
///
/// Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_runlist_commit`.
const ENTRY: u64 = 8;

/// The thread.
pub fn run(inner: &Inner) {
    let mut client = Client::new(inner.shared.memory.clone(), Privilege::User);
    let mut state = inner.lock();
    while !state.stop {
        let calls = inner.scheduler_calls();
        inner.bury(&mut state);
        inner.finish_kick(&mut state);
        inner.finish_update(&mut state);
        let now = Instant::now();
        let next = [
            inner.poll_semaphores(&mut state, &mut client, now),
            inner.watch_slices(&mut state, now),
            inner.watch_switches(&mut state, now),
        ];
        if inner.scheduler_calls() != calls {
            // Somebody called while the lock was released, or something that was done makes more
            // to do.
            MutexGuard::bump(&mut state);
            continue;
        }
        match next.into_iter().flatten().min() {
            Some(deadline) => {
                inner.scheduler_wake.wait_until(&mut state, deadline);
            }
            None => inner.scheduler_wake.wait(&mut state),
        }
    }
}

impl Inner {
    /// Makes the engines forget channels that are gone.
    fn bury(&self, state: &mut MutexGuard<'_, State>) {
        let mut at = 0;
        while let Some(&(channel, engines)) = state.condemned.get(at) {
            let mut left = engines;
            for index in 0..self.engines.len() {
                if left >> index & 1 == 0 {
                    continue;
                }
                if !self.take(state, index) {
                    continue;
                }
                MutexGuard::unlocked(state, || self.engines[index].discard(channel));
                if state.engines[index].resident == Some(channel) {
                    state.engines[index].resident = None;
                }
                self.give(state, index);
                left &= !(1 << index);
            }
            // Meanwhile others may have come to the list, at its end.
            state.condemned[at].1 &= left;
            at += 1;
        }
        let before = state.condemned.len();
        state.condemned.retain(|&(_, engines)| engines != 0);
        if state.condemned.len() != before {
            self.wake_channels(state);
        }
    }

    /// Claims an engine, or asks for it.
    fn take(&self, state: &mut State, index: usize) -> bool {
        match state.engines[index].owner {
            None => {
                state.engines[index].owner = Some(Owner::Scheduler);
                state.engines[index].wanted = false;
                true
            }
            Some(Owner::Pbdma(unit)) => {
                state.engines[index].wanted = true;
                self.ask_to_stop(state, unit);
                false
            }
            Some(Owner::Scheduler) => false,
        }
    }

    fn give(&self, state: &mut State, index: usize) {
        state.engines[index].owner = None;
        self.engine_free(state, index);
    }

    /// Takes the context of `channel` off every engine. `false`: one of them is still in use.
    fn evict(&self, state: &mut MutexGuard<'_, State>, channel: ChannelRef) -> bool {
        for index in 0..self.engines.len() {
            if state.engines[index].resident != Some(channel) {
                continue;
            }
            if !self.take(state, index) {
                return false;
            }
            let faulted = state.engines[index].faulted;
            let result = MutexGuard::unlocked(state, || match faulted {
                // What it has is not worth keeping, and storing it may not even be possible.
                true => {
                    self.engines[index].discard(channel);
                    Ok(())
                }
                false => self.engines[index].evict(channel),
            });
            if let Err(Stop::Fault(report)) = result {
                state.report(&report);
                state.engines[index].faulted = true;
                self.update_interrupt(state);
            }
            state.engines[index].resident = None;
            self.give(state, index);
        }
        true
    }

    /// Ends a kick whose channel has left its PBDMA.
    fn finish_kick(&self, state: &mut MutexGuard<'_, State>) {
        let Some(chid) = state.kick else { return };
        let slot = &state.channels[usize::from(chid)];
        if slot.loaded.is_some() {
            return;
        }
        if let Some(channel) = slot.channel
            && (!self.evict(state, channel) || state.kick != Some(chid))
        {
            return;
        }
        state.kick = None;
        self.shared
            .registers
            .write(pfifo::KICK.offset(), chid.into());
        self.wake_for(state, chid);
    }

    /// Takes over a runlist once the channels that are not on it have left.
    fn finish_update(&self, state: &mut MutexGuard<'_, State>) {
        let Some(update) = state.update else { return };
        let next = self.read_runlist(update);
        let listed = |chid: usize| next.contains(&(chid as u8));
        let mut left = true;
        for chid in 0..state.channels.len() {
            if listed(chid) {
                continue;
            }
            state.channels[chid].listed = false;
            if state.channels[chid].loaded.is_some() {
                if !state.channels[chid].leave {
                    self.ask_to_leave(state, chid as u8);
                }
                left = false;
            } else if let Some(channel) = state.channels[chid].channel {
                left &= self.evict(state, channel);
            }
        }
        let same = |now: Update| (now.base, now.length) == (update.base, update.length);
        if !left || !state.update.is_some_and(same) {
            return;
        }
        state.update = None;
        for (chid, slot) in state.channels.iter_mut().enumerate() {
            let was = std::mem::replace(&mut slot.listed, next.contains(&(chid as u8)));
            slot.pending |= slot.listed && !was;
        }
        state.runlist = next;
        state.turn = 0;
        let file = &self.shared.registers;
        file.write(pfifo::RUNLIST_RD.offset(), update.base);
        file.write(pfifo::RUNLIST_RD_LEN.offset(), update.length);
        state.runlist_intr |= pfifo::INTR_RUNLIST_DONE;
        self.update_interrupt(state);
        self.wake_channels(state);
    }

    /// The channels of a runlist in memory, each once, in order.
    fn read_runlist(&self, update: Update) -> Vec<u8> {
        let mut channels = Vec::new();
        let Some(base) = PhysAddr::from_channel_word(update.base) else {
            return channels;
        };
        for n in 0..u64::from(update.length) {
            let Ok(chid) = self.shared.memory.load::<u32>(base.offset(n * ENTRY)) else {
                break;
            };
            let chid = (chid & 0x7f) as u8;
            if !channels.contains(&chid) {
                channels.push(chid);
            }
        }
        channels
    }

    /// Looks at the memory that channels wait for.
    fn poll_semaphores(
        &self,
        state: &mut State,
        client: &mut Client,
        now: Instant,
    ) -> Option<Instant> {
        let mut next = None;
        for chid in 0..state.channels.len() {
            let slot = &mut state.channels[chid];
            let Wait::Semaphore(mut acquire) = slot.wait else {
                continue;
            };
            let Some(channel) = slot.channel.filter(|_| slot.runnable && slot.listed) else {
                continue;
            };
            if now >= acquire.due {
                let value = client
                    .bind(channel.instance)
                    .ok()
                    .and_then(|()| client.load(acquire.address).ok());
                // What cannot be read is the PBDMA's to report.
                let done =
                    value.is_none_or(|value| acquire.operation.satisfied(value, acquire.sequence));
                if done || acquire.expired(self.shared.clock.now()) {
                    slot.wait = Wait::None;
                    self.wake_for(state, chid as u8);
                    continue;
                }
                acquire.back_off(now);
                slot.wait = Wait::Semaphore(acquire);
            }
            next = Some(next.unwrap_or(acquire.due).min(acquire.due));
        }
        next
    }

    /// Ends the turns of channels that others wait for.
    fn watch_slices(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for unit in 0..PBDMAS {
            let slot = state.pbdmas[unit];
            if slot.running.is_none() || slot.asked.is_some() || !state.contended(unit) {
                continue;
            }
            if now >= slot.slice_end {
                self.ask_to_stop(state, unit);
            } else {
                next = Some(next.unwrap_or(slot.slice_end).min(slot.slice_end));
            }
        }
        next
    }

    /// Complains about channels that do not leave their engine.
    fn watch_switches(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let timeout = [
            (pfifo::CHSW_TIMEOUT, pfifo::TIMEOUT_VALUE),
            (pfifo::ENG_TIMEOUT, pfifo::ENG_TIMEOUT_VALUE),
        ]
        .into_iter()
        .filter_map(|(register, value)| {
            let word = self.shared.registers.read(register.offset());
            (word & pfifo::TIMEOUT_ENABLE != 0).then_some(word & value)
        })
        .min()?;
        let timeout = Duration::from_micros(timeout.into());
        let mut next: Option<Instant> = None;
        for unit in 0..PBDMAS {
            let owner = Some(Owner::Pbdma(unit));
            let on_engine = state.engines.iter().any(|engine| engine.owner == owner);
            let slot = &mut state.pbdmas[unit];
            let Some(asked) = slot.asked.filter(|_| on_engine && !slot.late) else {
                continue;
            };
            let due = asked + timeout;
            if now >= due {
                slot.late = true;
                self.shared.registers.write(
                    pfifo::SCHED_ERROR.offset(),
                    pfifo::SCHED_ERROR_CTXSW_TIMEOUT,
                );
                state.latched |= Intr::SCHED_ERROR;
                self.update_interrupt(state);
            } else {
                next = Some(next.unwrap_or(due).min(due));
            }
        }
        next
    }

    /// Finds PBDMAs for all channels that can run.
    fn wake_channels(&self, state: &mut State) {
        for chid in 0..state.channels.len() {
            self.wake_for(state, chid as u8);
        }
    }
}
