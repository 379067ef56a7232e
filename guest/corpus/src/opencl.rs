//! Cases on an OpenCL device.

use std::{
    ffi::c_void,
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use opencl3::{
    command_queue::CommandQueue,
    context::Context,
    device::{CL_DEVICE_TYPE_ALL, Device as ClDevice},
    kernel::{ExecuteKernel, Kernel},
    memory::{Buffer, CL_MEM_READ_ONLY, CL_MEM_READ_WRITE, ClMem, Image},
    platform::get_platforms,
    program::Program,
    types::{CL_TRUE, cl_image_desc, cl_image_format, cl_uint},
};

use crate::{
    Machine, Outcome,
    case::{Case, Extra},
};

/// Image formats by the numbers of the standard.
mod format {
    pub const R: u32 = 0x10b0;
    pub const RGBA: u32 = 0x10b5;
    pub const UNORM_INT8: u32 = 0x10d2;
    pub const UNSIGNED_INT32: u32 = 0x10dc;
    pub const IMAGE2D: u32 = 0x10f1;
}

/// A device with a queue.
pub struct Device {
    name: String,
    context: Context,
    queue: CommandQueue,
}

impl Device {
    /// The first device whose name contains `wanted`, in either case.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn open(wanted: &str) -> Result<Self> {
        let wanted = wanted.to_lowercase();
        for platform in get_platforms().context("There is no OpenCL here")? {
            // A platform without a device says so with an error.
            for id in platform.get_devices(CL_DEVICE_TYPE_ALL).unwrap_or_default() {
                let device = ClDevice::new(id);
                let name = format!("{}: {}", platform.name()?, device.name()?);
                if name.to_lowercase().contains(&wanted) {
                    let context = Context::from_device(&device)?;
                    let queue = CommandQueue::create_default_with_properties(&context, 0, 0)?;
                    return Ok(Self {
                        name,
                        context,
                        queue,
                    });
                }
            }
        }
        bail!("No OpenCL device is called {wanted:?}")
    }

    fn buffer(&self, words: &[u32]) -> Result<Buffer<u32>> {
        let count = words.len().max(1);
        // SAFETY: no host memory is given.
        let mut buffer =
            unsafe { Buffer::create(&self.context, CL_MEM_READ_WRITE, count, ptr::null_mut())? };
        // SAFETY: the call blocks, so the words are there until it has read them.
        unsafe {
            self.queue
                .enqueue_write_buffer(&mut buffer, CL_TRUE, 0, words, &[])?
        };
        Ok(buffer)
    }

    fn image(&self, extra: Extra, words: &[u32]) -> Result<Option<Image>> {
        let (order, data_type, flags, width, height) = match extra {
            Extra::Texture(width, height) => (
                format::RGBA,
                format::UNORM_INT8,
                CL_MEM_READ_ONLY,
                width,
                height,
            ),
            Extra::Image(width, height) => (
                format::R,
                format::UNSIGNED_INT32,
                CL_MEM_READ_WRITE,
                width,
                height,
            ),
            _ => return Ok(None),
        };
        let format = cl_image_format {
            image_channel_order: order,
            image_channel_data_type: data_type,
        };
        let shape = cl_image_desc {
            image_type: format::IMAGE2D,
            image_width: width as usize,
            image_height: height as usize,
            image_depth: 1,
            image_array_size: 1,
            image_row_pitch: 0,
            image_slice_pitch: 0,
            num_mip_levels: 0,
            num_samples: 0,
            buffer: ptr::null_mut(),
        };
        // SAFETY: no host memory is given.
        let mut image =
            unsafe { Image::create(&self.context, flags, &format, &shape, ptr::null_mut())? };
        let (origin, region) = ([0usize; 3], [width as usize, height as usize, 1]);
        // SAFETY: the call blocks, and the words are the whole image.
        unsafe {
            self.queue.enqueue_write_image(
                &mut image,
                CL_TRUE,
                origin.as_ptr(),
                region.as_ptr(),
                0,
                0,
                words.as_ptr().cast_mut().cast::<c_void>(),
                &[],
            )?
        };
        Ok(Some(image))
    }
}

/// The whole program of a case.
fn source(case: &Case) -> String {
    let [x, y, z] = case.local;
    let first = match case.extra {
        Extra::Texture(..) => "read_only image2d_t src",
        Extra::Image(..) => "write_only image2d_t src",
        _ => "global const uint *src",
    };
    format!(
        "#define KERNEL kernel __attribute__((reqd_work_group_size({x}, {y}, {z}))) \
         void run({first}, global uint *dst)\n{}",
        case.source
    )
}

impl Machine for Device {
    fn device(&self) -> &str {
        &self.name
    }

    fn run(&self, case: &Case, input: &[u32], repeat: u32) -> Result<Outcome> {
        let program =
            Program::create_and_build_from_source(&self.context, &source(case), "-cl-std=CL1.2")
                .map_err(|log| anyhow!("The kernel does not build: {log}"))?;
        let kernel = Kernel::create(&program, "run")?;
        let image = self.image(case.extra, input)?;
        let src = match &image {
            Some(_) => None,
            None => Some(self.buffer(input)?),
        };
        let dst = self.buffer(&vec![0; case.output])?;
        let global: Vec<usize> = (0..3)
            .map(|n| case.groups[n] as usize * case.local[n] as usize)
            .collect();
        let local: Vec<usize> = case.local.iter().map(|&n| n as usize).collect();
        self.queue.finish()?;
        let mut time = Duration::MAX;
        for _ in 0..repeat {
            let mut launch = ExecuteKernel::new(&kernel);
            let start = Instant::now();
            // SAFETY: the arguments are those of `source` and live until all that is queued is
            // done.
            unsafe {
                match (&image, &src) {
                    (Some(image), _) => launch.set_arg(&image.get()),
                    (None, Some(src)) => launch.set_arg(&src.get()),
                    (None, None) => &mut launch,
                };
                launch
                    .set_arg(&dst.get())
                    .set_global_work_sizes(&global)
                    .set_local_work_sizes(&local)
                    .enqueue_nd_range(&self.queue)?;
            }
            self.queue.finish()?;
            time = time.min(start.elapsed());
        }
        let mut found = vec![0 as cl_uint; case.output];
        // SAFETY: the call blocks, so the words are there until it has filled them.
        unsafe {
            self.queue
                .enqueue_read_buffer(&dst, CL_TRUE, 0, &mut found, &[])?
        };
        if let (Extra::Image(width, height), Some(image)) = (case.extra, &image) {
            let (origin, region) = ([0usize; 3], [width as usize, height as usize, 1]);
            // SAFETY: the call blocks, and the output has room for the whole image.
            unsafe {
                self.queue.enqueue_read_image(
                    image,
                    CL_TRUE,
                    origin.as_ptr(),
                    region.as_ptr(),
                    0,
                    0,
                    found.as_mut_ptr().cast::<c_void>(),
                    &[],
                )?
            };
        }
        Ok(Outcome { words: found, time })
    }
}
