//! The copy engines from a driver's side, against copies done by hand.

mod rig;

use gf100::memory::blocklinear::Layout;
use mmio::layout::pushbuffer::Header;

use rig::{Channel, DATA_VA, Rig, bind_copy, incr};

/// EXEC: pixels as FORMAT says.
const FORMAT: u16 = 1 << 0;
const SRC_LINEAR: u16 = 1 << 4;
const DST_LINEAR: u16 = 1 << 8;
const QUERY: u16 = 1 << 12;
/// EXEC: the counter alone. More than an immediate argument holds.
const QUERY_SHORT: u32 = 1 << 13;

/// Where the tests' surfaces are in the shared memory.
const FROM: u64 = 0x10_0000;
const TO: u64 = 0x80_0000;
const QUERY_AT: u64 = 0x1f0_0000;

/// One side of a copy.
#[derive(Clone, Copy)]
struct Tiled {
    mode: u32,
    size: [u32; 3],
    /// z, x, y, as the methods are.
    offset: [u32; 3],
}

impl Tiled {
    fn methods(&self, first: u16) -> Vec<u32> {
        let [x, y, z] = self.size;
        let [zoff, xoff, yoff] = self.offset;
        incr(4, first, &[self.mode, x, y, z, zoff, xoff, yoff])
    }

    /// Where byte `x` of row `y`, from the offset on, is; pixels have `cpp` bytes.
    fn at(&self, x: u32, y: u32, cpp: u32) -> u64 {
        let layout = Layout {
            block_width: 0,
            block_height: self.mode >> 4 & 0xf,
            block_depth: self.mode >> 8 & 0xf,
            width: self.size[0] * cpp,
            height: self.size[1],
            depth: self.size[2],
        };
        layout.offset(self.offset[1] * cpp + x, self.offset[2] + y, self.offset[0])
    }
}

fn start() -> (Rig, Channel) {
    let mut rig = Rig::new();
    let mut channel = rig.channel(1);
    channel.run(&rig, &bind_copy(4, 0));
    (rig, channel)
}

/// Addresses, pitches and counts, and then EXEC.
fn linear(from: u64, to: u64, pitches: [u32; 2], counts: [u32; 2], exec: u16) -> Vec<u32> {
    let (from, to) = (DATA_VA + from, DATA_VA + to);
    let mut words = incr(
        4,
        0x30c,
        &[
            (from >> 32) as u32,
            from as u32,
            (to >> 32) as u32,
            to as u32,
            pitches[0],
            pitches[1],
            counts[0],
            counts[1],
        ],
    );
    words.push(Header::encode_immediate(4, 0x300, exec));
    words
}

#[test]
fn lines_keep_their_pitches() {
    let (rig, mut channel) = start();
    let source = rig.pattern(FROM, 0x10000);
    let mut target = rig.pattern(TO, 0x10000);
    for (from, to) in [(0x101, 0x77), (0x200, 0x180), (0x180, 0x200)] {
        let width = 0x77;
        channel.run(
            &rig,
            &linear(
                FROM + 3,
                TO + 1,
                [from, to],
                [width, 20],
                SRC_LINEAR | DST_LINEAR,
            ),
        );
        for line in 0..20usize {
            for x in 0..width as usize {
                target[1 + line * to as usize + x] = source[3 + line * from as usize + x];
            }
        }
    }
    assert!(rig.bytes(TO, target.len()) == target);
}

#[test]
fn a_pitch_of_zero_repeats_the_line() {
    let (rig, mut channel) = start();
    let source = rig.pattern(FROM, 64);
    let exec = SRC_LINEAR | DST_LINEAR;
    channel.run(&rig, &linear(FROM, TO, [0, 64], [64, 5], exec));
    assert_eq!(rig.bytes(TO, 320), source.repeat(5));
}

