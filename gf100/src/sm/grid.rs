//! Grids: CTAs over host threads, started, paused and resumed.

use std::{
    cell::Cell,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    constants::Constants,
    cta::{Cta, Reach, Turn},
    engine::Engine,
    exec::{Baseline, Isa},
    jit::{Code as Compiled, Compiler, Pages},
    lanes::{LANES, Row},
    launch::{Failure, Launch, LaunchError},
    pool::Pool,
    program::{Exec, Fetch, Program, uniform_rows},
    texture::Headers,
};
use crate::{
    backoff,
    engine::Pause,
    memory::{BusError, Client, Memory, PhysAddr, Privilege},
    pace::Pace,
};

/// How often somebody who waits looks whether to go on.
const LOOK: Duration = Duration::from_micros(200);
/// A grid that takes less is over before a helper has woken up.
const WORTH_HELP: Duration = Duration::from_micros(8);
/// Programs that are kept decoded.
const PROGRAMS: usize = 64;
/// Instructions of all programs that are kept, about 80 bytes each; a longer one is kept alone.
const KEPT_INSTRUCTIONS: usize = 1 << 17;

/// What the warps of a grid look at; its parts stay the same while a turn lasts.
pub struct Environment {
    /// How the grid was launched.
    pub launch: Arc<Launch>,
    /// By warp: the special registers that number a thread (all in one, x, y, z).
    pub tids: Arc<[[Row; 4]]>,
    /// Constant buffers.
    pub constants: Arc<Constants>,
    /// Textures and samplers.
    pub headers: Arc<Headers>,
    /// The program.
    pub program: Arc<Program>,
    /// Its machine code, unless it is only interpreted.
    pub code: Option<Arc<Compiled>>,
    /// The rows of its uniforms.
    pub uniform: Vec<Row>,
}

/// Reads the code segment of a launch.
struct Code<'a> {
    client: &'a mut Client,
    base: u64,
}

impl Fetch for Code<'_> {
    fn fetch(&mut self, offset: u32, block: &mut [u8]) -> bool {
        let at = self.base.wrapping_add(offset.into());
        self.client.read(at, block).is_ok()
    }
}

/// What a thread that runs CTAs reaches memory by. It outlives grids: most launches of a channel
/// look at the same pages.
struct Port {
    client: Client,
    pages: Pages,
}

/// The ports that nobody uses, as many at most as threads were at work at once.
struct Ports {
    memory: Arc<Memory>,
    idle: Mutex<Vec<Port>>,
}

impl Ports {
    fn new(memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            memory,
            idle: Mutex::default(),
        })
    }

    /// A port in the address space of an instance block.
    fn take(&self, instance: PhysAddr) -> Result<Port, BusError> {
        let idle = self.idle.lock().pop();
        let mut port = match idle {
            Some(port) if port.client.is_in(instance) => return Ok(port),
            Some(port) => port,
            None => Port {
                client: Client::new(self.memory.clone(), Privilege::User),
                pages: Pages::default(),
            },
        };
        port.pages = Pages::default();
        port.client.bind(instance)?;
        Ok(port)
    }

    fn give(&self, port: Port) {
        self.idle.lock().push(port);
    }
}

/// What the threads that run a grid have in common.
struct Run {
    ports: Arc<Ports>,
    compiler: Option<Arc<Compiler>>,
    env: Mutex<Arc<Environment>>,
    /// CTAs that were started.
    started: AtomicU64,
    ctas: u64,
    /// Stop: paused, or failed.
    stop: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// CTAs in flight while the grid is paused.
    suspended: Mutex<Vec<Cta>>,
    /// What was made for CTAs and is free, and how many were made. No more are than threads are at
    /// work at once.
    spare: Mutex<(Vec<Cta>, u64)>,
    helpers: Mutex<Helpers>,
    idle: Condvar,
    pace: Arc<Pace>,
}

/// The threads that help the one that runs a grid.
#[derive(Default)]
struct Helpers {
    /// Who comes now may help. Nobody waits for those who come late.
    wanted: bool,
    /// At work.
    busy: usize,
}

/// A grid that was launched: it may be run, paused, and run again on any thread.
pub struct Grid {
    run: Arc<Run>,
}

/// How a run of a grid ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All CTAs are done.
    Done,
    /// It was asked to pause; the grid can be run again.
    Paused,
    /// It is over. Others of its CTAs may have run in part.
    Failed(Failure),
}

