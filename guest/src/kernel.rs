//! Kernels of machine code that is put together by hand, so that nothing but the card and nouveau
//! is tested.

use std::sync::atomic::Ordering;

use crate::methods::{class, compute, host};
use crate::push::split;
use crate::{Buffer, Channel, Push, Result};

/// The subchannel that kernels are launched on.
pub const SUBCHANNEL: u32 = 1;

/// Machine code.
///
/// Source: Mesa `nv50_ir_emit_nvc0.cpp`.
pub mod code {
    /// Ends the thread.
    pub const EXIT: u64 = 0x8000_0000_0000_1de7;
    /// Goes on at itself.
    pub const AGAIN: u64 = back(1);
    /// Enters a region that ends with the next instruction.
    pub const ENTER: u64 = 0x6000_0000_0000_0007;
    /// No instruction.
    pub const NONE: u64 = u64::MAX;
    /// Loads register 2 from the address in registers 0 and 1.
    pub const LOAD: u64 = 0x8400_0000_0000_1c85 | 2 << 14;
    /// Stores register 2 there.
    pub const STORE: u64 = 0x9400_0000_0000_1c85 | 2 << 14;

    /// Predicate of what is always done.
    const ALWAYS: u64 = 7;
    /// The second source is an immediate of 20 bits.
    const IMMEDIATE: u64 = 3 << 46;
    /// Special register: x of the thread's number in its CTA.
    const TID_X: u64 = 0x21;

    /// Sets a register.
    pub const fn set(register: u64, value: u32) -> u64 {
        0x1800_0000_0000_1de2 | register << 14 | (value as u64) << 26
    }

    /// Sets registers 0 and 1 to an address.
    pub const fn point(address: u64) -> [u64; 2] {
        [set(0, address as u32), set(1, (address >> 32) as u32)]
    }

    /// Sets a register to x of the thread's number in its CTA.
    pub const fn thread(register: u64) -> u64 {
        0x2c00_0000_0000_1c04 | register << 14 | TID_X << 26
    }

    /// Adds a register to one.
    pub const fn add(register: u64, other: u64) -> u64 {
        0x4800_0000_0000_1c03 | register << 14 | register << 20 | other << 26
    }

    /// Adds a number of 20 bits to a register.
    pub const fn add_number(register: u64, number: i32) -> u64 {
        add(register, 0) | IMMEDIATE | (number as u64 & 0xf_ffff) << 26
    }

    /// Shifts a register to the left.
    pub const fn shift_left(register: u64, bits: u64) -> u64 {
        0x6000_0000_0000_1c03 | register << 14 | register << 20 | bits << 26 | IMMEDIATE
    }

    /// Sets predicate 0 to whether a register is not 0.
    pub const fn is_set(register: u64) -> u64 {
        const NOT_EQUAL: u64 = 5 << 55;
        const SIGNED: u64 = 1 << 5;
        const AND_TRUE: u64 = ALWAYS << 49;
        const NO_SECOND: u64 = ALWAYS << 14;
        0x1800_0000_0000_1c03
            | NOT_EQUAL
            | SIGNED
            | AND_TRUE
            | NO_SECOND
            | register << 20
            | IMMEDIATE
    }

    /// Goes back over so many instructions, itself one of them.
    pub const fn back(instructions: u64) -> u64 {
        back_if(instructions) | ALWAYS << 10
    }

    /// Does so where predicate 0 is set.
    pub const fn back_if(instructions: u64) -> u64 {
        let distance = instructions.wrapping_neg().wrapping_mul(8) & 0xff_ffff;
        0x4000_0000_0000_01e7 | distance << 26
    }
}

/// A grid: CTAs in a row, and threads of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// CTAs.
    pub ctas: u32,
    /// Threads of a CTA.
    pub threads: u32,
}

impl Grid {
    /// One thread.
    pub const THREAD: Grid = Grid {
        ctas: 1,
        threads: 1,
    };
}

/// The commands that run `program`, which `buffer` holds from now on, on eight registers.
///
/// # Errors
/// The channel cannot have the class, or the buffer no program.
pub fn launch(channel: &Channel, buffer: &Buffer, program: &[u64], grid: Grid) -> Result<Push> {
    for (place, word) in buffer.quads()?.iter().zip(program) {
        place.store(*word, Ordering::Release);
    }
    channel.object(class::COMPUTE)?;
    let mut push = Push::new();
    push.incr(SUBCHANNEL, host::SET_OBJECT, &[class::COMPUTE]);
    // As Mesa has them, away from the buffers.
    push.incr(SUBCHANNEL, compute::LOCAL_BASE, &[0xff << 24]);
    push.incr(SUBCHANNEL, compute::SHARED_BASE, &[0xfe << 24]);
    push.incr(
        SUBCHANNEL,
        compute::CODE_ADDRESS_HIGH,
        &split(buffer.address()),
    );
    push.incr(SUBCHANNEL, compute::CP_START_ID, &[0]);
    push.incr(SUBCHANNEL, compute::CP_GPR_ALLOC, &[8]);
    let line = |n: u32| [1 << 16 | n, 1];
    push.incr(SUBCHANNEL, compute::BLOCKDIM_YX, &line(grid.threads));
    push.incr(SUBCHANNEL, compute::GRIDDIM_YX, &line(grid.ctas));
    again(&mut push);
    Ok(push)
}

/// Runs once more what was launched last.
pub fn again(push: &mut Push) {
    push.incr(SUBCHANNEL, compute::LAUNCH, &[compute::LAUNCH_ARGUMENT]);
}

/// Threads of a CTA of [`turns`].
pub const THREADS: u32 = 128;

/// A kernel of which each thread doubles its number and adds 3, so many times, and stores what
/// comes out in its word of the page at `target`.
pub fn turns(target: u64, count: u32) -> Vec<u64> {
    let [low, high] = code::point(target);
    vec![
        code::thread(2),
        code::set(4, count),
        // Once around.
        code::add(2, 2),
        code::add_number(2, 3),
        code::add_number(4, -1),
        code::is_set(4),
        code::back_if(5),
        // The page does not cross 4 GiB.
        code::thread(5),
        code::shift_left(5, 2),
        low,
        high,
        code::add(0, 5),
        code::STORE,
        code::EXIT,
    ]
}

/// What thread `number` of [`turns`] stores.
pub fn turned(number: u32, count: u32) -> u32 {
    (0..count).fold(number, |value, _| value.wrapping_add(value).wrapping_add(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_has_its_distance_from_the_next_instruction() {
        assert_eq!(code::AGAIN, 0x4003_ffff_e000_1de7);
        assert_eq!(code::back(2), 0x4003_ffff_c000_1de7);
    }

    #[test]
    fn loop_ends_before_its_counter() {
        let program = turns(0x1_2345_6000, 9);
        let position = |word: u64| program.iter().position(|w| *w == word).unwrap();
        assert_eq!(
            position(code::back_if(5)) + 1 - 5,
            position(code::add(2, 2))
        );
        assert_eq!(turned(1, 2), (2 + 3) * 2 + 3);
    }
}
