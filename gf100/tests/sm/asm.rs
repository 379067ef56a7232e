//! An assembler by fields, as the documents number them; it shares nothing with the card's decoder.

/// An instruction word under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct I(pub u64);

pub const RZ: u64 = 63;
pub const PT: u64 = 7;

impl I {
    /// Class in bits 0-3, opcode in bits 58-63, guarded by nothing.
    pub const fn new(class: u64, opcode: u64) -> Self {
        Self(class | opcode << 58 | PT << 10)
    }

    pub const fn or(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    pub const fn bit(self, n: u32) -> Self {
        self.or(1 << n)
    }

    pub const fn field(self, lo: u32, len: u32, value: u64) -> Self {
        let mask = ((1 << len) - 1) << lo;
        Self(self.0 & !mask | value << lo & mask)
    }

    pub const fn dst(self, r: u64) -> Self {
        self.field(14, 6, r)
    }

    pub const fn a(self, r: u64) -> Self {
        self.field(20, 6, r)
    }

    pub const fn b(self, r: u64) -> Self {
        self.field(26, 6, r)
    }

    pub const fn c(self, r: u64) -> Self {
        self.field(49, 6, r)
    }

    /// 20-bit immediate as the second source.
    pub const fn imm(self, value: u64) -> Self {
        self.field(26, 20, value).field(46, 2, 3)
    }

    pub const fn limm(self, value: u32) -> Self {
        self.field(26, 32, value as u64)
    }

    pub const fn constant(self, bank: u64, offset: u64) -> Self {
        self.field(26, 16, offset)
            .field(42, 4, bank)
            .field(46, 2, 1)
    }

    /// Guarded by a predicate.
    pub const fn on(self, p: u64) -> Self {
        self.field(10, 3, p)
    }

    /// Guarded by the complement of a predicate.
    pub const fn unless(self, p: u64) -> Self {
        self.field(10, 3, p).bit(13)
    }

    /// With the join flag.
    pub const fn join(self) -> Self {
        self.bit(4)
    }
}

pub const fn mov_imm(dst: u64, value: u32) -> I {
    I::new(2, 0x06).dst(dst).limm(value).field(5, 4, 0xf)
}

pub const fn mov(dst: u64, from: u64) -> I {
    I::new(4, 0x0a).dst(dst).b(from).field(5, 4, 0xf)
}

pub const fn mov_const(dst: u64, bank: u64, offset: u64) -> I {
    I::new(4, 0x0a)
        .dst(dst)
        .constant(bank, offset)
        .field(5, 4, 0xf)
}

pub const fn s2r(dst: u64, special: u64) -> I {
    I::new(4, 0x0b).dst(dst).field(26, 8, special)
}

pub const fn iadd(dst: u64, a: u64, b: u64) -> I {
    I::new(3, 0x12).dst(dst).a(a).b(b)
}

pub const fn iadd_imm(dst: u64, a: u64, value: i64) -> I {
    I::new(3, 0x12).dst(dst).a(a).imm(value as u64)
}

pub const fn shl_imm(dst: u64, a: u64, by: u64) -> I {
    I::new(3, 0x18).dst(dst).a(a).imm(by)
}

pub const fn and_imm(dst: u64, a: u64, value: u64) -> I {
    I::new(3, 0x1a).dst(dst).a(a).imm(value)
}

/// Conditions of comparisons.
pub mod cond {
    pub const LT: u64 = 1;
    pub const EQ: u64 = 2;
    pub const NE: u64 = 5;
    pub const GE: u64 = 6;
}

const fn isetp_base(p: u64, cond: u64, a: u64) -> I {
    I::new(3, 0x06)
        .field(17, 3, p)
        .field(14, 3, PT)
        .a(a)
        .field(55, 4, cond)
        .field(49, 3, PT)
        .bit(5)
}

/// Signed comparison with an immediate into a predicate.
pub const fn isetp_imm(p: u64, cond: u64, a: u64, value: i64) -> I {
    isetp_base(p, cond, a).imm(value as u64)
}

pub const fn isetp(p: u64, cond: u64, a: u64, b: u64) -> I {
    isetp_base(p, cond, a).b(b)
}

pub const fn sel(dst: u64, a: u64, b: u64, p: u64) -> I {
    I::new(4, 0x08).dst(dst).a(a).b(b).field(49, 3, p)
}

/// Types of memory accesses.
pub mod ty {
    pub const U8: u64 = 0;
    pub const S8: u64 = 1;
    pub const U16: u64 = 2;
    pub const S16: u64 = 3;
    pub const B32: u64 = 4;
    pub const B64: u64 = 5;
    pub const B128: u64 = 6;
}

/// Loads through a 64-bit address.
pub const fn ld(dst: u64, ty: u64, a: u64, offset: i32) -> I {
    I::new(5, 0x20)
        .dst(dst)
        .a(a)
        .field(5, 3, ty)
        .field(26, 32, offset as u32 as u64)
        .bit(58)
}

/// Stores through a 64-bit address.
pub const fn st(data: u64, ty: u64, a: u64, offset: i32) -> I {
    I::new(5, 0x24)
        .dst(data)
        .a(a)
        .field(5, 3, ty)
        .field(26, 32, offset as u32 as u64)
        .bit(58)
}

pub const fn ld_shared(dst: u64, ty: u64, a: u64, offset: u64) -> I {
    I::new(5, 0x30)
        .bit(56)
        .dst(dst)
        .a(a)
        .field(5, 3, ty)
        .field(26, 24, offset)
}

pub const fn st_shared(data: u64, ty: u64, a: u64, offset: u64) -> I {
    I::new(5, 0x32)
        .bit(56)
        .dst(data)
        .a(a)
        .field(5, 3, ty)
        .field(26, 24, offset)
}

pub const fn ld_local(dst: u64, ty: u64, a: u64, offset: u64) -> I {
    I::new(5, 0x30)
        .dst(dst)
        .a(a)
        .field(5, 3, ty)
        .field(26, 24, offset)
}

pub const fn st_local(data: u64, ty: u64, a: u64, offset: u64) -> I {
    I::new(5, 0x32)
        .dst(data)
        .a(a)
        .field(5, 3, ty)
        .field(26, 24, offset)
}

pub const fn ld_lock(dst: u64, p: u64, a: u64) -> I {
    I::new(5, 0x31)
        .dst(dst)
        .a(a)
        .field(5, 3, ty::B32)
        .field(50, 3, p)
}

pub const fn st_unlock(data: u64, a: u64) -> I {
    I::new(5, 0x33).dst(data).a(a).field(5, 3, ty::B32)
}

/// An atomic through a 64-bit address: `kind` has bits 5-9, `family` the opcode.
pub const fn atom(dst: u64, family: u64, kind: u64, data: u64, a: u64) -> I {
    I::new(5, family)
        .dst(data)
        .a(a)
        .field(5, 5, kind)
        .field(43, 6, dst)
        .field(49, 6, RZ)
        .bit(58)
}

/// An atomic without a result: as [`atom`], of the families from 0x04 on.
pub const fn red(family: u64, kind: u64, data: u64, a: u64) -> I {
    I::new(5, family).dst(data).a(a).field(5, 5, kind).bit(58)
}

/// A barrier with a result: `mode` 0 counts, 1 is and, 2 or, 4 arrives.
pub const fn bar(mode: u64, id: u64, threads: u64, p: u64) -> I {
    I::new(4, 0x14)
        .dst(RZ)
        .field(5, 3, mode)
        .field(20, 4, id)
        .bit(47)
        .field(26, 12, threads)
        .bit(46)
        .field(49, 3, p)
        .field(53, 3, PT)
}

/// A texture instruction by its opcode (bits 57-63 of the word), for 2D, all components.
pub const fn tex(opcode: u64, dst: u64, a: u64, b: u64) -> I {
    I::new(6, 0)
        .field(57, 7, opcode)
        .dst(dst)
        .a(a)
        .b(b)
        .field(46, 4, 0xf)
        .field(52, 2, 1)
}

/// Opcodes of texture instructions.
pub mod texop {
    pub const TXL: u64 = 0x43;
    pub const TXF: u64 = 0x48;
    pub const TXF_LOD: u64 = 0x49;
    pub const TXG: u64 = 0x50;
    pub const TXQ: u64 = 0x60;
    pub const TXD: u64 = 0x70;
}

/// A surface instruction on image `slot`: dimension 0 is 1D, 1 is 2D, 3 is 2D with an offset.
pub const fn surface(opcode: u64, data: u64, a: u64, slot: u64, dim: u64) -> I {
    I::new(5, opcode)
        .dst(data)
        .a(a)
        .field(26, 3, slot)
        .bit(46)
        .field(44, 2, dim)
}

pub const fn nop() -> I {
    I::new(4, 0x10).field(5, 4, 0xf)
}

const fn flow(opcode: u64) -> I {
    I::new(7, opcode).field(5, 4, 0xf)
}

pub const fn exit() -> I {
    flow(0x20)
}

pub const fn ret() -> I {
    flow(0x24)
}

pub const fn brk() -> I {
    flow(0x2a)
}

pub const fn cont() -> I {
    flow(0x2c)
}

/// Control flow to a place in the program, to be linked.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    Label(&'static str),
    Plain(I),
    /// Its target is 24 bits from bit 26, relative to the next instruction.
    To(I, &'static str),
}

impl From<I> for Line {
    fn from(i: I) -> Self {
        Line::Plain(i)
    }
}

pub fn bra(to: &'static str) -> Line {
    Line::To(flow(0x10), to)
}

pub fn bra_on(p: u64, to: &'static str) -> Line {
    Line::To(flow(0x10).on(p), to)
}

pub fn bra_unless(p: u64, to: &'static str) -> Line {
    Line::To(flow(0x10).unless(p), to)
}

pub fn ssy(to: &'static str) -> Line {
    Line::To(flow(0x18), to)
}

pub fn pbk(to: &'static str) -> Line {
    Line::To(flow(0x1a), to)
}

pub fn pcnt(to: &'static str) -> Line {
    Line::To(flow(0x1c), to)
}

pub fn call(to: &'static str) -> Line {
    Line::To(flow(0x14), to)
}

pub fn label(name: &'static str) -> Line {
    Line::Label(name)
}

/// The words of a program.
pub fn link(lines: &[Line]) -> Vec<u64> {
    let mut labels = std::collections::HashMap::new();
    let mut at = 0i64;
    for line in lines {
        match line {
            Line::Label(name) => assert!(labels.insert(*name, at).is_none(), "{name} twice"),
            _ => at += 8,
        }
    }
    let mut words = Vec::new();
    for line in lines {
        let next = words.len() as i64 * 8 + 8;
        match line {
            Line::Label(_) => {}
            Line::Plain(i) => words.push(i.0),
            Line::To(i, name) => {
                words.push(i.field(26, 24, (labels[name] - next) as u64).0);
            }
        }
    }
    words
}

/// Makes a program of lines and instructions.
#[macro_export]
macro_rules! program {
    ($($line:expr),* $(,)?) => {
        $crate::asm::link(&[$($crate::asm::Line::from($line)),*])
    };
}
