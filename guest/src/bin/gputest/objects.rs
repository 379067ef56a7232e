//! Engine objects: every class that a GF100 channel can hold.

use anyhow::{Context as _, Result, bail, ensure};
use guest::copy::{Engine, Place};
use guest::methods::{class, common, host, query, software};
use guest::pattern::Pattern;
use guest::{Access, Channel, Param, Push, Semaphore};

use crate::case::{Case, Context, LIMIT, check_channel, filled};

pub const CASES: &[Case] = &[
    Case {
        name: "twod",
        about: "a 2D object can be made, bound and used",
        seconds: 30,
        run: |context| one(context, class::TWOD),
    },
    Case {
        name: "m2mf",
        about: "an M2MF object can be made, bound and used",
        seconds: 30,
        run: |context| one(context, class::M2MF),
    },
    Case {
        name: "threed",
        about: "a 3D object can be made, bound and used",
        seconds: 30,
        run: |context| one(context, class::THREED),
    },
    Case {
        name: "compute",
        about: "a compute object can be made, bound and used",
        seconds: 30,
        run: |context| one(context, class::COMPUTE),
    },
    Case {
        name: "copy-engines",
        about: "copy engine objects can be made, bound and used",
        seconds: 30,
        run: copy_engines,
    },
    Case {
        name: "software",
        about: "software methods reach the kernel, in order",
        seconds: 30,
        run: software_methods,
    },
    Case {
        name: "together",
        about: "one channel holds all classes, as Mesa's does",
        seconds: 30,
        run: together,
    },
    Case {
        name: "unknown-class",
        about: "a class that does not exist is refused",
        seconds: 30,
        run: unknown_class,
    },
    Case {
        name: "recreate",
        about: "objects are made and destroyed 30 times",
        seconds: 120,
        run: recreate,
    },
    Case {
        name: "queries",
        about: "3D and compute write query reports",
        seconds: 30,
        run: queries,
    },
    Case {
        name: "context-switch",
        about: "class state belongs to its channel",
        seconds: 60,
        run: context_switch,
    },
];

const SUBCHANNEL: u32 = 0;

/// Makes, binds and pokes an object.
fn one(context: &Context, class: u32) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let object = channel.object(class)?;
    let mut push = Push::new();
    push.incr(SUBCHANNEL, host::SET_OBJECT, &[class]);
    push.incr(SUBCHANNEL, common::NOP, &[0]);
    push.incr(SUBCHANNEL, common::SERIALIZE, &[0]);
    channel.run(&push, &[], LIMIT)?;
    channel.free_object(object)?;
    check_channel(&mut channel)
}

fn copy_engines(context: &Context) -> Result<()> {
    let device = context.open()?;
    for engine in [Engine::Ce0, Engine::Ce1] {
        let mut channel = Channel::new(&device)?;
        let mut push = Push::new();
        let object = engine.attach(&channel, &mut push)?;
        push.incr(engine.subchannel(), common::NOP, &[0]);
        channel.run(&push, &[], LIMIT).context(engine.name())?;
        channel.free_object(object)?;
        check_channel(&mut channel)?;
    }
    Ok(())
}

fn software_methods(context: &Context) -> Result<()> {
    /// Mesa's subchannel for it.
    const SUBCHANNEL: u32 = 7;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    channel.object(class::SOFTWARE)?;
    let mut push = Push::new();
    push.incr(SUBCHANNEL, host::SET_OBJECT, &[class::SOFTWARE]);
    for value in 1..=20 {
        push.incr(SUBCHANNEL, software::FLIP, &[0]);
        target.release(&mut push, 0, value);
    }
    channel.run(&push, &[(target.buffer(), Access::Write)], LIMIT)?;
    ensure!(target.value(0)? == 20, "{} of 20 methods", target.value(0)?);
    Ok(())
}

/// The classes and subchannels of Mesa's `nvc0_screen_create`.
const MESA: [(u32, u32); 5] = [
    (0, class::THREED),
    (1, class::COMPUTE),
    (2, class::M2MF),
    (3, class::TWOD),
    (7, class::SOFTWARE),
];

fn together(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let mut push = Push::new();
    for (subchannel, class) in MESA {
        channel
            .object(class)
            .with_context(|| format!("class {class:#x}"))?;
        push.incr(subchannel, host::SET_OBJECT, &[class]);
    }
    for (subchannel, class) in MESA {
        if class != class::SOFTWARE {
            push.incr(subchannel, common::NOP, &[0]);
        }
    }
    channel.run(&push, &[], LIMIT)?;
    check_channel(&mut channel)
}

fn unknown_class(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    for class in [0x9197, 0x1234, 0xa0b5] {
        if channel.object(class).is_ok() {
            bail!("class {class:#x} was accepted");
        }
    }
    check_channel(&mut channel)
}

