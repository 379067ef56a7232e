//! What compiled code and the rest of the multiprocessor share: a frame of pointers, and functions
//! that compiled code calls.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::Access;
use crate::sm::{
    decode::{Op, Window},
    exec::{self, Cx, Halt, Isa, WINDOW},
    lanes::{LANES, Row, each},
    launch::Launch,
    program::{Exec, Inst},
};

/// Lanes that compiled code works on at once.
pub const GROUP: usize = 4;
/// What a slot holds of a large page, and of a small one.
const LARGE: u64 = 1 << 16;
const SMALL: u64 = 1 << 12;
/// No instruction.
pub const NOWHERE: u32 = u32::MAX;

/// Compiled code returns this when the warp goes on, at its program counter.
pub const GO_ON: u32 = 0;
/// Compiled code returns this when the warp stopped.
pub const HALTED: u32 = 1;

/// The page that a memory instruction found last.
///
/// What is in it was true under the epoch that the [`Pages`] are of.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// What the address register has for the first byte of the page, low word.
    pub low: u32,
    /// High word.
    pub high: u32,
    /// The last offset from there at which an access fits.
    pub last: u32,
    /// Where the page is in this process.
    pub host: *const u8,
}

/// What lanes that are not active read.
static NOTHING: [u64; 2] = [0; 2];

impl Slot {
    const EMPTY: Self = Self {
        low: 0,
        high: u32::MAX,
        last: 0,
        host: (&raw const NOTHING).cast(),
    };
}

/// The pages that a thread's memory instructions found.
#[derive(Default)]
pub struct Pages {
    slots: Vec<Slot>,
    /// The epoch that they are of, and the code.
    stamp: u64,
    code: u64,
}

// SAFETY: the slots' pointers are only used under a guard and an epoch that prove them valid, on
// whichever thread.
unsafe impl Send for Pages {}

impl Pages {
    /// Pages for `count` instructions of the code with this number.
    pub fn enter(&mut self, code: u64, count: usize) {
        if self.code != code {
            self.code = code;
            self.slots.clear();
            self.slots.resize(count, Slot::EMPTY);
        }
    }
}

/// What compiled code sees.
#[repr(C)]
pub struct Frame {
    pub regs: *mut Row,
    pub uniform: *const Row,
    pub preds: *mut u32,
    pub carry: *mut u32,
    pub zero: *mut u32,
    pub active: *mut u32,
    pub pc: *mut u32,
    pub budget: *mut i32,
    /// By instruction: the number of the block that starts there.
    pub blocks: *const u32,
    pub tids: *const Row,
    pub cta: *const u32,
    pub launch: *const Launch,
    pub shared: *mut u32,
    pub slots: *mut Slot,
    pub epoch: *const AtomicU64,
    pub stamp: u64,
    /// Bytes of shared memory.
    pub shared_bytes: u32,
    /// The first instruction that failed.
    pub failed: u32,
    /// Addresses of an access that takes the long way, and what it moves.
    pub low: [u32; GROUP],
    pub high: [u32; GROUP],
    pub data: [[u32; GROUP]; 4],
}

/// A frame with what only the functions need.
#[repr(C)]
struct Run<'a, 'b, I> {
    frame: Frame,
    isa: I,
    cx: &'a mut Cx<'b>,
    insts: &'a [Inst],
    pages: *mut Pages,
    halt: Option<Halt>,
}

/// Compiled code: takes the frame and the number of a block.
pub type Entry = unsafe extern "sysv64" fn(*mut Frame, u32) -> u32;

/// Functions that compiled code calls, for a set of vector instructions.
#[derive(Clone, Copy)]
pub struct Functions {
    /// Executes an instruction: frame, index.
    pub step: usize,
    /// Loads or stores for lanes: frame, index, lanes, where the first one is in the warp, slot.
    pub access: usize,
    /// Forgets all pages: frame.
    pub forget: usize,
}

impl Functions {
    /// For a set of vector instructions.
    pub fn of<I: Isa>() -> Self {
        Self {
            step: step::<I> as *const () as usize,
            access: access::<I> as *const () as usize,
            forget: forget::<I> as *const () as usize,
        }
    }
}

