//! A nouveau render node on the software card, in the process that uses it.
//!
//! Loaded by `LD_PRELOAD`, this library lets a program find `/dev/dri/renderD128` with a GF100
//! behind it, whose driver (as far as user space sees it: Linux 6.1's nouveau) and whose silicon
//! are in here. Unmodified Mesa compiles and submits, the card executes; there is no kernel driver
//! and no virtual machine.
//!
//! * [`preload`] answers for the functions of the C library by which programs reach the node;
//! * [`tree`] is what they find in `/dev` and `/sys`, [`node`] which descriptors are the node's;
//! * [`request`] takes requests apart, [`client`] serves them: an address space, [`buffer`]s and
//!   [`channel`]s per open file;
//! * [`device`] drives the card, by its registers and by structures in its memory ([`memory`]) and
//!   nothing else; [`interrupts`] is its handler.
//!
//! A fault or a trap kills the channel that caused it, as in the kernel, and says why on standard
//! error. Its program gets errors from then on, or is ended when it waits for the channel.

mod buffer;
mod channel;
mod client;
mod device;
mod error;
mod interrupts;
mod memory;
mod node;
mod preload;
mod request;
mod settings;
mod tree;
