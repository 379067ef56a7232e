//! `cargo xtask demo`: a stock guest on the card, and what full virtualization costs it.

mod report;

use std::{
    cell::RefCell,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use e2e::{Kernel, Session, Step, cases::Context};

use crate::{bench, build, testbed, workspace};
use report::{Event, Report};

/// Memory of the card.
const VRAM_MIB: u32 = 1536;

/// How long the guest may take, in seconds.
const TIME_OUT: u64 = 300;

/// The comparison, in small: what is compared with one another is in one part.
const COMPARISON: [&str; 3] = [
    "--suite micro --modes passthrough,fv:none,fv:paper,fv:all",
    "--suite rodinia --workloads nop,bfs,hotspot --modes passthrough,fv:all",
    // The card is no part of an interpreted machine then, and keeps its pace.
    "--suite sharing --way vfio-user --guests 1,2 --sched fifo,drr --modes fv:all",
];

/// Arguments of `cargo xtask demo`.
#[derive(Args)]
pub struct Arguments {
    /// Guest kernel: 6.1 or 6.12
    #[arg(long, default_value = "6.1")]
    kernel: Kernel,
}

/// Shows what there is, and leaves a report in `target/demo/`.
///
/// # Errors
///
/// When something does not work.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.set_message("Preparing the testbed");
    let testbed = bar.suspend(testbed::open)?;
    bar.set_message("Building the card and the guest's tools");
    let programs = build::programs()?;
    bar.set_message(format!(
        "Booting Debian's kernel {} on a GF100",
        arguments.kernel
    ));

    let session = Session::new(progress(bar.clone()))?;
    let artefacts = workspace::target().join("demo");
    fs::create_dir_all(&artefacts)
        .with_context(|| format!("Cannot make {}", artefacts.display()))?;
    let context = Context {
        session: &session,
        testbed: &testbed,
        kernel: arguments.kernel,
        gpuvm: programs.gpuvm.clone(),
        tools: &programs.guest_tools,
        debian_tools: &programs.debian_tools,
        artefacts,
    };
    let begin = Instant::now();
    let steps = vec![Step::new("benchmark", "gpubench copy --json")];
    let outcome = context.run_on_card(VRAM_MIB, steps, TIME_OUT)?;
    let report = Report::new(arguments.kernel, &outcome)?;
    bar.finish_and_clear();
    println!("{report}");
    let path = context.artefacts.join("card.md");
    fs::write(&path, report.markdown())
        .with_context(|| format!("Cannot write {}", path.display()))?;
    println!("More of that is in {}", path.display());

    println!("\nThe same guest with the whole card, and with a virtual GPU:");
    let results = context.artefacts.join("bench");
    if results.exists() {
        // A demo shows what this tree does, not what an earlier one did.
        fs::remove_dir_all(&results)
            .with_context(|| format!("Cannot remove {}", results.display()))?;
    }
    for part in COMPARISON {
        let words = part.split_whitespace().map(str::to_owned);
        let rest = [
            "--repeat=1".to_owned(),
            "--kernel".to_owned(),
            arguments.kernel.to_string(),
            "--out".to_owned(),
            results.display().to_string(),
        ];
        let arguments: Vec<String> = words.chain(rest).collect();
        let mut status = bench::measure(&programs, &arguments)?;
        session.check()?;
        if !status.success() {
            // A guest in a guest is at the mercy of a busy host. The report keeps what failed.
            println!("Once more what failed:");
            status = bench::measure(&programs, &arguments)?;
            session.check()?;
        }
        ensure!(status.success(), "The comparison failed: {status}");
    }
    println!("The demo took {} s", begin.elapsed().as_secs());
    Ok(ExitCode::SUCCESS)
}

/// A sink that turns the benchmark's progress into the bar's.
fn progress(bar: ProgressBar) -> e2e::Sink {
    let style = ProgressStyle::with_template("{bar:30} {pos:>3}/{len} {wide_msg}")
        .expect("a valid template");
    let pending = RefCell::new(String::new());
    Box::new(move |text| {
        let mut pending = pending.borrow_mut();
        pending.push_str(text);
        while let Some(end) = pending.find('\n') {
            let line: String = pending.drain(..=end).collect();
            if let Ok(Event::Progress { done, total, what }) = serde_json::from_str(&line) {
                bar.set_style(style.clone());
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(what);
            }
        }
    })
}
