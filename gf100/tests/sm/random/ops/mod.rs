//! Random instructions with what they do to one thread, as ENV `docs/hw/graph/tesla/cuda/int.rst`,
//! the PTX ISA and IEEE 754 have it.

mod conversions;
mod floats;
mod integers;

use super::{
    float::{Mode, NAN},
    rng::Rng,
};
use crate::asm::{I, PT, RZ, mov_imm};

/// First register that random programs use, and how many.
pub const FIRST: u64 = 8;
pub const REGS: usize = 24;
/// Predicates that they use.
pub const PREDS: usize = 4;

/// What a thread has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub regs: [u32; REGS],
    pub preds: [bool; PREDS],
}

impl Thread {
    pub fn reg(&self, r: u64) -> u32 {
        match r {
            RZ => 0,
            r => self.regs[(r - FIRST) as usize],
        }
    }

    fn pair(&self, r: u64) -> u64 {
        match r {
            RZ => 0,
            r => u64::from(self.reg(r + 1)) << 32 | u64::from(self.reg(r)),
        }
    }

    pub fn set(&mut self, r: u64, value: u32) {
        if r != RZ {
            self.regs[(r - FIRST) as usize] = value;
        }
    }

    fn set_pair(&mut self, r: u64, value: u64) {
        self.set(r, value as u32);
        self.set(r + 1, (value >> 32) as u32);
    }

    fn pred(&self, p: u64) -> bool {
        p == PT || self.preds[p as usize]
    }

    fn set_pred(&mut self, p: u64, value: bool) {
        if p != PT {
            self.preds[p as usize] = value;
        }
    }
}

/// What an operation does to a thread.
pub type Effect = Box<dyn Fn(&mut Thread)>;

/// An operation: instructions, and what they do.
pub struct Operation {
    pub code: Vec<I>,
    pub effect: Effect,
}

fn operation(code: I, effect: impl Fn(&mut Thread) + 'static) -> Operation {
    sequence(vec![code], effect)
}

fn sequence(code: Vec<I>, effect: impl Fn(&mut Thread) + 'static) -> Operation {
    Operation {
        code,
        effect: Box::new(effect),
    }
}

/// Where a second source comes from.
#[derive(Clone, Copy)]
enum Source {
    Reg(u64),
    Value(u32),
}

impl Source {
    fn of(self, t: &Thread) -> u32 {
        match self {
            Source::Reg(r) => t.reg(r),
            Source::Value(value) => value,
        }
    }
}

/// Words of constant buffer 0.
pub fn constants(seed: u64) -> Vec<u32> {
    let mut rng = Rng(seed ^ 0xc0);
    (0..64).map(|_| rng.word()).collect()
}

/// Makes operations.
pub struct Generator<'a> {
    pub rng: &'a mut Rng,
    pub constants: &'a [u32],
}

