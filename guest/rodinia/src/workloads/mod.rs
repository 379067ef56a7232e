//! The workloads, by name.

mod backprop;
mod bfs;
mod copy;
mod diffusion;
mod gaussian;
mod heartwall;
mod hotspot;
mod kmeans;
mod lavamd;
mod long_loop;
mod lud;
mod matrix;
mod nn;
mod nop;
mod nw;
mod particlefilter;
mod pathfinder;
mod srad;
mod srad2;
mod streamcluster;

use crate::workload::Entry;

/// All of them: first the microbenchmarks of the GPUvm paper, then Rodinia's.
pub const ALL: &[Entry] = &[
    Entry::of::<nop::Nop>(),
    Entry::of::<long_loop::Loop>(),
    Entry::of::<matrix::Madd>(),
    Entry::of::<matrix::Mmul>(),
    Entry::of::<matrix::Fmadd>(),
    Entry::of::<matrix::Fmmul>(),
    Entry::of::<copy::Cpy>(),
    Entry::of::<copy::Pincpy>(),
    Entry::of::<backprop::Backprop>(),
    Entry::of::<bfs::Bfs>(),
    Entry::of::<gaussian::Gaussian>(),
    Entry::of::<heartwall::Heartwall>(),
    Entry::of::<hotspot::Hotspot>(),
    Entry::of::<kmeans::Kmeans>(),
    Entry::of::<lavamd::Lavamd>(),
    Entry::of::<lud::Lud>(),
    Entry::of::<nn::Nn>(),
    Entry::of::<nw::Nw>(),
    Entry::of::<particlefilter::ParticleFilter>(),
    Entry::of::<pathfinder::Pathfinder>(),
    Entry::of::<srad::Srad>(),
    Entry::of::<srad2::Srad2>(),
    Entry::of::<streamcluster::Streamcluster>(),
];
