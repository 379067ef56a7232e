//! What the classes write to memory to tell how far they are: reports and notifications.

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
