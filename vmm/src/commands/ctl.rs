//! `gpuvm ctl`: one action for a running machine, or for all of a process.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::control::{Action, Client, ClientError, Reply, Request};

/// Arguments of `gpuvm ctl`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control socket, as given to `gpuvm run --control`.
    socket: PathBuf,

    /// The machine; without it, all of them.
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,

    /// Ask again every so many milliseconds, until the machines are gone: a line of JSON each, with
    /// the milliseconds since the first.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    every: Option<u64>,

    /// Of counters, only those whose names begin so.
    #[arg(long, value_name = "PREFIX,…", value_delimiter = ',')]
    only: Vec<String>,

    #[command(subcommand)]
    action: Action,
}

/// Sends the action; prints the answer as JSON, or as it is where it is text.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut client = Client::connect(&args.socket)
        .with_context(|| format!("Cannot reach a machine at {}", args.socket.display()))?;
    let request = Request {
        vm: args.vm,
        action: args.action,
    };
    if let Some(every) = args.every {
        watch(
            &mut client,
            &request,
            &args.only,
            Duration::from_millis(every),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = match narrowed(client.call(&request)?, &args.only) {
        Reply::Error(reason) => bail!("The machine refused: {reason}"),
        Reply::Text(text) => text,
        reply => serde_json::to_string_pretty(&reply)? + "\n",
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who reads, as `grep -q`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.context("Cannot print the answer")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An answer, and when it came.
#[derive(Serialize)]
struct Timed {
    ms: u128,
    reply: Reply,
}

/// Prints answers until there are none any more, or nobody reads them.
fn watch(
    client: &mut Client,
    request: &Request,
    only: &[String],
    every: Duration,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let asked = Instant::now();
        let reply = match client.call(request) {
            Ok(reply) => narrowed(reply, only),
            Err(ClientError::Closed | ClientError::Io(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let ms = begin.elapsed().as_millis();
        let line = serde_json::to_string(&Timed { ms, reply })?;
        if writeln!(io::stdout(), "{line}").is_err() {
            return Ok(());
        }
        thread::sleep(every.saturating_sub(asked.elapsed()));
    }
}

/// An answer without the counters that were not asked for; without names they all were.
fn narrowed(reply: Reply, only: &[String]) -> Reply {
    match reply {
        Reply::Counters(mut counters) if !only.is_empty() => {
            counters.retain(|name, _| only.iter().any(|prefix| name.starts_with(prefix)));
            Reply::Counters(counters)
        }
        Reply::All(all) => Reply::All(
            all.into_iter()
                .map(|(vm, reply)| (vm, narrowed(reply, only)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counters_that_were_asked_for_are_left() {
        let counters = || {
            let counters = [("gpu_reads_total", 1), ("exits_total", 2)];
            Reply::Counters(counters.map(|(name, n)| (name.to_owned(), n)).into())
        };
        let all = Reply::All([("a".to_owned(), counters()), ("b".to_owned(), Reply::Done)].into());
        let Reply::All(left) = narrowed(all, &["gpu_".to_owned()]) else {
            panic!("not all");
        };
        let expected = Reply::Counters([("gpu_reads_total".to_owned(), 1)].into());
        assert_eq!((&left["a"], &left["b"]), (&expected, &Reply::Done));
        assert_eq!(narrowed(counters(), &[]), counters());
    }
}
