//! `__cxa_thread_atexit_impl`, by which thread-local values of this library are dropped.
//!
//! The C library's own waits for the loader. A program may open the node while it loads another
//! library (OpenCL drivers do), and wait for the card's threads, which then must not wait for it.

use std::ffi::c_void;
use std::sync::OnceLock;

use libc::{c_int, pthread_key_t};

use super::real::real;

type Destructor = unsafe extern "C" fn(*mut c_void);

/// What a thread has to drop, in the order of its making.
type Values = Vec<(Destructor, *mut c_void)>;

static KEY: OnceLock<pthread_key_t> = OnceLock::new();

unsafe extern "C" {
    /// Where this library begins, as the linker defines it.
    static __ehdr_start: c_void;
    /// Where it ends.
    static _end: c_void;
}

/// Drops a thread's values; what one of them makes while it is dropped comes to a new list, for
/// which the C library calls again.
unsafe extern "C" fn drop_values(values: *mut c_void) {
    // SAFETY: the key holds nothing but what `add` puts there.
    let values = unsafe { Box::from_raw(values.cast::<Values>()) };
    for (destructor, value) in values.into_iter().rev() {
        // SAFETY: registered for this value, on this thread, for its end.
        unsafe { destructor(value) };
    }
}

fn add(destructor: Destructor, value: *mut c_void) {
    let key = *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: a place for the key.
        unsafe { libc::pthread_key_create(&mut key, Some(drop_values)) };
        key
    });
    // SAFETY: the key exists, and holds null or a list of this thread.
    unsafe {
        let mut values = libc::pthread_getspecific(key).cast::<Values>();
        if values.is_null() {
            values = Box::into_raw(Box::default());
            libc::pthread_setspecific(key, values.cast());
        }
        (*values).push((destructor, value));
    }
}

#[unsafe(no_mangle)]
extern "C" fn __cxa_thread_atexit_impl(
    destructor: Destructor,
    value: *mut c_void,
    library: *mut c_void,
) -> c_int {
    // Code names its library by an address in it.
    let own = (&raw const __ehdr_start)..(&raw const _end);
    if own.contains(&library.cast_const()) {
        add(destructor, value);
        return 0;
    }
    let real = real!(
        fn __cxa_thread_atexit_impl(
            destructor: Destructor,
            value: *mut c_void,
            library: *mut c_void
        ) -> c_int
    );
    real(destructor, value, library)
}
