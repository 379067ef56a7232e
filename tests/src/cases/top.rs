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
/// Heads of the table of machines and of that of channels.
const HEADS: [&str; 3] = ["exits/s", "share", "doorbells/s"];
const MACHINES: [&str; 2] = ["vgpu0", "vgpu1"];
const ROWS: usize = 40;
const COLUMNS: usize = 120;

/// What a terminal shows that got `text`, as far as `gpuvm top` uses one: text goes to where the
/// cursor was put last.
fn screen(text: &str) -> Vec<String> {
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut text = text.chars();
    while let Some(next) = text.next() {
        if next != '\x1b' {
            if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = next;
            }
            column += 1;
            continue;
        }
        let mut sequence = String::new();
        for next in text.by_ref().skip(1) {
            sequence.push(next);
            if next.is_ascii_alphabetic() {
                break;
            }
        }
        if let Some(place) = sequence.strip_suffix('H') {
            let mut place = place.split(';').map(|n| n.parse().unwrap_or(1));
            let mut next = || place.next().unwrap_or(1_usize).saturating_sub(1);
            (row, column) = (next(), next());
        }
    }
    cells.into_iter().map(String::from_iter).collect()
}

/// It shows rates of both machines and their channels, ends when it is asked to, and leaves the
/// terminal as it was.
pub fn run(context: &Context<'_>) -> Result<String> {
    let (card, machines) = Pair::machines(context)?;
    let mut pair = Pair::start(context, card, &machines)?;
    let (typescript, script) = ["typescript", "session"]
        .map(|name| context.artefacts.join(name))
        .into();
    let directory = context.artefacts.display();
    fs::write(
        &script,
        format!(
            "#!/bin/sh\ncd '{directory}' && stty rows {ROWS} cols {COLUMNS} && stty -g >before || exit 1\n\
             '{}' top --interval 500 '{}'\nstatus=$?\nstty -g >after\nexit $status\n",
            context.gpuvm.display(),
            pair.socket().display(),
        ),
    )?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command"])
        .arg(&script)
        .arg(&typescript)
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
    let shown = String::from_utf8_lossy(&fs::read(&typescript)?).into_owned();
    let (before, _) = shown
        .rsplit_once(OWN_SCREEN)
        .context("The terminal is left on the other screen")?;
    let (_, other) = before
        .split_once(OTHER_SCREEN)
        .context("The user's screen was written over")?;
    let lines = screen(other);
    for head in HEADS {
        let there = lines.iter().any(|line| line.contains(head));
        ensure!(there, "gpuvm top does not show {head:?}");
    }
    for machine in MACHINES {
        let rates = |line: &&String| line.contains(machine) && line.contains('%');
        let rows = lines.iter().filter(rates).count();
        ensure!(
            rows >= 2,
            "{machine} is on the screen {rows} times, not with a channel"
        );
    }
    ensure!(shown.contains(SHOW_CURSOR), "The cursor is gone");
    let read = |name| fs::read_to_string(context.artefacts.join(name));
    ensure!(
        read("before")? == read("after")?,
        "The terminal's settings are not what they were"
    );
    pair.end(context)?;
    let rows = lines.iter().filter(|line| line.contains('%')).count();
    Ok(format!("{rows} rows of rates"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_where_the_cursor_was_put() {
        let lines = screen("\x1b[2;3Habc\x1b[1mde\x1b[?25l\x1b[2;4HX\x1b[40;120Hz!");
        assert_eq!(lines[1].trim_end(), "  aXcde");
        assert!(lines[39].ends_with(" z"));
    }
}
