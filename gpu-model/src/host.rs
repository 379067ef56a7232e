//! A shared card with its machines, and the thread that listens to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mmio::VmId;
use mmio::bring_up::Record;
use thiserror::Error;

use crate::aggregator::{Aggregator, BringUpError, Event, Limits};
use crate::card::Card;
use crate::optimisations::Optimisations;
use crate::partition::Layout;
use crate::submission::{Direct, Dispatcher};
use crate::tracking::Tracking;
use crate::vgpu::{Slot, VirtualGpu};

/// How often the threads look at the clock when the card is quiet.
const TICK: Duration = Duration::from_millis(100);
/// How often the engines are looked at while they work for one of several machines; and for the only
/// one, where nobody's share depends on it and each look takes a processor from the machine.
const SAMPLE: Duration = Duration::from_millis(1);
const SAMPLE_ALONE: Duration = Duration::from_millis(20);

/// How a card is shared.
pub struct Settings {
    /// What machines may do to each other.
    pub limits: Limits,
    /// The switches of all machines at first.
    pub optimisations: Optimisations,
    /// How it is known what machines stored to page tables.
    pub tracking: Tracking,
    /// Who decides when the card works for whom.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// How a driver brought the card up, where its falcons have no firmware.
    pub bring_up: Option<Record>,
}

impl Default for Settings {
    /// Everybody has the card at once, in the quickest way that needs nobody's help.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            optimisations: Optimisations::LAZY_SHADOW
                | Optimisations::INCREMENTAL
                | Optimisations::BULK,
            tracking: Tracking::default(),
            dispatcher: Arc::new(Direct),
            bring_up: None,
        }
    }
}

/// Why a card cannot be shared.
#[derive(Debug, Error)]
pub enum HostError {
    /// It does not come up.
    #[error(transparent)]
    BringUp(#[from] BringUpError),
    /// The host has no thread for it, or no memory.
    #[error("Cannot set up the virtual GPUs")]
    Io(#[from] io::Error),
}

/// A card and the virtual cards that share it.
pub struct Host {
    card: Arc<dyn Card>,
    vgpus: Arc<[Arc<VirtualGpu>]>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Host {
    /// Shares `card` between machines in these slots.
    ///
    /// # Errors
    ///
    /// The card does not come up, or the host has no thread for it.
    pub fn new(
        card: Arc<dyn Card>,
        layout: Layout,
        settings: Settings,
        slots: Vec<Arc<dyn Slot>>,
    ) -> Result<Self, HostError> {
        let Settings {
            limits,
            optimisations,
            tracking,
            dispatcher,
            bring_up,
        } = settings;
        let record = bring_up.as_ref();
        let aggregator = Aggregator::new(card.clone(), layout, limits, dispatcher, record)?;
        let vgpus = (0..)
            .zip(slots)
            .take(aggregator.layout().vgpus().into())
            .map(|(n, slot)| {
                let host = aggregator.clone();
                VirtualGpu::new(host, VmId(n), slot, optimisations, tracking).map(Arc::new)
            })
            .collect::<io::Result<Arc<[_]>>>()?;
        let mut host = Self {
            card: card.clone(),
            vgpus,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        host.spawn("aggregator", {
            let (vgpus, aggregator) = (host.vgpus.clone(), aggregator.clone());
            move || {
                if card.wait_interrupt(TICK) {
                    deliver(&vgpus, aggregator.service());
                }
                deliver(&vgpus, aggregator.watch());
                vgpus.iter().for_each(|vgpu| vgpu.reclaim());
            }
        })?;
        let sample = match aggregator.layout().vgpus() {
            1 => SAMPLE_ALONE,
            _ => SAMPLE,
        };
        let mut last = Instant::now();
        host.spawn("accounting", move || {
            if aggregator.await_work(TICK) {
                std::thread::sleep(sample);
                aggregator.sample(last.elapsed().min(TICK));
            }
            last = Instant::now();
        })?;
        Ok(host)
    }

    /// Calls `turn` again and again on a thread of its own.
    fn spawn(&mut self, name: &str, mut turn: impl FnMut() + Send + 'static) -> io::Result<()> {
        let stop = self.stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    turn();
                }
            })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The card.
    pub fn card(&self) -> &Arc<dyn Card> {
        &self.card
    }

    /// The virtual cards, by machine.
    pub fn vgpus(&self) -> &[Arc<VirtualGpu>] {
        &self.vgpus
    }
}

fn deliver(vgpus: &[Arc<VirtualGpu>], events: Vec<(VmId, Event)>) {
    for (vm, event) in events {
        if let Some(vgpu) = vgpus.get(usize::from(vm.0)) {
            vgpu.deliver(event);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