/// The streaming multiprocessors: host threads, and programs decoded before.
pub struct Multiprocessors {
    ports: Arc<Ports>,
    pool: Pool,
    compiler: Option<Arc<Compiler>>,
    programs: Mutex<Vec<Cached>>,
    pace: Arc<Pace>,
}

/// A program with what it belongs to.
struct Cached {
    key: (u64, u64, u32, u32),
    program: Arc<Program>,
    code: Weak<Compiled>,
}

impl Cached {
    /// Instructions that it keeps.
    fn len(&self) -> usize {
        self.program.insts().len()
    }
}

impl Multiprocessors {
    /// Multiprocessors at a card's memory.
    pub fn new(memory: Arc<Memory>, engine: Engine) -> Self {
        let compiler = match engine {
            Engine::Interpreter => None,
            Engine::Jit { patience } => Compiler::new(patience).map(Arc::new),
        };
        Self {
            ports: Ports::new(memory),
            pool: Pool::new(),
            compiler,
            programs: Mutex::default(),
            pace: Arc::new(Pace::HOST),
        }
    }

    /// They take the time that `pace` says.
    pub(crate) fn at_pace(self, pace: Arc<Pace>) -> Self {
        Self { pace, ..self }
    }

    /// Prepares a grid.
    ///
    /// # Errors
    ///
    /// A CTA of it does not fit.
    pub fn launch(&self, launch: Launch) -> Result<Grid, LaunchError> {
        launch.check()?;
        let (program, code) = self.cached(&launch);
        let env = Environment {
            tids: tids(&launch),
            constants: Arc::new(Constants::new(&launch)),
            headers: Arc::default(),
            program,
            code,
            uniform: Vec::new(),
            launch: Arc::new(launch),
        };
        Ok(Grid {
            run: Arc::new(Run {
                ports: self.ports.clone(),
                compiler: self.compiler.clone(),
                ctas: env.launch.ctas(),
                env: Mutex::new(Arc::new(env)),
                started: AtomicU64::new(0),
                stop: AtomicBool::new(false),
                failure: Mutex::new(None),
                suspended: Mutex::default(),
                spare: Mutex::default(),
                helpers: Mutex::default(),
                idle: Condvar::new(),
                pace: self.pace.clone(),
            }),
        })
    }

    /// Runs a grid until it is done, fails, or `pause` asks for a pause.
    pub fn run(&self, grid: &mut Grid, pause: &Pause) -> Outcome {
        let run = &grid.run;
        if let Some(failure) = *run.failure.lock() {
            return Outcome::Failed(failure);
        }
        if let Err(failure) = run.prepare() {
            return Outcome::Failed(failure);
        }
        self.remember(&run.env.lock());
        run.stop.store(pause.asked(), Ordering::Relaxed);
        // The calling thread is one of those at work.
        let work = run.suspended.lock().len() as u64
            + (run.ctas - run.started.load(Ordering::Relaxed).min(run.ctas));
        // Each thread's CTA has local memory of its own.
        let threads = work.min(run.env.lock().launch.local_areas());
        let helpers = self.pool.helpers().min(threads.saturating_sub(1) as usize);
        let call = || {
            run.helpers.lock().wanted = true;
            for n in 0..helpers {
                let helper = run.clone();
                self.pool.spawn(n, move || helper.help(n as u32 + 1));
            }
        };
        let (begun, called) = (Instant::now(), Cell::new(helpers == 0));
        run.work(0, || {
            if !called.get() && begun.elapsed() >= WORTH_HELP {
                called.set(true);
                call();
            }
            pause.asked()
        });
        run.helpers.lock().wanted = false;
        backoff::spin(|| run.helpers.lock().busy == 0);
        let mut helpers = run.helpers.lock();
        while helpers.busy > 0 {
            if pause.asked() {
                run.stop.store(true, Ordering::Relaxed);
            }
            run.idle.wait_for(&mut helpers, LOOK);
        }
        drop(helpers);
        self.remember(&run.env.lock());
        if let Some(failure) = *run.failure.lock() {
            return Outcome::Failed(failure);
        }
        let done = run.started.load(Ordering::Relaxed) >= run.ctas;
        match done && run.suspended.lock().is_empty() {
            true => Outcome::Done,
            false => Outcome::Paused,
        }
    }

