//! What the multiprocessors do in a second, on one core: `cargo bench -p gf100 --bench sm`.
//!
//! Items are lane-instructions of the kind that the benchmark is about; the loops around them are
//! not counted.

#[allow(dead_code)] // The assembler has more than these programs need.
#[path = "../tests/sm/asm.rs"]
mod asm;

use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use gf100::{
    engine::Pause,
    memory::{Memory, PhysAddr, Tables},
    sm::{Engine, Launch, Multiprocessors, Outcome, Temp},
};

use self::asm::{cond::*, *};

const MIB: u64 = 1 << 20;
const CODE: u64 = 4 * MIB;
const DATA: u64 = 32 * MIB;
const DATA_LEN: u64 = 64 * MIB;
/// A CTA, which one host thread runs.
const THREADS: u32 = 512;

fn main() {
    divan::main();
}

/// What executes the programs: `GF100_SM=interpreter` or `jit`.
fn engine() -> Engine {
    let name = std::env::var("GF100_SM");
    name.ok()
        .map_or(Engine::JIT, |name| name.parse().expect("an engine"))
}

/// Runs `body` `times` in a loop, `items` counted instructions in each.
struct Program {
    sm: Multiprocessors,
    launch: Launch,
    items: u64,
    _memory: Arc<Memory>,
}

impl Program {
    /// In the body r0 is the number of the thread, r2 and r3 the address of the data, r4 and r5 that
    /// of the thread's word, r6 the iteration, counted down.
    fn new(times: u32, items: u64, body: Vec<Line>) -> Self {
        let mut lines: Vec<Line> = [
            s2r(0, 0x21),
            mov_imm(2, DATA as u32),
            mov_imm(3, 0),
            shl_imm(4, 0, 2),
            iadd(4, 4, 2),
            mov_imm(5, 0),
            mov_imm(6, times),
        ]
        .map(Line::from)
        .to_vec();
        lines.push(label("loop"));
        lines.extend(body);
        lines.push(iadd_imm(6, 6, -1).into());
        lines.push(isetp_imm(0, NE, 6, 0).into());
        lines.push(bra_on(0, "loop"));
        lines.push(st(8, ty::B32, 4, 0).into());
        lines.push(exit().into());
        let memory = Memory::new(128 * MIB).unwrap();
        let mut tables = Tables::new(memory.clone(), MIB);
        tables.map(CODE, PhysAddr::vram(CODE), MIB, true);
        tables.map(DATA, PhysAddr::vram(DATA), DATA_LEN, true);
        for (n, word) in link(&lines).iter().enumerate() {
            memory.vram().store(CODE + 8 * n as u64, *word);
        }
        let mut launch = Launch::new(tables.instance(), CODE);
        launch.block = [THREADS, 1, 1];
        launch.shared_size = 4 * THREADS;
        launch.local_pos_alloc = 64;
        launch.temp = Temp {
            address: DATA + DATA_LEN / 2,
            size: DATA_LEN / 2,
        };
        Self {
            sm: Multiprocessors::new(memory.clone(), engine()),
            launch,
            items: u64::from(times) * items * u64::from(THREADS),
            _memory: memory,
        }
    }

    fn run(&self) {
        let mut grid = self.sm.launch(self.launch.clone()).unwrap();
        assert_eq!(self.sm.run(&mut grid, &Pause::default()), Outcome::Done);
    }

    fn bench(&self, bencher: Bencher) {
        bencher
            .counter(ItemsCount::new(self.items))
            .bench_local(|| self.run());
    }
}

/// `count` times the same instruction on registers of their own.
fn repeat(count: u64, i: impl Fn(u64) -> I) -> Vec<Line> {
    (0..count).map(|n| i(n).into()).collect()
}

fn ffma(d: u64, a: u64, b: u64, c: u64) -> I {
    I::new(0, 0x0c).dst(d).a(a).b(b).c(c)
}

#[divan::bench]
fn fp32_ffma(bencher: Bencher) {
    let body = repeat(16, |n| ffma(8 + n, 8 + n, 24 + n % 4, 8 + (n + 1) % 16));
    Program::new(500, 16, body).bench(bencher);
}

/// As Mesa compiles shaders that need no subnormals.
#[divan::bench]
fn fp32_ffma_ftz(bencher: Bencher) {
    let body = repeat(16, |n| {
        ffma(8 + n, 8 + n, 24 + n % 4, 8 + (n + 1) % 16).bit(6)
    });
    Program::new(500, 16, body).bench(bencher);
}

#[divan::bench]
fn fp32_fmul_fadd_ftz(bencher: Bencher) {
    let body = repeat(16, |n| match n % 2 {
        0 => I::new(0, 0x16).dst(8 + n).a(8 + n).b(24).bit(6),
        _ => I::new(0, 0x14).dst(8 + n).a(8 + n).b(7 + n).bit(5),
    });
    Program::new(500, 16, body).bench(bencher);
}

