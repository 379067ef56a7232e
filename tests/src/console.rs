//! What a guest's steps print, taken from its second serial port.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Brackets a frame; see `guest-init.sh`.
const SEPARATOR: char = '\u{1e}';

/// Name of the record that holds the kernel's log.
pub const DMESG: &str = "dmesg";

/// Reads a file that another process appends to.
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
}

impl Tail {
    /// Follows `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            pending: Vec::new(),
        }
    }

    /// What was appended since the last call, up to the last whole character.
    pub fn read(&mut self) -> Result<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.pending)
                .with_context(|| format!("Cannot read {}", self.path.display()))?;
        }
        let whole = match std::str::from_utf8(&self.pending) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.pending.len(),
        };
        let rest = self.pending.split_off(whole);
        let bytes = std::mem::replace(&mut self.pending, rest);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// One step of a guest, as far as it got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The step's name.
    pub name: String,
    /// What it printed.
    pub output: String,
    /// Guest time when it began, in seconds since boot.
    pub begin: f64,
    /// Guest time when it ended and its exit status.
    pub end: Option<(f64, i32)>,
    /// How many records there were then: those behind this one began inside it.
    pub until: usize,
}

/// Takes the stream apart.
#[derive(Debug, Default)]
pub struct Parser {
    records: Vec<Record>,
    frame: Option<String>,
}

impl Parser {
    /// Takes more of the stream; what of it was printed by steps, without the kernel's logs.
    pub fn feed(&mut self, text: &str) -> String {
        let mut printed = String::new();
        for character in text.chars() {
            match (character, self.frame.take()) {
                (SEPARATOR, None) => self.frame = Some(String::new()),
                (SEPARATOR, Some(frame)) => self.frame(&frame),
                (_, Some(mut frame)) => {
                    frame.push(character);
                    self.frame = Some(frame);
                }
                (_, None) => match self.open() {
                    Some(record) => {
                        record.output.push(character);
                        if record.name != DMESG {
                            printed.push(character);
                        }
                    }
                    None => printed.push(character),
                },
            }
        }
        printed
    }

    /// The innermost step that runs: a guest's guest has its frames inside those of a step.
    fn open(&mut self) -> Option<&mut Record> {
        self.records
            .iter_mut()
            .rev()
            .find(|record| record.end.is_none())
    }

    /// The steps so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn frame(&mut self, frame: &str) {
        let words: Vec<&str> = frame.split(' ').collect();
        match words[..] {
            ["begin", name, time] => self.records.push(Record {
                name: name.to_owned(),
                begin: time.parse().unwrap_or(0.0),
                ..Record::default()
            }),
            ["end", name, time, status] => {
                let end = (time.parse().unwrap_or(0.0), status.parse().unwrap_or(-1));
                let until = self.records.len();
                let open = |record: &&mut Record| record.end.is_none() && record.name == name;
                if let Some(record) = self.records.iter_mut().rev().find(open) {
                    record.end = Some(end);
                    record.until = until;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{1e}begin 00 1.25\u{1e}hello\nworld\u{1e}end 00 2.5 7\u{1e}\
                          \u{1e}begin 01 2.5\u{1e}stuck";

    #[test]
    fn stream_in_single_characters_gives_the_same_records_as_in_one_piece() {
        let mut whole = Parser::default();
        let printed = whole.feed(STREAM);
        let mut pieces = Parser::default();
        for character in STREAM.chars() {
            pieces.feed(&character.to_string());
        }
        assert_eq!(printed, "hello\nworldstuck");
        assert_eq!(whole.records(), pieces.records());
    }

    #[test]
    fn step_that_ended_has_status_and_the_one_that_hangs_has_none() {
        let mut parser = Parser::default();
        parser.feed(STREAM);
        let [first, second] = parser.records() else {
            panic!("{:?}", parser.records())
        };
        assert_eq!(
            (first.output.as_str(), first.end),
            ("hello\nworld", Some((2.5, 7)))
        );
        assert_eq!((second.output.as_str(), second.end), ("stuck", None));
    }

    #[test]
    fn frames_of_a_guest_inside_a_step_become_steps_of_their_own() {
        let mut parser = Parser::default();
        let printed = parser.feed(
            "\u{1e}begin 00 1\u{1e}a\u{1e}begin 00 2\u{1e}b\u{1e}end 00 3 4\u{1e}\
             \u{1e}begin dmesg 3\u{1e}log\u{1e}end dmesg 3 0\u{1e}c\u{1e}end 00 5 0\u{1e}",
        );
        let records: Vec<_> = parser
            .records()
            .iter()
            .map(|r| (r.output.as_str(), r.end.unwrap(), r.until))
            .collect();
        assert_eq!(
            records,
            [
                ("ac", (5.0, 0), 3),
                ("b", (3.0, 4), 2),
                ("log", (3.0, 0), 3)
            ]
        );
        assert_eq!(printed, "abc");
    }

    #[test]
    fn tail_keeps_a_split_character_for_the_next_read() {
        use std::io::Write;

        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut tail = Tail::new(file.path());
        file.write_all(b"a\xc3").unwrap();
        assert_eq!(tail.read().unwrap(), "a");
        file.write_all(b"\xa9\xff!").unwrap();
        assert_eq!(tail.read().unwrap(), "\u{e9}\u{fffd}!");
    }
}
