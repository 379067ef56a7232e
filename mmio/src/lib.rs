//! The GF100's programming interface as data.
//!
//! Everything that software and the card have to agree on lives here, once: the registers of
//! BAR0 ([`regs`]), the formats that both sides keep in memory ([`layout`]), and the description
//! of one access ([`Access`]). The card (`gf100`) gives these registers behaviour, the device
//! model (`gpu-model`) decides which of them a guest may reach; neither spells an offset itself.
//!
//! Sources are named the way the rest of the project names them:
//!
//! | tag | tree |
//! |---|---|
//! | K61 | `drivers/gpu/drm/nouveau` of Linux 6.1 |
//! | K612 | `drivers/gpu/drm/nouveau` of Linux 6.12 |
//! | M25 | Mesa 25.0, `src/nouveau` and `src/gallium/drivers/nouveau` |
//! | ENV | envytools, `docs` and `rnndb` |

mod access;
pub mod bring_up;
pub mod layout;
mod map;
pub mod policy;
mod ports;
mod register;
pub mod regs;
pub mod trace;
pub mod words;

pub use access::{Access, Bar, Direction, VmId, Width};
pub use map::{Hit, RegisterMap};
pub use ports::FalconPorts;
pub use register::{Kind, RegId, Register, Unit};
