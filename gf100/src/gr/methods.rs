//! What the methods of each class do.

use mmio::regs::pgraph::Intr;

use super::bits::{compute, data_error, m2mf, m2mf_error, query, shared, threed};
use super::classes::Class;
use super::context::{Binding, COMPUTE_STAGE, Context, Push};
use super::exec::Exec;
use super::jobs::Job;
use super::m2mf::Transfer;
use super::report;
use crate::engine::{Method, Pause, Stop};
use crate::sm::ConstantBuffer;

impl Exec {
    /// Methods of M2MF.
    pub fn m2mf(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
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

    /// Methods that 3D and compute have in common.
    pub fn shader_class(&mut self, class: Class, method: Method) -> Result<(), Stop> {
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
