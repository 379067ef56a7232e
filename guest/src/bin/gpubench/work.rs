//! What a load gives an engine to do, again and again, and whether it did it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use guest::copy::{APART, Engine};
use guest::kernel::{self, Grid};
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Push};

use crate::LoadArguments;

/// CTAs of a kernel: one for each SM of the card.
const CTAS: u32 = 14;
/// Bytes of a copy that are looked at.
const PROBE: u64 = 4096;

/// Work that can be repeated.
#[derive(Debug)]
pub enum Work {
    /// A copy within video memory, of as many bytes as its source has.
    Copy {
        engine: Engine,
        from: Buffer,
        /// Its target, [`APART`] from the beginning.
        to: Buffer,
        /// What was copied, and room for what came out.
        check: Buffer,
    },
    /// A kernel whose threads go around a loop.
    Kernel {
        turns: u32,
        program: Buffer,
        target: Buffer,
    },
}

impl Work {
    /// What the arguments say.
    pub fn new(device: &Arc<Device>, arguments: &LoadArguments) -> Result<Self> {
        if let Some(turns) = arguments.kernel {
            let page = || Buffer::new(device, Domain::Gart, PROBE);
            return Ok(Self::Kernel {
                turns,
                program: page()?,
                target: page()?,
            });
        }
        let Some(engine) = Engine::ALL
            .into_iter()
            .find(|engine| engine.name().eq_ignore_ascii_case(&arguments.engine))
        else {
            bail!(
                "There is no engine {:?}, only ce0, ce1 and m2mf",
                arguments.engine
            );
        };
        let bytes = arguments.kib << 10;
        Ok(Self::Copy {
            engine,
            from: Buffer::new(device, Domain::Vram, bytes)?,
            to: Buffer::new(device, Domain::Vram, bytes + APART)?,
            check: Buffer::new(device, Domain::Gart, PROBE)?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Copy { engine, .. } => engine.name(),
            Self::Kernel { .. } => "kernel",
        }
    }

    /// Bytes of a copy, turns of a kernel.
    pub fn size(&self) -> u64 {
        match self {
            Self::Copy { from, .. } => from.bytes(),
            Self::Kernel { turns, .. } => (*turns).into(),
        }
    }

    /// What submissions of it use.
    pub fn buffers(&self) -> [(&Buffer, Access); 2] {
        match self {
            Self::Copy { from, to, .. } => [(from, Access::Read), (to, Access::Write)],
            Self::Kernel {
                program, target, ..
            } => [(program, Access::Read), (target, Access::Write)],
        }
    }

    /// Prepares a channel; the commands that do the work `times` on it.
    pub fn attach(&self, channel: &mut Channel, times: u32, limit: Duration) -> Result<Push> {
        match self {
            Self::Copy {
                engine, from, to, ..
            } => {
                let mut attach = Push::new();
                engine.attach(channel, &mut attach)?;
                channel.run(&attach, &[], limit)?;
                let mut push = Push::new();
                for _ in 0..times {
                    let target = to.address() + APART;
                    engine.linear(&mut push, from.address(), target, from.bytes());
                }
                Ok(push)
            }
            Self::Kernel {
                turns,
                program,
                target,
            } => {
                let words = kernel::turns(target.address(), *turns);
                let grid = Grid {
                    ctas: CTAS,
                    threads: kernel::THREADS,
                };
                let mut push = kernel::launch(channel, program, &words, grid)?;
                for _ in 1..times {
                    kernel::again(&mut push);
                }
                Ok(push)
            }
        }
    }

    /// Puts something there that only the work can change into what it should.
    pub fn prepare(&self, channel: &mut Channel, limit: Duration) -> Result<()> {
        if let Self::Copy {
            engine,
            from,
            check,
            ..
        } = self
        {
            let bytes = PROBE.min(from.bytes());
            Pattern::new(from.bytes()).fill(check.quads()?);
            let mut upload = Push::new();
            engine.linear(&mut upload, check.address(), from.address(), bytes);
            let used = [(check, Access::Read), (from, Access::Write)];
            channel.run(&upload, &used, limit)?;
        }
        Ok(())
    }

    /// Looks at what came out. All of the work is over.
    pub fn check(&self, channel: &mut Channel, limit: Duration) -> Result<()> {
        match self {
            Self::Copy {
                engine,
                from,
                to,
                check,
            } => {
                let bytes = PROBE.min(from.bytes());
                Pattern::new(0).fill(check.quads()?);
                let mut download = Push::new();
                let target = to.address() + APART;
                engine.linear(&mut download, target, check.address(), bytes);
                let used = [(to, Access::Read), (check, Access::Write)];
                channel.run(&download, &used, limit)?;
                Pattern::new(from.bytes()).check(check.quads()?, 0, 0, bytes)?;
            }
            Self::Kernel { turns, target, .. } => {
                for thread in 0..kernel::THREADS {
                    let found = target.read(u64::from(thread) * 4)?;
                    let expected = kernel::turned(thread, *turns);
                    ensure!(
                        found == expected,
                        "Thread {thread} stored {found:#x} instead of {expected:#x}"
                    );
                }
            }
        }
        Ok(())
    }
}
