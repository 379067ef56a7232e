//! What a decision costs: `cargo bench -p sched`.
//!
//! Each item is the life of one submission: submitted, dispatched, over. All machines have work.

use divan::Bencher;
use divan::counter::ItemsCount;
use sched::{Config, Decision, Engine, MICROSECOND, Policy, Scheduler, Submission};

const MACHINES: [usize; 3] = [2, 8, 256];
/// Submissions per iteration.
const LIVES: u32 = 100;

fn main() {
    divan::main();
}

fn life(bencher: Bencher<'_, '_>, policy: Policy, machines: usize) {
    let mut scheduler = Scheduler::new(Config::new(policy), machines, machines);
    let mut puts = vec![0_u32; machines];
    let mut now = 0;
    for (vm, put) in puts.iter_mut().enumerate() {
        *put += 1;
        scheduler.submit(now, Submission::new(vm, vm, Engine::Compute, *put));
    }
    bencher.counter(ItemsCount::new(LIVES)).bench_local(|| {
        let mut lives = 0;
        while lives < LIVES {
            match scheduler.next(now) {
                Decision::Dispatch(one) => {
                    lives += 1;
                    now += 100 * MICROSECOND;
                    scheduler.complete(now, one.channel, one.put);
                    puts[one.vm] += 1;
                    let again = Submission::new(one.vm, one.channel, one.engine, puts[one.vm]);
                    scheduler.submit(now, again);
                }
                Decision::Sleep(Some(until)) => now = until,
                other => unreachable!("{other:?} with work and without time slices"),
            }
        }
    });
}

#[divan::bench(args = MACHINES)]
fn fifo(bencher: Bencher<'_, '_>, machines: usize) {
    life(bencher, Policy::Fifo, machines);
}

#[divan::bench(args = MACHINES)]
fn credit(bencher: Bencher<'_, '_>, machines: usize) {
    life(bencher, Policy::Credit, machines);
}

#[divan::bench(args = MACHINES)]
fn band(bencher: Bencher<'_, '_>, machines: usize) {
    life(bencher, Policy::Band, machines);
}

#[divan::bench(args = MACHINES)]
fn drr(bencher: Bencher<'_, '_>, machines: usize) {
    life(bencher, Policy::Drr, machines);
}

#[divan::bench(args = MACHINES)]
fn fixed(bencher: Bencher<'_, '_>, machines: usize) {
    life(bencher, Policy::Fixed, machines);
}
