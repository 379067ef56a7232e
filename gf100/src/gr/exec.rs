//! The execution side of PGRAPH: the current channel's context, and what methods do to it.

use std::collections::HashMap;
use std::sync::Arc;

use mmio::regs::pgraph::Intr;

use super::bits::{common, compute, data_error, macro_error, threed, twod};
use super::classes::Class;
use super::context::{Context, SUBCHANNELS};
use super::fecs::{self, Fecs};
use super::front::Front;
use super::jobs::Job;
use super::mme::{Macro, MacroError, Send};
use super::report;
use crate::engine::{Calls, ChannelRef, Method, Pause, Stop};
use crate::memory::{Client, Fault, FaultClient, FaultReport, FaultUnit, HubClient, Privilege};
use crate::pace::Pace;
use crate::shared::Shared;
use crate::sm::Multiprocessors;

/// Instructions of a macro between two looks at the pause flag.
const MACRO_CHUNK: u32 = 1024;

/// The execution side.
pub struct Exec {
    pub(super) shared: Arc<Shared>,
    pub(super) front: Arc<Front>,
    pub(super) fecs: Arc<Fecs>,
    /// The current channel's memory.
    pub(super) client: Client,
    /// The same for the context switcher, which may reach the kernel's pages.
    pub(super) switcher: Client,
    pub(super) current: Option<ChannelRef>,
    pub(super) context: Context,
    pub(super) multiprocessors: Multiprocessors,
    pub(super) pace: Arc<Pace>,
    pub(super) running: Option<Macro>,
    pub(super) job: Option<Job>,
    /// Jobs of channels that are not current.
    pub(super) parked: HashMap<ChannelRef, Job>,
}

impl Exec {
    /// The idle execution side of a card.
    pub fn new(shared: Arc<Shared>, front: Arc<Front>, fecs: Arc<Fecs>) -> Self {
        let pace = Arc::new(shared.config.pace());
        Self {
            client: Client::new(shared.memory.clone(), Privilege::User),
            switcher: Client::new(shared.memory.clone(), Privilege::System),
            current: None,
            context: Context::new(),
            multiprocessors: Multiprocessors::new(shared.memory.clone(), shared.config.engine)
                .at_pace(pace.clone()),
            pace,
            running: None,
            job: None,
            parked: HashMap::new(),
            shared,
            front,
            fecs,
        }
    }

    /// The last argument of a method of the current channel.
    #[cfg(test)]
    pub fn peek(&self, class: Class, address: u16) -> u32 {
        self.context.get(class, address)
    }

    /// The grid that the current channel would launch.
    #[cfg(test)]
    pub fn peek_launch(&self) -> crate::sm::Launch {
        let instance = self.current.expect("a current channel").instance;
        super::compute::launch(&self.context, instance, 0, self.multiprocessor_count())
    }

    /// Multiprocessors of the card.
    pub fn multiprocessor_count(&self) -> u32 {
        self.shared.config.tpcs.iter().sum()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.drop_current();
        self.parked.clear();
    }

    fn drop_current(&mut self) {
        self.current = None;
        self.context = Context::new();
        self.running = None;
        self.job = None;
        self.client.unbind();
        self.switcher.unbind();
    }

    fn report(&self, fault: Fault, client: HubClient) -> Stop {
        Stop::Fault(FaultReport {
            unit: FaultUnit::Pgraph,
            client: FaultClient::Hub(client),
            instance: self.switcher.instance(),
            fault,
        })
    }

    /// An access of a method faulted: the method, and the macro that sent it, are over.
    pub(super) fn fault(&mut self, fault: Fault) -> Stop {
        self.job = None;
        self.running = None;
        self.report(fault, HubClient::Dispatch)
    }

    /// See [`crate::engine::Engine::switch_to`].
    pub fn switch_to(&mut self, channel: ChannelRef) -> Result<(), Stop> {
        if self.current == Some(channel) {
            return Ok(());
        }
        self.save()?;
        let instance = channel.instance;
        // Without memory at its instance block a channel has no address space, and the load of its
        // context faults.
        let _ = self.client.bind(instance);
        let _ = self.switcher.bind(instance);
        let at = fecs::address(&self.shared.memory, Some(instance)).unwrap_or(0);
        let loaded = self
            .context
            .load(&mut self.switcher, at, self.fecs.firmware());
        match loaded {
            Ok(writes) => fecs::set_registers(&self.shared, &writes),
            Err(fault) => {
                let stop = self.report(fault, HubClient::Ctxctl);
                self.drop_current();
                return Err(stop);
            }
        }
        self.current = Some(channel);
        self.running = self.context.macro_in_flight();
        self.job = self.parked.remove(&channel);
        self.front.set_channel(Some(channel.instance));
        for subchannel in 0..SUBCHANNELS {
            let class = self.context.class_id(subchannel as u8);
            self.front.set_class(subchannel, class);
        }
        Ok(())
    }