impl Generator<'_> {
    fn reg(&mut self) -> u64 {
        match self.rng.below(16) {
            0 => RZ,
            _ => FIRST + self.rng.below(REGS as u64),
        }
    }

    fn dst(&mut self) -> u64 {
        FIRST + self.rng.below(REGS as u64)
    }

    fn even(&mut self) -> u64 {
        FIRST + 2 * self.rng.below(REGS as u64 / 2)
    }

    fn pred(&mut self) -> u64 {
        self.rng.below(PREDS as u64)
    }

    /// A predicate to be combined with, and whether it is complemented.
    fn pred_source(&mut self) -> (u64, bool) {
        let p = if self.rng.flip() { PT } else { self.pred() };
        (p, self.rng.below(4) == 0)
    }

    /// A second source: a register, a constant or 20 bits, which are the lowest or, of a number,
    /// the highest.
    fn b(&mut self, i: I, float: bool) -> (I, Source) {
        match self.rng.below(4) {
            0 => {
                let n = self.rng.below(self.constants.len() as u64);
                (
                    i.constant(0, 4 * n),
                    Source::Value(self.constants[n as usize]),
                )
            }
            1 => {
                let bits = self.rng.word();
                match float {
                    true => (
                        i.imm(u64::from(bits >> 12)),
                        Source::Value(bits & 0xffff_f000),
                    ),
                    false => {
                        let value = (bits << 12) as i32 >> 12;
                        (i.imm(value as u64), Source::Value(value as u32))
                    }
                }
            }
            _ => {
                let r = self.reg();
                (i.b(r), Source::Reg(r))
            }
        }
    }

    fn mode(&mut self) -> Mode {
        let round = if self.rng.flip() {
            0
        } else {
            self.rng.below(4)
        };
        Mode {
            round,
            ftz: self.rng.below(3) == 0,
            fmz: false,
            sat: self.rng.below(4) == 0,
        }
    }

    /// Any operation.
    pub fn operation(&mut self) -> Operation {
        match self.rng.below(32) {
            0 | 1 => self.fadd(),
            2 => self.fmul(),
            3 | 4 => self.ffma(),
            5 => self.fminmax(),
            6 => self.fset(),
            7 | 8 => self.iadd(),
            9 => self.imul(),
            10 | 11 => self.imad(),
            12 => self.shift(),
            13 => self.logic(),
            14 => self.bit_field(),
            15 => self.find_or_count(),
            16 => self.permute(),
            17 => self.iset(),
            18 => self.iminmax(),
            19 => self.select(),
            20 => self.float_to_int(),
            21 => self.int_to_float(),
            22 => self.int_to_int(),
            23 => self.float_to_float(),
            24 => self.wide_integer(),
            25 => self.double(),
            26 => self.predicates(),
            27 => self.sad_or_scaled_add(),
            _ => self.mov(),
        }
    }

    /// Copies and literals, of which much follows.
    fn mov(&mut self) -> Operation {
        let d = self.dst();
        if self.rng.flip() {
            let value = match self.rng.flip() {
                true => self.rng.below(40) as u32,
                false => self.rng.word(),
            };
            return operation(mov_imm(d, value), move |t| t.set(d, value));
        }
        let i = I::new(4, 0x0a).dst(d).field(5, 4, 0xf);
        let (i, b) = self.b(i, false);
        operation(i, move |t| t.set(d, b.of(t)))
    }

    /// A comparison's condition, and how its outcome is combined; the outcome for less, equal,
    /// greater, unordered.
    fn comparison(&mut self, i: I) -> (I, u64, Combine) {
        let cond = self.rng.below(16);
        let (p, not) = self.pred_source();
        let logic = self.rng.below(3);
        let i = i
            .field(55, 4, cond)
            .field(53, 2, logic)
            .field(49, 3, p)
            .field(52, 1, not.into());
        (i, cond, Combine { p, not, logic })
    }

    fn select(&mut self) -> Operation {
        let (d, a, b, c) = (self.dst(), self.reg(), self.reg(), self.reg());
        if self.rng.flip() {
            let (p, not) = self.pred_source();
            let i = I::new(4, 0x08).dst(d).a(a).b(b);
            let i = i.field(49, 3, p).field(52, 1, not.into());
            return operation(i, move |t| {
                let first = t.pred(p) != not;
                t.set(d, if first { t.reg(a) } else { t.reg(b) });
            });
        }
        let (cond, signed) = (self.rng.below(8), self.rng.flip());
        let i = I::new(3, 0x0c).dst(d).a(a).b(b).c(c);
        let i = i.field(55, 4, cond).field(5, 1, signed.into());
        operation(i, move |t| {
            let order = widen(t.reg(c), signed).cmp(&0);
            let first = cond >> (order as i8 + 1) & 1 != 0;
            t.set(d, if first { t.reg(a) } else { t.reg(b) });
        })
    }

    fn predicates(&mut self) -> Operation {
        let (p, q) = (self.pred(), PT);
        let (a, not_a) = self.pred_source();
        let (b, not_b) = self.pred_source();
        let first = self.rng.below(3);
        let i = I::new(4, 0x03)
            .field(17, 3, p)
            .field(14, 3, q)
            .field(20, 3, a)
            .field(23, 1, not_a.into())
            .field(26, 3, b)
            .field(29, 1, not_b.into())
            .field(30, 2, first);
        let (c, not) = self.pred_source();
        let logic = self.rng.below(3);
        let i = i
            .field(49, 3, c)
            .field(52, 1, not.into())
            .field(53, 2, logic);
        operation(i, move |t| {
            let both = combined(first, t.pred(a) != not_a, t.pred(b) != not_b);
            let outcome = combined(logic, both, t.pred(c) != not);
            t.set_pred(p, outcome);
        })
    }
}

/// How a comparison's outcome is combined with a predicate.
#[derive(Clone, Copy)]
struct Combine {
    p: u64,
    not: bool,
    logic: u64,
}

impl Combine {
    fn apply(self, t: &Thread, outcome: bool) -> bool {
        combined(self.logic, outcome, t.pred(self.p) != self.not)
    }
}

fn combined(logic: u64, a: bool, b: bool) -> bool {
    [a && b, a || b, a != b][logic as usize]
}

/// A conversion: opcode and log2 of the bytes of both sides.
fn cvt(opcode: u64, d: u64, b: u64, to: u64, from: u64) -> I {
    I::new(4, opcode)
        .dst(d)
        .b(b)
        .field(20, 2, to)
        .field(23, 2, from)
}

/// The bits of a number with its sign changed; the absolute value comes first.
fn signed(bits: u32, neg: bool, abs: bool) -> u32 {
    let x = f32::from_bits(bits);
    // NaN has a sign, too, and arithmetic hides it.
    if x.is_nan() {
        return NAN;
    }
    let x = if abs { x.abs() } else { x };
    if neg { (-x).to_bits() } else { x.to_bits() }
}

fn widen(x: u32, signed: bool) -> i64 {
    match signed {
        true => i64::from(x as i32),
        false => i64::from(x),
    }
}

/// The low 64 bits of a product.
fn product(a: i64, b: i64) -> u64 {
    (i128::from(a) * i128::from(b)) as u64
}

/// The low `8 << size` bits as a number.
fn narrow(x: u32, size: u64, signed: bool) -> i64 {
    let bits = 8u32 << size;
    let x = i64::from(x) & ((1 << bits) - 1);
    match signed && x >> (bits - 1) != 0 {
        true => x - (1 << bits),
        false => x,
    }
}

fn integral(x: f64, round: u64) -> f64 {
    match round {
        0 => x.round_ties_even(),
        1 => x.floor(),
        2 => x.ceil(),
        _ => x.trunc(),
    }
}
