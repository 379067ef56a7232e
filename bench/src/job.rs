//! What one run is.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The one of `all` that is called `name`.
///
/// # Errors
///
/// None is: which there are.
fn named<T: Copy>(kind: &str, all: &[T], name_of: fn(T) -> &'static str, name: &str) -> Result<T> {
    let known = all.iter().find(|one| name_of(**one) == name).copied();
    known.with_context(|| {
        let names: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        format!("There is no {kind} {name:?}, only {}", names.join(", "))
    })
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Latencies of small operations, and copies of some sizes.
    Micro,
    /// Bandwidths of copies up to the largest.
    Copy,
    /// OpenCL workloads, by phase.
    Rodinia,
    /// The time until nouveau has probed the card.
    Boot,
    /// Several contexts of one guest at the same time.
    Contexts,
    /// Several guests at the same time.
    Sharing,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Micro,
        Self::Copy,
        Self::Rodinia,
        Self::Boot,
        Self::Contexts,
        Self::Sharing,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Copy => "copy",
            Self::Rodinia => "rodinia",
            Self::Boot => "boot",
            Self::Contexts => "contexts",
            Self::Sharing => "sharing",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Suite {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        named("suite", &Self::ALL, Self::name, name)
    }
}

/// What guests do that share a card.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Kernels of which each guest's take twice as long as those of the one before; four lengths.
    #[default]
    Unlike,
    /// The same kernels.
    Equal,
    /// Short kernels and long ones, by turns of guests.
    ShortLong,
    /// 1024 short kernels, then a sleep as long as chance has it.
    Bursty,
}

/// What one guest of a load does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    /// How often their threads go around a loop.
    pub turns: u32,
    /// Kernels of a submission.
    pub batch: u32,
    /// Submissions between two sleeps; 0 never sleeps.
    pub burst: u32,
}

const fn kernels(turns: u32) -> Kernels {
    Kernels {
        turns,
        batch: 1,
        burst: 0,
    }
}

impl Load {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unlike, Self::Equal, Self::ShortLong, Self::Bursty];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unlike => "unlike",
            Self::Equal => "equal",
            Self::ShortLong => "short-long",
            Self::Bursty => "bursty",
        }
    }

    /// What guests do: guest `n` the `n`th, and around again.
    pub const fn kernels(self) -> &'static [Kernels] {
        const SHORT: Kernels = Kernels {
            turns: 4,
            batch: 4,
            burst: 0,
        };
        const BURST: Kernels = Kernels {
            turns: 2,
            batch: 16,
            burst: 64,
        };
        match self {
            Self::Unlike => &const { [kernels(14), kernels(28), kernels(56), kernels(112)] },
            Self::Equal => &const { [kernels(28)] },
            Self::ShortLong => &const { [SHORT, kernels(112)] },
            Self::Bursty => &[BURST],
        }
    }

    /// Whether a guest always has something for the card.
    pub const fn keeps_busy(self) -> bool {
        !matches!(self, Self::Bursty)
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Load {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        named("load", &Self::ALL, Self::name, name)
    }
}

/// How much there is to do.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// What shows that it works, and ratios that are not lost in noise.
    #[default]
    Small,
    /// What figures to cite are from.
    Medium,
    /// What takes hours where guests are interpreted.
    Large,
}

impl Size {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Size {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        named("size", &Self::ALL, Self::name, name)
    }
}

/// How a guest gets the card.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Mode {
    /// All of it.
    Passthrough,
    /// A virtual GPU, with these optimisations as `--opt` takes them and, behind an `@`, what
    /// `--track` takes.
    Fv(String),
}

