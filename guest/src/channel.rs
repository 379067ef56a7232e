//! Channels: creation, engine objects, submission.

use std::sync::Arc;
use std::time::Duration;

use crate::{Buffer, Device, Domain, Error, Push, Result, Semaphore, uapi};

/// Size of a channel's command buffer in bytes.
const COMMAND_BYTES: u64 = 256 << 10;
/// The end of the command buffer, kept for [`Channel::retire`]: two words that the host skips.
const IDLE_BYTES: u64 = 8;
/// Slot of the channel's own semaphore that [`Channel::run`] uses.
const FENCE_SLOT: u64 = 0;

/// What a submission does with a buffer; the kernel orders channels by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
    /// Both.
    ReadWrite,
}

impl Access {
    fn reads(self) -> bool {
        self != Access::Write
    }

    fn writes(self) -> bool {
        self != Access::Read
    }
}

/// An engine object of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    handle: u32,
}

/// A channel in the address space of its device file. Dropping it waits for its work.
#[derive(Debug)]
pub struct Channel {
    // Fields are dropped after the channel itself is freed, buffers before their device.
    commands: Buffer,
    fence: Semaphore,
    notifier: Option<Buffer>,
    device: Arc<Device>,
    id: i32,
    cursor: u64,
    sequence: u32,
}

impl Channel {
    /// Creates a channel.
    pub fn new(device: &Arc<Device>) -> Result<Channel> {
        let commands = Buffer::new(device, Domain::Gart, COMMAND_BYTES)?;
        for offset in (COMMAND_BYTES - IDLE_BYTES..COMMAND_BYTES).step_by(4) {
            commands.write(offset, 0)?;
        }
        let fence = Semaphore::new(device)?;
        let mut request = uapi::ChannelAlloc::default();
        device.request(uapi::CHANNEL_ALLOC, &mut request, "CHANNEL_ALLOC")?;
        let mut channel = Channel {
            commands,
            fence,
            notifier: None,
            device: device.clone(),
            id: request.channel,
            cursor: 0,
            sequence: 0,
        };
        channel.notifier = Some(Buffer::from_handle(device, request.notifier_handle)?);
        Ok(channel)
    }

    /// The channel's number. On Fermi it is the hardware's channel id too.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The device that the channel belongs to.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Creates an engine object; `class` is one of [`crate::methods::class`].
    ///
    /// # Errors
    /// The kernel's refusal of a class that the channel cannot have.
    pub fn object(&self, class: u32) -> Result<Object> {
        let mut request = uapi::GrobjAlloc {
            channel: self.id,
            handle: class,
            class: (class & 0xffff) as i32,
        };
        self.device
            .request(uapi::GROBJ_ALLOC, &mut request, "GROBJ_ALLOC")?;
        Ok(Object { handle: class })
    }

    /// Destroys an engine object. The kernel waits for the channel first.
    pub fn free_object(&self, object: Object) -> Result<()> {
        let mut request = uapi::GpuobjFree {
            channel: self.id,
            handle: object.handle,
        };
        self.device
            .request(uapi::GPUOBJ_FREE, &mut request, "GPUOBJ_FREE")
    }

