//! Surfaces: images that programs load from and store to.

use gf100::sm::{Image, WarpError};

use crate::{
    asm::*,
    machine::{DATA, Machine},
    program, threaded,
};

const SULDB: u64 = 0x35;
const SUST: u64 = 0x37;
const SULEA: u64 = 0x3c;
/// Where the image is, from the data on.
const PIXELS: u64 = 0x1_0000;
const RGBA8_UNORM: u32 = 0xd5;
const R32_UINT: u32 = 0xe4;

fn image(width: u32, height: u32, format: u32) -> Image {
    Image {
        address: DATA + PIXELS,
        width,
        height,
        format: 0x14 << 12 | format << 4,
        block_dimensions: 0,
    }
}

const LINEAR: u32 = 1 << 20;

#[test]
fn what_is_stored_in_a_format_is_loaded_as_bytes() {
    // Thread n stores (n / 31, 0, 1, 2) to (n % 8, n / 8) and loads it.
    let code = threaded![
        and_imm(8, 0, 7),
        I::new(3, 0x16).dst(9).a(0).imm(3),
        // I2F, then times 1 / 31.
        I::new(4, 0x06).dst(12).b(0).field(20, 2, 2).field(23, 2, 2),
        mov_imm(13, (1.0f32 / 31.0).to_bits()),
        I::new(0, 0x16).dst(12).a(12).b(13),
        mov_imm(13, 0),
        mov_imm(14, 1f32.to_bits()),
        mov_imm(15, 2f32.to_bits()),
        surface(SUST, 12, 8, 2, 1).field(49, 4, 0xf),
        shl_imm(8, 8, 2),
        surface(SULDB, 16, 8, 2, 1).field(5, 3, ty::B32),
        st(16, ty::B32, 4, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(32);
    machine.launch.images[2] = image(8, 4, RGBA8_UNORM);
    machine.done();
    let loaded = machine.get(0, 32);
    let mut tiled = [0u32; 32];
    for (n, word) in loaded.iter().enumerate() {
        let red = (n as f32 / 31.0 * 255.0).round() as u32;
        assert_eq!(*word, red | 0xffff_0000);
        // A row of 32 bytes lies in two pieces of a GOB, rows alternate.
        let (x, y) = (n % 8, n / 8);
        let at = y / 2 * 64 + x * 4 / 16 * 32 + y % 2 * 16 + x * 4 % 16;
        tiled[n] = machine.get(PIXELS + at as u64, 1)[0];
    }
    assert_eq!(loaded, tiled);
}

#[test]
fn outside_loads_are_0_and_stores_are_dropped() {
    // Thread n at byte 4 * n of an image of 4 words.
    let code = threaded![
        shl_imm(8, 0, 2),
        mov_imm(16, 77),
        surface(SULDB, 16, 8, 0, 0).field(5, 3, ty::B32),
        st(16, ty::B32, 4, 0),
        iadd_imm(17, 0, 100),
        surface(SUST, 17, 0, 0, 0).field(49, 4, 1),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(8);
    machine.launch.images[0] = image(16, LINEAR | 1, R32_UINT);
    machine.set(PIXELS, &[1, 2, 3, 4, 5, 6]);
    machine.done();
    assert_eq!(machine.get(0, 8), [1, 2, 3, 4, 0, 0, 0, 0]);
    assert_eq!(machine.get(PIXELS, 6), [100, 101, 102, 103, 5, 6]);
    // Nothing bound is nothing inside.
    machine.launch.images[0] = Image::default();
    machine.done();
    assert_eq!(machine.get(0, 8), [0; 8]);
}

#[test]
fn an_access_outside_may_trap_or_be_clamped() {
    let code = |clamp: u64| {
        threaded![
            shl_imm(8, 0, 2),
            surface(SULDB, 16, 8, 0, 0)
                .field(5, 3, ty::B32)
                .field(47, 2, clamp),
            st(16, ty::B32, 4, 0),
            exit(),
        ]
    };
    let machine = |clamp: u64| {
        let mut machine = Machine::new(&code(clamp)).threads(8);
        machine.launch.images[0] = image(16, LINEAR | 1, R32_UINT);
        machine.set(PIXELS, &[1, 2, 3, 4, 5, 6]);
        machine
    };
    assert_eq!(machine(1).error(), WarpError::OorAddr);
    let clamped = machine(3);
    clamped.done();
    assert_eq!(clamped.get(0, 8), [1, 2, 3, 4, 4, 4, 4, 4]);
}

#[test]
fn addresses_of_texels_serve_atomics() {
    // All threads add 1 to texel n % 4 of layer 1, which is 256 bytes on; those at 3 are outside.
    let code = threaded![
        and_imm(8, 0, 3),
        shl_imm(8, 8, 2),
        mov_imm(9, 0),
        mov_imm(10, 1),
        surface(SULEA, 12, 8, 1, 3)
            .field(5, 3, ty::B32)
            .field(54, 3, 2),
        mov_imm(16, 1),
        red(0x04, 0, 16, 12).unless(2),
        exit(),
    ];
    let mut machine = Machine::new(&code).threads(64);
    machine.launch.images[1] = image(3, 1, R32_UINT);
    machine.done();
    assert_eq!(machine.get(PIXELS + 256, 4), [16, 16, 16, 0]);
}

#[test]
fn the_slot_may_come_from_a_register() {
    let code = program![
        mov_imm(2, DATA as u32),
        mov_imm(3, 0),
        mov_imm(20, 5),
        mov_imm(8, 4),
        I::new(5, SULDB).dst(16).a(8).b(20).field(5, 3, ty::B32),
        st(16, ty::B32, 2, 0),
        exit(),
    ];
    let mut machine = Machine::new(&code);
    machine.launch.images[5] = image(16, LINEAR | 1, R32_UINT);
    machine.set(PIXELS, &[8, 9]);
    machine.done();
    assert_eq!(machine.get(0, 1), [9]);
}
