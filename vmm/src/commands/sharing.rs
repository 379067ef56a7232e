//! How `run` and `serve` share a card: the options, and what they lead to.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use gf100::Config;
use gpu_model::{Algorithm, BARS, Host, Layout, Limits, Slot, VRAM_UNIT, VirtualGpu};

use crate::size::Size;
use crate::soft_card::SoftCard;

/// Video memory for the shadow tables of each virtual GPU.
const TABLES: u64 = 64 << 20;

/// How shadow tables follow a guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sync {
    /// Everything, word by word, at every flush: as GPUvm was published.
    Naive,
    /// Everything, in blocks.
    Bulk,
    /// What differs from the last time.
    Incremental,
}

/// Options of a shared card.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Video memory of each GPU; only what is touched costs memory of the host.
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub vram: Size,

    /// How shadow page tables follow the guest's.
    #[arg(long, value_enum, default_value = "incremental")]
    sync: Sync,

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
        let limits = Limits {
            hang: Duration::from_millis(self.hang_ms),
        };
        let algorithm = match self.sync {
            Sync::Naive => Algorithm::Naive,
            Sync::Bulk => Algorithm::Bulk,
            Sync::Incremental => Algorithm::Incremental,
        };
        Host::new(card, layout, limits, algorithm, slots).context("Cannot share the card")
    }
}

/// Writes what `vgpu` has cost to `out`.
///
/// # Errors
///
/// Those of `out`.
pub fn write_counters(vgpu: &VirtualGpu, out: &mut impl Write) -> io::Result<()> {
    let counters = vgpu.counters();
    writeln!(out, "{}:", vgpu.vm())?;
    for (n, bar) in BARS.iter().enumerate() {
        writeln!(
            out,
            "  {bar:?}: {} reads, {} writes, {} bytes",
            counters.reads[n].load(Ordering::Relaxed),
            counters.writes[n].load(Ordering::Relaxed),
            counters.bytes[n].load(Ordering::Relaxed),
        )?;
    }
    for (what, counter) in [
        ("stores refused", &counters.refused),
        ("TLB flushes", &counters.flushes),
        ("syncs", &counters.syncs),
        ("entries scanned", &counters.entries_scanned),
        ("entries written", &counters.entries_written),
        ("entries rejected", &counters.entries_rejected),
        ("events", &counters.events),
        ("faults", &counters.faults),
    ] {
        writeln!(out, "  {what}: {}", counter.load(Ordering::Relaxed))?;
    }
    writeln!(out, "  interrupt messages: {}", vgpu.messages())?;
    for (chid, doorbells) in counters.doorbells.iter().enumerate() {
        let doorbells = doorbells.load(Ordering::Relaxed);
        if doorbells != 0 {
            writeln!(out, "  channel {chid}: {doorbells} doorbells")?;
        }
    }
    Ok(())
}
