//! The kernel's log, and what in it is a complaint.

use std::fmt;

/// How bad a line is, by its level in the kernel's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Levels 0 to 3.
    Error,
    /// Level 4.
    Warning,
    /// The rest.
    Info,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its severity.
    pub severity: Severity,
    /// Seconds since boot.
    pub time: f64,
    /// The text.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:.6}] {}", self.time, self.text)
    }
}

/// A guest's log, from `dmesg -r`.
#[derive(Clone, Debug, Default)]
pub struct Dmesg {
    /// The lines in order.
    pub lines: Vec<Line>,
}

/// What a driver says at warning level or worse about a board that is as it should be; nothing
/// else is excused. (That optional VBIOS tables are absent is said below that level.)
const EXCUSED: &[&str] = &[
    // 6.12 asks for a privileged channel for its own copies, which it cannot make on any GF100
    // (K612 `nouveau_drm.c nouveau_accel_ce_init`, `nvkm/engine/fifo/gf100.c gf100_chan_ramfc`). It
    // then copies with M2MF.
    "drm: failed to create ce channel, -22",
    // 6.12 sets a console up on every board; without outputs there is no plane to put it on.
    "[drm] No compatible format found",
];

/// Functions of drivers whose warnings with a trace are expected where faults are.
const EXCUSED_TRACES: &[&str] = &[
    // 6.1 looks for an engine to reset when PFIFO itself faults, and warns that there is none
    // (`nvkm/engine/fifo/gf100.c gf100_fifo_engine_id`).
    "gf100_fifo_recover",
];

impl Dmesg {
    /// Parses `dmesg -r`: `<level>[time] text`.
    pub fn parse(raw: &str) -> Self {
        Self {
            lines: raw.lines().filter_map(parse_line).collect(),
        }
    }

    /// Lines of warning level or worse that concern the card, apart from excused ones; and every
    /// sign, from anywhere, that the kernel itself is in trouble.
    pub fn complaints(&self) -> Vec<&Line> {
        self.lines
            .iter()
            .filter(|line| {
                let ours = line.text.contains("nouveau") || line.text.contains("[drm");
                let bad = ours && line.severity != Severity::Info;
                (bad && !EXCUSED.iter().any(|part| line.text.contains(part))) || is_trouble(line)
            })
            .collect()
    }

    /// The first sign that the kernel itself is in trouble. The trace that nouveau prints when it
    /// is asked to recover an engine which it cannot is not one.
    pub fn trouble(&self) -> Option<&Line> {
        let mut excused = false;
        self.lines.iter().find(|line| {
            let text = &line.text;
            if text.contains("WARNING: ") {
                excused = EXCUSED_TRACES.iter().any(|part| text.contains(part));
            }
            let trouble = is_trouble(line) && !excused;
            excused &= !text.contains("end trace");
            trouble
        })
    }

    /// The first line at or after `from` that contains `part`, with its index.
    pub fn find(&self, from: usize, part: &str) -> Option<(usize, &Line)> {
        self.lines
            .iter()
            .enumerate()
            .skip(from)
            .find(|(_, line)| line.text.contains(part))
    }
}

/// The kernel's own words for an oops, a warning with a trace, a lock-up or a hung task.
fn is_trouble(line: &Line) -> bool {
    const SIGNS: &[&str] = &[
        "BUG:",
        "WARNING: ",
        "Oops",
        "Call Trace:",
        "blocked for more than",
        "rcu: INFO:",
    ];
    SIGNS.iter().any(|sign| line.text.contains(sign))
}

fn parse_line(line: &str) -> Option<Line> {
    let (level, rest) = line.strip_prefix('<')?.split_once(">[")?;
    let (time, text) = rest.split_once("] ")?;
    let severity = match level.parse::<u32>().ok()? & 7 {
        0..=3 => Severity::Error,
        4 => Severity::Warning,
        _ => Severity::Info,
    };
    Some(Line {
        severity,
        time: time.trim().parse().ok()?,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_with_a_facility_is_the_same_severity() {
        let dmesg = Dmesg::parse("<3>[    1.5] nouveau: a\n<12>[    2.0] nouveau: b\n");
        let severities: Vec<_> = dmesg.lines.iter().map(|line| line.severity).collect();
        assert_eq!(severities, [Severity::Error, Severity::Warning]);
        assert_eq!(dmesg.lines[1].time, 2.0);
    }

    #[test]
    fn trace_of_a_failed_recovery_is_no_trouble_but_what_follows_is() {
        let trace = "<4>[ 1.0] WARNING: CPU: 1 PID: 9 at gf100_fifo_recover+0x14a/0x160 [nouveau]\n\
                     <4>[ 1.1] Call Trace:\n<4>[ 1.2] ---[ end trace 0000000000000000 ]---\n";
        assert_eq!(Dmesg::parse(trace).trouble(), None);
        let more = format!("{trace}<4>[ 2.0] Call Trace:\n");
        assert_eq!(
            Dmesg::parse(&more).trouble().map(|line| line.time),
            Some(2.0)
        );
        let other = trace.replace("gf100_fifo_recover", "nvkm_subdev_fini");
        assert_eq!(
            Dmesg::parse(&other).trouble().map(|line| line.time),
            Some(1.0)
        );
    }

    #[test]
    fn warning_of_nouveau_and_an_oops_of_anyone_are_complaints() {
        let dmesg = Dmesg::parse(
            "<4>[    1.0] ACPI: something\n<4>[    2.0] nouveau 0000:00:04.0: fifo: fault\n\
             <6>[    3.0] nouveau 0000:00:04.0: fine\n<1>[    4.0] BUG: kernel NULL pointer\n\
             <4>[    5.0] nouveau 0000:00:04.0: [drm] No compatible format found\n",
        );
        let times: Vec<_> = dmesg.complaints().iter().map(|line| line.time).collect();
        assert_eq!(times, [2.0, 4.0]);
    }
}
