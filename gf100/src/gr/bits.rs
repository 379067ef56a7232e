//! Method addresses and fields of the classes 0x902d, 0x9039, 0x9097 and 0x90c0.
//!
//! Only methods that do more than be remembered have a name; which ones exist at all is in
//! [`super::classes`]. Names are those of envytools.
//!
//! Source: ENV `rnndb/fifo/nv_object.xml`, `rnndb/graph/gf100_{3d,compute,m2mf}.xml`,
//! `rnndb/graph/g80_2d.xml`; M25 `src/gallium/drivers/nouveau/nvc0/nvc0_{3d,compute,m2mf}.xml.h`.

/// Methods that every class has.
pub mod common {
    /// Binds a class to the subchannel.
    pub const OBJECT: u16 = 0x000;
    /// Where a notification goes.
    pub const NOTIFY_ADDRESS_HIGH: u16 = 0x104;
    /// Writes a notification: 0 quietly, 1 with an interrupt.
    pub const NOTIFY: u16 = 0x10c;
    /// Place of the next word of macro code.
    pub const MACRO_CODE_POS: u16 = 0x114;
    /// A word of macro code.
    pub const MACRO_CODE_DATA: u16 = 0x118;
    /// The macro whose start follows.
    pub const MACRO_ENTRY_POS: u16 = 0x11c;
    /// Where it starts.
    pub const MACRO_ENTRY_DATA: u16 = 0x120;
    /// First of the methods that call macros: +8n calls macro n, +8n+4 gives it a parameter.
    pub const MACRO_CALL: u16 = 0x3800;
}

/// Methods of 3D and compute that do the same in both.
pub mod shared {
    /// Remaps the high byte of 32-bit global addresses: window in bits 16-23, then 8 bits.
    pub const GLOBAL_BASE: u16 = 0x02c8;
    /// What conditional rendering looks at, high word; low word and [`COND_MODE`] follow.
    pub const COND_ADDRESS_HIGH: u16 = 0x1550;
    /// One of [`super::cond_mode`].
    pub const COND_MODE: u16 = 0x1558;
    /// Where a report goes, high word; low word, sequence and trigger follow.
    pub const QUERY_ADDRESS_HIGH: u16 = 0x1b00;
    /// The number that a report carries.
    pub const QUERY_SEQUENCE: u16 = 0x1b08;
    /// Writes a report.
    pub const QUERY_GET: u16 = 0x1b0c;
    /// Bytes of the constant buffer to bind or fill; its address follows.
    pub const CB_SIZE: u16 = 0x2380;
    /// Its address, high word.
    pub const CB_ADDRESS_HIGH: u16 = 0x2384;
    /// Byte offset of the next word in it.
    pub const CB_POS: u16 = 0x238c;
    /// First of 16 equal methods that write a word into it.
    pub const CB_DATA: u16 = 0x2390;
    /// Last of them.
    pub const CB_DATA_LAST: u16 = 0x23cc;
}

/// When work is done.
///
/// Source: ENV `rnndb/g80_defs.xml` g80_cond_mode.
pub mod cond_mode {
    /// Not at all.
    pub const NEVER: u32 = 0;
    /// In any case.
    pub const ALWAYS: u32 = 1;
    /// When a report's result is not 0.
    pub const RES_NON_ZERO: u32 = 2;
    /// When sequence and result of two reports in a row are equal.
    pub const EQUAL: u32 = 3;
    /// When they are not.
    pub const NOT_EQUAL: u32 = 4;
}

/// Fields of `QUERY_GET`.
pub mod query {
    /// Interrupt when written.
    pub const INTR: u32 = 1 << 20;
    /// Which counter.
    pub const SELECT_SHIFT: u32 = 23;
    /// Five bits.
    pub const SELECT_MASK: u32 = 0x1f;
    /// No counter.
    pub const SELECT_ZERO: u32 = 0;
    /// Samples that passed, a report with the sequence in its first word.
    pub const SELECT_SAMPLECNT: u32 = 2;
    /// Only the sequence, 4 bytes.
    pub const SHORT: u32 = 1 << 28;
}

