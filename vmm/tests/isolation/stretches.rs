//! What the hypervisor has behind the card's BARs.

use gpu_model::Settings;
use mmio::Bar;

use crate::rig::Machines;

#[test]
fn bars_of_the_card_lead_where_the_layout_says_and_nowhere_else() {
    let machines = Machines::new(2, Settings::default());
    let card = machines.host.card();
    let bars = [Bar::Bar1, Bar::Bar3].map(|bar| card.bar_size(bar));
    let stretches = machines.layout.stretches(bars[0], bars[1]);

    for part in [0, 1].map(|machine| machines.part(machine)) {
        for at in [part.vram.start, part.vram.end - 4, part.tables.start] {
            let (bar, place) = stretches.find(at, 4).unwrap();
            let word = (at as u32 | 0x55).to_le_bytes();
            card.write(bar, place, &word);
            let mut seen = [0; 4];
            assert!(card.vram_read(at, &mut seen));
            assert_eq!(seen, word, "{at:#x}");
        }
    }

    // All memory is clean.
    let mut beyond = [0; 4];
    card.read(Bar::Bar1, bars[0] - 4, &mut beyond);
    assert_eq!(beyond, [0xff; 4]);
}
