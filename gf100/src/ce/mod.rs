//! PCE: the two copy engines. Each is a falcon whose firmware is in every driver; the card does what
//! that firmware does without executing it.
//!
//! The state of the class is what the firmware keeps in its data segment, and a context in memory
//! is the image of that; a copy that was paused is part of the image, so a context is complete.

mod copy;
mod methods;
mod remap;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use mmio::layout::instance;
use mmio::regs::falcon::{self, offset};
use mmio::regs::{pce, pmc};
use mmio::{FalconPorts, Hit};
use parking_lot::Mutex;

use self::copy::{End, Job, Scratch};
use self::methods::{Action, CONTEXT_SIZE, Exec, INDICES, Refusal, STATE_WORDS, State};
use crate::block::Block;
use crate::engine::{ChannelRef, Engine, EngineId, Method, Pause, Stop, Waker};
use crate::memory::{
    Access, Client, Fault, FaultClient, FaultReason, FaultReport, FaultUnit, HubClient, Privilege,
};
use crate::pace::Pace;
use crate::shared::Shared;

/// CHANNEL_CUR: there is a channel.
const CHANNEL_VALID: u32 = 1 << 30;
/// Context words behind the state that hold a paused copy: a mark, the argument of EXEC, progress.
const JOB: usize = STATE_WORDS + 1;
/// The mark.
const JOB_PAUSED: u32 = 0x4a4f_4231;

/// A copy engine.
pub struct CopyEngine {
    shared: Arc<Shared>,
    /// 0 or 1.
    number: u32,
    falcon: Mutex<FalconPorts>,
    interrupts: Mutex<Interrupts>,
    /// The firmware is up: without it nobody takes methods.
    runs: AtomicBool,
    /// The firmware waits for an acknowledgement.
    waiting: AtomicBool,
    waker: OnceLock<Waker>,
    /// Counts resets.
    resets: AtomicU64,
    execution: Mutex<Execution>,
    pace: Pace,
}

#[derive(Debug, Default)]
struct Interrupts {
    pending: pce::Intr,
    enabled: u32,
}

/// What only the owner of the engine touches.
struct Execution {
    /// The resets that it knows of.
    resets: u64,
    channel: Option<ChannelRef>,
    client: Client,
    state: State,
    job: Option<Job>,
    scratch: Scratch,
}

impl CopyEngine {
    /// Copy engine `number` of a card.
    pub fn new(shared: Arc<Shared>, number: u32) -> Self {
        let execution = Execution {
            resets: 0,
            channel: None,
            client: Client::new(shared.memory.clone(), Privilege::User),
            state: State::default(),
            job: None,
            scratch: Scratch::default(),
        };
        let pace = shared.config.pace();
        let engine = Self {
            shared,
            number: number & 1,
            falcon: Mutex::default(),
            interrupts: Mutex::default(),
            runs: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            waker: OnceLock::new(),
            resets: AtomicU64::new(0),
            execution: Mutex::new(execution),
            pace,
        };
        engine.power_on();
        engine
    }

    fn base(&self) -> u32 {
        falcon::CE0 + falcon::SIZE * self.number
    }

    fn power_on(&self) {
        let file = &self.shared.registers;
        for at in (0..falcon::SIZE).step_by(4) {
            file.write(self.base() + at, 0);
        }
        file.write(self.base() + offset::UC_CAPS, pce::UC_CAPS_VALUE);
        file.write(self.base() + offset::UC_CAPS2, pce::UC_CAPS2_VALUE);
    }

    /// Changes the interrupts and brings the line to PMC up to date.
    fn change(&self, change: impl FnOnce(&mut Interrupts)) {
        let mut interrupts = self.interrupts.lock();
        change(&mut interrupts);
        let waiting = interrupts.pending.contains(pce::Intr::DISPATCH_ERROR);
        let was = self.waiting.swap(waiting, Ordering::AcqRel);
        let routes = self
            .shared
            .registers
            .read(self.base() + offset::INTR_DISPATCH);
        let host = routes & !(routes >> 16);
        let level = interrupts.pending.bits() & interrupts.enabled & host != 0;
        let line = match self.number {
            0 => pmc::Intr::CE0,
            _ => pmc::Intr::CE1,
        };
        self.shared.interrupts.set(line, level);
        drop(interrupts);
        if was && !waiting {
            self.wake();
        }
    }

    /// Tells PFIFO that methods may be taken again.
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// The firmware comes up, if it is there.
    fn start(&self) {
        let entry = self.shared.registers.read(self.base() + offset::UC_ENTRY);
        if !self.shared.config.falcons.run(&self.falcon.lock(), entry) {
            return;
        }
        // What it does first.
        self.shared.registers.write(
            self.base() + offset::INTR_DISPATCH,
            pce::INTR_DISPATCH_VALUE,
        );
        self.change(|interrupts| interrupts.enabled |= pce::INTR_EN_VALUE);
        self.runs.store(true, Ordering::Release);
        self.wake();
    }

