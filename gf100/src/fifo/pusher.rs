//! From words to methods.

use mmio::layout::pushbuffer::{Header, Mode};

use crate::engine::{Calls, Method};

/// Takes what a [`Pusher`] finds.
pub trait Sink {
    /// Why it stopped.
    type Stop;

    /// A method. Its word counts as consumed also when the sink stops.
    ///
    /// # Errors
    ///
    /// The sink takes no more.
    fn method(&mut self, method: Method) -> Result<(), Self::Stop>;

    /// Methods one after the other; how many were taken, the one at which the sink stopped
    /// included.
    ///
    /// # Errors
    ///
    /// The sink takes no more.
    fn methods(&mut self, calls: Calls<'_>) -> (usize, Result<(), Self::Stop>) {
        let mut rest = calls;
        while let Some(method) = rest.first() {
            rest = rest.skip(1);
            if let Err(stop) = self.method(method) {
                return (calls.data.len() - rest.data.len(), Err(stop));
            }
        }
        (calls.data.len(), Ok(()))
    }

    /// A word in the place of a header that is none.
    ///
    /// # Errors
    ///
    /// The sink takes no more.
    fn illegal(&mut self, word: u32) -> Result<(), Self::Stop>;
}

/// How far a [`Pusher`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed<S> {
    /// Words used.
    pub words: usize,
    /// The rest of the segment is to be skipped.
    pub end_segment: bool,
    /// Why the sink stopped, if it did.
    pub stop: Option<S>,
}

/// The command at hand, and which commands count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pusher {
    subchannel: u8,
    /// Byte address of the next method.
    address: u16,
    mode: Mode,
    /// Words to come.
    count: u16,
    /// RAMFC's SLI word.
    sli: u32,
}

/// SLI: this card is in the mask.
const SLI_ACTIVE: u32 = 1 << 28;
/// SLI: masks count.
const SLI_ENABLE: u32 = 1 << 29;

impl Pusher {
    /// The pusher that RAMFC's words DMA_STATE_0, DMA_STATE_1 and SLI describe.
    pub fn load(state_0: u32, state_1: u32, sli: u32) -> Self {
        Self {
            subchannel: (state_0 >> 16 & 7) as u8,
            address: (state_0 & 0x3ffc) as u16,
            mode: match state_0 >> 29 {
                3 => Mode::NonIncreasing,
                5 => Mode::IncreaseOnce,
                _ => Mode::Increasing,
            },
            count: (state_1 & 0x1fff) as u16,
            sli,
        }
    }

    /// The words from which [`Pusher::load`] makes this pusher; of the first two the given bits
    /// that are not its own stay.
    pub fn save(&self, state_0: u32, state_1: u32) -> [u32; 3] {
        let mode = match self.mode {
            Mode::Increasing => 1,
            Mode::NonIncreasing => 3,
            Mode::IncreaseOnce => 5,
        };
        [
            state_0 & !0xe007_3ffc
                | mode << 29
                | u32::from(self.subchannel) << 16
                | u32::from(self.address),
            state_1 & !0x1fff | u32::from(self.count),
            self.sli,
        ]
    }

    /// Whether methods count: this card is in the mask, or there are no masks.
    fn active(&self) -> bool {
        self.sli & (SLI_ENABLE | SLI_ACTIVE) != SLI_ENABLE
    }

    fn set_mask(&mut self, mask: u32) {
        self.sli &= !SLI_ACTIVE;
        if mask & self.sli & 0xfff != 0 {
            self.sli |= SLI_ACTIVE;
        }
    }

    /// Decodes `words` until they or the sink's patience end.
    #[inline]
    pub fn feed<S: Sink>(&mut self, words: &[u32], sink: &mut S) -> Fed<S::Stop> {
        let mut at = 0;
        let stopped = |words, stop| Fed {
            words,
            end_segment: false,
            stop: Some(stop),
        };
        while at < words.len() {
            if self.count != 0 {
                let run = words.len().min(at + usize::from(self.count));
                if !self.active() {
                    self.skip(run - at);
                    at = run;
                    continue;
                }
                let calls = self.calls(&words[at..run]);
                let (used, result) = sink.methods(calls);
                self.skip(used);
                at += used;
                if let Err(stop) = result {
                    return stopped(at, stop);
                }
                continue;
            }
            let word = words[at];
            at += 1;
            let result = match Header::decode(word) {
                Header::Methods {
                    mode,
                    subchannel,
                    address,
                    count,
                } => {
                    (self.mode, self.subchannel) = (mode, subchannel);
                    (self.address, self.count) = (address, count);
                    Ok(())
                }
                Header::Immediate { .. } if !self.active() => Ok(()),
                Header::Immediate {
                    subchannel,
                    address,
                    data,
                } => sink.method(Method {
                    subchannel,
                    address,
                    data: data.into(),
                }),
                Header::SubdeviceMask(mask) => {
                    self.set_mask(mask.into());
                    Ok(())
                }
                Header::StoreSubdeviceMask(mask) => {
                    self.sli = self.sli & !0x0fff_0000 | u32::from(mask) << 16;
                    Ok(())
                }
                Header::UseSubdeviceMask => {
                    self.set_mask(self.sli >> 16 & 0xfff);
                    Ok(())
                }
                Header::EndSegment => {
                    return Fed {
                        words: at,
                        end_segment: true,
                        stop: None,
                    };
                }
                Header::Illegal => sink.illegal(word),
            };
            if let Err(stop) = result {
                return stopped(at, stop);
            }
        }
        Fed {
            words: at,
            end_segment: false,
            stop: None,
        }
    }

