//! A CTA: its warps, taking turns between barriers.

use std::sync::Arc;

use super::{
    decode::BarMode,
    exec::{self, Arrival, Cx, Halt, Isa},
    grid::Environment,
    jit::Pages,
    lanes::LANES,
    launch::{Failure, Launch, Trap},
    warp::Warp,
};
use crate::memory::{Client, Memory};

/// Instructions of a turn, under one guard.
const TURN: i32 = 1024;
/// Barriers of a CTA.
const BARRIERS: usize = 16;

/// What the warps of a CTA share.
#[derive(Debug)]
pub struct CtaMemory {
    /// Shared memory, by word.
    pub shared: Vec<u32>,
    /// Locked words of it, a bit each.
    locks: Vec<u64>,
    /// Place in the grid.
    pub id: [u32; 3],
    /// The multiprocessor that it runs on.
    pub multiprocessor: u32,
    /// What the clock of a warp will say at the end of its turn.
    pub clock_end: u64,
    /// There is one warp, and no barrier waits for more: one that it arrives at opens at once.
    pub alone: bool,
}

impl CtaMemory {
    /// Locks a word; `false` if it is locked already.
    pub fn lock(&mut self, word: usize) -> bool {
        let Some(bits) = self.locks.get_mut(word / 64) else {
            return false;
        };
        let free = *bits & 1 << (word % 64) == 0;
        *bits |= 1 << (word % 64);
        free
    }

    /// Unlocks a word.
    pub fn unlock(&mut self, word: usize) {
        if let Some(bits) = self.locks.get_mut(word / 64) {
            *bits &= !(1 << (word % 64));
        }
    }
}

/// What a warp is up to.
#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    Waiting(Arrival),
    Done,
}

/// Arrivals at a barrier since it was last open.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    /// In threads; a warp counts whole.
    arrived: u32,
    /// Threads that it waits for; 0: all that have not exited.
    threads: u32,
    popc: u32,
    and: bool,
    or: bool,
}

impl Barrier {
    const OPEN: Self = Self {
        arrived: 0,
        threads: 0,
        popc: 0,
        and: true,
        or: false,
    };

    /// Nobody has arrived.
    fn is_open(&self) -> bool {
        self.arrived == 0
    }
}

/// How a CTA's turn ended.
#[derive(Debug)]
pub enum Turn {
    /// All warps are done.
    Done,
    /// There is more to do.
    More,
    /// Every warp that is left waits at a barrier that will not open.
    Stuck,
}

/// What a thread that runs CTAs reaches memory by.
pub struct Reach<'a> {
    /// The card's memory.
    pub memory: &'a Memory,
    /// The channel's view of it.
    pub client: &'a mut Client,
    /// Pages that compiled code found.
    pub pages: &'a mut Pages,
}

/// A CTA in flight.
#[derive(Debug)]
pub struct Cta {
    memory: CtaMemory,
    warps: Vec<Warp>,
    states: Vec<State>,
    barriers: [Barrier; BARRIERS],
    /// The warp whose turn is next.
    next: usize,
}

impl Cta {
    /// Room for a CTA of the launch, with local memory at a virtual address.
    pub fn new(launch: &Launch, rows: usize, local: u64) -> Self {
        let warps = (launch.threads() as usize).div_ceil(LANES);
        let words = launch.shared_size as usize / 4;
        Self {
            memory: CtaMemory {
                shared: vec![0; words],
                locks: vec![0; words.div_ceil(64)],
                id: [0; 3],
                multiprocessor: 0,
                clock_end: 0,
                alone: false,
            },
            warps: (0..warps as u32)
                .map(|n| {
                    let local = local.wrapping_add(u64::from(n) * launch.warp_local());
                    Warp::new(n, rows, launch.warp_cstack_size, local)
                })
                .collect(),
            states: vec![State::Done; warps],
            barriers: [Barrier::OPEN; BARRIERS],
            next: 0,
        }
    }

    /// Starts CTA `id` from the beginning of the program, which may read the registers of
    /// `read_first`, a bit each, before it has written them.
    pub fn start(&mut self, launch: &Launch, id: [u32; 3], multiprocessor: u32, read_first: u128) {
        // The host's memset takes long for nothing, where there is no memory.
        if !self.memory.shared.is_empty() {
            self.memory.shared.fill(0);
            self.memory.locks.fill(0);
        }
        self.memory.id = id;
        self.memory.multiprocessor = multiprocessor;
        self.memory.clock_end = 0;
        for warp in &mut self.warps {
            warp.reset(launch.threads() as u32, read_first);
        }
        self.states.fill(State::Ready);
        self.barriers = [Barrier::OPEN; BARRIERS];
        self.next = 0;
    }

