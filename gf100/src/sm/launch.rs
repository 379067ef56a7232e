//! What starts a grid, and how one ends before it is done.
//!
//! Field names are those of the compute class: ENV `rnndb/graph/gf100_compute.xml`.

use thiserror::Error;

use super::lanes::LANES;
use crate::memory::{Fault, PhysAddr};

/// A constant buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConstantBuffer {
    /// Virtual address.
    pub address: u64,
    /// Bytes, 0 if nothing is bound. What is behind them reads as 0.
    pub size: u32,
}

/// Constant buffers that can be bound.
pub const CONSTANT_BUFFERS: usize = 18;
/// Textures that can be bound.
pub const TEXTURES: usize = 128;
/// Samplers that can be bound.
pub const SAMPLERS: usize = 16;
/// Images that can be bound.
pub const IMAGES: usize = 8;

/// A table of texture or sampler headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderTable {
    /// Virtual address.
    pub address: u64,
    /// The last header's number.
    pub limit: u32,
}

/// Where the local memory of all warps in flight is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Temp {
    /// TEMP_ADDRESS: virtual address.
    pub address: u64,
    /// TEMP_SIZE: bytes.
    pub size: u64,
}

impl Temp {
    /// The parts of so many bytes that it has room for.
    fn parts(self, bytes: u64) -> u64 {
        let unused = self.first().wrapping_sub(self.address);
        self.size.saturating_sub(unused) / bytes
    }

    /// Where the first part is: at a row.
    fn first(self) -> u64 {
        const ROW: u64 = 4 * LANES as u64;
        self.address.wrapping_add(ROW - 1) & !(ROW - 1)
    }
}

/// An image: the arguments of the six `IMAGE` methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Virtual address.
    pub address: u64,
    /// Texels, or bytes of a row.
    pub width: u32,
    /// Rows and the layout.
    pub height: u32,
    /// Format.
    pub format: u32,
    /// log2 of a block's GOBs.
    pub block_dimensions: u32,
}

/// Which grid to run, with the state of the compute class that it depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The channel's instance block.
    pub instance: PhysAddr,
    /// CODE_ADDRESS: virtual address of the code segment.
    pub code_address: u64,
    /// CP_START_ID: byte offset of the first instruction in it.
    pub start_id: u32,
    /// GRIDDIM: CTAs in x, y, z.
    pub grid: [u32; 3],
    /// BLOCKDIM: threads of a CTA in x, y, z.
    pub block: [u32; 3],
    /// SHARED_SIZE: bytes of shared memory of a CTA.
    pub shared_size: u32,
    /// LOCAL_POS_ALLOC: bytes of local memory of a thread from address 0 up.
    pub local_pos_alloc: u32,
    /// LOCAL_NEG_ALLOC: bytes of it below address 0.
    pub local_neg_alloc: u32,
    /// Where local memory is kept.
    pub temp: Temp,
    /// WARP_CSTACK_SIZE: bytes of a warp's stack of control flow.
    pub warp_cstack_size: u32,
    /// CP_GPR_ALLOC: registers of a thread.
    pub gpr_alloc: u32,
    /// LOCAL_BASE: where local memory is in the generic address space.
    pub local_base: u32,
    /// SHARED_BASE: where shared memory is in the generic address space.
    pub shared_base: u32,
    /// GLOBAL_BASE: by the upper byte of a 32-bit address, the new upper byte in bits 0-7, leave to
    /// read in bit 30 and to write in bit 31.
    pub global_base: Box<[u32; 256]>,
    /// GRIDID, for the special register.
    pub grid_id: u32,
    /// The argument of LAUNCH, for the special register.
    pub launch_arg: u32,
    /// CB_BIND.
    pub constants: [ConstantBuffer; CONSTANT_BUFFERS],
    /// TIC_ADDRESS and TIC_LIMIT.
    pub tic: HeaderTable,
    /// TSC_ADDRESS and TSC_LIMIT.
    pub tsc: HeaderTable,
    /// BIND_TIC: header of each texture slot.
    pub textures: Box<[Option<u32>; TEXTURES]>,
    /// BIND_TSC: header of each sampler slot.
    pub samplers: [Option<u32>; SAMPLERS],
    /// LINKED_TSC: a texture's sampler has the number of the texture.
    pub linked_tsc: bool,
    /// IMAGE.
    pub images: [Image; IMAGES],
    /// Multiprocessors that the special registers speak of.
    pub multiprocessors: u32,
}

/// Threads of a warp and warps of a CTA that the hardware has room for.
const MAX_THREADS: u32 = 1536;
/// Bytes of shared memory of a multiprocessor.
const MAX_SHARED: u32 = 48 << 10;
/// Bytes of local memory of a thread.
const MAX_LOCAL: u32 = 512 << 10;

/// Why a grid does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// No thread, or more than fit.
    #[error("A CTA of {0} threads does not fit")]
    Threads(u64),
    /// More shared memory than there is.
    #[error("{0:#x} bytes of shared memory do not fit")]
    Shared(u32),
    /// More local memory than there is, for a thread or for a CTA.
    #[error("{0:#x} bytes of local memory of a thread do not fit")]
    Local(u64),
}

