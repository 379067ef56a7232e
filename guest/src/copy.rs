//! The three engines that copy: CE0, CE1 and M2MF.

use crate::blocklinear::Layout;
use crate::methods::{class, copy, host, m2mf};
use crate::push::split;
use crate::{Channel, Object, Push, Result};

/// Bytes of a line when a long copy is cut into lines.
const LINE: u64 = 0x8000;

/// How far from its buffer's beginning the target of a copy within video memory should be whose time is
/// taken. Where the card is a program that QEMU interprets, that looks for translations in a table of
/// a power of two entries, by page, and two pages that are a multiple of it apart take each other's entry
/// away at each access (`accel/tcg/cputlb.c`, `tlb_index`). Buffers begin at multiples of 128 KiB, so
/// both sides of a copy would meet so in all of their pages, or in none, and take twice as long by
/// chance.
pub const APART: u64 = 5 << 12;

/// An engine that copies memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Copy engine 0, class 0x90b5.
    Ce0,
    /// Copy engine 1, class 0x90b8.
    Ce1,
    /// PGRAPH's memory to memory format, class 0x9039.
    M2mf,
}

/// How an image lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrangement {
    /// Lines at a distance of so many bytes.
    Pitch(u32),
    /// Blocks.
    Blocks(Layout),
}

/// A place in an image; widths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// GPU address of the image.
    pub address: u64,
    /// How it lies in memory.
    pub arrangement: Arrangement,
    /// First byte in a line.
    pub x: u32,
    /// First line.
    pub y: u32,
    /// Slice; pitch images have only slice 0.
    pub z: u32,
}

impl Place {
    /// The beginning of a pitch image.
    pub fn pitch(address: u64, pitch: u32) -> Place {
        Place {
            address,
            arrangement: Arrangement::Pitch(pitch),
            x: 0,
            y: 0,
            z: 0,
        }
    }

    /// The beginning of a block-linear image.
    pub fn blocks(address: u64, layout: Layout) -> Place {
        Place {
            address,
            arrangement: Arrangement::Blocks(layout),
            x: 0,
            y: 0,
            z: 0,
        }
    }

    /// The same image, at byte `x` of line `y` in slice `z`.
    pub fn at(self, x: u32, y: u32, z: u32) -> Place {
        Place { x, y, z, ..self }
    }

    /// Address and pitch as the engines take them: a pitch image is moved by its origin, a
    /// block-linear one has its own origin methods.
    fn base(&self) -> (u64, u32) {
        match self.arrangement {
            Arrangement::Pitch(pitch) => (
                self.address + u64::from(self.y) * u64::from(pitch) + u64::from(self.x),
                pitch,
            ),
            Arrangement::Blocks(_) => (self.address, 0),
        }
    }

    fn is_pitch(&self) -> bool {
        matches!(self.arrangement, Arrangement::Pitch(_))
    }
}

/// What the engine writes when a copy is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// GPU address.
    pub address: u64,
    /// The first word.
    pub sequence: u32,
    /// The sequence alone; otherwise also a zero and the 64-bit time.
    pub short: bool,
}

impl Engine {
    /// All of them.
    pub const ALL: [Engine; 3] = [Engine::Ce0, Engine::Ce1, Engine::M2mf];

