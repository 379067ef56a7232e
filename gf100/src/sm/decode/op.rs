//! Operations.

use super::{
    AddOp, AtomOp, AtomType, BarMode, Combine, Condition, FloatMode, FloatSize, IntSize, LdcMode,
    Logic, LopOp, MemType, MinMaxPart, MufuFunction, Pred, PredSrc, RegOrImm, Round, SetTo,
    Surface, Target, Tex, TexQuery, VoteMode, Window,
};

/// An operation with its modifiers. Sources are in the [`Instruction`](super::Instruction), in the
/// order of the names a, b, c in these comments.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // Fields are explained by their types.
pub enum Op {
    // Single precision.
    /// a + b
    FAdd(FloatMode),
    /// a * b * 2^scale
    FMul { mode: FloatMode, scale: i8 },
    /// a * b + c, rounded once
    FFma(FloatMode),
    /// The lesser if `min`, else the greater; NaN loses.
    FMinMax { min: PredSrc, ftz: bool },
    /// Compares a and b.
    FSet {
        cond: Condition,
        ftz: bool,
        combine: Combine,
        to: SetTo,
    },
    /// c compared with 0 ? a : b
    FSlct { cond: Condition, ftz: bool },
    /// Reduces an argument for MUFU. What MUFU makes of the result is the function of the argument.
    Rro,
    /// A function of a.
    Mufu { function: MufuFunction, sat: bool },
    /// a of another lane of the quad, combined with b.
    QuadOp {
        ops: u8,
        source: u8,
        mode: FloatMode,
    },

    // Double precision.
    /// a + b
    DAdd(Round),
    /// a * b
    DMul(Round),
    /// a * b + c, rounded once
    DFma(Round),
    /// The lesser if `min`, else the greater; NaN loses.
    DMinMax { min: PredSrc },
    /// Compares a and b.
    DSet {
        cond: Condition,
        combine: Combine,
        to: SetTo,
    },

    // Integer.
    /// a and b added.
    IAdd {
        op: AddOp,
        sat: bool,
        carry_in: bool,
    },
    /// The low or high word of a * b.
    IMul {
        high: bool,
        signed_a: bool,
        signed_b: bool,
    },
    /// The low or high word of a * b, and c, added.
    IMad {
        high: bool,
        signed_a: bool,
        signed_b: bool,
        op: AddOp,
        sat: bool,
        carry_in: bool,
    },
    /// |a - b| + c
    ISad { signed: bool },
    /// a << shift, and b, added.
    IShlAdd { shift: u8, op: AddOp },
    /// The lesser if `min`, else the greater.
    IMinMax {
        min: PredSrc,
        signed: bool,
        part: MinMaxPart,
    },
    /// Compares a and b; with carry-in the comparison of the low words comes first.
    ISet {
        cond: Condition,
        signed: bool,
        carry_in: bool,
        combine: Combine,
        to: SetTo,
    },
    /// c compared with 0 ? a : b
    ISlct { cond: Condition, signed: bool },
    /// a >> b
    Shr {
        signed: bool,
        wrap: bool,
        reverse: bool,
    },
    /// a << b
    Shl { wrap: bool },
    /// Bitwise.
    Lop(LopOp),
    /// b's field (position in bits 0-7, length in 8-15) of a.
    Bfe { signed: bool, reverse: bool },
    /// c with a in the field that b describes.
    Bfi,
    /// Index of the highest significant bit of b, or how far to shift it to bit 31; -1 if none.
    Bfind { signed: bool, shift_amount: bool },
    /// Bits set in a & b.
    Popc,

