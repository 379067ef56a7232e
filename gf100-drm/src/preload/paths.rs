//! Functions that take paths: those of the tree lead there.

use std::borrow::Cow;
use std::ffi::CStr;

use libc::{
    DIR, FILE, c_char, c_int, c_uint, mode_t, size_t, ssize_t, stat as Stat, stat64 as Stat64,
    statx as Statx,
};

use super::real::real;
use crate::node;
use crate::tree::{self, Tree};

/// What the C library is to be given for a program's path.
fn redirected<'a>(path: *const c_char) -> Option<Cow<'a, CStr>> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the program passes a C string that outlives the call.
    let path = unsafe { CStr::from_ptr(path) };
    Some(match tree::redirect(path) {
        Some(place) => Cow::Owned(place),
        None => Cow::Borrowed(path),
    })
}

/// Whether a program's path is the node.
fn is_node(path: *const c_char) -> bool {
    // SAFETY: as above.
    !path.is_null() && tree::is_node_path(unsafe { CStr::from_ptr(path) })
}

fn pointer(path: &Option<Cow<'_, CStr>>) -> *const c_char {
    path.as_ref().map_or(std::ptr::null(), |path| path.as_ptr())
}

/// The end of every way to open a file.
fn opened(node: bool, fd: c_int) -> c_int {
    if node && fd >= 0 && !node::opened(fd) {
        let close = real!(fn close(fd: c_int) -> c_int);
        close(fd);
        // SAFETY: the calling thread's own.
        unsafe { *libc::__errno_location() = libc::ENODEV };
        return -1;
    }
    fd
}

macro_rules! opening {
    ($($name:ident($($before:ident: $type:ty),*; $($after:ident: $other:ty),*);)+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($before: $type,)* path: *const c_char $(, $after: $other)*) -> c_int {
            let real = real!(
                fn $name($($before: $type,)* path: *const c_char $(, $after: $other)*) -> c_int
            );
            let place = redirected(path);
            opened(is_node(path), real($($before,)* pointer(&place) $(, $after)*))
        }
    )+};
}

opening! {
    open(; flags: c_int, mode: mode_t);
    open64(; flags: c_int, mode: mode_t);
    __open_2(; flags: c_int);
    __open64_2(; flags: c_int);
    openat(directory: c_int; flags: c_int, mode: mode_t);
    openat64(directory: c_int; flags: c_int, mode: mode_t);
}

macro_rules! passing {
    ($($name:ident($($before:ident: $type:ty),*; $($after:ident: $other:ty),*) -> $result:ty;)+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(
            $($before: $type,)* path: *const c_char $(, $after: $other)*
        ) -> $result {
            let real = real!(
                fn $name($($before: $type,)* path: *const c_char $(, $after: $other)*) -> $result
            );
            let place = redirected(path);
            real($($before,)* pointer(&place) $(, $after)*)
        }
    )+};
}

passing! {
    fopen(; mode: *const c_char) -> *mut FILE;
    fopen64(; mode: *const c_char) -> *mut FILE;
    opendir(;) -> *mut DIR;
    access(; mode: c_int) -> c_int;
    faccessat(directory: c_int; mode: c_int, flags: c_int) -> c_int;
    readlink(; buffer: *mut c_char, size: size_t) -> ssize_t;
    readlinkat(directory: c_int; buffer: *mut c_char, size: size_t) -> ssize_t;
}

/// A status of which the node's is to show a character device.
trait Status {
    /// Device and inode.
    fn identity(&self) -> (u64, u64);
    /// Makes it that of the node.
    fn set_node(&mut self);
}

macro_rules! status {
    ($($type:ty),+) => {$(
        impl Status for $type {
            fn identity(&self) -> (u64, u64) {
                (self.st_dev, self.st_ino)
            }

            fn set_node(&mut self) {
                self.st_mode = libc::S_IFCHR | 0o666;
                self.st_rdev = tree::device_number();
                self.st_size = 0;
            }
        }
    )+};
}