/// Methods of 3D.
pub mod threed {
    /// What a clear writes: four components.
    pub const CLEAR_COLOR: u16 = 0x0d80;
    /// What a clear writes as depth.
    pub const CLEAR_DEPTH: u16 = 0x0d90;
    /// What a clear writes as stencil.
    pub const CLEAR_STENCIL: u16 = 0x0da0;
    /// Which windows a clear respects besides the screen's.
    pub const CLEAR_FLAGS: u16 = 0x10f8;
    /// Clears.
    pub const CLEAR_BUFFERS: u16 = 0x19d0;
    /// First viewport's columns: start, length.
    pub const VIEWPORT_HORIZ: u16 = 0x0c00;
    /// First viewport's rows.
    pub const VIEWPORT_VERT: u16 = 0x0c04;
    /// The first scissor counts.
    pub const SCISSOR_ENABLE: u16 = 0x0e00;
    /// First scissor's columns: start, end.
    pub const SCISSOR_HORIZ: u16 = 0x0e04;
    /// First scissor's rows.
    pub const SCISSOR_VERT: u16 = 0x0e08;
    /// The screen's columns: start, length.
    pub const SCREEN_SCISSOR_HORIZ: u16 = 0x0ff4;
    /// The screen's rows.
    pub const SCREEN_SCISSOR_VERT: u16 = 0x0ff8;
    /// There is a depth buffer.
    pub const ZETA_ENABLE: u16 = 0x1538;

    /// Fields of [`CLEAR_BUFFERS`].
    pub mod clear {
        /// Depth.
        pub const Z: u32 = 1 << 0;
        /// Stencil.
        pub const S: u32 = 1 << 1;
        /// Any channel of a render target.
        pub const COLOR: u32 = 0xf << COLOR_SHIFT;
        /// Where the channels are, red first.
        pub const COLOR_SHIFT: u32 = 2;
        /// Which render target.
        pub const RT_SHIFT: u32 = 6;
        /// Which layer.
        pub const LAYER_SHIFT: u32 = 10;
    }

    /// Bits of [`CLEAR_FLAGS`].
    pub mod clear_flags {
        /// The scissor.
        pub const SCISSOR: u32 = 1 << 8;
        /// The viewport.
        pub const VIEWPORT: u32 = 1 << 12;
    }

    /// Methods of a render target, from its first.
    pub mod rt {
        /// The first render target's.
        pub const FIRST: u16 = 0x0800;
        /// Bytes to the next one's.
        pub const STRIDE: u16 = 0x40;
        /// Render targets.
        pub const COUNT: u16 = 8;
        /// Address, high word.
        pub const ADDRESS_HIGH: u16 = 0x00;
        /// Pixels of a row if tiled, bytes from row to row if linear.
        pub const HORIZ: u16 = 0x08;
        /// Rows.
        pub const VERT: u16 = 0x0c;
        /// Pixel format, 0 for no target.
        pub const FORMAT: u16 = 0x10;
        /// Log2 of a block's size, and [`LINEAR`].
        pub const BLOCK_DIMENSIONS: u16 = 0x14;
        /// Layers, and [`VOLUME`].
        pub const ARRAY_MODE: u16 = 0x18;
        /// Words from layer to layer.
        pub const LAYER_STRIDE: u16 = 0x1c;
        /// The layer that counts as the first.
        pub const BASE_LAYER: u16 = 0x20;
        /// Flag of [`BLOCK_DIMENSIONS`].
        pub const LINEAR: u32 = 1 << 12;
        /// Flag of [`ARRAY_MODE`]: layers share blocks.
        pub const VOLUME: u32 = 1 << 16;
    }

