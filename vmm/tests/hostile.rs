//! A hostile machine beside an honest one, on one card: what the honest one has stays as it is, and
//! its work goes on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use gpu_model::{Host, Layout, Optimisations, Protection, Settings, Slot, VirtualGpu};
use guest::hostile::{CASES, Device, Rig};
use mmio::Bar;
use vmm::soft_card::SoftCard;

const EACH: u64 = 64 << 20;
const RAM: u64 = 4 << 20;
/// The attacker; the others are below and above it in everything that is shared out.
const HOSTILE: usize = 1;
const HONEST: [usize; 2] = [0, 2];
/// Pages of honest machines' memory that work changes: everything below this.
const WORK: u64 = 1 << 20;

struct Pins;

impl Slot for Pins {
    fn msi(&self) {}
    fn intx(&self, _level: bool) {}
}

/// The BARs of a virtual GPU.
struct Bars(Arc<VirtualGpu>);

impl Device for Bars {
    fn load(&self, bar: Bar, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.0.read(bar, offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&self, bar: Bar, offset: u64, value: u32) {
        self.0.write(bar, offset, &value.to_le_bytes());
    }
}

/// Contents that nobody writes by chance.
fn secret(machine: usize) -> Vec<u8> {
    (0u32..(EACH - WORK) as u32 / 4)
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9) ^ machine as u32).to_le_bytes())
        .collect()
}

fn machine_ram(gpu: &VirtualGpu) -> File {
    let ram = tempfile::tempfile().unwrap();
    ram.write_all_at(&vec![0x5a; RAM as usize], 0).unwrap();
    let all = Protection {
        read: true,
        write: true,
    };
    gpu.dma_map(0, RAM, all, ram.try_clone().unwrap(), 0)
        .unwrap();
    ram
}

fn attack(optimisations: Optimisations) {
    let vram = Layout::vram_for(3, EACH, 16 << 20).next_multiple_of(6 << 20);
    let layout = Layout::new(3, EACH, vram).unwrap();
    let card = Arc::new(SoftCard::new(gf100::Config::quadro_6000(vram)).unwrap());
    let slots: Vec<Arc<dyn Slot>> = (0..3).map(|_| Arc::new(Pins) as Arc<dyn Slot>).collect();
    let settings = Settings {
        optimisations,
        ..Settings::default()
    };
    let host = Host::new(card, layout.clone(), settings, slots).unwrap();
    let rams: Vec<File> = host.vgpus().iter().map(|gpu| machine_ram(gpu)).collect();
    let bars: Vec<Bars> = host.vgpus().iter().cloned().map(Bars).collect();
    let part = |machine: usize| layout.partition(host.vgpus()[machine].vm()).vram;
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
            let mut now = vec![0; (EACH - WORK) as usize];
            host.card().vram_read(part(machine).start + WORK, &mut now);
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
        }
    }
    // What the attacker leaves behind, nobody finds.
    host.vgpus()[HOSTILE].reset();
    let mut left = vec![0xff; EACH as usize];
    host.card().vram_read(part(HOSTILE).start, &mut left);
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
