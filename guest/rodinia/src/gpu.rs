//! A program on an OpenCL device, with its time split into phases.
//!
//! Commands are queued as they come; a transfer first waits for the kernels before it. So kernels
//! count as `launch`, with the queueing, and transfers count alone, without a wait behind every
//! launch.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    marker::PhantomData,
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use opencl3::{
    command_queue::CommandQueue,
    context::Context,
    device::{CL_DEVICE_TYPE_ALL, Device},
    kernel::Kernel,
    memory::{
        Buffer as ClBuffer, CL_MAP_READ, CL_MAP_WRITE, CL_MEM_ALLOC_HOST_PTR, CL_MEM_READ_WRITE,
        ClMem, cl_mem_flags,
    },
    platform::get_platforms,
    program::Program,
    types::CL_TRUE,
};
use serde::Serialize;

/// Language version of the kernels.
const BUILD_OPTIONS: &str = "-cl-std=CL1.2";

/// A device that there is.
pub struct Found {
    /// `PLATFORM: DEVICE`.
    pub name: String,
    device: Device,
}

/// All devices of all platforms.
///
/// # Errors
///
/// When there is no OpenCL here, or no device.
pub fn devices() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for platform in get_platforms().context("There is no OpenCL here")? {
        let name = platform.name()?;
        // A platform without a device says so with an error.
        for id in platform.get_devices(CL_DEVICE_TYPE_ALL).unwrap_or_default() {
            let device = Device::new(id);
            found.push(Found {
                name: format!("{name}: {}", device.name()?),
                device,
            });
        }
    }
    ensure!(!found.is_empty(), "No OpenCL platform has a device");
    Ok(found)
}

/// The first device whose name contains `wanted`, in either case.
fn device(wanted: &str) -> Result<Found> {
    let wanted = wanted.to_lowercase();
    let mut found = devices()?;
    match found
        .iter()
        .position(|f| f.name.to_lowercase().contains(&wanted))
    {
        Some(position) => Ok(found.swap_remove(position)),
        None => {
            let names: Vec<&str> = found.iter().map(|f| f.name.as_str()).collect();
            bail!(
                "No device is called {wanted:?}: there are {}",
                names.join(", ")
            )
        }
    }
}

/// Where the time of a run went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Phases {
    /// Finding the device, making a context, a queue and buffers.
    pub init_ns: u64,
    /// Compiling the kernels.
    pub build_ns: u64,
    /// Transfers to the device.
    pub htod_ns: u64,
    /// Kernels, from the first one queued to the last one's end.
    pub launch_ns: u64,
    /// Transfers from the device.
    pub dtoh_ns: u64,
    /// Giving everything back.
    pub close_ns: u64,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Bytes to the device.
    pub htod_bytes: u64,
    /// Bytes from the device.
    pub dtoh_bytes: u64,
    /// Kernels queued.
    pub launches: u64,
}

/// What a buffer can hold: plain numbers, for which every pattern of bits is valid.
pub trait Element: Copy + Default + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($t:ty),*) => { $(impl sealed::Sealed for $t {} impl Element for $t {})* };
}
elements!(u8, i32, u32, f32);

/// A buffer of `len` numbers on the device. It belongs to its [`Gpu`].
#[derive(Debug)]
pub struct Buffer<T> {
    index: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Buffer<T> {}

/// Which way a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From host memory to the device's.
    HostToDevice,
    /// From the device's memory to the host's.
    DeviceToHost,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// `__global T *`
    Buffer(usize),
    /// `int`
    I32(i32),
    /// `uint`
    U32(u32),
    /// `float`
    F32(f32),
    /// `__local T *`, in bytes
    Local(usize),
}

impl<T> From<Buffer<T>> for Argument {
    fn from(buffer: Buffer<T>) -> Self {
        Self::Buffer(buffer.index)
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

/// The arguments of a kernel, in order.
#[macro_export]
macro_rules! args {
    ($($argument:expr),* $(,)?) => { &[$($crate::gpu::Argument::from($argument)),*] };
}

/// How many work-items, in groups of how many, in one or two dimensions.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    global: [usize; 2],
    local: [usize; 2],
    dimensions: usize,
}

impl Grid {
    /// At least `items` in groups of `group`.
    pub fn line(items: usize, group: usize) -> Self {
        Self {
            global: [items.next_multiple_of(group), 1],
            local: [group, 1],
            dimensions: 1,
        }
    }