/// Runs compiled code from block `block` on.
///
/// # Errors
///
/// The warp stopped.
///
/// # Safety
///
/// `entry` is code for `insts`, made with the functions of `I`; `blocks` is its table, and the
/// warp has the rows and the uniform rows of the program.
pub unsafe fn run<I: Isa>(
    isa: I,
    cx: &mut Cx<'_>,
    insts: &[Inst],
    entry: Entry,
    blocks: &[u32],
    block: u32,
    pages: &mut Pages,
) -> Result<(), Halt> {
    let shared = &mut cx.cta.shared;
    let frame = Frame {
        regs: cx.regs.as_mut_ptr(),
        uniform: cx.uniform.as_ptr(),
        preds: cx.preds.as_mut_ptr(),
        carry: &raw mut cx.flags.carry,
        zero: &raw mut cx.flags.zero,
        active: &raw mut cx.flow.active,
        pc: &raw mut cx.flow.pc,
        budget: &raw mut cx.budget,
        blocks: blocks.as_ptr(),
        tids: cx.env.tids[cx.warp as usize % cx.env.tids.len()].as_ptr(),
        cta: cx.cta.id.as_ptr(),
        launch: &raw const *cx.env.launch,
        shared: match shared.is_empty() {
            true => (&raw const NOTHING).cast_mut().cast(),
            false => shared.as_mut_ptr(),
        },
        slots: pages.slots.as_mut_ptr(),
        epoch: cx.client.epoch(),
        stamp: pages.stamp,
        shared_bytes: 4 * shared.len() as u32,
        failed: NOWHERE,
        low: [0; GROUP],
        high: [0; GROUP],
        data: [[0; GROUP]; 4],
    };
    let mut run = Run {
        frame,
        isa,
        cx,
        insts,
        pages,
        halt: None,
    };
    let at: *mut Run<'_, '_, I> = &raw mut run;
    // SAFETY: by the caller the code fits; the frame is the first field of what its functions take.
    let status = unsafe { entry(at.cast(), block) };
    match run.halt {
        Some(halt) if status != GO_ON => {
            if run.frame.failed != NOWHERE {
                run.cx.fail(run.insts, run.frame.failed);
            }
            Err(halt)
        }
        _ => Ok(()),
    }
}

impl Cx<'_> {
    /// The warp stands at an instruction of which lanes failed.
    fn fail(&mut self, insts: &[Inst], at: u32) {
        self.flow.pc = at;
        if let Some(i) = insts.get(at as usize) {
            self.mask = exec::guarded(self, i);
        }
    }
}

/// Executes an instruction as the interpreter does.
///
/// # Safety
///
/// `frame` is that of a [`run`] with this `I`.
unsafe extern "sysv64" fn step<I: Isa>(frame: *mut Frame, at: u32) -> u32 {
    // SAFETY: by the caller; compiled code waits for the return.
    let run = unsafe { &mut *frame.cast::<Run<'_, '_, I>>() };
    match exec::one(run.isa, run.cx, run.insts, at) {
        Ok(()) => GO_ON,
        Err(Halt::Barrier(arrival)) if arrival.open_alone(run.cx) => GO_ON,
        Err(halt) => {
            run.halt = Some(halt);
            HALTED
        }
    }
}

/// Loads or stores for some lanes of a group, by the addresses in the frame, and remembers the page.
///
/// # Safety
///
/// As [`step`].
unsafe extern "sysv64" fn access<I: Isa>(
    frame: *mut Frame,
    at: u32,
    lanes: u32,
    first: u32,
    slot: u32,
) -> u32 {
    // SAFETY: by the caller; compiled code waits for the return.
    let run = unsafe { &mut *frame.cast::<Run<'_, '_, I>>() };
    let Some(i) = run.insts.get(at as usize) else {
        return HALTED;
    };
    match run.access(i, lanes, first as usize % LANES) {
        Ok(()) => {
            // SAFETY: the pages outlive the run, and nobody else has them.
            let pages = unsafe { &mut *run.pages };
            if let Some(slot) = pages.slots.get_mut(slot as usize)
                && let Some(found) = run.page(i, lanes)
            {
                *slot = found;
            }
            GO_ON
        }
        Err(halt) => {
            // In the order of the program, whichever group comes first.
            if at < run.frame.failed {
                run.frame.failed = at;
                run.halt = Some(halt);
            }
            HALTED
        }
    }
}

