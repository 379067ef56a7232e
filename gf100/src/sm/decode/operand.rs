//! What operations work on, and their modifiers.

/// A general register. 63 reads as 0 and takes what nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// The register that is always 0.
    pub const ZERO: Self = Reg(63);
}

/// A predicate register; 7 is always true and takes what nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pred(pub u8);

impl Pred {
    /// The predicate that is always true.
    pub const TRUE: Self = Pred(7);
}

/// A predicate as a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredSrc {
    /// Which.
    pub pred: Pred,
    /// Its complement.
    pub not: bool,
}

impl PredSrc {
    /// Always true.
    pub const TRUE: Self = Self {
        pred: Pred::TRUE,
        not: false,
    };
}

/// Where a source comes from. Sources of 64 bits are register pairs, two words of a constant
/// buffer, or an immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A word of a constant buffer.
    Const {
        /// Buffer, 0-31; those above 15 are never bound.
        bank: u8,
        /// Byte offset.
        offset: u16,
    },
    /// An immediate; only the low half is used by sources of 32 bits.
    Imm(u64),
}

/// A source with its modifiers. Absolute value comes before negation. For logic operations `neg` is
/// the complement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where from.
    pub at: Operand,
    /// Negated.
    pub neg: bool,
    /// Absolute value.
    pub abs: bool,
}

impl Source {
    /// Without modifiers.
    pub const fn new(at: Operand) -> Self {
        Self {
            at,
            neg: false,
            abs: false,
        }
    }

    /// Register 63.
    pub const ZERO: Self = Self::new(Operand::Reg(Reg::ZERO));

    pub(super) const fn with(at: Operand, neg: bool, abs: bool) -> Self {
        Self { at, neg, abs }
    }
}

/// Rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To nearest, ties to even.
    Nearest,
    /// To minus infinity.
    Down,
    /// To plus infinity.
    Up,
    /// To zero.
    Zero,
}

impl Round {
    pub(super) const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Round::Nearest,
            1 => Round::Down,
            2 => Round::Up,
            _ => Round::Zero,
        }
    }
}

/// Modifiers of single-precision arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatMode {
    /// Rounding of the result.
    pub round: Round,
    /// Subnormal sources and results become zeros of their sign.
    pub ftz: bool,
    /// As `ftz`, and 0 times anything is 0.
    pub fmz: bool,
    /// The result is clamped to 0..1; NaN becomes 0.
    pub sat: bool,
}

/// A comparison: which relations make it true. Bit 0 less, 1 equal, 2 greater, 3 unordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(pub u8);

/// How predicates combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logic {
    /// Conjunction.
    And,
    /// Disjunction.
    Or,
    /// Exclusive disjunction.
    Xor,
}

/// What a comparison yields: its result combined with a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Combine {
    /// How.
    pub logic: Logic,
    /// With what.
    pub with: PredSrc,
}

/// Where the result of a comparison goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTo {
    /// All ones or 0 into the destination register.
    Mask,
    /// 1.0 or 0 into the destination register.
    Float,
    /// Predicates: the first takes the result, the second that of the complement.
    Preds(Pred, Pred),
}

/// How an addition treats its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// b - a
    SubReverse,
    /// a + b + 1
    AddPlusOne,
}

impl AddOp {
    pub(super) const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => AddOp::Add,
            1 => AddOp::Sub,
            2 => AddOp::SubReverse,
            _ => AddOp::AddPlusOne,
        }
    }
}

/// A bitwise operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LopOp {
    /// a & b
    And,
    /// a | b
    Or,
    /// a ^ b
    Xor,
    /// b
    PassB,
}

/// The part of a 64-bit minimum or maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinMaxPart {
    /// All of a 32-bit one.
    Whole,
    /// The low words; the high words' comparison is in the condition code.
    Low,
    /// The high words; leaves its comparison in the condition code.
    High,
}

/// A function of the multi-function unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the functions.
pub enum MufuFunction {
    Cos,
    Sin,
    Ex2,
    Lg2,
    Rcp,
    Rsq,
    /// Of a double, high words only.
    Rcp64High,
    /// Of a double, high words only.
    Rsq64High,
}

impl MufuFunction {
    pub(super) const fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => MufuFunction::Cos,
            1 => MufuFunction::Sin,
            2 => MufuFunction::Ex2,
            3 => MufuFunction::Lg2,
            4 => MufuFunction::Rcp,
            5 => MufuFunction::Rsq,
            6 => MufuFunction::Rcp64High,
            _ => MufuFunction::Rsq64High,
        }
    }
}

/// Bits of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the sizes.
pub enum FloatSize {
    F16,
    F32,
    F64,
}

