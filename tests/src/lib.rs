//! Runs stock guests on the card and judges what they say.
//!
//! A [`Machine`] is a value: a kernel, a memory file system, devices and the steps to run. The
//! tests ([`cases`]) build one, run it in a [`Session`], and read the [`Outcome`]. What a guest
//! needs from outside (QEMU, kernels, busybox) is in the [`Testbed`], which `cargo xtask testbed`
//! prepares; the card is the `gpuvm gpu` command ([`Card`]).

mod card;
pub mod cases;
mod console;
mod corpus;
mod cpio;
pub mod debian;
mod dmesg;
mod initramfs;
mod machine;
mod modules;
pub mod nested;
mod process;
pub mod rig;
mod session;
mod testbed;
mod vmlinux;

pub use card::{Card, CardOptions};
pub use dmesg::{Dmesg, Severity};
pub use initramfs::Initramfs;
pub use machine::{Board, Device, Machine, Outcome, Running, Step, StepResult, steps_in};
pub use process::{Supervised, run_tool};
pub use session::{Session, Sink};
pub use testbed::{Kernel, KernelFiles, Manifest, Qemu, Testbed};
