//! A hostile machine beside an honest one, on one card: what the honest one has stays as it is, and
//! its work goes on.

use std::fs::File;
use std::os::unix::fs::FileExt;

use gpu_model::{Optimisations, Settings};
use guest::hostile::{CASES, Rig};

use crate::rig::{EACH, Machines, give_ram};

const RAM: u64 = 4 << 20;
/// The attacker; the others are below and above it in everything that is shared out.
const HOSTILE: usize = 1;
const HONEST: [usize; 2] = [0, 2];
/// Pages of honest machines' memory that work changes: everything below this.
const WORK: u64 = 1 << 20;

/// Contents that nobody writes by chance.
fn secret(machine: usize) -> Vec<u8> {
    (0u32..(EACH - WORK) as u32 / 4)
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9) ^ machine as u32).to_le_bytes())
        .collect()
}

fn attack(optimisations: Optimisations) {
    let machines = Machines::new(
        3,
        Settings {
            optimisations,
            ..Settings::default()
        },
    );
    let Machines { host, bars, .. } = &machines;
    let ram = |gpu| give_ram(gpu, 0, &vec![0x5a; RAM as usize]).unwrap();
    let rams: Vec<File> = host.vgpus().iter().map(|gpu| ram(gpu)).collect();
    let part = |machine: usize| machines.part(machine).vram;
    let mut honest: Vec<Rig<'_>> = HONEST.iter().map(|&n| Rig::new(&bars[n])).collect();
    for (rig, machine) in honest.iter_mut().zip(HONEST) {
        host.card()
            .vram_write(part(machine).start + WORK, &secret(machine));
        rig.start().unwrap();
        rig.works().unwrap();
    }
    for case in CASES {
        if let Err(reason) = (case.run)(&mut Rig::new(&bars[HOSTILE])) {
            panic!("{}: {reason}", case.name);
        }
        for (rig, machine) in honest.iter_mut().zip(HONEST) {
            let now = machines.vram(machine, WORK, EACH - WORK);
            assert!(now == secret(machine), "{}: memory changed", case.name);
            let mut now = vec![0; RAM as usize];
            rams[machine].read_exact_at(&mut now, 0).unwrap();
            assert!(
                now.iter().all(|byte| *byte == 0x5a),
                "{}: RAM changed",
                case.name
            );
            // It still has the channel from the beginning: nobody reset it.
            if let Err(reason) = rig.works() {
                panic!("{}: of an honest machine: {reason}", case.name);
            }
            let faults = rig.get(mmio::regs::pfifo::VM_FAULT_SOURCE);
            assert_eq!(faults, 0, "{}: a fault that is not its own", case.name);
            let units = rig.get(mmio::regs::pfifo::PBDMA_INTR_SOURCE);
            assert_eq!(units, 0, "{}: a PBDMA that is not its own", case.name);
        }
    }
    // What the attacker leaves behind, nobody finds.
    host.vgpus()[HOSTILE].reset();
    let left = machines.vram(HOSTILE, 0, EACH);
    assert!(left.iter().all(|byte| *byte == 0));
}

#[test]
fn nobody_notices_a_hostile_machine() {
    attack(Settings::default().optimisations);
}

#[test]
fn nor_one_whose_tables_are_shadowed_as_published() {
    attack(Optimisations::empty());
}
