//! What the GPU must refuse: the kernel reports it, and the card goes on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use guest::copy::Engine;
use guest::kmsg::Kmsg;
use guest::methods::{class, common, copy, host, semaphore, software};
use guest::pattern::Pattern;
use guest::{Access, Buffer, Channel, Device, Domain, Push, Semaphore, bar, wait_until};

use crate::case::{Case, Context, LIMIT, check_channel, filled, skip};

pub const CASES: &[Case] = &[
    Case {
        name: "no-page-table",
        about: "CE0 reads where no page table is",
        seconds: 60,
        run: no_page_table,
    },
    Case {
        name: "no-page",
        about: "CE1 writes where a page was freed",
        seconds: 60,
        run: no_page,
    },
    Case {
        name: "m2mf-address",
        about: "M2MF writes to a bad address",
        seconds: 60,
        run: m2mf_address,
    },
    Case {
        name: "semaphore-address",
        about: "the host releases a semaphore at a bad address",
        seconds: 60,
        run: semaphore_address,
    },
    Case {
        name: "fetch-address",
        about: "the host fetches commands from a bad address",
        seconds: 60,
        run: fetch_address,
    },
    Case {
        name: "read-only",
        about: "a copy engine writes to a read-only page",
        seconds: 60,
        run: read_only,
    },
    Case {
        name: "illegal-class",
        about: "a subchannel is bound to a class that PGRAPH has not",
        seconds: 60,
        run: illegal_class,
    },
    Case {
        name: "m2mf-method",
        about: "a method that M2MF has not",
        seconds: 60,
        run: m2mf_method,
    },
    Case {
        name: "ce-method",
        about: "a method that a copy engine has not",
        seconds: 60,
        run: |context| ce_error(context, common::ILLEGAL, 0, "ILLEGAL_MTHD"),
    },
    Case {
        name: "ce-bits",
        about: "a copy engine method with reserved bits set",
        seconds: 60,
        run: |context| ce_error(context, copy::QUERY_ADDRESS_HIGH, 0x100, "INVALID_BITFIELD"),
    },
    Case {
        name: "host-method",
        about: "a method that the host has not",
        seconds: 60,
        run: host_method,
    },
    Case {
        name: "software-method",
        about: "a software method that the kernel has not",
        seconds: 60,
        run: software_method,
    },
    Case {
        name: "unbound-subchannel",
        about: "a method on a subchannel without an object",
        seconds: 60,
        run: unbound_subchannel,
    },
    Case {
        name: "repeated",
        about: "ten channels in a row fault and are replaced",
        seconds: 120,
        run: repeated,
    },
    Case {
        name: "endless-wait",
        about: "a channel that waits for ever can be destroyed",
        seconds: 90,
        run: endless_wait,
    },
];

/// In the last gigabyte of the address space, where the kernel puts nothing for a test.
pub const NOWHERE: u64 = 0xff_d000_0000;
/// How long the kernel may take to report.
const REPORT: Duration = Duration::from_secs(10);
const PAGE: u64 = 4096;

/// What the kernel does with a channel after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It takes the channel from the GPU.
    Killed,
    /// It acknowledges the error and the channel goes on.
    GoesOn,
    /// Linux 6.1 lets it go on, Linux 6.12 kills it.
    Either,
}

/// A client with a channel that is going to err and one that must not suffer from it.
pub struct Scene {
    pub device: Arc<Device>,
    log: Kmsg,
    pub victim: Channel,
    bystander: Channel,
}

/// What became of a submission that brings a fault about. The kernel may have killed the channel
/// for it before the call is back, which then fails for want of the channel.
fn provoked(result: guest::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(()),
        result => Ok(result?),
    }
}

impl Scene {
    /// Submits what brings the fault about.
    pub fn provoke(&mut self, push: &Push, buffers: &[(&Buffer, Access)]) -> Result<()> {
        provoked(self.victim.submit(push, buffers))
    }

    pub fn new(context: &Context) -> Result<Scene> {
        let device = context.open()?;
        let victim = Channel::new(&device)?;
        let bystander = Channel::new(&device)?;
        Ok(Scene {
            log: Kmsg::from_now()?,
            device,
            victim,
            bystander,
        })
    }

