//! Runs cases in processes of their own and reports.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::case::{Case, Context, Skip};

/// How long a killed process may take to go: it can be inside the kernel.
const GRACE: Duration = Duration::from_secs(2);

/// Outcome of a case. A case's process writes it as its last line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Verdict {
    fn line(&self) -> String {
        match self {
            Verdict::Passed => "ok".into(),
            Verdict::Failed(why) => format!("FAIL: {why}"),
            Verdict::Skipped(why) => format!("skip: {why}"),
        }
    }

    fn parse(line: &str) -> Option<Verdict> {
        match line.split_once(": ") {
            Some(("FAIL", why)) => Some(Verdict::Failed(why.into())),
            Some(("skip", why)) => Some(Verdict::Skipped(why.into())),
            _ => (line == "ok").then_some(Verdict::Passed),
        }
    }

    fn report(&self, name: &str) -> String {
        match self {
            Verdict::Passed => format!("ok {name}"),
            Verdict::Failed(why) => format!("FAIL {name}: {why}"),
            Verdict::Skipped(why) => format!("skip {name}: {why}"),
        }
    }
}

/// Runs `case` in this process and writes its verdict.
pub fn run_here(context: &Context, case: &Case) -> ExitCode {
    let verdict = match (case.run)(context) {
        Ok(()) => Verdict::Passed,
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(Skip(why)) => Verdict::Skipped(why.clone()),
            None => Verdict::Failed(one_line(&format!("{error:#}"))),
        },
    };
    println!("{}", verdict.line());
    ExitCode::SUCCESS
}

/// Runs the chosen cases one after the other, each for `patience` times its time at most, and reports
/// each, then the sums.
pub fn run(context: &Context, chosen: &[(String, &Case)], patience: u32) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, case) in chosen {
        let limit = Duration::from_secs(case.seconds).saturating_mul(patience);
        let verdict = run_apart(context, name, limit);
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(_) => failed += 1,
            Verdict::Skipped(_) => skipped += 1,
        }
        println!("{}", verdict.report(name));
    }
    println!("gputest: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// This program, to be started again.
pub fn itself(context: &Context) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| {
        std::env::args_os()
            .next()
            .map(PathBuf::from)
            .unwrap_or_default()
    });
    let mut command = Command::new(program);
    if let Some(device) = &context.device {
        command.arg("--device").arg(device);
    }
    if context.large {
        command.arg("--large");
    }
    command.arg("--channels").arg(context.channels.to_string());
    command
}

fn run_apart(context: &Context, name: &str, limit: Duration) -> Verdict {
    let started = itself(context)
        .args(["--run", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    match started {
        Ok(child) => follow(child, limit),
        Err(error) => Verdict::Failed(format!("Cannot start a process: {error}")),
    }
}

/// Shows a child's progress and waits for its verdict.
fn follow(mut child: Child, limit: Duration) -> Verdict {
    let Some(output) = child.stdout.take() else {
        return Verdict::Failed("The process has no output".into());
    };
    let (sender, lines) = mpsc::channel();
    // The thread ends with the child, or is left behind with a child that cannot be killed.
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + limit;
    let mut verdict = None;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.starts_with('#') => println!("{line}"),
            Ok(line) => verdict = Verdict::parse(&line).or(verdict),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let gone = end(&mut child, GRACE);
                let state = if gone {
                    ""
                } else {
                    ", and its process cannot be killed"
                };
                return verdict.unwrap_or_else(|| {
                    Verdict::Failed(format!("No result after {} s{state}", limit.as_secs()))
                });
            }
        }
    }
    match (child.wait(), verdict) {
        (Ok(_), Some(verdict)) => verdict,
        (Ok(status), None) => Verdict::Failed(format!("The process ended with {status}")),
        (Err(error), _) => Verdict::Failed(format!("The process is lost: {error}")),
    }
}

/// Kills a child; false if it does not go within `grace`.
pub fn end(child: &mut Child, grace: Duration) -> bool {
    let _ = child.kill();
    let deadline = Instant::now() + grace;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn verdicts_survive_the_pipe() {
        for verdict in [
            Verdict::Passed,
            Verdict::Failed("Byte 0x4: wrong".into()),
            Verdict::Skipped("no BAR: none".into()),
        ] {
            assert_eq!(Verdict::parse(&verdict.line()), Some(verdict));
        }
    }

    #[test]
    fn last_verdict_of_a_process_counts() {
        let verdict = follow(
            shell("echo '# 1 of 2'; echo noise; echo 'skip: dry'"),
            GRACE,
        );
        assert_eq!(verdict, Verdict::Skipped("dry".into()));
    }

    #[test]
    fn process_without_verdict_has_failed() {
        let verdict = follow(shell("exit 3"), GRACE);
        assert_eq!(
            verdict,
            Verdict::Failed("The process ended with exit status: 3".into())
        );
    }

    #[test]
    fn process_that_hangs_is_killed_and_has_failed() {
        let verdict = follow(shell("exec sleep 60"), Duration::from_millis(50));
        assert_eq!(verdict, Verdict::Failed("No result after 0 s".into()));
    }
}
