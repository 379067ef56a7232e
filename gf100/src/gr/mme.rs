//! The macro processor: small programs between PFIFO and the classes.
//!
//! A macro is started by a method, takes further methods as parameters, and sends methods of its
//! own. It runs until it needs a parameter that has not come yet; its state is part of the context,
//! so a channel may be switched away at any such point.
//!
//! Source: ENV `envydis/macro.c`.

use super::bits::macro_error;

/// Words of code.
pub const CODE_WORDS: usize = 2048;
/// Macros that can be called.
pub const MACROS: usize = 128;
/// Words of [`Macro::to_words`].
pub const STATE_WORDS: usize = 16;
/// Instructions that one call may execute.
const WATCHDOG: u32 = 1 << 20;

/// A macro in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Macro {
    /// Who called it, and gets what it sends.
    pub subchannel: u8,
    /// General registers; 0 is always 0.
    registers: [u32; 8],
    /// Word of the next instruction.
    pc: u16,
    /// What happens after the instruction in the delay slot.
    delayed: Option<Delayed>,
    /// Word address of the next method to be sent.
    method: u16,
    /// What is added to it after each.
    increment: u8,
    carry: bool,
    /// It goes on when a parameter comes.
    wait: Option<Wait>,
    ended: bool,
    steps: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delayed {
    Jump(u16),
    Exit,
}

/// What becomes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Load(u8),
    Send,
}

/// A method that a macro sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Byte address.
    pub address: u16,
    /// Argument.
    pub data: u32,
}

/// A macro that went wrong, as the trap registers show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacroError {
    /// One of [`macro_error`].
    pub error: u32,
    /// Word of the instruction.
    pub pc: u16,
    /// The instruction.
    pub op: u32,
}

impl Macro {
    /// A macro that is about to execute the word at `start`, called with `argument`.
    pub fn call(subchannel: u8, start: u32, argument: u32) -> Self {
        let mut new = Self {
            subchannel,
            pc: word(start),
            ..Self::default()
        };
        new.registers[1] = argument;
        new
    }

    /// It executed its last instruction.
    pub fn ended(&self) -> bool {
        self.ended && self.wait.is_none()
    }

    /// It needs a parameter to go on.
    pub fn waits(&self) -> bool {
        self.wait.is_some()
    }

    /// Hands over the parameter that it waits for, and returns what it sends at once.
    pub fn parameter(&mut self, data: u32) -> Option<Send> {
        match self.wait.take() {
            Some(Wait::Load(register)) => {
                self.set(register, data);
                None
            }
            Some(Wait::Send) => Some(self.send(data)),
            None => None,
        }
    }

    /// Executes an instruction and returns what it sends. `read` gives the last argument of the
    /// method at a byte address.
    ///
    /// # Errors
    ///
    /// The macro is over, and the unit traps.
    pub fn step(
        &mut self,
        code: &[u32],
        read: impl FnOnce(u16) -> u32,
    ) -> Result<Option<Send>, MacroError> {
        let pc = self.pc;
        let op = code.get(usize::from(pc)).copied().unwrap_or(0);
        let fail = |error| Err(MacroError { error, pc, op });
        self.steps += 1;
        if self.steps > WATCHDOG {
            return fail(macro_error::WATCHDOG);
        }
        let delayed = self.delayed.take();
        self.pc = word(u32::from(pc) + 1);
        if op & 7 == 7 {
            if matches!(delayed, Some(Delayed::Jump(_))) {
                return fail(macro_error::DOUBLE_BRANCH);
            }
            self.branch(pc, op);
            self.finish(delayed);
            return Ok(None);
        }
        let Some(result) = self.evaluate(op, read) else {
            return fail(macro_error::ILLEGAL_OPCODE);
        };
        let sent = self.assign(op, result);
        if op >> 7 & 1 != 0 {
            self.delayed = Some(Delayed::Exit);
        }
        self.finish(delayed);
        Ok(sent)
    }

    /// Ends the delay slot.
    fn finish(&mut self, delayed: Option<Delayed>) {
        match delayed {
            Some(Delayed::Jump(target)) => self.pc = target,
            Some(Delayed::Exit) => self.ended = true,
            None => {}
        }
    }

    fn branch(&mut self, pc: u16, op: u32) {
        let zero = self.registers[field(op, 11)] == 0;
        let if_zero = op >> 4 & 1 == 0;
        let annul = op >> 5 & 1 != 0;
        let exit = op >> 7 & 1 != 0;
        if zero == if_zero {
            let target = word(u32::from(pc).wrapping_add(immediate(op)));
            match annul {
                true => self.pc = target,
                false => self.delayed = Some(Delayed::Jump(target)),
            }
        } else if exit {
            self.delayed = Some(Delayed::Exit);
        }
    }

