//! Two guests on one card.

use std::{fs, path::PathBuf, thread};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, gputest, quiet, reload};
use crate::{Card, Machine, Running, Step, session::POLL};

/// Memory of each virtual GPU.
const VRAM_MIB: u32 = 256;
/// A machine's time limit in seconds: it waits for the other one.
const SECONDS: u64 = 900;
/// How long a guest's kernel may take to handle an interrupt before its channel is killed. Two
/// machines under emulation on a few processors are slow.
const HANG_MS: &str = "20000";

/// Works and checks what comes out, again and again, until the harness sends a byte.
pub const WORK: &str = "
(head -c1 /dev/ttyS2 >/dev/null; touch /tmp/stop) &
pass=0
while [ ! -e /tmp/stop ]; do
    gputest copy/within-vram copy/overlapping-channels sync/ping-pong >/tmp/pass || {
        cat /tmp/pass
        exit 1
    }
    pass=$((pass + 1))
    echo pass $pass
done
";

/// A guest that works without pause, and what the harness knows of it.
pub struct Worker<'a> {
    running: Running<'a>,
    seen: usize,
}

impl<'a> Worker<'a> {
    /// Starts the machine, which has a step `work` that does [`WORK`].
    ///
    /// # Errors
    ///
    /// Those of [`Machine::start`].
    pub fn start(context: &Context<'_>, machine: &'a Machine) -> Result<Self> {
        let artefacts = directory(context, "worker")?;
        Ok(Self {
            running: machine.start(context.testbed, &artefacts)?,
            seen: 0,
        })
    }

    /// How many passes are done.
    fn passes(&self) -> usize {
        let output = self.running.output("work").unwrap_or_default();
        output
            .lines()
            .filter(|line| line.starts_with("pass "))
            .count()
    }

    /// Lets time go by; fails if the worker has stopped.
    ///
    /// # Errors
    ///
    /// As said.
    pub fn poll(&mut self, context: &Context<'_>) -> Result<()> {
        if let Some(outcome) = self.running.poll(context.session)? {
            gputest::verdict(&outcome, "work").context("The worker lost something")?;
            bail!("The worker stopped");
        }
        Ok(())
    }

    /// Waits until two more passes are done: the first of them may have begun before.
    ///
    /// # Errors
    ///
    /// The worker stops.
    pub fn goes_on(&mut self, context: &Context<'_>) -> Result<()> {
        self.seen = self.passes();
        while self.passes() < self.seen + 2 {
            self.poll(context)?;
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Lets the worker come to its end, which has to be a good one; how many passes it made.
    ///
    /// # Errors
    ///
    /// It was not.
    pub fn finish(mut self, context: &Context<'_>) -> Result<usize> {
        self.running.signal()?;
        let outcome = loop {
            if let Some(outcome) = self.running.poll(context.session)? {
                break outcome;
            }
            thread::sleep(POLL);
        };
        outcome.step("work").context("The worker lost something")?;
        quiet(&outcome).context("The worker noticed the other guest")?;
        Ok(self.passes())
    }
}

/// A place for a machine's logs.
///
/// # Errors
///
/// It cannot be made.
pub fn directory(context: &Context<'_>, name: &str) -> Result<PathBuf> {
    let path = context.artefacts.join(name);
    fs::create_dir_all(&path).with_context(|| format!("Cannot make {}", path.display()))?;
    Ok(path)
}

/// The card for both, of which the second one is shown less.
///
/// # Errors
///
/// Those of [`Card::start`].
pub fn card(context: &Context<'_>) -> Result<Card> {
    let bars = ["--bar1", "128M,32M", "--bar3", "64M,8M"];
    let options = ["--stats", "--hang-ms", HANG_MS];
    context.card(VRAM_MIB, 2, &[&options[..], &bars].concat())
}

/// While one guest works, another one boots, uses the card, unloads its driver and loads it with large
/// pages of another size, causes faults, and loses its power in the middle of copies; a third one
/// takes its place.
pub fn run(context: &Context<'_>) -> Result<String> {
    let card = card(context)?;
    let worker = context.machine(&card, 0, vec![Step::new("work", WORK)], SECONDS)?;
    let mut worker = Worker::start(context, &worker)?;
    worker.goes_on(context)?;

    let steps = vec![
        Step::new(
            "reload",
            format!(
                "gputest copy/kernel-moves copy/within-vram && modprobe -r nouveau && {} && \
                 gputest params/large-pages",
                reload::LOAD_64K
            ),
        ),
        Step::new(
            "faults",
            "gputest faults/no-page faults/illegal-class faults/ce-method faults/host-method",
        ),
        Step::new("endless", "while gputest copy/large; do :; done"),
    ];
    let other = context.machine(&card, 1, steps, SECONDS)?;
    let artefacts = directory(context, "other")?;
    let mut running = other.start(context.testbed, &artefacts)?;
    while !running
        .output("endless")
        .is_some_and(|text| text.contains("large 1/"))
    {
        worker.poll(context)?;
        let ended = running.poll(context.session)?;
        ensure!(ended.is_none(), "The other guest went by itself");
        thread::sleep(POLL);
    }
    for name in ["reload", "faults"] {
        let output = running.output(name).unwrap_or_default();
        let bad = output.lines().find(|line| line.starts_with("FAIL "));
        ensure!(
            bad.is_none(),
            "The other guest: {}",
            bad.unwrap_or_default()
        );
        ensure!(
            output.contains("ok "),
            "The other guest did nothing in {name}"
        );
    }
    drop(running);
    worker
        .goes_on(context)
        .context("After the other guest's end")?;

    let steps = vec![Step::new(
        "gputest",
        "gputest copy/within-vram sync/ping-pong",
    )];
    let third = context.machine(&card, 1, steps, SECONDS)?;
    let artefacts = directory(context, "third")?;
    let mut running = third.start(context.testbed, &artefacts)?;
    let outcome = loop {
        worker.poll(context)?;
        if let Some(outcome) = running.poll(context.session)? {
            break outcome;
        }
        thread::sleep(POLL);
    };
    gputest::verdict(&outcome, "gputest").context("In the place of the killed guest")?;
    quiet(&outcome)?;
    let passes = worker.finish(context)?;
    context.stop(card)?;
    Ok(format!("{passes} passes beside three guests"))
}
