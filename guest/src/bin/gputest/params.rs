//! What the driver says about the card.

use anyhow::{Context as _, Result, ensure};
use guest::methods::class;
use guest::{Buffer, Channel, Domain, Param, bar};

use crate::case::{Case, Context, skip};

pub const CASES: &[Case] = &[
    Case {
        name: "identity",
        about: "vendor, device, bus and chipset agree with PCI",
        seconds: 20,
        run: identity,
    },
    Case {
        name: "memory-sizes",
        about: "VRAM and GART sizes are plausible",
        seconds: 20,
        run: memory_sizes,
    },
    Case {
        name: "vram-used",
        about: "the kernel's count of VRAM follows an allocation",
        seconds: 20,
        run: vram_used,
    },
    Case {
        name: "clock",
        about: "the card's clock advances",
        seconds: 20,
        run: clock,
    },
    Case {
        name: "graph-units",
        about: "PGRAPH reports its GPCs and TPCs",
        seconds: 30,
        run: graph_units,
    },
    Case {
        name: "large-pages",
        about: "large pages have the size that the driver was told, or 128 KiB",
        seconds: 20,
        run: large_pages,
    },
    Case {
        name: "unknown-parameter",
        about: "a parameter that does not exist is refused",
        seconds: 20,
        run: unknown_parameter,
    },
];

/// Chipset number of GF100 in its boot register.
const GF100: u64 = 0xc0;
const NVIDIA: u64 = 0x10de;
/// What the driver was told, and the part of it that asks for large pages of 64 KiB.
const CONFIG: &str = "/sys/module/nouveau/parameters/config";
const BIG_PAGE_64K: &str = "NvFbBigPage=16";
/// A number that no kernel uses.
const NO_PARAMETER: u64 = 0x7fff;

fn identity(context: &Context) -> Result<()> {
    let device = context.open()?;
    ensure!(
        device.version().0 == 1,
        "interface version {:?}",
        device.version()
    );
    let vendor = device.param(Param::PciVendor)?;
    ensure!(vendor == NVIDIA, "vendor {vendor:#x}");
    let chipset = device.param(Param::Chipset)?;
    ensure!(chipset == GF100, "chipset {chipset:#x}");
    let bus = device.param(Param::BusType)?;
    ensure!(bus == 1 || bus == 2, "bus type {bus}");
    ensure!(device.param(Param::HasBoUsage)? == 1, "no buffer usage");
    if let Ok(sysfs) = device.sysfs() {
        let text = std::fs::read_to_string(sysfs.join("device"))
            .with_context(|| format!("Cannot read {}", sysfs.display()))?;
        let id = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)?;
        let reported = device.param(Param::PciDevice)?;
        ensure!(id == reported, "device {reported:#x}, PCI says {id:#x}");
    }
    Ok(())
}

fn memory_sizes(context: &Context) -> Result<()> {
    let device = context.open()?;
    let vram = device.param(Param::VramSize)?;
    ensure!((16 << 20..=8 << 30).contains(&vram), "{vram} bytes of VRAM");
    let gart = device.param(Param::GartSize)?;
    ensure!(gart >= 16 << 20, "{gart} bytes of GART");
    match device.param(Param::VramBarSize) {
        Ok(bar) => ensure!(
            bar.is_power_of_two() && bar >= 1 << 20,
            "{bar} bytes of BAR1"
        ),
        Err(error) => ensure!(error.errno() == Some(libc::EINVAL), "{error}"),
    }
    Ok(())
}

fn vram_used(context: &Context) -> Result<()> {
    const BYTES: u64 = 16 << 20;
    let device = context.open()?;
    let before = match device.param(Param::VramUsed) {
        Err(error) if error.errno() == Some(libc::EINVAL) => {
            return Err(skip("The kernel does not tell"));
        }
        used => used?,
    };
    let buffer = Buffer::new(&device, Domain::Vram, BYTES)?;
    let during = device.param(Param::VramUsed)?;
    ensure!(
        during >= before + BYTES,
        "{before} bytes, then {during} bytes"
    );
    drop(buffer);
    Ok(())
}

fn clock(context: &Context) -> Result<()> {
    let device = context.open()?;
    let mut last = device.param(Param::PtimerTime)?;
    for _ in 0..10 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let now = device.param(Param::PtimerTime)?;
        ensure!(now > last, "{now} ns after {last} ns");
        last = now;
    }
    Ok(())
}

fn graph_units(context: &Context) -> Result<()> {
    let device = context.open()?;
    let channel = Channel::new(&device)?;
    // The driver counts the units when the first object wakes PGRAPH.
    channel.object(class::THREED)?;
    let units = device.param(Param::GraphUnits)?;
    let (gpcs, tpcs) = (units & 0xff, units >> 8 & 0xffff);
    ensure!((1..=4).contains(&gpcs), "{gpcs} GPCs");
    ensure!((gpcs..=16).contains(&tpcs), "{tpcs} TPCs in {gpcs} GPCs");
    Ok(())
}

fn large_pages(context: &Context) -> Result<()> {
    let device = context.open()?;
    let (Ok(config), Ok(_)) = (std::fs::read_to_string(CONFIG), device.sysfs()) else {
        return Err(skip("There is no driver in this kernel"));
    };
    let told = match config.contains(BIG_PAGE_64K) {
        true => 64 << 10,
        false => 128 << 10,
    };
    let found = bar::large_page(&device)?;
    ensure!(found == told, "{found} bytes, not {told}");
    Ok(())
}

fn unknown_parameter(context: &Context) -> Result<()> {
    match context.open()?.raw_param(NO_PARAMETER) {
        Err(error) if error.errno() == Some(libc::EINVAL) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(value) => anyhow::bail!("parameter {NO_PARAMETER:#x} is {value:#x}"),
    }
}
