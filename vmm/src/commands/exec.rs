//! `gpuvm exec`: a program on the software card, with no virtual machine.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};

use crate::rootfs::Rootfs;
use crate::size::Size;
use crate::soft_card::Sm;

/// The library with the card, beside this program.
const LIBRARY: &str = "libgf100_drm.so";
/// What the library reads.
const VRAM_MIB: &str = "GF100_VRAM_MIB";
const TIMEOUT: &str = "GF100_TIMEOUT";
const TREE: &str = "GF100_TREE";
const ENGINE: &str = "GF100_SM";
/// Variables that a user's own values override.
const DEFAULTS: [(&str, &str); 2] = [
    // OpenCL on nouveau is opt-in.
    ("RUSTICL_ENABLE", "nouveau"),
    // There is no display.
    ("EGL_PLATFORM", "surfaceless"),
];

/// Arguments of `gpuvm exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run the program in this root tree instead of the host's; given more than once, the first is
    /// on top. What it writes there is not kept.
    #[arg(long, value_name = "DIR")]
    root: Vec<PathBuf>,

    /// Show this path of the host in the root tree; the current directory, /dev, /proc, /sys and
    /// /tmp are there anyway.
    #[arg(long, value_name = "PATH", requires = "root")]
    bind: Vec<PathBuf>,

    /// The card's video memory; only what is touched costs memory of the host.
    #[arg(long, value_name = "SIZE", default_value = "1536M")]
    vram: Size,

    /// Seconds that a submission may take before its channel is killed, 0 for any time.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,

    /// What executes the programs of the card's SMs.
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t)]
    sm: Sm,

    /// The library with the card [default: libgf100_drm.so beside this program].
    #[arg(long, value_name = "PATH")]
    library: Option<PathBuf>,

    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// Runs the program; its status.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let library = library(args.library.as_deref())?;
    let tree = tempfile::Builder::new()
        .prefix("gpuvm-exec-")
        .tempdir()
        .context("Cannot make a directory for the render node")?;

    let mut command = Command::new(&args.command[0]);
    command.args(&args.command[1..]);
    let mut preload = library.clone().into_os_string();
    if let Some(others) = env::var_os("LD_PRELOAD") {
        preload.push(":");
        preload.push(others);
    }
    command.env("LD_PRELOAD", preload);
    command.env(VRAM_MIB, (args.vram.bytes() >> 20).to_string());
    command.env(TIMEOUT, args.timeout.to_string());
    command.env(TREE, tree.path());
    command.env(ENGINE, gf100::sm::Engine::from(args.sm).to_string());
    for (name, value) in DEFAULTS {
        if env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    if !args.root.is_empty() {
        let directory = env::current_dir().context("There is no current directory")?;
        let mut binds = args.bind;
        binds.push(library);
        // The host's root would hide the tree.
        if directory != Path::new("/") {
            binds.push(directory.clone());
        }
        let rootfs = Rootfs::new(&args.root, &binds, &directory)?;
        // SAFETY: this process has no other thread, so nothing is locked in the child.
        unsafe { command.pre_exec(move || rootfs.enter()) };
    }
    let program = Path::new(&args.command[0]).display().to_string();
    let status = command
        .status()
        .with_context(|| format!("Cannot run {program}"))?;
    if let Some(signal) = status.signal() {
        eprintln!("gpuvm: {program} was ended by signal {signal}");
    }
    Ok(exit_code(status.code(), status.signal()))
}

fn library(chosen: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match chosen {
        Some(path) => path.to_owned(),
        None => {
            let program = env::current_exe().context("Cannot tell where this program is")?;
            program.with_file_name(LIBRARY)
        }
    };
    ensure!(
        path.is_file(),
        "There is no {}: `cargo build --release` makes it, `--library` says where it is",
        path.display()
    );
    Ok(path.canonicalize()?)
}

/// As shells have it: the program's own, or 128 and the signal.
fn exit_code(code: Option<i32>, signal: Option<i32>) -> ExitCode {
    let code = code.or(signal.map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(code as u8)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_signal_is_an_exit_code_of_its_own() {
        assert_eq!(exit_code(Some(3), None), ExitCode::from(3));
        assert_eq!(exit_code(None, Some(6)), ExitCode::from(134));
    }

    #[test]
    fn the_library_understands_every_engine() {
        for sm in Sm::value_variants() {
            let engine = gf100::sm::Engine::from(*sm);
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let error = library(Some(Path::new("/no/such.so"))).unwrap_err();
        assert!(error.to_string().contains("/no/such.so"));
    }
}