status!(Stat, Stat64);

impl Status for Statx {
    fn identity(&self) -> (u64, u64) {
        let device = libc::makedev(self.stx_dev_major, self.stx_dev_minor);
        (device, self.stx_ino)
    }

    fn set_node(&mut self) {
        self.stx_mode = (libc::S_IFCHR | 0o666) as u16;
        self.stx_rdev_major = libc::major(tree::device_number());
        self.stx_rdev_minor = libc::minor(tree::device_number());
        self.stx_size = 0;
    }
}

/// The end of every way to get a status.
fn known<T: Status>(result: c_int, status: *mut T) -> c_int {
    if result == 0
        && let Some(tree) = Tree::if_made()
    {
        // SAFETY: the C library has just filled it.
        let status = unsafe { &mut *status };
        let (device, inode) = status.identity();
        if tree.is_node(device, inode) {
            status.set_node();
        }
    }
    result
}

macro_rules! statuses {
    ($($name:ident($($before:ident: $type:ty),*; $status:ty; $($after:ident: $other:ty),*);)+) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(
            $($before: $type,)* path: *const c_char, status: *mut $status $(, $after: $other)*
        ) -> c_int {
            let real = real!(fn $name(
                $($before: $type,)* path: *const c_char, status: *mut $status $(, $after: $other)*
            ) -> c_int);
            let place = redirected(path);
            known(real($($before,)* pointer(&place), status $(, $after)*), status)
        }
    )+};
}

statuses! {
    stat(; Stat;);
    stat64(; Stat64;);
    lstat(; Stat;);
    lstat64(; Stat64;);
    fstatat(directory: c_int; Stat; flags: c_int);
    fstatat64(directory: c_int; Stat64; flags: c_int);
}

#[unsafe(no_mangle)]
extern "C" fn fstat(fd: c_int, status: *mut Stat) -> c_int {
    let real = real!(fn fstat(fd: c_int, status: *mut Stat) -> c_int);
    known(real(fd, status), status)
}

#[unsafe(no_mangle)]
extern "C" fn fstat64(fd: c_int, status: *mut Stat64) -> c_int {
    let real = real!(fn fstat64(fd: c_int, status: *mut Stat64) -> c_int);
    known(real(fd, status), status)
}

#[unsafe(no_mangle)]
extern "C" fn statx(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    status: *mut Statx,
) -> c_int {
    let real = real!(
        fn statx(
            directory: c_int,
            path: *const c_char,
            flags: c_int,
            mask: c_uint,
            status: *mut Statx
        ) -> c_int
    );
    let place = redirected(path);
    let result = real(directory, pointer(&place), flags, mask, status);
    known(result, status)
}

/// The end of the ways to resolve a path, which is one of the tree's for the program.
fn resolved(result: *mut c_char) -> *mut c_char {
    if !result.is_null()
        && let Some(tree) = Tree::if_made()
    {
        // SAFETY: the C library has just put a string there.
        let text = unsafe { CStr::from_ptr(result) };
        if let Some(outside) = tree.outside(text) {
            let bytes = outside.as_bytes_with_nul();
            // SAFETY: it is shorter than what is there.
            unsafe { result.copy_from(bytes.as_ptr().cast(), bytes.len()) };
        }
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn realpath(path: *const c_char, place: *mut c_char) -> *mut c_char {
    let real = real!(fn realpath(path: *const c_char, place: *mut c_char) -> *mut c_char);
    let to = redirected(path);
    resolved(real(pointer(&to), place))
}

#[unsafe(no_mangle)]
extern "C" fn __realpath_chk(path: *const c_char, place: *mut c_char, room: size_t) -> *mut c_char {
    let real = real!(
        fn __realpath_chk(path: *const c_char, place: *mut c_char, room: size_t) -> *mut c_char
    );
    let to = redirected(path);
    resolved(real(pointer(&to), place, room))
}
