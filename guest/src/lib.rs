//! What runs inside a guest: the public nouveau DRM interface, without libdrm.
//!
//! The guest is a stock kernel with its stock `nouveau`; these tools speak to its render node as
//! any user-space driver does. A [`Device`] is the open node, a [`Buffer`] a GEM object in VRAM or
//! GART, a [`Channel`] a GPU command stream with a virtual address space of its own file. Methods
//! are collected in a [`Push`] and submitted with the buffers they touch.
//!
//! Everything works with the interface that Linux 6.1 and 6.12 share: channels and engine objects
//! by the ABI16 ioctls, submission by `GEM_PUSHBUF` with the addresses that the kernel chose, so
//! that no relocation is ever needed. Nothing here links to C beyond the C library, so the
//! binaries can be static and run from an initramfs.

pub mod aperture;
pub mod bar;
pub mod blocklinear;
mod buffer;
mod channel;
pub mod copy;
mod device;
mod error;
pub mod hostile;
pub mod kernel;
pub mod kmsg;
pub mod methods;
pub mod pattern;
mod push;
mod semaphore;
pub mod uapi;

pub use buffer::{Buffer, Domain};
pub use channel::{Access, Channel, Object};
pub use device::{Device, Param};
pub use error::{Error, Result};
pub use push::Push;
pub use semaphore::{Semaphore, wait_until};