/// Forgets all pages: translations have changed.
///
/// # Safety
///
/// As [`step`].
unsafe extern "sysv64" fn forget<I: Isa>(frame: *mut Frame) {
    // SAFETY: by the caller; compiled code waits for the return.
    let run = unsafe { &mut *frame.cast::<Run<'_, '_, I>>() };
    // SAFETY: the pages outlive the run, and nobody else has them.
    let pages = unsafe { &mut *run.pages };
    pages.stamp = run.cx.client.epoch().load(Ordering::SeqCst);
    pages.slots.fill(Slot::EMPTY);
    run.frame.stamp = pages.stamp;
}

impl<I> Run<'_, '_, I> {
    /// The page of the first of these lanes.
    ///
    /// Nothing if it holds a window onto other memory, or if the low word of the address register
    /// would wrap within it.
    fn page(&mut self, i: &Inst, lanes: u32) -> Option<Slot> {
        let (ty, offset, access) = match i.exec {
            Exec::Op(Op::LdGlobal { ty, offset, .. }) => (ty, offset, Access::Read),
            Exec::Op(Op::StGlobal { ty, offset, .. }) => (ty, offset, Access::Write),
            _ => return None,
        };
        let n = lanes.trailing_zeros() as usize % GROUP;
        let address = u64::from(self.frame.high[n]) << 32 | u64::from(self.frame.low[n]);
        let va = address.wrapping_add_signed(offset.into());
        let (guard, client) = (self.cx.guard, &mut self.cx.client);
        let rest = client.page(guard, va, access).ok()?.len() as u64;
        let bytes = match va.checked_add(rest)? & (LARGE - 1) {
            0 => LARGE,
            _ => SMALL,
        };
        let start = va & !(bytes - 1);
        let span = client.page(guard, start, access).ok()?;
        let launch = &self.cx.env.launch;
        let windows = [launch.local_base, launch.shared_base].map(u64::from);
        let apart = |window: u64| start >= window + WINDOW || start + bytes <= window;
        if (span.len() as u64) < bytes || !windows.into_iter().all(apart) {
            return None;
        }
        let low = start.wrapping_sub(i64::from(offset) as u64);
        let last = bytes as u32 - ty.bytes();
        (low as u32).checked_add(last)?;
        Some(Slot {
            low: low as u32,
            high: (low >> 32) as u32,
            last,
            host: span.as_ptr().as_ptr(),
        })
    }

    fn access(&mut self, i: &Inst, lanes: u32, first: usize) -> Result<(), Halt> {
        let frame = &mut self.frame;
        for n in each(lanes & ((1 << GROUP) - 1)) {
            let lane = (first + n) % LANES;
            let wide = u64::from(frame.high[n]) << 32 | u64::from(frame.low[n]);
            let words = frame.data.map(|row| row[n]);
            let loaded = match i.exec {
                Exec::Op(Op::LdGlobal { ty, offset, .. }) => {
                    let va = wide.wrapping_add_signed(offset.into());
                    self.cx.load_generic(ty, va, lane)?
                }
                Exec::Op(Op::StGlobal { ty, offset, .. }) => {
                    let va = wide.wrapping_add_signed(offset.into());
                    self.cx.store_generic(ty, va, lane, &words)?;
                    words
                }
                Exec::Op(Op::Ld { ty, offset, .. }) => {
                    let address = frame.low[n].wrapping_add_signed(offset);
                    self.cx.lane_load(Window::Shared, ty, address, lane)?
                }
                Exec::Op(Op::St { ty, offset, .. }) => {
                    let address = frame.low[n].wrapping_add_signed(offset);
                    self.cx
                        .lane_store(Window::Shared, ty, address, lane, &words)?;
                    words
                }
                _ => words,
            };
            for (row, word) in frame.data.iter_mut().zip(loaded) {
                row[n] = word;
            }
        }
        Ok(())
    }
}
