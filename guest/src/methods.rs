//! Classes, engines, methods and their bits: each number once.
//!
//! Sources: host methods and header forms `nvhw/class/cl906f.h` (Linux 6.1), M2MF
//! `nvhw/class/cl9039.h` and Mesa `nvc0_m2mf.xml.h`, 3D and compute Mesa `nvc0_3d.xml.h` and
//! `nvc0_compute.xml.h`, the copy engines the dispatch table of `nvkm/engine/ce/fuc/com.fuc`.

/// Objects that a channel can hold: class number in bits 15:0, engine in 20:16, as the host's
/// `SET_OBJECT` wants it (`nouveau_bo.c`: `oclass | engine << 16`; Mesa for PGRAPH and software).
pub mod class {
    /// 2D engine.
    pub const TWOD: u32 = 0x902d;
    /// Memory to memory format.
    pub const M2MF: u32 = 0x9039;
    /// 3D engine.
    pub const THREED: u32 = 0x9097;
    /// Compute engine.
    pub const COMPUTE: u32 = 0x90c0;
    /// Copy engine 0, engine 4 of the channel.
    pub const COPY0: u32 = 0x4_90b5;
    /// Copy engine 1, engine 5 of the channel.
    pub const COPY1: u32 = 0x5_90b8;
    /// Software methods, executed by the kernel.
    pub const SOFTWARE: u32 = 0x1f_906e;
}

/// Host (PBDMA) methods; they work on every subchannel.
pub mod host {
    /// Binds a class to the subchannel.
    pub const SET_OBJECT: u32 = 0x0000;
    /// Address of the semaphore, bits 39:32.
    pub const SEMAPHOREA: u32 = 0x0010;
    /// The semaphore's payload.
    pub const SEMAPHOREC: u32 = 0x0018;
    /// Operation of the semaphore, see [`super::semaphore`].
    pub const SEMAPHORED: u32 = 0x001c;
    /// Interrupt that does not stop the channel.
    pub const NON_STALL_INTERRUPT: u32 = 0x0020;
    /// Sets the reference counter of the channel's USERD.
    pub const SET_REFERENCE: u32 = 0x0050;
    /// A number below 0x100 that no host method has.
    pub const ILLEGAL: u32 = 0x00f8;
}

/// Bits of [`host::SEMAPHORED`].
pub mod semaphore {
    /// Wait until the word equals the payload.
    pub const ACQUIRE: u32 = 1;
    /// Write the payload.
    pub const RELEASE: u32 = 2;
    /// Wait until the word minus the payload is not negative, in 32-bit wrapping arithmetic.
    pub const ACQ_GEQ: u32 = 4;
    /// Wait until word and payload have a bit in common.
    pub const ACQ_AND: u32 = 8;
    /// Give the host to another channel while waiting.
    pub const ACQUIRE_SWITCH: u32 = 1 << 12;
    /// Do not wait for the engines before the release.
    pub const RELEASE_WFI_DIS: u32 = 1 << 20;
    /// Write the payload only, not the 16 bytes with the time.
    pub const RELEASE_SIZE_4BYTE: u32 = 1 << 24;
}

/// Methods that all PGRAPH classes and the copy engines share.
pub mod common {
    /// No operation.
    pub const NOP: u32 = 0x0100;
    /// Waits for the class's earlier work (PGRAPH classes).
    pub const SERIALIZE: u32 = 0x0110;
    /// A number that M2MF and the copy engines have not.
    pub const ILLEGAL: u32 = 0x0ffc;
}

/// Methods of the copy engines (0x90b5, 0x90b8).
pub mod copy {
    /// First of tile mode, width, height, depth, z, x, y of the source; widths in pixels.
    pub const SRC_TILE: u32 = 0x0200;
    /// The same for the destination.
    pub const DST_TILE: u32 = 0x0220;
    /// Starts the copy.
    pub const EXEC: u32 = 0x0300;
    /// First of source address high, low, destination address high, low, source pitch,
    /// destination pitch, pixels per line, lines.
    pub const SRC_ADDRESS_HIGH: u32 = 0x030c;
    /// First of source pitch, destination pitch, pixels per line, lines.
    pub const SRC_PITCH: u32 = 0x031c;
    /// Component remap: selector nibbles in 15:0, component bytes less one in 17:16, source
    /// components less one in 21:20, destination components less one in 25:24.
    pub const FORMAT: u32 = 0x032c;
    /// First of the two constants that a selector can name.
    pub const SWIZZLE_CONST0: u32 = 0x0330;
    /// First of query address high, low, counter.
    pub const QUERY_ADDRESS_HIGH: u32 = 0x0338;

