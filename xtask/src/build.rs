//! Builds the programs that a run needs.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace;

/// Names a ready `gpuvm` to use instead of building one.
const GPUVM: &str = "GPUVM";

/// The programs. Those of the project's own are static: the same `gpuvm` runs here and in a machine
/// with nothing but a kernel.
pub struct Programs {
    /// The `gpuvm` program.
    pub gpuvm: PathBuf,
    /// The programs of `guest/`.
    pub guest_tools: Vec<PathBuf>,
    /// Programs that need Debian's libraries.
    pub debian_tools: Vec<PathBuf>,
}

/// One line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds the programs.
///
/// # Errors
///
/// When one does not build.
pub fn programs() -> Result<Programs> {
    // With an explicit target the flags stay off build scripts and procedural macros.
    let (gpuvm, guest_tools): (Vec<_>, Vec<_>) = executables(
        release_build()
            .args(["--package", "vmm", "--package", "guest"])
            .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
            .arg(workspace::target().join("guest"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?
    .into_iter()
    .partition(|program| program.ends_with("gpuvm"));
    let gpuvm = match env::var_os(GPUVM) {
        Some(path) => path.into(),
        None => gpuvm
            .into_iter()
            .next()
            .context("The build made no gpuvm")?,
    };
    Ok(Programs {
        gpuvm,
        guest_tools,
        debian_tools: executables(release_build().args([
            "--package",
            "rodinia",
            "--package",
            "corpus",
        ]))?,
    })
}

/// What runs on the card without a machine.
pub struct OnCard {
    /// `gpuvm`, beside its library.
    pub gpuvm: PathBuf,
    /// The workloads.
    pub rodinia: PathBuf,
    /// The kernels that are aimed at one thing each.
    pub corpus: PathBuf,
}

/// Builds what runs on the card without a machine.
///
/// # Errors
///
/// When something does not build.
pub fn on_card() -> Result<OnCard> {
    let packages = ["vmm", "gf100-drm", "rodinia", "corpus"];
    let arguments = packages.iter().flat_map(|package| ["--package", package]);
    let programs = executables(release_build().args(arguments))?;
    let find = |name: &str| {
        let program = programs.iter().find(|program| program.ends_with(name));
        program
            .cloned()
            .with_context(|| format!("The build made no {name}"))
    };
    Ok(OnCard {
        gpuvm: find("gpuvm")?,
        rodinia: find("rodinia")?,
        corpus: find("corpus")?,
    })
}

fn release_build() -> Command {
    let mut command = Command::new(cargo());
    command.args([
        "build",
        "--release",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    command
}

/// Runs a build; the programs that it made.
fn executables(build: &mut Command) -> Result<Vec<PathBuf>> {
    let output = build
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("Cannot start cargo")?;
    if !output.status.success() {
        bail!("The build failed");
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable)
        .collect())
}

/// The cargo that runs this.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}
