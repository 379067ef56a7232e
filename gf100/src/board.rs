//! What straps, fuses and memory controllers say of the board; and the units that only store:
//! cache, sensors, clocks, private ring.

use std::sync::Arc;

use mmio::Hit;
use mmio::regs::{board, pfb};

use crate::block::Block;
use crate::shared::Shared;

/// The units that describe the board and do nothing else.
pub struct Board {
    shared: Arc<Shared>,
}

impl Board {
    /// Writes the board's description to its registers.
    pub fn new(shared: Arc<Shared>) -> Self {
        let board = Self { shared };
        board.describe();
        board
    }

    fn describe(&self) {
        let config = &self.shared.config;
        let file = &self.shared.registers;
        let partition = (config.vram >> 20) as u32 / config.partitions;
        file.write(board::FBP_COUNT.offset(), config.partitions);
        file.write(board::GPC_COUNT.offset(), config.tpcs.len() as u32);
        file.write(
            board::TPC_COUNT.offset(),
            config.tpcs.iter().copied().max().unwrap_or(0),
        );
        file.write(pfb::PARTITION_SIZE_ALL.offset(), partition);
        for offset in pfb::PARTITION_SIZE
            .elements()
            .take(config.partitions as usize)
        {
            file.write(offset, partition);
        }
    }
}

impl Block for Board {
    fn read(&self, _at: Hit) -> Option<u32> {
        None
    }

    fn write(&self, _at: Hit, _value: u32) -> bool {
        false
    }

    fn reset(&self) {
        self.describe();
    }
}
