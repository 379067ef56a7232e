//! The execution side of PGRAPH: the current channel's context, and what methods do to it.

use std::collections::HashMap;
use std::sync::Arc;

use super::bits::{
    common, compute, data_error, m2mf, m2mf_error, macro_error, query, shared, threed, twod,
};
use super::classes::Class;
use super::clear::{self, Fill};
use super::context::{Binding, COMPUTE_STAGE, ConstantBuffer, Context, Push, SUBCHANNELS};
use super::fecs::{self, Fecs};
use super::front::Front;
use super::m2mf::Transfer;
use super::mme::{Macro, MacroError, Send};
use super::report;
use super::twod::Blit;
use crate::engine::{ChannelRef, Method, Pause, Stop};
use crate::memory::{Client, Fault, FaultClient, FaultReport, FaultUnit, HubClient, Privilege};
use crate::shared::Shared;
use mmio::regs::pgraph::Intr;

/// Instructions of a macro between two looks at the pause flag.
const MACRO_CHUNK: u32 = 1024;

/// Work that takes longer than a method should.
enum Job {
    /// An M2MF transfer, and how it was started.
    Transfer { transfer: Transfer, exec: u32 },
    /// Clears, one after the other.
    Clear(Vec<Fill>),
    /// A 2D blit.
    Blit(Blit),
}

/// The execution side.
pub struct Exec {
    shared: Arc<Shared>,
    front: Arc<Front>,
    fecs: Arc<Fecs>,
    /// The current channel's memory.
    client: Client,
    /// The same for the context switcher, which may reach the kernel's pages.
    switcher: Client,
    current: Option<ChannelRef>,
    context: Context,
    running: Option<Macro>,
    job: Option<Job>,
    /// Jobs of channels that are not current.
    parked: HashMap<ChannelRef, Job>,
}

