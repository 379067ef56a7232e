//! What the compute class launches: the state of its methods as a grid for the multiprocessors.
//!
//! Source: ENV `rnndb/graph/gf100_compute.xml`; M25 `nvc0/nvc0_compute.c nvc0_launch_grid,
//! nvc0_screen_compute_setup`.

use super::bits::compute::{self, image};
use super::classes::Class;
use super::context::{COMPUTE_STAGE, Context};
use crate::memory::PhysAddr;
use crate::sm::{HeaderTable, Image, Launch, Temp};

/// The grid that the methods of a channel describe; `argument` is that of the launch itself, and
/// `multiprocessors` how many SMs the card has.
pub fn launch(
    context: &Context,
    instance: PhysAddr,
    argument: u32,
    multiprocessors: u32,
) -> Launch {
    let get = |address| context.get(Class::Compute, address);
    let address = |high| context.address(Class::Compute, high);
    let dimensions = |yx: u16| {
        let (yx, z) = (get(yx), get(yx + 4));
        [yx & 0xffff, yx >> 16, z & 0xffff]
    };
    let table = |high: u16| HeaderTable {
        address: address(high),
        limit: get(high + 8),
    };
    let image = |slot: usize| {
        let first = image::FIRST + slot as u16 * image::STRIDE;
        Image {
            address: address(first),
            width: get(first + image::WIDTH),
            height: get(first + image::HEIGHT),
            format: get(first + image::FORMAT),
            block_dimensions: get(first + image::BLOCK_DIMENSIONS),
        }
    };
    Launch {
        start_id: get(compute::CP_START_ID),
        grid: dimensions(compute::GRIDDIM_YX),
        block: dimensions(compute::BLOCKDIM_YX),
        shared_size: get(compute::SHARED_SIZE),
        local_pos_alloc: get(compute::LOCAL_POS_ALLOC) & compute::LOCAL_ALLOC,
        local_neg_alloc: get(compute::LOCAL_NEG_ALLOC) & compute::LOCAL_ALLOC,
        temp: Temp {
            address: address(compute::TEMP_ADDRESS_HIGH),
            size: address(compute::TEMP_SIZE_HIGH),
        },
        warp_cstack_size: get(compute::WARP_CSTACK_SIZE),
        gpr_alloc: get(compute::CP_GPR_ALLOC),
        local_base: get(compute::LOCAL_BASE),
        shared_base: get(compute::SHARED_BASE),
        global_base: Box::new(*context.global_windows()),
        grid_id: get(compute::GRIDID),
        launch_arg: argument,
        constants: context.constants(COMPUTE_STAGE),
        tic: table(compute::TIC_ADDRESS_HIGH),
        tsc: table(compute::TSC_ADDRESS_HIGH),
        textures: Box::new(context.textures(COMPUTE_STAGE)),
        samplers: context.samplers(COMPUTE_STAGE),
        linked_tsc: get(compute::LINKED_TSC) & 1 != 0,
        images: std::array::from_fn(image),
        multiprocessors,
        ..Launch::new(instance, address(compute::CODE_ADDRESS_HIGH))
    }
}
