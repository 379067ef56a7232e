//! How `run` and `serve` share a card: the options, and what they lead to.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gf100::Config;
use gpu_model::{Host, Layout, Limits, Optimisations, Settings, Slot, VRAM_UNIT, VirtualGpu};

use crate::size::Size;
use crate::soft_card::SoftCard;

/// Video memory for the shadow tables of each virtual GPU.
const TABLES: u64 = 64 << 20;

/// Options of a shared card.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Video memory of each GPU; only what is touched costs memory of the host.
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub vram: Size,

    /// Optimisations: none (as GPUvm was published), paper, all, or names of some.
    #[arg(
        long,
        value_name = "NAME,…",
        default_value = "lazy-shadow,incremental,bulk"
    )]
    opt: Optimisations,

    /// Kill a channel that blocks others for so many milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    hang_ms: u64,
}

impl Options {
    /// A new software card, shared between the machines in `slots`.
    ///
    /// # Errors
    ///
    /// The card cannot be shared like that, or the host does not carry it.
    pub fn share_soft(&self, slots: Vec<Arc<dyn Slot>>) -> anyhow::Result<Host> {
        let each = self.vram.bytes();
        let vgpus = u16::try_from(slots.len()).context("Too many virtual GPUs")?;
        let vram = Layout::vram_for(vgpus, each, TABLES).next_multiple_of(6 * VRAM_UNIT);
        let layout = Layout::new(vgpus, each, vram).context("The card cannot be shared so")?;
        let config = Config::quadro_6000(vram);
        let card = Arc::new(SoftCard::new(config).context("Cannot build the card")?);
        let settings = Settings {
            limits: Limits {
                hang: Duration::from_millis(self.hang_ms),
            },
            optimisations: self.opt,
            ..Settings::default()
        };
        Host::new(card, layout, settings, slots).context("Cannot share the card")
    }
}

/// Writes what `vgpu` has cost to `out`.
///
/// # Errors
///
/// Those of `out`.
pub fn write_counters(vgpu: &VirtualGpu, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}:", vgpu.vm())?;
    for counter in vgpu.counters() {
        write!(out, "  {}", counter.name)?;
        if let Some((bar, range)) = counter.range {
            write!(out, " {bar:?} {range}")?;
        }
        if let Some(channel) = counter.channel {
            write!(out, " channel {channel}")?;
        }
        if let Some(engine) = counter.engine {
            write!(out, " {engine}")?;
        }
        writeln!(out, ": {}", counter.value)?;
    }
    Ok(())
}
