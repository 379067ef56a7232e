//! How a PBDMA gets a method done: which engine has to take it, and what can come in between.

use std::time::Instant;

use mmio::layout::pushbuffer::{ENGINE_SOFTWARE, method};
use mmio::regs::pfifo::{self, PbdmaIntr};

use super::context::Context;
use super::pbdma::{Break, Pbdma};
use super::state::{Owner, State, Wait};
use crate::engine::{Calls, EngineId, Method, Stop};
use crate::memory::Fault;

impl Pbdma {
    /// Executes a method, and those that software puts in its place.
    #[inline]
    pub fn execute(&mut self, context: &mut Context, method: Method) -> Result<(), Break> {
        let mut next = Some(method);
        while let Some(method) = next {
            next = if method.address < method::ENGINE {
                self.host_method(context, method)?
            } else {
                self.engine_method(context, method)?
            };
        }
        Ok(())
    }

    /// Executes methods one after the other; how many were, the one that was the reason to stop
    /// included.
    pub fn execute_all(
        &mut self,
        context: &mut Context,
        calls: Calls<'_>,
    ) -> (usize, Result<(), Break>) {
        let mut rest = calls;
        while let Some(method) = rest.first() {
            let (used, result) = match self.engine_of(context, rest) {
                Some(engine) => {
                    let inner = self.inner();
                    let pause = &inner.pauses[self.number()];
                    let (used, result) = inner.engines[engine].methods(rest, pause);
                    let result = match result {
                        Ok(()) => Ok(()),
                        Err(stop) => self.stopped(context, engine, stop),
                    };
                    (used, result)
                }
                None => (1, self.execute(context, method)),
            };
            rest = rest.skip(used);
            if result.is_err() {
                return (calls.data.len() - rest.data.len(), result);
            }
        }
        (calls.data.len(), Ok(()))
    }

    /// The engine at hand, if all of the methods are for it.
    fn engine_of(&self, context: &Context, calls: Calls<'_>) -> Option<usize> {
        let number = context.engines[usize::from(calls.subchannel & 7)];
        let last = usize::from(calls.address) + usize::from(calls.step) * (calls.data.len() - 1);
        let own = calls.address >= method::ENGINE && last < usize::from(Calls::ADDRESSES);
        self.held.filter(|_| own && context.current == number)
    }

    /// Hands a method to the engine of its subchannel.
    #[inline]
    pub fn engine_method(
        &mut self,
        context: &mut Context,
        method: Method,
    ) -> Result<Option<Method>, Break> {
        let number = context.engines[usize::from(method.subchannel & 7)];
        let engine = match self.held {
            // The usual case: more for the engine at hand.
            Some(held) if context.current == number => held,
            _ => {
                let id = EngineId::from_id(number.into());
                let Some(engine) = id.and_then(|id| self.engine_index(id)) else {
                    return self.interrupt(context, PbdmaIntr::SW_MTHD, Some(method));
                };
                if let Err(reason) = self.hold(context, engine) {
                    context.cache = Some(method);
                    return Err(reason);
                }
                engine
            }
        };
        let inner = self.inner();
        match inner.engines[engine].method(method, &inner.pauses[self.number()]) {
            Ok(()) => Ok(None),
            Err(stop) => self.stopped(context, engine, stop).map(|()| None),
        }
    }

    /// Goes on with a job that was paused.
    pub fn resume(&mut self, context: &mut Context, engine: usize) -> Result<(), Break> {
        if engine >= self.inner().engines.len() {
            // RAMFC says what it never said.
            context.paused = None;
            return Ok(());
        }
        self.hold(context, engine)?;
        context.paused = None;
        let inner = self.inner();
        match inner.engines[engine].resume(&inner.pauses[self.number()]) {
            Ok(()) => Ok(()),
            Err(stop) => self.stopped(context, engine, stop),
        }
    }

    /// What follows from an engine's stop. `Ok`: the channel goes on.
    fn stopped(&mut self, context: &mut Context, engine: usize, stop: Stop) -> Result<(), Break> {
        match stop {
            Stop::Paused => {
                context.paused = Some(engine);
                Err(Break::Asked)
            }
            Stop::Fault(report) => {
                let mut state = self.inner().lock();
                state.report(&report);
                state.engines[engine].faulted = true;
                self.inner().update_interrupt(&state);
                Err(Break::Fault(Some(engine)))
            }
            Stop::Trapped => self.wait_while_stalled(engine),
        }
    }

