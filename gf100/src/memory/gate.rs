//! Who is in the middle of an access, and how a writer waits until they are not.
//!
//! A reader holds a [`Guard`] while it uses what it found: a DMA window, a BAR's page directory.
//! A writer publishes the new state and then waits for every guard that may have seen the old one,
//! after which nothing can touch it any more. Readers never wait.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use std::{hint, ptr, thread};

use parking_lot::Mutex;

/// Counter pairs; threads spread over them.
const SHARDS: usize = 16;

/// Keeps counters of different threads in different cache lines (pairs, for the prefetcher).
#[repr(align(128))]
#[derive(Default)]
struct Padded<T>(T);

/// Counts readers in two phases, so that a writer waits for those who came before it and not for
/// those who keep coming.
#[derive(Default)]
pub(super) struct Gate {
    phase: AtomicUsize,
    readers: [[Padded<AtomicU64>; SHARDS]; 2],
    writer: Mutex<()>,
}

/// Proof that an access is going on: memory that was found under it stays mapped until it is
/// dropped.
///
/// Hold it for bounded work (a batch of instructions, a megabyte of copying), never while waiting
/// for a register access, for `unmap` itself, or for another thread that may do either.
pub struct Guard<'a> {
    readers: &'a AtomicU64,
    gate: &'a Gate,
}

impl Gate {
    /// Starts an access.
    #[inline]
    pub(super) fn enter(&self) -> Guard<'_> {
        thread_local! {
            static SHARD: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        let phase = self.phase.load(Ordering::Relaxed) & 1;
        let readers = &self.readers[phase][SHARD.with(|shard| *shard)].0;
        // In the single order of SeqCst either this count precedes a writer's look at it, and the
        // writer waits, or the writer's new state precedes our loads of it.
        readers.fetch_add(1, Ordering::SeqCst);
        Guard {
            readers,
            gate: self,
        }
    }

    /// Returns when every guard that existed at the time of the call is gone.
    pub(super) fn wait_for_readers(&self) {
        let _one_at_a_time = self.writer.lock();
        // A reader that was delayed between choosing its phase and counting itself may sit in
        // either: both have to be seen empty.
        for _ in 0..2 {
            let old = self.phase.fetch_xor(1, Ordering::SeqCst) & 1;
            for readers in &self.readers[old] {
                let mut spins = 0u32;
                while readers.0.load(Ordering::SeqCst) != 0 {
                    spins += 1;
                    match spins {
                        0..64 => hint::spin_loop(),
                        64..256 => thread::yield_now(),
                        _ => thread::sleep(Duration::from_micros(50)),
                    }
                }
            }
        }
    }
}

impl Guard<'_> {
    /// It belongs to `gate`, and so protects what is protected by it.
    #[inline]
    pub(super) fn is_of(&self, gate: &Gate) -> bool {
        ptr::eq(self.gate, gate)
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.readers.fetch_sub(1, Ordering::Release);
    }
}

/// A value that readers see through a guard and that is replaced as a whole.
pub(super) struct Published<T> {
    current: AtomicPtr<T>,
}

impl<T> Published<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            current: AtomicPtr::new(Box::into_raw(Box::new(value))),
        }
    }

    /// The current value, alive as long as the guard.
    ///
    /// # Safety
    ///
    /// `guard` is of the gate that every [`Published::replace`] of this value is given.
    #[inline]
    pub(super) unsafe fn get<'g>(&self, _guard: &'g Guard<'_>) -> &'g T {
        // SAFETY: the pointer came from a box that is only dropped after `replace` has waited for
        // this guard.
        unsafe { &*self.current.load(Ordering::SeqCst) }
    }

    /// Publishes `value`; the old one comes back once nobody can see it.
    ///
    /// `then` runs after the new value is visible and before the wait: what it invalidates is
    /// invalid for every reader that can no longer see the old value.
    pub(super) fn replace(&self, gate: &Gate, value: T, then: impl FnOnce()) -> Box<T> {
        let old = self
            .current
            .swap(Box::into_raw(Box::new(value)), Ordering::SeqCst);
        then();
        gate.wait_for_readers();
        // SAFETY: from a box; unpublished, and every guard under which it was seen is gone.
        unsafe { Box::from_raw(old) }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, and exclusively ours now.
        drop(unsafe { Box::from_raw(*self.current.get_mut()) });
    }
}

// SAFETY: `Published` hands out `&T` to any thread and moves `T` between threads.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_writer_waits_for_the_guard_that_was_there_before() {
        let gate = Arc::new(Gate::default());
        let done = Arc::new(AtomicBool::new(false));
        let guard = gate.enter();
        let writer = thread::spawn({
            let (gate, done) = (gate.clone(), done.clone());
            move || {
                gate.wait_for_readers();
                done.store(true, Ordering::SeqCst);
            }
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!done.load(Ordering::SeqCst));
        drop(guard);
        writer.join().unwrap();
        assert!(done.load(Ordering::SeqCst));
    }

    #[test]
    fn a_stream_of_readers_does_not_hold_up_a_writer() {
        let gate = Arc::new(Gate::default());
        let stop = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (gate, stop) = (gate.clone(), stop.clone());
                thread::spawn(move || {
                    let mut held = gate.enter();
                    while !stop.load(Ordering::Relaxed) {
                        // Overlapping guards: this thread is never without one.
                        held = {
                            let next = gate.enter();
                            drop(held);
                            next
                        };
                    }
                    drop(held);
                })
            })
            .collect();
        for _ in 0..20 {
            gate.wait_for_readers();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    }

    #[test]
    fn a_replaced_value_is_dropped_only_after_its_readers() {
        let gate = Arc::new(Gate::default());
        let value = Arc::new(Published::new(0u64));
        let stop = Arc::new(AtomicBool::new(false));
        let reader = thread::spawn({
            let (gate, value, stop) = (gate.clone(), value.clone(), stop.clone());
            move || {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let guard = gate.enter();
                    // SAFETY: the one gate of this test.
                    let seen = *unsafe { value.get(&guard) };
                    assert!(seen >= last, "{seen} after {last}");
                    last = seen;
                }
            }
        });
        for n in 1..2000 {
            let mut old = value.replace(&gate, n, || ());
            assert_eq!(*old, n - 1);
            *old = 0;
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    }
}