    /// Methods of the depth buffer.
    pub mod zeta {
        /// Address, high word.
        pub const ADDRESS_HIGH: u16 = 0x0fe0;
        /// Pixel format.
        pub const FORMAT: u16 = 0x0fe8;
        /// Log2 of a block's size.
        pub const BLOCK_DIMENSIONS: u16 = 0x0fec;
        /// Words from layer to layer.
        pub const LAYER_STRIDE: u16 = 0x0ff0;
        /// Pixels of a row.
        pub const HORIZ: u16 = 0x1228;
        /// Rows.
        pub const VERT: u16 = 0x122c;
        /// Layers; the flag does not make a volume.
        pub const ARRAY_MODE: u16 = 0x1230;
        /// The layer that counts as the first.
        pub const BASE_LAYER: u16 = 0x179c;
    }

    /// First of the binding methods, [`STAGE_STRIDE`] apart, a stage each.
    pub const BIND: u16 = 0x2400;
    /// Bytes from the methods of one stage to those of the next.
    pub const STAGE_STRIDE: u16 = 0x20;
    /// Stages.
    pub const STAGES: u16 = 5;
    /// Binds a sampler, from [`BIND`] and the stage.
    pub const BIND_TSC: u16 = 0x00;
    /// Binds a texture.
    pub const BIND_TIC: u16 = 0x04;
    /// Binds a sampler of the small set.
    pub const BIND_TSC2: u16 = 0x08;
    /// Binds a texture of the small set.
    pub const BIND_TIC2: u16 = 0x0c;
    /// Binds a constant buffer: valid in bit 0, index in bits 4-8.
    pub const CB_BIND: u16 = 0x10;
}

/// Methods of compute.
pub mod compute {
    /// Bytes of local memory of a thread from address 0 up.
    pub const LOCAL_POS_ALLOC: u16 = 0x0204;
    /// Bytes of it below address 0.
    pub const LOCAL_NEG_ALLOC: u16 = 0x0208;
    /// The bits of both that count.
    pub const LOCAL_ALLOC: u32 = 0xff_fff0;
    /// Bytes of a warp's stack of control flow.
    pub const WARP_CSTACK_SIZE: u16 = 0x020c;
    /// Where shared memory is in the generic address space.
    pub const SHARED_BASE: u16 = 0x0214;
    /// CTAs in y and x; z follows.
    pub const GRIDDIM_YX: u16 = 0x0238;
    /// Bytes of shared memory of a CTA.
    pub const SHARED_SIZE: u16 = 0x024c;
    /// Registers of a thread.
    pub const CP_GPR_ALLOC: u16 = 0x02c0;
    /// Runs a grid.
    pub const LAUNCH: u16 = 0x0368;
    /// Threads of a CTA in y and x; z follows.
    pub const BLOCKDIM_YX: u16 = 0x03ac;
    /// Byte offset of the first instruction in the code segment.
    pub const CP_START_ID: u16 = 0x03b4;
    /// Where local memory is in the generic address space.
    pub const LOCAL_BASE: u16 = 0x077c;
    /// The number of the grid, for programs to read.
    pub const GRIDID: u16 = 0x0780;
    /// Memory for local memory, high word; the low word follows.
    pub const TEMP_ADDRESS_HIGH: u16 = 0x0790;
    /// Its bytes, likewise.
    pub const TEMP_SIZE_HIGH: u16 = 0x0798;
    /// A texture's sampler has the number of the texture.
    pub const LINKED_TSC: u16 = 0x1234;
    /// Table of samplers, high word; low word and last number follow.
    pub const TSC_ADDRESS_HIGH: u16 = 0x155c;
    /// Table of textures, likewise.
    pub const TIC_ADDRESS_HIGH: u16 = 0x1574;
    /// The code segment, high word.
    pub const CODE_ADDRESS_HIGH: u16 = 0x1608;

