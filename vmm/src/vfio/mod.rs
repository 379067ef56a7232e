//! A card on the bus that VFIO hands to this process.
//!
//! The function has to be bound to `vfio-pci`, behind an IOMMU: the card reaches what is mapped
//! for it and nothing else.

mod card;
mod memory;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mmio::Bar;
use parking_lot::Mutex;
use thiserror::Error;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE, vfio_iommu_type1_dma_map,
};
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioOps};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::ioctl::ioctl_with_ref;

use crate::pci::{Command, pieces};
use crate::vfio_user::{Function, Protection};
use memory::Mapping;

pub use card::VfioCard;

/// Opens a DMA window: `_IO(VFIO_TYPE, VFIO_BASE + 13)` (`linux/vfio.h`).
const VFIO_IOMMU_MAP_DMA: libc::c_ulong =
    (VFIO_TYPE as libc::c_ulong) << 8 | (VFIO_BASE as libc::c_ulong + 13);

/// Command register of configuration space.
const COMMAND: u64 = 4;

/// Why a card on the bus cannot be had.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such function.
    #[error("There is no PCI function {0}")]
    Absent(String),
    /// VFIO does not hand it out.
    #[error("Cannot get {0} from VFIO: is it bound to vfio-pci, and all of its IOMMU group?")]
    Vfio(String, #[source] VfioError),
    /// A BAR cannot be mapped.
    #[error("Cannot map {0:?}")]
    Map(Bar, #[source] io::Error),
}

/// The address of a PCI function, as in `lspci`: `01:00.0`, or with the domain before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not the address of a PCI function, as in 01:00.0");
        let (domain, rest) = match text.split(':').count() {
            2 => ("0000", text),
            3 => text.split_once(':').ok_or_else(error)?,
            _ => return Err(error()),
        };
        let (bus, rest) = rest.split_once(':').ok_or_else(error)?;
        let (device, function) = rest.split_once('.').ok_or_else(error)?;
        for (digits, len) in [(domain, 4), (bus, 2), (device, 2), (function, 1)] {
            if digits.len() != len || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(error());
            }
        }
        Ok(Self(format!("{domain}:{bus}:{device}.{function}")))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A BAR.
struct Region {
    size: u64,
    /// It, unless only VFIO can access it.
    memory: Option<Mapping>,
}

/// A function of the bus, open.
///
/// The order of the fields is that of their end: a group leaves its container when its last device
/// is closed, which it is not while a BAR is mapped.
pub struct Device {
    regions: Vec<(Bar, Region)>,
    device: VfioDevice,
    container: Arc<VfioContainer>,
    /// What the card may reach, by bus address.
    windows: Mutex<BTreeMap<u64, Mapping>>,
}

impl Device {
    /// Opens the function at `address` and lets it decode its BARs and reach memory.
    ///
    /// # Errors
    ///
    /// It is not there, or VFIO does not hand it out.
    pub fn open(address: &Address) -> Result<Self, Error> {
        let path = PathBuf::from("/sys/bus/pci/devices").join(&address.0);
        if !path.exists() {
            return Err(Error::Absent(address.to_string()));
        }
        let refused = |error| Error::Vfio(address.to_string(), error);
        let container = Arc::new(VfioContainer::new(None).map_err(refused)?);
        let ops: Arc<dyn VfioOps> = container.clone();
        let device = VfioDevice::new(&path, ops, false).map_err(refused)?;
        let mut regions = Vec::new();
        for bar in [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5] {
            let index = bar.index() as u32;
            let size = device.get_region_size(index);
            let mapped = device.get_region_flags(index) & VFIO_REGION_INFO_FLAG_MMAP != 0;
            let memory = (mapped && size != 0)
                .then(|| Mapping::new(&device, device.get_region_offset(index), size, true))
                .transpose()
                .map_err(|error| Error::Map(bar, error))?;
            regions.push((bar, Region { size, memory }));
        }
        let opened = Self {
            regions,
            device,
            container,
            windows: Mutex::default(),
        };
        opened.enable();
        Ok(opened)
    }

    /// Lets the function decode its BARs and be a master of the bus.
    fn enable(&self) {
        let mut command = [0; 2];
        self.config_read(COMMAND, &mut command);
        let on = Command::MEMORY | Command::BUS_MASTER;
        let command = u16::from_le_bytes(command) | on.bits();
        self.config_write(COMMAND, &command.to_le_bytes());
    }

    fn region(&self, bar: Bar) -> Option<&Region> {
        let (_, region) = self.regions.iter().find(|(of, _)| *of == bar)?;
        Some(region)
    }