    /// Saves the current channel's context and leaves it.
    fn save(&mut self) -> Result<(), Stop> {
        let Some(channel) = self.current else {
            return Ok(());
        };
        self.context.set_macro_in_flight(self.running.as_ref());
        let instance = channel.instance;
        let at = fecs::address(&self.shared.memory, Some(instance)).unwrap_or(0);
        let saved = self.context.save(&mut self.switcher, at);
        let stop = saved.map_err(|fault| self.report(fault, HubClient::Ctxctl));
        if let (Ok(()), Some(job)) = (&stop, self.job.take()) {
            self.parked.insert(channel, job);
        }
        self.drop_current();
        self.front.set_channel(None);
        stop
    }

    /// See [`crate::engine::Engine::evict`].
    pub fn evict(&mut self, channel: ChannelRef) -> Result<(), Stop> {
        match self.current == Some(channel) {
            true => self.save(),
            false => Ok(()),
        }
    }

    /// See [`crate::engine::Engine::discard`].
    pub fn discard(&mut self, channel: ChannelRef) {
        self.parked.remove(&channel);
        if self.current == Some(channel) {
            self.drop_current();
            self.front.set_channel(None);
        }
    }

    /// See [`crate::engine::Engine::method`].
    pub fn method(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        if self.current.is_none() {
            // The unit was reset under the channel: there is nothing to execute it on.
            return Ok(());
        }
        if method.address >= common::MACRO_CALL {
            return self.macro_method(method, pause);
        }
        if self.running.take().is_some() {
            return Err(self.macro_trap(method, macro_error::TOO_FEW_PARAMS));
        }
        self.execute(method, pause)
    }

    /// See [`crate::engine::Engine::methods`].
    pub fn methods(&mut self, calls: Calls<'_>, pause: &Pause) -> (usize, Result<(), Stop>) {
        let mut rest = calls;
        while let Some(method) = rest.first() {
            let (used, result) = match self.inline_data(rest) {
                Some(taken) => taken,
                None => (1, self.method(method, pause)),
            };
            rest = rest.skip(used);
            if result.is_err() {
                return (calls.data.len() - rest.data.len(), result);
            }
        }
        (calls.data.len(), Ok(()))
    }

    /// See [`crate::engine::Engine::resume`].
    pub fn resume(&mut self, pause: &Pause) -> Result<(), Stop> {
        self.work(pause)?;
        self.run_macro(pause)
    }

    /// A call of a macro, or a parameter for one.
    fn macro_method(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        let index = method.address - common::MACRO_CALL;
        let class = Class::from_id(self.context.class_id(method.subchannel));
        let start = match class {
            Some(Class::ThreeD | Class::Compute) => {
                self.context.macro_start(usize::from(index / 8))
            }
            _ => None,
        };
        let Some(start) = start else {
            self.front.illegal_method(method);
            return Err(Stop::Trapped);
        };
        if index.is_multiple_of(8) {
            if self.running.take().is_some() {
                return Err(self.macro_trap(method, macro_error::TOO_FEW_PARAMS));
            }
            self.running = Some(Macro::call(method.subchannel, start, method.data));
            return self.run_macro(pause);
        }
        match self.running.as_mut().filter(|running| running.waits()) {
            Some(running) => {
                let send = running.parameter(method.data);
                self.send(send, pause)?;
                self.run_macro(pause)
            }
            None => Err(self.macro_trap(method, macro_error::TOO_MANY_PARAMS)),
        }
    }

    fn macro_trap(&mut self, method: Method, error: u32) -> Stop {
        self.front.macro_trap(
            method,
            MacroError {
                error,
                pc: 0,
                op: 0,
            },
        );
        Stop::Trapped
    }

