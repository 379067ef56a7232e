//! Which stores a machine may collect.

use std::sync::Arc;

use gpu_model::Optimisations;
use mmio::RegisterMap;
use mmio::policy::{Policy, rule};

use super::Record;
use super::guest::machines;

/// Half of what KVM takes of ranges on its bus.
const MOST: usize = 500;

#[test]
fn deferrable_registers_are_few_runs_and_hold_what_was_stored() {
    let (_host, guests) = machines(Optimisations::COALESCE);
    let gpu = &guests[0].gpu;
    let runs = gpu.deferrable();

    assert!((5..MOST).contains(&runs.len()), "{} runs", runs.len());
    for run in runs {
        assert_ne!(rule(run.start).policy, Policy::Denied);
        if RegisterMap::gf100().lookup(run.start).is_none() {
            gpu.store(run.start, 0x5a5a_0001);
            assert_eq!(gpu.load(run.start), 0x5a5a_0001, "{:#x}", run.start);
        }
    }
}

#[test]
fn without_the_switch_nothing_is_deferred() {
    let (_host, guests) = machines(Optimisations::empty());
    assert!(guests[0].gpu.deferrable().is_empty());
}

#[test]
fn stores_stop_being_late_when_the_switch_is_turned_off() {
    let (_host, guests) = machines(Optimisations::COALESCE);
    let gpu = &guests[0].gpu;
    let record = Arc::new(Record::default());
    gpu.set_mapper(Some(record.clone()));
    assert_eq!(record.1.lock().unwrap().as_slice(), gpu.deferrable());

    gpu.set_optimisations(Optimisations::empty());
    assert!(record.1.lock().unwrap().is_empty());
    gpu.set_optimisations(Optimisations::COALESCE);
    assert!(!record.1.lock().unwrap().is_empty());
}
