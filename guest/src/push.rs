//! The method stream of a submission.

/// Operation of a method header, bits 31:29 (`cl906f.h` `NV906F_DMA_SEC_OP`).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
enum Form {
    Increasing = 1,
    NonIncreasing = 3,
    Immediate = 4,
    IncreaseOnce = 5,
}

/// Largest count, and largest immediate datum, that a header's bits 28:16 hold.
const FIELD_MAX: usize = 0x1fff;
/// Subchannels of a channel.
const SUBCHANNELS: u32 = 8;

/// Method headers and data, ready to be copied into a command buffer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Push {
    words: Vec<u32>,
}

impl Push {
    /// An empty stream.
    pub fn new() -> Push {
        Push::default()
    }

    fn header(&mut self, form: Form, subchannel: u32, method: u32, field: usize) {
        assert!(subchannel < SUBCHANNELS, "subchannel {subchannel}");
        assert!(
            method.is_multiple_of(4) && method < 0x4000,
            "method {method:#x}"
        );
        assert!(field <= FIELD_MAX, "count {field}");
        self.words
            .push((form as u32) << 29 | (field as u32) << 16 | subchannel << 13 | method >> 2);
    }

    /// Writes `data` to consecutive methods from `method`.
    pub fn incr(&mut self, subchannel: u32, method: u32, data: &[u32]) -> &mut Self {
        self.header(Form::Increasing, subchannel, method, data.len());
        self.words.extend_from_slice(data);
        self
    }

    /// Writes all of `data` to `method`.
    pub fn repeat(&mut self, subchannel: u32, method: u32, data: &[u32]) -> &mut Self {
        self.header(Form::NonIncreasing, subchannel, method, data.len());
        self.words.extend_from_slice(data);
        self
    }

    /// Writes the first of `data` to `method`, the rest to the one after it.
    pub fn incr_once(&mut self, subchannel: u32, method: u32, data: &[u32]) -> &mut Self {
        self.header(Form::IncreaseOnce, subchannel, method, data.len());
        self.words.extend_from_slice(data);
        self
    }

    /// Writes a datum of at most 13 bits to `method`, within the header.
    pub fn immediate(&mut self, subchannel: u32, method: u32, datum: u32) -> &mut Self {
        self.header(Form::Immediate, subchannel, method, datum as usize);
        self
    }

    /// Adds words as they are: headers of a caller's own making.
    pub fn raw(&mut self, words: &[u32]) -> &mut Self {
        self.words.extend_from_slice(words);
        self
    }

    /// The stream.
    pub fn words(&self) -> &[u32] {
        &self.words
    }
}

/// An address as the two words that address methods take: bits 39:32, bits 31:0.
pub(crate) fn split(address: u64) -> [u32; 2] {
    [(address >> 32) as u32, address as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increasing_header_has_form_count_subchannel_and_method() {
        let mut push = Push::new();
        push.incr(4, 0x030c, &[1, 2]);
        assert_eq!(push.words(), [0x2002_80c3, 1, 2]);
    }

    #[test]
    fn inline_upload_of_mesa_is_encoded_as_captured() {
        // The stream that Mesa 22.3.6 submits for a constant upload (NVC0_M2MF on subchannel 2).
        let mut push = Push::new();
        push.incr(2, 0x0238, &[0, 0x0029_f340])
            .incr(2, 0x031c, &[0x288, 1])
            .incr(2, 0x0300, &[0x0010_0111])
            .repeat(2, 0x0304, &[7]);
        assert_eq!(
            push.words(),
            [
                0x2002_408e,
                0,
                0x0029_f340,
                0x2002_40c7,
                0x288,
                1,
                0x2001_40c0,
                0x0010_0111,
                0x6001_40c1,
                7
            ]
        );
    }

    #[test]
    fn immediate_holds_its_datum_in_the_header() {
        let mut push = Push::new();
        push.immediate(4, 0x0300, 0x0110);
        assert_eq!(push.words(), [0x8110_80c0]);
    }

    #[test]
    fn increase_once_header_has_form_five() {
        let mut push = Push::new();
        push.incr_once(0, 0x238c, &[0, 9]);
        assert_eq!(push.words(), [0xa002_08e3, 0, 9]);
    }

    #[test]
    #[should_panic(expected = "count 8192")]
    fn datum_of_fourteen_bits_is_refused() {
        Push::new().immediate(0, 0x100, 0x2000);
    }

    #[test]
    fn addresses_are_split_at_bit_32() {
        assert_eq!(split(0xab_1234_5678), [0xab, 0x1234_5678]);
    }
}
