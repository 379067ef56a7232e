//! Accesses of any length and alignment to every BAR.

use std::sync::Arc;

use gf100::{Card, Config, NoInterrupts};
use mmio::{Bar, RegisterMap};

use super::Bytes;

/// Longest access of a script.
const LONGEST: usize = 16;

/// Plays a script on a fresh card.
pub fn run(script: &[u8]) {
    let card = Card::new(Config::quadro_6000(64 << 20), Arc::new(NoInterrupts)).unwrap();
    play(&card, script);
}

/// Plays a script: per access a byte that chooses BAR, direction and length, an offset, and for a
/// store its data. Returns the number of accesses.
pub fn play(card: &Card, script: &[u8]) -> u64 {
    let mut script = Bytes(script);
    let registers: Vec<_> = RegisterMap::gf100().iter().collect();
    let mut accesses = 0;
    while let (Some(choice), Some(place)) = (script.u8(), script.u32()) {
        let bar = [Bar::Bar0, Bar::Bar0, Bar::Bar1, Bar::Bar3][usize::from(choice & 3)];
        let len = 1 + usize::from(choice >> 3) % LONGEST;
        let offset = match choice & 3 {
            // Registers that mean something are few among the millions: aim at them.
            0 => {
                let register = registers[place as usize % registers.len()];
                register.offset_of((place >> 16) % register.count).into()
            }
            _ => u64::from(place) % (card.bar_size(bar) + 0x100),
        };
        if choice & 4 == 0 {
            card.read(bar, offset, &mut [0; LONGEST][..len]);
        } else {
            let value = script.take::<LONGEST>().unwrap_or([0; LONGEST]);
            card.write(bar, offset, &value[..len]);
        }
        accesses += 1;
    }
    accesses
}
