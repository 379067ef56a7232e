//! The attacks.

use std::ops::Range;

use mmio::layout::instance;
use mmio::layout::pagetable::{Aperture, ENTRY_SIZE, Pde, Pte, TablePointer};
use mmio::layout::pushbuffer::{Header, Mode};
use mmio::layout::userd;
use mmio::regs::falcon::{self, offset};
use mmio::regs::{PRAMIN, PROM, pbus, pfb, pfifo, pgraph, pmc, ppci};
use mmio::{Bar, RegisterMap};

use super::Case;
use super::rig::{
    BAR1, CHANNEL, DIRECTORY, RESULT, RUNLIST, Rig, TABLE, USERD, VA_RESULT, VA_RING, VA_TARGET,
    VA_USERD, Verdict,
};

/// All attacks.
pub const CASES: &[Case] = &[
    Case {
        name: "pramin-beyond",
        run: pramin_beyond,
    },
    Case {
        name: "bars-beyond",
        run: bars_beyond,
    },
    Case {
        name: "foreign-vram",
        run: foreign_vram,
    },
    Case {
        name: "foreign-ram",
        run: foreign_ram,
    },
    Case {
        name: "foreign-large-pages",
        run: foreign_large_pages,
    },
    Case {
        name: "foreign-tables",
        run: foreign_tables,
    },
    Case {
        name: "foreign-directory",
        run: foreign_directory,
    },
    Case {
        name: "foreign-instance",
        run: foreign_instance,
    },
    Case {
        name: "mirrored-writes",
        run: mirrored_writes,
    },
    Case {
        name: "forged-userd",
        run: forged_userd,
    },
    Case {
        name: "foreign-channels",
        run: foreign_channels,
    },
    Case {
        name: "foreign-runlist",
        run: foreign_runlist,
    },
    Case {
        name: "context-addresses",
        run: context_addresses,
    },
    Case {
        name: "engine-resets",
        run: engine_resets,
    },
    Case {
        name: "all-registers",
        run: all_registers,
    },
    Case {
        name: "endless-channel",
        run: endless_channel,
    },
    Case {
        name: "unanswered-interrupts",
        run: unanswered_interrupts,
    },
    Case {
        name: "doorbell-storm",
        run: doorbell_storm,
    },
    Case {
        name: "flush-storm",
        run: flush_storm,
    },
];

/// Last page of a 40-bit address space.
const LAST_PAGE: u64 = 0xff_ffff_f000;
/// A method of PFIFO's own that there is not.
const ILLEGAL_METHOD: u16 = 0xf8;
/// What an attack would leave where it must not.
const BAD: u32 = 0xbad0_bad0;

/// Pages of the card's video memory that are not this machine's.
fn foreign_pages(rig: &Rig<'_>) -> [u64; 6] {
    let own = rig.vram();
    [
        own,
        own + RESULT,
        2 * own - 0x1000,
        3 * own,
        8 * own,
        LAST_PAGE,
    ]
}

/// Guest-physical pages that no machine here has: a hole for devices, what other machines have on
/// the card's bus, the end.
const NO_RAM: [u64; 6] = [
    0xe000_0000,
    1 << 36,
    (1 << 36) + 0x8000,
    2 << 36,
    0x30_0000_0000,
    LAST_PAGE,
];

fn ensure(true_: bool, what: impl FnOnce() -> String) -> Verdict {
    match true_ {
        true => Ok(()),
        false => Err(what()),
    }
}

/// PRAMIN shows nothing beyond the machine's own memory.
fn pramin_beyond(rig: &mut Rig<'_>) -> Verdict {
    for page in foreign_pages(rig) {
        for address in [page, page + 0xffc] {
            rig.poke(address, BAD);
            let seen = rig.peek(address);
            ensure(seen == u32::MAX, || {
                format!("PRAMIN shows {seen:#x} at {address:#x}")
            })?;
        }
    }
    // The target bits of the window, and all others.
    for window in [0x0200_0000, 0x0300_0000, u32::MAX] {
        rig.set(pbus::BAR0_WINDOW, window);
        let seen = rig.load(PRAMIN.start);
        ensure(seen == u32::MAX, || {
            format!("A window at {window:#x} shows {seen:#x}")
        })?;
    }
    rig.recovers()
}

