//! FECS and GPCCS: the context switcher, with its firmware's effect instead of its firmware.
//!
//! A driver builds the first context of all by hand: it makes a channel current, sets registers,
//! executes methods from the host side and has the result saved. That happens on a context of its
//! own here, apart from the one that PFIFO's channels use, so that registers never wait for a
//! running method. Source: K61 `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate`,
//! `nvkm/engine/gr/fuc/hub.fuc`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mmio::FalconPorts;
use mmio::regs::{falcon, pgraph};
use parking_lot::Mutex;

use super::bits::fecs_error;
use super::classes::Class;
use super::context::{self, Context, Firmware, RegisterWrite};
use super::front::Front;
use crate::memory::{BusError, Client, Memory, PhysAddr, Privilege};
use crate::shared::Shared;

/// Bits of `FECS_SCRATCH[0]`.
mod ready {
    pub use mmio::regs::pgraph::FECS_READY as BUILT_IN;

    /// NVIDIA's firmware is ready, or has done a command.
    pub const EXTERNAL: u32 = 1 << 0;
    /// NVIDIA's firmware has bound a channel.
    pub const BOUND: u32 = 1 << 4;
}

/// Commands of NVIDIA's firmware.
///
/// Source: K612 `nvkm/engine/gr/gf100.c gf100_gr_fecs_*`.
mod external {
    pub const BIND_POINTER: u32 = 0x03;
    pub const HALT_PIPELINE: u32 = 0x04;
    pub const WFI_GOLDEN_SAVE: u32 = 0x09;
    pub const DISCOVER_IMAGE_SIZE: u32 = 0x10;
    pub const DISCOVER_ZCULL_IMAGE_SIZE: u32 = 0x16;
    pub const SET_WATCHDOG_TIMEOUT: u32 = 0x21;
    pub const DISCOVER_PM_IMAGE_SIZE: u32 = 0x25;
    pub const DISCOVER_REGLIST_IMAGE_SIZE: u32 = 0x30;
    pub const SET_REGLIST_BIND_INSTANCE: u32 = 0x31;
    pub const SET_REGLIST_VIRTUAL_ADDRESS: u32 = 0x32;
    pub const STOP_CTXSW: u32 = 0x38;
    pub const START_CTXSW: u32 = 0x39;
}

/// Bytes of images that this card has nothing to put into.
const EMPTY_IMAGE: u32 = 0x100;

/// The context switcher.
pub struct Fecs {
    shared: Arc<Shared>,
    front: Arc<Front>,
    hub: Mutex<FalconPorts>,
    gpc: Mutex<FalconPorts>,
    /// The firmware is up.
    runs: AtomicBool,
    state: Mutex<State>,
}

/// The context that the driver builds.
struct State {
    context: Context,
    client: Client,
    /// A command or a switch made a channel current.
    bound: bool,
    firmware: Firmware,
}

