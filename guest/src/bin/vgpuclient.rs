//! A client of `gpuvm serve` that is no machine: it takes a virtual GPU over vfio-user, finds it clean,
//! and lets it work in video memory and in memory of its own, until that is done or, with `--mess`,
//! in the middle of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use guest::hostile::{CHANNEL, Device, RESULT, Rig, VA_RESULT, VA_TARGET};
use guest::methods::{class, copy};
use mmio::Bar;
use mmio::layout::instance;
use mmio::layout::pagetable::{Aperture, Pte};
use mmio::layout::pushbuffer::{Header, Mode, method};
use mmio::regs::{pfifo, pmc};
use parking_lot::Mutex;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
};
use vfio_user::Client;

/// Device and vendor of a Quadro 6000.
const IDENTITY: u32 = 0x06d8_10de;
/// The command register of configuration space, and its bits for memory and mastering.
const COMMAND: u64 = 4;
const COMMAND_ON: u32 = 6;
/// Message control of the MSI capability, which is at 0x68; its enable bit, in the word at that place.
const MSI: u64 = 0x68;
const MSI_ENABLE: u32 = 1 << 16;

/// Bytes of the client's own memory, and where in it the card works.
const RAM: u64 = 1 << 20;
const RELEASED: u64 = 0x8000;
const COPIED: u64 = 0x9000;
/// Bytes that are copied there.
const COPY: u32 = 0x1000;
/// Where the copy engine has its context, in video memory, and the virtual page that shows it.
const CONTEXT: u64 = 0xa_0000;
const VA_CONTEXT: u64 = 0x5000;
/// A virtual page that shows [`COPIED`].
const VA_COPIED: u64 = 0x6000;
/// The subchannel of copies.
const SUBCHANNEL: u8 = 4;
/// So many places of video memory are looked at.
const SAMPLES: u64 = 256;
/// What a client that makes a mess leaves there.
const MESS: u32 = 0xdead_beef;

/// Works on a virtual GPU.
#[derive(Parser)]
struct Arguments {
    /// The socket of the virtual GPU.
    socket: PathBuf,
    /// Leave video memory full and a channel waiting.
    #[arg(long)]
    mess: bool,
}

/// The virtual GPU at the other end of a socket.
struct Remote(Mutex<Client>);

