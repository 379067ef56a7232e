//! The numbers of a machine's memory slots.

use std::sync::Arc;

use parking_lot::Mutex;

/// Gives numbers to whoever puts memory into the machine while it runs.
#[derive(Debug)]
pub struct MemorySlots(Mutex<Numbers>);

#[derive(Debug)]
struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl MemorySlots {
    /// Numbers from `first` on.
    pub fn from(first: u32) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Numbers {
            next: first,
            free: Vec::new(),
        })))
    }

    /// A number that nobody has.
    pub fn take(&self) -> u32 {
        let mut numbers = self.0.lock();
        numbers.free.pop().unwrap_or_else(|| {
            numbers.next += 1;
            numbers.next - 1
        })
    }

    /// Gives a number back whose slot is empty.
    pub fn give_back(&self, number: u32) {
        self.0.lock().free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_used_again_only_when_given_back() {
        let slots = MemorySlots::from(3);
        let (a, b) = (slots.take(), slots.take());
        slots.give_back(a);

        assert_eq!((a, b), (3, 4));
        assert_eq!([slots.take(), slots.take()], [3, 5]);
    }
}