#[test]
fn nothing_is_copied_without_bytes_or_lines() {
    let (rig, mut channel) = start();
    rig.pattern(FROM, 64);
    let before = rig.pattern(TO, 64);
    for counts in [[0, 5], [64, 0], [0, 0]] {
        for exec in [SRC_LINEAR | DST_LINEAR, 0, FORMAT | SRC_LINEAR] {
            channel.run(&rig, &linear(FROM, TO, [64, 64], counts, exec));
        }
    }
    assert_eq!(rig.bytes(TO, 64), before);
}

#[test]
fn overlapping_ranges_end_as_something_that_was_copied() {
    let (rig, mut channel) = start();
    let exec = SRC_LINEAR | DST_LINEAR;
    let bytes = rig.pattern(FROM, 0x40000);
    // Downwards, ascending order is right.
    channel.run(
        &rig,
        &linear(FROM + 0x1003, FROM, [4096, 4096], [4096, 32], exec),
    );
    assert!(rig.bytes(FROM, 0x20000) == bytes[0x1003..0x21003]);
    // Upwards, what was overwritten is copied: no byte comes from elsewhere.
    rig.pattern(FROM, 0x40000);
    channel.run(
        &rig,
        &linear(FROM, FROM + 1, [4096, 4096], [4096, 32], exec),
    );
    assert_eq!(rig.bytes(FROM, 1), bytes[..1]);
}

#[test]
fn block_linear_surfaces_are_laid_out_as_defined() {
    let (rig, mut channel) = start();
    for (mode, size, offset) in [
        (0x000, [640, 40, 1], [0, 0, 0]),
        (0x040, [1000, 300, 1], [0, 37, 11]),
        (0x120, [200, 70, 6], [3, 5, 2]),
        (0x003, [300, 30, 1], [0, 64, 8]),
    ] {
        let side = Tiled { mode, size, offset };
        let (width, lines) = (150, 25);
        // Onto a tiled surface, and back.
        let source = rig.pattern(FROM, 0x20000);
        let mut words = side.methods(0x220);
        words.extend(linear(FROM, TO, [256, 0], [width, lines], SRC_LINEAR));
        channel.run(&rig, &words);
        let surface = rig.bytes(TO, 0x20_0000);
        for y in 0..lines {
            for x in 0..width {
                assert_eq!(
                    surface[side.at(x, y, 1) as usize],
                    source[(y * 256 + x) as usize],
                    "mode {mode:#x} at {x}, {y}"
                );
            }
        }
        let back = 0x180_0000;
        let mut words = side.methods(0x200);
        words.extend(linear(TO, back, [0, width], [width, lines], DST_LINEAR));
        channel.run(&rig, &words);
        let lines_back = rig.bytes(back, (width * lines) as usize);
        for y in 0..lines as usize {
            let width = width as usize;
            assert_eq!(
                lines_back[y * width..][..width],
                source[y * 256..][..width],
                "mode {mode:#x} line {y}"
            );
        }
    }
}

#[test]
fn narrow_blocks_hold_what_was_put_into_them() {
    let (rig, mut channel) = start();
    let side = Tiled {
        mode: 0x11e,
        size: [100, 40, 4],
        offset: [3, 5, 6],
    };
    let source = rig.pattern(FROM, 64 * 20);
    let before = rig.pattern(TO, 0x10000);
    let mut words = side.methods(0x220);
    words.extend(linear(FROM, TO, [64, 0], [64, 20], SRC_LINEAR));
    words.extend(side.methods(0x200));
    words.extend(linear(TO, 0x180_0000, [0, 64], [64, 20], DST_LINEAR));
    channel.run(&rig, &words);
    assert!(rig.bytes(0x180_0000, source.len()) == source);
    // Byte 0 of row 0 of layer 0, if it is not in the rectangle, is the first of the surface.
    assert_eq!(rig.bytes(TO, 1), before[..1]);
    let origin = Tiled {
        offset: [0, 0, 0],
        ..side
    };
    let mut words = origin.methods(0x200);
    words.extend(linear(TO, 0x180_0000, [0, 16], [16, 1], DST_LINEAR));
    channel.run(&rig, &words);
    assert_eq!(rig.bytes(0x180_0000, 16), before[..16]);
}