    /// Whether the kernel has taken the channel from the GPU after a fault.
    pub fn is_dead(&self) -> Result<bool> {
        // An empty submission is checked like any other and then does nothing.
        let mut request = uapi::GemPushbuf {
            channel: self.id as u32,
            ..Default::default()
        };
        match self
            .device
            .request(uapi::GEM_PUSHBUF, &mut request, "GEM_PUSHBUF")
        {
            Ok(()) => Ok(false),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Submits a stream that uses `buffers`, and does not wait.
    ///
    /// # Errors
    /// `ENODEV` when the channel is dead.
    pub fn submit(&mut self, push: &Push, buffers: &[(&Buffer, Access)]) -> Result<()> {
        self.submit_segments(&[push], 0, buffers)
    }

    /// Submits streams as segments of one submission. `flags` are those of a segment's length
    /// ([`uapi::GEM_PUSHBUF_NO_PREFETCH`]). Empty streams are left out: the host does not like
    /// empty segments.
    ///
    /// # Errors
    /// `EINVAL` for more than [`uapi::GEM_MAX_PUSH`] segments, else as [`Self::submit`].
    pub fn submit_segments(
        &mut self,
        pushes: &[&Push],
        flags: u64,
        buffers: &[(&Buffer, Access)],
    ) -> Result<()> {
        let words: usize = pushes.iter().map(|push| push.words().len()).sum();
        let bytes = words as u64 * 4;
        let room = self.commands.bytes() - IDLE_BYTES;
        if bytes > room {
            return Err(Error::PushTooLong {
                words,
                limit: (room / 4) as usize,
            });
        }
        if self.cursor + bytes > room {
            self.retire()?;
            self.cursor = 0;
        }
        let mut segments = Vec::with_capacity(pushes.len());
        for push in pushes.iter().filter(|push| !push.words().is_empty()) {
            let length = push.words().len() as u64 * 4;
            for (index, &word) in push.words().iter().enumerate() {
                self.commands.write(self.cursor + index as u64 * 4, word)?;
            }
            segments.push(uapi::PushbufPush {
                bo_index: 0,
                pad: 0,
                offset: self.cursor,
                length: length | flags,
            });
            self.cursor += length;
        }
        self.post(&self.commands, &segments, buffers, 0)
    }

    /// Executes `length` bytes of commands that lie in a buffer of the caller's. Nothing checks
    /// that they do.
    pub fn submit_buffer(
        &self,
        commands: &Buffer,
        offset: u64,
        length: u64,
        buffers: &[(&Buffer, Access)],
    ) -> Result<()> {
        self.post(
            commands,
            &[uapi::PushbufPush {
                bo_index: 0,
                pad: 0,
                offset,
                length,
            }],
            buffers,
            0,
        )
    }

    /// Lets the kernel see that everything submitted so far is done, once it is.
    ///
    /// nouveau (6.1 and 6.12) leaves a pointer to the channel in a fence that it finds passed when
    /// somebody begins to wait for it, as `GEM_CPU_PREP` and the closing of a buffer do. Should
    /// the channel be freed and another submission use a buffer with that fence, the kernel
    /// follows the pointer: `nouveau_fence.c nouveau_fence_no_signaling`, `nouveau_fence_sync`. A
    /// submission that waits for itself signals all earlier fences in the proper way.
    ///
    /// # Errors
    /// `EBUSY` when the channel is not done after 15 s, the kernel's limit; else as
    /// [`Self::submit`].
    pub fn retire(&self) -> Result<()> {
        let offset = self.commands.bytes() - IDLE_BYTES;
        let idle = uapi::PushbufPush {
            bo_index: 0,
            pad: 0,
            offset,
            length: IDLE_BYTES,
        };
        self.post(&self.commands, &[idle], &[], uapi::GEM_PUSHBUF_SYNC)
    }

    fn post(
        &self,
        commands: &Buffer,
        segments: &[uapi::PushbufPush],
        buffers: &[(&Buffer, Access)],
        flags: u64,
    ) -> Result<()> {
        let own = [
            (commands, Access::Read),
            (self.fence.buffer(), Access::ReadWrite),
        ];
        let list: Vec<uapi::PushbufBo> = own
            .iter()
            .chain(buffers)
            .map(|&(buffer, access)| {
                let domains = buffer.domain().bits();
                uapi::PushbufBo {
                    handle: buffer.handle(),
                    read_domains: if access.reads() { domains } else { 0 },
                    write_domains: if access.writes() { domains } else { 0 },
                    valid_domains: domains,
                    // Addresses never move on Fermi, so the kernel has nothing to relocate.
                    presumed: uapi::PushbufBoPresumed {
                        valid: 1,
                        domain: domains,
                        offset: buffer.address(),
                    },
                    ..Default::default()
                }
            })
            .collect();
        let mut request = uapi::GemPushbuf {
            channel: self.id as u32,
            nr_buffers: list.len() as u32,
            buffers: list.as_ptr() as u64,
            nr_push: segments.len() as u32,
            push: segments.as_ptr() as u64,
            vram_available: flags,
            ..Default::default()
        };
        // SAFETY: `list` and `segments` are as long as the request says and outlive the call;
        // the kernel copies from them, and to `list` only when it relocates, which is within it.
        unsafe {
            crate::device::ioctl(
                self.device.fd(),
                uapi::GEM_PUSHBUF,
                &mut request,
                "GEM_PUSHBUF",
            )
        }
    }

    /// Submits a stream, lets the GPU signal when all its engines are done with it, waits, and
    /// lets the kernel know too ([`Self::retire`]).
    ///
    /// # Errors
    /// [`Error::Timeout`] after `limit`; else as [`Self::submit`].
    pub fn run(
        &mut self,
        push: &Push,
        buffers: &[(&Buffer, Access)],
        limit: Duration,
    ) -> Result<()> {
        let sequence = self.post_fenced(push, buffers)?;
        self.wait(sequence, limit)?;
        self.retire()
    }

    /// Submits a stream followed by a fence, whose number it returns for [`Self::wait`].
    pub fn post_fenced(&mut self, push: &Push, buffers: &[(&Buffer, Access)]) -> Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut push = push.clone();
        self.fence.release(&mut push, FENCE_SLOT, self.sequence);
        self.submit(&push, buffers)?;
        Ok(self.sequence)
    }

    /// Waits for a fence of [`Self::post_fenced`].
    pub fn wait(&self, sequence: u32, limit: Duration) -> Result<()> {
        crate::wait_until(
            &format!("Fence {sequence} of channel {}", self.id),
            limit,
            || self.fence.reached(FENCE_SLOT, sequence),
        )
    }

    /// Whether a fence of [`Self::post_fenced`] has passed.
    pub fn passed(&self, sequence: u32) -> Result<bool> {
        self.fence.reached(FENCE_SLOT, sequence)
    }

    /// Waits until everything submitted so far is done.
    pub fn finish(&mut self, limit: Duration) -> Result<()> {
        self.run(&Push::new(), &[], limit)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut request = uapi::ChannelFree { channel: self.id };
        // A channel that cannot be freed goes with its file; there is nobody to tell.
        let _ = self
            .device
            .request(uapi::CHANNEL_FREE, &mut request, "CHANNEL_FREE");
    }
}
