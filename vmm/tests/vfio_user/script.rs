//! Messages of a client as a byte script.

use std::io::{Read, Write};

use crate::peer::{BOOT_0, Client, Served, header};

/// Plays a script to a served card: a byte that says whether the client greets first; then per
/// message its command, the number of bytes behind the header, whether the header tells the truth
/// about them (else a size follows), and the bytes. However the connection ends, the next client
/// is served.
pub fn run(served: &Served, script: &[u8]) {
    let mut bytes = script.iter().copied();
    let greet = bytes.next().unwrap_or(0) & 1 != 0;
    let mut stream = match greet {
        true => Client::connect(served).0,
        false => Client::raw(served),
    };
    while let (Some(command), Some(len), Some(honest)) = (bytes.next(), bytes.next(), bytes.next())
    {
        let size = match honest & 1 {
            0 => None,
            _ => bytes.next_chunk_u32(),
        };
        let payload: Vec<u8> = bytes.by_ref().take(len.into()).collect();
        let mut message = header(command.into(), crate::peer::HEADER + payload.len());
        if let Some(size) = size {
            message[4..8].copy_from_slice(&size.to_le_bytes());
        }
        message.extend_from_slice(&payload);
        if stream.write_all(&message).is_err() {
            break;
        }
    }
    // Whatever it answers, it ends.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    drop(stream);
    assert_eq!(Client::connect(served).boot0(), BOOT_0);
}

/// Takes a little-endian word from the front.
trait NextWord: Iterator<Item = u8> {
    fn next_chunk_u32(&mut self) -> Option<u32> {
        let word = [self.next()?, self.next()?, self.next()?, self.next()?];
        Some(u32::from_le_bytes(word))
    }
}

impl<I: Iterator<Item = u8>> NextWord for I {}
