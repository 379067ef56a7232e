//! From words to methods.

use mmio::layout::pushbuffer::{Header, Mode};

use crate::engine::Method;

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
/// Method addresses wrap here.
const ADDRESSES: u16 = 0x4000;

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
                for &data in &words[at..run] {
                    at += 1;
                    let method = self.take(data);
                    if let Err(stop) = sink.method(method) {
                        return stopped(at, stop);
                    }
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

    /// The method that the next word is for.
    #[inline]
    fn take(&mut self, data: u32) -> Method {
        let method = Method {
            subchannel: self.subchannel,
            address: self.address,
            data,
        };
        self.skip(1);
        method
    }

    /// Goes on by `words`, at most what is to come.
    #[inline]
    fn skip(&mut self, words: usize) {
        self.count -= words as u16;
        match self.mode {
            Mode::NonIncreasing => {}
            Mode::Increasing => self.address = (self.address + 4 * words as u16) % ADDRESSES,
            Mode::IncreaseOnce => {
                self.address = (self.address + 4) % ADDRESSES;
                self.mode = Mode::NonIncreasing;
            }
        }
    }
}