    /// The value that the instruction computes; `None` if there is no such instruction.
    fn evaluate(&mut self, op: u32, read: impl FnOnce(u16) -> u32) -> Option<u32> {
        let a = self.registers[field(op, 11)];
        let b = self.registers[field(op, 14)];
        let (from, size, to) = (op >> 17 & 0x1f, op >> 22 & 0x1f, op >> 27 & 0x1f);
        let mask = (1u32 << size) - 1;
        Some(match op & 7 {
            0 => return self.arithmetic(op >> 17 & 0x1f, a, b),
            1 => a.wrapping_add(immediate(op)),
            2 => a & !(mask << to) | (b >> from & mask) << to,
            3 => (shift_right(b, a) & mask) << to,
            4 => shift_left(b >> from & mask, a),
            5 => read(method_address(a.wrapping_add(immediate(op)) as u16)),
            _ => return None,
        })
    }

    fn arithmetic(&mut self, operation: u32, a: u32, b: u32) -> Option<u32> {
        let (wide_a, wide_b) = (u64::from(a), u64::from(b));
        let carry = u64::from(self.carry);
        // Subtraction adds the complement: no borrow is a carry.
        let complement = u64::from(!b);
        let sum = match operation {
            0 => wide_a + wide_b,
            1 => wide_a + wide_b + carry,
            2 => wide_a + complement + 1,
            3 => wide_a + complement + carry,
            8 => return Some(a ^ b),
            9 => return Some(a | b),
            10 => return Some(a & b),
            11 => return Some(a & !b),
            12 => return Some(!(a & b)),
            _ => return None,
        };
        self.carry = sum >> 32 != 0;
        Some(sum as u32)
    }

    /// Does with the result what the instruction says.
    fn assign(&mut self, op: u32, result: u32) -> Option<Send> {
        let register = field(op, 8) as u8;
        match op >> 4 & 7 {
            0 => {
                self.wait = Some(Wait::Load(register));
                None
            }
            1 => {
                self.set(register, result);
                None
            }
            2 => {
                self.set_method(result);
                self.set(register, result);
                None
            }
            3 => {
                self.wait = Some(Wait::Load(register));
                Some(self.send(result))
            }
            4 => {
                self.set(register, result);
                Some(self.send(result))
            }
            5 => {
                self.set_method(result);
                self.wait = Some(Wait::Load(register));
                None
            }
            6 => {
                self.set_method(result);
                self.set(register, result);
                self.wait = Some(Wait::Send);
                None
            }
            _ => {
                self.set_method(result);
                self.set(register, result);
                Some(self.send(result >> 12 & 0x3f))
            }
        }
    }

    fn set(&mut self, register: u8, value: u32) {
        if register != 0 {
            self.registers[usize::from(register & 7)] = value;
        }
    }

    fn set_method(&mut self, value: u32) {
        self.method = value as u16 & 0xfff;
        self.increment = (value >> 12 & 0x3f) as u8;
    }

    fn send(&mut self, data: u32) -> Send {
        let address = method_address(self.method);
        self.method = (self.method + u16::from(self.increment)) & 0xfff;
        Send { address, data }
    }

    /// The state as the context keeps it.
    pub fn to_words(&self) -> [u32; STATE_WORDS] {
        let mut words = [0; STATE_WORDS];
        let delayed = match self.delayed {
            None => 0,
            Some(Delayed::Exit) => 1,
            Some(Delayed::Jump(target)) => 2 | u32::from(target) << 16,
        };
        let wait = match self.wait {
            None => 0,
            Some(Wait::Send) => 1,
            Some(Wait::Load(register)) => 2 | u32::from(register) << 8,
        };
        words[..8].copy_from_slice(&self.registers);
        // Register 0 is no register: its place says that there is a macro.
        words[0] = 1 | u32::from(self.subchannel) << 8;
        words[8] = self.pc.into();
        words[9] = delayed;
        words[10] = u32::from(self.method) | u32::from(self.increment) << 16;
        words[11] = u32::from(self.carry) | u32::from(self.ended) << 1;
        words[12] = wait;
        words[13] = self.steps;
        words
    }