    /// Methods of an image, from its first.
    pub mod image {
        /// The first image's.
        pub const FIRST: u16 = 0x2700;
        /// Bytes to the next one's.
        pub const STRIDE: u16 = 0x20;
        /// Texels, or bytes of a row.
        pub const WIDTH: u16 = 0x08;
        /// Rows and the layout.
        pub const HEIGHT: u16 = 0x0c;
        /// Format.
        pub const FORMAT: u16 = 0x10;
        /// Log2 of a block's size.
        pub const BLOCK_DIMENSIONS: u16 = 0x14;
    }

    /// Binds a sampler.
    pub const BIND_TSC: u16 = 0x0228;
    /// Binds a texture.
    pub const BIND_TIC: u16 = 0x022c;
    /// Binds a sampler of the small set.
    pub const BIND_TSC2: u16 = 0x0230;
    /// Binds a texture of the small set.
    pub const BIND_TIC2: u16 = 0x0234;
    /// Binds a constant buffer: valid in bit 0, index in bits 8-12.
    pub const CB_BIND: u16 = 0x1694;
}

/// Methods of 2D.
pub mod twod {
    /// The target: format, then as in [`surface`].
    pub const DST: u16 = 0x0200;
    /// The source, likewise.
    pub const SRC: u16 = 0x0230;
    /// What conditional rendering looks at, high word.
    pub const COND_ADDRESS_HIGH: u16 = 0x0264;
    /// When work is done.
    pub const COND_MODE: u16 = 0x026c;
    /// The clipping rectangle: x, y, width, height, enable.
    pub const CLIP: u16 = 0x0280;
    /// How source and target are combined.
    pub const OPERATION: u16 = 0x02ac;
    /// Filter and origin of a blit.
    pub const BLIT_CONTROL: u16 = 0x088c;
    /// Rectangle that a blit writes: x, y, width, height.
    pub const BLIT_DST: u16 = 0x08b0;
    /// Source pixels per target column: fraction, integer; then per row.
    pub const BLIT_STEP: u16 = 0x08c0;
    /// Where the source starts: x fraction, x integer, y fraction.
    pub const BLIT_SRC: u16 = 0x08d0;
    /// The integer of y, which starts the blit.
    pub const BLIT_SRC_Y_INT: u16 = 0x08dc;

    /// Methods of a surface, from its first.
    pub mod surface {
        /// Pixel format.
        pub const FORMAT: u16 = 0x00;
        /// Linear, not tiled.
        pub const LINEAR: u16 = 0x04;
        /// Log2 of a block's size.
        pub const BLOCK_DIMENSIONS: u16 = 0x08;
        /// Layers.
        pub const DEPTH: u16 = 0x0c;
        /// The layer in use; of the source it is always the first.
        pub const LAYER: u16 = 0x10;
        /// Bytes from row to row of a linear surface.
        pub const PITCH: u16 = 0x14;
        /// Pixels of a row.
        pub const WIDTH: u16 = 0x18;
        /// Rows.
        pub const HEIGHT: u16 = 0x1c;
        /// Address, high word.
        pub const ADDRESS_HIGH: u16 = 0x20;
    }

    /// Values of [`OPERATION`].
    pub mod operation {
        /// Copies what is not wholly transparent.
        pub const SRCCOPY_AND: u32 = 0;
        /// Copies.
        pub const SRCCOPY: u32 = 3;
    }

    /// Bits of [`BLIT_CONTROL`].
    pub mod blit_control {
        /// Source coordinates are of pixels' corners, not of their centres.
        pub const ORIGIN_CORNER: u32 = 1 << 0;
        /// Weighs four source pixels.
        pub const FILTER_BILINEAR: u32 = 1 << 4;
    }
}

