//! Where the log goes: standard error, filtered by `-v` or `RUST_LOG`.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt};

/// Libraries that report a guest's mistakes as errors: a guest could fill the log with them.
const TOLD_BY_GUESTS: &str = "virtio_queue=off";

/// The filter in use.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log. `verbose` counts the `-v` options: none is `info`, one `debug`, two or more
/// `trace`. `RUST_LOG`, where set, refines or overrides that per module.
pub fn init(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    // The builder's default directive would count for nothing beside others.
    let filter = EnvFilter::builder().parse_lossy(format!("{level},{TOLD_BY_GUESTS},{wanted}"));
    let (filter, handle) = reload::Layer::new(filter);
    let output = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .init();
    // The log is started once.
    let _ = FILTER.set(handle);
}

/// Replaces the filter of a running process by `directives`, as in `RUST_LOG`.
pub fn set_filter(directives: &str) -> Result<(), String> {
    let filter = EnvFilter::builder()
        .parse(format!("{TOLD_BY_GUESTS},{directives}"))
        .map_err(|error| error.to_string())?;
    match FILTER.get() {
        Some(handle) => handle.reload(filter).map_err(|error| error.to_string()),
        None => Err("the log has not been started".into()),
    }
}
