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