    /// Waits for the kernel's report, which has to have all of `parts`, and for the fate.
    pub fn aftermath(mut self, parts: &[&str], fate: Fate) -> Result<()> {
        let line = self.log.wait_for(parts, REPORT).map_err(|error| {
            let heard = self.log.lines().join(" | ");
            anyhow::Error::from(error).context(format!("The kernel said: {heard}"))
        })?;
        let report = || format!("after: {line}");
        let dead = match fate {
            Fate::Killed => {
                wait_until("The channel's death", REPORT, || self.victim.is_dead())
                    .with_context(report)?;
                true
            }
            Fate::GoesOn => false,
            Fate::Either => self.dies_or_goes_on().with_context(report)?,
        };
        if !dead {
            check_channel(&mut self.victim)
                .context("The channel itself")
                .with_context(report)?;
        }
        check_channel(&mut self.bystander)
            .context("A bystander")
            .with_context(report)?;
        for engine in Engine::ALL {
            check_copy(&self.device, engine)
                .with_context(|| format!("{} on a new channel", engine.name()))
                .with_context(report)?;
        }
        drop(self.victim);
        check_copy(&self.device.reopen()?, Engine::Ce0)
            .context("A new client")
            .with_context(report)?;
        Ok(())
    }

    fn dies_or_goes_on(&mut self) -> Result<bool> {
        if let Ok(fence) = self.victim.post_fenced(&Push::new(), &[]) {
            wait_until("The channel's death or life", REPORT, || {
                Ok(self.victim.passed(fence)? || self.victim.is_dead()?)
            })?;
        }
        Ok(self.victim.is_dead()?)
    }
}

/// Checks an engine by a copy on a fresh channel.
fn check_copy(device: &Arc<Device>, engine: Engine) -> Result<()> {
    const BYTES: u64 = 64 << 10;
    let pattern = Pattern::new(engine.class().into());
    let source = filled(device, BYTES, pattern)?;
    let target = filled(device, BYTES, Pattern::new(0))?;
    let mut channel = Channel::new(device)?;
    let mut push = Push::new();
    engine.attach(&channel, &mut push)?;
    engine.linear(&mut push, source.address(), target.address(), BYTES);
    channel.run(
        &push,
        &[(&source, Access::Read), (&target, Access::Write)],
        LIMIT,
    )?;
    pattern.check(target.quads()?, 0, 0, BYTES)?;
    Ok(())
}

/// The digits of an address that both kernels print: all of the page, the rest may be rounded.
pub fn page_digits(address: u64) -> String {
    format!("{:07x}", address >> 12)
}

fn no_page_table(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let target = Buffer::new(&scene.device, Domain::Gart, PAGE)?;
    let mut push = Push::new();
    Engine::Ce0.attach(&scene.victim, &mut push)?;
    Engine::Ce0.linear(&mut push, NOWHERE, target.address(), 64);
    scene.provoke(&push, &[(&target, Access::Write)])?;
    let channel = format!("on channel {}", scene.victim.id());
    let parts = [
        "[PCE0]",
        "PCOPY0]",
        "[PT_NOT_PRESENT]",
        &channel,
        &page_digits(NOWHERE),
    ];
    scene.aftermath(&parts, Fate::Killed)?;
    // The fences of the dead channel must not keep anybody waiting.
    target.wait_idle()?;
    Ok(())
}

fn no_page(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    // The engine's context first: it would take the freed address.
    let mut push = Push::new();
    Engine::Ce1.attach(&scene.victim, &mut push)?;
    scene.victim.run(&push, &[], LIMIT)?;
    // Neighbours on both sides, so that the page table stays.
    let page = || Buffer::new(&scene.device, Domain::Gart, PAGE);
    let (first, freed, _last) = (page()?, page()?, page()?);
    let address = freed.address();
    drop(freed);
    let mut push = Push::new();
    Engine::Ce1.linear(&mut push, first.address(), address, 64);
    scene.provoke(&push, &[(&first, Access::Read)])?;
    let parts = [
        "[PCE1]",
        "PCOPY1]",
        "[PAGE_NOT_PRESENT]",
        &page_digits(address),
    ];
    scene.aftermath(&parts, Fate::Killed)
}

