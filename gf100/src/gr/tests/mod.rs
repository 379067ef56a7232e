//! PGRAPH as a driver and PFIFO see it.

mod bring_up;
mod compute;
mod copies;
mod macros;
mod pixels;
mod streams;
mod traps;

use mmio::layout::instance::GR_CONTEXT;
use mmio::regs::pgraph::{Intr, Trap};
use mmio::regs::{falcon, pmc};
use proptest::prelude::*;

use super::bits::macro_error;
use super::*;
use crate::memory::{FaultClient, FaultReason, HubClient, PhysAddr, Tables};
use crate::testing;

/// Where a channel's context is in its address space, and where the memory behind it is.
const CONTEXT: u64 = 0x10_0000;
const CONTEXT_VRAM: u64 = 0x80_0000;
/// Where user data is in the address space, and where the memory behind it is: 1 MiB.
const DATA: u64 = 0x4000_0000;
const DATA_VRAM: u64 = 0x100_0000;
const MIB: u64 = 1 << 20;

const M2MF: u32 = 0x9039;
const THREED: u32 = 0x9097;
const COMPUTE: u32 = 0x90c0;

struct Rig {
    shared: Arc<Shared>,
    pgraph: Pgraph,
    pause: Pause,
}

impl Rig {
    /// A PGRAPH that takes methods.
    fn new() -> Self {
        Self::with(testing::shared())
    }

    fn with(shared: Arc<Shared>) -> Self {
        let rig = Self {
            pgraph: Pgraph::new(shared.clone()),
            shared,
            pause: Pause::default(),
        };
        rig.write(0x400500, 0x0001_0001);
        rig.write(0x40013c, u32::MAX);
        rig
    }

    fn read(&self, offset: u32) -> u32 {
        RegisterMap::gf100()
            .lookup(offset)
            .and_then(|at| self.pgraph.read(at))
            .unwrap_or_else(|| self.shared.registers.read(offset))
    }

    fn write(&self, offset: u32, value: u32) {
        let at = RegisterMap::gf100().lookup(offset);
        match at {
            Some(at) if self.pgraph.write(at, value) => {}
            Some(at) if at.register.kind == mmio::Kind::W1c => {
                self.shared.registers.clear(offset, value);
            }
            _ => self.shared.registers.write(offset, value),
        }
    }

    /// A channel with a context and a megabyte of data, all apart from other channels.
    fn channel(&self, chid: u8) -> ChannelRef {
        let apart = u64::from(chid) * 2 * MIB;
        let mut tables = Tables::new(self.shared.memory.clone(), 0x20_0000 + apart);
        let context = CONTEXT_VRAM + u64::from(chid) * MIB;
        tables.map(CONTEXT, PhysAddr::vram(context), MIB / 2, false);
        tables.map(DATA, PhysAddr::vram(DATA_VRAM + apart), MIB, true);
        let pointer = tables.instance().offset(GR_CONTEXT);
        self.shared.memory.store(pointer, CONTEXT | 4).unwrap();
        ChannelRef {
            chid,
            instance: tables.instance(),
        }
    }

    /// Video memory behind `DATA` of a channel.
    fn data(&self, channel: ChannelRef, offset: u64) -> u32 {
        let apart = u64::from(channel.chid) * 2 * MIB;
        self.shared.memory.vram().load(DATA_VRAM + apart + offset)
    }

    fn set_data(&self, channel: ChannelRef, offset: u64, value: u32) {
        let apart = u64::from(channel.chid) * 2 * MIB;
        self.shared
            .memory
            .vram()
            .store(DATA_VRAM + apart + offset, value);
    }

    fn method(&self, subchannel: u8, address: u16, data: u32) -> Result<(), Stop> {
        let method = Method {
            subchannel,
            address,
            data,
        };
        self.pgraph.method(method, &self.pause)
    }

    /// Consecutive methods, none of which stops.
    fn methods(&self, subchannel: u8, first: u16, data: &[u32]) {
        for (address, &data) in (first..).step_by(4).zip(data) {
            self.method(subchannel, address, data).unwrap();
        }
    }

    /// A current channel with M2MF on subchannel 2 and 3D on 0.
    fn current(&self) -> ChannelRef {
        self.write(0x409100, 2);
        let channel = self.channel(1);
        self.pgraph.switch_to(channel).unwrap();
        self.method(2, 0, M2MF).unwrap();
        self.method(0, 0, THREED).unwrap();
        channel
    }

    fn interrupts(&self) -> Intr {
        Intr::from_bits_retain(self.read(0x400100))
    }

    /// What the driver's handler does at its end.
    fn acknowledge(&self, what: Intr) {
        self.write(0x400100, what.bits());
        self.write(0x400500, 0x0001_0001);
    }

    /// The register traffic by which nouveau builds the first context of all, on `channel`.
    fn golden_context(&self, channel: ChannelRef) {
        self.write(0x409100, 2);
        self.write(0x404170, 0x12);
        assert_eq!(self.read(0x404170) & 0x10, 0);
        self.write(0x409614, 0x70);
        self.write(0x409840, 0x8000_0000);
        self.write(0x409500, 1 << 31 | channel.instance.to_channel_word());
        self.write(0x409504, 1);
        assert_ne!(self.read(0x409800) & 1 << 31, 0);
        assert_ne!(self.read(0x409b00) & 1 << 31, 0);
        self.write(0x40448c, 0x1234);
        self.write(0x404488, 1 << 31 | THREED | 0x0d94 << 14);
        self.write(0x40448c, 0x5678);
        self.write(0x404488, 1 << 31 | COMPUTE | 0x0758 << 14);
        self.write(0x409b04, self.read(0x409b04) & !(1 << 31));
        self.write(0x409000, 0x100);
        assert_eq!(self.read(0x409b00) & 1 << 31, 0);
    }
}

/// Loads `code` as macro 0 of the current channel.
fn load_macro(rig: &Rig, code: &[u32]) {
    rig.method(0, 0x114, 0).unwrap();
    for &word in code {
        rig.method(0, 0x118, word).unwrap();
    }
    rig.methods(0, 0x11c, &[0, 0]);
}
