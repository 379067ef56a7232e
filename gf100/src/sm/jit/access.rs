//! Loads and stores of a group of lanes: within a page that the instruction has met before, and in
//! shared memory. The rest takes the long way, lane by lane.

use std::mem::offset_of;

use cranelift_codegen::ir::{
    Block, BlockArg, InstBuilder, MemFlagsData, Value,
    condcodes::IntCC,
    types::{I16, I32, I32X4, I64},
};

use super::{
    frame::{GROUP, Slot},
    group::Group,
    translate::{Translator, constant, field, trusted},
};
use crate::sm::{
    decode::{MemType, Op, Window},
    exec::WINDOW,
    program::{Exec, Inst, RowRef},
};

/// What an instruction does to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Load,
    Store,
}

/// The kind, if compiled code does the access itself.
pub fn kind(op: &Op) -> Option<Kind> {
    match *op {
        Op::LdGlobal { wide: true, .. }
        | Op::Ld {
            window: Window::Shared,
            ..
        } => Some(Kind::Load),
        Op::StGlobal { wide: true, .. }
        | Op::St {
            window: Window::Shared,
            ..
        } => Some(Kind::Store),
        _ => None,
    }
}

/// The card's memory, which has any alignment.
fn card() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Where the lanes of a group access.
struct Place {
    /// Offsets from `host`; of lanes that do not execute, 0.
    offsets: Value,
    host: Value,
    /// All of them may be accessed there.
    inside: Value,
}

/// An access being done.
struct Access<'e, 't, 'a> {
    t: &'t mut Translator<'a>,
    group: &'e mut Group,
    at: u32,
    i: &'e Inst,
    slot: u32,
    ty: MemType,
    /// Lanes that execute it, unless all do.
    lanes: Option<Value>,
    low: Value,
    high: Value,
}

/// Does an access.
pub fn emit(t: &mut Translator<'_>, group: &mut Group, at: u32, i: &Inst, slot: u32) {
    let (kind, ty, global, offset) = match i.exec {
        Exec::Op(Op::LdGlobal { ty, offset, .. }) => (Kind::Load, ty, true, offset),
        Exec::Op(Op::StGlobal { ty, offset, .. }) => (Kind::Store, ty, true, offset),
        Exec::Op(Op::Ld { ty, offset, .. }) => (Kind::Load, ty, false, offset),
        Exec::Op(Op::St { ty, offset, .. }) => (Kind::Store, ty, false, offset),
        _ => return,
    };
    let low = group.source(t, i, 0);
    let high = match global {
        true => group.row(t, RowRef(i.src[0].0 + 1)),
        false => low,
    };
    let lanes = group.executing(t, i);
    let mut access = Access {
        t,
        group,
        at,
        i,
        slot,
        ty,
        lanes,
        low,
        high,
    };
    let place = match global {
        true => access.global(),
        false => access.shared(offset),
    };
    match kind {
        Kind::Load => access.load(&place),
        Kind::Store => access.store(&place),
    }
}

