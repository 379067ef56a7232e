//! What may differ from board to board.

use std::time::Duration;

use mmio::FalconPorts;

use crate::pace::Pace;
use crate::sm::Engine;

/// A board.
#[derive(Clone, Debug)]
pub struct Config {
    /// PCI device id; the vendor is always NVIDIA.
    pub device_id: u16,
    /// Bytes of video memory, a multiple of 1 MiB per memory partition.
    pub vram: u64,
    /// Bytes of BAR0, a power of two of at least 16 MiB.
    pub bar0: u64,
    /// Bytes of BAR1, a power of two.
    pub bar1: u64,
    /// Bytes of BAR3, a power of two.
    pub bar3: u64,
    /// Texture processing clusters (one SM each) of every graphics processing cluster.
    pub tpcs: Vec<u32>,
    /// Memory partitions.
    pub partitions: u32,
    /// How programs are executed.
    pub engine: Engine,
    /// What its falcons have after power-on and reset.
    pub falcons: Falcons,
    /// What a read costs on the bus, for experiments.
    pub pcie_read: Duration,
    /// What a posted write costs on the bus, for experiments.
    pub pcie_write: Duration,
    /// Engines take at least so many times as long as those of a Quadro 6000, for experiments; 0: as
    /// long as the host takes.
    pub slow_motion: u32,
}

/// What the memories of the falcons have after power-on and reset: FECS, GPCCS, the copy engines and
/// PMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Falcons {
    /// Nothing, as in hardware: one that is started does nothing until a driver has loaded firmware.
    Empty,
    /// Firmware: to start one is all that it takes. For owners that have none to load.
    Resident,
}

impl Falcons {
    /// Whether a falcon that starts at `entry` of its code has any there.
    pub(crate) fn run(self, memories: &FalconPorts, entry: u32) -> bool {
        self == Self::Resident || memories.has_code_at(entry)
    }
}

impl Config {
    /// A Quadro 6000 with `vram` bytes of memory. The board has 6 GiB on six partitions; a size
    /// that six cannot share evenly is spread over fewer.
    pub fn quadro_6000(vram: u64) -> Self {
        let partitions = (1..=6)
            .rev()
            .find(|n| vram.is_multiple_of(u64::from(*n) << 20));
        Self {
            device_id: 0x06d8,
            vram,
            bar0: 32 << 20,
            bar1: 128 << 20,
            bar3: 64 << 20,
            tpcs: vec![4, 4, 3, 3],
            partitions: partitions.unwrap_or(1),
            engine: Engine::JIT,
            falcons: Falcons::Empty,
            pcie_read: Duration::ZERO,
            pcie_write: Duration::ZERO,
            slow_motion: 0,
        }
    }

    /// How fast an engine goes.
    pub(crate) fn pace(&self) -> Pace {
        Pace::new(self.slow_motion, self.tpcs.iter().sum())
    }

    /// Says what is wrong with the board.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the first rule that is broken.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (bar, size, least) in [
            (0, self.bar0, 16 << 20),
            (1, self.bar1, 64 << 20),
            (3, self.bar3, 16 << 20),
        ] {
            if !size.is_power_of_two() || size < least || size > 1 << 32 {
                return Err(ConfigError::Bar { bar, size });
            }
        }
        if self.partitions == 0 || self.partitions > 8 {
            return Err(ConfigError::Partitions(self.partitions));
        }
        let granule = u64::from(self.partitions) << 20;
        if self.vram < 64 << 20 || self.vram > 64 << 30 || !self.vram.is_multiple_of(granule) {
            return Err(ConfigError::Vram {
                size: self.vram,
                granule,
            });
        }
        if self.tpcs.is_empty()
            || self.tpcs.len() > 8
            || self.tpcs.iter().any(|&tpcs| tpcs == 0 || tpcs > 4)
        {
            return Err(ConfigError::Tpcs(self.tpcs.clone()));
        }
        Ok(())
    }
}

/// A board that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A BAR's size.
    #[error("BAR{bar} of {size:#x} bytes: a power of two up to 4 GiB is needed")]
    Bar {
        /// Its slot.
        bar: u8,
        /// Bytes asked for.
        size: u64,
    },
    /// The number of memory partitions.
    #[error("{0} memory partitions: 1 to 8 are possible")]
    Partitions(u32),
    /// The size of video memory.
    #[error(
        "{size:#x} bytes of video memory: 64 MiB to 64 GiB in steps of {granule:#x} are possible"
    )]
    Vram {
        /// Bytes asked for.
        size: u64,
        /// What it must be a multiple of.
        granule: u64,
    },
    /// The processing clusters.
    #[error("Processing clusters {0:?}: 1 to 8 clusters of 1 to 4 are possible")]
    Tpcs(Vec<u32>),
}
