//! Two guests under a scheduler, and an operator who changes what each of them gets.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::two_vms::directory;
use super::{Context, quiet};
use crate::process::run_tool;
use crate::{Card, Machine, Running, Step, session::POLL};

/// Memory of each virtual GPU.
const VRAM_MIB: u32 = 256;
/// A machine's time limit in seconds.
const SECONDS: u64 = 900;
/// How the card is shared. In slow motion it is what guests wait for, however slow they are; time
/// slices take channels off in the middle of a submission.
const POLICY: &[&str] = &["--sched", "drr", "--timeslice", "5", "--weight", "200,100"];
const SLOW_MOTION: &str = "10000";
/// Unlike work: kernels of 10 ms, and of 20. What they compute is checked at the end, which comes
/// when the harness sends a byte.
const TURNS: [u32; 2] = [56, 112];
/// Counter of the time that a machine had of the card.
const BUSY: &str = "gpu_sched_busy_ns_total";
/// How long shares are watched before they are judged, and how long they may take to be right.
const WINDOW: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);

/// What an operator does, and what comes of it.
struct Change {
    what: &'static str,
    /// Machines, and what is set for them.
    settings: &'static [(u16, &'static str, &'static str)],
    /// The first machine's share of the time that engines work.
    share: RangeInclusive<f64>,
}

const CHANGES: &[Change] = &[
    Change {
        what: "weight 2:1 by option",
        settings: &[],
        share: 0.60..=0.73,
    },
    Change {
        what: "weight 1:3",
        settings: &[(1, "weight", "600")],
        share: 0.20..=0.31,
    },
    Change {
        what: "weight 1:1",
        settings: &[(1, "weight", "200")],
        share: 0.45..=0.55,
    },
    Change {
        what: "cap of 20 %",
        settings: &[(0, "cap", "20")],
        share: 0.15..=0.25,
    },
    Change {
        what: "priority of the second",
        settings: &[(0, "cap", "100"), (1, "priority", "3")],
        share: 0.0..=0.1,
    },
    Change {
        what: "priority of the first",
        settings: &[(0, "priority", "7")],
        share: 0.9..=1.0,
    },
    Change {
        what: "all alike",
        settings: &[(0, "priority", "0"), (1, "priority", "0")],
        share: 0.45..=0.55,
    },
];

/// Two guests that work until they are told to end, on a card with a control socket.
pub struct Pair<'a> {
    card: Card,
    socket: PathBuf,
    gpuvm: &'a Path,
    guests: Vec<Running<'a>>,
}

impl<'a> Pair<'a> {
    /// A card for two, and the machines.
    ///
    /// # Errors
    ///
    /// The card does not start.
    pub fn machines(context: &Context<'_>) -> Result<(Card, Vec<Machine>)> {
        let own = [
            "--stats",
            "--hang-ms",
            "20000",
            "--slow-motion",
            SLOW_MOTION,
        ];
        let card = context.card(VRAM_MIB, 2, &[&own, POLICY].concat())?;
        let machine = |(number, turns)| {
            let load = format!(
                "(head -c1 /dev/ttyS2 >/dev/null; touch /tmp/stop) &\n\
                 gpubench load --kernel {turns} --seconds {SECONDS} --until /tmp/stop"
            );
            context.machine(&card, number, vec![Step::new("load", load)], SECONDS)
        };
        let machines = (0..).zip(TURNS).map(machine).collect::<Result<_>>()?;
        Ok((card, machines))
    }

