//! Streams of methods that nobody would send, and tiles there and back.

use std::sync::mpsc;
use std::time::Duration;

use super::super::classes::Class;
use super::*;
use crate::engine::Calls;

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

/// What a channel's data and its transfer are after words of inline data: those of a constant
/// buffer, or of an M2MF transfer. The words come one by one or in batches.
fn after_inline_data(
    constants: bool,
    at: u64,
    [pitch, width, lines]: [u32; 3],
    words: &[u32],
    batch: Option<usize>,
) -> (usize, Option<Stop>, Vec<u8>, u32) {
    let rig = Rig::new();
    let channel = rig.current();
    let address = [(at >> 32) as u32, at as u32];
    let (subchannel, method) = match constants {
        true => {
            rig.methods(0, 0x2384, &address);
            rig.method(0, 0x238c, width).unwrap();
            (0, 0x2390)
        }
        false => {
            rig.methods(2, 0x238, &address);
            rig.methods(2, 0x318, &[pitch, width, lines]);
            rig.method(2, 0x300, 0x10_0111).unwrap();
            (2, 0x304)
        }
    };
    let mut rest = Calls {
        subchannel,
        address: method,
        step: 0,
        data: words,
    };
    let mut stop = None;
    while let (None, Some(first)) = (stop, rest.first()) {
        let (used, result) = match batch {
            None => (1, rig.pgraph.method(first, &rig.pause)),
            Some(batch) => {
                let some = rest.take(batch.min(rest.data.len()));
                rig.pgraph.methods(some, &rig.pause)
            }
        };
        rest = rest.skip(used);
        stop = result.err();
    }
    let mut bytes = vec![0; MIB as usize];
    let start = DATA_VRAM + u64::from(channel.chid) * 2 * MIB;
    rig.shared.memory.vram().read(start, &mut bytes);
    let used = words.len() - rest.data.len();
    let position = rig.pgraph.exec().peek(Class::ThreeD, 0x238c);
    (used, stop, bytes, position)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn inline_data_in_batches_is_what_it_is_word_by_word(
        constants: bool,
        from_end in prop_oneof![(0x10u64..0x400).prop_map(|at| MIB - at), 0u64..0x1000],
        shape in (0u32..64, 1u32..40, 1u32..6).prop_map(|(pitch, width, lines)| [pitch, width, lines]),
        words in proptest::collection::vec(any::<u32>(), 1..600),
        batch in 1usize..600,
    ) {
        let run = |batch| after_inline_data(constants, DATA + from_end, shape, &words, batch);
        let (one_by_one, batches) = (run(None), run(Some(batch)));
        prop_assert_eq!(one_by_one.0, batches.0);
        prop_assert_eq!(one_by_one.1, batches.1);
        prop_assert!(one_by_one.2 == batches.2);
        prop_assert_eq!(one_by_one.3, batches.3);
    }
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