    /// The name in test cases and reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Ce0 => "ce0",
            Engine::Ce1 => "ce1",
            Engine::M2mf => "m2mf",
        }
    }

    /// The object's class.
    pub fn class(self) -> u32 {
        match self {
            Engine::Ce0 => class::COPY0,
            Engine::Ce1 => class::COPY1,
            Engine::M2mf => class::M2MF,
        }
    }

    /// The subchannel that these functions use, one for each, so that a channel can have all.
    pub fn subchannel(self) -> u32 {
        match self {
            Engine::M2mf => 2,
            Engine::Ce0 => 4,
            Engine::Ce1 => 5,
        }
    }

    fn max_lines(self) -> u32 {
        match self {
            Engine::Ce0 | Engine::Ce1 => copy::MAX_LINES,
            Engine::M2mf => m2mf::MAX_LINES,
        }
    }

    /// Creates the engine's object and emits its binding.
    pub fn attach(self, channel: &Channel, push: &mut Push) -> Result<Object> {
        let object = channel.object(self.class())?;
        push.incr(self.subchannel(), host::SET_OBJECT, &[self.class()]);
        Ok(object)
    }

    /// Emits a copy of consecutive bytes.
    pub fn linear(self, push: &mut Push, source: u64, target: u64, bytes: u64) {
        let mut done = 0;
        while done < bytes {
            let rest = bytes - done;
            let (line, lines) = if rest < LINE {
                (rest, 1)
            } else {
                (LINE, (rest / LINE).min(u64::from(self.max_lines())))
            };
            let pitch = line as u32;
            self.rectangle(
                push,
                Place::pitch(source + done, pitch),
                Place::pitch(target + done, pitch),
                line as u32,
                lines as u32,
                None,
            );
            done += line * lines;
        }
    }

    /// Emits a copy of `lines` lines of `line` bytes, and what to write when it is done.
    ///
    /// # Panics
    /// If the copy is larger than one launch can be.
    pub fn rectangle(
        self,
        push: &mut Push,
        source: Place,
        target: Place,
        line: u32,
        lines: u32,
        query: Option<Query>,
    ) {
        assert!(
            line <= copy::MAX_LINE && lines <= self.max_lines(),
            "{line} bytes, {lines} lines"
        );
        match self {
            Engine::Ce0 | Engine::Ce1 => self.copy_engine(push, source, target, line, lines, query),
            Engine::M2mf => self.m2mf(push, source, target, line, lines, query),
        }
    }

    fn copy_engine(
        self,
        push: &mut Push,
        source: Place,
        target: Place,
        line: u32,
        lines: u32,
        query: Option<Query>,
    ) {
        let subchannel = self.subchannel();
        let ((from, source_pitch), (to, target_pitch)) = (source.base(), target.base());
        for (place, method) in [(source, copy::SRC_TILE), (target, copy::DST_TILE)] {
            if let Arrangement::Blocks(layout) = place.arrangement {
                let Layout {
                    width,
                    height,
                    depth,
                    ..
                } = layout;
                let mode = layout.tile_mode();
                push.incr(
                    subchannel,
                    method,
                    &[mode, width, height, depth, place.z, place.x, place.y],
                );
            }
        }
        let ([from_high, from_low], [to_high, to_low]) = (split(from), split(to));
        push.incr(
            subchannel,
            copy::SRC_ADDRESS_HIGH,
            &[
                from_high,
                from_low,
                to_high,
                to_low,
                source_pitch,
                target_pitch,
                line,
                lines,
            ],
        );
        let mut exec = 0;
        if source.is_pitch() {
            exec |= copy::exec::SRC_LINEAR;
        }
        if target.is_pitch() {
            exec |= copy::exec::DST_LINEAR;
        }
        if let Some(query) = query {
            let [high, low] = split(query.address);
            push.incr(
                subchannel,
                copy::QUERY_ADDRESS_HIGH,
                &[high, low, query.sequence],
            );
            exec |= copy::exec::QUERY;
            if query.short {
                exec |= copy::exec::QUERY_SHORT;
            }
        }
        push.incr(subchannel, copy::EXEC, &[exec]);
    }

    fn m2mf(
        self,
        push: &mut Push,
        source: Place,
        target: Place,
        line: u32,
        lines: u32,
        query: Option<Query>,
    ) {
        let subchannel = self.subchannel();
        let ((from, source_pitch), (to, target_pitch)) = (source.base(), target.base());
        let tilings = [
            (source, m2mf::TILING_MODE_IN, m2mf::TILING_POSITION_IN_X),
            (target, m2mf::TILING_MODE_OUT, m2mf::TILING_POSITION_OUT_X),
        ];
        for (place, mode, position) in tilings {
            if let Arrangement::Blocks(layout) = place.arrangement {
                let Layout {
                    width,
                    height,
                    depth,
                    ..
                } = layout;
                push.incr(
                    subchannel,
                    mode,
                    &[layout.tile_mode(), width, height, depth, place.z],
                );
                push.incr(subchannel, position, &[place.x, place.y]);
            }
        }
        let ([from_high, from_low], [to_high, to_low]) = (split(from), split(to));
        push.incr(subchannel, m2mf::OFFSET_OUT_UPPER, &[to_high, to_low]);
        push.incr(
            subchannel,
            m2mf::OFFSET_IN_UPPER,
            &[from_high, from_low, source_pitch, target_pitch, line, lines],
        );
        let mut launch = 0;
        if source.is_pitch() {
            launch |= m2mf::launch::SRC_PITCH;
        }
        if target.is_pitch() {
            launch |= m2mf::launch::DST_PITCH;
        }
        launch |= match query {
            None => m2mf::launch::ONE_WORD,
            Some(query) => {
                let [high, low] = split(query.address);
                push.incr(
                    subchannel,
                    m2mf::QUERY_ADDRESS_HIGH,
                    &[high, low, query.sequence],
                );
                m2mf::launch::RELEASE_SEMAPHORE
                    | if query.short {
                        m2mf::launch::ONE_WORD
                    } else {
                        0
                    }
            }
        };
        push.incr(subchannel, m2mf::LAUNCH_DMA, &[launch]);
    }
}

