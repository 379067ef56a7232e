//! Machines that set a size of large pages of their own, on a card that has one for all.

use gpu_model::Settings;
use guest::hostile::Rig;
use mmio::Bar;
use mmio::layout::pagetable::{Aperture, Pte};
use mmio::regs::{pfb, pfifo};

use crate::rig::Machines;

/// Video memory to which large pages lead.
const TARGET: u64 = 0x12_0000;
/// An offset in a large page.
const OFFSET: u64 = 0x5004;

/// Two machines, the second of which sets 64 KiB and has page 3 of its second directory entry at
/// [`TARGET`].
fn machines() -> Machines {
    let machines = Machines::new(3, Settings::default());
    let mut wide = Rig::new(&machines.bars[1]);
    wide.set(pfb::MMU_CTRL, pfb::LARGE_64K);
    wide.map_large(3, Pte::new(Aperture::Vram, TARGET));
    wide.recovers().unwrap();
    machines
}

/// Where the machine with pages of 2^`shift` bytes has [`TARGET`].
fn va(shift: u32) -> u64 {
    (1 << (shift + 10)) + (3 << shift) + OFFSET
}

#[test]
fn each_has_pages_of_its_own_size() {
    let machines = machines();
    let [mut narrow, mut wide] = [0, 1].map(|n| Rig::new(&machines.bars[n]));
    narrow.map_large(3, Pte::new(Aperture::Vram, TARGET));
    narrow.recovers().unwrap();
    wide.recovers().unwrap();

    for (rig, shift, value) in [(&mut narrow, 17, 0x17), (&mut wide, 16, 0x16)] {
        rig.release(va(shift), value);
        rig.until("The page is stored to", || {
            rig.peek(TARGET + OFFSET) == value
        })
        .unwrap();
    }

    // What is behind the 64 MiB, by the CPU's way.
    assert_eq!(wide.bar_load(Bar::Bar1, va(16)), 0x16);
    wide.bar_store(Bar::Bar1, va(16), 0x61);
    assert_eq!(wide.peek(TARGET + OFFSET), 0x61);
    assert_eq!(narrow.peek(TARGET + OFFSET), 0x17);
}

#[test]
fn the_page_behind_a_large_one_is_missing() {
    let machines = machines();
    let mut wide = Rig::new(&machines.bars[1]);
    wide.recovers().unwrap();
    wide.release(va(16) + (1 << 16), 1);
    wide.faulted().unwrap();
}

#[test]
fn tables_are_read_anew_when_the_size_changes() {
    let machines = machines();
    let mut wide = Rig::new(&machines.bars[1]);
    for _ in 0..2 {
        wide.poke(TARGET + OFFSET, 0);
        wide.set(pfb::MMU_CTRL, pfb::LARGE_64K);
        wide.recovers().unwrap();
        wide.release(va(16), 5);
        wide.until("The page is stored to", || wide.peek(TARGET + OFFSET) == 5)
            .unwrap();

        wide.set(pfb::MMU_CTRL, 0);
        wide.works().unwrap();
        assert_eq!(wide.get(pfifo::VM_FAULT_SOURCE), 0);
        wide.release(va(16), 6);
        wide.faulted().unwrap();
        assert_eq!(wide.peek(TARGET + OFFSET), 5);
    }
}