/// Nor do BAR1 and BAR3, without and with tables.
fn bars_beyond(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    rig.set(pbus::BAR1_BLOCK, 0);
    rig.set(pbus::BAR2_BLOCK, 0);
    for bar in [Bar::Bar1, Bar::Bar3] {
        if rig.vram() < 64 << 20 {
            rig.bar_store(bar, rig.vram(), BAD);
            let seen = rig.bar_load(bar, rig.vram());
            ensure(seen == u32::MAX, || format!("{bar:?} shows {seen:#x}"))?;
        }
    }
    for (register, bar) in [(pbus::BAR1_BLOCK, Bar::Bar1), (pbus::BAR2_BLOCK, Bar::Bar3)] {
        rig.set(register, 1 << 31 | (BAR1 >> 12) as u32);
        let pages = foreign_pages(rig).map(|page| Pte::new(Aperture::Vram, page));
        let holes = NO_RAM.map(|page| Pte::new(Aperture::SysCoherent, page));
        for pte in pages.into_iter().chain(holes) {
            rig.map(VA_TARGET, pte);
            rig.flush();
            rig.bar_store(bar, VA_TARGET, BAD);
            let seen = rig.bar_load(bar, VA_TARGET);
            ensure(seen == u32::MAX, || {
                format!("{bar:?} shows {seen:#x} by {:#x}", pte.0)
            })?;
        }
        let foreign = rig.vram() >> 12;
        for block in [foreign as u32, 0x0fff_ffff, 0x2000_0000, 0x3000_0010] {
            rig.set(register, 1 << 31 | block);
            let seen = rig.bar_load(bar, VA_RESULT);
            ensure(seen == u32::MAX, || {
                format!("{bar:?} shows {seen:#x} by {block:#x}")
            })?;
        }
    }
    rig.recovers()
}

/// The channel cannot store to, or load from, where `pte` leads.
fn no_way(rig: &mut Rig<'_>, pte: Pte) -> Verdict {
    let with_entry = |reason: String| format!("{reason} (entry {:#x})", pte.0);
    for store in [true, false] {
        rig.start()?;
        rig.map(VA_TARGET, pte);
        rig.flush();
        match store {
            true => rig.release(VA_TARGET, BAD),
            false => rig.acquire(VA_TARGET, 0),
        }
        rig.faulted().map_err(with_entry)?;
    }
    Ok(())
}

/// Page tables do not lead to video memory of others.
fn foreign_vram(rig: &mut Rig<'_>) -> Verdict {
    for page in foreign_pages(rig) {
        no_way(rig, Pte::new(Aperture::Vram, page))?;
    }
    rig.recovers()
}

/// Page tables do not lead to RAM of others.
fn foreign_ram(rig: &mut Rig<'_>) -> Verdict {
    for page in NO_RAM {
        no_way(rig, Pte::new(Aperture::SysCoherent, page))?;
        no_way(rig, Pte::new(Aperture::SysNonCoherent, page))?;
    }
    // The target that means nothing.
    no_way(rig, Pte(1 | 1 << 33))?;
    rig.recovers()
}

/// Large pages of neither size lead to memory of others, also while the size changes.
fn foreign_large_pages(rig: &mut Rig<'_>) -> Verdict {
    let vram = foreign_pages(rig).map(|page| Pte::new(Aperture::Vram, page));
    let ram = NO_RAM.map(|page| Pte::new(Aperture::SysCoherent, page));
    for pte in vram.into_iter().chain(ram) {
        for (control, va) in [(0, 1 << 27), (pfb::LARGE_64K, 1 << 26)] {
            rig.start()?;
            rig.map_large(0, pte);
            rig.set(pfb::MMU_CTRL, control);
            rig.works()?;
            rig.release(va, BAD);
            rig.faulted()?;
        }
    }
    rig.poke_wide(DIRECTORY + ENTRY_SIZE, 0);
    rig.set(pfb::MMU_CTRL, 0);
    rig.recovers()
}

