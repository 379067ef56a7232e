//! Single precision in every rounding mode, by error-free transformations in double precision
//! (Knuth's two-sum) and a correction of the nearest result; nothing of it is the card's.

/// A rounding mode, by its number in an instruction: nearest, down, up, to zero.
pub type Round = u64;

pub const NAN: u32 = 0x7fff_ffff;

/// How the sum of two doubles differs from the number next to it.
fn sum_error(a: f64, b: f64, sum: f64) -> f64 {
    let b_part = sum - a;
    (a - (sum - b_part)) + (b - b_part)
}

/// `x + error`, where the error is less than half a unit of `x`, rounded to single precision.
fn round(x: f64, error: f64, mode: Round) -> f32 {
    // An inexact number is made odd in its last place, so that no tie is mistaken for one.
    let odd = match error {
        0.0 => x,
        _ if x.to_bits() & 1 == 1 => x,
        _ if (error > 0.0) == (x > 0.0) => f64::from_bits(x.to_bits() + 1),
        _ => f64::from_bits(x.to_bits() - 1),
    };
    let nearest = odd as f32;
    let wide = f64::from(nearest);
    match mode {
        1 if wide > odd => nearest.next_down(),
        2 if wide < odd => nearest.next_up(),
        3 if wide.abs() > odd.abs() => match odd > 0.0 {
            true => nearest.next_down(),
            false => nearest.next_up(),
        },
        _ => nearest,
    }
}

/// The result's bits; arithmetic has one NaN.
pub fn bits(x: f32) -> u32 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

fn fma(a: f32, b: f32, c: f32, mode: Round) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    if !sum.is_finite() {
        return sum as f32;
    }
    if sum == 0.0 {
        let exact_zeros = product == 0.0 && c == 0.0;
        // Signs that cancel leave +0, or -0 when rounding down.
        return match exact_zeros && product.is_sign_negative() == c.is_sign_negative() {
            true => product as f32,
            false if mode == 1 => -0.0,
            false => 0.0,
        };
    }
    round(sum, sum_error(product, c, sum), mode)
}

/// Modifiers of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    pub round: Round,
    pub ftz: bool,
    pub fmz: bool,
    pub sat: bool,
}

impl Mode {
    pub fn source(self, bits: u32) -> f32 {
        flush(self.ftz || self.fmz, f32::from_bits(bits))
    }

    pub fn result(self, x: f32) -> u32 {
        let x = flush(self.ftz || self.fmz, x);
        match self.sat {
            true if x > 0.0 => x.min(1.0).to_bits(),
            true => 0,
            false => bits(x),
        }
    }

    pub fn add(self, a: u32, b: u32) -> u32 {
        self.result(fma(self.source(a), 1.0, self.source(b), self.round))
    }

    pub fn mul(self, a: u32, b: u32, scale: i32) -> u32 {
        let (a, b) = (self.source(a), self.source(b));
        if self.fmz && (a == 0.0 || b == 0.0) {
            return self.result(0.0);
        }
        let product = f64::from(a) * f64::from(b) * 2f64.powi(scale);
        self.result(match product.is_finite() && product != 0.0 {
            true => round(product, 0.0, self.round),
            false => product as f32,
        })
    }

    pub fn fma(self, a: u32, b: u32, c: u32) -> u32 {
        let (a, b, c) = (self.source(a), self.source(b), self.source(c));
        match self.fmz && (a == 0.0 || b == 0.0) {
            true => self.result(fma(0.0, 0.0, c, self.round)),
            false => self.result(fma(a, b, c, self.round)),
        }
    }
}

/// A subnormal number becomes a zero of its sign.
pub fn flush(ftz: bool, x: f32) -> f32 {
    match ftz && x.is_subnormal() {
        true => 0f32.copysign(x),
        false => x,
    }
}