    /// Runs the macro until it ends or needs a parameter.
    fn run_macro(&mut self, pause: &Pause) -> Result<(), Stop> {
        let mut budget = MACRO_CHUNK;
        while let Some(running) = &mut self.running {
            if running.waits() {
                return Ok(());
            }
            if running.ended() {
                self.running = None;
                return Ok(());
            }
            if budget == 0 {
                budget = MACRO_CHUNK;
                if pause.asked() {
                    return Err(Stop::Paused);
                }
            }
            budget -= 1;
            let context = &self.context;
            let class = Class::from_id(context.class_id(running.subchannel));
            let read = |address| class.map_or(0, |class| context.get(class, address));
            match running.step(context.macro_code(), read) {
                Ok(send) => self.send(send, pause)?,
                Err(error) => {
                    let method = Method {
                        subchannel: running.subchannel,
                        address: 0,
                        data: 0,
                    };
                    self.running = None;
                    self.front.macro_trap(method, error);
                    return Err(Stop::Trapped);
                }
            }
        }
        Ok(())
    }

    /// Executes what a macro sends. What traps ends the macro.
    fn send(&mut self, send: Option<Send>, pause: &Pause) -> Result<(), Stop> {
        let (Some(Send { address, data }), Some(running)) = (send, &self.running) else {
            return Ok(());
        };
        let method = Method {
            subchannel: running.subchannel,
            address,
            data,
        };
        let result = match address {
            common::MACRO_CALL.. => {
                self.front.illegal_method(method);
                Err(Stop::Trapped)
            }
            _ => self.execute(method, pause),
        };
        if matches!(result, Err(Stop::Trapped)) {
            self.running = None;
        }
        result
    }

    /// Executes a method of a class.
    fn execute(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        let Method {
            subchannel,
            address,
            data,
        } = method;
        if address == common::OBJECT {
            return self.bind(method);
        }
        let id = self.context.class_id(subchannel);
        let kept = Class::from_id(id).filter(|&class| self.context.set(class, address, data));
        let Some(class) = kept else {
            self.front.illegal_method(method);
            return Err(Stop::Trapped);
        };
        if address < 0x200 {
            return self.common(class, method);
        }
        match class {
            Class::M2mf => self.m2mf(method, pause),
            Class::ThreeD if address == threed::CLEAR_BUFFERS => self.clear_buffers(method, pause),
            Class::Compute if address == compute::LAUNCH => self.launch(method, pause),
            Class::ThreeD | Class::Compute => self.shader_class(class, method),
            Class::TwoD if address == twod::BLIT_SRC_Y_INT => self.blit(method, pause),
            Class::TwoD => Ok(()),
        }?;
        let firmware = class.firmware_methods();
        if (firmware..firmware + 32 * 4).contains(&address) {
            self.front.firmware_method(method, id);
        }
        Ok(())
    }

    /// Binds a class to a subchannel.
    fn bind(&mut self, method: Method) -> Result<(), Stop> {
        let Some(class) = Class::from_id(method.data & 0xffff) else {
            self.front.illegal_class(method);
            return Err(Stop::Trapped);
        };
        self.context.bind(method.subchannel, class);
        let subchannel = usize::from(method.subchannel) % SUBCHANNELS;
        self.front.set_class(subchannel, class.id());
        Ok(())
    }

    /// Methods that every class has.
    fn common(&mut self, class: Class, method: Method) -> Result<(), Stop> {
        let data = method.data;
        let get = |address| self.context.get(class, address);
        match method.address {
            common::NOTIFY => {
                let at = self.context.address(class, common::NOTIFY_ADDRESS_HIGH);
                let time = self.shared.clock.now();
                report::notification(&mut self.client, at, time)
                    .map_err(|fault| self.fault(fault))?;
                if data & 1 != 0 {
                    self.front.notify(Intr::NOTIFY);
                }
            }
            common::MACRO_CODE_DATA => {
                let at = get(common::MACRO_CODE_POS);
                self.context.set_macro_code(at, data);
                let next = at.wrapping_add(1);
                self.context.set(class, common::MACRO_CODE_POS, next);
            }
            common::MACRO_ENTRY_DATA => {
                let number = get(common::MACRO_ENTRY_POS);
                if !self.context.set_macro_start(number, data) {
                    self.front.data_error(method, data_error::INVALID_VALUE);
                    return Err(Stop::Trapped);
                }
                let next = number.wrapping_add(1);
                self.context.set(class, common::MACRO_ENTRY_POS, next);
            }
            _ => {}
        }
        Ok(())
    }
}