    /// Bits of [`EXEC`].
    pub mod exec {
        /// Use [`super::FORMAT`]; otherwise a pixel is a byte.
        pub const FORMAT: u32 = 1 << 0;
        /// The source has a pitch.
        pub const SRC_LINEAR: u32 = 1 << 4;
        /// The destination has a pitch.
        pub const DST_LINEAR: u32 = 1 << 8;
        /// Write the query when the copy is done.
        pub const QUERY: u32 = 1 << 12;
        /// The query is the counter alone, without the time.
        pub const QUERY_SHORT: u32 = 1 << 13;
    }

    /// Selector of [`FORMAT`]: the first constant.
    pub const SELECT_CONST0: u32 = 4;
    /// Most bytes that a line may have.
    pub const MAX_LINE: u32 = 0xffff;
    /// Most lines of a copy.
    pub const MAX_LINES: u32 = 0x1fff;
}

/// Methods of M2MF (0x9039).
pub mod m2mf {
    /// First of tile mode, pitch in bytes, height, depth, z of a block-linear source.
    pub const TILING_MODE_IN: u32 = 0x0204;
    /// The same for the destination.
    pub const TILING_MODE_OUT: u32 = 0x0220;
    /// First of destination address high, low.
    pub const OFFSET_OUT_UPPER: u32 = 0x0238;
    /// Starts the copy.
    pub const LAUNCH_DMA: u32 = 0x0300;
    /// Takes inline source data.
    pub const DATA: u32 = 0x0304;
    /// First of source address high, low, source pitch, destination pitch, line length in
    /// bytes, lines.
    pub const OFFSET_IN_UPPER: u32 = 0x030c;
    /// First of source pitch, destination pitch, line length in bytes, lines.
    pub const PITCH_IN: u32 = 0x0314;
    /// First of line length in bytes, lines.
    pub const LINE_LENGTH_IN: u32 = 0x031c;
    /// First of query address high, low, sequence.
    pub const QUERY_ADDRESS_HIGH: u32 = 0x032c;
    /// First of x in bytes, y of a block-linear source.
    pub const TILING_POSITION_IN_X: u32 = 0x0344;
    /// The same for the destination.
    pub const TILING_POSITION_OUT_X: u32 = 0x034c;

    /// Bits of [`LAUNCH_DMA`].
    pub mod launch {
        /// The data follow as [`super::DATA`].
        pub const SRC_INLINE: u32 = 1 << 0;
        /// The source has a pitch.
        pub const SRC_PITCH: u32 = 1 << 4;
        /// The destination has a pitch.
        pub const DST_PITCH: u32 = 1 << 8;
        /// Write the query when the copy is done.
        pub const RELEASE_SEMAPHORE: u32 = 2 << 12;
        /// The query is the sequence alone, without the time.
        pub const ONE_WORD: u32 = 1 << 20;
    }

    /// Most lines of a copy that drivers use (`nouveau_bo9039.c`).
    pub const MAX_LINES: u32 = 2047;
}

/// Methods of compute (0x90c0).
pub mod compute {
    /// Where shared memory is in the generic address space.
    pub const SHARED_BASE: u32 = 0x0214;
    /// Where local memory is.
    pub const LOCAL_BASE: u32 = 0x077c;
    /// First of CTAs in y and x, in z.
    pub const GRIDDIM_YX: u32 = 0x0238;
    /// Registers of a thread.
    pub const CP_GPR_ALLOC: u32 = 0x02c0;
    /// Runs a grid.
    pub const LAUNCH: u32 = 0x0368;
    /// What Mesa launches with (`nvc0_compute.c`).
    pub const LAUNCH_ARGUMENT: u32 = 0x1000;
    /// First of threads of a CTA in y and x, in z.
    pub const BLOCKDIM_YX: u32 = 0x03ac;
    /// Byte offset of the first instruction in the code segment.
    pub const CP_START_ID: u32 = 0x03b4;
    /// First of the code segment's address high, low.
    pub const CODE_ADDRESS_HIGH: u32 = 0x1608;
}

/// The query methods that 3D and compute share.
pub mod query {
    /// First of query address high, low, sequence, get.
    pub const ADDRESS_HIGH: u32 = 0x1b00;
    /// Bit of the get word: wait for everything before (3D).
    pub const FENCE: u32 = 0x10;
    /// Field of the get word: the unit that reports; 0xf is the end of the pipeline.
    pub const UNIT_CROP: u32 = 0xf << 12;
    /// A get word of the 3D class: report the time (`nvc0_query_hw.c`).
    pub const TIMESTAMP: u32 = 0x5002;
    /// Bit of the get word: write the sequence alone, without the time.
    pub const SHORT: u32 = 0x1000_0000;
}

/// Software methods of class 0x906e (`nvkm/engine/sw/chan.c`).
pub mod software {
    /// A page-flip event; without a listener nothing happens.
    pub const FLIP: u32 = 0x0500;
    /// A number that the kernel does not handle.
    pub const ILLEGAL: u32 = 0x0ffc;
}
