//! Accesses to configuration space.

use std::sync::Arc;

use gf100::{Card, Config, NoInterrupts};

use super::Bytes;

/// Plays a script: per access a word with the offset in its low half, and a byte with direction
/// and length; then for a store its data.
pub fn run(script: &[u8]) {
    let card = Card::new(Config::quadro_6000(64 << 20), Arc::new(NoInterrupts)).unwrap();
    let mut identity = [0; 4];
    card.config_read(0, &mut identity);
    let mut script = Bytes(script);
    while let (Some(place), Some(choice)) = (script.u32(), script.u8()) {
        let offset = u64::from(place & 0x1fff) | u64::from(place >> 31) << 63;
        let len = usize::from(choice >> 1) % 16;
        if choice & 1 == 0 {
            card.config_read(offset, &mut [0; 16][..len]);
        } else {
            card.config_write(offset, &script.take::<16>().unwrap_or([0xff; 16])[..len]);
        }
    }
    let mut after = [0; 4];
    card.config_read(0, &mut after);
    assert_eq!(identity, after, "a store changed the identification");
}
