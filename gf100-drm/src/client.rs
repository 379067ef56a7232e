//! An open file of the node: an address space, buffers, channels and what nouveau lets a program
//! do with them.
//!
//! Source: K61 `include/uapi/drm/nouveau_drm.h`, `nouveau_gem.c`, `nouveau_abi16.c`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use guest::methods::class;
use guest::uapi;
use mmio::regs::pmc;
use parking_lot::Mutex;

use crate::buffer::{Buffer, Layout};
use crate::channel::{Channel, Segment};
use crate::device::Device;
use crate::error::Error;
use crate::memory::{AddressSpace, Block};

/// Classes that a channel can have objects of.
const CLASSES: [u32; 7] = [
    class::TWOD,
    class::M2MF,
    class::THREED,
    class::COMPUTE,
    class::COPY0 & CLASS,
    class::COPY1 & CLASS,
    class::SOFTWARE & CLASS,
];
/// The class alone, without the engine that executes it.
const CLASS: u32 = 0xffff;
/// Buffers larger than this are aligned so that large pages can serve them.
const LARGE: u64 = 1 << 17;
/// How nouveau names the chipset.
const NAME: &str = "NVC0";

/// An open file of the node.
pub struct Client {
    device: Arc<Device>,
    space: Arc<AddressSpace>,
    buffers: Mutex<BTreeMap<u32, Arc<Buffer>>>,
    channels: Mutex<HashMap<u32, Arc<Channel>>>,
}

impl Client {
    /// A new one.
    ///
    /// # Errors
    ///
    /// Video memory is full.
    pub fn new(device: &Arc<Device>) -> Result<Self, Error> {
        Ok(Self {
            device: device.clone(),
            space: AddressSpace::new(device)?,
            buffers: Mutex::default(),
            channels: Mutex::default(),
        })
    }

    /// `GETPARAM`.
    ///
    /// # Errors
    ///
    /// There is no such parameter.
    pub fn parameter(&self, parameter: u64) -> Result<u64, Error> {
        Ok(match parameter {
            uapi::GETPARAM_PCI_VENDOR => crate::tree::VENDOR.into(),
            uapi::GETPARAM_PCI_DEVICE => crate::tree::DEVICE.into(),
            // PCIe.
            uapi::GETPARAM_BUS_TYPE => 2,
            uapi::GETPARAM_FB_SIZE => self.device.vram.size(),
            uapi::GETPARAM_AGP_SIZE => self.device.gart.size(),
            uapi::GETPARAM_CHIPSET_ID => self.chipset().into(),
            uapi::GETPARAM_GRAPH_UNITS => self.device.graph_units(),
            uapi::GETPARAM_PTIMER_TIME => self.device.time(),
            uapi::GETPARAM_HAS_BO_USAGE => 1,
            _ => return Err(Error::Invalid),
        })
    }

    fn chipset(&self) -> u16 {
        (self.device.read(pmc::BOOT_0, 0) >> 20 & 0x1ff) as u16
    }

    /// What `NVIF` says of the device.
    pub fn info(&self) -> uapi::nvif::DeviceInfo {
        let text =
            |bytes: &mut [u8], text: &str| bytes[..text.len()].copy_from_slice(text.as_bytes());
        let mut info = uapi::nvif::DeviceInfo {
            version: 0,
            platform: uapi::nvif::NV_DEVICE_INFO_V0_PCIE,
            chipset: self.chipset(),
            revision: self.device.read(pmc::BOOT_0, 0) as u8,
            family: uapi::nvif::NV_DEVICE_INFO_V0_FERMI,
            pad06: [0; 2],
            ram_size: self.device.card().memory().vram().size(),
            ram_user: self.device.vram.size(),
            chip: [0; 16],
            name: [0; 64],
        };
        text(&mut info.chip, "GF100");
        text(&mut info.name, NAME);
        info
    }

