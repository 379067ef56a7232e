//! What a machine can be asked, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A request to a running machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, clap::Subcommand)]
#[serde(tag = "action", rename_all = "lowercase")]
pub enum Action {
    /// Say how the machine is.
    Status,
    /// Stop the virtual CPUs where they are.
    Pause,
    /// Let the virtual CPUs go on.
    Resume,
    /// End the machine as if its power were cut.
    Stop,
    /// Show every counter as JSON.
    Counters,
    /// Show every counter as Prometheus text.
    Metrics,
    /// Set a switch: opt takes the names that --opt takes, log a filter as RUST_LOG.
    Set {
        /// The switch's name.
        switch: String,
        /// Its new value.
        value: String,
    },
}

/// An [`Action`] and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The machine; without a name, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// What is to be done.
    #[serde(flatten)]
    pub action: Action,
}

/// A machine's answer to one [`Action`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// Done; there is nothing to tell.
    Done,
    /// How the machine is.
    Status(Status),
    /// Counters by name.
    Counters(BTreeMap<String, u64>),
    /// Text to be printed as it is.
    Text(String),
    /// The answers of several machines, by name.
    All(BTreeMap<String, Reply>),
    /// Not done, and why.
    Error(String),
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the virtual CPUs run.
    pub state: RunState,
    /// Number of virtual CPUs.
    pub cpus: u8,
    /// Guest memory in bytes.
    pub memory: u64,
    /// Milliseconds since the machine started.
    pub uptime_ms: u64,
    /// Its virtual GPU, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuStatus>,
}

/// What a machine has of a shared card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuStatus {
    /// Video memory in bytes.
    pub vram: u64,
    /// Number of channels.
    pub channels: u32,
    /// Bytes of BAR1.
    pub bar1: u64,
    /// Bytes of BAR3.
    pub bar3: u64,
}

/// Whether the virtual CPUs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// They do.
    Running,
    /// They are held.
    Paused,
    /// There are none: the machine has ended, or is about to start.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_on_the_wire_is_one_flat_object() {
        let set = Action::Set {
            switch: "lazy".into(),
            value: "on".into(),
        };

        let line = serde_json::to_string(&set).unwrap();

        assert_eq!(line, r#"{"action":"set","switch":"lazy","value":"on"}"#);
        assert_eq!(serde_json::from_str::<Action>(&line).unwrap(), set);
    }

    #[test]
    fn request_for_one_machine_is_flat_as_well() {
        let request = Request {
            vm: Some("vm1".into()),
            action: Action::Stop,
        };

        let line = serde_json::to_string(&request).unwrap();

        assert_eq!(line, r#"{"vm":"vm1","action":"stop"}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
        let all: Request = serde_json::from_str(r#"{"action":"stop"}"#).unwrap();
        assert_eq!(all.vm, None);
    }

    #[test]
    fn unknown_action_is_refused() {
        assert!(serde_json::from_str::<Action>(r#"{"action":"explode"}"#).is_err());
    }
}