fn m2mf_address(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let source = Buffer::new(&scene.device, Domain::Gart, PAGE)?;
    let mut push = Push::new();
    Engine::M2mf.attach(&scene.victim, &mut push)?;
    Engine::M2mf.linear(&mut push, source.address(), NOWHERE, 64);
    scene.provoke(&push, &[(&source, Access::Read)])?;
    let parts = ["[PGRAPH]", "[PT_NOT_PRESENT]", &page_digits(NOWHERE)];
    scene.aftermath(&parts, Fate::Killed)
}

fn semaphore_address(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let mut push = Push::new();
    let words = [
        (NOWHERE >> 32) as u32,
        NOWHERE as u32,
        1,
        semaphore::RELEASE,
    ];
    push.incr(0, host::SEMAPHOREA, &words);
    scene.provoke(&push, &[])?;
    let parts = ["[PFIFO]", "[PT_NOT_PRESENT]", &page_digits(NOWHERE)];
    scene.aftermath(&parts, Fate::Killed)
}

fn fetch_address(context: &Context) -> Result<()> {
    let scene = Scene::new(context)?;
    let commands = Buffer::new(&scene.device, Domain::Gart, PAGE)?;
    let offset = NOWHERE - commands.address();
    provoked(scene.victim.submit_buffer(&commands, offset, 64, &[]))?;
    let parts = ["[PFIFO]", "[PT_NOT_PRESENT]", &page_digits(NOWHERE)];
    scene.aftermath(&parts, Fate::Killed)
}

fn read_only(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let device = scene.device.clone();
    let content = Pattern::new(50);
    let page = filled(&device, PAGE, content)?;
    let source = filled(&device, PAGE, Pattern::new(51))?;
    let back = Buffer::new(&device, Domain::Gart, PAGE)?;
    // The page is used while it is writable, so that the TLBs know it as such.
    let mut push = Push::new();
    Engine::Ce0.attach(&scene.bystander, &mut push)?;
    Engine::Ce0.linear(&mut push, page.address(), back.address(), PAGE);
    Engine::Ce0.linear(&mut push, back.address(), page.address(), PAGE);
    scene.bystander.run(
        &push,
        &[(&page, Access::ReadWrite), (&back, Access::ReadWrite)],
        LIMIT,
    )?;
    match bar::make_read_only(&scene.victim, page.address()) {
        Ok(true) => {}
        Ok(false) => return Err(skip("The page is not in a small-page table in VRAM")),
        Err(error) => return Err(skip(format!("{:#}", anyhow::Error::from(error)))),
    }
    // The driver flushes the TLBs when it frees a mapping.
    drop(Buffer::new(&device, Domain::Gart, PAGE)?);

    let mut push = Push::new();
    Engine::Ce0.attach(&scene.victim, &mut push)?;
    Engine::Ce0.linear(&mut push, source.address(), page.address(), 64);
    scene.provoke(&push, &[(&source, Access::Read)])?;
    let parts = ["[PCE0]", "[PAGE_READ_ONLY]", &page_digits(page.address())];
    scene.aftermath(&parts, Fate::Killed)?;
    content
        .check(page.quads()?, 0, 0, PAGE)
        .context("The page was written to")?;

    // Reading is still allowed.
    let mut channel = Channel::new(&device)?;
    let mut push = Push::new();
    Engine::Ce0.attach(&channel, &mut push)?;
    Engine::Ce0.linear(&mut push, page.address(), back.address(), PAGE);
    channel.run(
        &push,
        &[(&page, Access::Read), (&back, Access::Write)],
        LIMIT,
    )?;
    content.check(back.quads()?, 0, 0, PAGE)?;
    Ok(())
}

fn illegal_class(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    scene.victim.object(class::M2MF)?;
    let mut push = Push::new();
    push.incr(0, host::SET_OBJECT, &[0x1234]);
    scene.provoke(&push, &[])?;
    scene.aftermath(&["ILLEGAL_CLASS", "1234"], Fate::GoesOn)
}