/// The directory does not lead to tables that others wrote, or that the hypervisor did.
fn foreign_tables(rig: &mut Rig<'_>) -> Verdict {
    let vram = foreign_pages(rig).map(|page| (Aperture::Vram, page));
    let ram = NO_RAM.map(|page| (Aperture::SysCoherent, page));
    for (aperture, address) in vram.into_iter().chain(ram) {
        rig.start()?;
        let table = Some(TablePointer {
            aperture,
            address,
            volatile: false,
        });
        for entry in [Pde::new(table, None), Pde::new(None, table)] {
            rig.poke_wide(DIRECTORY + ENTRY_SIZE, entry.0);
            rig.flush();
            rig.release((1 << 27) + VA_RESULT, BAD);
            rig.faulted()?;
            rig.start()?;
        }
    }
    // All of the directory leads to one table, and that leads to itself.
    rig.start()?;
    let own = Some(TablePointer {
        aperture: Aperture::Vram,
        address: TABLE,
        volatile: false,
    });
    for index in 1..1024 {
        rig.poke_wide(DIRECTORY + index * ENTRY_SIZE, Pde::new(own, own).0);
    }
    rig.map(VA_TARGET, Pte::new(Aperture::Vram, TABLE));
    rig.flush();
    rig.works()?;
    for index in 1..1024 {
        rig.poke_wide(DIRECTORY + index * ENTRY_SIZE, 0);
    }
    rig.recovers()
}

/// The channel has no directory outside of its machine's memory.
fn foreign_directory(rig: &mut Rig<'_>) -> Verdict {
    let vram = foreign_pages(rig).map(|page| page | Aperture::Vram.target());
    let ram = NO_RAM.map(|page| page | Aperture::SysCoherent.target());
    for base in vram.into_iter().chain(ram).chain([1]) {
        rig.start()?;
        rig.set(pfifo::CHAN, 0);
        rig.poke_wide(CHANNEL + instance::PAGE_DIR_BASE, base);
        rig.bind();
        rig.release(VA_RESULT, BAD);
        rig.faulted()
            .map_err(|reason| format!("{reason} (directory {base:#x})"))?;
    }
    rig.recovers()
}

/// A channel has no instance block outside of its machine's memory.
fn foreign_instance(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    let targets = [0u32, 1 << 28, 2 << 28, 3 << 28];
    for page in foreign_pages(rig) {
        for target in targets {
            let word = pfifo::CHAN_VALID | target | (page >> 12) as u32 & 0x0fff_ffff;
            rig.set(pfifo::CHAN, 0);
            rig.set(pfifo::CHAN, word);
            rig.set(pfifo::CHAN_STATE, 0x001f_0001);
            rig.ring();
        }
    }
    rig.recovers()
}

/// Stores to an instance block in use do not lead out of the machine's memory.
fn mirrored_writes(rig: &mut Rig<'_>) -> Verdict {
    for page in foreign_pages(rig) {
        rig.start()?;
        rig.works()?;
        rig.poke_wide(CHANNEL + instance::PAGE_DIR_BASE, page);
        rig.poke_wide(CHANNEL + instance::USERD, page);
        rig.release(VA_RESULT, BAD);
        rig.faulted()?;
        rig.start()?;
        // The same by way of BAR1.
        rig.map(VA_TARGET, Pte::new(Aperture::Vram, CHANNEL));
        rig.flush();
        rig.bar_store(Bar::Bar1, VA_TARGET + instance::USERD, page as u32);
        rig.bar_store(Bar::Bar1, VA_TARGET + instance::PAGE_DIR_BASE, page as u32);
        rig.release(VA_RESULT, BAD);
        rig.faulted()?;
    }
    rig.recovers()
}

/// A control page that is not the machine's own is none.
fn forged_userd(rig: &mut Rig<'_>) -> Verdict {
    let vram = foreign_pages(rig).map(|page| page | Aperture::Vram.target());
    let ram = NO_RAM.map(|page| page | Aperture::SysCoherent.target());
    for page in vram.into_iter().chain(ram) {
        rig.start()?;
        rig.set(pfifo::CHAN, 0);
        rig.poke_wide(CHANNEL + instance::USERD, page);
        rig.bind();
        rig.works()?;
        rig.set(pfifo::CHAN, 0);
    }
    // The area of control pages may be anywhere in BAR1, also where it ends.
    for base in [0, 0x7fff, 0x0fff_ffff] {
        rig.set(pfifo::BAR1_BASE, pfifo::BAR1_BASE_ENABLE | base);
        rig.bar_store(Bar::Bar1, VA_USERD + userd::GP_PUT, BAD);
    }
    rig.recovers()
}