    /// Instructions that its warps have executed.
    pub fn executed(&self) -> u64 {
        self.memory.clock_end
    }

    /// Gives the next warp that is ready a turn, and those behind it what that leaves of it.
    ///
    /// # Errors
    ///
    /// What ended the grid. `code` provides an environment whose program has more code.
    pub fn turn<I: Isa>(
        &mut self,
        isa: I,
        env: &mut Arc<Environment>,
        reach: Reach<'_>,
        code: impl Fn(&mut Client, u32) -> Result<Arc<Environment>, Failure>,
    ) -> Result<Turn, Failure> {
        let Reach {
            memory,
            client,
            pages,
        } = reach;
        let guard = memory.enter();
        let mut budget = TURN;
        while budget > 0 {
            let count = self.warps.len();
            let ready = (self.next..self.next + count)
                .map(|n| n % count)
                .find(|&n| matches!(self.states[n], State::Ready));
            let Some(n) = ready else {
                let done = self.states.iter().all(|state| matches!(state, State::Done));
                return Ok(if done { Turn::Done } else { Turn::Stuck });
            };
            self.next = n + 1;
            self.memory.alone = count == 1 && self.barriers.iter().all(Barrier::is_open);
            let warp = &mut self.warps[n];
            self.memory.clock_end = self.memory.clock_end.wrapping_add_signed(budget.into());
            let mut cx = Cx {
                regs: &mut warp.regs,
                uniform: &env.uniform,
                mask: 0,
                preds: &mut warp.preds,
                flags: &mut warp.flags,
                flow: &mut warp.flow,
                warp: warp.number,
                local: warp.local,
                cta: &mut self.memory,
                env,
                client,
                guard: &guard,
                budget,
            };
            let halt = match &env.code {
                Some(code) => code.run(isa, &mut cx, pages),
                None => exec::run(isa, &mut cx, env.program.insts()),
            };
            let mask = cx.mask;
            budget = cx.budget;
            self.memory.clock_end = self
                .memory
                .clock_end
                .wrapping_add_signed(-i64::from(budget));
            match halt {
                Halt::Budget => {}
                Halt::Exited => {
                    self.states[n] = State::Done;
                    for id in 0..BARRIERS {
                        self.settle(id);
                    }
                }
                Halt::Barrier(arrival) => self.arrive(n, arrival),
                Halt::Code(address) => {
                    drop(guard);
                    *env = code(client, address)?;
                    break;
                }
                Halt::Fault(fault) => return Err(fault.into()),
                Halt::Trap(error) => {
                    let pc = env.program.address(warp.flow.pc);
                    return Err(Failure::Trap(Trap {
                        error,
                        pc,
                        code: env.program.code(pc),
                        cta: self.memory.id,
                        warp: warp.number,
                        lanes: mask,
                    }));
                }
            }
        }
        Ok(Turn::More)
    }

    fn arrive(&mut self, n: usize, arrival: Arrival) {
        let barrier = &mut self.barriers[usize::from(arrival.id) % BARRIERS];
        barrier.arrived += LANES as u32;
        barrier.threads = arrival.threads;
        if arrival.mode != BarMode::Arrive {
            barrier.popc += arrival.lanes.count_ones();
            barrier.and &= arrival.lanes == arrival.mask;
            barrier.or |= arrival.lanes != 0;
            self.states[n] = State::Waiting(arrival);
        }
        self.settle(arrival.id.into());
    }

    /// Opens a barrier if all have arrived.
    fn settle(&mut self, id: usize) {
        let barrier = self.barriers[id];
        if barrier.arrived == 0 {
            return;
        }
        let expected = match barrier.threads {
            0 => {
                let live = |state: &&State| !matches!(state, State::Done);
                self.states.iter().filter(live).count() as u32 * LANES as u32
            }
            threads => threads,
        };
        if barrier.arrived < expected {
            return;
        }
        self.barriers[id] = Barrier::OPEN;
        for (state, warp) in self.states.iter_mut().zip(&mut self.warps) {
            let State::Waiting(arrival) = *state else {
                continue;
            };
            if usize::from(arrival.id) != id {
                continue;
            }
            *state = State::Ready;
            let outcome = match arrival.mode {
                BarMode::And => barrier.and,
                BarMode::Or => barrier.or,
                _ => barrier.popc != 0,
            };
            arrival.opened(barrier.popc, outcome, &mut warp.regs, &mut warp.preds);
        }
    }
}
