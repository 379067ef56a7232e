//! How many registers the operands of instructions are.

use super::decode::{AtomType, FloatSize, LodMode, Op, SurfaceDim, Tex, TexDim, TexKind};

/// Registers of an operand.
#[derive(Clone, Copy)]
pub struct Extent {
    pub regs: u32,
    /// They start at a multiple of their number.
    pub aligned: bool,
}

/// Registers of an instruction's operands.
pub struct Shape {
    pub dst: Extent,
    pub src: [Extent; 3],
}

impl Shape {
    pub fn of(op: &Op) -> Self {
        let aligned = |regs| Extent {
            regs,
            aligned: true,
        };
        let any = |regs| Extent {
            regs,
            aligned: false,
        };
        let one = aligned(1);
        let float = |size| aligned(1 + u32::from(size == FloatSize::F64));
        let (dst, a, b, c) = match *op {
            Op::DAdd(_) | Op::DMul(_) | Op::DFma(_) | Op::DMinMax { .. } => {
                (aligned(2), aligned(2), aligned(2), aligned(2))
            }
            Op::DSet { .. } => (one, aligned(2), aligned(2), one),
            Op::F2F { to, from, .. } => (float(to), one, float(from), one),
            Op::F2I { to, from, .. } => {
                (aligned(1 + u32::from(to.log2 == 3)), one, float(from), one)
            }
            Op::I2F { to, from, .. } => {
                (float(to), one, aligned(1 + u32::from(from.log2 == 3)), one)
            }
            Op::LdGlobal { ty, wide, .. } => {
                (aligned(ty.regs()), aligned(1 + u32::from(wide)), one, one)
            }
            Op::StGlobal { ty, wide, .. } => {
                (one, aligned(1 + u32::from(wide)), aligned(ty.regs()), one)
            }
            Op::Ld { ty, .. } | Op::LdLock { ty, .. } | Op::Ldc { ty, .. } => {
                (aligned(ty.regs()), one, one, one)
            }
            Op::St { ty, .. } | Op::StUnlock { ty, .. } => (one, one, aligned(ty.regs()), one),
            Op::Atom { ty, wide, .. } => {
                let data = aligned(1 + u32::from(ty == AtomType::U64));
                (data, aligned(1 + u32::from(wide)), data, data)
            }
            Op::SuLd { surface, ty } => {
                (aligned(ty.regs()), any(coordinates(surface.dim)), one, one)
            }
            Op::SuSt { surface, ty } => {
                (one, any(coordinates(surface.dim)), aligned(ty.regs()), one)
            }
            Op::SuStFormatted { surface, mask } => {
                let data = any(mask.count_ones());
                (one, any(coordinates(surface.dim)), data, one)
            }
            Op::SuLea { surface, .. } => (aligned(2), any(coordinates(surface.dim)), one, one),
            Op::Tex(tex) => {
                let (a, b) = tex_sources(&tex);
                (any(tex.mask.count_ones()), any(a), any(b), one)
            }
            Op::TexQuery { mask, indirect, .. } => {
                let a = any(1 + u32::from(indirect));
                (any(mask.count_ones()), a, one, one)
            }
            _ => (one, one, one, one),
        };
        Shape {
            dst,
            src: [a, b, c],
        }
    }
}

/// Registers that hold a surface's coordinates.
pub fn coordinates(dim: SurfaceDim) -> u32 {
    match dim {
        SurfaceDim::D1 => 1,
        SurfaceDim::D2 => 2,
        SurfaceDim::E2 => 3,
    }
}

/// Registers that hold the sources of a texture instruction, in a and in b.
///
/// Source: ENV `envydis/gf100.c tabtexsrc1, tabtexsrc2, tabtexgrsrc1, tabtexgrsrc2`; Mesa
/// `nv50_ir_lowering_nvc0.cpp handleTEX`.
pub fn tex_sources(tex: &Tex) -> (u32, u32) {
    let dims = match tex.dim {
        TexDim::D1 => 1,
        TexDim::D2 => 2,
        TexDim::D3 | TexDim::Cube => 3,
    };
    let first = u32::from(tex.array || tex.indirect);
    let mut a = first + dims;
    let mut b = u32::from(tex.offset) + u32::from(tex.shadow);
    match tex.kind {
        TexKind::Sample(LodMode::Bias | LodMode::Explicit) => b += 1,
        TexKind::Sample(_) | TexKind::QueryLod => {}
        TexKind::Gradient => {
            a += u32::from(tex.offset);
            b = 2 * dims;
        }
        TexKind::Fetch { lod, multisample } => b += u32::from(lod) + u32::from(multisample),
        TexKind::Gather { four_offsets, .. } => b += 2 * u32::from(four_offsets),
    }
    (a.min(4), b.min(4))
}
