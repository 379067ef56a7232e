//! Surface instructions: loads, stores and addresses of images.

use super::{Cx, Halt, Inst};
use crate::{
    memory::{Access, Fault},
    sm::{
        decode::{MemType, Pred, RegOrImm, Surface, SurfaceClamp, SurfaceDim},
        image::{Pixel, View},
        lanes::{LANES, each},
        launch::{IMAGES, WarpError},
    },
};

/// Bytes of a unit of the third coordinate.
const OFFSET_UNIT: u64 = 256;

impl Cx<'_> {
    /// What is bound to the slot that a lane means.
    fn view(&self, surface: Surface, lane: usize) -> Option<View> {
        let slot = match surface.slot {
            RegOrImm::Imm(slot) => slot.into(),
            RegOrImm::Reg(reg) => self.register(reg, lane),
        };
        View::new(&self.env.launch.images[slot as usize % IMAGES])
    }

    /// Where `len` bytes are for a lane, `scale` bytes being the unit of x; `None` if they are to
    /// be left alone.
    fn surface_address(
        &self,
        i: &Inst,
        surface: Surface,
        view: &View,
        lane: usize,
        (scale, len): (u32, u32),
    ) -> Result<Option<u64>, WarpError> {
        let coord = |n: u16| self.row_at(i.src[0], n)[lane];
        let x = u64::from(coord(0)) * u64::from(scale);
        let (y, offset) = match surface.dim {
            SurfaceDim::D1 => (0, 0),
            SurfaceDim::D2 => (coord(1), 0),
            SurfaceDim::E2 => (coord(1), u64::from(coord(2)) * OFFSET_UNIT),
        };
        let inside = u32::try_from(x)
            .ok()
            .and_then(|x| view.at(x, y, len))
            .map(|at| at.wrapping_add(offset));
        match (inside, surface.clamp) {
            (Some(_), _) | (None, SurfaceClamp::Ignore) => Ok(inside),
            (None, SurfaceClamp::Trap) => Err(WarpError::OorAddr),
            (None, SurfaceClamp::Clamp) => {
                let x = (coord(0) as i32).saturating_mul(scale as i32);
                let at = view.clamped(x, y as i32, len);
                Ok(Some(at.wrapping_add(offset)))
            }
        }
    }

    fn read_surface(&mut self, va: u64, len: usize) -> Result<[u8; 16], Fault> {
        let mut bytes = [0; 16];
        self.client
            .for_each_segment(self.guard, va, len, Access::Read, |at, span| {
                span.copy_to(&mut bytes[at..len]);
            })?;
        Ok(bytes)
    }

    fn write_surface(&mut self, va: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.client
            .for_each_segment(self.guard, va, bytes.len(), Access::Write, |at, span| {
                span.copy_from(&bytes[at..]);
            })
    }
}

/// Loads raw bytes; x counts bytes.
pub fn load(cx: &mut Cx<'_>, i: &Inst, surface: Surface, ty: MemType) -> Result<(), Halt> {
    let mut words = [[0; 4]; LANES];
    let len = ty.bytes();
    for lane in each(cx.mask) {
        let Some(view) = cx.view(surface, lane) else {
            continue;
        };
        let Some(va) = cx.surface_address(i, surface, &view, lane, (1, len))? else {
            continue;
        };
        if va % u64::from(len) != 0 {
            return Err(WarpError::MisalignedAddr.into());
        }
        let bytes = cx.read_surface(va, len as usize)?;
        words[lane] = super::memory::words_from(ty, &bytes);
    }
    cx.write_words(i.dst, ty, &words);
    Ok(())
}

/// Stores raw bytes; x counts bytes.
pub fn store(cx: &mut Cx<'_>, i: &Inst, surface: Surface, ty: MemType) -> Result<(), Halt> {
    let len = ty.bytes();
    for lane in each(cx.mask) {
        let Some(view) = cx.view(surface, lane) else {
            continue;
        };
        let Some(va) = cx.surface_address(i, surface, &view, lane, (1, len))? else {
            continue;
        };
        if va % u64::from(len) != 0 {
            return Err(WarpError::MisalignedAddr.into());
        }
        let mut bytes = [0; 16];
        let data = cx.data(i, ty, lane);
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(data) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        cx.write_surface(va, &bytes[..len as usize])?;
    }
    Ok(())
}

/// Stores the components of `mask` in the image's format; x counts pixels.
pub fn store_formatted(cx: &mut Cx<'_>, i: &Inst, surface: Surface, mask: u8) -> Result<(), Halt> {
    for lane in each(cx.mask) {
        let Some(view) = cx.view(surface, lane) else {
            continue;
        };
        let Pixel::Color(format) = view.pixel else {
            return Err(WarpError::IllegalInstrParam.into());
        };
        let len = format.bytes();
        let Some(va) = cx.surface_address(i, surface, &view, lane, (len, len))? else {
            continue;
        };
        let mut rows = 0u16..;
        let color = [0, 1, 2, 3].map(|n| match mask >> n & 1 {
            0 => 0,
            _ => cx.row_at(i.src[1], rows.next().unwrap_or(0))[lane],
        });
        let pixel = format.pack(color).to_le_bytes();
        cx.write_surface(va, &pixel[..len as usize])?;
    }
    Ok(())
}

/// The address of what a load would load; the predicate says that there is nothing.
pub fn address(
    cx: &mut Cx<'_>,
    i: &Inst,
    surface: Surface,
    ty: MemType,
    outside: Pred,
) -> Result<(), Halt> {
    let mut addresses = [0; LANES];
    let mut missing = 0;
    for lane in each(cx.mask) {
        let va = match cx.view(surface, lane) {
            Some(view) => cx.surface_address(i, surface, &view, lane, (1, ty.bytes()))?,
            None => None,
        };
        missing |= u32::from(va.is_none()) << lane;
        addresses[lane] = va.unwrap_or(0);
    }
    cx.write_pair(i.dst, &addresses);
    cx.set_pred(outside, missing);
    Ok(())
}