    /// The methods that the next words are for, as far as they go on alike.
    #[inline]
    fn calls<'a>(&self, words: &'a [u32]) -> Calls<'a> {
        let (step, count) = match self.mode {
            Mode::Increasing => (4, words.len()),
            Mode::NonIncreasing => (0, words.len()),
            Mode::IncreaseOnce => (4, 1),
        };
        Calls {
            subchannel: self.subchannel,
            address: self.address,
            step,
            data: &words[..count],
        }
    }

    /// Goes on by `words`, at most what is to come.
    #[inline]
    fn skip(&mut self, words: usize) {
        self.count -= words as u16;
        match self.mode {
            Mode::NonIncreasing => {}
            Mode::Increasing => self.address = (self.address + 4 * words as u16) % Calls::ADDRESSES,
            Mode::IncreaseOnce => {
                self.address = (self.address + 4) % Calls::ADDRESSES;
                self.mode = Mode::NonIncreasing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a stream means: method calls, and words that are no commands.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Event {
        Call(u8, u16, u32),
        Illegal(u32),
    }

    /// Collects, and stops after every `patience`th event.
    struct Collect {
        events: Vec<Event>,
        patience: usize,
    }

    impl Collect {
        fn take(&mut self, event: Event) -> Result<(), ()> {
            self.events.push(event);
            match self.events.len() % self.patience {
                0 => Err(()),
                _ => Ok(()),
            }
        }
    }

    impl Sink for Collect {
        type Stop = ();

        fn method(&mut self, method: Method) -> Result<(), ()> {
            self.take(Event::Call(method.subchannel, method.address, method.data))
        }

        fn illegal(&mut self, word: u32) -> Result<(), ()> {
            self.take(Event::Illegal(word))
        }
    }

    /// The same by another way: each command is spread out as a list of the methods that its words
    /// go to before any word is looked at.
    fn reference(words: &[u32], mask: Option<u32>) -> Vec<Event> {
        let mut events = Vec::new();
        let (mut accepted, mut stored) = (true, 0);
        let mut rest = words.iter().copied();
        while let Some(word) = rest.next() {
            let subchannel = (word / 0x2000 % 8) as u8;
            let old = word >> 29 == 0 || word >> 29 == 2;
            let first = if old {
                word % 0x2000 / 4
            } else {
                word % 0x1000
            };
            let count = if old {
                word / 0x4_0000 % 0x800
            } else {
                word / 0x1_0000 % 0x2000
            };
            let targets: Vec<u32> = match (word >> 29, word / 0x1_0000 % 4) {
                (0, 0) | (1, _) => (first..first + count).collect(),
                (2, 0) | (3, _) => vec![first; count as usize],
                (5, _) => (0..count).map(|n| first + n.min(1)).collect(),
                (4, _) => {
                    if accepted {
                        events.push(Event::Call(subchannel, (first * 4) as u16, count));
                    }
                    continue;
                }
                (0, form) => {
                    let value = word / 0x10 % 0x1000;
                    if form == 2 {
                        stored = value;
                    } else if let Some(mask) = mask {
                        let value = if form == 1 { value } else { stored };
                        accepted = value & mask != 0;
                    }
                    continue;
                }
                (7, _) => break,
                _ => {
                    events.push(Event::Illegal(word));
                    continue;
                }
            };
            for (target, data) in targets.into_iter().zip(rest.by_ref()) {
                if accepted {
                    events.push(Event::Call(subchannel, (target % 0x1000 * 4) as u16, data));
                }
            }
        }
        events
    }

    fn word() -> impl Strategy<Value = u32> {
        prop_oneof![
            // Commands that end soon.
            (0u32..8, 0u32..6, any::<u16>())
                .prop_map(|(op, count, low)| { op << 29 | count << 16 | u32::from(low) }),
            (0u32..4, 0u32..4, any::<u16>())
                .prop_map(|(op, count, low)| { op << 29 | count << 18 | u32::from(low) }),
            any::<u32>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn streams_decode_alike_however_they_are_cut(
            words in proptest::collection::vec(word(), 0..200),
            cut in 1usize..40,
            patience in 1usize..20,
            mask in proptest::option::of(0u32..0x1000),
        ) {
            let sli = mask.map_or(0, |mask| mask | SLI_ENABLE | SLI_ACTIVE);
            let mut state = [0x2040_0000, 0xffff_e000, sli];
            let mut sink = Collect { events: Vec::new(), patience };
            let mut at = 0;
            while at < words.len() {
                // Nothing but three words of RAMFC survives between two batches.
                let mut pusher = Pusher::load(state[0], state[1], state[2]);
                let end = words.len().min(at + cut);
                let fed = pusher.feed(&words[at..end], &mut sink);
                prop_assert!(fed.stop.is_some() || fed.end_segment || fed.words == end - at);
                state = pusher.save(state[0], state[1]);
                at = if fed.end_segment { words.len() } else { at + fed.words };
            }
            prop_assert_eq!(sink.events, reference(&words, mask));
            prop_assert_eq!(state[0] & 0x0040_0000, 0x0040_0000);
        }
    }
}