#[test]
fn pixels_are_remapped_between_layouts() {
    let (rig, mut channel) = start();
    let source = rig.pattern(FROM, 0x1000);
    // Three components of two bytes to four: 2, 0, constant 1, zero.
    let format = 0x6502 | 1 << 16 | 2 << 20 | 3 << 24;
    let side = Tiled {
        mode: 0x010,
        size: [64, 32, 1],
        offset: [0, 3, 2],
    };
    let mut words = incr(4, 0x32c, &[format, 0x1111_1111, 0x4444_3322]);
    words.extend(side.methods(0x220));
    words.extend(linear(FROM, TO, [128, 0], [20, 10], FORMAT | SRC_LINEAR));
    channel.run(&rig, &words);
    let surface = rig.bytes(TO, 0x10000);
    for y in 0..10u32 {
        for x in 0..20u32 {
            let pixel = &source[(y * 128 + x * 6) as usize..][..6];
            let want = [pixel[4], pixel[5], pixel[0], pixel[1], 0x22, 0x33, 0, 0];
            for (n, want) in (0..).zip(want) {
                let at = side.at(x * 8 + n, y, 8) as usize;
                assert_eq!(surface[at], want, "byte {n} of {x}, {y}");
            }
        }
    }
}

#[test]
fn a_fill_reads_no_source() {
    let (rig, mut channel) = start();
    let mut words = incr(4, 0x32c, &[0x4 | 3 << 16, 0xaabb_ccdd, 0]);
    // The source is nowhere.
    words.extend(linear(
        0x3000_0000,
        TO,
        [0, 256],
        [64, 4],
        FORMAT | SRC_LINEAR | DST_LINEAR,
    ));
    channel.run(&rig, &words);
    assert_eq!(
        rig.bytes(TO, 1024),
        0xaabb_ccddu32.to_le_bytes().repeat(256)
    );
}

#[test]
fn queries_are_written_short_and_long() {
    let (rig, mut channel) = start();
    for n in 0..4 {
        rig.store(QUERY_AT + 4 * n, 0x5555_5555);
    }
    let at = DATA_VA + QUERY_AT;
    let query = |sequence| incr(4, 0x338, &[(at >> 32) as u32, at as u32, sequence]);
    let exec = SRC_LINEAR | DST_LINEAR | QUERY;
    let mut words = query(1);
    let mut copy = linear(FROM, TO, [64, 64], [64, 1], exec);
    copy.pop();
    words.extend(&copy);
    words.extend(incr(4, 0x300, &[u32::from(exec) | QUERY_SHORT]));
    channel.run(&rig, &words);
    assert_eq!(rig.load(QUERY_AT), 1);
    assert_eq!(rig.load(QUERY_AT + 4), 0x5555_5555);
    let mut words = query(2);
    words.extend(copy);
    words.extend(incr(4, 0x300, &[exec.into()]));
    channel.run(&rig, &words);
    assert_eq!((rig.load(QUERY_AT), rig.load(QUERY_AT + 4)), (2, 0));
    assert_ne!(rig.load(QUERY_AT + 8), 0x5555_5555);
}

#[test]
fn a_context_in_memory_is_the_class_state() {
    let (rig, mut channel) = start();
    let words = linear(FROM, TO, [64, 96], [48, 2], SRC_LINEAR | DST_LINEAR);
    channel.run(&rig, &words);
    rig.kick(1);
    // In the order of the firmware's data segment: object, query, source, destination, counts.
    let context = channel.context(&rig, 0);
    assert_eq!(context[0], 0x90b5);
    assert_eq!(context[5], (DATA_VA + FROM) as u32);
    assert_eq!((context[6], context[17]), (64, 96));
    assert_eq!(context[16], (DATA_VA + TO) as u32);
    assert_eq!((context[29], context[30]), (48, 2));
    // The state survives: EXEC alone repeats the copy.
    let source = rig.pattern(FROM, 64);
    channel.run(
        &rig,
        &[Header::encode_immediate(4, 0x300, SRC_LINEAR | DST_LINEAR)],
    );
    assert_eq!(rig.bytes(TO, 48), source[..48]);
}
