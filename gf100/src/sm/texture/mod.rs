//! The texture unit: what texture instructions look up.
//!
//! * [`header`] and [`sampler`] decode the headers that the driver keeps in tables, with the fields
//!   in [`bits`];
//! * [`texel`] has the formats;
//! * [`sample`] filters, gathers and fetches.
//!
//! Coordinates and weights are single-precision numbers where hardware has 8 bits of fraction;
//! anisotropic filters are as isotropic ones; filters do not cross the edges of a cube's faces, for
//! which TEX_MISC would have to be set, and Mesa does not for compute (M25 `nvc0/nvc0_compute.c`).

pub mod bits;
mod header;
mod sample;
mod sampler;
mod texel;

use std::sync::OnceLock;

use self::bits::{HEADER_BYTES, Header};
pub use self::{
    header::{Reader, Texture},
    sample::{Lookup, Place, dimensions, fetch},
    sampler::Sampler,
};
use super::launch::{HeaderTable, Launch, SAMPLERS, TEXTURES};
use crate::memory::{Client, Fault};

/// The textures and samplers of a launch, each as it was when it was first used.
#[derive(Default)]
pub struct Headers {
    textures: Slots<Texture>,
    samplers: Slots<Sampler>,
}

/// What is in each slot, if it was looked at; most launches look at none.
type Slots<T> = OnceLock<Box<[OnceLock<Option<T>>; TEXTURES]>>;

/// The cells of the slots.
fn cells<T>(slots: &Slots<T>) -> &[OnceLock<Option<T>>; TEXTURES] {
    slots.get_or_init(|| Box::new([const { OnceLock::new() }; TEXTURES]))
}

const _: () = assert!(SAMPLERS <= TEXTURES);

/// Header `index` of a table; `None` if it has none.
fn read(client: &mut Client, table: HeaderTable, index: u32) -> Result<Option<Header>, Fault> {
    if index > table.limit {
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES as usize];
    let at = table.address + u64::from(index) * u64::from(HEADER_BYTES);
    client.read(at, &mut bytes)?;
    let word = |n: usize| [0, 1, 2, 3].map(|byte| bytes[4 * n + byte]);
    Ok(Some(std::array::from_fn(|n| u32::from_le_bytes(word(n)))))
}

impl Headers {
    /// The texture in a slot; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Its header cannot be read.
    pub fn texture(
        &self,
        client: &mut Client,
        launch: &Launch,
        slot: u32,
    ) -> Result<Option<&Texture>, Fault> {
        let slot = slot as usize;
        let (Some(cell), Some(Some(index))) =
            (cells(&self.textures).get(slot), launch.textures.get(slot))
        else {
            return Ok(None);
        };
        if cell.get().is_none() {
            let header = read(client, launch.tic, *index)?;
            cell.get_or_init(|| header.as_ref().and_then(Texture::new));
        }
        Ok(cell.get().and_then(Option::as_ref))
    }

    /// The sampler in a slot, or with linked samplers that of a texture; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Its header cannot be read.
    pub fn sampler(
        &self,
        client: &mut Client,
        launch: &Launch,
        texture: u32,
        slot: u32,
    ) -> Result<Option<&Sampler>, Fault> {
        let slot = if launch.linked_tsc { texture } else { slot } as usize;
        let index = match launch.linked_tsc {
            true => launch.textures.get(slot),
            false => launch.samplers.get(slot),
        };
        let (Some(cell), Some(Some(index))) = (cells(&self.samplers).get(slot), index) else {
            return Ok(None);
        };
        if cell.get().is_none() {
            let header = read(client, launch.tsc, *index)?;
            cell.get_or_init(|| header.as_ref().map(Sampler::new));
        }
        Ok(cell.get().and_then(Option::as_ref))
    }
}
