//! Programs as machine code of the host, made by Cranelift from decoded programs.
//!
//! The interpreter is what instructions mean; compiled code has to do the same, bit for bit, and
//! leaves to the interpreter what it has no fast way for. `docs/isa.md` says which is which. A warp
//! may change from one to the other wherever a block starts.
//!
//! Code is made when a program has been interpreted for a while, one function for warps with all
//! lanes active and one for the others, and kept for programs that are the same, whatever address
//! they are at.

mod access;
mod alu;
mod arena;
mod double;
mod frame;
mod group;
mod integer;
mod liveness;
mod plan;
mod run;
mod translate;
mod vector;

use std::{
    mem,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use cranelift_codegen::{
    Context,
    control::ControlPlane,
    ir::types::{I32, I64},
    isa::OwnedTargetIsa,
    settings::{self, Configurable},
};
use cranelift_frontend::FunctionBuilderContext;
use parking_lot::Mutex;

use self::{
    arena::{Arena, Placed},
    frame::{Entry, Functions, NOWHERE},
    plan::Plan,
};
use super::{
    exec::{self, Cx, Halt, Isa},
    program::{Inst, Program, Uniform},
};

pub use self::frame::Pages;

/// Programs whose code is kept.
const PROGRAMS: usize = 64;
/// Instructions of a program that is compiled at most: longer ones would take too long.
const MAX_INSTRUCTIONS: usize = 4096;

/// Makes code.
pub struct Compiler {
    isa: OwnedTargetIsa,
    arena: Arc<Arena>,
    /// How often each instruction is interpreted, on average, before code is made.
    patience: u64,
    /// The programs met last, the latest at the end.
    programs: Mutex<Vec<Arc<Code>>>,
}

impl Compiler {
    /// A compiler for this host; `None` if it lacks what code needs.
    pub fn new(patience: u64) -> Option<Self> {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
            return None;
        }
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", "speed"),
            ("enable_probestack", "false"),
            ("unwind_info", "false"),
            (
                "enable_verifier",
                if cfg!(debug_assertions) {
                    "true"
                } else {
                    "false"
                },
            ),
        ] {
            flags.set(name, value).ok()?;
        }
        let isa = cranelift_native::builder().ok()?;
        let isa = isa.finish(settings::Flags::new(flags)).ok()?;
        let arena = Arena::new()
            .inspect_err(|error| tracing::debug!(%error, "No memory for compiled code"))
            .ok()?;
        Some(Self {
            isa,
            arena,
            patience,
            programs: Mutex::default(),
        })
    }

    /// The code of a program, whether there is any yet or not; nothing for one that is too long.
    pub fn code(&self, program: &Program) -> Option<Arc<Code>> {
        if program.insts().len() > MAX_INSTRUCTIONS {
            return None;
        }
        let mut programs = self.programs.lock();
        let at = programs.iter().position(|code| code.is_of(program));
        let code = match at {
            Some(at) => programs.remove(at),
            None => Arc::new(Code::new(program)),
        };
        if programs.len() >= PROGRAMS {
            programs.remove(0);
        }
        programs.push(code.clone());
        Some(code)
    }

    /// Code that was found before, unless it was given up since.
    pub fn again(&self, code: &Weak<Code>) -> Option<Arc<Code>> {
        let mut programs = self.programs.lock();
        let at = programs
            .iter()
            .position(|known| std::ptr::eq(Arc::as_ptr(known), code.as_ptr()))?;
        let code = programs.remove(at);
        programs.push(code.clone());
        Some(code)
    }

    /// Makes what has become worth it.
    pub fn prepare<I: Isa>(&self, code: &Code, program: &Program) {
        let patience = self.patience * code.insts.len() as u64;
        for variant in &code.variants {
            if variant.function.get().is_none()
                && variant.interpreted.load(Ordering::Relaxed) >= patience
                && !variant.begun.swap(true, Ordering::Relaxed)
            {
                let full = std::ptr::eq(variant, &code.variants[FULL]);
                let function = self.compile::<I>(code, program, full);
                variant.function.get_or_init(|| function);
            }
        }
    }

    fn compile<I: Isa>(&self, code: &Code, program: &Program, full: bool) -> Option<Placed> {
        let mut context = Context::new();
        context.func.signature = translate::signature(&[I64, I32], true);
        translate::translate(
            program,
            code.plan(program),
            full,
            Functions::of::<I>(),
            self.isa.frontend_config(),
            &mut context.func,
            &mut FunctionBuilderContext::new(),
        );
        let compiled = context
            .compile(&*self.isa, &mut ControlPlane::default())
            .inspect_err(|error| tracing::debug!(error = %error.inner, "Not compiled"))
            .ok()?;
        // Code that refers to something by address would have to be told where that is.
        if !compiled.buffer.relocs().is_empty() {
            return None;
        }
        let bytes = compiled.code_buffer();
        tracing::debug!(
            instructions = program.insts().len(),
            bytes = bytes.len(),
            full,
            interpreted = ?plan::interpreted(program),
            "Compiled"
        );
        loop {
            if let Some(placed) = self.arena.place(bytes) {
                return Some(placed);
            }
            // The oldest go first; what still runs keeps its room.
            let mut programs = self.programs.lock();
            match programs.is_empty() {
                true => return None,
                false => drop(programs.remove(0)),
            }
        }
    }
}

