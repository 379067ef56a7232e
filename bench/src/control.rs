//! The control socket of `gpuvm serve`, as far as samples need it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::record::Counters;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection.
pub struct Control(BufReader<UnixStream>);

/// Answers that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Counters(Counters),
    All(BTreeMap<String, Reply>),
    Error(String),
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path)
            .with_context(|| format!("Nobody listens on {}", path.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The counters of all machines, in the order of their names.
    ///
    /// # Errors
    ///
    /// The other side does not answer.
    pub fn counters(&mut self) -> Result<Vec<Counters>> {
        self.0.get_mut().write_all(b"{\"action\":\"counters\"}\n")?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match serde_json::from_str(&line).context("What does the answer mean?")? {
            Reply::Counters(counters) => Ok(vec![counters]),
            Reply::All(all) => all
                .into_values()
                .map(|reply| match reply {
                    Reply::Counters(counters) => Ok(counters),
                    _ => bail!("A machine has no counters"),
                })
                .collect(),
            Reply::Error(reason) => bail!("Refused: {reason}"),
        }
    }
}
