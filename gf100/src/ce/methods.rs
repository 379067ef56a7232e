//! The methods of the copy classes, as the driver's firmware knows them: classes 0x90b5 and 0x90b8
//! are one.
//!
//! Source: K61 `nvkm/engine/ce/fuc/com.fuc` dispatch_table, ctx_*; GDEV and nouveau use it as
//! `nouveau_bo90b5.c nvc0_bo_move_copy` does.

use std::sync::LazyLock;

use bitflags::bitflags;

/// Words of a context that are the class's state. A context is 256 bytes.
pub const STATE_WORDS: usize = 31;
/// Bytes of a context in memory.
pub const CONTEXT_SIZE: usize = 256;

/// The words of the state, in the order of the firmware's data segment, which is the order of a
/// context in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)] // The names are the firmware's.
pub enum Word {
    Object,
    QueryAddressHigh,
    QueryAddressLow,
    QueryCounter,
    SrcAddressHigh,
    SrcAddressLow,
    SrcPitch,
    SrcTileMode,
    SrcXsize,
    SrcYsize,
    SrcZsize,
    SrcZoff,
    SrcXoff,
    SrcYoff,
    SrcCpp,
    DstAddressHigh,
    DstAddressLow,
    DstPitch,
    DstTileMode,
    DstXsize,
    DstYsize,
    DstZsize,
    DstZoff,
    DstXoff,
    DstYoff,
    DstCpp,
    Format,
    SwzConst0,
    SwzConst1,
    Xcnt,
    Ycnt,
}

bitflags! {
    /// The argument of EXEC.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Exec: u32 {
        /// FORMAT describes pixels; else they are bytes.
        const FORMAT = 1 << 0;
        /// The source has a pitch; else it is block-linear.
        const SRC_LINEAR = 1 << 4;
        /// The destination has a pitch.
        const DST_LINEAR = 1 << 8;
        /// Write the query once the copy is done.
        const QUERY = 1 << 12;
        /// The query is the counter alone, without the time.
        const QUERY_SHORT = 1 << 13;
    }
}

/// What a method does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Its argument becomes part of the state.
    Store(Word),
    /// Nothing that could be seen.
    Nothing,
    /// Copies.
    Execute,
}

/// Why a method is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none at this address.
    IllegalMethod,
    /// Its argument has a bit that means nothing.
    InvalidBitfield,
}

/// Methods that the falcon's queue can tell apart.
pub const INDICES: u16 = 0x800;

/// What method number `index` (a quarter of its address) does with `data`.
pub fn decode(index: u16, data: u32) -> Result<Action, Refusal> {
    let (action, valid) = method(index).ok_or(Refusal::IllegalMethod)?;
    match data & !valid {
        0 => Ok(action),
        _ => Err(Refusal::InvalidBitfield),
    }
}

/// What method number `index` does, and the bits that its argument may have.
fn method(index: u16) -> Option<(Action, u32)> {
    use Word::*;
    Some(match index % INDICES {
        0x000 => (Action::Store(Object), u32::MAX),
        0x040 | 0x050 | 0x0c1 => (Action::Nothing, u32::MAX),
        0x080 => (Action::Store(SrcTileMode), 0xfff),
        0x081 => (Action::Store(SrcXsize), 0x7_ffff),
        0x082 => (Action::Store(SrcYsize), 0x1fff),
        0x083 => (Action::Store(SrcZsize), 0x7ff),
        0x084 => (Action::Store(SrcZoff), 0xfff),
        0x085 => (Action::Store(SrcXoff), 0x7_ffff),
        0x086 => (Action::Store(SrcYoff), 0x1fff),
        0x088 => (Action::Store(DstTileMode), 0xfff),
        0x089 => (Action::Store(DstXsize), 0x7_ffff),
        0x08a => (Action::Store(DstYsize), 0x1fff),
        0x08b => (Action::Store(DstZsize), 0x7ff),
        0x08c => (Action::Store(DstZoff), 0xfff),
        0x08d => (Action::Store(DstXoff), 0x7_ffff),
        0x08e => (Action::Store(DstYoff), 0x1fff),
        0x0c0 => (Action::Execute, u32::MAX),
        0x0c3 => (Action::Store(SrcAddressHigh), 0xff),
        0x0c4 => (Action::Store(SrcAddressLow), u32::MAX),
        0x0c5 => (Action::Store(DstAddressHigh), 0xff),
        0x0c6 => (Action::Store(DstAddressLow), u32::MAX),
        0x0c7 => (Action::Store(SrcPitch), 0x7_ffff),
        0x0c8 => (Action::Store(DstPitch), 0x7_ffff),
        0x0c9 => (Action::Store(Xcnt), 0xffff),
        0x0ca => (Action::Store(Ycnt), 0x1fff),
        0x0cb => (Action::Store(Format), 0x0333_ffff),
        0x0cc => (Action::Store(SwzConst0), u32::MAX),
        0x0cd => (Action::Store(SwzConst1), u32::MAX),
        0x0ce => (Action::Store(QueryAddressHigh), 0xff),
        0x0cf => (Action::Store(QueryAddressLow), u32::MAX),
        0x0d0 => (Action::Store(QueryCounter), u32::MAX),
        _ => return None,
    })
}

