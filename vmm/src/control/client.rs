//! The asking side of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use thiserror::Error;

use super::{Reply, Request};

/// Why a call got no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The socket failed.
    #[error("Control socket failed")]
    Io(#[from] io::Error),
    /// The other side hung up first.
    #[error("The machine closed the connection without an answer")]
    Closed,
    /// The other side does not speak this protocol.
    #[error("Malformed answer")]
    Malformed(#[from] serde_json::Error),
}

/// A connection to a control socket.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    /// Sends `request` and waits for its answer.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;

        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(ClientError::Closed);
        }
        Ok(serde_json::from_str(&answer)?)
    }
}
