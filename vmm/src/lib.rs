//! The VMM and the front ends of the card.
//!
//! [`commands`] is the `gpuvm` command line; each of its subcommands is a short function over
//! the modules beside it.

pub mod boot;
pub mod bus;
pub mod commands;
pub mod control;
pub mod devices;
pub mod ending;
pub mod gpu;
pub mod host;
pub mod io;
pub mod irq;
pub mod layout;
mod logging;
pub mod machine;
pub mod memory;
pub mod memory_slots;
pub mod metrics;
pub mod pci;
pub mod rootfs;
pub mod seccomp;
pub mod size;
pub mod soft_card;
pub mod store_rings;
pub mod terminal;
pub mod vcpu;
pub mod vfio;
pub mod vfio_user;
pub mod virtio;
pub mod vm;
