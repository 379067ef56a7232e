//! Copies between pitch and block-linear images.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use guest::blocklinear::{GOB_BYTES, GOB_HEIGHT, GOB_WIDTH, Layout, SECTOR_BYTES};
use guest::copy::{Engine, Place};
use guest::pattern::{Pattern, byte};
use guest::{Access, Buffer, Domain, Push};

use crate::case::{Case, Context, LIMIT, filled};
use crate::copy::channel_with;

pub const CASES: &[Case] = &[
    Case {
        name: "block-linear",
        about: "pitch to block-linear and back, whole and in part, is the identity",
        seconds: 120,
        run: block_linear,
    },
    Case {
        name: "block-linear-layout",
        about: "GOBs lie where the definition puts them, for each engine",
        seconds: 120,
        run: block_linear_layout,
    },
    Case {
        name: "block-linear-depth",
        about: "slices of a block of depth keep apart",
        seconds: 60,
        run: block_linear_depth,
    },
];

/// Layouts that exercise partial GOBs, partial blocks and several blocks.
const LAYOUTS: [Layout; 4] = [
    Layout {
        width: 256,
        height: 64,
        depth: 1,
        log2_height: 0,
        log2_depth: 0,
    },
    Layout {
        width: 1024,
        height: 128,
        depth: 1,
        log2_height: 2,
        log2_depth: 0,
    },
    Layout {
        width: 300,
        height: 50,
        depth: 1,
        log2_height: 1,
        log2_depth: 0,
    },
    Layout {
        width: 4096,
        height: 512,
        depth: 1,
        log2_height: 4,
        log2_depth: 0,
    },
];

fn block_linear(context: &Context) -> Result<()> {
    let device = context.open()?;
    let (content, canary) = (Pattern::new(9), Pattern::new(10));
    for layout in LAYOUTS {
        let Layout { width, height, .. } = layout;
        let pixels = u64::from(width) * u64::from(height);
        let source = filled(&device, pixels, content)?;
        let back = Buffer::new(&device, Domain::Gart, pixels)?;
        let blocks = Buffer::new(&device, Domain::Vram, layout.bytes())?;
        let (linear, tiled) = (
            Place::pitch(source.address(), width),
            Place::blocks(blocks.address(), layout),
        );
        let target = Place::pitch(back.address(), width);
        for engine in Engine::ALL {
            for other in Engine::ALL {
                let context = || {
                    format!(
                        "{layout:?}, {} to blocks, {} back",
                        engine.name(),
                        other.name()
                    )
                };
                let mut into = channel_with(&device, engine)?;
                let mut out = channel_with(&device, other)?;
                canary.fill(back.quads()?);
                let mut push = Push::new();
                engine.rectangle(&mut push, linear, tiled, width, height, None);
                into.run(
                    &push,
                    &[(&source, Access::Read), (&blocks, Access::Write)],
                    LIMIT,
                )?;
                let mut push = Push::new();
                other.rectangle(&mut push, tiled, target, width, height, None);
                out.run(
                    &push,
                    &[(&blocks, Access::Read), (&back, Access::Write)],
                    LIMIT,
                )?;
                content
                    .check(back.quads()?, 0, 0, pixels)
                    .with_context(context)?;

                // A part that begins inside a GOB and spans several, read out by itself.
                let (x, y, line, lines) = (37, 5, width / 2, height / 2);
                let mut push = Push::new();
                let packed = Place::pitch(back.address(), line);
                other.rectangle(&mut push, tiled.at(x, y, 0), packed, line, lines, None);
                out.run(
                    &push,
                    &[(&blocks, Access::Read), (&back, Access::Write)],
                    LIMIT,
                )?;
                for row in 0..lines {
                    let from = u64::from(y + row) * u64::from(width) + u64::from(x);
                    let at = u64::from(row) * u64::from(line);
                    content
                        .check(back.quads()?, at, from, line.into())
                        .with_context(|| format!("part, line {row}"))
                        .with_context(context)?;
                }
            }
        }
    }
    Ok(())
}