    /// The macro that a context keeps. Any words are some macro, or none.
    pub fn from_words(words: &[u32; STATE_WORDS]) -> Option<Self> {
        if words[0] & 1 == 0 {
            return None;
        }
        let mut registers = [0; 8];
        registers[1..].copy_from_slice(&words[1..8]);
        Some(Self {
            subchannel: (words[0] >> 8) as u8 & 7,
            registers,
            pc: word(words[8]),
            delayed: match words[9] & 3 {
                0 => None,
                1 => Some(Delayed::Exit),
                _ => Some(Delayed::Jump(word(words[9] >> 16))),
            },
            method: words[10] as u16 & 0xfff,
            increment: (words[10] >> 16) as u8 & 0x3f,
            carry: words[11] & 1 != 0,
            wait: match words[12] & 3 {
                0 => None,
                1 => Some(Wait::Send),
                _ => Some(Wait::Load((words[12] >> 8) as u8 & 7)),
            },
            ended: words[11] & 2 != 0,
            steps: words[13].min(WATCHDOG),
        })
    }
}

/// A word address of code; the code store wraps.
const fn word(address: u32) -> u16 {
    (address % CODE_WORDS as u32) as u16
}

/// The register number at bit `at`.
const fn field(op: u32, at: u32) -> usize {
    (op >> at & 7) as usize
}

/// The signed immediate in the top 18 bits.
const fn immediate(op: u32) -> u32 {
    (op as i32 >> 14) as u32
}

const fn method_address(word: u16) -> u16 {
    (word & 0xfff) << 2
}

fn shift_left(value: u32, by: u32) -> u32 {
    value.checked_shl(by).unwrap_or(0)
}

