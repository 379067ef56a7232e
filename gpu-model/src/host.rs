//! A shared card with its machines, and the thread that listens to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mmio::VmId;
use shadow_pt::Algorithm;

use crate::aggregator::{Aggregator, Event, Limits};
use crate::card::Card;
use crate::partition::Layout;
use crate::vgpu::{Slot, VirtualGpu};

/// How often the thread looks at its clock when the card is quiet.
const TICK: Duration = Duration::from_millis(100);

/// A card and the virtual cards that share it.
pub struct Host {
    vgpus: Arc<[Arc<VirtualGpu>]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Shares `card` between machines in these slots.
    ///
    /// # Errors
    ///
    /// The host has no thread for it.
    pub fn new(
        card: Arc<dyn Card>,
        layout: Layout,
        limits: Limits,
        algorithm: Algorithm,
        slots: Vec<Arc<dyn Slot>>,
    ) -> io::Result<Self> {
        let aggregator = Arc::new(Aggregator::new(card.clone(), layout, limits));
        let vgpus = (0..)
            .zip(slots)
            .take(aggregator.layout().vgpus().into())
            .map(|(n, slot)| {
                VirtualGpu::new(aggregator.clone(), VmId(n), slot, algorithm).map(Arc::new)
            })
            .collect::<io::Result<Arc<[_]>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("aggregator".into())
            .spawn({
                let (vgpus, stop) = (vgpus.clone(), stop.clone());
                move || {
                    while !stop.load(Ordering::Acquire) {
                        if card.wait_interrupt(TICK) {
                            deliver(&vgpus, aggregator.service());
                        }
                        deliver(&vgpus, aggregator.watch());
                    }
                }
            })?;
        Ok(Self {
            vgpus,
            stop,
            thread: Some(thread),
        })
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
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