    /// At least `items` (x, y) in groups of `group`.
    pub fn plane(items: (usize, usize), group: (usize, usize)) -> Self {
        Self {
            global: [
                items.0.next_multiple_of(group.0),
                items.1.next_multiple_of(group.1),
            ],
            local: [group.0, group.1],
            dimensions: 2,
        }
    }
}

/// A program on a device.
pub struct Gpu {
    // In the order in which they go.
    buffers: Vec<ClBuffer<u8>>,
    kernels: BTreeMap<String, Kernel>,
    queue: CommandQueue,
    context: Context,
    device: String,
    pending: bool,
    phases: Phases,
    counts: Counts,
}

impl Gpu {
    /// A program from OpenCL C on the first device whose name contains `wanted`.
    ///
    /// # Errors
    ///
    /// When there is no such device, or the source does not compile.
    pub fn new(wanted: &str, source: &str) -> Result<Self> {
        let start = Instant::now();
        let found = device(wanted)?;
        let context = Context::from_device(&found.device).context("Cannot make a context")?;
        let queue = CommandQueue::create_default_with_properties(&context, 0, 0)
            .context("Cannot make a queue")?;
        let init = start.elapsed();

        let start = Instant::now();
        let program = Program::create_and_build_from_source(&context, source, BUILD_OPTIONS)
            .map_err(|log| anyhow!("The kernels do not compile: {log}"))?;
        let mut kernels = BTreeMap::new();
        for name in program.kernel_names().split(';') {
            kernels.insert(name.to_owned(), Kernel::create(&program, name)?);
        }
        let build = start.elapsed();
        Ok(Self {
            buffers: Vec::new(),
            kernels,
            queue,
            context,
            device: found.name,
            pending: false,
            phases: Phases {
                init_ns: nanoseconds(init),
                build_ns: nanoseconds(build),
                ..Phases::default()
            },
            counts: Counts::default(),
        })
    }

    /// `PLATFORM: DEVICE`.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// A buffer of `len` numbers with unknown contents.
    ///
    /// # Errors
    ///
    /// When the device has no room for it.
    pub fn buffer<T: Element>(&mut self, len: usize) -> Result<Buffer<T>> {
        self.allocate(len, CL_MEM_READ_WRITE)
    }

    /// As [`Gpu::buffer`], in host memory that the device reaches.
    ///
    /// # Errors
    ///
    /// When there is no room for it.
    pub fn pinned<T: Element>(&mut self, len: usize) -> Result<Buffer<T>> {
        self.allocate(len, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR)
    }

    fn allocate<T: Element>(&mut self, len: usize, flags: cl_mem_flags) -> Result<Buffer<T>> {
        let start = Instant::now();
        let bytes = len * size_of::<T>();
        // SAFETY: no host memory is handed over.
        let buffer = unsafe { ClBuffer::create(&self.context, flags, bytes, ptr::null_mut()) }
            .with_context(|| format!("Cannot make a buffer of {bytes} bytes"))?;
        self.buffers.push(buffer);
        self.phases.init_ns += nanoseconds(start.elapsed());
        Ok(Buffer {
            index: self.buffers.len() - 1,
            len,
            element: PhantomData,
        })
    }

    /// Makes a buffer that holds `data`.
    ///
    /// # Errors
    ///
    /// As [`Gpu::buffer`] and [`Gpu::write`].
    pub fn upload<T: Element>(&mut self, data: &[T]) -> Result<Buffer<T>> {
        let buffer = self.buffer(data.len())?;
        self.write(buffer, data)?;
        Ok(buffer)
    }

