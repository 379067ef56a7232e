//! What the user can choose, by environment variables that `gpuvm exec` sets.

use std::env;
use std::time::Duration;

use gf100::{Config, Falcons, sm::Engine};

/// MiB of video memory.
const VRAM: &str = "GF100_VRAM_MIB";
/// Seconds that a submission may take, 0 for any time.
const TIMEOUT: &str = "GF100_TIMEOUT";

/// How programs are executed: `interpreter` or `jit`.
const ENGINE: &str = "GF100_SM";

/// What of the card's log to print, as `RUST_LOG` of other programs.
const LOG: &str = "GF100_LOG";

/// The choices.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of video memory.
    pub vram: u64,
    /// How long a submission may take before its channel is killed.
    pub timeout: Option<Duration>,
    /// How programs are executed; else as the card has it.
    pub engine: Option<Engine>,
}

impl Settings {
    /// Those of this process's environment. What makes no sense counts as not chosen.
    pub fn from_environment() -> Self {
        let number = |name| env::var(name).ok()?.parse::<u64>().ok();
        let timeout = number(TIMEOUT).unwrap_or(600);
        Self {
            vram: number(VRAM).unwrap_or(1536) << 20,
            timeout: (timeout > 0).then(|| Duration::from_secs(timeout)),
            engine: env::var(ENGINE).ok().and_then(|name| name.parse().ok()),
        }
    }

    /// The card.
    pub fn config(&self) -> Config {
        let mut config = Config::quadro_6000(self.vram);
        config.engine = self.engine.unwrap_or(config.engine);
        // The driver here brings no firmware.
        config.falcons = Falcons::Resident;
        config
    }
}

/// Lets the card log to standard error, if the user wants that.
pub fn start_log() {
    if let Ok(filter) = env::var(LOG) {
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        // A program that logs by itself keeps its own log.
        let _ = log.try_init();
    }
}
