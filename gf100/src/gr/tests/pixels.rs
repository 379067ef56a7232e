//! Clears and blits.

use super::*;

/// A clear of render target 0: its seven methods, the screen, and the four components.
fn clear(rig: &Rig, target: &[u32; 7], screen: [u32; 2], color: [u32; 4]) {
    rig.methods(0, 0x0d80, &color);
    rig.methods(0, 0x0ff4, &screen);
    rig.methods(0, 0x0800, &[(DATA >> 32) as u32]);
    rig.methods(0, 0x0804, target);
    rig.method(0, 0x19d0, 0x3c).unwrap();
}

#[test]
fn a_buffer_is_filled_by_clearing_it_as_a_linear_target() {
    let rig = Rig::new();
    let channel = rig.current();
    let target = [DATA as u32 + 0x100, 0x400, 3, 0xe4, 1 << 12, 1, 0];
    clear(
        &rig,
        &target,
        [0x100 << 16, 3 << 16],
        [0xdead_beef, 0, 0, 0],
    );
    let filled: Vec<_> = (0..0x400).map(|word| rig.data(channel, word * 4)).collect();
    for (word, value) in filled.into_iter().enumerate() {
        let inside = (0x40..0x340).contains(&word);
        assert_eq!(
            value,
            if inside { 0xdead_beef } else { 0 },
            "word {word:#x}"
        );
    }
}

#[test]
fn a_clear_stays_in_its_windows_and_channels() {
    let rig = Rig::new();
    let channel = rig.current();
    for word in 0..64 {
        rig.set_data(channel, word * 4, 0x1111_1111);
    }
    rig.methods(0, 0x10f8, &[0x100]);
    rig.methods(0, 0x0e00, &[1, 2 | 4 << 16, 1 << 16]);
    rig.methods(0, 0x0d80, &[1f32.to_bits(), 0, 0, 0]);
    rig.methods(0, 0x0ff4, &[8 << 16, 8 << 16]);
    let high = (DATA >> 32) as u32;
    rig.methods(
        0,
        0x0800,
        &[high, DATA as u32, 32, 8, 0xd5, 1 << 12, 1, 0, 0],
    );
    // Red and alpha, of which only columns 2 and 3 of row 0.
    rig.method(0, 0x19d0, 0x24).unwrap();
    let row: Vec<_> = (0..8).map(|word| rig.data(channel, word * 4)).collect();
    let (old, new) = (0x1111_1111, 0x0011_11ff);
    assert_eq!(row, [old, old, new, new, old, old, old, old]);
    assert_eq!(rig.data(channel, 32), old);
}

#[test]
fn a_layer_of_a_tiled_target_is_cleared_alone() {
    let rig = Rig::new();
    let channel = rig.current();
    // Layers of one GOB: 16 pixels by 8 rows.
    let high = (DATA >> 32) as u32;
    rig.methods(0, 0x0ff4, &[16 << 16, 8 << 16]);
    rig.methods(0, 0x0d80, &[7, 0, 0, 0]);
    rig.methods(
        0,
        0x0800,
        &[high, DATA as u32, 16, 8, 0xe4, 0, 4, 512 / 4, 1],
    );
    rig.method(0, 0x19d0, 0x3c | 1 << 10).unwrap();
    for layer in 0..4 {
        let words = (0..128).map(|word| rig.data(channel, layer * 512 + word * 4));
        assert!(
            words
                .into_iter()
                .all(|word| word == if layer == 2 { 7 } else { 0 })
        );
    }
}

#[test]
fn depth_is_cleared_without_the_stencil_beside_it() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.set_data(channel, 0, 0xab00_0000);
    rig.methods(0, 0x0ff4, &[1 << 16, 1 << 16]);
    rig.methods(0, 0x0d90, &[1f32.to_bits()]);
    rig.methods(0, 0x0fe0, &[(DATA >> 32) as u32, DATA as u32, 0x16, 0, 0]);
    rig.methods(0, 0x1228, &[1, 1, 1]);
    rig.method(0, 0x1538, 1).unwrap();
    rig.method(0, 0x19d0, 1).unwrap();
    assert_eq!(rig.data(channel, 0), 0xabff_ffff);
}