    /// Makes the channel current on an engine that then is this unit's.
    fn hold(&mut self, context: &mut Context, engine: usize) -> Result<(), Break> {
        if self.held == Some(engine) {
            return Ok(());
        }
        let inner = self.inner().clone();
        let mut state = inner.lock();
        self.let_go(&mut state);
        let chid = context.channel.chid;
        let known = context.is_in(&state.channels[usize::from(chid)]);
        if state.epoch != self.epoch() || !known {
            return Err(Break::Gone);
        }
        if state.engines[engine].faulted && state.engines[engine].resident == Some(context.channel)
        {
            return Err(Break::Fault(Some(engine)));
        }
        state.channels[usize::from(chid)].uses = Some(engine);
        if !state.may_use(self.number(), engine) || !state.claimable(engine, chid) {
            return Err(Break::Engine(engine));
        }
        state.channels[usize::from(chid)].wait = Wait::None;
        state.prune(engine);
        let slot = &mut state.engines[engine];
        slot.owner = Some(Owner::Pbdma(self.number()));
        slot.resident = Some(context.channel);
        let number = slot.id as u32;
        if state.first_waiter(engine).is_some() {
            // Their wait has an end only if the scheduler knows of this unit's.
            inner.wake_scheduler();
        }
        drop(state);
        self.held = Some(engine);
        context.current = number as u8;
        self.show_engine(number);
        self.wait_while_stalled(engine)?;
        match inner.engines[engine].switch_to(context.channel) {
            Ok(()) => Ok(()),
            // There is no job of this channel that could be paused.
            Err(Stop::Paused) => Err(Break::Asked),
            Err(stop) => self.stopped(context, engine, stop),
        }
    }

    /// Gives the engine that this unit has to whoever wants it.
    pub fn let_go(&mut self, state: &mut State) {
        if let Some(engine) = self.held.take() {
            state.engines[engine].owner = None;
            self.show_engine(ENGINE_SOFTWARE.into());
            self.inner().engine_free(state, engine);
        }
    }

    /// Waits until software has acknowledged an engine's own interrupt.
    fn wait_while_stalled(&mut self, engine: usize) -> Result<(), Break> {
        let inner = self.inner().clone();
        let mut wakes = inner.lock().engines[engine].wakes;
        while inner.engines[engine].stalled() {
            let mut state = inner.lock();
            while state.engines[engine].wakes == wakes {
                if state.stop || state.epoch != self.epoch() {
                    return Err(Break::Gone);
                }
                if state.pbdmas[self.number()].abort {
                    return Err(Break::Fault(Some(engine)));
                }
                inner.pbdma_wake[self.number()].wait(&mut state);
            }
            wakes = state.engines[engine].wakes;
        }
        Ok(())
    }

    /// Raises an interrupt of this unit and waits until software has dealt with it; then gives back
    /// the method that software left to be executed, or keeps it if the channel is to leave.
    pub fn interrupt(
        &mut self,
        context: &mut Context,
        bits: PbdmaIntr,
        method: Option<Method>,
    ) -> Result<Option<Method>, Break> {
        let inner = self.inner().clone();
        context.publish(self.memory());
        context.show(&inner.shared.registers, self.number());
        let epoch = self.epoch();
        let gone = |state: &State| {
            let slot = &state.channels[usize::from(context.channel.chid)];
            state.stop || state.epoch != epoch || !context.is_in(slot)
        };
        let mut state = inner.lock();
        self.let_go(&mut state);
        if gone(&state) {
            return Err(Break::Gone);
        }
        self.show_cache(method);
        state.pbdmas[self.number()].intr |= bits;
        inner.update_interrupt(&state);
        while state.pbdmas[self.number()].intr.intersects(bits) {
            inner.pbdma_wake[self.number()].wait(&mut state);
            if gone(&state) {
                return Err(Break::Gone);
            }
        }
        drop(state);
        let left = self.cache();
        if inner.pauses[self.number()].asked() {
            context.cache = left;
            return Err(Break::Asked);
        }
        Ok(left)
    }

    /// A fetch or a semaphore access faulted.
    pub fn fault(&mut self, context: &mut Context, fault: Fault) -> Break {
        let mut state = self.inner().lock();
        state.report_in_turn(context.channel.instance, fault);
        self.inner().update_interrupt(&state);
        Break::Fault(None)
    }

    /// Raises the channel's non-stalling interrupt.
    pub fn notify(&mut self, context: &mut Context) {
        // Progress first: the interrupt says that there is some.
        context.publish(self.memory());
        let engine = match context.current {
            ENGINE_SOFTWARE => 0,
            engine => usize::from(engine & 0xf),
        };
        let mut state = self.inner().lock();
        state.engine_intr[engine] |= 1;
        self.inner().update_interrupt(&state);
    }

    /// Memory that an acquire may wait for has changed.
    pub fn semaphore_released(&self) {
        self.inner().semaphore_released();
    }

    /// Stays with the channel until `due`; `false` if it has to stop before.
    pub fn linger(&mut self, due: Instant) -> bool {
        let inner = self.inner().clone();
        let mut state = inner.lock();
        self.let_go(&mut state);
        loop {
            if inner.pauses[self.number()].asked() || state.stop {
                return false;
            }
            if Instant::now() >= due {
                return true;
            }
            inner.pbdma_wake[self.number()].wait_until(&mut state, due);
        }
    }

    /// The place of an engine among those that there are.
    pub fn engine_index(&self, id: EngineId) -> Option<usize> {
        self.inner()
            .engines
            .iter()
            .position(|engine| engine.id() == id)
    }

    /// Shows the engine that it uses.
    fn show_engine(&self, number: u32) {
        let at = pfifo::PBDMA_ENGINE.offset() + 4 * self.number() as u32;
        self.shared().registers.write(at, number);
    }
}