    /// Classes that a channel can have objects of, if there is that channel.
    ///
    /// # Errors
    ///
    /// There is not.
    pub fn classes(&self, chid: u64) -> Result<&'static [u32], Error> {
        self.channel_of_token(chid).map(|_| &CLASSES[..])
    }

    /// Makes an object of a channel. On this card that is no more than a check: binding a class
    /// to a subchannel is a method.
    ///
    /// # Errors
    ///
    /// There is no such channel or class.
    pub fn new_object(&self, chid: u64, class: u32) -> Result<(), Error> {
        self.channel_of_token(chid)?;
        match CLASSES.contains(&(class & CLASS)) {
            true => Ok(()),
            false => Err(Error::Invalid),
        }
    }

    fn channel_of_token(&self, token: u64) -> Result<Arc<Channel>, Error> {
        self.channel(u32::try_from(token).map_err(|_| Error::Invalid)?)
    }

    fn channel(&self, chid: u32) -> Result<Arc<Channel>, Error> {
        self.channels
            .lock()
            .get(&chid)
            .cloned()
            .ok_or(Error::Invalid)
    }

    /// `CHANNEL_ALLOC`.
    ///
    /// # Errors
    ///
    /// Channels or memory have run out.
    pub fn new_channel(&self, request: &mut uapi::ChannelAlloc) -> Result<(), Error> {
        let channel = self
            .device
            .add_channel(|chid| Channel::new(&self.device, &self.space, chid).map(Arc::new))?;
        request.channel = channel.chid() as i32;
        request.pushbuf_domains = uapi::GEM_DOMAIN_VRAM | uapi::GEM_DOMAIN_GART;
        request.nr_subchan = 0;
        self.channels.lock().insert(channel.chid(), channel);
        let notifier = uapi::GemInfo {
            domain: uapi::GEM_DOMAIN_GART,
            size: 0x1000,
            ..Default::default()
        };
        request.notifier_handle = self.new_buffer(&notifier, 0)?.handle;
        Ok(())
    }

    /// `CHANNEL_FREE`.
    ///
    /// # Errors
    ///
    /// There is no such channel.
    pub fn free_channel(&self, chid: i32) -> Result<(), Error> {
        let channel = self.channels.lock().remove(&(chid as u32));
        channel.ok_or(Error::Invalid)?.close();
        Ok(())
    }

    /// `GEM_NEW`.
    ///
    /// # Errors
    ///
    /// A size or an alignment that makes no sense; memory has run out.
    pub fn new_buffer(&self, wanted: &uapi::GemInfo, align: u32) -> Result<uapi::GemInfo, Error> {
        let align = match align {
            0 => 1,
            align if align.is_power_of_two() => u64::from(align),
            align => u64::from(align).next_power_of_two(),
        };
        if wanted.size == 0 {
            return Err(Error::Invalid);
        }
        let domains = match wanted.domain & (uapi::GEM_DOMAIN_VRAM | uapi::GEM_DOMAIN_GART) {
            0 => uapi::GEM_DOMAIN_VRAM | uapi::GEM_DOMAIN_GART,
            domains => domains,
        };
        let block = self.take(domains, wanted.size, align)?;
        let layout = Layout {
            tile_mode: wanted.tile_mode,
            tile_flags: wanted.tile_flags,
        };
        let mapped = self.space.map(Arc::new(block), layout.kind(), align)?;
        Ok(self.add(Arc::new(Buffer::new(mapped, layout))))
    }

    /// Memory in the first of the domains that has room; what wants video memory may get the other
    /// instead, as with nouveau.
    fn take(&self, domains: u32, size: u64, align: u64) -> Result<Block, Error> {
        if domains & uapi::GEM_DOMAIN_VRAM != 0 {
            let (size, align) = match size >= LARGE {
                true => (size.checked_next_multiple_of(LARGE), align.max(LARGE)),
                false => (Some(size), align),
            };
            let block = size.and_then(|size| self.device.vram.take(size, align));
            if let Some(block) = block {
                return Ok(block);
            }
        }
        self.device.gart.take(size, align).ok_or(Error::NoMemory)
    }

    /// Gives a buffer the lowest handle that is free.
    fn add(&self, buffer: Arc<Buffer>) -> uapi::GemInfo {
        let mut buffers = self.buffers.lock();
        let handle = (1..)
            .zip(buffers.keys())
            .find(|(free, used)| free != *used)
            .map_or(buffers.len() as u32 + 1, |(free, _)| free);
        let info = buffer.info(handle);
        buffers.insert(handle, buffer);
        info
    }

    /// The buffer with a handle.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn buffer(&self, handle: u32) -> Result<Arc<Buffer>, Error> {
        self.buffers
            .lock()
            .get(&handle)
            .cloned()
            .ok_or(Error::NoEntry)
    }

    /// The buffer that an offset for `mmap` names.
    pub fn buffer_to_map(&self, offset: u64) -> Option<Arc<Buffer>> {
        let buffers = self.buffers.lock();
        buffers
            .values()
            .find(|buffer| buffer.va() == offset)
            .cloned()
    }

    /// `GEM_CLOSE`.
    ///
    /// # Errors
    ///
    /// There is no such buffer.
    pub fn close_buffer(&self, handle: u32) -> Result<(), Error> {
        let buffer = self.buffers.lock().remove(&handle);
        buffer.map(drop).ok_or(Error::Invalid)
    }

    /// Takes in memory that another file of the node, or this one, has given out.
    ///
    /// # Errors
    ///
    /// Addresses or memory for tables have run out.
    pub fn import(&self, block: &Arc<Block>, layout: Layout) -> Result<u32, Error> {
        let same = |(_, buffer): &(&u32, &Arc<Buffer>)| Arc::ptr_eq(buffer.block(), block);
        let known = self
            .buffers
            .lock()
            .iter()
            .find(same)
            .map(|(&handle, _)| handle);
        if let Some(handle) = known {
            return Ok(handle);
        }
        let mapped = self.space.map(block.clone(), layout.kind(), 1)?;
        Ok(self.add(Arc::new(Buffer::new(mapped, layout))).handle)
    }

    /// `GEM_PUSHBUF`, with what its pointers lead to.
    ///
    /// # Errors
    ///
    /// No such channel, a dead channel, or segments and buffers that make no sense.
    pub fn submit(
        &self,
        request: &mut uapi::GemPushbuf,
        buffers: &[uapi::PushbufBo],
        pushes: &[uapi::PushbufPush],
    ) -> Result<(), Error> {
        let channel = self.channel(request.channel)?;
        if !channel.is_alive() {
            return Err(Error::Dead);
        }
        let used = buffers
            .iter()
            .map(|used| self.buffer(used.handle))
            .collect::<Result<Vec<_>, _>>()?;
        let segments = pushes
            .iter()
            .map(|push| segment(push, &used))
            .collect::<Result<Vec<_>, _>>()?;
        if !segments.is_empty() {
            let sequence = channel.submit(&segments, used.clone())?;
            for (buffer, request) in used.iter().zip(buffers) {
                buffer.used_by(&channel, sequence, request.write_domains != 0);
            }
            if request.vram_available & uapi::GEM_PUSHBUF_SYNC != 0 {
                channel.wait(sequence)?;
            }
        }
        request.vram_available = self.device.vram.available();
        request.gart_available = self.device.gart.available();
        Ok(())
    }

    /// A channel of it has work.
    pub fn is_busy(&self) -> bool {
        self.channels
            .lock()
            .values()
            .any(|channel| channel.is_busy())
    }

    /// Why one of its channels was killed, if one was.
    pub fn cause_of_death(&self) -> Option<String> {
        let channels = self.channels.lock();
        let cause = channels
            .values()
            .find_map(|channel| channel.cause_of_death());
        cause.map(str::to_owned)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for (_, channel) in self.channels.get_mut().drain() {
            channel.close();
        }
    }
}