fn recreate(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    for _ in 0..30 {
        let mut push = Push::new();
        let mut objects = Vec::new();
        for (subchannel, class) in MESA {
            objects.push(channel.object(class)?);
            push.incr(subchannel, host::SET_OBJECT, &[class]);
        }
        channel.run(&push, &[], LIMIT)?;
        for object in objects {
            channel.free_object(object)?;
        }
    }
    check_channel(&mut channel)
}

/// Words of a query: where, what, how.
fn report(target: &Semaphore, slot: u64, sequence: u32, get: u32) -> [u32; 4] {
    let address = target.address(slot);
    [(address >> 32) as u32, address as u32, sequence, get]
}

fn queries(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let target = Semaphore::new(&device)?;
    let mut push = Push::new();
    for (subchannel, class) in [(0, class::THREED), (1, class::COMPUTE)] {
        channel.object(class)?;
        push.incr(subchannel, host::SET_OBJECT, &[class]);
    }
    let fence = query::FENCE | query::UNIT_CROP | query::SHORT;
    push.incr(0, query::ADDRESS_HIGH, &report(&target, 0, 10, fence));
    push.incr(
        1,
        query::ADDRESS_HIGH,
        &report(&target, 1, 11, query::SHORT),
    );
    push.incr(
        0,
        query::ADDRESS_HIGH,
        &report(&target, 2, 12, query::TIMESTAMP),
    );
    target
        .buffer()
        .write(target.address(1) - target.address(0) + 4, 0x7777)?;
    let before = device.param(Param::PtimerTime)?;
    channel.run(&push, &[(target.buffer(), Access::Write)], LIMIT)?;
    let after = device.param(Param::PtimerTime)?;
    for (slot, expected) in [(0, 10), (1, 11), (2, 12)] {
        let found = target.value(slot)?;
        ensure!(
            found == expected,
            "query {slot} wrote {found}, expected {expected}"
        );
    }
    ensure!(
        target.word(1, 1)? == 0x7777,
        "a short query wrote more than its sequence"
    );
    let time = target.time(2)?;
    ensure!(
        (before..=after).contains(&time),
        "time {time} in {before}..{after}"
    );
    Ok(())
}

fn context_switch(context: &Context) -> Result<()> {
    const BYTES: u32 = 4096;
    const CHANNELS: u64 = 4;
    const ROUNDS: u32 = 10;
    let device = context.open()?;
    let target = Semaphore::new(&device)?;
    let mut channels = Vec::new();
    for index in 0..CHANNELS {
        let mut channel = Channel::new(&device)?;
        let mut push = Push::new();
        channel.object(class::THREED)?;
        push.incr(0, host::SET_OBJECT, &[class::THREED]);
        Engine::M2mf.attach(&channel, &mut push)?;
        let source = filled(&device, BYTES.into(), Pattern::new(index))?;
        let copy = filled(&device, BYTES.into(), Pattern::new(100))?;
        // All of the state once; later rounds only trigger.
        let [high, low, ..] = report(&target, index, 0, 0);
        push.incr(0, query::ADDRESS_HIGH, &[high, low]);
        Engine::M2mf.rectangle(
            &mut push,
            Place::pitch(source.address(), BYTES),
            Place::pitch(copy.address(), BYTES),
            BYTES,
            1,
            None,
        );
        channel.run(
            &push,
            &[(&source, Access::Read), (&copy, Access::Write)],
            LIMIT,
        )?;
        channels.push((channel, source, copy));
    }
    for round in 1..=ROUNDS {
        let mut fences = Vec::new();
        for (index, (channel, source, copy)) in channels.iter_mut().enumerate() {
            Pattern::new(u64::from(round) << 8 | index as u64).fill(source.quads()?);
            let sequence = round << 8 | index as u32;
            let get = query::FENCE | query::UNIT_CROP | query::SHORT;
            let mut push = Push::new();
            push.incr(0, query::ADDRESS_HIGH + 8, &[sequence, get]);
            push.incr(
                Engine::M2mf.subchannel(),
                guest::methods::m2mf::LAUNCH_DMA,
                &[guest::methods::m2mf::launch::SRC_PITCH
                    | guest::methods::m2mf::launch::DST_PITCH
                    | guest::methods::m2mf::launch::ONE_WORD],
            );
            let used = [(&*source, Access::Read), (&*copy, Access::Write)];
            fences.push(channel.post_fenced(&push, &used)?);
        }
        for (index, (channel, _, copy)) in channels.iter().enumerate() {
            channel.wait(fences[index], LIMIT)?;
            let (found, expected) = (target.value(index as u64)?, round << 8 | index as u32);
            ensure!(
                found == expected,
                "channel {index}: query {found:#x}, not {expected:#x}"
            );
            Pattern::new(expected.into())
                .check(copy.quads()?, 0, 0, BYTES.into())
                .with_context(|| format!("channel {index}, round {round}"))?;
        }
    }
    Ok(())
}