    /// Fills a buffer with `data`, which is as long.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn write<T: Element>(&mut self, buffer: Buffer<T>, data: &[T]) -> Result<()> {
        assert_eq!(data.len(), buffer.len, "a write fills its buffer");
        self.settle()?;
        let start = Instant::now();
        // SAFETY: numbers are bytes, and u8 has no alignment.
        let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), size_of_val(data)) };
        let target = &mut self.buffers[buffer.index];
        // SAFETY: the buffer is as long as the data, and the call waits until it is read.
        unsafe {
            self.queue
                .enqueue_write_buffer(target, CL_TRUE, 0, bytes, &[])
        }
        .context("Cannot write a buffer")?;
        self.phases.htod_ns += nanoseconds(start.elapsed());
        self.counts.htod_bytes += bytes.len() as u64;
        Ok(())
    }

    /// A buffer's contents.
    ///
    /// # Errors
    ///
    /// When the device fails, also in a kernel before this.
    pub fn read<T: Element>(&mut self, buffer: Buffer<T>) -> Result<Vec<T>> {
        self.read_prefix(buffer, buffer.len)
    }

    /// The first `len` numbers of a buffer.
    ///
    /// # Errors
    ///
    /// As [`Gpu::read`].
    pub fn read_prefix<T: Element>(&mut self, buffer: Buffer<T>, len: usize) -> Result<Vec<T>> {
        assert!(len <= buffer.len, "a read stays in its buffer");
        self.settle()?;
        let mut data = vec![T::default(); len];
        let start = Instant::now();
        let length = size_of_val(data.as_slice());
        // SAFETY: numbers are bytes, u8 has no alignment, and any bytes are numbers.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(data.as_mut_ptr().cast::<u8>(), length) };
        let source = &self.buffers[buffer.index];
        // SAFETY: the buffer is at least as long as the data, and the call waits until that is written.
        unsafe {
            self.queue
                .enqueue_read_buffer(source, CL_TRUE, 0, bytes, &[])
        }
        .context("Cannot read a buffer")?;
        self.phases.dtoh_ns += nanoseconds(start.elapsed());
        self.counts.dtoh_bytes += length as u64;
        Ok(data)
    }

    /// Lets `touch` at a pinned buffer's contents. The time is no part of a transfer.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn map<T: Element, R>(
        &mut self,
        buffer: Buffer<T>,
        touch: impl FnOnce(&mut [T]) -> R,
    ) -> Result<R> {
        self.settle()?;
        let bytes = buffer.len * size_of::<T>();
        let target = &self.buffers[buffer.index];
        let mut address: *mut c_void = ptr::null_mut();
        // SAFETY: the range is that of the buffer.
        unsafe {
            let flags = CL_MAP_READ | CL_MAP_WRITE;
            self.queue
                .enqueue_map_buffer(target, CL_TRUE, flags, 0, bytes, &mut address, &[])
        }
        .context("Cannot map a buffer")?;
        // SAFETY: the mapping is that long, aligned for every type of OpenCL, and nobody else's
        // until it is undone.
        let result = touch(unsafe { std::slice::from_raw_parts_mut(address.cast(), buffer.len) });
        // SAFETY: the address is the one that was mapped, and no reference to it is left.
        unsafe {
            self.queue
                .enqueue_unmap_mem_object(target.get(), address, &[])
        }
        .context("Cannot unmap a buffer")?;
        self.queue.finish().context("Cannot unmap a buffer")?;
        Ok(result)
    }

    /// Copies a buffer into another one of its length, between pinned memory and the device's.
    ///
    /// # Errors
    ///
    /// When the device fails.
    pub fn copy<T: Element>(
        &mut self,
        from: Buffer<T>,
        to: Buffer<T>,
        direction: Direction,
    ) -> Result<()> {
        assert_eq!(from.len, to.len, "a copy fills its target");
        assert_ne!(from.index, to.index, "a copy has two ends");
        self.settle()?;
        let start = Instant::now();
        let bytes = from.len * size_of::<T>();
        let (low, high) = self.buffers.split_at_mut(from.index.max(to.index));
        let (source, target) = if from.index < to.index {
            (&low[from.index], &mut high[0])
        } else {
            (&high[0], &mut low[to.index])
        };
        // SAFETY: both buffers have that length.
        unsafe {
            self.queue
                .enqueue_copy_buffer(source, target, 0, 0, bytes, &[])
        }
        .context("Cannot copy a buffer")?;
        self.queue.finish().context("A copy failed")?;
        let time = nanoseconds(start.elapsed());
        match direction {
            Direction::HostToDevice => {
                self.phases.htod_ns += time;
                self.counts.htod_bytes += bytes as u64;
            }
            Direction::DeviceToHost => {
                self.phases.dtoh_ns += time;
                self.counts.dtoh_bytes += bytes as u64;
            }
        }
        Ok(())
    }

    /// Queues a kernel.
    ///
    /// # Errors
    ///
    /// When there is no such kernel, it has other arguments, or the device fails.
    pub fn launch(&mut self, name: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        let kernel = self.kernels.get(name);
        let kernel = kernel.with_context(|| format!("There is no kernel {name}"))?;
        let start = Instant::now();
        for (index, argument) in (0u32..).zip(arguments) {
            // SAFETY: each value has the size that OpenCL checks for the argument; buffers live as
            // long as the kernels.
            unsafe {
                match argument {
                    Argument::Buffer(buffer) => kernel.set_arg(index, &self.buffers[*buffer].get()),
                    Argument::I32(value) => kernel.set_arg(index, value),
                    Argument::U32(value) => kernel.set_arg(index, value),
                    Argument::F32(value) => kernel.set_arg(index, value),
                    Argument::Local(bytes) => kernel.set_arg_local_buffer(index, *bytes),
                }
            }
            .with_context(|| format!("Kernel {name} does not take argument {index}"))?;
        }
        // SAFETY: the kernels of this crate stay within the buffers that their launches name, which
        // the comparison with the CPU's result would show.
        unsafe {
            self.queue.enqueue_nd_range_kernel(
                kernel.get(),
                grid.dimensions as u32,
                ptr::null(),
                grid.global.as_ptr(),
                grid.local.as_ptr(),
                &[],
            )
        }
        .with_context(|| format!("Cannot launch {name}"))?;
        self.pending = true;
        self.phases.launch_ns += nanoseconds(start.elapsed());
        self.counts.launches += 1;
        Ok(())
    }

    /// Waits for the kernels that were queued.
    ///
    /// # Errors
    ///
    /// When one of them fails.
    pub fn settle(&mut self) -> Result<()> {
        if self.pending {
            let start = Instant::now();
            self.queue.finish().context("A kernel failed")?;
            self.pending = false;
            self.phases.launch_ns += nanoseconds(start.elapsed());
        }
        Ok(())
    }

    /// Gives everything back; what the run took.
    ///
    /// # Errors
    ///
    /// When a kernel failed.
    pub fn close(mut self) -> Result<(Phases, Counts)> {
        self.settle()?;
        let (mut phases, counts) = (self.phases, self.counts);
        let start = Instant::now();
        drop(self);
        phases.close_ns = nanoseconds(start.elapsed());
        Ok((phases, counts))
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