/// The class's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub [u32; STATE_WORDS]);

/// By word, the bits that it may have: those of its method, or of a pixel's bytes.
static VALID: LazyLock<[u32; STATE_WORDS]> = LazyLock::new(|| {
    let mut valid = [0; STATE_WORDS];
    for (action, bits) in (0..INDICES).filter_map(method) {
        if let Action::Store(word) = action {
            valid[word as usize] = bits;
        }
    }
    for word in [Word::SrcCpp, Word::DstCpp] {
        valid[word as usize] = 0x1f;
    }
    valid
});

impl State {
    /// The state in a context, which a driver may have stored to: without bits that no method would
    /// have let through.
    pub fn restored(words: &[u32]) -> Self {
        let mut state = Self::default();
        for ((to, word), valid) in state.0.iter_mut().zip(words).zip(&*VALID) {
            *to = word & valid;
        }
        state
    }

    /// A word of it.
    pub fn get(&self, word: Word) -> u32 {
        self.0[word as usize]
    }

    /// Sets a word of it.
    pub fn set(&mut self, word: Word, value: u32) {
        self.0[word as usize] = value;
    }

    /// An address of which the words are `high` and `low`.
    pub fn address(&self, high: Word, low: Word) -> u64 {
        u64::from(self.get(high)) << 32 | u64::from(self.get(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_restores_no_more_than_methods_can_store() {
        let state = State::restored(&[u32::MAX; STATE_WORDS]);
        assert_eq!(state.get(Word::Xcnt), 0xffff);
        assert_eq!(state.get(Word::SrcCpp), 0x1f);
        assert_eq!(state.get(Word::QueryCounter), u32::MAX);
        assert_eq!(State::restored(&state.0), state);
    }

    #[test]
    fn the_methods_of_the_drivers_copy_are_known() {
        for (address, word) in [
            (0x30c, Word::SrcAddressHigh),
            (0x318, Word::DstAddressLow),
            (0x31c, Word::SrcPitch),
            (0x324, Word::Xcnt),
            (0x328, Word::Ycnt),
            (0x340, Word::QueryCounter),
        ] {
            assert_eq!(decode(address / 4, 1), Ok(Action::Store(word)));
        }
        assert_eq!(decode(0x300 / 4, 0x110), Ok(Action::Execute));
    }

    #[test]
    fn holes_in_the_table_are_illegal() {
        for address in [0x104, 0x1fc, 0x21c, 0x23c, 0x308, 0x344, 0x1ffc] {
            assert_eq!(decode(address / 4, 0), Err(Refusal::IllegalMethod));
        }
    }

    #[test]
    fn a_reserved_bit_is_refused() {
        assert_eq!(decode(0x328 / 4, 0x2000), Err(Refusal::InvalidBitfield));
        assert_eq!(decode(0x30c / 4, 0x100), Err(Refusal::InvalidBitfield));
        assert_eq!(
            decode(0x32c / 4, 0x0400_0000),
            Err(Refusal::InvalidBitfield)
        );
    }

    #[test]
    fn a_context_has_every_word() {
        assert_eq!(Word::Ycnt as usize, STATE_WORDS - 1);
        const { assert!((STATE_WORDS + 1 + 4) * 4 <= CONTEXT_SIZE) };
    }
}
