//! Requests: what a program's `ioctl` on the node asks for.

use std::slice;
use std::sync::Arc;

use guest::methods::class;
use guest::uapi;
use libc::{c_int, c_void};

use crate::client::Client;
use crate::error::Error;
use crate::node;
use crate::tree;

/// Version of nouveau's interface that this is: that of Linux 6.1.
const VERSION: (i32, i32, i32) = (1, 3, 1);
/// Most pushes of a submission that are looked at; nouveau has the same limit.
const MAX_PUSH: u32 = uapi::GEM_MAX_PUSH as u32;
/// Most buffers of one.
const MAX_BUFFERS: u32 = uapi::GEM_MAX_BUFFERS as u32;

/// Serves a request.
///
/// # Errors
///
/// Whatever nouveau would refuse.
///
/// # Safety
///
/// `argument` and what it points to are as the request demands.
pub unsafe fn serve(
    client: &Arc<Client>,
    request: u64,
    argument: *mut c_void,
) -> Result<(), Error> {
    if argument.is_null() {
        return Err(Error::Invalid);
    }
    // SAFETY: for each of these the caller vouches that the argument is of the request's type.
    unsafe {
        match request {
            uapi::DRM_IOCTL_VERSION => version(&mut *argument.cast()),
            uapi::DRM_IOCTL_GET_UNIQUE => {
                let unique: &mut uapi::DrmUnique = &mut *argument.cast();
                fill(unique.unique, &mut unique.unique_len, &tree::unique());
                Ok(())
            }
            uapi::DRM_IOCTL_GET_CAP => capability(&mut *argument.cast()),
            uapi::DRM_IOCTL_GEM_CLOSE => {
                client.close_buffer((*argument.cast::<uapi::GemClose>()).handle)
            }
            uapi::DRM_IOCTL_PRIME_HANDLE_TO_FD => export(client, &mut *argument.cast()),
            uapi::DRM_IOCTL_PRIME_FD_TO_HANDLE => {
                let prime: &mut uapi::PrimeHandle = &mut *argument.cast();
                let (block, layout) = node::shared_buffer(prime.fd).ok_or(Error::Invalid)?;
                prime.handle = client.import(&block, layout)?;
                Ok(())
            }
            uapi::GETPARAM => {
                let parameter: &mut uapi::GetParam = &mut *argument.cast();
                parameter.value = client.parameter(parameter.param)?;
                Ok(())
            }
            uapi::CHANNEL_ALLOC => client.new_channel(&mut *argument.cast()),
            uapi::CHANNEL_FREE => {
                client.free_channel((*argument.cast::<uapi::ChannelFree>()).channel)
            }
            uapi::GROBJ_ALLOC => {
                let object: &uapi::GrobjAlloc = &*argument.cast();
                client.new_object(object.channel as u64, object.class as u32)
            }
            uapi::GPUOBJ_FREE => Ok(()),
            uapi::GEM_NEW => {
                let new: &mut uapi::GemNew = &mut *argument.cast();
                new.info = client.new_buffer(&new.info, new.align)?;
                Ok(())
            }
            uapi::GEM_INFO => {
                let info: &mut uapi::GemInfo = &mut *argument.cast();
                *info = client.buffer(info.handle)?.info(info.handle);
                Ok(())
            }
            uapi::GEM_CPU_PREP => {
                let prepare: &uapi::GemCpuPrep = &*argument.cast();
                let write = prepare.flags & uapi::GEM_CPU_PREP_WRITE != 0;
                let no_wait = prepare.flags & uapi::GEM_CPU_PREP_NOWAIT != 0;
                client.buffer(prepare.handle)?.prepare(write, no_wait)
            }
            uapi::GEM_CPU_FINI => {
                let handle = (*argument.cast::<uapi::GemCpuFini>()).handle;
                client.buffer(handle).map(drop)
            }
            uapi::GEM_PUSHBUF => submit(client, &mut *argument.cast()),
            request if request & 0xff == uapi::NVIF_NUMBER => {
                let bytes = (request >> 16 & 0x3fff) as usize;
                object(client, slice::from_raw_parts_mut(argument.cast(), bytes))
            }
            _ => Err(Error::NotSupported),
        }
    }
}

/// Copies `text` as far as there is room for it, and says how long it is.
///
/// # Safety
///
/// `place` is null or has room for `len` bytes.
unsafe fn fill(place: *mut u8, len: &mut usize, text: &str) {
    if !place.is_null() {
        let count = text.len().min(*len);
        // SAFETY: the caller vouches for the room.
        unsafe { place.copy_from_nonoverlapping(text.as_ptr(), count) };
    }
    *len = text.len();
}

