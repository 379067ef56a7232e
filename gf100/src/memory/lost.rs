//! Memory that its owner takes away while the card uses it.
//!
//! DMA windows lead to mappings of somebody else's files. Whoever shrinks a file has every later
//! access of the pages that are gone end in SIGBUS, and checks cannot prevent that: the file can
//! shrink between the check and the access, and not every kind of file can be sealed. So mappings
//! are [`watch`]ed: the handler of the signal puts zeros in the place of the whole mapping and
//! marks it as lost. The access that was under way goes on with them; later ones find that nothing
//! answers.
//!
//! The handler is the process's, as there is no other kind. A SIGBUS elsewhere is left to whoever
//! handled it before.

use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// One mapping. Places are never freed, as a handler may be reading them, but used again.
struct Place {
    /// Its first byte; 0 when nobody uses the place.
    start: AtomicUsize,
    /// Behind its last byte.
    end: AtomicUsize,
    lost: AtomicBool,
    next: Option<&'static Place>,
}

/// The places, newest first.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());
/// Makes and reuses places.
static EDIT: Mutex<()> = Mutex::new(());
/// What handled the signal before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// Watches over a mapping as long as it lives.
pub(super) struct Watch(&'static Place);

impl Watch {
    /// The memory is gone; what is mapped in its place means nothing.
    pub(super) fn lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

/// Watches over the `len` bytes at `ptr`, a mapping of whole pages that outlives the watch.
///
/// # Errors
///
/// The handler cannot be installed.
pub(super) fn watch(ptr: NonNull<u8>, len: usize) -> io::Result<Watch> {
    let _edit = EDIT.lock();
    install()?;
    let start = ptr.addr().get();
    let place = match places().find(|place| place.start.load(Ordering::Relaxed) == 0) {
        Some(place) => place,
        None => {
            let head = PLACES.load(Ordering::Relaxed);
            let place: &'static Place = Box::leak(Box::new(Place {
                start: AtomicUsize::new(0),
                end: AtomicUsize::new(0),
                lost: AtomicBool::new(false),
                // SAFETY: null or a place, and places are for ever.
                next: unsafe { head.as_ref() },
            }));
            PLACES.store(ptr::from_ref(place).cast_mut(), Ordering::Release);
            place
        }
    };
    place.lost.store(false, Ordering::Relaxed);
    place.end.store(start + len, Ordering::Relaxed);
    place.start.store(start, Ordering::Release);
    Ok(Watch(place))
}

fn places() -> impl Iterator<Item = &'static Place> {
    // SAFETY: null or a place, and places are for ever.
    let first: Option<&'static Place> = unsafe { PLACES.load(Ordering::Acquire).as_ref() };
    std::iter::successors(first, |place| place.next)
}

/// Installs the handler, once. The caller holds [`EDIT`].
fn install() -> io::Result<()> {
    if PREVIOUS.get().is_some() {
        return Ok(());
    }
    let mut previous = MaybeUninit::uninit();
    // SAFETY: all zeros is a valid `sigaction`; the handler is async-signal-safe.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, previous.as_mut_ptr())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has filled it in.
    let _ = PREVIOUS.set(unsafe { previous.assume_init() });
    Ok(())
}

/// The handler: atomics and system calls alone.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid one in.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    if code == libc::BUS_ADRERR && replace(address) {
        return;
    }
    // Not ours: the access, or whoever sent the signal, meets what was there before.
    // SAFETY: the action is one that was in force; `raise` is async-signal-safe.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            libc::sigaction(signal, previous, ptr::null_mut());
        }
        if code <= 0 {
            libc::raise(signal);
        }
    }
}

/// Puts zeros in the place of the mapping that has `address`; whether there is one.
fn replace(address: usize) -> bool {
    let mapping = |place: &Place| {
        let start = place.start.load(Ordering::Acquire);
        let end = place.end.load(Ordering::Relaxed);
        (start != 0 && (start..end).contains(&address)).then_some((start, end))
    };
    let Some((place, (start, end))) = places().find_map(|place| Some(place).zip(mapping(place)))
    else {
        return false;
    };
    // SAFETY: the mapping is a whole one, whose user is at an access of it, so it stays.
    let mapped = unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        let mapped = libc::mmap(
            ptr::without_provenance_mut(start),
            end - start,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        );
        *errno = before;
        mapped
    };
    place.lost.store(true, Ordering::Release);
    mapped != libc::MAP_FAILED
}
