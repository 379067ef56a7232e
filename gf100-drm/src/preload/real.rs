//! The C library's own functions.
//!
//! They are looked up when the library is loaded. Later is too late: a program may open the node
//! while it loads another library, and then the card's threads would wait for the loader.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_char, c_void};

/// A function of the C library, in the section that [`look_up`] goes through.
#[repr(C)]
pub struct Real {
    /// A C string.
    name: *const c_char,
    address: AtomicPtr<c_void>,
}

// SAFETY: the name is a constant.
unsafe impl Sync for Real {}

impl Real {
    /// The next definition of `name` behind this library's.
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name: name.as_ptr(),
            address: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Its address.
    pub fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: a valid name.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name) };
        if found.is_null() {
            // Nobody can call what the C library does not have.
            std::process::abort();
        }
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

unsafe extern "C" {
    /// Start of the section, as the linker defines it.
    #[link_name = "__start_gf100_real"]
    static FIRST: Real;
    /// Its end.
    #[link_name = "__stop_gf100_real"]
    static END: Real;
}

/// Runs when the library is loaded.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_UP: extern "C" fn() = look_up;

extern "C" fn look_up() {
    let (mut at, end) = (&raw const FIRST, &raw const END);
    while at < end {
        // SAFETY: the section holds nothing but such functions, one after the other.
        unsafe {
            (*at).address();
            at = at.add(1);
        }
    }
}

/// `real!(fn name(argument: type, …) -> type)`: the C library's function of that name.
macro_rules! real {
    (fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty) => {{
        #[used]
        #[unsafe(link_section = "gf100_real")]
        static REAL: $crate::preload::real::Real = {
            const NAME: &str = concat!(stringify!($name), "\0");
            match std::ffi::CStr::from_bytes_with_nul(NAME.as_bytes()) {
                Ok(name) => $crate::preload::real::Real::new(name),
                Err(_) => panic!("a name with a nul"),
            }
        };
        // SAFETY: the C library's function of this name has this type.
        unsafe {
            std::mem::transmute::<*mut libc::c_void, extern "C" fn($($type),*) -> $result>(
                REAL.address(),
            )
        }
    }};
}

pub(super) use real;