/// Emits an upload of `data` to `target` from within the stream, by M2MF.
///
/// # Panics
/// If the data are more than one method header can count.
pub fn inline_upload(push: &mut Push, target: u64, data: &[u32]) {
    let subchannel = Engine::M2mf.subchannel();
    let bytes = data.len() as u32 * 4;
    push.incr(subchannel, m2mf::OFFSET_OUT_UPPER, &split(target));
    push.incr(subchannel, m2mf::LINE_LENGTH_IN, &[bytes, 1]);
    push.incr(
        subchannel,
        m2mf::LAUNCH_DMA,
        &[m2mf::launch::SRC_INLINE
            | m2mf::launch::SRC_PITCH
            | m2mf::launch::DST_PITCH
            | m2mf::launch::ONE_WORD],
    );
    push.repeat(subchannel, m2mf::DATA, data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_copy_by_ce_has_the_methods_that_nouveau_emits() {
        let mut push = Push::new();
        Engine::Ce0.rectangle(
            &mut push,
            Place::pitch(0x1_0000_0000, 4096),
            Place::pitch(0x2000, 4096),
            4096,
            3,
            None,
        );
        let mut expected = Push::new();
        expected.incr(4, 0x030c, &[1, 0, 0, 0x2000, 4096, 4096, 4096, 3]);
        expected.incr(4, 0x0300, &[0x0110]);
        assert_eq!(push, expected);
    }

    #[test]
    fn page_copy_by_m2mf_has_the_methods_that_nouveau_emits() {
        let mut push = Push::new();
        Engine::M2mf.rectangle(
            &mut push,
            Place::pitch(0x1_0000_0000, 4096),
            Place::pitch(0x2000, 4096),
            4096,
            3,
            None,
        );
        let mut expected = Push::new();
        expected.incr(2, 0x0238, &[0, 0x2000]);
        expected.incr(2, 0x030c, &[1, 0, 4096, 4096, 4096, 3]);
        expected.incr(2, 0x0300, &[0x0010_0110]);
        assert_eq!(push, expected);
    }

    /// Bytes that the launches of a stream copy, as (line, lines) of each.
    fn launches(push: &Push, first_method: u32, words: usize) -> Vec<(u32, u32)> {
        let header = 0x2000_0000 | (words as u32) << 16;
        let is_header =
            |word: u32| word & 0xffff_0000 == header && word & 0x1fff == first_method >> 2;
        push.words()
            .windows(words + 1)
            .filter(|window| is_header(window[0]))
            .map(|window| (window[words - 1], window[words]))
            .collect()
    }

    #[test]
    fn long_copies_are_cut_into_launches_within_the_limits() {
        for (engine, method, words) in [
            (Engine::Ce1, copy::SRC_ADDRESS_HIGH, 8),
            (Engine::M2mf, m2mf::OFFSET_IN_UPPER, 6),
        ] {
            let mut push = Push::new();
            let bytes = (64 << 20) + 12_345;
            engine.linear(&mut push, 0, 1 << 32, bytes);
            let launches = launches(&push, method, words);
            assert!(
                launches
                    .iter()
                    .all(|&(_, lines)| lines <= engine.max_lines())
            );
            let copied: u64 = launches
                .iter()
                .map(|&(line, lines)| u64::from(line) * u64::from(lines))
                .sum();
            assert_eq!(copied, bytes, "{}", engine.name());
        }
    }

    #[test]
    fn place_in_a_pitch_image_moves_the_address() {
        let place = Place::pitch(0x1000, 256).at(3, 2, 0);
        assert_eq!(place.base(), (0x1203, 256));
    }
}
