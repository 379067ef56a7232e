//! The driver's thread: what the card reports, and what follows from it.
//!
//! Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_intr` and its callees, `nvkm/engine/gr/gf100.c
//! gf100_gr_intr`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use gf100::memory::FaultUnit;
use mmio::RegId;
use mmio::regs::pfifo::{self, PbdmaIntr};
use mmio::regs::{pgraph, pmc};

use crate::device::{Device, Line};

/// PGRAPH's engine number.
const GRAPHICS: u32 = 0;
/// How often it looks for submissions that take too long.
const TICK: Duration = Duration::from_millis(500);
/// A method that drivers emulate; what it sets has no effect on this card. Source: K61
/// `nvkm/engine/gr/gf100.c gf100_gr_mthd_sw`.
const SOFTWARE_METHOD: u32 = 0x1528;

/// Serves the card as long as it is there.
pub fn run(device: &Weak<Device>, line: &Arc<Line>) {
    let mut seen = 0;
    loop {
        line.events().wait(seen, TICK);
        seen = line.events().count();
        let Some(device) = device.upgrade() else {
            return;
        };
        serve(&device);
        end_overdue(&device);
    }
}

fn serve(device: &Device) {
    loop {
        let pending = pmc::Intr::from_bits_retain(device.read(pmc::INTR_HOST, 0));
        if pending.contains(pmc::Intr::PFIFO) {
            fifo(device);
        }
        if pending.contains(pmc::Intr::PGRAPH) {
            graphics(device);
        }
        if !pending.intersects(pmc::Intr::PFIFO | pmc::Intr::PGRAPH) {
            return;
        }
    }
}

fn fifo(device: &Device) {
    let pending = pfifo::Intr::from_bits_retain(device.read(pfifo::INTR, 0));
    if pending.contains(pfifo::Intr::ENGINE) {
        device.fence_passed();
    }
    if pending.contains(pfifo::Intr::VM_FAULT) {
        for unit in bits(device.read(pfifo::VM_FAULT_SOURCE, 0)) {
            fault(device, unit);
        }
    }
    if pending.contains(pfifo::Intr::PBDMA) {
        for unit in bits(device.read(pfifo::PBDMA_INTR_SOURCE, 0)) {
            pbdma(device, unit);
        }
    }
    if pending.contains(pfifo::Intr::RUNLIST) {
        let causes = device.read(pfifo::INTR_RUNLIST, 0);
        device.write(pfifo::INTR_RUNLIST, 0, causes);
    }
    device.write(pfifo::INTR, 0, pending.bits());
}

/// The MMU could not translate.
fn fault(device: &Device, unit: u32) {
    let [instance, low, high, kind] = [
        pfifo::VM_FAULT_INST,
        pfifo::VM_FAULT_ADDR_LOW,
        pfifo::VM_FAULT_ADDR_HIGH,
        pfifo::VM_FAULT_TYPE,
    ]
    .map(|register| device.read(register, unit));
    let acknowledge = || device.write(pfifo::VM_FAULT_SOURCE, 0, 1 << unit);
    let Some(channel) = device.channel_at(instance) else {
        return acknowledge();
    };
    let engine = match unit {
        unit if unit == FaultUnit::Ce0 as u32 => Some(4),
        unit if unit == FaultUnit::Ce1 as u32 => Some(5),
        unit if unit == FaultUnit::Pgraph as u32 => Some(GRAPHICS),
        _ => None,
    };
    let what = if kind & 1 << 7 == 0 { "read" } else { "write" };
    let address = u64::from(high) << 32 | u64::from(low);
    let reason = match kind & 0xf {
        0 => "no page table",
        2 => "no page",
        3 => "beyond the address space",
        6 => "read-only page",
        _ => "no access",
    };
    let why = format!("{what} at {address:#x} by unit {unit:#x} faulted: {reason} ({kind:#010x})");
    device.kill(&channel, engine, &why, acknowledge);
}

/// A PBDMA stopped.
fn pbdma(device: &Device, unit: u32) {
    let pending = PbdmaIntr::from_bits_retain(device.read(pfifo::PBDMA_INTR, unit));
    let address = device.read(pfifo::PBDMA_CACHE_ADDR, unit);
    let data = device.read(pfifo::PBDMA_CACHE_DATA, unit);
    if pending != PbdmaIntr::SW_MTHD {
        let chid = device.read(pfifo::PBDMA_CH, unit) & 0x7f;
        let why = format!(
            "its commands are wrong: {pending:?}, method {:#06x} of subchannel {}, data {data:#x}",
            address & 0x3ffc,
            address >> 16 & 7,
        );
        let channels = device.channels();
        if let Some(channel) = channels.iter().find(|channel| channel.chid() == chid) {
            return device.kill(channel, None, &why, || device.skip_method(unit));
        }
    }
    device.skip_method(unit);
}