    /// Starts the machines, and waits until both work.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn start(context: &'a Context<'_>, card: Card, machines: &'a [Machine]) -> Result<Self> {
        let start = |(n, machine): (usize, &'a Machine)| {
            machine.start(context.testbed, &directory(context, &format!("guest{n}"))?)
        };
        let socket = card.control().context("The card is not shared")?;
        let mut pair = Self {
            card,
            socket,
            gpuvm: &context.gpuvm,
            guests: machines
                .iter()
                .enumerate()
                .map(start)
                .collect::<Result<_>>()?,
        };
        let begins = |guest: &Running<'_>| guest.output("load").is_some();
        while !pair.guests.iter().all(begins) {
            pair.wait(context, POLL)?;
        }
        Ok(pair)
    }

    /// Where the card listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Lets so much time pass.
    ///
    /// # Errors
    ///
    /// A guest ends.
    pub fn wait(&mut self, context: &Context<'_>, time: Duration) -> Result<()> {
        let begin = Instant::now();
        loop {
            for (n, guest) in self.guests.iter_mut().enumerate() {
                if let Some(outcome) = guest.poll(context.session)? {
                    outcome.step("load").with_context(|| format!("Guest {n}"))?;
                    bail!("Guest {n} ended before it was told to");
                }
            }
            if begin.elapsed() >= time {
                return Ok(());
            }
            thread::sleep(POLL);
        }
    }

    fn control(&self, number: u16, action: &[&str]) -> Result<String> {
        let mut command = Command::new(self.gpuvm);
        command.arg("ctl").arg(&self.socket);
        run_tool(
            command
                .args(["--vm", &format!("vgpu{number}")])
                .args(action),
        )
    }

    /// Nanoseconds that a machine had of the card.
    fn busy(&self, number: u16) -> Result<u64> {
        let text = self.control(number, &["counters"])?;
        let reply: BTreeMap<String, BTreeMap<String, u64>> =
            serde_json::from_str(&text).with_context(|| format!("What does this mean? {text}"))?;
        let counters = reply.values().flatten();
        let busy = counters.filter(|(name, _)| name.starts_with(BUSY));
        Ok(busy.map(|(_, value)| value).sum())
    }

    /// The first machine's part of the time that engines work from now on for a while.
    fn share(&mut self, context: &Context<'_>) -> Result<f64> {
        let both = |pair: &Self| Ok::<_, anyhow::Error>([pair.busy(0)?, pair.busy(1)?]);
        let before = both(self)?;
        self.wait(context, WINDOW)?;
        let after = both(self)?;
        let [first, second] = [0, 1].map(|n| (after[n] - before[n]) as f64);
        Ok(first / (first + second).max(1.0))
    }

    /// Tells both to end, which they have to do well.
    ///
    /// # Errors
    ///
    /// One does not, or computed something wrong.
    pub fn end(self, context: &Context<'_>) -> Result<()> {
        for guest in &self.guests {
            guest.signal()?;
        }
        for (n, mut guest) in self.guests.into_iter().enumerate() {
            let outcome = loop {
                if let Some(outcome) = guest.poll(context.session)? {
                    break outcome;
                }
                thread::sleep(POLL);
            };
            let guest = || format!("Guest {n}");
            outcome.step("load").with_context(guest)?;
            quiet(&outcome).with_context(guest)?;
        }
        context.stop(self.card)
    }
}

/// Shares of the card follow what the operator says, and nobody loses anything.
pub fn run(context: &Context<'_>) -> Result<String> {
    let (card, machines) = Pair::machines(context)?;
    let mut pair = Pair::start(context, card, &machines)?;
    let mut seen = Vec::new();
    for Change {
        what,
        settings,
        share: expected,
    } in CHANGES
    {
        for (number, switch, value) in *settings {
            pair.control(*number, &["set", switch, value])?;
        }
        let begin = Instant::now();
        let share = loop {
            let share = pair.share(context)?;
            if expected.contains(&share) {
                break share;
            }
            ensure!(
                begin.elapsed() < PATIENCE,
                "With {what} the first guest has {:.1} % of the card",
                100.0 * share
            );
        };
        seen.push(format!("{what}: {:.0} %", 100.0 * share));
    }
    for (switch, value) in [("weight", "0"), ("cap", "101"), ("priority", "high")] {
        let refused = pair.control(0, &["set", switch, value]).is_err();
        ensure!(refused, "A {switch} of {value} was accepted");
    }
    pair.end(context)?;
    Ok(seen.join(", "))
}
