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

/// One line of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// The `gpuvm` program, for this host.
///
/// # Errors
///
/// When it does not build.
pub fn gpuvm() -> Result<PathBuf> {
    if let Some(path) = env::var_os(GPUVM) {
        return Ok(path.into());
    }
    let programs = programs(cargo_build().args(["--package", "vmm"]))?;
    programs
        .into_iter()
        .find(|p| p.ends_with("gpuvm"))
        .context("The build made no gpuvm")
}

/// The `gpuvm` program as a static one, for machines with nothing but a kernel.
///
/// # Errors
///
/// When it does not build.
pub fn static_gpuvm() -> Result<PathBuf> {
    let programs = static_programs("vmm")?;
    programs
        .into_iter()
        .find(|p| p.ends_with("gpuvm"))
        .context("The build made no gpuvm")
}

/// The programs for guests, which are static too.
///
/// # Errors
///
/// When they do not build.
pub fn guest_tools() -> Result<Vec<PathBuf>> {
    static_programs("guest")
}

fn static_programs(package: &str) -> Result<Vec<PathBuf>> {
    // With an explicit target the flags stay off build scripts and procedural macros.
    programs(
        cargo_build()
            .args([
                "--package",
                package,
                "--target",
                "x86_64-unknown-linux-gnu",
                "--target-dir",
            ])
            .arg(workspace::target().join("guest"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )
}

/// The cargo that runs this.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn cargo_build() -> Command {
    let mut command = Command::new(cargo());
    command.args([
        "build",
        "--release",
        "--quiet",
        "--message-format=json-render-diagnostics",
    ]);
    command
}

/// Runs a build; the programs it made.
fn programs(build: &mut Command) -> Result<Vec<PathBuf>> {
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
