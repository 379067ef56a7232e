//! Where the fields of a GF100 instruction are.
//!
//! Source: Mesa `src/nouveau/codegen/nv50_ir_emit_nvc0.cpp` (the `emit…` function that the section
//! names) and, for what Mesa does not emit, ENV `envydis/gf100.c`.

/// Some bits of an instruction word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    lo: u32,
    len: u32,
}

impl Field {
    const fn new(lo: u32, len: u32) -> Self {
        Self { lo, len }
    }
}

/// An instruction word: 64 bits, or 32 with zeros above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub u64);

impl Word {
    /// The field, unsigned.
    #[inline]
    pub(super) const fn get(self, field: Field) -> u32 {
        ((self.0 >> field.lo) & ((1 << field.len) - 1)) as u32
    }

    /// The field, sign-extended.
    #[inline]
    pub(super) const fn signed(self, field: Field) -> i32 {
        ((self.get(field) << (32 - field.len)) as i32) >> (32 - field.len)
    }

    /// The field is not 0.
    #[inline]
    pub(super) const fn is(self, field: Field) -> bool {
        self.get(field) != 0
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $lo:expr, $len:expr;)*) => {
        $($(#[$doc])* pub(super) const $name: Field = Field::new($lo, $len);)*
    };
}

// Every instruction: `emitForm_A`, `emitPredicate`, `emitInstruction`.
fields! {
    /// Class of a long instruction; bit 3 set makes it a short one.
    CLASS = 0, 4;
    /// The lanes meet after the instruction.
    JOIN = 4, 1;
    /// Opcode within the class.
    OPCODE = 59, 5;
    /// Opcode within classes 4 to 6, which use one bit more.
    OPCODE6 = 58, 6;
    GUARD = 10, 3;
    GUARD_NOT = 13, 1;
    DST = 14, 6;
    SRC_A = 20, 6;
    SRC_B = 26, 6;
    SRC_C = 49, 6;
    /// What the second source is: see [`SOURCE_REG`] and following.
    SOURCE = 46, 2;
    /// Byte offset into a constant buffer.
    CONST_OFFSET = 26, 16;
    CONST_BANK = 42, 4;
    /// The offset is a multiple of 4, so its bit 0 holds one more bit of the bank.
    CONST_BANK_HIGH = 26, 1;
    IMM20 = 26, 20;
    IMM32 = 26, 32;
    /// The instruction writes the condition code.
    SET_CC = 48, 1;
    /// As [`SET_CC`], with a 32-bit immediate.
    SET_CC_LIMM = 58, 1;
}

/// [`SOURCE`]: register.
pub(super) const SOURCE_REG: u32 = 0;
/// [`SOURCE`]: constant.
pub(super) const SOURCE_CONST: u32 = 1;
/// [`SOURCE`]: register from [`SRC_C`]; the third source is the constant.
pub(super) const SOURCE_CONST_C: u32 = 2;
/// [`SOURCE`]: 20-bit immediate.
pub(super) const SOURCE_IMM: u32 = 3;

// Modifiers that several instructions share: `emitNegAbs12`, `roundMode_A`, `emitSET`.
fields! {
    ABS_B = 6, 1;
    ABS_A = 7, 1;
    NEG_B = 8, 1;
    NEG_A = 9, 1;
    ROUND = 55, 2;
    /// Saturation, flushing or signedness, by instruction.
    BIT5 = 5, 1;
    /// Flushing, high half or carry-in, by instruction.
    BIT6 = 6, 1;
    /// Multiplication by 0 is 0, or signedness, by instruction.
    BIT7 = 7, 1;
    BIT8 = 8, 1;
    BIT9 = 9, 1;
    CONDITION = 55, 4;
    /// How a comparison is combined with a predicate.
    LOGIC = 53, 2;
    PRED_C = 49, 3;
    PRED_C_NOT = 52, 1;
    PRED_A = 20, 3;
    PRED_A_NOT = 23, 1;
    PRED_B = 26, 3;
    PRED_B_NOT = 29, 1;
    PRED_DST = 17, 3;
    /// Takes the complement.
    PRED_DST2 = 14, 3;
}

// Single precision: `emitFADD`, `emitFMUL`, `emitSET`, `emitSFnOp`, `emitQUADOP`.
fields! {
    FADD_SAT = 49, 1;
    FMUL_SCALE = 49, 3;
    FMUL_NEG = 57, 1;
    FSET_FTZ = 59, 1;
    /// Opcode of FSET, whose comparison needs the bits below.
    FSET_OPCODE = 60, 4;
    MUFU_FUNCTION = 26, 3;
    QUAD_OPS = 32, 8;
    QUAD_SOURCE = 6, 3;
}

// Integer: `emitIMAD`, `emitSHLADD`, `emitUADD`.
fields! {
    /// 1: second operand negated, 2: first operand negated, 3: plus one.
    ADD_OP = 8, 2;
    IMAD_SAT = 56, 1;
    IMAD_CARRY_IN = 55, 1;
    SHLADD_OP = 55, 2;
    SHLADD_SHIFT = 5, 5;
    MINMAX_PART = 6, 2;
    LOP_OP = 6, 2;
    FLOAT_RESULT = 7, 1;
}

// Class 4: `emitCVT`, `emitMOV`, `emitVOTE`, `emitBAR`, `emitPERMT`, `emitLogicOp`.
fields! {
    CVT_DST_SIZE = 20, 2;
    CVT_SRC_SIZE = 23, 2;
    CVT_DST_SIGNED = 7, 1;
    CVT_SRC_SIGNED = 9, 1;
    CVT_ROUND = 49, 2;
    /// Round to an integral value.
    CVT_INTEGRAL = 7, 1;
    CVT_FTZ = 55, 1;
    CVT_BYTE = 55, 2;
    CVT_HALF = 56, 1;
    PRMT_MODE = 5, 3;
    MOV_LANES = 5, 4;
    SPECIAL = 26, 8;
    VOTE_MODE = 5, 2;
    VOTE_PRED = 54, 3;
    PSET_OP = 30, 2;
    BAR_MODE = 5, 3;
    BAR_ID = 20, 4;
    BAR_ID_IMM = 47, 1;
    BAR_COUNT = 26, 12;
    BAR_COUNT_IMM = 46, 1;
    BAR_PRED = 53, 3;
    /// Condition that a NOP or a branch tests; [`CC_TRUE`] is always.
    CC_TEST = 5, 5;
}

/// [`CC_TEST`]: true.
pub(super) const CC_TRUE: u32 = 0xf;

// Memory: `emitLOAD`, `emitSTORE`, `emitATOM`, `emitSULDB`, `emitSUSTx`, `emitSULEA`.
fields! {
    MEM_TYPE = 5, 3;
    /// The address is a pair of registers.
    MEM_WIDE = 58, 1;
    /// As [`MEM_WIDE`], of `ldu`-like combined loads.
    MEM_OFFSET32 = 26, 32;
    MEM_OFFSET24 = 26, 24;
    /// Local and shared forms of classes 5's 0x30 and 0x32.
    MEM_SHARED = 56, 1;
    LOCK_PRED = 50, 3;
    ATOM_OP = 5, 4;
    ATOM_KIND = 9, 1;
    ATOM_DST = 43, 6;
    ATOM_OFFSET_LOW = 26, 17;
    ATOM_OFFSET_HIGH = 55, 3;
    LDC_MODE = 8, 2;
    LDC_BANK = 42, 5;
    SURFACE = 26, 3;
    SURFACE_IMM = 46, 1;
    SURFACE_DIM = 44, 2;
    SURFACE_CLAMP = 47, 2;
    SUSTP_MASK = 49, 4;
    SULEA_PRED = 54, 3;
}

// Textures: `emitTEX`, `emitTXQ`.
fields! {
    TEX_OPCODE = 60, 4;
    TEX_MASK = 46, 4;
    TEX_TEXTURE = 32, 8;
    TEX_SAMPLER = 40, 5;
    TEX_INDIRECT = 50, 1;
    TEX_ARRAY = 51, 1;
    TEX_DIM = 52, 2;
    TEX_OFFSET = 54, 1;
    /// Four offsets (gather) or a sample index (fetch).
    TEX_EXTRA = 55, 1;
    TEX_SHADOW = 56, 1;
    TEX_LOD = 57, 3;
    TXF_LOD = 57, 1;
    TXQ_QUERY = 54, 6;
    TEX_GATHER_COMPONENT = 5, 2;
    /// Derivatives of all lanes of a quad, whether or not they are active.
    TEX_ALL_LANES = 45, 1;
}

// Control flow: `emitFlow`.
fields! {
    FLOW_TARGET = 26, 24;
    /// The absolute target's upper byte.
    FLOW_ABS_TARGET = 26, 32;
    FLOW_INDIRECT = 14, 1;
    FLOW_UNIFORM = 15, 1;
}

// Short instructions: `emitForm_S`, `emitShortSrc2`, ENV `tabs`.
fields! {
    SHORT_OP = 0, 10;
    SHORT_HIGH = 27, 5;
    SHORT_BANK = 8, 2;
    SHORT_BANK_FMA = 6, 2;
    SHORT_SRC_C = 8, 6;
    SHORT_OFFSET_A = 20, 6;
    SHORT_OFFSET_B = 26, 6;
    SHORT_OFFSET_C = 8, 6;
    SHORT_IMM_LOW = 26, 6;
    SHORT_IMM_HIGH = 8, 2;
    SHORT_IMM12 = 20, 12;
    SHORT_SPECIAL = 20, 8;
    SHORT_SHIFT = 26, 5;
    SHORT_CVT_NEG = 16, 1;
    SHORT_CVT_SAT = 18, 1;
    SHORT_CVT_ABS = 19, 1;
    SHORT_CVT_ROUND = 20, 2;
    SHORT_CVT_SIGNED = 24, 1;
    SHORT_MUFU_FUNCTION = 26, 3;
    SHORT_ABS = 30, 1;
}