/// Channels beyond the machine's quota do not exist.
fn foreign_channels(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    let rows = pfifo::CHANNELS / 2..pfifo::CHANNELS;
    for chid in rows.clone() {
        let row = pfifo::CHAN.offset() + 8 * chid;
        rig.store(row, pfifo::CHAN_VALID | (CHANNEL >> 12) as u32);
        rig.store(row + 4, 0);
        rig.store(row + 4, 0x001f_0001);
        let seen = rig.load(row + 4);
        ensure(seen == 0, || format!("Channel {chid} is {seen:#x}"))?;
        rig.set(pfifo::KICK, chid);
        rig.store(row, 0);
    }
    let numbers: Vec<u32> = rows.chain([0x80, 0xff, 0xfff, 0]).collect();
    rig.runlist(RUNLIST, &numbers)?;
    rig.works()?;
    rig.recovers()
}

/// A runlist in no memory of the machine's is empty, and none is longer than can be.
fn foreign_runlist(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    for page in foreign_pages(rig) {
        for target in [0, 2 << 28, 3 << 28] {
            rig.set(
                pfifo::RUNLIST_WR,
                target | (page >> 12) as u32 & 0x0fff_ffff,
            );
            for length in [1, 0xfff, u32::MAX] {
                rig.set(pfifo::RUNLIST_WR_LEN, length);
            }
        }
    }
    rig.recovers()
}

/// The context switcher and the copy engines take no addresses that are not the machine's.
fn context_addresses(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    for page in foreign_pages(rig) {
        let word = 1 << 31 | (page >> 12) as u32 & 0x0fff_ffff;
        for command in 0..0x40 {
            rig.set(pgraph::FECS_WRCMD_DATA, word);
            rig.set(pgraph::FECS_WRCMD_CMD, command);
        }
        for register in [pgraph::FECS_CHAN, pgraph::FECS_CHAN_NEXT] {
            rig.set(register, word);
        }
        rig.store(falcon::FECS + offset::INTR_SET, 1 << 8);
        for base in [falcon::CE0, falcon::CE1] {
            rig.store(base + offset::CHANNEL_CUR, word);
            rig.store(base + offset::CHANNEL_NEXT, word);
            rig.store(base + offset::INTR_SET, u32::MAX);
        }
        // A context's own address is virtual: it leads where the machine's tables lead.
        for at in [
            instance::GR_CONTEXT,
            instance::CE0_CONTEXT,
            instance::CE1_CONTEXT,
        ] {
            rig.poke_wide(CHANNEL + at, page | 4);
        }
        rig.set(pgraph::FECS_WRCMD_DATA, 1 << 31 | (CHANNEL >> 12) as u32);
        rig.set(pgraph::FECS_WRCMD_CMD, 1);
        rig.set(pgraph::FECS_WRCMD_CMD, 2);
    }
    rig.recovers()
}

/// Resets, stops and masks are of this machine's device alone.
fn engine_resets(rig: &mut Rig<'_>) -> Verdict {
    for _ in 0..8 {
        rig.start()?;
        for bit in 0..32 {
            rig.set(pmc::ENABLE, !(1 << bit));
        }
        rig.set(pmc::ENABLE, u32::MAX);
        for (register, value) in [
            (pfifo::CTRL, 0),
            (pfifo::FREEZE, 1),
            (pfifo::ENG_FREEZE, u32::MAX),
            (pfifo::PBDMA_ENABLE, 0),
            (pfifo::INTR_EN, 0),
            (pfifo::CHSW_TIMEOUT, 0),
            (pfifo::ENG_FAULT, u32::MAX),
            (pmc::INTR_MASK, 0),
            (pmc::INTR_EN_HOST, 0),
            (ppci::MSI_REARM, 0),
            (pgraph::FIFO_CONTROL, 0),
        ] {
            rig.set(register, value);
        }
        for number in 0..pfifo::ENGINES {
            let inject = pfifo::VM_FAULT_INJECT.offset() + 4 * number;
            rig.store(inject, pfifo::INJECT_VALID | number);
        }
        for base in [
            falcon::CE0,
            falcon::CE1,
            falcon::FECS,
            falcon::GPCCS,
            falcon::PMU,
        ] {
            rig.store(base + offset::UC_CTRL, 0);
            rig.store(base + offset::IMEM_CTRL, 1 << 24);
            (0..64).for_each(|_| rig.store(base + offset::IMEM_DATA, BAD));
        }
    }
    rig.recovers()
}

