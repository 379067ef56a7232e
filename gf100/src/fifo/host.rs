//! The methods that are PFIFO's own.

use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use mmio::layout::pushbuffer::{ENGINE_SOFTWARE, Semaphore, method};
use mmio::regs::pfifo::PbdmaIntr;

use super::context::Context;
use super::pbdma::{Break, Pbdma};
use super::state::Acquire;
use crate::engine::{EngineId, Method};
use crate::memory::Fault;

impl Pbdma {
    /// Executes a method below [`method::ENGINE`]. Some come back with the method that is to be
    /// executed instead, once software has dealt with an interrupt.
    pub fn host_method(
        &mut self,
        context: &mut Context,
        call: Method,
    ) -> Result<Option<Method>, Break> {
        let data = call.data;
        match call.address {
            method::OBJECT => return self.bind_object(context, call),
            method::NOP | method::WRCACHE_FLUSH => {}
            method::MEM_OP_A | method::MEM_OP_B => {}
            method::UNK70 | method::UNK74 | method::UNK78 => {}
            method::SEMAPHORE_ADDRESS_HIGH => {
                let low = context.semaphore & 0xffff_ffff;
                context.semaphore = u64::from(data & 0xff) << 32 | low;
            }
            method::SEMAPHORE_ADDRESS_LOW | method::SEMAPHORE_OFFSET => {
                let high = context.semaphore >> 32 << 32;
                context.semaphore = high | u64::from(data & !3);
            }
            method::SEMAPHORE_SEQUENCE => context.sequence = data,
            method::SEMAPHORE_TRIGGER => return self.semaphore(context, call, data),
            method::SEMAPHORE_ACQUIRE | method::SEMAPHORE_RELEASE => {
                let operation = match call.address {
                    method::SEMAPHORE_ACQUIRE => Semaphore::ACQUIRE_EQUAL,
                    _ => Semaphore::RELEASE | Semaphore::RELEASE_SHORT,
                };
                // A retry comes back here, so the sequence is the argument every time.
                context.sequence = data;
                return self.semaphore(context, call, operation.bits());
            }
            method::NOTIFY_INTR => self.notify(context),
            // Engines are idle when their methods return.
            method::REF_CNT => context.reference = data,
            method::UNK7C if data == 0 => {}
            method::UNK7C => {
                return self.interrupt(context, PbdmaIntr::MTHD_UNK7C_NONZERO, Some(call));
            }
            method::YIELD => return Err(Break::GiveWay),
            _ => return self.interrupt(context, PbdmaIntr::ILLEGAL_MTHD, Some(call)),
        }
        Ok(None)
    }

    fn bind_object(
        &mut self,
        context: &mut Context,
        call: Method,
    ) -> Result<Option<Method>, Break> {
        let engine = (call.data >> 16) as u8 & ENGINE_SOFTWARE;
        let index = EngineId::from_id(engine.into()).and_then(|id| self.engine_index(id));
        let map = &mut context.engines[usize::from(call.subchannel & 7)];
        match index {
            Some(_) => {
                *map = engine;
                let class = Method {
                    data: call.data & 0xffff,
                    ..call
                };
                self.engine_method(context, class).inspect_err(|_| {
                    // To be repeated as it was, engine included.
                    if context.cache == Some(class) {
                        context.cache = Some(call);
                    }
                })
            }
            None => {
                *map = ENGINE_SOFTWARE;
                self.interrupt(context, PbdmaIntr::SW_MTHD, Some(call))
            }
        }
    }

    fn semaphore(
        &mut self,
        context: &mut Context,
        call: Method,
        trigger: u32,
    ) -> Result<Option<Method>, Break> {
        let pending = context.operation & Semaphore::ACQUIRE_PENDING;
        let trigger = Semaphore::from_bits_retain(trigger) - Semaphore::ACQUIRE_PENDING;
        context.operation = trigger | pending;
        match trigger & Semaphore::OPERATION {
            Semaphore::RELEASE => {
                self.release(context, trigger)
                    .map_err(|fault| self.fault(context, fault))?;
                context.operation -= Semaphore::ACQUIRE_PENDING;
                Ok(None)
            }
            Semaphore::ACQUIRE_EQUAL | Semaphore::ACQUIRE_GEQUAL | Semaphore::ACQUIRE_MASK => {
                self.acquire(context, call, trigger)
            }
            _ => self.interrupt(context, PbdmaIntr::ILLEGAL_SEM, Some(call)),
        }
    }

    fn release(&mut self, context: &Context, trigger: Semaphore) -> Result<(), Fault> {
        let at = context.semaphore;
        if !trigger.contains(Semaphore::RELEASE_SHORT) {
            let now = self.shared().clock.now();
            self.client.store(at.wrapping_add(4), 0u32)?;
            self.client.store(at.wrapping_add(8), now)?;
        }
        // What came before, the time included, is there when the sequence is.
        fence(Ordering::Release);
        self.client.store(at, context.sequence)?;
        self.semaphore_released();
        Ok(())
    }

    fn acquire(
        &mut self,
        context: &mut Context,
        call: Method,
        trigger: Semaphore,
    ) -> Result<Option<Method>, Break> {
        let now = Instant::now();
        let time = self.shared().clock.now();
        if !context.operation.contains(Semaphore::ACQUIRE_PENDING) {
            let end = context.acquire_timeout();
            context.deadline = ((time >> 10) as u32).wrapping_add(end.unwrap_or(0));
            context.operation |= Semaphore::ACQUIRE_PENDING;
        }
        let mut acquire = Acquire {
            address: context.semaphore,
            sequence: context.sequence,
            operation: trigger,
            deadline: context.acquire_timeout().map(|_| context.deadline),
            due: now,
            interval: Acquire::FIRST,
        };
        loop {
            let value = self.client.load::<u32>(acquire.address).map_err(|fault| {
                context.operation -= Semaphore::ACQUIRE_PENDING;
                self.fault(context, fault)
            })?;
            if acquire.operation.satisfied(value, acquire.sequence) {
                fence(Ordering::Acquire);
                context.operation -= Semaphore::ACQUIRE_PENDING;
                return Ok(None);
            }
            if acquire.expired(self.shared().clock.now()) {
                context.operation -= Semaphore::ACQUIRE_PENDING;
                return self.interrupt(context, PbdmaIntr::SEM_TIMEOUT, Some(call));
            }
            acquire.back_off(Instant::now());
            if trigger.contains(Semaphore::ACQUIRE_SWITCH) || !self.linger(acquire.due) {
                context.cache = Some(call);
                return Err(Break::Semaphore(acquire));
            }
        }
    }
}
