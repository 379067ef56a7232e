//! A machine that sets another size of large pages than the card has for all.

use gpu_model::Settings;
use guest::hostile::Rig;
use mmio::regs::{pfb, pfifo};

use crate::rig::Machines;

/// The virtual page at which [`Rig`] leaves results.
const VA_RESULT: u64 = 0x2000;
/// `MMU_CTRL`: large pages of 64 KiB.
const LARGE_64K: u32 = 1;

#[test]
fn its_channels_fault_until_it_takes_the_cards_size() {
    let machines = Machines::new(3, Settings::default());
    let mut other = Rig::new(&machines.bars[0]);
    other.recovers().unwrap();
    let mut wide = Rig::new(&machines.bars[1]);
    wide.set(pfb::MMU_CTRL, LARGE_64K);

    wide.start().unwrap();
    wide.release(VA_RESULT, 1);
    wide.faulted().unwrap();
    other.works().unwrap();
    assert_eq!(other.get(pfifo::VM_FAULT_SOURCE), 0);

    wide.set(pfb::MMU_CTRL, 0);
    wide.recovers().unwrap();
}