impl Remote {
    fn read(&self, region: u32, offset: u64) -> u32 {
        let mut word = [0xff; 4];
        // A dead server's registers are ones, as those of a card that is gone.
        let _ = self.0.lock().region_read(region, offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn write(&self, region: u32, offset: u64, value: u32) {
        // As above: nobody is there to take it.
        let _ = self
            .0
            .lock()
            .region_write(region, offset, &value.to_le_bytes());
    }
}

impl Device for Remote {
    fn load(&self, bar: Bar, offset: u64) -> u32 {
        self.read(bar.index() as u32, offset)
    }

    fn store(&self, bar: Bar, offset: u64, value: u32) {
        self.write(bar.index() as u32, offset, value);
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpuclient: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut client = Client::new(&arguments.socket).context("Cannot connect")?;
    let ram = memory()?;
    client
        .dma_map(0, 0, RAM, ram.as_raw_fd())
        .context("Cannot share memory")?;
    let message = event()?;
    let trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    client
        .set_irqs(
            VFIO_PCI_MSI_IRQ_INDEX,
            trigger,
            0,
            1,
            &[message.as_raw_fd()],
        )
        .context("Cannot connect the interrupt")?;
    let remote = Remote(Mutex::new(client));
    let identity = remote.read(VFIO_PCI_CONFIG_REGION_INDEX, 0);
    ensure!(identity == IDENTITY, "It is {identity:#x}, no Quadro 6000");
    remote.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, COMMAND_ON);
    let control = remote.read(VFIO_PCI_CONFIG_REGION_INDEX, MSI);
    remote.write(VFIO_PCI_CONFIG_REGION_INDEX, MSI, control | MSI_ENABLE);

    let mut rig = Rig::new(&remote);
    let vram = rig.vram();
    println!("{} MiB of video memory", vram >> 20);
    let places = (0..SAMPLES).map(|n| n * vram / SAMPLES);
    if let Some(dirty) = places.clone().find(|&at| rig.peek(at) != 0) {
        let found = rig.peek(dirty);
        anyhow::bail!("At {dirty:#x} there is {found:#x} of somebody else");
    }
    let wrong = |reason: String| anyhow!(reason);
    rig.set(pmc::INTR_MASK, u32::MAX);
    rig.set(pmc::INTR_EN_HOST, 1);
    rig.recovers().map_err(wrong)?;
    // The runlist was taken over.
    rig.until("An interrupt comes", || has_come(&message))
        .map_err(wrong)?;
    println!("ok channel and message");
    release(&mut rig, &ram)?;
    println!("ok semaphore in own memory");
    copies(&mut rig, &ram)?;
    println!("ok copy to own memory");
    if arguments.mess {
        places
            .filter(|at| *at >= 1 << 20)
            .for_each(|at| rig.poke(at, MESS));
        rig.acquire(VA_RESULT, MESS);
        println!("ok a mess");
    }
    Ok(())
}

/// The channel stores to the client's memory.
fn release(rig: &mut Rig<'_>, ram: &File) -> Result<()> {
    rig.map(VA_TARGET, Pte::new(Aperture::SysCoherent, RELEASED));
    rig.flush();
    rig.release(VA_TARGET, 0x1234_5678);
    rig.until("The store to own memory", || {
        word(ram, RELEASED) == 0x1234_5678
    })
    .map_err(|reason| anyhow!(reason))
}

/// A copy engine brings a page of video memory to the client's memory.
fn copies(rig: &mut Rig<'_>, ram: &File) -> Result<()> {
    let pattern = |at: u64| (at as u32).wrapping_mul(0x9e37_79b9) | 1;
    let places = || (0..u64::from(COPY)).step_by(4);
    places().for_each(|at| rig.poke(RESULT + at, pattern(at)));
    rig.map(VA_COPIED, Pte::new(Aperture::SysCoherent, COPIED));
    rig.map(VA_CONTEXT, Pte::new(Aperture::Vram, CONTEXT));
    rig.flush();
    rig.poke_wide(
        CHANNEL + instance::CE0_CONTEXT,
        VA_CONTEXT | instance::CONTEXT_VALID,
    );
    let increasing = |method, count| Header::encode(Mode::Increasing, SUBCHANNEL, method, count);
    let exec = copy::exec::SRC_LINEAR | copy::exec::DST_LINEAR;
    rig.submit(&[
        increasing(method::OBJECT, 1),
        class::COPY0,
        increasing(copy::SRC_ADDRESS_HIGH as u16, 8),
        0,
        VA_RESULT as u32,
        0,
        VA_COPIED as u32,
        COPY,
        COPY,
        COPY,
        1,
        Header::encode_immediate(SUBCHANNEL, copy::EXEC as u16, exec as u16),
    ]);
    rig.ring();
    let copied = || places().all(|at| word(ram, COPIED + at) == pattern(at));
    rig.until("The copy", copied)
        .map_err(|reason| anyhow!("{reason}; faults {:#x}", rig.get(pfifo::VM_FAULT_SOURCE)))
}

/// The word at `at` of a file.
fn word(file: &File, at: u64) -> u32 {
    let mut word = [0; 4];
    match file.read_exact_at(&mut word, at) {
        Ok(()) => u32::from_le_bytes(word),
        Err(_) => 0,
    }
}

/// Memory that the card can be given.
fn memory() -> Result<File> {
    // SAFETY: the name is a terminated string.
    let file = owned(unsafe { libc::memfd_create(c"ram".as_ptr(), libc::MFD_CLOEXEC) })?;
    file.set_len(RAM)?;
    Ok(file)
}

/// What a message arrives at.
fn event() -> Result<File> {
    // SAFETY: the call has no memory operand.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

fn owned(fd: libc::c_int) -> Result<File> {
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("Cannot have a descriptor");
    }
    // SAFETY: it was just made, and nothing else owns it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn has_come(event: &File) -> bool {
    io::Read::read(&mut &*event, &mut [0; 8]).is_ok()
}