#[test]
fn a_condition_that_does_not_hold_stops_a_clear() {
    let rig = Rig::new();
    let channel = rig.current();
    let at = DATA as u32 + 0x1000;
    rig.methods(0, 0x1550, &[(DATA >> 32) as u32, at, 4]);
    let target = [DATA as u32, 0x100, 1, 0xe4, 1 << 12, 1, 0];
    clear(&rig, &target, [1 << 16, 1 << 16], [5, 0, 0, 0]);
    assert_eq!(rig.data(channel, 0), 0);
    rig.set_data(channel, 0x1010, 1);
    clear(&rig, &target, [1 << 16, 1 << 16], [5, 0, 0, 0]);
    assert_eq!(rig.data(channel, 0), 5);
}

#[test]
fn a_clear_of_an_unknown_format_is_a_data_error() {
    let rig = Rig::new();
    rig.current();
    rig.method(0, 0x0810, 0x42).unwrap();
    assert_eq!(rig.method(0, 0x19d0, 0x3c), Err(Stop::Trapped));
    assert_eq!(rig.read(0x400110), 5);
}

/// A blit from one linear surface to another: format, pitch, width, height and place of each.
fn blit(rig: &Rig, from: [u32; 5], to: [u32; 5], rect: [u32; 4], step: [u32; 4], src: [u32; 4]) {
    rig.method(3, 0, 0x902d).unwrap();
    rig.method(3, 0x2ac, 3).unwrap();
    for (first, [format, pitch, width, height, place]) in [(0x200, to), (0x230, from)] {
        rig.methods(3, first, &[format, 1]);
        let address = [(DATA >> 32) as u32, DATA as u32 + place];
        rig.methods(
            3,
            first + 0x14,
            &[pitch, width, height, address[0], address[1]],
        );
    }
    rig.methods(3, 0x8b0, &rect);
    rig.methods(3, 0x8c0, &step);
    rig.methods(3, 0x8d0, &src);
}

#[test]
fn a_blit_copies_a_rectangle_and_changes_its_format() {
    let rig = Rig::new();
    let channel = rig.current();
    for word in 0..16 {
        rig.set_data(channel, word * 4, 0x0102_0300 + word as u32);
    }
    let from = [0xd5, 16, 4, 4, 0];
    let to = [0xcf, 16, 4, 4, 0x1000];
    blit(&rig, from, to, [1, 2, 2, 1], [0, 1, 0, 1], [0, 2, 0, 1]);
    let row: Vec<_> = (8..12)
        .map(|word| rig.data(channel, 0x1000 + word * 4))
        .collect();
    assert_eq!(row, [0, 0x0106_0302, 0x0107_0302, 0]);
}

#[test]
fn a_blit_scales_by_the_nearest_pixel_or_by_weight() {
    let rig = Rig::new();
    let channel = rig.current();
    rig.shared
        .memory
        .vram()
        .write(DATA_VRAM + 2 * MIB, &[0, 100, 200]);
    let from = [0xf3, 16, 3, 1, 0];
    let to = [0xf3, 16, 6, 1, 0x1000];
    let half = [1 << 31, 0, 0, 1];
    blit(&rig, from, to, [0, 0, 6, 1], half, [0; 4]);
    assert_eq!(
        rig.data(channel, 0x1000),
        u32::from_le_bytes([0, 0, 100, 100])
    );
    rig.method(3, 0x88c, 0x10).unwrap();
    blit(&rig, from, to, [0, 0, 6, 1], half, [0; 4]);
    assert_eq!(
        rig.data(channel, 0x1000),
        u32::from_le_bytes([0, 25, 75, 125])
    );
    assert_eq!(
        rig.data(channel, 0x1004) & 0xffff,
        u32::from_le_bytes([175, 200, 0, 0])
    );
}
