//! What the classes write to memory to tell how far they are: reports and notifications; and the
//! conditions that look at reports.

use super::bits::{cond_mode, shared, twod};
use super::classes::Class;
use super::context::Context;
use crate::memory::{Client, Fault};

/// A report of 16 bytes with a sequence number: the number, a count, the time.
///
/// # Errors
///
/// The address cannot be stored to.
pub fn sequence(
    client: &mut Client,
    at: u64,
    sequence: u32,
    count: u32,
    time: u64,
) -> Result<(), Fault> {
    let words = u128::from(sequence) | u128::from(count) << 32 | u128::from(time) << 64;
    client.write(at, &words.to_le_bytes())
}

/// A report of 16 bytes with a count: the count, the time.
///
/// # Errors
///
/// The address cannot be stored to.
pub fn count(client: &mut Client, at: u64, count: u64, time: u64) -> Result<(), Fault> {
    let words = u128::from(count) | u128::from(time) << 64;
    client.write(at, &words.to_le_bytes())
}

/// A report of 4 bytes: a sequence number.
///
/// # Errors
///
/// The address cannot be stored to.
pub fn short(client: &mut Client, at: u64, sequence: u32) -> Result<(), Fault> {
    client.write(at, &sequence.to_le_bytes())
}

/// A notification of 16 bytes: the time, then information and status, both 0.
///
/// # Errors
///
/// The address cannot be stored to.
pub fn notification(client: &mut Client, at: u64, time: u64) -> Result<(), Fault> {
    client.write(at, &u128::from(time).to_le_bytes())
}

/// Whether the condition holds under which a class works: conditional rendering.
///
/// # Errors
///
/// The reports that it looks at cannot be read.
pub fn condition(context: &Context, class: Class, client: &mut Client) -> Result<bool, Fault> {
    let (address, mode) = match class {
        Class::TwoD => (twod::COND_ADDRESS_HIGH, twod::COND_MODE),
        _ => (shared::COND_ADDRESS_HIGH, shared::COND_MODE),
    };
    let at = context.address(class, address);
    let mut equal = || -> Result<bool, Fault> {
        Ok(client.load::<u64>(at)? == client.load::<u64>(at.wrapping_add(16))?)
    };
    match context.get(class, mode) {
        cond_mode::NEVER => Ok(false),
        cond_mode::RES_NON_ZERO => Ok(client.load::<u32>(at.wrapping_add(4))? != 0),
        cond_mode::EQUAL => equal(),
        cond_mode::NOT_EQUAL => equal().map(|equal| !equal),
        _ => Ok(true),
    }
}