/// An integer's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntSize {
    /// log2 of the bytes, 0-3.
    pub log2: u8,
    /// Two's complement.
    pub signed: bool,
}

/// What a memory instruction moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the types.
pub enum MemType {
    U8,
    S8,
    U16,
    S16,
    B32,
    B64,
    B128,
}

impl MemType {
    /// Bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            MemType::U8 | MemType::S8 => 1,
            MemType::U16 | MemType::S16 => 2,
            MemType::B32 => 4,
            MemType::B64 => 8,
            MemType::B128 => 16,
        }
    }

    /// Registers that hold it.
    pub const fn regs(self) -> u32 {
        match self {
            MemType::B64 => 2,
            MemType::B128 => 4,
            _ => 1,
        }
    }
}

/// A memory that is addressed with 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Each thread's own.
    Local,
    /// The CTA's.
    Shared,
}

/// An atomic operation on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomOp {
    /// Sum, wrapping.
    Add,
    /// Lesser.
    Min,
    /// Greater.
    Max,
    /// `old >= b ? 0 : old + 1`
    Inc,
    /// `old == 0 || old > b ? b : old - 1`
    Dec,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// Swap.
    Exch,
    /// Swap if equal.
    Cas,
}

/// What an atomic operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the types.
pub enum AtomType {
    U32,
    S32,
    U64,
    F32,
}

/// How an indexed constant load finds its buffer: the `LDC` modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LdcMode {
    /// Offset from the register.
    Default,
    /// The register's upper half selects the buffer, too.
    Segmented,
}

/// A vote over the active lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteMode {
    /// All true.
    All,
    /// One true.
    Any,
    /// All the same.
    Uniform,
}

/// What a barrier does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarMode {
    /// Waits; counts the threads whose predicate is true.
    Popc,
    /// Waits; whether all predicates are true.
    And,
    /// Waits; whether any is.
    Or,
    /// Counts as arrived and goes on.
    Arrive,
}

/// A barrier operand: a register or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegOrImm {
    /// From a register.
    Reg(Reg),
    /// The number.
    Imm(u16),
}

/// How the target of a control transfer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Byte address in the code segment.
    Address(u32),
    /// From a constant: absolute, or relative to the byte address here.
    Const {
        /// Buffer.
        bank: u8,
        /// Byte offset.
        offset: u16,
        /// What it is relative to.
        base: Option<u32>,
    },
}

/// A texture's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the shapes.
pub enum TexDim {
    D1,
    D2,
    D3,
    Cube,
}

/// Where the level of detail comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LodMode {
    /// Differences within the quad; 0 in a compute shader unless all lanes are derived from.
    Auto,
    /// 0.
    Zero,
    /// Differences, plus a source.
    Bias,
    /// A source.
    Explicit,
}

/// What a texture instruction looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TexKind {
    /// Filtered.
    Sample(LodMode),
    /// Filtered, with derivatives as sources.
    Gradient,
    /// One texel by integer coordinates.
    Fetch {
        /// The level is a source; else 0.
        lod: bool,
        /// The sample is a source.
        multisample: bool,
    },
    /// One component of four texels.
    Gather {
        /// Which component.
        component: u8,
        /// Each texel has its own offset.
        four_offsets: bool,
    },
    /// The level of detail that sampling would use.
    QueryLod,
}

/// A texture instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tex {
    /// What.
    pub kind: TexKind,
    /// Texture slot.
    pub texture: u8,
    /// Sampler slot.
    pub sampler: u8,
    /// The first source has the slots.
    pub indirect: bool,
    /// The first source has the layer.
    pub array: bool,
    /// Shape.
    pub dim: TexDim,
    /// Compare with a reference.
    pub shadow: bool,
    /// Texel offsets are a source.
    pub offset: bool,
    /// Level of detail from all lanes of the quad.
    pub all_lanes: bool,
    /// Components that are wanted, packed into consecutive registers.
    pub mask: u8,
}

/// A question about a texture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TexQuery {
    /// Width, height, depth or layers, levels.
    Dimensions,
    /// Samples, as the third component.
    Type,
}

/// A surface access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surface {
    /// Slot, or where it is from.
    pub slot: RegOrImm,
    /// Coordinates.
    pub dim: SurfaceDim,
    /// Outside of the surface.
    pub clamp: SurfaceClamp,
}

/// How a surface is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are the shapes.
pub enum SurfaceDim {
    D1,
    D2,
    /// Two dimensions and an offset of the surface in units of 256 bytes.
    E2,
}

/// What becomes of an access outside of a surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurfaceClamp {
    /// Loads yield 0, stores are dropped.
    Ignore,
    /// Coordinates are clamped.
    Clamp,
    /// Trap.
    Trap,
}