    /// Where the whole of a BAR is in this process, if it can be accessed there.
    fn bar(&self, bar: Bar) -> Option<&Mapping> {
        self.region(bar)?.memory.as_ref()
    }

    /// The BAR that has all of the `len` bytes at `offset`.
    fn holder(&self, bar: Bar, offset: u64, len: usize) -> Option<&Region> {
        let region = self.region(bar)?;
        let end = offset.checked_add(len as u64)?;
        (end <= region.size).then_some(region)
    }

    /// Wires the card's message to `event`.
    ///
    /// # Errors
    ///
    /// The function has no such interrupt.
    pub fn enable_message(&self, event: &EventFd) -> io::Result<()> {
        self.device
            .enable_msi(vec![event])
            .map_err(io::Error::other)
    }
}

/// A guest may have the card as its own: accesses of its BARs need not pass through this process,
/// and neither does its message.
impl Function for Device {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.region(bar).map_or(0, |region| region.size)
    }

    fn bar_memory(&self, bar: Bar) -> Option<u64> {
        Some(self.bar(bar)?.address())
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        self.device
            .region_read(VFIO_PCI_CONFIG_REGION_INDEX, data, offset);
    }

    fn config_write(&self, offset: u64, data: &[u8]) {
        self.device
            .region_write(VFIO_PCI_CONFIG_REGION_INDEX, data, offset);
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        data.fill(0xff);
        match self.holder(bar, offset, data.len()) {
            None => {}
            Some(Region {
                memory: Some(memory),
                ..
            }) => memory.read(offset, data),
            Some(_) => {
                for (at, width) in pieces(offset, data.len()) {
                    let part = &mut data[at..at + width.bytes()];
                    let place = offset + at as u64;
                    self.device.region_read(bar.index() as u32, part, place);
                }
            }
        }
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        match self.holder(bar, offset, data.len()) {
            None => {}
            Some(Region {
                memory: Some(memory),
                ..
            }) => memory.write(offset, data),
            Some(_) => {
                for (at, width) in pieces(offset, data.len()) {
                    let part = &data[at..at + width.bytes()];
                    let place = offset + at as u64;
                    self.device.region_write(bar.index() as u32, part, place);
                }
            }
        }
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        let memory = Mapping::new(&file, offset, size, protection.write)?;
        let mut flags = VFIO_DMA_MAP_FLAG_READ;
        if protection.write {
            flags |= VFIO_DMA_MAP_FLAG_WRITE;
        }
        let map = vfio_iommu_type1_dma_map {
            argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
            flags,
            vaddr: memory.address(),
            iova,
            size,
        };
        let mut windows = self.windows.lock();
        // SAFETY: `map` describes a mapping of ours, which stays until `dma_unmap` has taken it away
        // from the card.
        if unsafe { ioctl_with_ref(&*self.container, VFIO_IOMMU_MAP_DMA, &map) } < 0 {
            return Err(io::Error::last_os_error());
        }
        windows.insert(iova, memory);
        Ok(())
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        let end = iova.saturating_add(size);
        let mut windows = self.windows.lock();
        let gone: Vec<(u64, u64)> = windows
            .range(iova..end)
            .map(|(&start, memory)| (start, memory.len()))
            .filter(|(start, len)| start + len <= end)
            .collect();
        for (start, len) in gone {
            match self.container.vfio_dma_unmap(start, len as usize) {
                Ok(()) => drop(windows.remove(&start)),
                // The memory stays, as the card may reach it.
                Err(error) => tracing::warn!(%error, "a DMA window stays"),
            }
        }
    }

    fn dma_clear(&self) {
        self.dma_unmap(0, u64::MAX);
    }

    /// If the bus has a way to.
    fn reset(&self) {
        self.device.reset();
        self.enable();
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.dma_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_may_leave_the_domain_out() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.0);

        assert_eq!(parse("01:00.0").as_deref(), Ok("0000:01:00.0"));
        assert_eq!(parse("0001:0a:1f.7").as_deref(), Ok("0001:0a:1f.7"));
        for text in [
            "",
            "01:00",
            "1:0.0",
            "../../etc",
            "01:00.0:00",
            "0000:01:zz.0",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn absent_function_is_named() {
        let address: Address = "ffff:ff:1f.7".parse().unwrap();

        let error = Device::open(&address).err().unwrap();

        assert_eq!(error.to_string(), "There is no PCI function ffff:ff:1f.7");
    }
}