/// Values of a linear congruential generator: the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// Any value in any register.
fn all_registers(rig: &mut Rig<'_>) -> Verdict {
    let mut random = Random(1);
    rig.start()?;
    let memory: [Range<u32>; 2] = [PRAMIN, PROM];
    for _ in 0..2 {
        for register in RegisterMap::gf100().iter() {
            for at in register.id.elements().take(16) {
                if memory.iter().any(|range| range.contains(&at)) {
                    continue;
                }
                rig.load(at);
                rig.store(at, random.next());
                rig.store(at, u32::MAX);
            }
        }
        for _ in 0..2000 {
            let at = random.next() % 0x0080_0000 * 4;
            if !memory.iter().any(|range| range.contains(&at)) {
                rig.store(at, random.next());
                rig.load(at);
            }
        }
    }
    rig.recovers()
}

/// A channel that waits for ever keeps nobody else from anything, and ends when it is to.
fn endless_channel(rig: &mut Rig<'_>) -> Verdict {
    for _ in 0..4 {
        rig.start()?;
        rig.acquire(VA_RESULT, BAD);
        for _ in 0..8 {
            rig.acquire(VA_RESULT, BAD);
        }
    }
    // A put index beyond the end of the indirect buffer.
    rig.start()?;
    rig.bar_store(Bar::Bar1, VA_USERD + userd::GP_PUT, u32::MAX);
    rig.start()?;
    // Entries that lead to themselves, and to more than there is.
    for index in 0..32u64 {
        let at = super::rig::RING + index * 8;
        rig.poke_wide(at, VA_RING | 0x1f_ffff << 42);
    }
    rig.bar_store(Bar::Bar1, VA_USERD + userd::GP_PUT, 31);
    rig.recovers()
}

/// Interrupts that wait for an answer get none, and their channels end before or behind them.
fn unanswered_interrupts(rig: &mut Rig<'_>) -> Verdict {
    let illegal = Header::encode(Mode::Increasing, 0, ILLEGAL_METHOD, 2);
    for ends in [false, true, true, false, true, true] {
        rig.start()?;
        rig.submit(&[illegal, BAD, BAD, illegal, BAD, BAD]);
        rig.ring();
        if ends {
            rig.set(pfifo::CHAN, 0);
        }
        rig.start()?;
        rig.set(pfifo::CHAN, 0);
        rig.poke(CHANNEL + instance::SIGNATURE, 0);
        rig.bind();
        if ends {
            rig.set(pfifo::CHAN, 0);
        }
    }
    rig.recovers()
}

/// Doorbells without end, of channels that exist and that do not.
fn doorbell_storm(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    let mut random = Random(2);
    for n in 0..4000u64 {
        let page = VA_USERD + n % u64::from(pfifo::CHANNELS) * userd::STRIDE;
        // Also of no channel: BAR1 may lead nowhere there, which is a fault of this machine's.
        rig.bar_store(Bar::Bar1, page + userd::GP_PUT, random.next());
        rig.bar_store(Bar::Bar1, VA_USERD + userd::GP_PUT, 0);
    }
    rig.poke(USERD + userd::GP_PUT, u32::MAX);
    rig.recovers()
}

/// Flushes without end, of directories that exist and that do not.
fn flush_storm(rig: &mut Rig<'_>) -> Verdict {
    rig.start()?;
    for n in 0..2000u64 {
        rig.map(VA_TARGET, Pte::new(Aperture::Vram, n << 12));
        rig.flush();
        rig.set(pfb::VM_FLUSH_PDB, (n << 4) as u32);
        rig.set(pfb::VM_FLUSH, 0x8000_0005);
    }
    rig.recovers()
}
