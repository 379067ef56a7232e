//! Tests of the card and its stock driver, from user space.
//!
//! Each case runs in a process of its own with a time limit, so that a hanging card costs one
//! case. One line per case, `ok NAME`, `FAIL NAME: why` or `skip NAME: why`, then a summary;
//! lines that begin with `#` are progress. The exit code is 0 if nothing failed.

mod blocks;
mod case;
mod channel;
mod copy;
mod faults;
mod kernels;
mod mapped;
mod objects;
mod params;
mod runner;
mod stress;
mod sync;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::case::{Case, Context};
use crate::worker::Job;

/// Groups in the order in which they run, some in parts; a case's full name is `group/name`.
const GROUPS: &[(&str, &[Case])] = &[
    ("params", params::CASES),
    ("channel", channel::CASES),
    ("copy", copy::CASES),
    ("copy", blocks::CASES),
    ("copy", mapped::CASES),
    ("sync", sync::CASES),
    ("objects", objects::CASES),
    ("faults", faults::CASES),
    ("kernels", kernels::CASES),
    ("stress", stress::CASES),
];

/// The hardware has 128 channels, of which the kernel keeps two.
const ALL_CHANNELS: usize = 120;

/// Tests a GF100 through the nouveau DRM interface.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Lists the cases and what they check
    #[arg(long)]
    list: bool,

    /// Render node [default: the first that nouveau drives]
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,

    /// Does more of the same: hundreds of cycles instead of tens
    #[arg(long)]
    large: bool,

    /// Gives each case so many times its time: for machines where an access of the card is slow
    #[arg(long, value_name = "N", default_value_t = 1)]
    patience: u32,

    /// Channels that clients may have: a virtual GPU can have fewer than the card
    #[arg(long, value_name = "N", default_value_t = ALL_CHANNELS)]
    channels: usize,

    /// Runs one case in this process
    #[arg(long, hide = true, value_name = "NAME")]
    run: Option<String>,

    /// Works for a case of another process
    #[arg(long, hide = true, value_name = "JOB")]
    worker: Option<Job>,

    /// Groups, full names or bare names [default: everything]
    #[arg(value_name = "SELECTION")]
    selection: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let context = Context {
        device: arguments.device,
        large: arguments.large,
        channels: arguments.channels,
    };
    if let Some(job) = arguments.worker {
        return worker::work(&context, job);
    }
    if let Some(name) = arguments.run {
        return match all().find(|(full, _)| *full == name) {
            Some((_, case)) => runner::run_here(&context, case),
            None => unknown(&name),
        };
    }
    let mut chosen = Vec::new();
    for word in &arguments.selection {
        if !all().any(|(name, _)| selects(word, &name)) {
            return unknown(word);
        }
    }
    chosen.extend(all().filter(|(name, _)| {
        arguments.selection.is_empty() || arguments.selection.iter().any(|word| selects(word, name))
    }));
    if arguments.list {
        for (name, case) in chosen {
            println!("{name:32} {}", case.about);
        }
        return ExitCode::SUCCESS;
    }
    runner::run(&context, &chosen, arguments.patience)
}

fn all() -> impl Iterator<Item = (String, &'static Case)> {
    GROUPS.iter().flat_map(|&(group, cases)| {
        cases
            .iter()
            .map(move |case| (format!("{group}/{}", case.name), case))
    })
}

fn selects(word: &str, name: &str) -> bool {
    let (group, bare) = name.split_once('/').unwrap_or((name, name));
    word == name || word == group || word == bare
}

fn unknown(word: &str) -> ExitCode {
    eprintln!("gputest: No case or group is called {word}; see --list");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bare_names_are_unique_and_differ_from_groups() {
        let mut seen: HashSet<String> = GROUPS
            .iter()
            .map(|(group, _)| (*group).to_string())
            .collect();
        for (_, case) in all() {
            assert!(
                seen.insert(case.name.to_string()),
                "{} appears twice",
                case.name
            );
        }
    }

    #[test]
    fn case_is_selected_by_group_full_name_and_bare_name() {
        for word in ["copy", "copy/pitch", "pitch"] {
            assert!(selects(word, "copy/pitch"), "{word}");
        }
        assert!(!selects("cop", "copy/pitch"));
    }

    #[test]
    fn command_line_definition_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
