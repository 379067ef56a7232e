//! A PBDMA: executes one channel at a time, on a thread of its own.

use std::sync::Arc;
use std::time::Instant;

use mmio::layout::pushbuffer::IbEntry;
use mmio::layout::userd;
use mmio::regs::pfifo::{self, PbdmaIntr};
use parking_lot::MutexGuard;

use super::context::{Context, Signature, method_of, words_of};
use super::pusher::Sink;
use super::state::{Acquire, State, Wait};
use super::{Inner, PBDMA_STRIDE};
use crate::backoff;
use crate::engine::{Calls, Method};
use crate::memory::{Access, Client, Fault, FaultReason, Memory, Privilege};
use crate::shared::Shared;

/// Words that are fetched at a time.
const BATCH: usize = 512;

/// Why a channel stops running.
#[derive(Clone, Copy, Debug)]
pub enum Break {
    /// It has no more work.
    Idle,
    /// It was asked to.
    Asked,
    /// It gives its turn away.
    GiveWay,
    /// It waits for memory.
    Semaphore(Acquire),
    /// It waits for the engine with this index.
    Engine(usize),
    /// It waits for software, after a fault of the engine with this index or of PFIFO.
    Fault(Option<usize>),
    /// It, or PFIFO as it was, is no more.
    Gone,
}

/// The unit.
pub struct Pbdma {
    inner: Arc<Inner>,
    number: usize,
    /// The address space of the channel.
    pub client: Client,
    /// The engine that it has, by index.
    pub held: Option<usize>,
    /// The resets that it knows of.
    epoch: u64,
    batch: Vec<u32>,
}

/// The thread.
pub fn run(inner: Arc<Inner>, number: usize) {
    let mut unit = Pbdma {
        client: Client::new(inner.shared.memory.clone(), Privilege::User),
        inner,
        number,
        held: None,
        epoch: 0,
        batch: Vec::with_capacity(BATCH),
    };
    let mut context = None;
    while let Some(next) = unit.next_turn(context.take()) {
        context = Some(unit.turn(next));
    }
}

