//! Launches that go wrong in a multiprocessor: the kernel reports it, and the card goes on.

use anyhow::{Context as _, Result, ensure};
use guest::kernel::{self, Grid, code, launch};
use guest::{Access, Buffer, Channel, Domain};

use crate::case::{Case, Context, LIMIT, check_channel};
use crate::faults::{Fate, NOWHERE, Scene, page_digits};

pub const CASES: &[Case] = &[
    Case {
        name: "launch",
        about: "a thread stores a word",
        seconds: 60,
        run: launch_stores,
    },
    Case {
        name: "grid",
        about: "threads of many CTAs compute in a loop",
        seconds: 60,
        run: grid_computes,
    },
    Case {
        name: "address",
        about: "a thread loads where no page table is",
        seconds: 60,
        run: address,
    },
    Case {
        name: "alignment",
        about: "a thread loads a word from an odd address",
        seconds: 60,
        run: |context| traps(context, &misaligned(), "MISALIGNED_ADDR"),
    },
    Case {
        name: "instruction",
        about: "a thread executes what is no instruction",
        seconds: 60,
        run: |context| traps(context, &[code::NONE], "ILLEGAL_INSTR_ENCODING"),
    },
    Case {
        name: "stack",
        about: "a thread enters regions without end",
        seconds: 60,
        run: |context| traps(context, &[code::ENTER, code::back(2)], "STACK_ERROR"),
    },
    Case {
        name: "endless",
        about: "a channel with a loop that does not end can be destroyed",
        seconds: 90,
        run: endless,
    },
];

const PAGE: u64 = 4096;

/// Loads from an address.
fn load(address: u64) -> [u64; 4] {
    let [low, high] = code::point(address);
    [low, high, code::LOAD, code::EXIT]
}

/// Loads from an odd address: which one makes no difference.
fn misaligned() -> [u64; 4] {
    load(NOWHERE + 1)
}

fn launch_stores(context: &Context) -> Result<()> {
    const VALUE: u32 = 0x1234_5678;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let page = || Buffer::new(&device, Domain::Gart, PAGE);
    let (program, target) = (page()?, page()?);
    let [low, high] = code::point(target.address());
    let words = [low, high, code::set(2, VALUE), code::STORE, code::EXIT];
    let push = launch(&channel, &program, &words, Grid::THREAD)?;
    let buffers = [(&program, Access::Read), (&target, Access::Write)];
    channel.run(&push, &buffers, LIMIT)?;
    let found = target.read(0)?;
    ensure!(found == VALUE, "The thread stored {found:#x}");
    Ok(())
}

fn grid_computes(context: &Context) -> Result<()> {
    const COUNT: u32 = 1000;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let page = || Buffer::new(&device, Domain::Gart, PAGE);
    let (program, target) = (page()?, page()?);
    let words = kernel::turns(target.address(), COUNT);
    let grid = Grid {
        ctas: 14,
        threads: kernel::THREADS,
    };
    let push = launch(&channel, &program, &words, grid)?;
    let buffers = [(&program, Access::Read), (&target, Access::Write)];
    channel.run(&push, &buffers, LIMIT)?;
    for thread in 0..kernel::THREADS {
        let found = target.read(u64::from(thread) * 4)?;
        let expected = kernel::turned(thread, COUNT);
        ensure!(
            found == expected,
            "Thread {thread} stored {found:#x} instead of {expected:#x}"
        );
    }
    Ok(())
}

fn address(context: &Context) -> Result<()> {
    let parts = ["[PGRAPH]", "[PT_NOT_PRESENT]", &page_digits(NOWHERE)];
    reports(context, &load(NOWHERE), &parts, Fate::Killed)
}

/// Runs what a multiprocessor refuses with this error.
fn traps(context: &Context, program: &[u64], error: &str) -> Result<()> {
    let error = format!("[{error}]");
    reports(context, program, &["MP trap", &error], Fate::Either)
}

fn reports(context: &Context, program: &[u64], parts: &[&str], fate: Fate) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let buffer = Buffer::new(&scene.device, Domain::Gart, PAGE)?;
    let push = launch(&scene.victim, &buffer, program, Grid::THREAD)?;
    scene.provoke(&push, &[(&buffer, Access::Read)])?;
    scene.aftermath(parts, fate)
}

fn endless(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let mut bystander = Channel::new(&device)?;
    let program = Buffer::new(&device, Domain::Gart, PAGE)?;
    let push = launch(&channel, &program, &[code::AGAIN], Grid::THREAD)?;
    channel.submit(&push, &[(&program, Access::Read)])?;
    check_channel(&mut bystander).context("A bystander")?;
    // The kernel waits 15 s for the channel before it destroys it all the same.
    drop(channel);
    check_channel(&mut bystander).context("A bystander afterwards")?;
    launch_stores(context)
}