fn block_linear_layout(context: &Context) -> Result<()> {
    let device = context.open()?;
    for layout in LAYOUTS {
        let Layout { width, height, .. } = layout;
        let content = Pattern::new(11);
        let source = filled(&device, u64::from(width) * u64::from(height), content)?;
        let blocks = Buffer::new(&device, Domain::Gart, layout.bytes())?;
        for engine in Engine::ALL {
            let mut channel = channel_with(&device, engine)?;
            Pattern::new(12).fill(blocks.quads()?);
            let mut push = Push::new();
            let from = Place::pitch(source.address(), width);
            let to = Place::blocks(blocks.address(), layout);
            engine.rectangle(&mut push, from, to, width, height, None);
            channel.run(
                &push,
                &[(&source, Access::Read), (&blocks, Access::Write)],
                LIMIT,
            )?;
            for y in (0..height / GOB_HEIGHT * GOB_HEIGHT).step_by(GOB_HEIGHT as usize) {
                for x in (0..width / GOB_WIDTH * GOB_WIDTH).step_by(GOB_WIDTH as usize) {
                    let at = layout.gob(x, y, 0);
                    ensure!(
                        sectors(&blocks, at)? == expected_sectors(content, width, x, y),
                        "{}: {layout:?}: GOB at {x}, {y} is not at {at:#x}",
                        engine.name()
                    );
                }
            }
        }
    }
    Ok(())
}

/// The sectors of the GOB at an offset, without their order: only engines know that.
fn sectors(buffer: &Buffer, gob: u64) -> Result<BTreeSet<Vec<u8>>> {
    let memory = buffer.quads()?;
    let sector = |start: u64| {
        (start..start + SECTOR_BYTES)
            .map(|at| byte(memory, at))
            .collect()
    };
    Ok((gob..gob + GOB_BYTES)
        .step_by(SECTOR_BYTES as usize)
        .map(sector)
        .collect())
}

/// The sectors that the GOB at `x`, `y` of a pitch image should have.
fn expected_sectors(content: Pattern, pitch: u32, x: u32, y: u32) -> BTreeSet<Vec<u8>> {
    let mut sectors = BTreeSet::new();
    for line in y..y + GOB_HEIGHT {
        let start = u64::from(line) * u64::from(pitch) + u64::from(x);
        for sector in (start..start + u64::from(GOB_WIDTH)).step_by(SECTOR_BYTES as usize) {
            sectors.insert(
                (sector..sector + SECTOR_BYTES)
                    .map(|at| content.byte(at))
                    .collect(),
            );
        }
    }
    sectors
}

fn block_linear_depth(context: &Context) -> Result<()> {
    let layout = Layout {
        width: 128,
        height: 32,
        depth: 5,
        log2_height: 1,
        log2_depth: 2,
    };
    let device = context.open()?;
    let slice = u64::from(layout.width) * u64::from(layout.height);
    let blocks = Buffer::new(&device, Domain::Vram, layout.bytes())?;
    let source = Buffer::new(&device, Domain::Gart, slice)?;
    for engine in Engine::ALL {
        let mut channel = channel_with(&device, engine)?;
        let linear = Place::pitch(source.address(), layout.width);
        let tiled = Place::blocks(blocks.address(), layout);
        let used = [(&source, Access::ReadWrite), (&blocks, Access::ReadWrite)];
        let seed = |z: u32| Pattern::new(u64::from(engine.class()) << 8 | u64::from(z));
        for z in 0..layout.depth {
            seed(z).fill(source.quads()?);
            let mut push = Push::new();
            let to = tiled.at(0, 0, z);
            engine.rectangle(&mut push, linear, to, layout.width, layout.height, None);
            channel.run(&push, &used, LIMIT)?;
        }
        for z in 0..layout.depth {
            let mut push = Push::new();
            let from = tiled.at(0, 0, z);
            engine.rectangle(&mut push, from, linear, layout.width, layout.height, None);
            channel.run(&push, &used, LIMIT)?;
            seed(z)
                .check(source.quads()?, 0, 0, slice)
                .with_context(|| format!("{}: slice {z}", engine.name()))?;
        }
    }
    Ok(())
}
