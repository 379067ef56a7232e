//! The kernel's log, from a moment on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::{Error, Result, wait_until};

/// Longest record that the kernel hands out.
const RECORD_BYTES: usize = 8192;

/// A reader of `/dev/kmsg` that begins with the next record.
#[derive(Debug)]
pub struct Kmsg {
    file: File,
    lines: Vec<String>,
}

impl Kmsg {
    /// Starts listening.
    ///
    /// # Errors
    /// [`Error::Open`] without the permission or without devtmpfs.
    pub fn from_now() -> Result<Kmsg> {
        let path = Path::new("/dev/kmsg");
        let open_error = |source| Error::Open {
            path: path.into(),
            source,
        };
        let mut file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(open_error)?;
        file.seek(SeekFrom::End(0)).map_err(open_error)?;
        Ok(Kmsg {
            file,
            lines: Vec::new(),
        })
    }

    /// The messages so far, without their prefixes.
    pub fn lines(&mut self) -> &[String] {
        let mut record = [0; RECORD_BYTES];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let record = String::from_utf8_lossy(&record[..length]);
                    self.lines.push(message(&record).into());
                }
                // Records that were overwritten before they were read are no reason to stop.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        &self.lines
    }

    /// Waits for a message that contains all of `parts`, and returns it.
    pub fn wait_for(&mut self, parts: &[&str], limit: Duration) -> Result<String> {
        let mut found = None;
        wait_until(&format!("A kernel message with {parts:?}"), limit, || {
            let matching = |line: &&String| parts.iter().all(|part| line.contains(part));
            found = self.lines().iter().find(matching).cloned();
            Ok(found.is_some())
        })?;
        Ok(found.unwrap_or_default())
    }
}

/// The text of a record: after the prefix, before the dictionary.
fn message(record: &str) -> &str {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_stripped_of_prefix_and_dictionary() {
        let record = "3,512,8123456,-;nouveau 0000:00:04.0: fifo: fault 00\n SUBSYSTEM=pci\n";
        assert_eq!(message(record), "nouveau 0000:00:04.0: fifo: fault 00");
    }

    #[test]
    fn record_without_prefix_is_taken_as_it_is() {
        assert_eq!(message("plain"), "plain");
    }
}
