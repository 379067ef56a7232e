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

/// Writes the page, its pictures and the table; prints the main figures and where the page is.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = bench::report::write(&args.directory)?;
    print!("{}", report.summary);
    println!("{}", report.page.display());
    Ok(ExitCode::SUCCESS)
}
