//! Launches that go wrong in a multiprocessor: the kernel reports it, and the card goes on.
//!
//! The machine code is put together by hand, so that nothing but the card and nouveau is tested.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use guest::methods::{class, compute, host};
use guest::{Access, Buffer, Channel, Domain, Push};

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
        run: |context| traps(context, &[code::ENTER, code::BACK_TWO], "STACK_ERROR"),
    },
    Case {
        name: "endless",
        about: "a channel with a loop that does not end can be destroyed",
        seconds: 90,
        run: endless,
    },
];

const PAGE: u64 = 4096;
const SUBCHANNEL: u32 = 1;

/// Machine code, of which a thread has registers 0 to 3 here.
///
/// Source: Mesa `nv50_ir_emit_nvc0.cpp`.
mod code {
    /// Ends the thread.
    pub const EXIT: u64 = 0x8000_0000_0000_1de7;
    /// Goes on at itself.
    pub const AGAIN: u64 = 0x4003_ffff_e000_1de7;
    /// Goes on at the instruction before.
    pub const BACK_TWO: u64 = 0x4003_ffff_c000_1de7;
    /// Enters a region that ends with the next instruction.
    pub const ENTER: u64 = 0x6000_0000_0000_0007;
    /// No instruction.
    pub const NONE: u64 = u64::MAX;
    /// Loads register 2 from the address in registers 0 and 1.
    pub const LOAD: u64 = 0x8400_0000_0000_1c85 | 2 << 14;
    /// Stores register 2 there.
    pub const STORE: u64 = 0x9400_0000_0000_1c85 | 2 << 14;

    /// Sets a register.
    pub const fn set(register: u64, value: u32) -> u64 {
        0x1800_0000_0000_1de2 | register << 14 | (value as u64) << 26
    }

    /// Sets registers 0 and 1 to an address.
    pub const fn point(address: u64) -> [u64; 2] {
        [set(0, address as u32), set(1, (address >> 32) as u32)]
    }
}

/// Loads from an address.
fn load(address: u64) -> [u64; 4] {
    let [low, high] = code::point(address);
    [low, high, code::LOAD, code::EXIT]
}

/// Loads from an odd address: which one makes no difference.
fn misaligned() -> [u64; 4] {
    load(NOWHERE + 1)
}

/// The commands that run one thread of `program`, which `buffer` holds from now on.
fn launch(channel: &Channel, buffer: &Buffer, program: &[u64]) -> Result<Push> {
    for (place, word) in buffer.quads()?.iter().zip(program) {
        place.store(*word, Ordering::Release);
    }
    let address = buffer.address();
    channel.object(class::COMPUTE)?;
    let mut push = Push::new();
    push.incr(SUBCHANNEL, host::SET_OBJECT, &[class::COMPUTE]);
    // As Mesa has them, away from the buffers.
    push.incr(SUBCHANNEL, compute::LOCAL_BASE, &[0xff << 24]);
    push.incr(SUBCHANNEL, compute::SHARED_BASE, &[0xfe << 24]);
    let segment = [(address >> 32) as u32, address as u32];
    push.incr(SUBCHANNEL, compute::CODE_ADDRESS_HIGH, &segment);
    push.incr(SUBCHANNEL, compute::CP_START_ID, &[0]);
    push.incr(SUBCHANNEL, compute::CP_GPR_ALLOC, &[4]);
    push.incr(SUBCHANNEL, compute::BLOCKDIM_YX, &[1 << 16 | 1, 1]);
    push.incr(SUBCHANNEL, compute::GRIDDIM_YX, &[1 << 16 | 1, 1]);
    push.incr(SUBCHANNEL, compute::LAUNCH, &[compute::LAUNCH_ARGUMENT]);
    Ok(push)
}

fn launch_stores(context: &Context) -> Result<()> {
    const VALUE: u32 = 0x1234_5678;
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let page = || Buffer::new(&device, Domain::Gart, PAGE);
    let (program, target) = (page()?, page()?);
    let [low, high] = code::point(target.address());
    let words = [low, high, code::set(2, VALUE), code::STORE, code::EXIT];
    let push = launch(&channel, &program, &words)?;
    let buffers = [(&program, Access::Read), (&target, Access::Write)];
    channel.run(&push, &buffers, LIMIT)?;
    let found = target.read(0)?;
    ensure!(found == VALUE, "The thread stored {found:#x}");
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
    let push = launch(&scene.victim, &buffer, program)?;
    scene.provoke(&push, &[(&buffer, Access::Read)])?;
    scene.aftermath(parts, fate)
}

fn endless(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut channel = Channel::new(&device)?;
    let mut bystander = Channel::new(&device)?;
    let program = Buffer::new(&device, Domain::Gart, PAGE)?;
    let push = launch(&channel, &program, &[code::AGAIN])?;
    channel.submit(&push, &[(&program, Access::Read)])?;
    check_channel(&mut bystander).context("A bystander")?;
    // The kernel waits 15 s for the channel before it destroys it all the same.
    drop(channel);
    check_channel(&mut bystander).context("A bystander afterwards")?;
    launch_stores(context)
}