    /// The firmware reports a method that it cannot execute, and waits.
    fn refuse(&self, method: Method, refusal: Refusal) -> Stop {
        let code = match refusal {
            Refusal::IllegalMethod => pce::ERROR_ILLEGAL_MTHD,
            Refusal::InvalidBitfield => pce::ERROR_INVALID_BITFIELD,
        };
        let index = u32::from(method.address / 4 % INDICES);
        let address = u32::from(method.subchannel) << 11 | index;
        let file = &self.shared.registers;
        let at = falcon::SIZE * self.number;
        file.write(pce::DISPATCH_ERROR.offset() + at, address << 16 | code);
        file.write(pce::DISPATCH_DATA.offset() + at, method.data);
        self.change(|interrupts| interrupts.pending |= pce::Intr::DISPATCH_ERROR);
        Stop::Trapped
    }

    fn fault(&self, channel: Option<ChannelRef>, fault: Fault) -> Stop {
        let (unit, client) = match self.number {
            0 => (FaultUnit::Ce0, HubClient::Ce0),
            _ => (FaultUnit::Ce1, HubClient::Ce1),
        };
        Stop::Fault(FaultReport {
            unit,
            client: FaultClient::Hub(client),
            instance: channel.map(|channel| channel.instance),
            fault,
        })
    }

    /// The execution state, as new if there was a reset.
    fn execution(&self) -> parking_lot::MutexGuard<'_, Execution> {
        let mut execution = self.execution.lock();
        let resets = self.resets.load(Ordering::Acquire);
        if execution.resets != resets {
            execution.resets = resets;
            execution.leave();
        }
        execution
    }

    fn show_channel(&self, channel: Option<ChannelRef>) {
        let word = channel.map_or(0, |channel| {
            channel.instance.to_channel_word() | CHANNEL_VALID
        });
        self.shared
            .registers
            .write(self.base() + offset::CHANNEL_CUR, word);
    }

    /// Goes on with the copy at hand.
    fn run(&self, execution: &mut Execution, pause: &Pause) -> Result<(), Stop> {
        let channel = execution.channel;
        let Execution {
            resets,
            client,
            state,
            job,
            scratch,
            ..
        } = execution;
        let Some(work) = job else { return Ok(()) };
        let exec = work.exec;
        let pause = || pause.asked() || self.resets.load(Ordering::Acquire) != *resets;
        self.pace.begin();
        let end = work.run(state, client, scratch, &pause, &self.pace);
        self.pace.end();
        if matches!(end, Ok(End::Paused)) {
            return Err(Stop::Paused);
        }
        *job = None;
        end.map_err(|fault| self.fault(channel, fault))?;
        if exec.contains(Exec::QUERY) {
            copy::query(state, client, exec, self.shared.clock.now())
                .map_err(|fault| self.fault(channel, fault))?;
        }
        Ok(())
    }

    /// Where the context of `channel` is in its address space.
    fn context_address(&self, channel: ChannelRef) -> Result<u64, Fault> {
        let at = match self.number {
            0 => instance::CE0_CONTEXT,
            _ => instance::CE1_CONTEXT,
        };
        let pointer: u64 = self
            .shared
            .memory
            .load(channel.instance.offset(at))
            .map_err(|_| Fault {
                reason: FaultReason::NoChannel,
                va: 0,
                access: Access::Read,
            })?;
        Ok(pointer & 0xff_ffff_ff00)
    }

    /// Stores the context of the current channel.
    fn store(&self, execution: &mut Execution) -> Result<(), Fault> {
        let Some(channel) = execution.channel else {
            return Ok(());
        };
        let at = self.context_address(channel)?;
        execution.client.write(at, &execution.image())
    }
}

impl Execution {
    /// No channel is current.
    fn leave(&mut self) {
        self.channel = None;
        self.client.unbind();
        self.state = State::default();
        self.job = None;
    }

    /// The context in memory.
    fn image(&self) -> [u8; CONTEXT_SIZE] {
        let mut words = [0; CONTEXT_SIZE / 4];
        words[..STATE_WORDS].copy_from_slice(&self.state.0);
        if let Some(job) = self.job {
            let done = [job.done as u32, (job.done >> 32) as u32];
            words[JOB..JOB + 4].copy_from_slice(&[JOB_PAUSED, job.exec.bits(), done[0], done[1]]);
        }
        let mut image = [0; CONTEXT_SIZE];
        for (bytes, word) in image.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        image
    }