impl Pbdma {
    /// Waits until there is a channel to execute, and loads it. `context` is the one that was
    /// executed last. `None`: the card goes away.
    fn next_turn(&mut self, mut context: Option<Box<Context>>) -> Option<Box<Context>> {
        let inner = self.inner.clone();
        let mut state = inner.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(old) = context.take() {
                context = self.keep(&mut state, old);
            }
            self.epoch = state.epoch;
            if !state.pbdmas[self.number].intr.is_empty() {
                // Software has still to look at what its registers show.
                inner.pbdma_wake[self.number].wait(&mut state);
                continue;
            }
            if state.enabled && !state.frozen {
                // Others that could run take their turns first if this one has had its.
                let own = context.as_ref().map(|context| context.channel.chid);
                let stay = own.filter(|&chid| state.can_run(chid));
                let over = Instant::now() >= state.pbdmas[self.number].slice_end;
                let next = match (stay, over) {
                    (Some(chid), false) => Some(chid),
                    (stay, _) => state.pick(self.number).or(stay),
                };
                if let Some(chid) = next {
                    if own != Some(chid) {
                        if let Some(old) = context.take() {
                            self.unload(&mut state, &old);
                        }
                        context = self.load(&mut state, chid);
                    }
                    let Some(context) = context else { continue };
                    self.begin(&mut state, &context, own != Some(chid) || over);
                    return Some(context);
                }
            }
            state.pbdmas[self.number].idle = true;
            let woken = context.is_some() && self.watch(&mut state);
            if !woken && state.pbdmas[self.number].idle {
                inner.pbdma_wake[self.number].wait(&mut state);
            }
            state.pbdmas[self.number].idle = false;
        }
    }

    /// Looks for work a moment, without the lock; whether there may be some.
    fn watch(&self, state: &mut MutexGuard<'_, State>) -> bool {
        let inner = &self.inner;
        MutexGuard::unlocked(state, || {
            backoff::spin(|| !inner.state.lock().pbdmas[self.number].idle)
        })
    }

    /// Decides whether a channel that is loaded stays so.
    fn keep(&mut self, state: &mut State, context: Box<Context>) -> Option<Box<Context>> {
        let slot = &mut state.channels[usize::from(context.channel.chid)];
        let gone = self.epoch != state.epoch || !context.is_in(slot);
        if !gone && !slot.leave {
            return Some(context);
        }
        if gone {
            // Whatever is in the row now was not loaded by this unit.
            if self.epoch == state.epoch && slot.loaded == Some(self.number) {
                slot.loaded = None;
                slot.leave = false;
            }
            self.show_channel(None);
            let chid = context.channel.chid;
            self.inner.wake_for(state, chid);
            self.inner.wake_scheduler();
        } else {
            self.unload(state, &context);
        }
        None
    }

    /// Puts a channel's state back into RAMFC.
    fn unload(&mut self, state: &mut State, context: &Context) {
        context.save(self.memory());
        let slot = &mut state.channels[usize::from(context.channel.chid)];
        slot.loaded = None;
        slot.leave = false;
        self.client.unbind();
        self.show_channel(None);
        self.inner.wake_scheduler();
        self.inner.wake_for(state, context.channel.chid);
    }

    /// Takes a channel's state from RAMFC. `None`: it has none that could be used, and waits for
    /// software.
    fn load(&mut self, state: &mut State, chid: u8) -> Option<Box<Context>> {
        let slot = &mut state.channels[usize::from(chid)];
        let channel = slot.channel?;
        let loaded = Context::load(self.memory(), channel, slot.binding)
            .ok()
            .filter(|_| self.client.bind(channel.instance).is_ok());
        let Some((context, signature)) = loaded else {
            slot.wait = Wait::Fault(None);
            let nowhere = Fault {
                reason: FaultReason::NoChannel,
                va: 0,
                access: Access::Read,
            };
            state.report_in_turn(channel.instance, nowhere);
            self.inner.update_interrupt(state);
            return None;
        };
        if signature == Signature::Missing {
            slot.wait = Wait::Fault(None);
            state.pbdmas[self.number].intr |= PbdmaIntr::SIG_MISMATCH;
            self.show_cache(None);
            self.show_channel(Some(chid));
            self.inner.update_interrupt(state);
            self.client.unbind();
            return None;
        }
        slot.loaded = Some(self.number);
        slot.known = true;
        self.show_channel(Some(chid));
        Some(Box::new(context))
    }

    fn begin(&mut self, state: &mut State, context: &Context, fresh: bool) {
        let chid = context.channel.chid;
        let unit = &mut state.pbdmas[self.number];
        if fresh {
            unit.slice_end = Instant::now() + context.slice();
        }
        unit.running = Some(chid);
        (unit.asked, unit.late, unit.abort) = (None, false, false);
        self.inner.pauses[self.number].clear();
        // This unit may have been woken for another channel than the one that it took.
        let other = state.runlist.iter().find(|&&chid| state.takeable(chid));
        if let Some(&other) = other {
            self.inner.wake_for(state, other);
        }
    }

    /// Executes a channel until it has to stop.
    fn turn(&mut self, mut context: Box<Context>) -> Box<Context> {
        let reason = self.flow(&mut context);
        context.publish(self.memory());
        let inner = self.inner.clone();
        let mut state = inner.lock();
        self.let_go(&mut state);
        let unit = &mut state.pbdmas[self.number];
        unit.running = None;
        (unit.asked, unit.late, unit.abort) = (None, false, false);
        if matches!(reason, Break::GiveWay) {
            unit.slice_end = Instant::now();
        }
        if self.epoch != state.epoch {
            return context;
        }
        context.show(&inner.shared.registers, self.number);
        let chid = context.channel.chid;
        let slot = &mut state.channels[usize::from(chid)];
        if context.is_in(slot) {
            let was = slot.wait;
            slot.wait = match (reason, was) {
                (Break::Semaphore(acquire), _) => Wait::Semaphore(acquire),
                (Break::Engine(engine), _) => Wait::Engine(engine),
                (Break::Fault(engine), _) => Wait::Fault(engine),
                // It did not come to claim the engine.
                (Break::Asked, Wait::Engine(engine)) => Wait::Engine(engine),
                _ => Wait::None,
            };
            if let Break::Engine(engine) = reason {
                if !state.may_use(self.number, engine) {
                    // On to a unit that may.
                    state.channels[usize::from(chid)].leave = true;
                }
                let waiters = &mut state.engines[engine].waiters;
                if !waiters.contains(&chid) {
                    waiters.push_back(chid);
                }
            }
            if let (Wait::Engine(engine), _) | (_, Break::Engine(engine)) = (was, reason) {
                inner.engine_free(&mut state, engine);
            }
            if matches!(reason, Break::Semaphore(_) | Break::Engine(_)) {
                inner.wake_scheduler();
            }
        }
        context
    }

    /// Executes until something comes in between.
    fn flow(&mut self, context: &mut Context) -> Break {
        loop {
            if let Err(reason) = self.step(context) {
                return reason;
            }
        }
    }

    /// Executes the next thing: a job that was paused, a method that has to be repeated, a batch
    /// of words, or the start of the next segment.
    fn step(&mut self, context: &mut Context) -> Result<(), Break> {
        if self.inner.pauses[self.number].asked() {
            return Err(Break::Asked);
        }
        if let Some(engine) = context.paused {
            return self.resume(context, engine);
        }
        if let Some(method) = context.cache.take() {
            return self.execute(context, method);
        }
        if context.get < context.put {
            return self.segment(context);
        }
        if context.ib_get == context.ib_put {
            self.look_for_work(context)?;
        }
        self.next_segment(context)
    }

    /// Reads the put index; no more work is a reason to stop.
    fn look_for_work(&mut self, context: &mut Context) -> Result<(), Break> {
        context.publish(self.memory());
        let mut put = self.put_index(context)?;
        if put > context.entry_mask() {
            context.cache = self.interrupt(context, PbdmaIntr::IB_PUT_OVERFLOW, None)?;
            put = context.ib_get;
        }
        if put == context.ib_get {
            // A doorbell that comes after this finds the flag clear and sets it again; one that
            // came before has made its index visible.
            self.set_pending(context, false);
            put = self.put_index(context)?;
            // An index that is still wrong has had its interrupt.
            if put == context.ib_get || put > context.entry_mask() {
                return Err(Break::Idle);
            }
            self.set_pending(context, true);
        }
        context.ib_put = put;
        Ok(())
    }

    fn put_index(&self, context: &Context) -> Result<u32, Break> {
        let userd = context.userd.ok_or(Break::Fault(None))?;
        self.memory()
            .load(userd.offset(userd::GP_PUT))
            .map_err(|_| Break::Fault(None))
    }

    fn set_pending(&self, context: &Context, pending: bool) {
        let mut state = self.inner.lock();
        let slot = &mut state.channels[usize::from(context.channel.chid)];
        if context.is_in(slot) {
            slot.pending = pending;
        }
    }

    /// Takes the next entry of the indirect buffer.
    fn next_segment(&mut self, context: &mut Context) -> Result<(), Break> {
        let entry = self
            .client
            .load::<u64>(context.entry(context.ib_get))
            .map_err(|fault| self.fault(context, fault))?;
        let entry = IbEntry(entry);
        context.ib_get = (context.ib_get + 1) & context.entry_mask();
        context.get = entry.address();
        context.put = context.get + u64::from(entry.words()) * 4;
        context.main = !entry.not_main();
        context.publish(self.memory());
        if entry.words() == 0 {
            let cache = self.interrupt(context, PbdmaIntr::IB_ENTRY_INVALID, None)?;
            context.cache = cache;
        }
        Ok(())
    }

    /// Fetches and executes words of the segment at hand.
    fn segment(&mut self, context: &mut Context) -> Result<(), Break> {
        let words = ((context.put - context.get) / 4).min(BATCH as u64) as usize;
        let mut batch = std::mem::take(&mut self.batch);
        batch.resize(words, 0);
        let result = match self.fetch(context.get, &mut batch) {
            Ok(()) => self.feed(context, &batch),
            Err(fault) => Err(self.fault(context, fault)),
        };
        self.batch = batch;
        result
    }

    fn fetch(&mut self, from: u64, words: &mut [u32]) -> Result<(), Fault> {
        let memory = self.memory().clone();
        let guard = memory.enter();
        let mut words = words.iter_mut();
        self.client
            .for_each_segment(&guard, from, words.len() * 4, Access::Read, |_, span| {
                // Pages and segments are made of whole words.
                for (n, word) in words.by_ref().take(span.len() / 4).enumerate() {
                    *word = span.load(n * 4).unwrap_or(0);
                }
            })
    }

    fn feed(&mut self, context: &mut Context, words: &[u32]) -> Result<(), Break> {
        let mut pusher = context.pusher;
        let fed = pusher.feed(
            words,
            &mut Feeder {
                unit: self,
                context,
            },
        );
        context.pusher = pusher;
        context.get += fed.words as u64 * 4;
        if fed.end_segment {
            context.get = context.put;
        }
        match fed.stop {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// The commons of the card.
    pub fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// The card's memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.inner.shared.memory
    }

    /// PFIFO.
    pub fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Which of them it is.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The resets that it knows of.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Shows the channel that it has.
    fn show_channel(&self, chid: Option<u8>) {
        let base = pfifo::PBDMA_CH.offset() + PBDMA_STRIDE * self.number as u32;
        let value = chid.map_or(0, |chid| u32::from(chid) | pfifo::PBDMA_CH_ACTIVE);
        self.shared().registers.write(base, value);
    }

    /// Shows the method that it cannot execute.
    pub fn show_cache(&self, method: Option<Method>) {
        let (addr, data) = method.map_or((0, 0), words_of);
        let at = PBDMA_STRIDE * self.number as u32;
        let file = &self.shared().registers;
        file.write(pfifo::PBDMA_CACHE_ADDR.offset() + at, addr);
        file.write(pfifo::PBDMA_CACHE_DATA.offset() + at, data);
    }

    /// The method that software wants executed instead.
    pub fn cache(&self) -> Option<Method> {
        let at = PBDMA_STRIDE * self.number as u32;
        let file = &self.shared().registers;
        method_of(
            file.read(pfifo::PBDMA_CACHE_ADDR.offset() + at),
            file.read(pfifo::PBDMA_CACHE_DATA.offset() + at),
        )
    }
}

/// Executes what the pusher decodes.
struct Feeder<'a> {
    unit: &'a mut Pbdma,
    context: &'a mut Context,
}

impl Sink for Feeder<'_> {
    type Stop = Break;

    #[inline]
    fn method(&mut self, method: Method) -> Result<(), Break> {
        self.unit.execute(self.context, method)
    }

    #[inline]
    fn methods(&mut self, calls: Calls<'_>) -> (usize, Result<(), Break>) {
        self.unit.execute_all(self.context, calls)
    }

    fn illegal(&mut self, word: u32) -> Result<(), Break> {
        let shadow = pfifo::PBDMA_CMD_SHADOW.offset() + PBDMA_STRIDE * self.unit.number as u32;
        self.unit.shared().registers.write(shadow, word);
        match self
            .unit
            .interrupt(self.context, PbdmaIntr::ILLEGAL_CMD, None)?
        {
            Some(method) => self.unit.execute(self.context, method),
            None => Ok(()),
        }
    }
}
