//! `gpuvm vbios`: the card's VBIOS, in words or as an image.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use firmware::vbios::Vbios;

/// Arguments of `gpuvm vbios`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the image to this file instead of describing it.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Describes the VBIOS or writes it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let vbios = Vbios::quadro_6000();
    match args.output {
        Some(path) => std::fs::write(&path, vbios.build())
            .with_context(|| format!("Cannot write {}", path.display()))?,
        None => print!("{vbios}"),
    }
    Ok(ExitCode::SUCCESS)
}