impl Mode {
    /// Of a virtual GPU, what `--opt` and `--track` take.
    pub fn options(&self) -> Option<(&str, &str)> {
        match self {
            Self::Passthrough => None,
            Self::Fv(opt) => Some(opt.split_once('@').unwrap_or((opt, "auto"))),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passthrough => f.pad("passthrough"),
            Self::Fv(opt) => f.pad(&format!("fv:{}", opt.replace(',', "+"))),
        }
    }
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "passthrough" => Ok(Self::Passthrough),
            // A comma separates modes, so switches of one are joined by a plus.
            Some(("fv", opt)) if !opt.is_empty() => Ok(Self::Fv(opt.replace('+', ","))),
            _ => bail!("There is no mode {text:?}, only passthrough and fv:SWITCHES"),
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl TryFrom<String> for Mode {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// How guests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// `gpuvm run` on this host's KVM.
    Kvm,
    /// `gpuvm run` in a machine that QEMU interprets and that has KVM.
    Nested,
    /// QEMU interprets the guest; the card is another process, over vfio-user.
    VfioUser,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Nested => "nested",
            Self::VfioUser => "vfio-user",
        })
    }
}

impl FromStr for Way {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "kvm" => Self::Kvm,
            "nested" => Self::Nested,
            "vfio-user" => Self::VfioUser,
            _ => bail!("There is no way {name:?}, only kvm, nested and vfio-user"),
        })
    }
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Job {
    /// What is measured.
    pub suite: Suite,
    /// How the guests get the card.
    pub mode: Mode,
    /// How they are run.
    pub way: Way,
    /// How many there are.
    pub guests: u16,
    /// Who may use the card when.
    pub sched: String,
    /// How much there is to do.
    pub size: Size,
    /// What they do, for [`Suite::Sharing`].
    #[serde(default)]
    pub load: Load,
    /// How many times longer than a Quadro 6000's engines those of the card take, for
    /// [`Suite::Sharing`]; 0: as long as the host takes.
    #[serde(default)]
    pub slow_motion: u32,
    /// Whether accesses of the card cost what they cost over PCIe.
    #[serde(default)]
    pub pcie: bool,
    /// Names of OpenCL workloads, for [`Suite::Rodinia`]; none: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<String>,
    /// Which repetition it is.
    pub repetition: u32,
}

impl Job {
    /// What tells it from all others of a directory.
    pub fn key(&self) -> String {
        let Self {
            suite,
            mode,
            way,
            guests,
            sched,
            size,
            load,
            slow_motion,
            pcie,
            workloads,
            repetition,
        } = self;
        let mut key = format!("{suite} {mode} {way} {guests} {sched} {size} {repetition}");
        if *suite == Suite::Sharing {
            key = format!("{key} {load}");
        }
        if *slow_motion > 0 {
            key = format!("{key} slow-motion {slow_motion}");
        }
        if *pcie {
            key += " pcie";
        }
        for workload in workloads {
            key = format!("{key} {workload}");
        }
        key
    }
}

impl Job {
    /// What it has in common with those that it is compared with: they differ in their mode, or,
    /// where guests share a card, in how many there are and who decides.
    pub fn group(&self) -> String {
        let same = match self.suite {
            Suite::Sharing => Self {
                guests: 1,
                sched: String::new(),
                ..self.clone()
            },
            _ => Self {
                mode: Mode::Passthrough,
                ..self.clone()
            },
        };
        same.key()
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.suite, self.mode)?;
        match (self.suite, self.guests) {
            (Suite::Sharing, 1) => write!(f, "1 guest {} ", self.load)?,
            (Suite::Sharing, n) => write!(f, "{n} guests {} {} ", self.load, self.sched)?,
            _ => {}
        }
        if self.pcie {
            write!(f, "pcie ")?;
        }
        write!(f, "#{}", self.repetition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_is_what_it_was_parsed_from() {
        for text in ["passthrough", "fv:none", "fv:bulk+incremental"] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
        }
        assert!("fv".parse::<Mode>().is_err());
        let Mode::Fv(opt) = "fv:bulk+incremental".parse().unwrap() else {
            panic!("not virtual");
        };
        assert_eq!(opt, "bulk,incremental");
    }

    #[test]
    fn loads_and_suites_are_known_by_their_names() {
        for load in Load::ALL {
            assert_eq!(load.to_string().parse::<Load>().unwrap(), load);
        }
        for suite in Suite::ALL {
            assert_eq!(suite.to_string().parse::<Suite>().unwrap(), suite);
        }
        for size in Size::ALL {
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        let unknown = "x".parse::<Load>().unwrap_err().to_string();
        assert_eq!(
            unknown,
            r#"There is no load "x", only unlike, equal, short-long, bursty"#
        );
    }
}