/// Where a segment of a submission is.
fn segment(push: &uapi::PushbufPush, used: &[Arc<Buffer>]) -> Result<Segment, Error> {
    let buffer = used.get(push.bo_index as usize).ok_or(Error::Invalid)?;
    let length = push.length & !uapi::GEM_PUSHBUF_NO_PREFETCH;
    let end = push.offset.checked_add(length);
    if end.is_none_or(|end| end > buffer.block().size()) {
        return Err(Error::Invalid);
    }
    Ok(Segment {
        address: buffer.va() + push.offset,
        length,
        no_prefetch: push.length & uapi::GEM_PUSHBUF_NO_PREFETCH != 0,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mmio::layout::pushbuffer::{Header, Mode, Semaphore, method};

    use super::*;
    use crate::settings::Settings;

    fn client() -> Client {
        let settings = Settings {
            vram: 64 << 20,
            timeout: Some(Duration::from_secs(60)),
            engine: None,
        };
        Client::new(&Device::new(settings).unwrap()).unwrap()
    }

    fn channel(client: &Client) -> u32 {
        let mut request = uapi::ChannelAlloc::default();
        client.new_channel(&mut request).unwrap();
        request.channel as u32
    }

    fn buffer(client: &Client, domain: u32) -> (u32, Arc<Buffer>) {
        let wanted = uapi::GemInfo {
            domain,
            size: 0x2000,
            ..Default::default()
        };
        let info = client.new_buffer(&wanted, 0).unwrap();
        (info.handle, client.buffer(info.handle).unwrap())
    }

    /// Submits words that a buffer holds from its start on.
    fn run(client: &Client, chid: u32, words: &[u32], at: (u32, &Buffer)) -> Result<(), Error> {
        for (offset, &word) in (0..).step_by(4).zip(words) {
            at.1.block().store(offset, word);
        }
        let mut request = uapi::GemPushbuf {
            channel: chid,
            ..Default::default()
        };
        let used = uapi::PushbufBo {
            handle: at.0,
            write_domains: uapi::GEM_DOMAIN_GART,
            ..Default::default()
        };
        let push = uapi::PushbufPush {
            length: words.len() as u64 * 4,
            ..Default::default()
        };
        client.submit(&mut request, &[used], &[push])?;
        at.1.prepare(true, false)
    }

    /// A semaphore release.
    fn release(va: u64, value: u32) -> Vec<u32> {
        let trigger = (Semaphore::RELEASE | Semaphore::RELEASE_SHORT).bits();
        vec![
            Header::encode(Mode::Increasing, 0, method::SEMAPHORE_ADDRESS_HIGH, 4),
            (va >> 32) as u32,
            va as u32,
            value,
            trigger,
        ]
    }

    #[test]
    fn commands_reach_both_memories_and_software_methods_are_skipped() {
        let client = client();
        let chid = channel(&client);
        for domain in [uapi::GEM_DOMAIN_VRAM, uapi::GEM_DOMAIN_GART] {
            let (handle, buffer) = buffer(&client, domain);
            let mut words = vec![
                Header::encode(Mode::Increasing, 7, method::OBJECT, 1),
                class::SOFTWARE,
            ];
            words.extend(release(buffer.va() + 0x1000, 0x1234));
            run(&client, chid, &words, (handle, &buffer)).unwrap();
            assert_eq!(buffer.block().load(0x1000), 0x1234);
            client.close_buffer(handle).unwrap();
        }
        client.free_channel(chid as i32).unwrap();
    }

    #[test]
    fn a_fault_kills_its_channel_and_the_next_one_works() {
        let client = client();
        let (handle, buffer) = buffer(&client, uapi::GEM_DOMAIN_GART);
        for bad in [release(0x10, 1), vec![0xc000_0000]] {
            let chid = channel(&client);
            let result = run(&client, chid, &bad, (handle, &buffer));
            assert_eq!(result, Err(Error::Dead));
            let result = run(&client, chid, &release(buffer.va(), 1), (handle, &buffer));
            assert_eq!(result, Err(Error::Dead));
            assert!(client.cause_of_death().is_some());
            client.free_channel(chid as i32).unwrap();
            let next = channel(&client);
            let good = release(buffer.va() + 0x1000, 7);
            run(&client, next, &good, (handle, &buffer)).unwrap();
            assert_eq!(buffer.block().load(0x1000), 7);
            client.free_channel(next as i32).unwrap();
        }
    }

    #[test]
    fn handles_are_the_lowest_that_are_free() {
        let client = client();
        let handles: Vec<u32> = (0..3)
            .map(|_| buffer(&client, uapi::GEM_DOMAIN_GART).0)
            .collect();
        assert_eq!(handles, [1, 2, 3]);
        client.close_buffer(2).unwrap();
        assert_eq!(client.close_buffer(2), Err(Error::Invalid));
        assert_eq!(buffer(&client, uapi::GEM_DOMAIN_VRAM).0, 2);
    }
}