#[divan::bench]
fn fp64_dfma(bencher: Bencher) {
    let body = repeat(8, |n| {
        let d = 8 + 2 * n;
        I::new(1, 0x08).dst(d).a(d).b(24).c(26)
    });
    Program::new(250, 8, body).bench(bencher);
}

#[divan::bench]
fn integer_mad_and_logic(bencher: Bencher) {
    let body = repeat(16, |n| match n % 4 {
        0 => I::new(3, 0x08).dst(8 + n).a(8 + n).b(25).c(26),
        1 => iadd(8 + n, 7 + n, 25),
        2 => shl_imm(8 + n, 7 + n, 3),
        _ => I::new(3, 0x1a).dst(8 + n).a(7 + n).b(6 + n).field(6, 2, 2),
    });
    Program::new(500, 16, body).bench(bencher);
}

#[divan::bench]
fn comparison_and_select(bencher: Bencher) {
    let body = repeat(16, |n| match n % 2 {
        0 => isetp(1, LT, 8 + n, 0),
        _ => sel(8 + n, 24, 8 + n, 1),
    });
    Program::new(500, 16, body).bench(bencher);
}

#[divan::bench]
fn functions(bencher: Bencher) {
    // ex2, lg2, rcp, rsq.
    let body = repeat(8, |n| {
        I::new(0, 0x32).dst(8 + n).a(24).field(26, 3, 2 + n % 4)
    });
    Program::new(100, 8, body).bench(bencher);
}

/// Loads that follow each other, from a little memory or from more than caches hold.
#[divan::bench(args = [16, 32 << 10])]
fn load_coalesced(bencher: Bencher, kib: u32) {
    // Each iteration reads 8 rows of a CTA's words and goes on by as much, round and round.
    let step = 8 * 4 * THREADS;
    let mut body: Vec<Line> = vec![
        shl_imm(8, 6, u64::from(step.trailing_zeros())).into(),
        // More bits than an immediate has are masked by a long one.
        I::new(2, 0x0e).dst(8).a(8).limm(kib * 1024 - 1).into(),
        iadd(8, 8, 4).into(),
        mov_imm(9, 0).into(),
    ];
    body.extend(repeat(8, |n| {
        ld(10 + n, ty::B32, 8, (4 * u64::from(THREADS) * n) as i32)
    }));
    Program::new(1000, 8, body).bench(bencher);
}

#[divan::bench]
fn store_coalesced(bencher: Bencher) {
    let body = repeat(8, |n| {
        st(10 + n, ty::B32, 4, (4 * u64::from(THREADS) * n) as i32)
    });
    Program::new(500, 8, body).bench(bencher);
}

/// Each lane 16 bytes from the next, as an array of vectors is read by component.
#[divan::bench]
fn load_strided(bencher: Bencher) {
    let mut body: Vec<Line> = vec![
        shl_imm(8, 0, 4).into(),
        iadd(8, 8, 2).into(),
        mov_imm(9, 0).into(),
    ];
    body.extend(repeat(8, |n| ld(10 + n, ty::B32, 8, 4 * (n % 4) as i32)));
    Program::new(250, 8, body).bench(bencher);
}

#[divan::bench]
fn load_vector(bencher: Bencher) {
    let mut body: Vec<Line> = vec![
        shl_imm(8, 0, 4).into(),
        iadd(8, 8, 2).into(),
        mov_imm(9, 0).into(),
    ];
    body.extend(repeat(4, |n| ld(12 + 4 * n, ty::B128, 8, 0)));
    Program::new(250, 4, body).bench(bencher);
}

#[divan::bench]
fn shared(bencher: Bencher) {
    let mut body: Vec<Line> = vec![shl_imm(8, 0, 2).into()];
    body.extend(repeat(8, |n| match n % 2 {
        0 => ld_shared(10 + n, ty::B32, 8, 0),
        _ => st_shared(9 + n, ty::B32, 8, 0),
    }));
    Program::new(250, 8, body).bench(bencher);
}

#[divan::bench]
fn local(bencher: Bencher) {
    let body = repeat(8, |n| match n % 2 {
        0 => st_local(9 + n, ty::B32, RZ, 4 * n),
        _ => ld_local(10 + n, ty::B32, RZ, 4 * (n - 1)),
    });
    Program::new(250, 8, body).bench(bencher);
}

/// Half of the lanes each way, then together again.
#[divan::bench]
fn divergence(bencher: Bencher) {
    let body = vec![
        and_imm(8, 0, 1).into(),
        isetp_imm(1, EQ, 8, 0).into(),
        ssy("end"),
        bra_on(1, "even"),
        iadd(10, 10, 0).into(),
        nop().join().into(),
        label("even"),
        iadd(10, 10, 24).into(),
        nop().join().into(),
        label("end"),
    ];
    Program::new(250, 6, body).bench(bencher);
}

#[divan::bench]
fn atomics(bencher: Bencher) {
    let body = repeat(4, |n| atom(10 + n, 0x14, 0, 24, 4));
    Program::new(100, 4, body).bench(bencher);
}