/// Methods of M2MF.
pub mod m2mf {
    /// Layout of a tiled source: dimensions, then pitch, height, depth, z.
    pub const BLOCKLINEAR_IN: u16 = 0x0204;
    /// Layout of a tiled destination, likewise.
    pub const BLOCKLINEAR_OUT: u16 = 0x0220;
    /// Destination, high word.
    pub const OFFSET_OUT_HIGH: u16 = 0x0238;
    /// Starts a transfer.
    pub const EXEC: u16 = 0x0300;
    /// A word of inline data.
    pub const DATA: u16 = 0x0304;
    /// Source, high word.
    pub const OFFSET_IN_HIGH: u16 = 0x030c;
    /// Bytes from line to line of a linear source.
    pub const PITCH_IN: u16 = 0x0314;
    /// Bytes from line to line of a linear destination.
    pub const PITCH_OUT: u16 = 0x0318;
    /// Bytes of a line.
    pub const LINE_LENGTH_IN: u16 = 0x031c;
    /// Lines.
    pub const LINE_COUNT: u16 = 0x0320;
    /// Where a report goes, high word.
    pub const QUERY_ADDRESS_HIGH: u16 = 0x032c;
    /// The number that it carries.
    pub const QUERY_SEQUENCE: u16 = 0x0334;
    /// Place in a tiled source: x, then y.
    pub const BLOCKLINEAR_POSITION_IN: u16 = 0x0344;
    /// Place in a tiled destination: x, then y.
    pub const BLOCKLINEAR_POSITION_OUT: u16 = 0x034c;

    /// Fields of [`EXEC`].
    pub mod exec {
        /// The source is the following `DATA` methods.
        pub const PUSH: u32 = 1 << 0;
        /// The source is linear.
        pub const LINEAR_IN: u32 = 1 << 4;
        /// The destination is linear.
        pub const LINEAR_OUT: u32 = 1 << 8;
        /// A report follows the transfer.
        pub const QUERY: u32 = 3 << 12;
        /// An interrupt follows the transfer.
        pub const BUF_NOTIFY: u32 = 3 << 16;
        /// The report is 4 bytes.
        pub const QUERY_SHORT: u32 = 1 << 20;
    }
}

/// Errors in `PGRAPH.DATA_ERROR`.
///
/// Source: K61 `nvkm/engine/gr/nv50.c nv50_data_error_names`.
pub mod data_error {
    /// The value is not one of the known ones.
    pub const INVALID_VALUE: u32 = 0x04;
    /// There is no such format, mode or target.
    pub const INVALID_ENUM: u32 = 0x05;
    /// A CTA does not fit into a multiprocessor.
    pub const CP_NOT_ENOUGH_WARPS: u32 = 0x2a;
    /// More local memory than there is.
    pub const CP_NOT_ENOUGH_LOCAL_WARPS: u32 = 0x2c;
}

/// Errors in `PGRAPH.MACRO_TRAP`.
///
/// Source: K61 `nvkm/engine/gr/gf100.c gf100_macro_error`.
pub mod macro_error {
    /// The macro waits for a parameter and something else came.
    pub const TOO_FEW_PARAMS: u32 = 1 << 0;
    /// A parameter came and no macro waits for it.
    pub const TOO_MANY_PARAMS: u32 = 1 << 1;
    /// There is no such instruction.
    pub const ILLEGAL_OPCODE: u32 = 1 << 2;
    /// A branch in the delay slot of another.
    pub const DOUBLE_BRANCH: u32 = 1 << 3;
    /// It ran for too long.
    pub const WATCHDOG: u32 = 1 << 4;
}

/// Errors in `PGRAPH.M2MF_TRAP`.
///
/// Source: K61 `nvkm/engine/gr/gf100.c gf100_m2mf_error`.
pub mod m2mf_error {
    /// More inline data than the transfer has.
    pub const PUSH_TOO_MUCH_DATA: u32 = 1 << 0;
    /// A new transfer before the inline data of the last one was complete.
    pub const PUSH_NOT_ENOUGH_DATA: u32 = 1 << 1;
}

/// Errors of the context switcher's firmware, in `PGRAPH.FECS_SCRATCH[5]`.
///
/// Source: K61 `nvkm/engine/gr/fuc/os.h`.
pub mod fecs_error {
    /// A command that it does not know.
    pub const BAD_COMMAND: u32 = 1;
    /// A method that it should handle and does not know.
    pub const BAD_FWMTHD: u32 = 3;
}
