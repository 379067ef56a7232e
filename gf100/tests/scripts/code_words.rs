//! Whatever a guest has the SMs execute, with headers and images as it likes.
//!
//! The script's first bytes shape the launch; then each word of code is a byte that picks an
//! opcode, or none, and 8 bytes. Nothing may panic or go on when it is asked to pause; afterwards a
//! good program runs.

use std::sync::mpsc;
use std::time::Duration;

use gf100::engine::Pause;
use gf100::memory::{Memory, PhysAddr, Tables};
use gf100::sm::{
    ConstantBuffer, Engine, HeaderTable, Image, Launch, Multiprocessors, Outcome, Temp,
};

use super::Bytes;

const MIB: u64 = 1 << 20;
const CODE: u64 = 4 * MIB;
const DATA: u64 = 8 * MIB;
const MEMORY: u64 = 16 * MIB;
/// Words of code at most.
const WORDS: usize = 512;
/// How long code may run before it is asked to pause.
const MOMENT: Duration = Duration::from_micros(300);

/// Classes and opcodes (bits 0-3 and 58-63) that random words should often have.
const OPCODES: [u64; 52] = [
    0x02, 0x04, 0x08, 0x0c, 0x14, 0x16, 0x18, 0x32, 0x12, //
    0x102, 0x108, 0x112, 0x114, //
    0x202, 0x206, 0x20a, 0x20e, //
    0x302, 0x304, 0x306, 0x308, 0x30a, 0x30c, 0x312, 0x314, 0x316, 0x318, 0x31a, 0x31c, //
    0x403, 0x404, 0x405, 0x406, 0x407, 0x408, 0x40b, 0x412, 0x414, //
    0x515, 0x520, 0x524, 0x530, 0x531, 0x533, 0x535, 0x537, 0x53c, //
    0x605, 0x620, 0x624, 0x628, 0x638,
];
/// Control flow, likewise.
const FLOW: [u64; 10] = [0x10, 0x18, 0x1a, 0x1c, 0x20, 0x24, 0x2a, 0x2c, 0x30, 0x14];

/// A word of code with the field of an opcode in place.
fn word(pick: u8, bits: u64) -> u64 {
    let put = |class: u64, opcode: u64| bits & !(0xf | 0x3f << 58) | class | opcode << 58;
    match pick {
        0..=191 => {
            let at = OPCODES[usize::from(pick) % OPCODES.len()];
            // Mostly guarded by nothing, on registers that there are.
            let bits = put(at >> 8, at & 0x3f);
            bits | 7 << 10 & !(1 << 13)
        }
        192..=239 => {
            let opcode = FLOW[usize::from(pick) % FLOW.len()];
            // Tested by nothing, to a target close by.
            let near = bits & 0xf8 << 26;
            (put(7, opcode) & !(0x00ff_ffff << 26)) | near | 0xf << 5
        }
        _ => bits,
    }
}

/// Runs the script's code, on the interpreter and as machine code of the host.
pub fn run(script: &[u8]) {
    for engine in [Engine::Interpreter, Engine::Jit { patience: 0 }] {
        run_on(engine, script);
    }
}

fn run_on(engine: Engine, script: &[u8]) {
    let memory = Memory::new(MEMORY).unwrap();
    let mut tables = Tables::new(memory.clone(), MIB);
    tables.map(CODE, PhysAddr::vram(CODE), MIB, true);
    tables.map(DATA, PhysAddr::vram(DATA), 4 * MIB, true);
    let mut script = Bytes(script);
    let mut launch = Launch::new(tables.instance(), CODE);
    shape(&mut launch, &mut script);
    let mut at = CODE;
    for _ in 0..WORDS {
        let (Some(pick), Some(bits)) = (script.u8(), script.u64()) else {
            break;
        };
        memory.vram().store(at, word(pick, bits));
        at += 8;
    }
    let multiprocessors = Multiprocessors::new(memory.clone(), engine);
    if let Ok(mut grid) = multiprocessors.launch(launch) {
        let pause = Pause::default();
        let (done, waits) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let pause = &pause;
            scope.spawn(move || {
                let _ = waits.recv_timeout(MOMENT);
                pause.ask();
            });
            multiprocessors.run(&mut grid, pause);
            drop(done);
        });
    }
    // Exit.
    memory.vram().store(CODE, 0x8000_0000_0000_1de7u64);
    let launch = Launch::new(tables.instance(), CODE);
    let mut grid = multiprocessors.launch(launch).unwrap();
    assert_eq!(
        multiprocessors.run(&mut grid, &Pause::default()),
        Outcome::Done
    );
}

/// What the script's first bytes say about the launch.
fn shape(launch: &mut Launch, script: &mut Bytes<'_>) -> Option<()> {
    launch.block = [u32::from(script.u8()?) + 1, 1, 1];
    launch.grid = [u32::from(script.u8()?) % 4 + 1, 1, 1];
    launch.gpr_alloc = u32::from(script.u8()?);
    launch.shared_size = u32::from(script.u16()?);
    launch.local_pos_alloc = u32::from(script.u8()?) << 4;
    launch.temp = Temp {
        address: DATA + u64::from(script.u8()?),
        size: u64::from(script.u8()?) << 12,
    };
    launch.warp_cstack_size = u32::from(script.u8()?) << 5;
    for constants in &mut launch.constants {
        *constants = ConstantBuffer {
            address: DATA,
            size: 0x1000,
        };
    }
    let table = |address| HeaderTable { address, limit: 63 };
    (launch.tic, launch.tsc) = (table(CODE + 0x400), table(CODE));
    launch.textures.fill(Some(script.u8()?.into()));
    launch.samplers.fill(Some(script.u8()?.into()));
    for image in &mut launch.images {
        *image = Image {
            address: DATA + u64::from(script.u8()?) * 8,
            width: script.u16()?.into(),
            height: script.u32()? & 0x0010_ffff,
            format: u32::from(script.u8()?) << 4 | 0x14 << 12,
            block_dimensions: script.u16()?.into(),
        };
    }
    Some(())
}
