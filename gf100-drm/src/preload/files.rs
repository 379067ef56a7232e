//! Functions that take file descriptors.

use libc::{c_int, c_long, c_ulong, c_void, off_t, size_t};

use super::real::real;
use super::yields;
use crate::node::{self, Shown};
use crate::request;

/// Type letter of all DRM requests.
const DRM: c_ulong = b'd' as c_ulong;

#[unsafe(no_mangle)]
extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    if request >> 8 & 0xff == DRM
        && let Some(client) = node::client(fd)
    {
        return yields::for_program(|| {
            // SAFETY: the program vouches for its argument.
            let result = unsafe { request::serve(&client, request & 0xffff_ffff, argument) };
            request::answer(result)
        });
    }
    let real = real!(fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int);
    real(fd, request, argument)
}

macro_rules! mapping {
    ($($name:ident),+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(
            address: *mut c_void,
            len: size_t,
            protection: c_int,
            flags: c_int,
            fd: c_int,
            offset: off_t,
        ) -> *mut c_void {
            let real = real!(fn $name(
                address: *mut c_void,
                len: size_t,
                protection: c_int,
                flags: c_int,
                fd: c_int,
                offset: off_t
            ) -> *mut c_void);
            match node::mapping(fd, offset as u64, len as u64) {
                None => real(address, len, protection, flags, fd, offset),
                Some(Some(shown)) if flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE) == 0 => {
                    shown.host.as_ptr().cast()
                }
                Some(Some(Shown { file: (file, at), .. })) => {
                    real(address, len, protection, flags, file, at as off_t)
                }
                Some(None) => {
                    // SAFETY: the calling thread's own.
                    unsafe { *libc::__errno_location() = libc::EINVAL };
                    libc::MAP_FAILED
                }
            }
        }
    )+};
}

mapping!(mmap, mmap64);

#[unsafe(no_mangle)]
extern "C" fn munmap(address: *mut c_void, len: size_t) -> c_int {
    // The card's own mapping, which was shown and stays.
    if node::is_shown(address.cast()) {
        return 0;
    }
    let real = real!(fn munmap(address: *mut c_void, len: size_t) -> c_int);
    real(address, len)
}

#[unsafe(no_mangle)]
extern "C" fn close(fd: c_int) -> c_int {
    node::closing(fd);
    let real = real!(fn close(fd: c_int) -> c_int);
    real(fd)
}

#[unsafe(no_mangle)]
extern "C" fn dup(fd: c_int) -> c_int {
    let real = real!(fn dup(fd: c_int) -> c_int);
    let new = real(fd);
    node::duplicated(fd, new);
    new
}

#[unsafe(no_mangle)]
extern "C" fn dup2(fd: c_int, to: c_int) -> c_int {
    if fd != to {
        node::closing(to);
    }
    let real = real!(fn dup2(fd: c_int, to: c_int) -> c_int);
    let new = real(fd, to);
    node::duplicated(fd, new);
    new
}

#[unsafe(no_mangle)]
extern "C" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    node::closing(to);
    let real = real!(fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int);
    let new = real(fd, to, flags);
    node::duplicated(fd, new);
    new
}

macro_rules! controlling {
    ($($name:ident),+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(fd: c_int, command: c_int, argument: c_long) -> c_int {
            let real = real!(fn $name(fd: c_int, command: c_int, argument: c_long) -> c_int);
            let result = real(fd, command, argument);
            if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) {
                node::duplicated(fd, result);
            }
            result
        }
    )+};
}

controlling!(fcntl, fcntl64);
