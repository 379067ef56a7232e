//! Semaphores in system memory, and waiting with a limit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::methods::{host, semaphore};
use crate::push::split;
use crate::{Buffer, Device, Domain, Error, Push, Result};

/// Bytes of a slot: payload, zero, time low, time high.
const SLOT_BYTES: u64 = 16;
/// Polls before a waiter begins to sleep.
const BUSY_POLLS: u32 = 200;
/// Sleep between later polls.
const NAP: Duration = Duration::from_micros(50);

/// A page of semaphores that the host units of channels and the CPU share.
#[derive(Debug)]
pub struct Semaphore {
    buffer: Buffer,
}

impl Semaphore {
    /// Allocates 256 slots, all zero.
    pub fn new(device: &Arc<Device>) -> Result<Semaphore> {
        let buffer = Buffer::new(device, Domain::Gart, 4096)?;
        for offset in (0..buffer.bytes()).step_by(4) {
            buffer.write(offset, 0)?;
        }
        Ok(Semaphore { buffer })
    }

    /// The memory, for the buffer list of submissions.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// GPU address of a slot.
    pub fn address(&self, slot: u64) -> u64 {
        self.buffer.address() + slot * SLOT_BYTES
    }

    /// Emits one semaphore operation: bits of [`crate::methods::semaphore`].
    pub fn operate(&self, push: &mut Push, slot: u64, payload: u32, operation: u32) {
        let [high, low] = split(self.address(slot));
        push.incr(0, host::SEMAPHOREA, &[high, low, payload, operation]);
    }

    /// Emits the release that a fence needs: after all engines, payload only, with an interrupt
    /// so that the kernel looks at its own fences too.
    pub fn release(&self, push: &mut Push, slot: u64, payload: u32) {
        self.operate(
            push,
            slot,
            payload,
            semaphore::RELEASE | semaphore::RELEASE_SIZE_4BYTE,
        );
        push.immediate(0, host::NON_STALL_INTERRUPT, 0);
    }

    /// Emits a wait until the slot has come to `payload`, letting other channels run.
    pub fn acquire(&self, push: &mut Push, slot: u64, payload: u32) {
        self.operate(
            push,
            slot,
            payload,
            semaphore::ACQ_GEQ | semaphore::ACQUIRE_SWITCH,
        );
    }

    /// The slot's payload.
    pub fn value(&self, slot: u64) -> Result<u32> {
        self.buffer.read(slot * SLOT_BYTES)
    }

    /// Word `word` of the slot.
    pub fn word(&self, slot: u64, word: u64) -> Result<u32> {
        self.buffer.read(slot * SLOT_BYTES + word * 4)
    }

    /// The time in a slot that a 16-byte release wrote, in nanoseconds of the card's clock.
    pub fn time(&self, slot: u64) -> Result<u64> {
        Ok(u64::from(self.word(slot, 2)?) | u64::from(self.word(slot, 3)?) << 32)
    }

    /// Sets the slot's payload from the CPU.
    pub fn set(&self, slot: u64, payload: u32) -> Result<()> {
        self.buffer.write(slot * SLOT_BYTES, payload)
    }

    /// Whether the slot has come to `payload`, in wrapping arithmetic as the GPU compares.
    pub fn reached(&self, slot: u64, payload: u32) -> Result<bool> {
        Ok(self.value(slot)?.wrapping_sub(payload) as i32 >= 0)
    }

    /// Waits on the CPU until the slot has come to `payload`.
    pub fn wait(&self, slot: u64, payload: u32, limit: Duration) -> Result<()> {
        wait_until(&format!("Release of semaphore {slot}"), limit, || {
            self.reached(slot, payload)
        })
    }
}

/// Polls until `condition` holds.
///
/// # Errors
/// [`Error::Timeout`] after `limit`, and what `condition` returns.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    let mut polls = 0;
    while !condition()? {
        if start.elapsed() > limit {
            return Err(Error::Timeout {
                what: what.into(),
                limit,
            });
        }
        polls += 1;
        if polls < BUSY_POLLS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(NAP);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_ends_when_the_condition_holds() {
        let mut polls = 0;
        let result = wait_until("It", Duration::from_secs(5), || {
            polls += 1;
            Ok(polls == 3)
        });
        assert!(result.is_ok());
        assert_eq!(polls, 3);
    }

    #[test]
    fn wait_gives_up_after_its_limit() {
        let error = wait_until("Rain", Duration::from_millis(1), || Ok(false)).unwrap_err();
        assert_eq!(error.to_string(), "Rain did not happen within 1ms");
    }
}
