//! The GPU of a machine: a card of its own, or its share of one.

mod mapper;
mod passthrough;
mod poller;
mod tenancy;
mod wires;

use std::fmt;
use std::io;
use std::sync::Arc;

use gpu_model::{Card, Scheduled, VirtualGpu};
use mmio::bring_up::Recorder;
use mmio::trace::Observer;
use thiserror::Error;

use crate::control::GpuStatus;
use crate::irq::Interrupts;
use crate::memory::GuestMemory;
use crate::memory_slots::MemorySlots;
use crate::metrics::Metrics;
use crate::pci::{FunctionDevice, PciDevice, SlotInterrupts};
use crate::vfio::{self, Address, Device};
use crate::vfio_user::{Function, Observed};
use crate::vm::VmOps;
use mapper::{VideoMemory, WhileThere};
use passthrough::WholeCard;

pub use mapper::SlotMapper;
pub use poller::Poller;
pub use tenancy::Tenancy;
pub use wires::Wires;

/// The GPU of a machine.
#[derive(Clone, Debug)]
pub enum GpuConfig {
    /// A card of its own, of which the guest sees everything.
    Whole(WholeConfig),
    /// A part of a card that others have parts of as well.
    Virtual(VirtualSlot),
}

impl GpuConfig {
    /// What the machine has of a shared card.
    pub fn status(&self) -> Option<GpuStatus> {
        match self {
            Self::Virtual(slot) => Some(slot.tenancy().status()),
            Self::Whole(_) => None,
        }
    }
}

/// A whole card.
#[derive(Clone)]
pub struct WholeConfig {
    /// Where it comes from.
    pub source: WholeSource,
    /// Keeps what the guest's driver stores to bring it up, if somebody wants to know that.
    pub recorder: Option<Arc<Recorder>>,
}

impl fmt::Debug for WholeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WholeConfig").field(&self.source).finish()
    }
}

impl WholeConfig {
    /// `function` as the guest has it.
    fn watch<F: Function>(&self, function: F) -> Observed<F> {
        let recorder = self.recorder.clone();
        let observers = recorder.map(|recorder| recorder as Arc<dyn Observer>);
        Observed::registers_of(function, observers.into_iter().collect())
    }
}

/// Where a whole card comes from.
#[derive(Clone, Debug)]
pub enum WholeSource {
    /// A software card of the machine's own.
    Soft(gf100::Config),
    /// A card on the bus.
    Vfio(Address),
}

/// A card whose video memory may be in this process.
pub trait HostCard: Card {
    /// Where `len` bytes of video memory at `address` are in this process, as long as the card is
    /// there; `None` unless all are in one piece.
    fn host_address(&self, address: u64, len: u64) -> Option<u64>;
}

/// A virtual GPU and the wires of its slot; both outlive the machine.
#[derive(Clone)]
pub struct VirtualSlot {
    /// The virtual GPU.
    pub vgpu: Arc<VirtualGpu>,
    /// The card that it is a part of.
    pub card: Arc<dyn HostCard>,
    /// What it interrupts through.
    pub wires: Arc<Wires>,
    /// What decides when the card works for it, if anything does.
    pub scheduler: Option<Arc<Scheduled>>,
}

impl fmt::Debug for VirtualSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualSlot").field(&self.vgpu.vm()).finish()
    }
}

impl VirtualSlot {
    /// The machine's part of the card, as its operator sees it.
    pub fn tenancy(&self) -> Tenancy {
        Tenancy {
            vgpu: self.vgpu.clone(),
            scheduler: self.scheduler.clone(),
        }
    }
}

/// Why a machine gets no GPU.
#[derive(Debug, Error)]
pub enum GpuError {
    /// The software card cannot be built.
    #[error("Cannot build the card")]
    Card(#[from] gf100::Error),
    /// The card on the bus cannot be had.
    #[error(transparent)]
    Vfio(#[from] vfio::Error),
    /// Its interrupts or the guest's memory cannot be connected.
    #[error("Cannot connect the GPU")]
    Connect(#[from] io::Error),
}

/// What of a machine its GPU is connected to.
pub struct Board<'a> {
    /// The hypervisor.
    pub vm: Arc<dyn VmOps>,
    /// Numbers its memory slots.
    pub memory_slots: Arc<MemorySlots>,
    /// Its interrupts.
    pub interrupts: &'a Arc<Interrupts>,
    /// Its RAM.
    pub memory: &'a GuestMemory,
    /// Its counters.
    pub metrics: &'a Metrics,
}

impl Board<'_> {
    fn mapper(&self, memory: VideoMemory, log_stores: bool) -> Arc<SlotMapper> {
        SlotMapper::new(
            Arc::clone(&self.vm),
            Arc::clone(&self.memory_slots),
            memory,
            log_stores,
            self.metrics,
        )
    }
}

/// The GPU for `slot` of a machine, powered on.
pub fn device(
    config: &GpuConfig,
    slot: u8,
    board: &Board<'_>,
) -> Result<Arc<dyn PciDevice>, GpuError> {
    let wires = SlotInterrupts::new(board.interrupts, slot)?;
    Ok(match config {
        GpuConfig::Whole(whole) => whole_device(whole, wires, board)?,
        GpuConfig::Virtual(shared) => {
            shared.wires.connect(&wires);
            let vgpu = shared.vgpu.clone();
            let card = shared.card.clone();
            let log_stores = vgpu.tracking().needs_log();
            let memory: VideoMemory = Box::new(move |at, len| card.host_address(at, len));
            let mapper = board.mapper(memory, log_stores);
            let device = FunctionDevice::new(vgpu, wires, board.memory, Some(mapper.clone()))?;
            let mapper = WhileThere(Arc::downgrade(&mapper));
            shared.vgpu.set_mapper(Some(Arc::new(mapper)));
            Arc::new(device)
        }
    })
}

/// The device of a guest that has a whole card.
fn whole_device(
    whole: &WholeConfig,
    wires: Arc<SlotInterrupts>,
    board: &Board<'_>,
) -> Result<Arc<dyn PciDevice>, GpuError> {
    let memory = board.memory;
    Ok(match &whole.source {
        WholeSource::Soft(config) => {
            let card = Arc::new(gf100::Card::new(config.clone(), wires.clone())?);
            let video = card.clone();
            let slots: VideoMemory = Box::new(move |at, len| {
                let len = usize::try_from(len).ok()?;
                let at = video.memory().vram().host_ptr(at, len)?;
                Some(at.addr().get() as u64)
            });
            let mapper = board.mapper(slots, false);
            let card = whole.watch(WholeCard::new(card, mapper.clone())?);
            Arc::new(FunctionDevice::new(card, wires, memory, Some(mapper))?)
        }
        WholeSource::Vfio(address) => {
            let card = Device::open(address)?;
            card.enable_message(wires.message_event())?;
            let card = whole.watch(card);
            Arc::new(FunctionDevice::new(card, wires, memory, None)?)
        }
    })
}
