//! Work that takes longer than a method should: it can be paused, parked while other channels run,
//! and gone on with.

use mmio::regs::pgraph::Intr;

use super::bits::{data_error, m2mf};
use super::classes::Class;
use super::clear::{self, Fill};
use super::compute;
use super::exec::Exec;
use super::m2mf::Transfer;
use super::report;
use super::twod::Blit;
use crate::engine::{Method, Pause, Stop};
use crate::memory::{Client, Fault, FaultClient, FaultReport, FaultUnit, GpcClient};
use crate::pace::Pace;
use crate::sm::{Failure, Grid, LaunchError, Outcome};

/// Work that takes longer than a method should.
pub enum Job {
    /// An M2MF transfer, and how it was started.
    Transfer { transfer: Transfer, exec: u32 },
    /// Clears, one after the other.
    Clear(Vec<Fill>),
    /// A 2D blit.
    Blit(Blit),
    /// A grid of compute, and what launched it.
    Grid { grid: Box<Grid>, method: Method },
}

/// Why a job ended before it was done.
enum JobError {
    Fault(Fault),
    /// The multiprocessors stopped.
    Grid(Method, Failure),
}

impl From<Fault> for JobError {
    fn from(fault: Fault) -> Self {
        JobError::Fault(fault)
    }
}

impl Exec {
    /// Works on the job until it is done.
    pub fn work(&mut self, pause: &Pause) -> Result<(), Stop> {
        let Some(job) = &mut self.job else {
            return Ok(());
        };
        self.front.set_busy(true);
        self.pace.begin();
        let client = &mut self.client;
        let pace = &self.pace;
        let result = match job {
            Job::Transfer { transfer, .. } => transfer.run(client, pause, pace).map_err(Into::into),
            Job::Clear(fills) => clear(fills, client, pause, pace).map_err(Into::into),
            Job::Blit(blit) => blit.run(client, pause, pace).map_err(Into::into),
            Job::Grid { grid, method } => {
                let method = *method;
                match self.multiprocessors.run(grid, pause) {
                    Outcome::Done => Ok(true),
                    Outcome::Paused => Ok(false),
                    Outcome::Failed(failure) => Err(JobError::Grid(method, failure)),
                }
            }
        };
        self.pace.end();
        self.front.set_busy(false);
        match result {
            Ok(true) => match self.job.take() {
                Some(Job::Transfer { exec, .. }) => self.transferred(exec),
                _ => Ok(()),
            },
            Ok(false) => Err(Stop::Paused),
            Err(JobError::Fault(fault)) => Err(self.fault(fault)),
            Err(JobError::Grid(method, failure)) => Err(self.grid_failed(method, failure)),
        }
    }

    /// Runs the grid that the methods describe.
    pub fn launch(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
        if !self.condition(Class::Compute)? {
            return Ok(());
        }
        let Some(channel) = self.current else {
            return Ok(());
        };
        let sms = self.multiprocessor_count();
        let launch = compute::launch(&self.context, channel.instance, method.data, sms);
        match self.multiprocessors.launch(launch) {
            Ok(grid) => {
                let grid = Box::new(grid);
                self.job = Some(Job::Grid { grid, method });
                self.work(pause)
            }
            Err(error) => {
                let code = match error {
                    LaunchError::Local(_) => data_error::CP_NOT_ENOUGH_LOCAL_WARPS,
                    LaunchError::Threads(_) | LaunchError::Shared(_) => {
                        data_error::CP_NOT_ENOUGH_WARPS
                    }
                };
                tracing::debug!(%error, "grid refused");
                self.front.data_error(method, code);
                Err(Stop::Trapped)
            }
        }
    }

    /// The multiprocessors stopped before the grid was done.
    fn grid_failed(&mut self, method: Method, failure: Failure) -> Stop {
        self.job = None;
        self.running = None;
        match failure {
            Failure::Trap(trap) => {
                tracing::debug!(%trap, "warp trapped");
                self.front
                    .mp_trap(method, trap.cta[0], trap.error as u32 | trap.warp << 16);
                Stop::Trapped
            }
            Failure::Fault(fault) => Stop::Fault(FaultReport {
                unit: FaultUnit::Pgraph,
                client: FaultClient::Gpc {
                    gpc: 0,
                    client: GpcClient::L1 { tpc: 0 },
                },
                instance: self.switcher.instance(),
                fault,
            }),
        }
    }

    /// Whether a class is to work: conditional rendering.
    fn condition(&mut self, class: Class) -> Result<bool, Stop> {
        report::condition(&self.context, class, &mut self.client).map_err(|fault| self.fault(fault))
    }

    /// Copies pixels from one surface to another.
    pub fn blit(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
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
    pub fn clear_buffers(&mut self, method: Method, pause: &Pause) -> Result<(), Stop> {
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
    pub fn transferred(&mut self, exec: u32) -> Result<(), Stop> {
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
}

/// Works on clears until all are done. `false`: it was asked to pause before.
fn clear(
    fills: &mut Vec<Fill>,
    client: &mut Client,
    pause: &Pause,
    pace: &Pace,
) -> Result<bool, Fault> {
    while let Some(fill) = fills.last_mut() {
        if !fill.run(client, pause, pace)? {
            return Ok(false);
        }
        fills.pop();
    }
    Ok(true)
}
