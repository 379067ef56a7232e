//! A hostile guest: attacks the share of a card that it has, by way of the BARs that the kernel
//! exports to root. No driver may be bound to the card.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use guest::aperture::Aperture;
use guest::hostile::{CASES, Device, Rig};
use mmio::Bar;

/// The card's vendor and device.
const IDENTITY: [(&str, &str); 2] = [("vendor", "0x10de"), ("device", "0x06d8")];
/// The command register of configuration space, and its bits for memory and mastering.
const COMMAND: u64 = 4;
const COMMAND_ON: u16 = 6;

/// Attacks the card.
#[derive(Parser)]
struct Arguments {
    /// The attacks; all without a name.
    names: Vec<String>,
    /// Lists the attacks.
    #[arg(long)]
    list: bool,
}

/// The BARs of the card.
struct Card([Aperture; 3]);

impl Card {
    fn open(path: &Path) -> Result<Self> {
        let open = |index: u32| Aperture::open(&path.join(format!("resource{index}")));
        Ok(Self([open(0)?, open(1)?, open(3)?]))
    }

    fn bar(&self, bar: Bar) -> &Aperture {
        match bar {
            Bar::Bar1 => &self.0[1],
            Bar::Bar3 => &self.0[2],
            Bar::Bar0 | Bar::Bar5 => &self.0[0],
        }
    }
}

impl Device for Card {
    fn load(&self, bar: Bar, offset: u64) -> u32 {
        let bar = self.bar(bar);
        match offset + 4 <= bar.bytes() {
            true => bar.read(offset),
            // What a bus would say.
            false => u32::MAX,
        }
    }

    fn store(&self, bar: Bar, offset: u64, value: u32) {
        let bar = self.bar(bar);
        if offset + 4 <= bar.bytes() {
            bar.write(offset, value);
        }
    }
}

/// The card in sysfs.
fn find() -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/bus/pci/devices").context("Cannot list PCI devices")? {
        let path = entry?.path();
        let is = |(file, value): (&str, &str)| {
            fs::read_to_string(path.join(file)).is_ok_and(|text| text.trim() == value)
        };
        if IDENTITY.into_iter().all(is) {
            return Ok(path);
        }
    }
    bail!("There is no card")
}

/// Lets the card answer and reach memory, as a driver would.
fn enable(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;

    fs::write(path.join("enable"), "1").context("Cannot enable the card")?;
    let config = path.join("config");
    let file = fs::File::options().read(true).write(true).open(&config)?;
    let mut command = [0; 2];
    file.read_exact_at(&mut command, COMMAND)?;
    let on = u16::from_le_bytes(command) | COMMAND_ON;
    file.write_all_at(&on.to_le_bytes(), COMMAND)?;
    Ok(())
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    let wanted =
        |name: &str| arguments.names.is_empty() || arguments.names.iter().any(|n| n == name);
    if let Some(unknown) = arguments
        .names
        .iter()
        .find(|name| !CASES.iter().any(|case| case.name == **name))
    {
        bail!("There is no attack {unknown:?}");
    }
    let path = find()?;
    enable(&path)?;
    let card = Card::open(&path)?;
    let mut failed = 0;
    let mut passed = 0;
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        match (case.run)(&mut Rig::new(&card)) {
            Ok(()) => {
                passed += 1;
                println!("ok {}", case.name);
            }
            Err(reason) => {
                failed += 1;
                println!("FAIL {}: {reason}", case.name);
            }
        }
    }
    println!("hostile: {passed} passed, {failed} failed");
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