impl Exec {
    /// The idle execution side of a card.
    pub fn new(shared: Arc<Shared>, front: Arc<Front>, fecs: Arc<Fecs>) -> Self {
        Self {
            client: Client::new(shared.memory.clone(), Privilege::User),
            switcher: Client::new(shared.memory.clone(), Privilege::System),
            current: None,
            context: Context::new(),
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
    fn fault(&mut self, fault: Fault) -> Stop {
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
        if method.address >= common::MACRO_CALL {
            return self.macro_method(method, pause);
        }
        if self.running.take().is_some() {
            return Err(self.macro_trap(method, macro_error::TOO_FEW_PARAMS));
        }
        self.execute(method, pause)
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

    /// Methods of M2MF.
    fn m2mf(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        let get = |context: &Context, address| context.get(Class::M2mf, address);
        match method.address {
            m2mf::EXEC => {
                let exec = method.data;
                if self.context.push().active {
                    self.context.set_push(Push::default());
                    self.front
                        .m2mf_trap(method, m2mf_error::PUSH_NOT_ENOUGH_DATA);
                    return Err(Stop::Trapped);
                }
                let empty = get(&self.context, m2mf::LINE_LENGTH_IN) == 0
                    || get(&self.context, m2mf::LINE_COUNT) == 0;
                if exec & m2mf::exec::PUSH != 0 && !empty {
                    let active = true;
                    self.context.set_push(Push {
                        active,
                        ..Push::default()
                    });
                    return Ok(());
                }
                let transfer = Transfer::new(&self.context, exec);
                self.job = Some(Job::Transfer { transfer, exec });
                self.work(pause)
            }
            m2mf::DATA => {
                if !self.context.push().active {
                    self.front.m2mf_trap(method, m2mf_error::PUSH_TOO_MUCH_DATA);
                    return Err(Stop::Trapped);
                }
                let exec = get(&self.context, m2mf::EXEC);
                let Self {
                    context, client, ..
                } = self;
                match super::m2mf::push(context, client, exec, method.data) {
                    Ok(true) => self.transferred(exec),
                    Ok(false) => Ok(()),
                    Err(fault) => {
                        self.context.set_push(Push::default());
                        Err(self.fault(fault))
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// Works on the job until it is done.
    fn work(&mut self, pause: &Pause) -> Result<(), Stop> {
        let Some(job) = &mut self.job else {
            return Ok(());
        };
        self.front.set_busy(true);
        let client = &mut self.client;
        let result = match job {
            Job::Transfer { transfer, .. } => transfer.run(client, pause),
            Job::Clear(fills) => clear(fills, client, pause),
            Job::Blit(blit) => blit.run(client, pause),
        };
        self.front.set_busy(false);
        match result {
            Ok(true) => match self.job.take() {
                Some(Job::Transfer { exec, .. }) => self.transferred(exec),
                _ => Ok(()),
            },
            Ok(false) => Err(Stop::Paused),
            Err(fault) => Err(self.fault(fault)),
        }
    }

    /// Whether a class is to work: conditional rendering.
    fn condition(&mut self, class: Class) -> Result<bool, Stop> {
        report::condition(&self.context, class, &mut self.client).map_err(|fault| self.fault(fault))
    }

    /// Copies pixels from one surface to another.
    fn blit(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        if !self.condition(Class::TwoD)? {
            return Ok(());
        }
        let Some(blit) = Blit::new(&self.context) else {
            self.front.data_error(method, data_error::INVALID_ENUM);
            return Err(Stop::Trapped);
        };
        self.job = Some(Job::Blit(blit));
        self.work(pause)
    }

    /// Clears what the render targets and the depth buffer are now.
    fn clear_buffers(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        if !self.condition(Class::ThreeD)? {
            return Ok(());
        }
        let Some(fills) = clear::clears(&self.context, method.data) else {
            self.front.data_error(method, data_error::INVALID_ENUM);
            return Err(Stop::Trapped);
        };
        self.job = Some(Job::Clear(fills));
        self.work(pause)
    }

    /// An M2MF transfer is complete.
    fn transferred(&mut self, exec: u32) -> Result<(), Stop> {
        let get = |address| self.context.get(Class::M2mf, address);
        if exec & m2mf::exec::QUERY != 0 {
            let at = self.context.address(Class::M2mf, m2mf::QUERY_ADDRESS_HIGH);
            let sequence = get(m2mf::QUERY_SEQUENCE);
            let written = match exec & m2mf::exec::QUERY_SHORT {
                0 => {
                    let time = self.shared.clock.now();
                    report::sequence(&mut self.client, at, sequence, 0, time)
                }
                _ => report::short(&mut self.client, at, sequence),
            };
            written.map_err(|fault| self.fault(fault))?;
        }
        if exec & m2mf::exec::BUF_NOTIFY != 0 {
            self.front.notify(Intr::BUFFER_NOTIFY);
        }
        Ok(())
    }

    /// Methods that 3D and compute have in common.
    fn shader_class(&mut self, class: Class, method: Method) -> Result<(), Stop> {
        match method.address {
            shared::QUERY_GET => self.query(class, method),
            shared::CB_DATA..=shared::CB_DATA_LAST => {
                let pos = self.context.get(class, shared::CB_POS);
                let at = self.context.address(class, shared::CB_ADDRESS_HIGH);
                let next = pos.wrapping_add(4);
                self.context.set(class, shared::CB_POS, next);
                let stored = self.client.store(at + u64::from(pos), method.data);
                stored.map_err(|fault| self.fault(fault))
            }
            shared::GLOBAL_BASE => {
                self.context.set_global_window(method.data);
                Ok(())
            }
            address => match bind_of(class, address) {
                Some((stage, bind)) => self.bind_slot(class, method, stage, bind),
                None => Ok(()),
            },
        }
    }

    /// Binds what a stage reads through.
    fn bind_slot(
        &mut self,
        class: Class,
        method: Method,
        stage: usize,
        bind: Bind,
    ) -> Result<(), Stop> {
        let data = method.data;
        let active = data & 1 != 0;
        let bound = match bind {
            Bind::Sampler => {
                let entry = active.then_some(data >> 12 & 0x1fff);
                let index = data >> 4 & 0xff;
                self.context
                    .set_binding(Binding::Sampler, stage, index, entry)
            }
            Bind::Texture => {
                let entry = active.then_some(data >> 9 & 0x3f_ffff);
                let index = data >> 1 & 0xff;
                self.context
                    .set_binding(Binding::Texture, stage, index, entry)
            }
            Bind::Constants { index } => {
                let buffer = ConstantBuffer {
                    address: self.context.address(class, shared::CB_ADDRESS_HIGH),
                    size: self.context.get(class, shared::CB_SIZE),
                };
                let buffer = if active {
                    buffer
                } else {
                    ConstantBuffer::default()
                };
                self.context
                    .set_constants(stage, data >> index & 0x1f, buffer)
            }
        };
        if bound {
            return Ok(());
        }
        self.front.data_error(method, data_error::INVALID_VALUE);
        Err(Stop::Trapped)
    }

    /// Writes a report.
    fn query(&mut self, class: Class, method: Method) -> Result<(), Stop> {
        let get = method.data;
        let at = self.context.address(class, shared::QUERY_ADDRESS_HIGH);
        let sequence = self.context.get(class, shared::QUERY_SEQUENCE);
        let client = &mut self.client;
        let time = self.shared.clock.now();
        // Nothing is rasterized, so every counter stands at 0.
        let written = match get >> query::SELECT_SHIFT & query::SELECT_MASK {
            _ if get & query::SHORT != 0 => report::short(client, at, sequence),
            query::SELECT_ZERO | query::SELECT_SAMPLECNT => {
                report::sequence(client, at, sequence, 0, time)
            }
            _ => report::count(client, at, 0, time),
        };
        written.map_err(|fault| self.fault(fault))?;
        if get & query::INTR != 0 {
            self.front.notify(Intr::QUERY);
        }
        Ok(())
    }
}

/// Works on clears until all are done. `false`: it was asked to pause before.
fn clear(fills: &mut Vec<Fill>, client: &mut Client, pause: &Pause) -> Result<bool, Fault> {
    while let Some(fill) = fills.last_mut() {
        if !fill.run(client, pause)? {
            return Ok(false);
        }
        fills.pop();
    }
    Ok(true)
}

/// A method that binds something to a stage.
enum Bind {
    Sampler,
    Texture,
    /// The index is at this bit.
    Constants {
        index: u32,
    },
}

/// The stage and kind of a binding method.
fn bind_of(class: Class, address: u16) -> Option<(usize, Bind)> {
    if class == Class::Compute {
        let bind = match address {
            compute::BIND_TSC | compute::BIND_TSC2 => Bind::Sampler,
            compute::BIND_TIC | compute::BIND_TIC2 => Bind::Texture,
            compute::CB_BIND => Bind::Constants { index: 8 },
            _ => return None,
        };
        return Some((COMPUTE_STAGE, bind));
    }
    let offset = address.checked_sub(threed::BIND)?;
    let bind = match offset % threed::STAGE_STRIDE {
        threed::BIND_TSC | threed::BIND_TSC2 => Bind::Sampler,
        threed::BIND_TIC | threed::BIND_TIC2 => Bind::Texture,
        threed::CB_BIND => Bind::Constants { index: 4 },
        _ => return None,
    };
    let stage = offset / threed::STAGE_STRIDE;
    (stage < threed::STAGES).then_some((stage.into(), bind))
}
