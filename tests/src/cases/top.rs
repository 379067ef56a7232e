//! `gpuvm top` at a terminal, while guests work.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::Context;
use super::sched::Pair;
use crate::session::POLL;

/// How long it is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long it may take to end.
const GRACE: Duration = Duration::from_secs(30);
/// A terminal switches to another screen, and back.
const OTHER_SCREEN: &str = "\x1b[?1049h";
const OWN_SCREEN: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Heads of the table of machines and of that of channels. A machine is in both, if it works.
const HEADS: [&str; 3] = ["exits/s", "share", "doorbells/s"];
const MACHINES: [&str; 2] = ["vgpu0", "vgpu1"];

/// It shows rates of both machines and their channels, ends when it is asked to, and leaves the
/// terminal as it was.
pub fn run(context: &Context<'_>) -> Result<String> {
    let (card, machines) = Pair::machines(context)?;
    let mut pair = Pair::start(context, card, &machines)?;
    let (screen, script) = ["screen", "session"]
        .map(|name| context.artefacts.join(name))
        .into();
    let directory = context.artefacts.display();
    fs::write(
        &script,
        format!(
            "#!/bin/sh\ncd '{directory}' && stty rows 40 cols 120 && stty -g >before || exit 1\n\
             '{}' top --interval 500 '{}'\nstatus=$?\nstty -g >after\nexit $status\n",
            context.gpuvm.display(),
            pair.socket().display(),
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command"])
        .arg(&script)
        .arg(&screen)
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("Cannot start script, which util-linux has")?;
    pair.wait(context, LOOK)?;
    let mut keyboard = terminal.stdin.take().context("No keyboard")?;
    keyboard.write_all(b"q")?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = terminal.try_wait()? {
            break status;
        }
        if begin.elapsed() > GRACE {
            terminal.kill()?;
            bail!("gpuvm top does not end");
        }
        pair.wait(context, POLL)?;
    };
    ensure!(status.success(), "gpuvm top ended with {status}");
    let shown = String::from_utf8_lossy(&fs::read(&screen)?).into_owned();
    for head in HEADS {
        ensure!(shown.contains(head), "gpuvm top does not show {head:?}");
    }
    for machine in MACHINES {
        let rows = shown.matches(machine).count();
        ensure!(rows >= 2, "{machine} is {rows} times on the screen");
    }
    let order = [OTHER_SCREEN, MACHINES[1], OWN_SCREEN].map(|part| shown.rfind(part));
    ensure!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "The terminal is left on the other screen"
    );
    ensure!(shown.contains(SHOW_CURSOR), "The cursor is gone");
    let read = |name| fs::read_to_string(context.artefacts.join(name));
    ensure!(
        read("before")? == read("after")?,
        "The terminal's settings are not what they were"
    );
    pair.end(context)?;
    let screens = shown.matches("\x1b[").count();
    Ok(format!("{screens} sequences of a terminal"))
}