impl Launch {
    /// A launch of one thread of the code at `code_address`, with nothing bound.
    pub fn new(instance: PhysAddr, code_address: u64) -> Self {
        Self {
            instance,
            code_address,
            start_id: 0,
            grid: [1; 3],
            block: [1; 3],
            shared_size: 0,
            local_pos_alloc: 0,
            local_neg_alloc: 0,
            temp: Temp::default(),
            warp_cstack_size: 0,
            gpr_alloc: 63,
            local_base: 0xff << 24,
            shared_base: 0xfe << 24,
            global_base: Box::new(std::array::from_fn(|n| {
                0xc << 28 | (n as u32) << 16 | n as u32
            })),
            grid_id: 0,
            launch_arg: 0,
            constants: Default::default(),
            tic: HeaderTable::default(),
            tsc: HeaderTable::default(),
            textures: Box::new([None; TEXTURES]),
            samplers: [None; SAMPLERS],
            linked_tsc: false,
            images: Default::default(),
            multiprocessors: 1,
        }
    }

    /// Threads of a CTA.
    pub fn threads(&self) -> u64 {
        self.block.iter().map(|&n| u64::from(n)).product()
    }

    /// CTAs of the grid.
    pub fn ctas(&self) -> u64 {
        // Dimensions are 16 bits each.
        self.grid.iter().map(|&n| u64::from(n & 0xffff)).product()
    }

    /// Whether a multiprocessor has room for a CTA.
    pub(super) fn check(&self) -> Result<(), LaunchError> {
        let threads = self.threads();
        if !(1..=u64::from(MAX_THREADS)).contains(&threads) {
            return Err(LaunchError::Threads(threads));
        }
        if self.shared_size > MAX_SHARED {
            return Err(LaunchError::Shared(self.shared_size));
        }
        let local = self.local_size();
        if local > u64::from(MAX_LOCAL) || self.local_areas() == 0 {
            return Err(LaunchError::Local(local));
        }
        Ok(())
    }

    /// Bytes of local memory of a thread.
    fn local_size(&self) -> u64 {
        u64::from(self.local_pos_alloc) + u64::from(self.local_neg_alloc)
    }

    /// Bytes of local memory of a warp.
    pub(super) fn warp_local(&self) -> u64 {
        self.local_size() * LANES as u64
    }

    /// Bytes of local memory of a CTA.
    fn cta_local(&self) -> u64 {
        self.warp_local() * self.threads().div_ceil(LANES as u64)
    }

    /// CTAs that TEMP has local memory for. A driver reckons with a part for each multiprocessor;
    /// here they share it.
    pub(super) fn local_areas(&self) -> u64 {
        match self.cta_local() {
            0 => u64::MAX,
            bytes => self.temp.parts(bytes),
        }
    }

    /// Virtual address of a CTA's local memory, of its first warp's.
    pub(super) fn local_area(&self, number: u64) -> u64 {
        let offset = number.wrapping_mul(self.cta_local());
        self.temp.first().wrapping_add(offset)
    }
}

/// What a warp did wrong, as the multiprocessor reports it.
///
/// Source: K61 `nvkm/engine/gr/gf100.c gf100_mp_warp_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WarpError {
    /// The stack of control flow overflowed or has no entry of the kind.
    StackError = 0x01,
    /// A return without a call.
    RetEmptyStack = 0x03,
    /// A misaligned branch target.
    MisalignedPc = 0x05,
    /// More code than a segment has.
    PcOverflow = 0x06,
    /// A 64- or 128-bit operand in a register that it cannot start at.
    MisalignedReg = 0x08,
    /// No such instruction.
    IllegalInstrEncoding = 0x09,
    /// An operand of an instruction that cannot be.
    IllegalInstrParam = 0x0b,
    /// A register behind the allocated ones.
    OorReg = 0x0d,
    /// An address behind the allocated local or shared memory.
    OorAddr = 0x0e,
    /// A misaligned address.
    MisalignedAddr = 0x0f,
    /// An address that GLOBAL_BASE does not let through.
    InvalidAddrSpace = 0x10,
}

/// A warp error with where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{error:?} at {pc:#x} ({code:#018x}) in warp {warp} of CTA {cta:?}, lanes {lanes:#010x}")]
pub struct Trap {
    /// What.
    pub error: WarpError,
    /// Byte address of the instruction in the code segment.
    pub pc: u32,
    /// Its 8 bytes, of which a short instruction is the first 4.
    pub code: u64,
    /// The CTA's place in the grid.
    pub cta: [u32; 3],
    /// The warp's number in the CTA.
    pub warp: u32,
    /// Lanes that executed it.
    pub lanes: u32,
}

/// How a grid ended before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    /// A warp did something that cannot be.
    #[error("The multiprocessor trapped")]
    Trap(#[from] Trap),
    /// The MMU could not translate an access.
    #[error("The MMU faulted")]
    Fault(#[from] Fault),
}
