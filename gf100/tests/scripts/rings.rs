//! Whatever a guest writes into rings, methods, RAMFC and PFIFO's registers.
//!
//! Each step is an operation byte and its operands. Nothing may panic; afterwards, once everything
//! that waits for software has had its answer, every channel can be kicked off, and a PFIFO that is
//! reset serves a new channel.

#[path = "../rig/mod.rs"]
mod rig;

use std::time::{Duration, Instant};

use mmio::RegId;
use mmio::layout::instance;
use mmio::layout::pushbuffer::IbEntry;
use mmio::regs::pmc::Enable;
use mmio::regs::{pfifo, pgraph};

use self::rig::{Channel, DATA_VA, Rig, bind_copy, semaphore};
use super::Bytes;

/// Registers that a script may store to.
const REGISTERS: [RegId; 16] = [
    pfifo::KICK,
    pfifo::ENG_FREEZE,
    pfifo::ENG_FAULT,
    pfifo::FREEZE,
    pfifo::CTRL,
    pfifo::CHSW_TIMEOUT,
    pfifo::RUNLIST_WR_LEN,
    pfifo::CHAN,
    pfifo::CHAN_STATE,
    pfifo::VM_FAULT_INJECT,
    pfifo::PBDMA_INTR,
    pfifo::PBDMA_CACHE_ADDR,
    pfifo::VM_FAULT_SOURCE,
    pfifo::BAR1_BASE,
    pfifo::ENG_TIMEOUT,
    pfifo::ENG_PBDMA_MASK,
];
/// Acknowledgements of the copy engines' falcons.
const FALCON_ACK: [u64; 2] = [0x104004, 0x105004];
/// How long a card may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `script` on three channels of a card.
pub fn run(script: &[u8]) {
    let mut rig = Rig::new();
    let mut channels: Vec<_> = (0..3).map(|chid| rig.channel(chid)).collect();
    for (n, channel) in channels.iter_mut().enumerate() {
        channel.push(&rig, &bind_copy(4, n as u32 % 2));
    }
    let mut script = Bytes(script);
    while step(&mut rig, &mut channels, &mut script).is_some() {}
    come_to_rest(&rig);
    rig.reset_unit(Enable::PFIFO);
    rig.start();
    rig.set_runlist(&[]);
    let mut channel = rig.channel(5);
    channel.run(&rig, &semaphore(0x40, 1, 0x0100_0002));
}

fn step(rig: &mut Rig, channels: &mut [Channel], script: &mut Bytes<'_>) -> Option<()> {
    let operation = script.u8()?;
    let channel = &mut channels[usize::from(operation >> 4) % 3];
    match operation & 0xf {
        // Methods for the copy engine, or whatever the words are.
        0..=5 => {
            let count = script.u8()? % 32;
            let words: Option<Vec<u32>> = (0..count).map(|_| script.u32()).collect();
            channel.push(rig, &words?);
        }
        // A command with small arguments.
        6..=8 => {
            let address = u16::from(script.u8()?) * 4;
            let mut words = rig::incr(script.u8()? & 7, address, &[]);
            let count = u32::from(script.u8()? % 8);
            words[0] |= count << 16;
            for _ in 0..count {
                words.push(script.u16()?.into());
            }
            channel.push(rig, &words);
        }
        9 => channel.submit(rig, IbEntry(script.u64()?)),
        10 => {
            let entry = IbEntry::new(DATA_VA + u64::from(script.u32()?) * 4, script.u16()?.into());
            channel.submit(rig, entry);
        }
        11 => channel.ring(rig, script.u8()?.into()),
        12 => {
            let at = u64::from(script.u8()?) * 4 % instance::RAMFC_SIZE;
            let value = script.u32()?;
            let vram = rig.card.memory().vram();
            vram.store(channel.instance().address + at, value);
        }
        13 => rig.store(u64::from(script.u16()?) * 4, script.u32()?),
        14 => {
            let register = REGISTERS[usize::from(script.u8()?) % REGISTERS.len()];
            let index = u32::from(script.u8()?) % register.describe()?.count.min(4);
            rig.write(register, index, script.u32()?);
        }
        _ => answer(rig),
    }
    Some(())
}

/// Does what a driver does about interrupts.
fn answer(rig: &Rig) {
    for unit in 0..3 {
        if rig.read(pfifo::PBDMA_INTR, unit) != 0 {
            rig.acknowledge_pbdma(unit);
        }
    }
    for at in FALCON_ACK {
        rig.card.write(mmio::Bar::Bar0, at, &0x40u32.to_le_bytes());
    }
    rig.write(pgraph::INTR, 0, !0);
    rig.write(pgraph::FIFO_CONTROL, 0, 0x0001_0001);
    rig.write(pfifo::VM_FAULT_SOURCE, 0, !0);
}

/// Kicks every channel off.
fn come_to_rest(rig: &Rig) {
    rig.write(pfifo::FREEZE, 0, 0);
    rig.write(pfifo::ENG_FREEZE, 0, 0);
    for chid in 0..4 {
        rig.write(pfifo::KICK, 0, chid);
        let begin = Instant::now();
        while rig.read(pfifo::KICK, 0) & pfifo::KICK_PENDING != 0 {
            assert!(begin.elapsed() < PATIENCE, "channel {chid} stays");
            answer(rig);
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}