/// Places in [`Code::variants`].
const FULL: usize = 0;
const PARTIAL: usize = 1;

/// A function for some warps.
#[derive(Default)]
struct Variant {
    /// Instructions that were interpreted.
    interpreted: AtomicU64,
    /// Somebody makes it, or has tried to.
    begun: AtomicBool,
    function: OnceLock<Option<Placed>>,
}

impl Variant {
    fn entry(&self) -> Option<Entry> {
        let placed = self.function.get()?.as_ref()?;
        // SAFETY: what was placed is a function with this signature.
        Some(unsafe { mem::transmute::<*const u8, Entry>(placed.start()) })
    }
}

/// Makes codes distinct.
static CODES: AtomicU64 = AtomicU64::new(1);

/// The code of a program.
pub struct Code {
    /// No other code has or had it.
    id: u64,
    insts: Vec<Inst>,
    uniforms: Vec<Uniform>,
    gprs: u32,
    plan: OnceLock<Plan>,
    /// For warps with all lanes active, and for others.
    variants: [Variant; 2],
}

impl Code {
    fn new(program: &Program) -> Self {
        Self {
            id: CODES.fetch_add(1, Ordering::Relaxed),
            insts: program.insts().to_vec(),
            uniforms: program.uniforms().to_vec(),
            gprs: program.gprs(),
            plan: OnceLock::new(),
            variants: Default::default(),
        }
    }

    fn is_of(&self, program: &Program) -> bool {
        self.gprs == program.gprs()
            && self.insts == program.insts()
            && self.uniforms == program.uniforms()
    }

    fn plan(&self, program: &Program) -> &Plan {
        self.plan.get_or_init(|| Plan::of(program))
    }

    /// Registers that may be read before they are written, a bit each; all as long as that is not
    /// known.
    pub fn read_first(&self) -> u128 {
        self.plan
            .get()
            .map_or(u128::MAX, |plan| plan.liveness.rows_at_start())
    }

    /// Executes until something has to be done about the warp.
    pub fn run<I: Isa>(&self, isa: I, cx: &mut Cx<'_>, pages: &mut Pages) -> Halt {
        let entries = [FULL, PARTIAL].map(|n| self.variants[n].entry());
        let halt = match (entries, self.plan.get()) {
            ([None, None], _) | (_, None) => {
                let budget = cx.budget;
                let halt = exec::run(isa, cx, &self.insts);
                self.interpreted(cx, budget - cx.budget);
                return halt;
            }
            (entries, Some(plan)) => {
                pages.enter(self.id, plan.slot_count);
                self.mixed(isa, cx, pages, entries, plan)
            }
        };
        match halt {
            Ok(()) => Halt::Budget,
            Err(halt) => halt,
        }
    }

    fn mixed<I: Isa>(
        &self,
        isa: I,
        cx: &mut Cx<'_>,
        pages: &mut Pages,
        entries: [Option<Entry>; 2],
        plan: &Plan,
    ) -> Result<(), Halt> {
        while cx.budget > 0 {
            let variant = if cx.flow.active == u32::MAX {
                FULL
            } else {
                PARTIAL
            };
            let at = cx.flow.pc;
            match (entries[variant], plan.blocks.get(at as usize)) {
                (Some(entry), Some(&block)) if block != NOWHERE => {
                    // SAFETY: the code is of these instructions, and was made for the host's best
                    // vector instructions, which `I` is.
                    unsafe {
                        frame::run(isa, cx, &self.insts, entry, &plan.blocks, block, pages)?;
                    }
                }
                _ => {
                    cx.budget -= 1;
                    let result = exec::one(isa, cx, &self.insts, at);
                    self.interpreted(cx, 1);
                    result?;
                }
            }
        }
        Ok(())
    }

    fn interpreted(&self, cx: &Cx<'_>, count: i32) {
        let variant = if cx.flow.active == u32::MAX {
            FULL
        } else {
            PARTIAL
        };
        self.variants[variant]
            .interpreted
            .fetch_add(count.unsigned_abs().into(), Ordering::Relaxed);
    }
}
