//! The control socket of `gpuvm`, as far as samples need it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::record::{Counters, Sample};

/// How long an answer may take. Guests may keep the host's processors from who gives it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
struct Control(BufReader<UnixStream>);

/// Answers that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reply {
    Counters(Counters),
    All(BTreeMap<String, Reply>),
    Error(String),
}

/// A line of `gpuvm ctl --every`.
#[derive(Deserialize)]
struct Timed {
    ms: u64,
    reply: Reply,
}

impl Reply {
    /// The counters of all machines, in the order of their names.
    fn counters(self) -> Result<Vec<Counters>> {
        match self {
            Self::Counters(counters) => Ok(vec![counters]),
            // A machine that has ended has none any more.
            Self::All(all) => all
                .into_values()
                .map(|reply| match reply {
                    Self::Counters(counters) => Ok(counters),
                    _ => Ok(Counters::new()),
                })
                .collect(),
            Self::Error(reason) => bail!("Refused: {reason}"),
        }
    }
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    fn connect(path: &Path) -> Result<Self> {
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
    fn counters(&mut self) -> Result<Vec<Counters>> {
        self.0.get_mut().write_all(b"{\"action\":\"counters\"}\n")?;
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        read.context("The card's process does not answer")?;
        let reply: Reply = serde_json::from_str(&line).context("What does the answer mean?")?;
        reply.counters()
    }
}

/// Looks at the counters of a card now and then.
pub struct Sampler {
    socket: PathBuf,
    control: Option<Control>,
    begin: Instant,
    pub samples: Vec<Sample>,
}

impl Sampler {
    /// Of the card whose process listens, or will, at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            control: None,
            begin: Instant::now(),
            samples: Vec::new(),
        }
    }

    /// Does so if it is time.
    ///
    /// # Errors
    ///
    /// Nobody listens, or answers.
    pub fn look(&mut self) -> Result<()> {
        let last = self.samples.last().map_or(0, |sample| sample.ms);
        let now = self.begin.elapsed().as_millis() as u64;
        if self.samples.is_empty() || now - last >= Sample::INTERVAL_MS {
            let control = match &mut self.control {
                Some(control) => control,
                none => none.insert(Control::connect(&self.socket)?),
            };
            let counters = control.counters()?;
            let ms = self.begin.elapsed().as_millis() as u64;
            self.samples.push(Sample::new(ms, &counters));
        }
        Ok(())
    }
}

/// The samples among the lines of `text`, as `gpuvm ctl --every MS SOCKET counters` prints them.
pub fn samples_in(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| line.starts_with("{\"ms\":"));
    let samples = lines.filter_map(|line| {
        let Timed { ms, reply } = serde_json::from_str(line).ok()?;
        Some(Sample::new(ms, &reply.counters().ok()?))
    });
    samples.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_between_other_lines() {
        let text = "noise\n{\"ms\":250,\"reply\":{\"all\":{\"vm0\":{\"counters\":\
                    {\"gpu_engine_ns_total{engine=\\\"gr\\\"}\":5,\"gpu_engine_ns_total{engine=\\\"ce0\\\"}\":2}},\
                    \"vm1\":{\"error\":\"gone\"}}}}\n{\"ms\":500,\"re";
        let samples = samples_in(text);
        assert_eq!(
            samples,
            [Sample {
                ms: 250,
                engine_ns: vec![7, 0]
            }]
        );
    }
}
