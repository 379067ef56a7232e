//! Coherence of the memory system: what clients see while tables change, windows close and flushes
//! happen, in one thread against a model and in several against time.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use gf100::memory::{
    Access, BarId, BarWindow, Client, FaultReason, Flush, Memory, PhysAddr, Privilege, Protection,
    Tables,
};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
/// The pages that the test maps: enough to share TLB entries 256 and 1024 pages apart.
const PAGES: [u64; 8] = [0, 1, 5, 256, 257, 1024, 1029, 0x7fff];
/// Where the pages that carry their number are, in video memory and on the bus.
const FRAMES: u64 = 4 * MIB;
const WINDOW: u64 = 0x100_0000;
const FRAME_COUNT: u64 = 16;

fn file(len: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file
}

/// A file whose every page starts with its number, counted from `first`.
fn numbered(first: u64, pages: u64) -> File {
    let file = file(pages * 0x1000);
    for page in 0..pages {
        file.write_all_at(&(first + page).to_le_bytes(), page * 0x1000)
            .unwrap();
    }
    file
}

#[derive(Clone, Debug)]
enum Step {
    Map { page: usize, frame: u64 },
    Unmap { page: usize },
    Flush { all: bool },
    OpenWindow,
    CloseWindow,
    Look { page: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let page = 0..PAGES.len();
    prop_oneof![
        4 => (page.clone(), 0..2 * FRAME_COUNT).prop_map(|(page, frame)| Step::Map { page, frame }),
        2 => page.clone().prop_map(|page| Step::Unmap { page }),
        2 => any::<bool>().prop_map(|all| Step::Flush { all }),
        1 => Just(Step::OpenWindow),
        1 => Just(Step::CloseWindow),
        8 => page.prop_map(|page| Step::Look { page }),
    ]
}

/// What may be seen at each page: every mapping it has had since the last flush.
#[derive(Default)]
struct Model {
    possible: HashMap<usize, Vec<Option<u64>>>,
    window_open: bool,
}

impl Model {
    fn set(&mut self, page: usize, frame: Option<u64>) {
        self.possible
            .entry(page)
            .or_insert_with(|| vec![None])
            .push(frame);
    }

    fn flush(&mut self) {
        for seen in self.possible.values_mut() {
            seen.drain(..seen.len() - 1);
        }
    }

    /// The frame number read, or the reason of the fault.
    fn allows(&self, page: usize, seen: Result<u64, FaultReason>) -> bool {
        let never = vec![None];
        let possible = self.possible.get(&page).unwrap_or(&never);
        possible.iter().any(|frame| match (frame, seen) {
            (None, Err(FaultReason::PageNotPresent | FaultReason::PtNotPresent)) => true,
            (Some(frame), Err(FaultReason::RegionViolation)) => {
                *frame >= FRAME_COUNT && !self.window_open
            }
            (Some(frame), Ok(number)) => {
                *frame == number && (*frame < FRAME_COUNT || self.window_open)
            }
            _ => false,
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_seen_was_mapped_since_the_last_flush(steps in prop::collection::vec(step(), 1..300)) {
        let memory = Memory::new(8 * MIB).unwrap();
        for frame in 0..FRAME_COUNT {
            memory.vram().store(FRAMES + frame * 0x1000, frame);
        }
        let mut tables = Tables::new(memory.clone(), MIB);
        let mut client = Client::new(memory.clone(), Privilege::User);
        client.bind(tables.instance()).unwrap();
        let bar = BarWindow::new(memory.clone(), BarId::Bar1);
        bar.set_control(1 << 31 | tables.instance().to_channel_word());
        let mut model = Model::default();

        for step in steps {
            match step {
                Step::Map { page, frame } => {
                    let to = match frame.checked_sub(FRAME_COUNT) {
                        None => PhysAddr::vram(FRAMES + frame * 0x1000),
                        Some(n) => PhysAddr::system(WINDOW + n * 0x1000),
                    };
                    tables.map(PAGES[page] << 12, to, 0x1000, false);
                    model.set(page, Some(frame));
                }
                Step::Unmap { page } => {
                    tables.unmap(PAGES[page] << 12, 0x1000, false);
                    model.set(page, None);
                }
                Step::Flush { all } => {
                    match all {
                        true => memory.flush(Flush::All),
                        false => tables.flush(),
                    }
                    model.flush();
                }
                Step::OpenWindow if !model.window_open => {
                    let file = numbered(FRAME_COUNT, FRAME_COUNT);
                    let size = FRAME_COUNT * 0x1000;
                    memory.dma().map(WINDOW, size, Protection::READ_WRITE, file, 0).unwrap();
                    model.window_open = true;
                }
                Step::OpenWindow => (),
                Step::CloseWindow => {
                    memory.dma().unmap(WINDOW, FRAME_COUNT * 0x1000);
                    model.window_open = false;
                }
                Step::Look { page } => {
                    let va = PAGES[page] << 12;
                    let by_client = client.load::<u64>(va).map_err(|fault| fault.reason);
                    prop_assert!(model.allows(page, by_client), "client: {by_client:x?}");
                    let mut word = [0; 8];
                    let by_bar = match bar.read(va, &mut word) {
                        Ok(()) => Ok(u64::from_le_bytes(word)),
                        Err(report) => Err(report.fault.reason),
                    };
                    prop_assert!(model.allows(page, by_bar), "bar: {by_bar:x?}");
                }
            }
        }
    }
}

/// Runs `work` on `threads` threads while `control` runs here; each thread is told its number and
/// stops when `control` is through.
fn race(threads: usize, work: impl Fn(usize) + Sync, control: impl FnOnce()) {
    /// Stops the threads even if `control` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for n in 0..threads {
            let (work, stop) = (&work, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work(n);
                }
            });
        }
        control();
    });
}