    fn set_image(&mut self, image: &[u8; CONTEXT_SIZE]) {
        let mut words = [0; CONTEXT_SIZE / 4];
        for (word, bytes) in words.iter_mut().zip(image.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        self.state = State::restored(&words[..STATE_WORDS]);
        self.job = (words[JOB] == JOB_PAUSED).then(|| Job {
            exec: Exec::from_bits_retain(words[JOB + 1]),
            done: u64::from(words[JOB + 3]) << 32 | u64::from(words[JOB + 2]),
        });
    }
}

impl Engine for CopyEngine {
    fn id(&self) -> EngineId {
        match self.number {
            0 => EngineId::Copy0,
            _ => EngineId::Copy1,
        }
    }

    fn connect(&self, waker: Waker) {
        // There is one PFIFO.
        let _ = self.waker.set(waker);
    }

    fn switch_to(&self, channel: ChannelRef) -> Result<(), Stop> {
        let mut execution = self.execution();
        if execution.channel == Some(channel) {
            return Ok(());
        }
        let old = execution.channel;
        let stored = self.store(&mut execution);
        execution.leave();
        self.show_channel(None);
        stored.map_err(|fault| self.fault(old, fault))?;
        let mut image = [0; CONTEXT_SIZE];
        let Ok(()) = execution.client.bind(channel.instance) else {
            let nowhere = Fault {
                reason: FaultReason::NoChannel,
                va: 0,
                access: Access::Read,
            };
            return Err(self.fault(Some(channel), nowhere));
        };
        self.context_address(channel)
            .and_then(|at| execution.client.read(at, &mut image))
            .map_err(|fault| self.fault(Some(channel), fault))?;
        execution.channel = Some(channel);
        execution.set_image(&image);
        self.show_channel(Some(channel));
        Ok(())
    }

    fn evict(&self, channel: ChannelRef) -> Result<(), Stop> {
        let mut execution = self.execution();
        if execution.channel != Some(channel) {
            return Ok(());
        }
        let stored = self.store(&mut execution);
        execution.leave();
        self.show_channel(None);
        stored.map_err(|fault| self.fault(Some(channel), fault))
    }

    fn discard(&self, channel: ChannelRef) {
        let mut execution = self.execution();
        if execution.channel == Some(channel) {
            execution.leave();
            self.show_channel(None);
        }
    }

    fn method(&self, method: Method, pause: &Pause) -> Result<(), Stop> {
        let mut execution = self.execution();
        match methods::decode(method.address / 4, method.data) {
            Ok(Action::Store(word)) => execution.state.set(word, method.data),
            Ok(Action::Nothing) => {}
            Ok(Action::Execute) => {
                let exec = Exec::from_bits_retain(method.data);
                let job = Job::begin(&mut execution.state, exec);
                execution.job = Some(job);
                return self.run(&mut execution, pause);
            }
            Err(refusal) => return Err(self.refuse(method, refusal)),
        }
        Ok(())
    }

    fn resume(&self, pause: &Pause) -> Result<(), Stop> {
        let mut execution = self.execution();
        self.run(&mut execution, pause)
    }

    fn stalled(&self) -> bool {
        self.waiting.load(Ordering::Acquire) || !self.runs.load(Ordering::Acquire)
    }
}

impl Block for CopyEngine {
    fn read(&self, at: Hit) -> Option<u32> {
        let place = at.register.offset_of(at.index) - self.base();
        match place {
            offset::INTR => Some(self.interrupts.lock().pending.bits()),
            _ => self.falcon.lock().read(place),
        }
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        let register = at.register.offset_of(at.index);
        let place = register - self.base();
        let bits = pce::Intr::from_bits_retain(value);
        match place {
            offset::INTR_SET => self.change(|interrupts| interrupts.pending |= bits),
            offset::INTR_ACK => self.change(|interrupts| interrupts.pending -= bits),
            offset::INTR_EN_SET => self.change(|interrupts| interrupts.enabled |= value),
            offset::INTR_EN_CLR => self.change(|interrupts| interrupts.enabled &= !value),
            offset::INTR_DISPATCH => {
                self.shared.registers.write(register, value);
                self.change(|_| ());
            }
            offset::UC_CTRL if value & falcon::START != 0 => {
                self.start();
                return false;
            }
            _ => return self.falcon.lock().write(place, value),
        }
        true
    }

    fn reset(&self) {
        *self.falcon.lock() = FalconPorts::default();
        self.runs.store(false, Ordering::Release);
        self.power_on();
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.change(|interrupts| *interrupts = Interrupts::default());
    }
}

/// Both engines behind BAR0.
pub struct Pce(pub [Arc<CopyEngine>; 2]);

impl Pce {
    fn engine(&self, at: Hit) -> &CopyEngine {
        let place = at.register.offset_of(at.index) - falcon::CE0;
        &self.0[(place / falcon::SIZE) as usize & 1]
    }
}

impl Block for Pce {
    fn read(&self, at: Hit) -> Option<u32> {
        self.engine(at).read(at)
    }

    fn write(&self, at: Hit, value: u32) -> bool {
        self.engine(at).write(at, value)
    }

    fn reset(&self) {
        self.0.iter().for_each(|engine| engine.reset());
    }
}
