//! Streams of methods that nobody would send, and tiles there and back.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// What a pushbuffer may send: mostly methods that act, on subchannels that have a class.
fn any_method() -> impl Strategy<Value = Method> {
    let acting = proptest::sample::select(vec![
        0x000, 0x10c, 0x114, 0x118, 0x11c, 0x120, 0x204, 0x228, 0x22c, 0x238, 0x23c, 0x300, 0x304,
        0x30c, 0x310, 0x314, 0x31c, 0x320, 0x344, 0x1694, 0x1b0c, 0x238c, 0x2390, 0x2404, 0x2410,
        0x3800, 0x3804, 0x3808, 0x0804, 0x0808, 0x080c, 0x0810, 0x0814, 0x0ff4, 0x0ff8, 0x1538,
        0x19d0, 0x0368, 0x03ac, 0x088c, 0x08b0, 0x08b8, 0x08bc, 0x08c4, 0x08d4, 0x08dc,
    ]);
    let address = prop_oneof![4 => acting, 1 => (0u16..0x1000).prop_map(|word| word * 4)];
    let class = proptest::sample::select(vec![0x902d, M2MF, THREED, COMPUTE, 0x1f906e]);
    let data = prop_oneof![
        any::<u32>(),
        0u32..0x400,
        class,
        Just(DATA as u32),
        Just(0x100110)
    ];
    (0u8..4, address, data).prop_map(|(subchannel, address, data)| Method {
        subchannel,
        address,
        data,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_stream_of_methods_is_survived(
        methods in proptest::collection::vec((any_method(), any::<bool>()), 0..200),
    ) {
        let rig = Rig::new();
        let [one, two] = [rig.channel(1), rig.channel(2)];
        for (subchannel, class) in [(0, THREED), (1, COMPUTE), (2, M2MF), (3, 0x902d)] {
            for channel in [one, two] {
                rig.pgraph.switch_to(channel).unwrap();
                rig.method(subchannel, 0, class).unwrap();
            }
        }
        // A job may be endless, so none gets more than a moment.
        let (going, stopped) = mpsc::channel::<()>();
        let pause = &rig.pause;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let moment = Duration::from_micros(300);
                while stopped.recv_timeout(moment) == Err(mpsc::RecvTimeoutError::Timeout) {
                    pause.ask();
                }
            });
            for (method, first) in methods {
                let channel = if first { one } else { two };
                rig.pgraph.switch_to(channel).unwrap();
                rig.pause.clear();
                match rig.pgraph.method(method, &rig.pause) {
                    Ok(()) => {}
                    Err(Stop::Trapped) => rig.acknowledge(rig.interrupts()),
                    Err(Stop::Fault(_) | Stop::Paused) => rig.pgraph.discard(channel),
                }
            }
            drop(going);
        });
    }

    #[test]
    fn a_tiled_surface_survives_a_round_trip(
        blocks in 0u32..6,
        (x, y, width, lines) in (0u32..70, 0u32..40, 1u32..80, 1u32..40),
    ) {
        let rig = Rig::new();
        let channel = rig.current();
        let size = width * lines;
        for word in 0..size.div_ceil(4) {
            rig.set_data(channel, u64::from(word) * 4, word.wrapping_mul(0x9e37_79b1));
        }
        let high = (DATA >> 32) as u32;
        let [linear, tiled, back] = [0, 0x4_0000, 0x8_0000].map(|at| DATA as u32 + at);
        let layout = [blocks << 4, 160, 80, 1, 0];
        rig.methods(2, 0x204, &layout);
        rig.methods(2, 0x220, &layout);
        rig.methods(2, 0x344, &[x, y, x, y]);
        rig.methods(2, 0x30c, &[high, linear, width, width, width, lines]);
        rig.methods(2, 0x238, &[high, tiled]);
        rig.method(2, 0x300, 0x10_0010).unwrap();
        rig.methods(2, 0x30c, &[high, tiled]);
        rig.methods(2, 0x238, &[high, back]);
        rig.method(2, 0x300, 0x10_0100).unwrap();
        let bytes = |at: u64| {
            let mut bytes = vec![0; size as usize];
            rig.shared.memory.vram().read(DATA_VRAM + 2 * MIB + at, &mut bytes);
            bytes
        };
        prop_assert_eq!(bytes(0), bytes(0x8_0000));
    }
}