#[test]
fn after_unmap_no_engine_and_no_cpu_touches_the_memory() {
    const LEN: u64 = 0x10_0000;
    let memory = Memory::new(8 * MIB).unwrap();
    let mut tables = Tables::new(memory.clone(), MIB);
    tables.map(0, PhysAddr::system(WINDOW), LEN, false);
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::new(memory.clone(), Privilege::User);
            client.bind(tables.instance()).unwrap();
            std::sync::Mutex::new(client)
        })
        .collect();
    let bar = BarWindow::new(memory.clone(), BarId::Bar1);
    bar.set_control(1 << 31 | tables.instance().to_channel_word());
    let backing = file(LEN);
    let wrote = AtomicU64::new(0);

    race(
        4,
        |n| {
            let done = match n {
                // Bulk, which holds its guard long.
                0 => clients[0].lock().unwrap().fill(0, LEN, 0xee).is_ok(),
                1 => clients[1].lock().unwrap().store(0x5000, 0xeeu8).is_ok(),
                2 => bar.write(0x8000, &[0xee; 4]).is_ok(),
                _ => memory
                    .store(PhysAddr::system(WINDOW + 0x9000), 0xeeu8)
                    .is_ok(),
            };
            wrote.fetch_add(u64::from(done), Ordering::Relaxed);
        },
        || {
            for _ in 0..20 {
                let window = backing.try_clone().unwrap();
                memory
                    .dma()
                    .map(WINDOW, LEN, Protection::READ_WRITE, window, 0)
                    .unwrap();
                let before = wrote.load(Ordering::Relaxed);
                while wrote.load(Ordering::Relaxed) < before + 4 {
                    thread::yield_now();
                }
                assert_eq!(memory.dma().unmap(WINDOW, LEN), LEN);
                let quiet = vec![0x11; LEN as usize];
                backing.write_all_at(&quiet, 0).unwrap();
                thread::sleep(Duration::from_micros(300));
                let mut seen = vec![0; LEN as usize];
                backing.read_exact_at(&mut seen, 0).unwrap();
                assert!(seen == quiet, "memory changed after its window was closed");
            }
        },
    );
}

#[test]
fn after_a_flush_every_client_sees_the_new_tables() {
    // One page leads to frame n and then to frame n + 1. The writer announces n only after the
    // flush; a reader that saw the announcement must not find an older frame.
    let memory = Memory::new(8 * MIB).unwrap();
    let mut tables = Tables::new(memory.clone(), MIB);
    const FRAMES_HERE: u64 = 512;
    for frame in 0..FRAMES_HERE {
        memory.vram().store(FRAMES + frame * 0x1000, frame);
    }
    tables.map(0, PhysAddr::vram(FRAMES), 0x1000, false);
    let bar = BarWindow::new(memory.clone(), BarId::Bar3);
    bar.set_control(1 << 31 | tables.instance().to_channel_word());
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::new(memory.clone(), Privilege::User);
            client.bind(tables.instance()).unwrap();
            std::sync::Mutex::new(client)
        })
        .collect();
    let announced = AtomicU64::new(0);

    race(
        4,
        |n| {
            let at_least = announced.load(Ordering::SeqCst);
            let seen: u64 = match n {
                0 | 1 => clients[n].lock().unwrap().load(0).unwrap(),
                _ => {
                    let mut word = [0; 8];
                    bar.read(0, &mut word).unwrap();
                    u64::from_le_bytes(word)
                }
            };
            assert!(seen >= at_least, "{n}: frame {seen} after {at_least}");
        },
        || {
            for frame in 1..FRAMES_HERE {
                tables.map(0, PhysAddr::vram(FRAMES + frame * 0x1000), 0x1000, false);
                tables.flush();
                announced.store(frame, Ordering::SeqCst);
                thread::sleep(Duration::from_micros(50));
            }
        },
    );
}

#[test]
fn a_window_shows_one_address_space_or_the_other_while_it_is_switched() {
    let memory = Memory::new(8 * MIB).unwrap();
    let mut spaces: Vec<_> = (0..2)
        .map(|n| Tables::new(memory.clone(), MIB + n * MIB))
        .collect();
    for (n, space) in spaces.iter_mut().enumerate() {
        let to = FRAMES + n as u64 * 0x10_0000;
        memory.vram().fill(to, 0x10_0000, 1 + n as u8);
        space.map(0, PhysAddr::vram(to), 0x10_0000, false);
    }
    let bar = Arc::new(BarWindow::new(memory, BarId::Bar1));
    let control = |n: usize| 1 << 31 | spaces[n].instance().to_channel_word();
    bar.set_control(control(0));
    race(
        3,
        |n| {
            let mut word = [0; 4];
            bar.read(n as u64 * 0x4000, &mut word).unwrap();
            assert!(word == [1; 4] || word == [2; 4], "{word:?}");
            assert!(bar.translate(0, Access::Read).is_ok());
        },
        || {
            for round in 0..400 {
                bar.set_control(control(round % 2));
                let mut word = [0; 4];
                bar.read(0x8000, &mut word).unwrap();
                assert_eq!(word, [1 + (round % 2) as u8; 4]);
            }
        },
    );
}
