//! The GPU of a machine: a card of its own, or its share of one.

mod wires;

use std::fmt;
use std::io;
use std::sync::Arc;

use gf100::Card;
use gpu_model::VirtualGpu;
use thiserror::Error;

use crate::irq::Interrupts;
use crate::memory::GuestMemory;
use crate::pci::{FunctionDevice, PciDevice, SlotInterrupts};

pub use wires::Wires;

/// The GPU of a machine.
#[derive(Clone, Debug)]
pub enum GpuConfig {
    /// A software card of its own, of which the guest sees everything.
    Soft {
        /// Bytes of video memory.
        vram: u64,
    },
    /// A part of a card that others have parts of as well.
    Virtual(VirtualSlot),
}

/// A virtual GPU and the wires of its slot; both outlive the machine.
#[derive(Clone)]
pub struct VirtualSlot {
    /// The virtual GPU.
    pub vgpu: Arc<VirtualGpu>,
    /// What it interrupts through.
    pub wires: Arc<Wires>,
}

impl fmt::Debug for VirtualSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualSlot").field(&self.vgpu.vm()).finish()
    }
}

/// Why a machine gets no GPU.
#[derive(Debug, Error)]
pub enum GpuError {
    /// The software card cannot be built.
    #[error("Cannot build the card")]
    Card(#[from] gf100::Error),
    /// Its interrupts or the guest's memory cannot be connected.
    #[error("Cannot connect the GPU")]
    Connect(#[from] io::Error),
}

/// The GPU for `slot` of a machine with `memory`, powered on.
pub fn device(
    config: &GpuConfig,
    slot: u8,
    interrupts: &Arc<Interrupts>,
    memory: &GuestMemory,
) -> Result<Arc<dyn PciDevice>, GpuError> {
    let wires = SlotInterrupts::new(interrupts, slot)?;
    Ok(match config {
        GpuConfig::Soft { vram } => {
            let board = gf100::Config::quadro_6000(*vram);
            let card = Arc::new(Card::new(board, wires.clone())?);
            Arc::new(FunctionDevice::new(card, wires, memory)?)
        }
        GpuConfig::Virtual(shared) => {
            shared.wires.connect(&wires);
            Arc::new(FunctionDevice::new(shared.vgpu.clone(), wires, memory)?)
        }
    })
}