    fn key(launch: &Launch) -> (u64, u64, u32, u32) {
        let instance = u64::from(launch.instance.to_channel_word());
        (
            instance,
            launch.code_address,
            launch.start_id,
            launch.gpr_alloc,
        )
    }

    /// The program of a launch, if its code is what it was; else an empty one.
    fn cached(&self, launch: &Launch) -> (Arc<Program>, Option<Arc<Compiled>>) {
        let key = Self::key(launch);
        let new = || (Arc::new(Program::new(launch.gpr_alloc)), None);
        let mut programs = self.programs.lock();
        let Some(at) = programs.iter().position(|cached| cached.key == key) else {
            return new();
        };
        let current = self.ports.take(launch.instance).is_ok_and(|mut port| {
            let current = programs[at].program.is_current(&mut Code {
                client: &mut port.client,
                base: launch.code_address,
            });
            self.ports.give(port);
            current
        });
        match current {
            true => {
                let Cached { program, code, .. } = &programs[at];
                let compiler = self.compiler.as_ref();
                let code = compiler.and_then(|compiler| compiler.again(code));
                (program.clone(), code)
            }
            false => {
                programs.remove(at);
                new()
            }
        }
    }

    /// Keeps a program for the next launch.
    fn remember(&self, env: &Environment) {
        let key = Self::key(&env.launch);
        let mut programs = self.programs.lock();
        let code = env.code.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let known = programs.iter().position(|cached| cached.key == key);
        if let Some(at) = known {
            if programs[at].len() == env.program.insts().len() {
                programs[at].code = code;
                return;
            }
            programs.remove(at);
        }
        let program = env.program.clone();
        let mut kept: usize = programs.iter().map(Cached::len).sum();
        while !programs.is_empty()
            && (programs.len() >= PROGRAMS || kept + program.insts().len() > KEPT_INSTRUCTIONS)
        {
            kept -= programs.remove(0).len();
        }
        programs.push(Cached { key, program, code });
    }
}

impl Run {
    /// Decodes the entry and reads the constants.
    fn prepare(&self) -> Result<(), Failure> {
        let launch = self.env.lock().launch.clone();
        match self.ports.take(launch.instance) {
            Ok(mut port) => {
                let extended = self.extend(&mut port.client, launch.start_id);
                self.ports.give(port);
                extended?;
            }
            // Bound to nothing, every access faults.
            Err(_) => {
                let mut client = Client::new(self.ports.memory.clone(), Privilege::User);
                self.extend(&mut client, launch.start_id)?;
            }
        }
        Ok(())
    }

    /// The environment, with the code at a byte address decoded.
    fn extend(&self, client: &mut Client, address: u32) -> Result<Arc<Environment>, Failure> {
        let mut env = self.env.lock();
        let known = |program: &Program| {
            program
                .index(address)
                .is_some_and(|index| program.insts()[index as usize].exec != Exec::Missing)
        };
        if known(&env.program) && env.uniform.len() == env.program.uniforms().len() {
            return Ok(env.clone());
        }
        let base = env.launch.code_address;
        let mut program = env.program.clone();
        let mut code = env.code.clone().filter(|_| known(&program));
        let extended = match known(&program) {
            true => Ok(()),
            false => Arc::make_mut(&mut program).extend(address, &mut Code { client, base }),
        };
        let trap = |error| {
            Failure::Trap(super::launch::Trap {
                error,
                pc: address,
                code: program.code(address),
                cta: [0; 3],
                warp: 0,
                lanes: 0,
            })
        };
        extended.map_err(trap)?;
        if !known(&program) {
            // The access that failed, for its fault.
            let at = base.wrapping_add(address.into());
            client.read(at, &mut [0; 8])?;
        }
        if let (None, Some(compiler)) = (&code, &self.compiler) {
            code = compiler.code(&program);
        }
        let constants = env.constants.clone();
        let uniform = uniform_rows(program.uniforms(), |bank, offset| {
            constants.word(client, bank.into(), offset)
        })?;
        *env = Arc::new(Environment {
            launch: env.launch.clone(),
            tids: env.tids.clone(),
            constants,
            headers: env.headers.clone(),
            code,
            program,
            uniform,
        });
        Ok(env.clone())
    }

    /// Helps, unless the others are done without.
    fn help(&self, multiprocessor: u32) {
        {
            let mut helpers = self.helpers.lock();
            if !helpers.wanted {
                return;
            }
            helpers.busy += 1;
        }
        self.work(multiprocessor, || false);
        self.helpers.lock().busy -= 1;
        self.idle.notify_all();
    }