impl Access<'_, '_, '_> {
    /// In the page of the instruction's slot.
    fn global(&mut self) -> Place {
        let t = &mut *self.t;
        let slots = t.b.ins().load(I64, constant(), t.frame, field!(slots));
        let slot = |field: usize| (self.slot as usize * size_of::<Slot>() + field) as i32;
        let word = |t: &mut Translator<'_>, field| {
            let word = t.b.ins().load(I32, trusted(), slots, slot(field));
            t.b.ins().splat(I32X4, word)
        };
        let start = word(t, offset_of!(Slot, low));
        let high = word(t, offset_of!(Slot, high));
        let last = word(t, offset_of!(Slot, last));
        let offsets = t.b.ins().isub(self.low, start);
        let within =
            t.b.ins()
                .icmp(IntCC::UnsignedLessThanOrEqual, offsets, last);
        let same = t.b.ins().icmp(IntCC::Equal, self.high, high);
        let inside = t.b.ins().band(within, same);
        let host =
            t.b.ins()
                .load(I64, trusted(), slots, slot(offset_of!(Slot, host)));
        self.masked(offsets, host, inside)
    }

    /// In the CTA's memory.
    fn shared(&mut self, offset: i32) -> Place {
        let t = &mut *self.t;
        let offset = t.splat(offset as u32);
        let address = t.b.ins().iadd(self.low, offset);
        let bits = t.splat(WINDOW as u32 - 1);
        let offsets = t.b.ins().band(address, bits);
        let len = t.splat(self.ty.bytes());
        let end = t.b.ins().iadd(offsets, len);
        let bytes =
            t.b.ins()
                .load(I32, constant(), t.frame, field!(shared_bytes));
        let bytes = t.b.ins().splat(I32X4, bytes);
        let inside = t.b.ins().icmp(IntCC::UnsignedLessThanOrEqual, end, bytes);
        let host = t.b.ins().load(I64, constant(), t.frame, field!(shared));
        self.masked(offsets, host, inside)
    }

    /// Without the lanes that do not execute.
    fn masked(&mut self, offsets: Value, host: Value, inside: Value) -> Place {
        let (offsets, inside) = match self.lanes {
            None => (offsets, inside),
            Some(lanes) => {
                let others = self.t.b.ins().bnot(lanes);
                (
                    self.t.b.ins().band(offsets, lanes),
                    self.t.b.ins().bor(inside, others),
                )
            }
        };
        Place {
            offsets,
            host,
            inside,
        }
    }

    /// The host's address of a lane's access.
    fn address(&mut self, place: &Place, lane: usize) -> Value {
        let offset = self.t.b.ins().extractlane(place.offsets, lane as u8);
        let offset = self.t.b.ins().uextend(I64, offset);
        self.t.b.ins().iadd(place.host, offset)
    }

    /// Goes on if the lanes' accesses are inside and aligned, else to `slow`; if they follow one
    /// another, and all are among `needed`, to `row`, if that is given.
    fn sort(&mut self, place: &Place, slow: Block, row: Option<Block>, needed: Option<Value>) {
        let inside = self.t.b.create_block();
        let fine = self.t.b.ins().vall_true(place.inside);
        self.t.b.ins().brif(fine, inside, &[], slow, &[]);
        self.t.b.switch_to_block(inside);
        let len = self.ty.bytes();
        if let Some(row) = row {
            let (aligned, others) = (self.t.b.create_block(), self.t.b.create_block());
            let first = self.t.b.ins().extractlane(place.offsets, 0);
            let first_all = self.t.b.ins().splat(I32X4, first);
            let steps = self.t.vector([0, 1, 2, 3].map(|n| n * len));
            let expected = self.t.b.ins().iadd(first_all, steps);
            let follows = self.t.b.ins().icmp(IntCC::Equal, place.offsets, expected);
            let follows = match needed {
                None => follows,
                Some(needed) => self.t.b.ins().band(follows, needed),
            };
            let follows = self.t.b.ins().vall_true(follows);
            self.t.b.ins().brif(follows, aligned, &[], others, &[]);
            self.t.b.switch_to_block(aligned);
            let low = self.t.b.ins().band_imm_u(first, i64::from(len - 1));
            self.t.b.ins().brif(low, slow, &[], row, &[]);
            self.t.b.switch_to_block(others);
        }
        if len > 1 {
            let fine = self.t.b.create_block();
            let bits = self.t.splat(len - 1);
            let low = self.t.b.ins().band(place.offsets, bits);
            let none = self.t.splat(0);
            let aligned = self.t.b.ins().icmp(IntCC::Equal, low, none);
            let aligned = self.t.b.ins().vall_true(aligned);
            self.t.b.ins().brif(aligned, fine, &[], slow, &[]);
            self.t.b.switch_to_block(fine);
        }
    }

    /// Hands the access over; the status.
    fn long_way(&mut self) -> Option<Value> {
        let (low, high) = (self.low, self.high);
        self.t
            .b
            .ins()
            .store(trusted_unaligned(), low, self.t.frame, field!(low));
        self.t
            .b
            .ins()
            .store(trusted_unaligned(), high, self.t.frame, field!(high));
        let lanes = match self.lanes {
            None => self.t.b.ins().iconst(I32, (1 << GROUP) - 1),
            Some(lanes) => self.t.b.ins().vhigh_bits(I32, lanes),
        };
        let first = self.group.first;
        self.t.access(self.at, lanes, first, self.slot)
    }

    fn load(&mut self, place: &Place) {
        let regs = self.ty.regs() as usize;
        let (slow, done) = (self.t.b.create_block(), self.t.b.create_block());
        self.t.b.set_cold_block(slow);
        let loaded: Vec<Value> = (0..regs)
            .map(|_| self.t.b.append_block_param(done, I32X4))
            .collect();
        // Lanes that do not execute are at offset 0: where they nevertheless fit into a row, there is
        // memory to be read.
        let row = (self.ty == MemType::B32).then(|| self.t.b.create_block());
        self.sort(place, slow, row, None);
        let values = self.gather(place);
        self.t.b.ins().jump(done, &arguments(&values));
        if let Some(row) = row {
            self.t.b.switch_to_block(row);
            let at = self.address(place, 0);
            let value = self.t.b.ins().load(I32X4, card(), at, 0);
            self.t.b.ins().jump(done, &[BlockArg::Value(value)]);
        }
        self.t.b.switch_to_block(slow);
        // Whether it failed is looked at when the run is over.
        self.long_way();
        let values: Vec<Value> = (0..regs)
            .map(|n| {
                let at = field!(data) + (n * size_of::<[u32; GROUP]>()) as i32;
                self.t
                    .b
                    .ins()
                    .load(I32X4, trusted_unaligned(), self.t.frame, at)
            })
            .collect();
        self.t.b.ins().jump(done, &arguments(&values));
        self.t.b.switch_to_block(done);
        for (n, value) in (0..).zip(loaded) {
            self.group.write(self.t, self.i, self.i.dst + n, value);
        }
    }

    /// What each lane has at its place.
    fn gather(&mut self, place: &Place) -> Vec<Value> {
        let mut rows = vec![None; self.ty.regs() as usize];
        for lane in 0..GROUP {
            let at = self.address(place, lane);
            for (n, row) in rows.iter_mut().enumerate() {
                let ins = self.t.b.ins();
                let word = match self.ty {
                    MemType::U8 => ins.uload8(I32, card(), at, 0),
                    MemType::S8 => ins.sload8(I32, card(), at, 0),
                    MemType::U16 => ins.uload16(I32, card(), at, 0),
                    MemType::S16 => ins.sload16(I32, card(), at, 0),
                    _ => ins.load(I32, card(), at, 4 * n as i32),
                };
                *row = Some(match *row {
                    None => self.t.b.ins().scalar_to_vector(I32X4, word),
                    Some(row) => self.t.b.ins().insertlane(row, word, lane as u8),
                });
            }
        }
        rows.into_iter().flatten().collect()
    }

    fn store(&mut self, place: &Place) {
        let regs = self.ty.regs();
        let data: Vec<Value> = (0..regs as u16)
            .map(|n| self.group.row(self.t, RowRef(self.i.src[1].0 + n)))
            .collect();
        let (slow, done) = (self.t.b.create_block(), self.t.b.create_block());
        self.t.b.set_cold_block(slow);
        let row = (self.ty == MemType::B32).then(|| self.t.b.create_block());
        self.sort(place, slow, row, self.lanes);
        self.scatter(place, &data);
        self.t.b.ins().jump(done, &[]);
        if let Some(row) = row {
            self.t.b.switch_to_block(row);
            let at = self.address(place, 0);
            self.t.b.ins().store(card(), data[0], at, 0);
            self.t.b.ins().jump(done, &[]);
        }
        self.t.b.switch_to_block(slow);
        for (n, &value) in data.iter().enumerate() {
            let at = field!(data) + (n * size_of::<[u32; GROUP]>()) as i32;
            self.t
                .b
                .ins()
                .store(trusted_unaligned(), value, self.t.frame, at);
        }
        let stop = self.t.b.create_block();
        self.t.b.set_cold_block(stop);
        if let Some(status) = self.long_way() {
            self.t.b.ins().brif(status, stop, &[], done, &[]);
        }
        self.t.b.switch_to_block(stop);
        self.t.fail();
        self.t.b.switch_to_block(done);
    }

    /// Stores each lane's data at its place.
    fn scatter(&mut self, place: &Place, data: &[Value]) {
        let bits = self
            .lanes
            .map(|lanes| self.t.b.ins().vhigh_bits(I32, lanes));
        for lane in 0..GROUP {
            let mut next = None;
            if let Some(bits) = bits {
                let (own, skip) = (self.t.b.create_block(), self.t.b.create_block());
                let bit = self.t.b.ins().band_imm_u(bits, 1 << lane);
                self.t.b.ins().brif(bit, own, &[], skip, &[]);
                self.t.b.switch_to_block(own);
                next = Some(skip);
            }
            let at = self.address(place, lane);
            for (n, &row) in data.iter().enumerate() {
                let word = self.t.b.ins().extractlane(row, lane as u8);
                match self.ty {
                    MemType::U8 | MemType::S8 => self.t.b.ins().istore8(card(), word, at, 0),
                    MemType::U16 | MemType::S16 => {
                        let half = self.t.b.ins().ireduce(I16, word);
                        self.t.b.ins().store(card(), half, at, 0)
                    }
                    _ => self.t.b.ins().store(card(), word, at, 4 * n as i32),
                };
            }
            if let Some(skip) = next {
                self.t.b.ins().jump(skip, &[]);
                self.t.b.switch_to_block(skip);
            }
        }
    }
}

/// The frame's arrays, which no vector's alignment has.
fn trusted_unaligned() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

fn arguments(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|&value| BlockArg::Value(value)).collect()
}
