//! The simulated card.

use std::collections::{HashMap, VecDeque};

use crate::Nanos;
use crate::account::Engine;

/// A submission that the card has or will have.
#[derive(Clone, Copy)]
struct Job {
    left: Nanos,
    submitted: Nanos,
}

/// What runs on an engine.
#[derive(Clone, Copy)]
pub(super) struct Run {
    id: u64,
    pub vm: usize,
    pub channel: usize,
    pub put: u32,
    /// When the machine submitted it.
    pub submitted: Nanos,
    /// Since when it executes; before that, the engine changed channels.
    pub since: Nanos,
}

pub(super) struct Card {
    switch: Nanos,
    /// By channel and put; removed when it is over.
    jobs: HashMap<(usize, u32), Job>,
    /// What each channel has on the card.
    rings: Vec<VecDeque<u32>>,
    /// Up to where the card may fetch.
    described: Vec<VecDeque<u32>>,
    engines: [Option<Run>; 2],
    last: [Option<usize>; 2],
    runs: u64,
}

impl Card {
    pub(super) fn new(channels: usize, switch: Nanos) -> Self {
        Self {
            switch,
            jobs: HashMap::new(),
            rings: vec![VecDeque::new(); channels],
            described: vec![VecDeque::new(); channels],
            engines: [None; 2],
            last: [None; 2],
            runs: 0,
        }
    }

    /// What is behind a value of GP_PUT, before it is submitted.
    pub(super) fn describe(&mut self, channel: usize, put: u32, length: Nanos, now: Nanos) {
        let job = Job {
            left: length,
            submitted: now,
        };
        self.jobs.insert((channel, put), job);
        self.described[channel].push_back(put);
    }

    /// The card may fetch up to `put`.
    pub(super) fn submit(&mut self, channel: usize, put: u32) {
        let described = &mut self.described[channel];
        if let Some(last) = described.iter().position(|&known| known == put) {
            self.rings[channel].extend(described.drain(..=last));
        }
    }

    /// Starts what comes next on an engine that is free; its run and its end.
    pub(super) fn start(&mut self, now: Nanos, engine: usize) -> Option<(u64, Nanos)> {
        if self.engines[engine].is_some() {
            return None;
        }
        let channels = self.rings.len();
        let after = self.last[engine].map_or(0, |last| last + 1);
        let channel = (0..channels)
            .map(|n| (after + n) % channels)
            .find(|&c| c % Engine::ALL.len() == engine && !self.rings[c].is_empty())?;
        let put = *self.rings[channel].front()?;
        let job = self.jobs.get(&(channel, put))?;
        let change = match self.last[engine] {
            Some(last) if last == channel => 0,
            _ => self.switch,
        };
        self.last[engine] = Some(channel);
        self.runs += 1;
        let since = now + change;
        self.engines[engine] = Some(Run {
            id: self.runs,
            vm: channel / Engine::ALL.len(),
            channel,
            put,
            submitted: job.submitted,
            since,
        });
        Some((self.runs, since + job.left))
    }

    /// Ends `run` on an engine, if it is still there.
    pub(super) fn finish(&mut self, engine: usize, run: u64) -> Option<Run> {
        let done = self.engines[engine].take_if(|running| running.id == run)?;
        self.rings[done.channel].pop_front();
        self.jobs.remove(&(done.channel, done.put));
        Some(done)
    }

    /// Takes `channel` off its engine with all that it has on the card; what was running.
    pub(super) fn take_off(&mut self, now: Nanos, channel: usize) -> Option<Run> {
        let ring = std::mem::take(&mut self.rings[channel]);
        for put in ring.into_iter().rev() {
            self.described[channel].push_front(put);
        }
        let engine = channel % Engine::ALL.len();
        let run = self.engines[engine].take_if(|running| running.channel == channel)?;
        if let Some(job) = self.jobs.get_mut(&(channel, run.put)) {
            job.left = job
                .left
                .saturating_sub(now.saturating_sub(run.since))
                .max(1);
        }
        Some(run)
    }

    /// What runs.
    pub(super) fn running(&self) -> Vec<Run> {
        self.engines.iter().flatten().copied().collect()
    }
}