    /// Runs CTAs on the calling thread until there is none, or until somebody says stop.
    fn work(&self, multiprocessor: u32, asked: impl Fn() -> bool) {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(isa) = super::exec::Avx512::detect() {
                return self.work_with(isa, multiprocessor, asked);
            }
            if let Some(isa) = super::exec::Avx2::detect() {
                return self.work_with(isa, multiprocessor, asked);
            }
        }
        self.work_with(Baseline, multiprocessor, asked);
    }

    fn work_with<I: Isa>(&self, isa: I, multiprocessor: u32, asked: impl Fn() -> bool) {
        let instance = self.env.lock().launch.instance;
        // Without an address space, nothing was prepared.
        if let Ok(mut port) = self.ports.take(instance) {
            self.work_at(isa, multiprocessor, asked, &mut port);
            self.ports.give(port);
        }
    }

    fn work_at<I: Isa>(
        &self,
        isa: I,
        multiprocessor: u32,
        asked: impl Fn() -> bool,
        port: &mut Port,
    ) {
        let Port { client, pages } = port;
        let asked = || {
            if asked() {
                self.stop.store(true, Ordering::Relaxed);
            }
            self.stop.load(Ordering::Relaxed)
        };
        let mut env = self.env.lock().clone();
        while !asked() {
            let Some(mut cta) = self.next(&env, multiprocessor) else {
                return;
            };
            loop {
                if let (Some(compiler), Some(code)) = (&self.compiler, &env.code) {
                    compiler.prepare::<I>(code, &env.program);
                }
                let reach = Reach {
                    memory: &self.ports.memory,
                    client,
                    pages,
                };
                let before = cta.executed();
                let turn = cta.turn(isa, &mut env, reach, |client, at| self.extend(client, at));
                self.pace.executed(cta.executed() - before);
                match turn {
                    Ok(Turn::Done) => {
                        self.spare.lock().0.push(cta);
                        break;
                    }
                    Ok(Turn::More) => {}
                    Ok(Turn::Stuck) => std::thread::sleep(LOOK),
                    Err(failure) => {
                        // The first is the one that counts.
                        self.failure.lock().get_or_insert(failure);
                        self.stop.store(true, Ordering::Relaxed);
                        return;
                    }
                }
                if asked() {
                    self.suspended.lock().push(cta);
                    return;
                }
            }
        }
    }

    /// A CTA to go on with, or to start with.
    fn next(&self, env: &Environment, multiprocessor: u32) -> Option<Cta> {
        if let Some(cta) = self.suspended.lock().pop() {
            return Some(cta);
        }
        let launch = &env.launch;
        let n = self.started.fetch_add(1, Ordering::Relaxed);
        if n >= self.ctas {
            // Not past the end, lest it wraps.
            self.started.store(self.ctas, Ordering::Relaxed);
            return None;
        }
        let [x, y, _] = launch.grid.map(|n| u64::from(n & 0xffff));
        let id = [n % x, n / x % y, n / x / y].map(|n| n as u32);
        let mut cta = self.room(env);
        let read_first = env
            .code
            .as_ref()
            .map_or(u128::MAX, |code| code.read_first());
        let multiprocessor = multiprocessor % launch.multiprocessors.max(1);
        cta.start(launch, id, multiprocessor, read_first);
        Some(cta)
    }

    /// Room for a CTA.
    fn room(&self, env: &Environment) -> Cta {
        let (spare, made) = &mut *self.spare.lock();
        spare.pop().unwrap_or_else(|| {
            let local = env.launch.local_area(*made);
            *made += 1;
            Cta::new(&env.launch, env.program.rows(), local)
        })
    }
}

/// The numbers of the threads of each warp.
fn tids(launch: &Launch) -> Arc<[[Row; 4]]> {
    let [width, height, _] = launch.block;
    let warps = (launch.threads() as usize).div_ceil(LANES);
    (0..warps)
        .map(|warp| {
            let mut rows = [Row::ZERO; 4];
            for lane in 0..LANES {
                let n = (warp * LANES + lane) as u32;
                let [x, y, z] = [n % width, n / width % height, n / width / height];
                for (row, value) in rows.iter_mut().zip([x | y << 16 | z << 26, x, y, z]) {
                    row.0[lane] = value;
                }
            }
            rows
        })
        .collect()
}
