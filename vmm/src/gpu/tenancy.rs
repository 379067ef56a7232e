//! A machine's part of a shared card, as its operator sees it.

use std::sync::Arc;

use gpu_model::{Optimisations, Scheduled, UnknownOptimisation, VirtualGpu};
use mmio::Bar;
use sched::{Engine, Settings};

use crate::control::{GpuStatus, Switches};
use crate::metrics::Metrics;

/// A virtual GPU and what decides when the card works for it.
#[derive(Clone)]
pub struct Tenancy {
    /// The virtual GPU.
    pub vgpu: Arc<VirtualGpu>,
    /// The scheduler, if there is one.
    pub scheduler: Option<Arc<Scheduled>>,
}

impl Tenancy {
    /// Shows what the virtual GPU counts, and what the scheduler accounted for it, among the
    /// metrics of its machine.
    pub fn count_in(&self, metrics: &Metrics) {
        let vgpu = self.vgpu.clone();
        metrics.add_source(move |tell| {
            for count in vgpu.counters() {
                let bar = count
                    .range
                    .map(|(bar, _)| format!("{bar:?}").to_lowercase());
                let channel = count.channel.map(|channel| channel.to_string());
                let labels = [
                    ("bar", bar.as_deref()),
                    ("range", count.range.map(|(_, range)| range)),
                    ("channel", channel.as_deref()),
                    ("engine", count.engine),
                ];
                let labels: Vec<_> = labels
                    .into_iter()
                    .filter_map(|(label, value)| Some((label, value?)))
                    .collect();
                tell((&format!("gpu_{}_total", count.name), &labels, count.value));
            }
        });
        let Some(scheduler) = self.scheduler.clone() else {
            return;
        };
        let vm = self.vgpu.vm();
        metrics.add_source(move |tell| {
            let usage = scheduler.usage(vm);
            for (engine, busy) in [("compute", Engine::Compute), ("copy", Engine::Copy)] {
                let busy = usage.busy[busy.index()];
                tell(("gpu_sched_busy_ns_total", &[("engine", engine)], busy));
            }
            for (name, value) in [
                ("gpu_sched_dispatched_total", usage.dispatched),
                ("gpu_sched_merged_total", usage.merged),
                ("gpu_sched_waited_ns_total", usage.waited),
                ("gpu_sched_preemptions_total", usage.preemptions),
                ("gpu_sched_waiting", scheduler.waiting(vm) as u64),
            ] {
                tell((name, &[], value));
            }
        });
    }

    /// What the machine has of the card.
    pub fn status(&self) -> GpuStatus {
        let partition = self.vgpu.partition();
        GpuStatus {
            vram: partition.vram_size(),
            channels: partition.channels.len() as u32,
            bar1: self.vgpu.bar_size(Bar::Bar1),
            bar3: self.vgpu.bar_size(Bar::Bar3),
        }
    }

    /// Lets an operator set the optimisations and, where there is a scheduler, what it gives.
    pub fn add_switches(&self, switches: &mut Switches) {
        let vgpu = self.vgpu.clone();
        switches.add("opt", move |names| {
            let optimisations: Optimisations = names
                .parse()
                .map_err(|error: UnknownOptimisation| error.to_string())?;
            vgpu.set_optimisations(optimisations);
            Ok(())
        });
        self.add_setting(switches, "weight", |settings, weight| {
            settings.weight = weight;
        });
        self.add_setting(switches, "cap", |settings, percent| {
            settings.cap = percent.saturating_mul(10);
        });
        self.add_setting(switches, "priority", |settings, priority| {
            settings.priority = priority.try_into().unwrap_or(u8::MAX);
        });
    }

    fn add_setting(
        &self,
        switches: &mut Switches,
        name: &'static str,
        change: impl Fn(&mut Settings, u32) + Send + Sync + 'static,
    ) {
        let Some(scheduler) = self.scheduler.clone() else {
            return;
        };
        let vm = self.vgpu.vm();
        switches.add(name, move |value| {
            let number = value
                .parse()
                .map_err(|_| format!("{value:?} is no number"))?;
            let mut settings = scheduler.settings(vm).unwrap_or_default();
            change(&mut settings, number);
            scheduler
                .set(vm, settings)
                .map_err(|error| error.to_string())
        });
    }
}