    // Moves, conversions, predicates.
    /// b, in the lanes of each quad that the mask names.
    Mov { lanes: u8 },
    /// c ? a : b
    Sel { pred: PredSrc },
    /// Bytes of c:a chosen by b.
    Prmt { mode: u8 },
    /// A special register.
    S2R { special: u8 },
    /// (p first q) second r
    PSet {
        a: PredSrc,
        first: Logic,
        b: PredSrc,
        combine: Combine,
        to: SetTo,
    },
    /// Between floating-point formats.
    F2F {
        to: FloatSize,
        from: FloatSize,
        round: Round,
        integral: bool,
        half: u8,
        ftz: bool,
        sat: bool,
    },
    /// To an integer.
    F2I {
        to: IntSize,
        from: FloatSize,
        round: Round,
        half: u8,
        ftz: bool,
    },
    /// From an integer.
    I2F {
        to: FloatSize,
        from: IntSize,
        round: Round,
        byte: u8,
    },
    /// Between integers.
    I2I {
        to: IntSize,
        from: IntSize,
        byte: u8,
        sat: bool,
    },
    /// Over the active lanes: the register takes the ballot, the predicate the outcome.
    Vote {
        mode: VoteMode,
        pred: PredSrc,
        to: Pred,
    },
    /// A barrier of the CTA.
    Bar {
        mode: BarMode,
        id: RegOrImm,
        count: RegOrImm,
        pred: PredSrc,
        to: Pred,
    },
    /// Nothing.
    Nop,

    // Memory. The address is in source a, data to store in b.
    /// Loads through the generic address space.
    LdGlobal {
        ty: MemType,
        wide: bool,
        offset: i32,
    },
    /// Stores through the generic address space.
    StGlobal {
        ty: MemType,
        wide: bool,
        offset: i32,
    },
    /// Loads from local or shared memory.
    Ld {
        window: Window,
        ty: MemType,
        offset: i32,
    },
    /// Stores to local or shared memory.
    St {
        window: Window,
        ty: MemType,
        offset: i32,
    },
    /// Loads from shared memory and tries to lock the word; the predicate says whether it did.
    LdLock {
        ty: MemType,
        offset: i32,
        locked: Pred,
    },
    /// Stores to shared memory and unlocks the word.
    StUnlock { ty: MemType, offset: i32 },
    /// Loads from a constant buffer.
    Ldc {
        ty: MemType,
        bank: u8,
        offset: i32,
        mode: LdcMode,
    },
    /// Read-modify-write; `CAS` compares with b and stores c. The old value goes to the
    /// destination.
    Atom {
        op: AtomOp,
        ty: AtomType,
        wide: bool,
        offset: i32,
    },
    /// Orders what needs no ordering here, or controls caches that are not there.
    Fence,

    // Surfaces. Coordinates start in source a, data to store in b.
    /// Loads raw bytes.
    SuLd { surface: Surface, ty: MemType },
    /// Stores raw bytes.
    SuSt { surface: Surface, ty: MemType },
    /// Stores components in the surface's format.
    SuStFormatted { surface: Surface, mask: u8 },
    /// The address; the predicate says that it is outside.
    SuLea {
        surface: Surface,
        ty: MemType,
        outside: Pred,
    },

    // Textures. Sources start in a and in b.
    /// Looks up.
    Tex(Tex),
    /// Asks.
    TexQuery {
        query: TexQuery,
        texture: u8,
        indirect: bool,
        mask: u8,
    },

    // Control flow.
    /// Goes elsewhere; `uniform` goes only if all active lanes do.
    Bra { target: Target, uniform: bool },
    /// Calls.
    Call { target: Target },
    /// Where lanes will meet.
    PushJoin { target: u32 },
    /// Where `Break` will lead.
    PushBreak { target: u32 },
    /// Where `Continue` will lead.
    PushContinue { target: u32 },
    /// Where `Return` will lead.
    PushReturn { target: u32 },
    /// Leaves the loop.
    Break,
    /// Starts the loop again.
    Continue,
    /// Returns.
    Return,
    /// Ends.
    Exit,
    /// All lanes of quads with an active lane.
    QuadOn,
    /// The lanes before `QuadOn`.
    QuadPop,
}