/// PGRAPH reports something.
fn graphics(device: &Device) {
    let pending = pgraph::Intr::from_bits_retain(device.read(pgraph::INTR, 0));
    let address = device.read(pgraph::TRAPPED_ADDR, 0);
    let data = device.read(pgraph::TRAPPED_DATA, 0);
    let acknowledge = || {
        device.write(pgraph::INTR, 0, pending.bits());
        let pull = pgraph::FifoControl::PULL | pgraph::FifoControl::UNK16;
        device.write(pgraph::FIFO_CONTROL, 0, pull.bits());
    };
    let (method, subchannel) = (address & 0x3ffc, address >> 16 & 7);
    let class = device.read(pgraph::SUBCHANNEL_CLASS, subchannel) & 0xffff;
    let errors = pgraph::Intr::ILLEGAL_MTHD
        | pgraph::Intr::ILLEGAL_CLASS
        | pgraph::Intr::DATA_ERROR
        | pgraph::Intr::TRAP
        | pgraph::Intr::CTXCTL_UP;
    let emulated = pending == pgraph::Intr::ILLEGAL_MTHD && method == SOFTWARE_METHOD;
    if pending.intersects(errors) && !emulated {
        let mut why =
            format!("PGRAPH: {pending:?}, class {class:#x} method {method:#06x} data {data:#x}");
        if pending.contains(pgraph::Intr::DATA_ERROR) {
            why += &format!(", error {:#x}", device.read(pgraph::DATA_ERROR, 0));
        }
        if pending.contains(pgraph::Intr::TRAP) {
            why += &traps(device);
        }
        let current = device.read(pgraph::FECS_CHAN, 0);
        if let Some(channel) = device.channel_at(current) {
            return device.kill(&channel, Some(GRAPHICS), &why, acknowledge);
        }
    }
    acknowledge();
}

/// What PGRAPH's units trapped on.
fn traps(device: &Device) -> String {
    use pgraph::tpc;
    let mut text = String::new();
    let units = pgraph::Trap::from_bits_retain(device.read(pgraph::TRAP, 0));
    for (unit, register) in [
        (pgraph::Trap::DISPATCH, pgraph::DISPATCH_TRAP),
        (pgraph::Trap::M2MF, pgraph::M2MF_TRAP),
        (pgraph::Trap::MACRO, pgraph::MACRO_TRAP),
    ] {
        if units.contains(unit) {
            text += &format!(", {unit:?} {:#x}", device.read(register, 0));
        }
    }
    if units.contains(pgraph::Trap::GPC) {
        for gpc in bits(device.read(pgraph::TRAP_GPCS, 0)) {
            for tpc in bits(device.read(pgraph::GPC_TRAP, gpc) >> pgraph::GPC_TRAP_TPC_SHIFT) {
                let register = RegId(tpc::offset(gpc, tpc, tpc::MP_WARP_ERROR));
                let error = device.read(register, 0);
                text += &format!(
                    ", SM {gpc}.{tpc} warp {}: {}",
                    error >> 16,
                    warp_error(error & 0xffff)
                );
            }
        }
    }
    text
}

/// Source: K61 `nvkm/engine/gr/gf100.c gf100_mp_warp_error`.
fn warp_error(code: u32) -> String {
    match code {
        0x01 => "stack error".into(),
        0x03 => "return from an empty stack".into(),
        0x05 => "misaligned program counter".into(),
        0x06 => "program counter overflow".into(),
        0x08 => "misaligned register".into(),
        0x09 => "illegal instruction".into(),
        0x0b => "illegal operand".into(),
        0x0d => "register out of range".into(),
        0x0e => "address out of range".into(),
        0x0f => "misaligned address".into(),
        0x10 => "invalid address space".into(),
        other => format!("error {other:#x}"),
    }
}

/// Kills channels whose submissions take too long.
fn end_overdue(device: &Device) {
    let Some(limit) = device.settings().timeout else {
        return;
    };
    for channel in device.channels() {
        if channel.stuck_for() > limit {
            let why = format!("a submission takes longer than {} s", limit.as_secs());
            device.kill(&channel, Some(GRAPHICS), &why, || ());
        }
    }
}

/// The numbers of the bits that are set.
fn bits(word: u32) -> impl Iterator<Item = u32> {
    (0..u32::BITS).filter(move |bit| word & 1 << bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_that_are_set() {
        assert_eq!(bits(0x8000_0005).collect::<Vec<_>>(), [0, 2, 31]);
    }
}
