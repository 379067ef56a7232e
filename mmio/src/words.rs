//! Accesses of any length and alignment to registers of 32 bits.

/// Loads the bytes at `offset`, each register that they are in once and whole, by `load`.
#[inline]
pub fn load(offset: u32, data: &mut [u8], mut load: impl FnMut(u32) -> u32) {
    // Most accesses are of one register.
    if let (true, Ok(word)) = (
        offset.is_multiple_of(4),
        <&mut [u8; 4]>::try_from(&mut *data),
    ) {
        *word = load(offset).to_le_bytes();
        return;
    }
    let (mut at, mut rest) = (offset, data);
    while !rest.is_empty() {
        let skip = at as usize % 4;
        let (part, tail) = rest.split_at_mut((4 - skip).min(rest.len()));
        part.copy_from_slice(&load(at & !3).to_le_bytes()[skip..skip + part.len()]);
        at += part.len() as u32;
        rest = tail;
    }
}

/// Stores the bytes at `offset`, each register that they are in once and whole, by `store`; of those
/// that are stored in part, the rest is what `kept` says.
#[inline]
pub fn store(offset: u32, data: &[u8], kept: impl Fn(u32) -> u32, mut store: impl FnMut(u32, u32)) {
    if let (true, Ok(word)) = (offset.is_multiple_of(4), <[u8; 4]>::try_from(data)) {
        return store(offset, u32::from_le_bytes(word));
    }
    let (mut at, mut rest) = (offset, data);
    while !rest.is_empty() {
        let skip = at as usize % 4;
        let (part, tail) = rest.split_at((4 - skip).min(rest.len()));
        let mut word = match part.len() {
            4 => [0; 4],
            _ => kept(at & !3).to_le_bytes(),
        };
        word[skip..skip + part.len()].copy_from_slice(part);
        store(at & !3, u32::from_le_bytes(word));
        at += part.len() as u32;
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_and_go_as_in_memory(offset in 0usize..16, bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            let memory: Vec<u8> = (0x40..).take(64).collect();
            let end = offset + bytes.len();
            let word = |memory: &[u8], at: u32| {
                u32::from_le_bytes(memory[at as usize..][..4].try_into().unwrap())
            };

            let mut touched = Vec::new();
            let mut data = vec![0; bytes.len()];
            load(offset as u32, &mut data, |at| {
                touched.push(at);
                word(&memory, at)
            });
            prop_assert_eq!(&data[..], &memory[offset..end]);
            let registers: Vec<u32> = (offset as u32 / 4 * 4..end as u32).step_by(4).collect();
            let none = bytes.is_empty();
            prop_assert_eq!(&touched, &if none { vec![] } else { registers });

            let stored = RefCell::new(memory.clone());
            let mut again = Vec::new();
            store(
                offset as u32,
                &bytes,
                |at| word(&stored.borrow(), at),
                |at, value| {
                    again.push(at);
                    stored.borrow_mut()[at as usize..][..4].copy_from_slice(&value.to_le_bytes());
                },
            );
            let mut expected = memory;
            expected[offset..end].copy_from_slice(&bytes);
            prop_assert_eq!(stored.into_inner(), expected);
            prop_assert_eq!(again, touched);
        }
    }
}
