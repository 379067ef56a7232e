//! What the methods of each class do.

use mmio::regs::pgraph::Intr;

use super::bits::{compute, data_error, m2mf, m2mf_error, query, shared, threed};
use super::classes::Class;
use super::context::{Binding, COMPUTE_STAGE, Context, Push};
use super::exec::Exec;
use super::jobs::Job;
use super::m2mf::Transfer;
use super::report;
use crate::engine::{Calls, Method, Pause, Stop};
use crate::sm::ConstantBuffer;

/// Words of inline data that are stored at once.
pub const INLINE: usize = 256;

/// Words as bytes of memory.
pub fn bytes_of<'a>(words: &[u32], bytes: &'a mut [u8; 4 * INLINE]) -> &'a [u8] {
    let (chunks, _) = bytes.as_chunks_mut::<4>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    &bytes[..4 * words.len().min(INLINE)]
}

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
                self.push(&[method.data]).1
            }
            _ => Ok(()),
        }
    }

    /// Takes calls of one method that are data to be stored, many at once; nothing if these are
    /// others. How many were taken, as [`crate::engine::Engine::methods`] says.
    pub fn inline_data(&mut self, calls: Calls<'_>) -> Option<(usize, Result<(), Stop>)> {
        if calls.step != 0 || self.current.is_none() || self.running.is_some() {
            return None;
        }
        let words = &calls.data[..calls.data.len().min(INLINE)];
        let last = *words.last()?;
        let class = Class::from_id(self.context.class_id(calls.subchannel))?;
        match (class, calls.address) {
            (Class::M2mf, m2mf::DATA) if self.context.push().active => {
                self.context.set(class, m2mf::DATA, last);
                Some(self.push(words))
            }
            (Class::ThreeD | Class::Compute, shared::CB_DATA..=shared::CB_DATA_LAST) => {
                let pos = self.context.get(class, shared::CB_POS);
                let len = 4 * words.len() as u32;
                let next = pos.checked_add(len)?;
                let at = self.context.address(class, shared::CB_ADDRESS_HIGH) + u64::from(pos);
                let mut bytes = [0; 4 * INLINE];
                let bytes = bytes_of(words, &mut bytes);
                self.context.set(class, calls.address, last);
                self.context.set(class, shared::CB_POS, next);
                Some(match self.client.write(at, bytes) {
                    Ok(()) => (words.len(), Ok(())),
                    Err(fault) => {
                        let used = (fault.va.wrapping_sub(at) / 4) as usize % words.len() + 1;
                        let next = pos + 4 * used as u32;
                        self.context.set(class, shared::CB_POS, next);
                        (used, Err(self.fault(fault)))
                    }
                })
            }
            _ => None,
        }
    }

    /// Takes words of an M2MF transfer's inline data.
    fn push(&mut self, words: &[u32]) -> (usize, Result<(), Stop>) {
        let exec = self.context.get(Class::M2mf, m2mf::EXEC);
        let before = self.context.push();
        let Self {
            context, client, ..
        } = self;
        match super::m2mf::push(context, client, exec, words) {
            Ok((used, true)) => (used, self.transferred(exec)),
            Ok((used, false)) => (used, Ok(())),
            // Fewer of them, so that the one that faults is the last that is taken.
            Err(_) if words.len() > 1 => {
                self.context.set_push(before);
                self.push(&words[..words.len() / 2])
            }
            Err(fault) => {
                self.context.set_push(Push::default());
                (1, Err(self.fault(fault)))
            }
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
