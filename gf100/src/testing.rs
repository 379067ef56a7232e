//! What unit tests of several units need.

use std::sync::Arc;

use crate::bus::NoInterrupts;
use crate::clock::Clock;
use crate::config::{Config, Falcons};
use crate::interrupts::Interrupts;
use crate::memory::Memory;
use crate::register_file::RegisterFile;
use crate::shared::Shared;

/// The commons of a card with 64 MiB of memory and firmware that nobody listens to.
pub fn shared() -> Arc<Shared> {
    shared_with(Falcons::Resident)
}

/// Likewise, with what is said in the falcons.
pub fn shared_with(falcons: Falcons) -> Arc<Shared> {
    let config = Config {
        falcons,
        ..Config::quadro_6000(64 << 20)
    };
    Arc::new(Shared {
        registers: RegisterFile::new(config.bar0),
        memory: Memory::new(config.vram).expect("64 MiB of sparse memory"),
        interrupts: Interrupts::new(Arc::new(NoInterrupts)),
        clock: Clock::new(),
        config,
    })
}
