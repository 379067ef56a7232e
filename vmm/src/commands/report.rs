//! `gpuvm report`: a page of the results of `gpuvm bench`.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `gpuvm report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of results; the report is written there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Writes the page and the table; prints where the page is.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let page = bench::report::write(&args.directory)?;
    println!("{}", page.display());
    Ok(ExitCode::SUCCESS)
}