/// # Safety
///
/// The pointers are null or have room for their lengths.
unsafe fn version(version: &mut uapi::DrmVersion) -> Result<(), Error> {
    (
        version.version_major,
        version.version_minor,
        version.version_patchlevel,
    ) = VERSION;
    // SAFETY: handed on to the caller.
    unsafe {
        fill(version.name, &mut version.name_len, "nouveau");
        fill(version.date, &mut version.date_len, "20120801");
        fill(
            version.desc,
            &mut version.desc_len,
            "gpuvm's software GF100",
        );
    }
    Ok(())
}

fn capability(capability: &mut uapi::GetCap) -> Result<(), Error> {
    capability.value = match capability.capability {
        uapi::DRM_CAP_PRIME => uapi::DRM_PRIME_CAP_IMPORT | uapi::DRM_PRIME_CAP_EXPORT,
        uapi::DRM_CAP_TIMESTAMP_MONOTONIC => 1,
        _ => 0,
    };
    Ok(())
}

fn export(client: &Client, prime: &mut uapi::PrimeHandle) -> Result<(), Error> {
    let buffer = client.buffer(prime.handle)?;
    let close_on_exec = prime.flags & libc::O_CLOEXEC as u32 != 0;
    prime.fd = node::share(buffer.block().clone(), buffer.layout(), close_on_exec)
        .ok_or(Error::NoMemory)?;
    Ok(())
}

/// # Safety
///
/// The lists are as long as the request says.
unsafe fn submit(client: &Client, request: &mut uapi::GemPushbuf) -> Result<(), Error> {
    if request.nr_push > MAX_PUSH || request.nr_buffers > MAX_BUFFERS {
        return Err(Error::Invalid);
    }
    // SAFETY: handed on to the caller.
    let (buffers, pushes) = unsafe {
        (
            list(request.buffers, request.nr_buffers)?,
            list(request.push, request.nr_push)?,
        )
    };
    client.submit(request, buffers, pushes)
}

/// # Safety
///
/// There are `count` elements at `address`, or it is 0.
unsafe fn list<'a, T>(address: u64, count: u32) -> Result<&'a [T], Error> {
    let pointer = address as *const T;
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Error::Invalid);
    }
    // SAFETY: the caller vouches for the elements.
    Ok(unsafe { slice::from_raw_parts(pointer, count as usize) })
}

/// A request to the tree of objects.
fn object(client: &Client, bytes: &mut [u8]) -> Result<(), Error> {
    use uapi::nvif;
    let header: nvif::Ioctl = part(bytes, 0)?;
    let data = size_of::<nvif::Ioctl>();
    match header.r#type {
        nvif::NEW => {
            let new: nvif::New = part(bytes, data)?;
            match (header.route, new.oclass) {
                (nvif::ROUTE_ABI16, nvif::SW_GF100) => {
                    client.new_object(header.token, class::SOFTWARE)
                }
                (nvif::ROUTE_ABI16, class) => client.new_object(header.token, class as u32),
                (_, nvif::NV_DEVICE) => Ok(()),
                _ => Err(Error::Invalid),
            }
        }
        nvif::DEL => Ok(()),
        nvif::MTHD => {
            let method: nvif::Mthd = part(bytes, data)?;
            match method.method {
                nvif::NV_DEVICE_V0_INFO => {
                    set_part(bytes, data + size_of::<nvif::Mthd>(), &client.info())
                }
                _ => Err(Error::Invalid),
            }
        }
        nvif::SCLASS if header.route == nvif::ROUTE_ABI16 => {
            let mut list: nvif::Sclass = part(bytes, data)?;
            let classes = client.classes(header.token)?;
            let first = data + size_of::<nvif::Sclass>();
            let room = usize::from(list.count);
            for (n, &class) in classes.iter().take(room).enumerate() {
                let entry = nvif::Oclass {
                    oclass: class as i32,
                    minver: 0,
                    maxver: 0,
                };
                set_part(bytes, first + n * size_of::<nvif::Oclass>(), &entry)?;
            }
            list.count = classes.len() as u8;
            set_part(bytes, data, &list)
        }
        _ => Err(Error::Invalid),
    }
}

/// A structure of the request's argument, which may lie anywhere in it.
fn part<T: Copy>(bytes: &[u8], at: usize) -> Result<T, Error> {
    let part = bytes.get(at..at + size_of::<T>()).ok_or(Error::Invalid)?;
    // SAFETY: the structures of `nvif` are integers, of which every pattern is one.
    Ok(unsafe { part.as_ptr().cast::<T>().read_unaligned() })
}

/// Stores one.
fn set_part<T: Copy>(bytes: &mut [u8], at: usize, value: &T) -> Result<(), Error> {
    let part = bytes
        .get_mut(at..at + size_of::<T>())
        .ok_or(Error::Invalid)?;
    // SAFETY: the part has that many bytes.
    unsafe { part.as_mut_ptr().cast::<T>().write_unaligned(*value) };
    Ok(())
}

/// What `ioctl` returns.
pub fn answer(result: Result<(), Error>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            // SAFETY: the calling thread's own.
            unsafe { *libc::__errno_location() = error.errno() };
            -1
        }
    }
}
