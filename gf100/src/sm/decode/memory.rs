//! Classes 5 and 6: memory, surfaces, constants and textures.

use super::*;

fn mem_type(word: Word) -> Result<MemType, Illegal> {
    Ok(match word.get(bits::MEM_TYPE) {
        0 => MemType::U8,
        1 => MemType::S8,
        2 => MemType::U16,
        3 => MemType::S16,
        4 => MemType::B32,
        5 => MemType::B64,
        6 => MemType::B128,
        _ => return Err(Illegal),
    })
}

/// A load: the address in a.
fn load(word: Word, op: Op) -> Instruction {
    let a = Source::new(reg(word, bits::SRC_A));
    Instruction::to_dst(word, op, [a, Source::ZERO, Source::ZERO])
}

/// A store: the address in a, the data, which are where destinations usually are, in b.
fn store(word: Word, op: Op) -> Instruction {
    let data = Source::new(reg(word, bits::DST));
    let a = Source::new(reg(word, bits::SRC_A));
    Instruction {
        src: [a, data, Source::ZERO],
        ..Instruction::bare(word, op)
    }
}

/// Class 5.
pub(super) fn decode(word: Word) -> Result<Instruction, Illegal> {
    let wide = word.is(bits::MEM_WIDE);
    let offset32 = word.get(bits::MEM_OFFSET32) as i32;
    let offset = word.signed(bits::MEM_OFFSET24);
    let window = match word.is(bits::MEM_SHARED) {
        true => Window::Shared,
        false => Window::Local,
    };
    match word.get(bits::OPCODE) {
        0x02 | 0x03 | 0x05 => return reduction(word, offset32),
        0x0a | 0x0b | 0x0d => return atomic(word),
        0x10 => {
            let ty = mem_type(word)?;
            let offset = offset32;
            return Ok(load(word, Op::LdGlobal { ty, wide, offset }));
        }
        0x12 => {
            let ty = mem_type(word)?;
            let offset = offset32;
            return Ok(store(word, Op::StGlobal { ty, wide, offset }));
        }
        0x13 => return Ok(Instruction::bare(word, Op::Fence)),
        _ => {}
    }
    Ok(match word.get(bits::OPCODE6) {
        0x30 => load(
            word,
            Op::Ld {
                window,
                ty: mem_type(word)?,
                offset,
            },
        ),
        0x31 => load(
            word,
            Op::LdLock {
                ty: mem_type(word)?,
                offset,
                locked: Pred(word.get(bits::LOCK_PRED) as u8),
            },
        ),
        0x32 => store(
            word,
            Op::St {
                window,
                ty: mem_type(word)?,
                offset,
            },
        ),
        0x33 => store(
            word,
            Op::StUnlock {
                ty: mem_type(word)?,
                offset,
            },
        ),
        0x34 | 0x38 => Instruction::bare(word, Op::Fence),
        0x35 => load(
            word,
            Op::SuLd {
                surface: surface(word)?,
                ty: mem_type(word)?,
            },
        ),
        0x37 => {
            let surface = surface(word)?;
            let op = match word.get(bits::SUSTP_MASK) {
                0 => Op::SuSt {
                    surface,
                    ty: mem_type(word)?,
                },
                mask => Op::SuStFormatted {
                    surface,
                    mask: mask as u8,
                },
            };
            store(word, op)
        }
        0x3c => load(
            word,
            Op::SuLea {
                surface: surface(word)?,
                ty: mem_type(word)?,
                outside: Pred(word.get(bits::SULEA_PRED) as u8),
            },
        ),
        _ => return Err(Illegal),
    })
}

fn surface(word: Word) -> Result<Surface, Illegal> {
    Ok(Surface {
        slot: match word.is(bits::SURFACE_IMM) {
            true => RegOrImm::Imm(word.get(bits::SURFACE) as u16),
            false => RegOrImm::Reg(Reg(word.get(bits::SRC_B) as u8)),
        },
        dim: match word.get(bits::SURFACE_DIM) {
            0 => SurfaceDim::D1,
            1 => SurfaceDim::D2,
            3 => SurfaceDim::E2,
            _ => return Err(Illegal),
        },
        clamp: match word.get(bits::SURFACE_CLAMP) {
            0 => SurfaceClamp::Ignore,
            1 => SurfaceClamp::Trap,
            3 => SurfaceClamp::Clamp,
            _ => return Err(Illegal),
        },
    })
}

/// The operation and type of an atomic, by opcode (the type's family), bit 9 and number.
fn atomic_kind(word: Word, family: u32) -> Result<(AtomOp, AtomType), Illegal> {
    const OPS: [AtomOp; 8] = [
        AtomOp::Add,
        AtomOp::Min,
        AtomOp::Max,
        AtomOp::Inc,
        AtomOp::Dec,
        AtomOp::And,
        AtomOp::Or,
        AtomOp::Xor,
    ];
    let number = word.get(bits::ATOM_OP);
    let second = word.is(bits::ATOM_KIND);
    Ok(match (family, second, number) {
        (2, false, 0..=7) => (OPS[number as usize], AtomType::U32),
        (2, false, 8) => (AtomOp::Exch, AtomType::U32),
        (2, false, 9) => (AtomOp::Cas, AtomType::U32),
        (2, true, 0) => (AtomOp::Add, AtomType::U64),
        (2, true, 8) => (AtomOp::Exch, AtomType::U64),
        (2, true, 9) => (AtomOp::Cas, AtomType::U64),
        (3, true, 0..=2) => (OPS[number as usize], AtomType::S32),
        (5, true, 0) => (AtomOp::Add, AtomType::F32),
        _ => return Err(Illegal),
    })
}