fn m2mf_method(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let mut push = Push::new();
    Engine::M2mf.attach(&scene.victim, &mut push)?;
    push.incr(Engine::M2mf.subchannel(), common::ILLEGAL, &[0xabcd]);
    scene.provoke(&push, &[])?;
    let method = format!("class 9039 mthd {:04x} data 0000abcd", common::ILLEGAL);
    scene.aftermath(&["ILLEGAL_MTHD", &method], Fate::GoesOn)
}

fn ce_error(context: &Context, method: u32, data: u32, name: &str) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let engine = Engine::Ce1;
    let mut push = Push::new();
    engine.attach(&scene.victim, &mut push)?;
    push.incr(engine.subchannel(), method, &[data]);
    scene.provoke(&push, &[])?;
    let where_ = format!(
        "subc {} mthd {method:04x} data {data:08x}",
        engine.subchannel()
    );
    let parts = ["ce1:", "DISPATCH_ERROR", name, &where_];
    scene.aftermath(&parts, Fate::GoesOn)
}

fn host_method(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let mut push = Push::new();
    push.incr(0, host::ILLEGAL, &[0x77]);
    scene.provoke(&push, &[])?;
    let method = format!("mthd {:04x} data 00000077", host::ILLEGAL);
    let channel = format!("ch {} ", scene.victim.id());
    scene.aftermath(
        &["PBDMA", "[ILLEGAL_MTHD]", &method, &channel],
        Fate::Either,
    )
}

fn software_method(context: &Context) -> Result<()> {
    const SUBCHANNEL: u32 = 7;
    let mut scene = Scene::new(context)?;
    scene.victim.object(class::SOFTWARE)?;
    let mut push = Push::new();
    push.incr(SUBCHANNEL, host::SET_OBJECT, &[class::SOFTWARE]);
    push.incr(SUBCHANNEL, software::ILLEGAL, &[0x55]);
    scene.provoke(&push, &[])?;
    let method = format!(
        "subc {SUBCHANNEL} mthd {:04x} data 00000055",
        software::ILLEGAL
    );
    scene.aftermath(&["[EMPTY_SUBC]", &method], Fate::GoesOn)
}

fn unbound_subchannel(context: &Context) -> Result<()> {
    let mut scene = Scene::new(context)?;
    let mut push = Push::new();
    push.incr(6, common::NOP, &[0x66]);
    scene.provoke(&push, &[])?;
    let method = format!("subc 6 mthd {:04x} data 00000066", common::NOP);
    scene.aftermath(&["[EMPTY_SUBC]", &method], Fate::GoesOn)
}

fn repeated(context: &Context) -> Result<()> {
    let device = context.open()?;
    let target = Buffer::new(&device, Domain::Gart, PAGE)?;
    for round in 0..10 {
        let engine = Engine::ALL[round % Engine::ALL.len()];
        let mut log = Kmsg::from_now()?;
        let mut channel = Channel::new(&device)?;
        let mut push = Push::new();
        engine.attach(&channel, &mut push)?;
        engine.linear(&mut push, NOWHERE, target.address(), 64);
        provoked(channel.submit(&push, &[]))?;
        log.wait_for(&["[PT_NOT_PRESENT]"], REPORT)?;
        wait_until("The channel's death", REPORT, || channel.is_dead())?;
        if let Ok(()) = channel.submit(&push, &[]) {
            bail!("A dead channel accepts work");
        }
        drop(channel);
        check_copy(&device, engine).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

fn endless_wait(context: &Context) -> Result<()> {
    let device = context.open()?;
    let never = Semaphore::new(&device)?;
    let mut waiter = Channel::new(&device)?;
    let mut bystander = Channel::new(&device)?;
    let mut push = Push::new();
    never.acquire(&mut push, 0, 1);
    waiter.submit(&push, &[])?;
    check_channel(&mut bystander)?;
    // The kernel waits 15 s for the channel before it destroys it all the same.
    drop(waiter);
    ensure!(never.value(0)? == 0, "somebody released the semaphore");
    check_channel(&mut bystander)?;
    for engine in Engine::ALL {
        check_copy(&device, engine).context(engine.name())?;
    }
    Ok(())
}