fn shift_right(value: u32, by: u32) -> u32 {
    value.checked_shr(by).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an instruction does with its result.
    const FETCH: u32 = 0;
    const MOVE: u32 = 1;
    const MADDR: u32 = 2;
    const SEND_FETCH: u32 = 3;
    const SEND: u32 = 4;
    const EXIT: u32 = 1 << 7;

    fn alu(operation: u32, to: u32, a: u32, b: u32, assign: u32) -> u32 {
        operation << 17 | b << 14 | a << 11 | to << 8 | assign << 4
    }

    fn addi(to: u32, a: u32, value: i32, assign: u32) -> u32 {
        (value << 14) as u32 | a << 11 | to << 8 | assign << 4 | 1
    }

    fn branch(if_not_zero: bool, annul: bool, a: u32, distance: i32) -> u32 {
        let flags = u32::from(if_not_zero) << 4 | u32::from(annul) << 5;
        (distance << 14) as u32 | a << 11 | flags | 7
    }

    fn bits(kind: u32, [to, a, b]: [u32; 3], from: u32, size: u32, at: u32) -> u32 {
        at << 27 | size << 22 | from << 17 | b << 14 | a << 11 | to << 8 | MOVE << 4 | kind
    }

    /// Calls `code` and returns what it sent, or its error.
    fn run(code: &[u32], parameters: &[u32]) -> Result<Vec<(u16, u32)>, u32> {
        let (&argument, mut rest) = parameters.split_first().unwrap();
        let mut running = Macro::call(0, 0, argument);
        let mut sent = Vec::new();
        while !running.ended() {
            let send = match running.waits() {
                true => {
                    let (&data, tail) = rest.split_first().ok_or(macro_error::TOO_FEW_PARAMS)?;
                    rest = tail;
                    running.parameter(data)
                }
                false => running
                    .step(code, |address| u32::from(address) << 16)
                    .map_err(|error| error.error)?,
            };
            sent.extend(send.map(|send| (send.address, send.data)));
        }
        match rest {
            [] => Ok(sent),
            _ => Err(macro_error::TOO_MANY_PARAMS),
        }
    }

    /// The value that a one-instruction macro gives its register 3, from 1 (argument) and 2.
    fn value(instruction: u32, one: u32, two: u32) -> u32 {
        let code = [
            addi(2, 0, 0, FETCH),
            instruction,
            addi(0, 0, 0x40, MADDR),
            addi(0, 3, 0, SEND) | EXIT,
            addi(0, 0, 0, MOVE),
        ];
        run(&code, &[one, two]).unwrap()[0].1
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_integers(one: u32, two: u32) {
            let expected = [
                (0, one.wrapping_add(two)),
                (2, one.wrapping_sub(two)),
                (8, one ^ two),
                (9, one | two),
                (10, one & two),
                (11, one & !two),
                (12, !(one & two)),
            ];
            for (operation, result) in expected {
                prop_assert_eq!(value(alu(operation, 3, 1, 2, MOVE), one, two), result);
            }
        }

        #[test]
        fn wide_sums_and_differences_carry(a: u64, b: u64) {
            // Registers: 1 and 2 are a, 3 and 4 are b; both results are sent.
            let code = |low, high| [
                addi(2, 0, 0, FETCH),
                addi(3, 0, 0, FETCH),
                addi(4, 0, 0, FETCH),
                addi(0, 0, 0x1040, MADDR),
                alu(low, 5, 1, 3, SEND),
                alu(high, 6, 2, 4, SEND) | EXIT,
                addi(0, 0, 0, MOVE),
            ];
            let halves = |value: u64| [value as u32, (value >> 32) as u32];
            let ([a0, a1], [b0, b1]) = (halves(a), halves(b));
            for (low, high, result) in [(0, 1, a.wrapping_add(b)), (2, 3, a.wrapping_sub(b))] {
                let sent = run(&code(low, high), &[a0, a1, b0, b1]).unwrap();
                let [low, high] = halves(result);
                prop_assert_eq!(sent, vec![(0x100, low), (0x104, high)]);
            }
        }

        #[test]
        fn fields_are_moved_bit_by_bit(one: u32, two: u32, from in 0u32..32, size in 0u32..32, at in 0u32..32) {
            let bit = |value: u32, n: u32| n < 32 && value >> n & 1 != 0;
            let gather = |f: &dyn Fn(u32) -> bool| (0..32).map(|n| u32::from(f(n)) << n).sum::<u32>();
            let inserted = gather(&|n| match n >= at && n < at + size {
                true => bit(two, from + n - at),
                false => bit(one, n),
            });
            prop_assert_eq!(value(bits(2, [3, 1, 2], from, size, at), one, two), inserted);
            let amount = one % 40;
            let shifted = gather(&|n| n >= at && n < at + size && bit(two, amount + n - at));
            prop_assert_eq!(value(bits(3, [3, 1, 2], 0, size, at), amount, two), shifted);
            let raised = gather(&|n| n >= amount && n < amount + size && bit(two, from + n - amount));
            prop_assert_eq!(value(bits(4, [3, 1, 2], from, size, 0), amount, two), raised);
        }

        #[test]
        fn any_code_ends_or_is_stopped(code in proptest::collection::vec(any::<u32>(), 0..64), parameters in proptest::collection::vec(any::<u32>(), 1..8)) {
            let _ = run(&code, &parameters);
        }

        #[test]
        fn state_survives_its_words(words in proptest::array::uniform16(any::<u32>())) {
            if let Some(state) = Macro::from_words(&words) {
                prop_assert_eq!(Macro::from_words(&state.to_words()), Some(state));
            }
        }
    }

    #[test]
    fn a_loop_runs_its_delay_slot_each_time() {
        // Sends the argument's countdown, one method after the other.
        let code = [
            addi(0, 0, 0x1040, MADDR),
            addi(0, 1, 0, SEND),
            addi(1, 1, -1, MOVE),
            branch(true, false, 1, -2) | EXIT,
            addi(2, 2, 1, MOVE),
            addi(0, 0, 0x7f, SEND),
        ];
        let sent = run(&code, &[3]).unwrap();
        assert_eq!(sent, [(0x100, 3), (0x104, 2), (0x108, 1)]);
    }

    #[test]
    fn an_annulled_branch_skips_what_follows_it() {
        let code = [
            addi(0, 0, 0x40, MADDR),
            branch(false, true, 0, 2),
            addi(0, 0, 1, SEND),
            addi(0, 0, 2, SEND) | EXIT,
            addi(0, 0, 3, SEND),
        ];
        assert_eq!(run(&code, &[0]).unwrap(), [(0x100, 2), (0x100, 3)]);
    }

    #[test]
    fn a_branch_in_a_delay_slot_is_an_error() {
        let code = [branch(false, false, 0, 2), branch(false, false, 0, 2)];
        assert_eq!(run(&code, &[0]), Err(macro_error::DOUBLE_BRANCH));
    }

    #[test]
    fn what_is_sent_and_fetched_at_once_keeps_its_order() {
        let code = [
            addi(2, 0, 0x1040, 5),
            alu(0, 3, 1, 2, SEND_FETCH),
            addi(0, 0, 0x5080, 7) | EXIT,
            addi(4, 0, 0x50, 6),
        ];
        let sent = run(&code, &[1, 10, 20, 30]).unwrap();
        assert_eq!(sent, [(0x100, 11), (0x200, 5), (0x140, 30)]);
    }

    #[test]
    fn a_read_gives_the_methods_last_argument() {
        let code = [
            0x0d00 << 14 | 3 << 8 | MOVE << 4 | 5,
            addi(0, 0, 0x40, MADDR),
            addi(0, 3, 0, SEND) | EXIT,
            addi(0, 0, 0, MOVE),
        ];
        assert_eq!(run(&code, &[0]).unwrap(), [(0x100, 0x3400 << 16)]);
    }

    #[test]
    fn an_unknown_instruction_is_an_error() {
        for op in [6, 4 << 17, 31 << 17] {
            assert_eq!(run(&[op], &[0]), Err(macro_error::ILLEGAL_OPCODE));
        }
    }
}