impl Fecs {
    /// The context switcher of a card.
    pub fn new(shared: Arc<Shared>, front: Arc<Front>) -> Self {
        let state = State {
            context: Context::new(),
            client: Client::new(shared.memory.clone(), Privilege::System),
            bound: false,
            firmware: Firmware::BuiltIn,
        };
        Self {
            shared,
            front,
            hub: Mutex::default(),
            gpc: Mutex::default(),
            runs: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Which firmware's headers contexts have.
    pub fn firmware(&self) -> Firmware {
        self.state.lock().firmware
    }

    /// Whether the firmware is up: without it nobody switches contexts.
    pub fn runs(&self) -> bool {
        self.runs.load(Ordering::Acquire)
    }

    /// A load of a falcon's register; `None` if it holds what is in the register file.
    pub fn read(&self, offset: u32) -> Option<u32> {
        match offset {
            falcon::GPCCS.. => self.gpc.lock().read(offset - falcon::GPCCS),
            _ => self.hub.lock().read(offset - falcon::FECS),
        }
    }

    /// A store to a falcon's register; `false` if the register file is to take it.
    pub fn write(&self, offset: u32, value: u32) -> bool {
        if offset >= falcon::GPCCS {
            return self.gpc.lock().write(offset - falcon::GPCCS, value);
        }
        match offset - falcon::FECS {
            falcon::offset::UC_CTRL if value & falcon::START != 0 => self.start(),
            falcon::offset::INTR_SET if value & falcon::CHANNEL_SWITCH != 0 => self.switch(),
            offset => return self.hub.lock().write(offset, value),
        }
        true
    }

    fn set_scratch(&self, index: u32, value: u32) {
        let offset = pgraph::FECS_SCRATCH.offset() + 4 * index;
        self.shared.registers.write(offset, value);
    }

    fn signal(&self, bits: u32) {
        let scratch = pgraph::FECS_SCRATCH.offset();
        self.shared.registers.set(scratch, bits);
    }

    /// The firmware comes up, if it is there: the hub's starts that of the clusters at 0, and waits
    /// for it. Which firmware it is shows later, so it announces itself as both.
    ///
    /// Source: K61 `nvkm/engine/gr/fuc/hub.fuc init_gpc`.
    fn start(&self) {
        let entry = self
            .shared
            .registers
            .read(falcon::FECS + falcon::offset::UC_ENTRY);
        let falcons = self.shared.config.falcons;
        if !falcons.run(&self.hub.lock(), entry) || !falcons.run(&self.gpc.lock(), 0) {
            return;
        }
        self.runs.store(true, Ordering::Release);
        self.set_scratch(1, context::SIZE);
        self.signal(ready::BUILT_IN | ready::EXTERNAL);
    }

    /// The driver gives a command.
    pub fn command(&self, command: u32) {
        if !self.runs() {
            return;
        }
        let data = self.shared.registers.read(pgraph::FECS_WRCMD_DATA.offset());
        match command {
            pgraph::FECS_SET_CHANNEL => {
                self.set_channel(data, Firmware::BuiltIn);
                self.signal(ready::BUILT_IN);
            }
            pgraph::FECS_SAVE => {
                self.save();
                self.signal(ready::BUILT_IN);
            }
            external::BIND_POINTER => {
                self.set_channel(data, Firmware::External);
                self.signal(ready::BOUND);
            }
            external::WFI_GOLDEN_SAVE => {
                self.save();
                self.signal(ready::EXTERNAL);
            }
            external::DISCOVER_IMAGE_SIZE => {
                self.state.lock().firmware = Firmware::External;
                self.set_scratch(0, context::SIZE);
            }
            external::DISCOVER_ZCULL_IMAGE_SIZE
            | external::DISCOVER_PM_IMAGE_SIZE
            | external::DISCOVER_REGLIST_IMAGE_SIZE => self.set_scratch(0, EMPTY_IMAGE),
            external::SET_REGLIST_BIND_INSTANCE | external::SET_REGLIST_VIRTUAL_ADDRESS => {
                self.set_scratch(0, 1);
            }
            external::STOP_CTXSW | external::START_CTXSW | external::HALT_PIPELINE => {
                self.set_scratch(1, 1);
            }
            external::SET_WATCHDOG_TIMEOUT => {}
            _ => self
                .front
                .firmware_error(command << 16 | fecs_error::BAD_COMMAND),
        }
    }

    /// Makes a channel current; its context stays as it is.
    fn set_channel(&self, word: u32, firmware: Firmware) {
        let mut state = self.state.lock();
        state.firmware = firmware;
        let registers = &self.shared.registers;
        registers.write(pgraph::FECS_CHAN.offset(), word | pgraph::FECS_CHAN_VALID);
        registers.write(
            pgraph::FECS_CHAN_NEXT.offset(),
            word | pgraph::FECS_CHAN_VALID,
        );
        state.bound = state.bind(word).is_ok();
    }

    /// Saves the context that was built, if one is current.
    fn save(&self) {
        let mut state = self.state.lock();
        if state.bound {
            let State {
                context, client, ..
            } = &mut *state;
            if let Some(at) = address(&self.shared.memory, client.instance()) {
                // A driver that unmapped the context finds nothing there.
                let _ = context.save(client, at);
            }
        }
    }

    /// A context switch that the driver asked for: away from the current channel, to the next one.
    fn switch(&self) {
        if !self.runs() {
            return;
        }
        let registers = &self.shared.registers;
        let current = registers.read(pgraph::FECS_CHAN.offset());
        let next = registers.read(pgraph::FECS_CHAN_NEXT.offset());
        if current & pgraph::FECS_CHAN_VALID != 0 {
            self.save();
        }
        let mut state = self.state.lock();
        state.bound = false;
        if next & pgraph::FECS_CHAN_VALID != 0 && state.bind(next).is_ok() {
            state.bound = true;
            let State {
                context,
                client,
                firmware,
                ..
            } = &mut *state;
            let loaded = address(&self.shared.memory, client.instance())
                .and_then(|at| context.load(client, at, *firmware).ok());
            set_registers(&self.shared, &loaded.unwrap_or_default());
        }
        registers.write(pgraph::FECS_CHAN.offset(), next);
    }

    /// Executes a method from the host side: it changes the state of the context being built.
    pub fn host_method(&self, class: u32, address: u16, data: u32) {
        if let Some(class) = Class::from_id(class) {
            self.state.lock().context.set(class, address, data);
        }
    }

    /// Back to power-on state.
    pub fn reset(&self) {
        self.runs.store(false, Ordering::Release);
        *self.hub.lock() = FalconPorts::default();
        *self.gpc.lock() = FalconPorts::default();
        let mut state = self.state.lock();
        state.context = Context::new();
        state.client.unbind();
        state.bound = false;
        state.firmware = Firmware::BuiltIn;
    }
}

impl State {
    /// Enters the address space of the channel that a channel register names.
    fn bind(&mut self, word: u32) -> Result<(), BusError> {
        let page = u64::from(word & 0x0fff_ffff);
        self.client.bind(PhysAddr::vram(page << 12))
    }
}

/// Where the context of a channel is; `None` if its instance block cannot be read.
pub fn address(memory: &Memory, instance: Option<PhysAddr>) -> Option<u64> {
    use mmio::layout::instance::GR_CONTEXT;
    let word: u64 = memory.load(instance?.offset(GR_CONTEXT)).ok()?;
    Some(word & 0xff_ffff_ff00)
}

/// Sets the registers that a context's list names. Those that do something are not a context's.
pub fn set_registers(shared: &Shared, writes: &[RegisterWrite]) {
    let map = mmio::RegisterMap::gf100();
    for &(offset, value) in writes {
        if PGRAPH.contains(&offset) && map.lookup(offset).is_none() {
            shared.registers.write(offset, value);
        }
    }
}

/// The registers of the unit.
const PGRAPH: std::ops::Range<u32> = 0x40_0000..0x60_0000;