/// An atomic whose old value nobody wants.
fn reduction(word: Word, offset: i32) -> Result<Instruction, Illegal> {
    let (op, ty) = atomic_kind(word, word.get(bits::OPCODE))?;
    if matches!(op, AtomOp::Exch | AtomOp::Cas) {
        return Err(Illegal);
    }
    let wide = word.is(bits::MEM_WIDE);
    let op = Op::Atom {
        op,
        ty,
        wide,
        offset,
    };
    Ok(store(word, op))
}

fn atomic(word: Word) -> Result<Instruction, Illegal> {
    let (op, ty) = atomic_kind(word, word.get(bits::OPCODE) - 8)?;
    let low = word.get(bits::ATOM_OFFSET_LOW);
    let high = word.signed(bits::ATOM_OFFSET_HIGH);
    let op = Op::Atom {
        op,
        ty,
        wide: word.is(bits::MEM_WIDE),
        offset: high << 17 | low as i32,
    };
    let c = Source::new(reg(word, bits::SRC_C));
    let mut atom = store(word, op);
    atom.src[2] = c;
    atom.dst = Reg(word.get(bits::ATOM_DST) as u8);
    Ok(atom)
}

/// Class 6.
pub(super) fn decode_const_and_texture(word: Word) -> Result<Instruction, Illegal> {
    if word.get(bits::OPCODE6) == 0x05 {
        let mode = match word.get(bits::LDC_MODE) {
            0 => LdcMode::Default,
            2 => LdcMode::Segmented,
            _ => return Err(Illegal),
        };
        let op = Op::Ldc {
            ty: mem_type(word)?,
            bank: word.get(bits::LDC_BANK) as u8,
            offset: word.signed(bits::CONST_OFFSET),
            mode,
        };
        return Ok(load(word, op));
    }
    texture(word)
}

fn texture(word: Word) -> Result<Instruction, Illegal> {
    let kind = match word.get(bits::TEX_OPCODE) {
        0x8 => TexKind::Sample(match word.get(bits::TEX_LOD) {
            0 => LodMode::Auto,
            1 => LodMode::Zero,
            2 => LodMode::Bias,
            3 => LodMode::Explicit,
            _ => return Err(Illegal),
        }),
        0x9 => TexKind::Fetch {
            lod: word.is(bits::TXF_LOD),
            multisample: word.is(bits::TEX_EXTRA),
        },
        0xa => TexKind::Gather {
            component: word.get(bits::TEX_GATHER_COMPONENT) as u8,
            four_offsets: word.is(bits::TEX_EXTRA),
        },
        0xb => TexKind::QueryLod,
        0xc => return texture_query(word),
        0xe => TexKind::Gradient,
        // Waits for textures, which are never late.
        0xf => return Ok(Instruction::bare(word, Op::Fence)),
        _ => return Err(Illegal),
    };
    let tex = Tex {
        kind,
        texture: word.get(bits::TEX_TEXTURE) as u8,
        sampler: word.get(bits::TEX_SAMPLER) as u8,
        indirect: word.is(bits::TEX_INDIRECT),
        array: word.is(bits::TEX_ARRAY),
        dim: match word.get(bits::TEX_DIM) {
            0 => TexDim::D1,
            1 => TexDim::D2,
            2 => TexDim::D3,
            _ => TexDim::Cube,
        },
        shadow: word.is(bits::TEX_SHADOW) && !matches!(kind, TexKind::Fetch { .. }),
        offset: word.is(bits::TEX_OFFSET),
        all_lanes: word.is(bits::TEX_ALL_LANES),
        mask: word.get(bits::TEX_MASK) as u8,
    };
    let src = [
        Source::new(reg(word, bits::SRC_A)),
        Source::new(reg(word, bits::SRC_B)),
        Source::ZERO,
    ];
    Ok(Instruction::to_dst(word, Op::Tex(tex), src))
}

fn texture_query(word: Word) -> Result<Instruction, Illegal> {
    let query = match word.get(bits::TXQ_QUERY) {
        0 => TexQuery::Dimensions,
        1 => TexQuery::Type,
        _ => return Err(Illegal),
    };
    let op = Op::TexQuery {
        query,
        texture: word.get(bits::TEX_TEXTURE) as u8,
        indirect: word.is(bits::TEX_INDIRECT),
        mask: word.get(bits::TEX_MASK) as u8,
    };
    let src = [
        Source::new(reg(word, bits::SRC_A)),
        Source::new(reg(word, bits::SRC_B)),
        Source::ZERO,
    ];
    Ok(Instruction::to_dst(word, op, src))
}
