//! What `run` boots: the options of one guest, and files with those of several.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use gpu_model::BarSizes;
use serde::Deserialize;

use crate::boot::BootSource;
use crate::memory::Pages;
use crate::size::Size;
use crate::virtio::DiskOptions;

/// Most virtual CPUs of a guest.
const MOST_CPUS: u8 = 64;

/// Options of a guest. Where a file describes it, they hold for what the file leaves out.
#[derive(Clone, Debug, clap::Args)]
pub struct GuestOptions {
    /// The kernel: a bzImage, or an ELF file with a PVH entry point.
    #[arg(long, value_name = "FILE", required_unless_present = "vm")]
    kernel: Option<PathBuf>,

    /// The initial RAM disk.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// The kernel's command line.
    #[arg(long, default_value = "console=ttyS0")]
    cmdline: String,

    /// RAM, with K, M or G behind the number.
    #[arg(long, value_name = "SIZE", default_value = "1G")]
    memory: Size,

    /// Take the RAM from the host's pool of huge pages.
    #[arg(long)]
    hugepages: bool,

    /// Number of virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_CPUS)))]
    cpus: u8,

    /// A raw disk image; may be given several times.
    #[arg(long, value_name = "FILE[,ro]")]
    disk: Vec<DiskOptions>,
}

/// A guest in a file. Relative paths are relative to the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuestFile {
    name: Option<String>,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    cmdline: Option<String>,
    memory: Option<String>,
    hugepages: Option<bool>,
    cpus: Option<u8>,
    disk: Option<Vec<String>>,
    bar1: Option<String>,
    bar3: Option<String>,
    console: Option<PathBuf>,
}

/// A guest, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// What it is called.
    pub name: String,
    /// What it boots.
    pub boot: BootSource,
    /// Its RAM.
    pub memory: Size,
    /// What the host makes it of.
    pub pages: Pages,
    /// Number of virtual CPUs.
    pub cpus: u8,
    /// Its disks.
    pub disks: Vec<DiskOptions>,
    /// What the BARs of its virtual GPU show, where that is its own.
    pub bars: BarSizes,
    /// The file for its console, if it has one.
    pub console: Option<PathBuf>,
}

impl GuestOptions {
    /// The guest called `name` that only the options describe.
    pub fn guest(&self, name: String) -> anyhow::Result<Guest> {
        let Some(kernel) = self.kernel.clone() else {
            bail!("{name} has no kernel");
        };
        Ok(Guest {
            name,
            boot: BootSource {
                kernel,
                initrd: self.initrd.clone(),
                cmdline: self.cmdline.clone(),
            },
            memory: self.memory,
            pages: match self.hugepages {
                true => Pages::Huge,
                false => Pages::Small,
            },
            cpus: self.cpus,
            disks: self.disk.clone(),
            bars: BarSizes::default(),
            console: None,
        })
    }

    /// The guest in `file`, called `name` unless the file says otherwise.
    pub fn guest_in(&self, file: &Path, name: String) -> anyhow::Result<Guest> {
        let read = || -> anyhow::Result<Guest> {
            let text = std::fs::read_to_string(file)?;
            let place = file.parent().unwrap_or(Path::new(""));
            self.described(toml::from_str(&text)?, place, name)
        };
        read().with_context(|| format!("Cannot make a guest of {}", file.display()))
    }

    fn described(&self, file: GuestFile, place: &Path, name: String) -> anyhow::Result<Guest> {
        let mut options = self.clone();
        options.kernel = file.kernel.map(|path| place.join(path)).or(options.kernel);
        options.initrd = file.initrd.map(|path| place.join(path)).or(options.initrd);
        if let Some(cmdline) = file.cmdline {
            options.cmdline = cmdline;
        }
        if let Some(memory) = file.memory {
            options.memory = Size::from_str(&memory)?;
        }
        options.hugepages = file.hugepages.unwrap_or(options.hugepages);
        if let Some(cpus) = file.cpus {
            if !(1..=MOST_CPUS).contains(&cpus) {
                bail!("{cpus} virtual CPUs: 1 to {MOST_CPUS} are possible");
            }
            options.cpus = cpus;
        }
        if let Some(disks) = file.disk {
            options.disk = disks
                .iter()
                .map(|disk| {
                    let mut disk = DiskOptions::from_str(disk)?;
                    disk.path = place.join(disk.path);
                    Ok(disk)
                })
                .collect::<anyhow::Result<_>>()?;
        }
        let mut guest = options.guest(file.name.unwrap_or(name))?;
        let size = |text: &str| Size::from_str(text).map(Size::bytes);
        guest.bars = BarSizes {
            bar1: file.bar1.as_deref().map(size).transpose()?,
            bar3: file.bar3.as_deref().map(size).transpose()?,
        };
        guest.console = file.console.map(|path| place.join(path));
        Ok(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> GuestOptions {
        GuestOptions {
            kernel: Some("vmlinuz".into()),
            initrd: None,
            cmdline: "quiet".into(),
            memory: Size::new(1 << 30),
            hugepages: false,
            cpus: 2,
            disk: Vec::new(),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Guest> {
        options().described(toml::from_str(text)?, Path::new("/guests"), "vm0".into())
    }

    #[test]
    fn what_a_file_leaves_out_is_the_command_lines() {
        let guest = parse(
            "name = \"web\"\nhugepages = true\ninitrd = \"a.cpio\"\nmemory = \"512M\"\ndisk = [\"root.img,ro\"]\nbar1 = \"32M\"\n",
        )
        .unwrap();

        assert_eq!((&guest.name[..], guest.cpus), ("web", 2));
        assert_eq!(guest.boot.kernel, Path::new("vmlinuz"));
        assert_eq!(
            guest.boot.initrd.as_deref(),
            Some(Path::new("/guests/a.cpio"))
        );
        assert_eq!(guest.memory, Size::new(512 << 20));
        assert_eq!(guest.pages, Pages::Huge);
        assert_eq!(guest.disks[0].path, Path::new("/guests/root.img"));
        assert!(guest.disks[0].read_only);
        assert_eq!((guest.bars.bar1, guest.bars.bar3), (Some(32 << 20), None));
    }

    #[test]
    fn wrong_files_are_refused() {
        for text in [
            "memori = \"1G\"",
            "memory = \"much\"",
            "bar3 = \"-4M\"",
            "cpus = 0",
            "disk = [\"a,rw\"]",
            "cpus = \"two\"",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
