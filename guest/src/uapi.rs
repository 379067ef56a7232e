//! The nouveau user interface as data: ioctl numbers and argument layouts.
//!
//! Source: `include/uapi/drm/nouveau_drm.h` of Linux 6.1 and 6.12, `include/uapi/drm/drm.h`, and
//! `drivers/gpu/drm/nouveau/nouveau_abi16.h` for what the 6.1 header leaves out. Field names are
//! those of the headers.

#![allow(missing_docs)] // Each field is documented by the header that the module names.

use std::mem::size_of;

/// The kernel reads the argument (`_IOC_WRITE` of `asm-generic/ioctl.h`).
const IOC_WRITE: u64 = 1;
/// The kernel writes the argument (`_IOC_READ`).
const IOC_READ: u64 = 2;
/// Type letter of all DRM ioctls.
const DRM_IOCTL_BASE: u64 = b'd' as u64;
/// First number of the driver's own ioctls.
const DRM_COMMAND_BASE: u64 = 0x40;

const fn ioc(direction: u64, number: u64, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | DRM_IOCTL_BASE << 8 | number
}

const fn iow<T>(number: u64) -> u64 {
    ioc(IOC_WRITE, number, size_of::<T>())
}

const fn iowr<T>(number: u64) -> u64 {
    ioc(IOC_READ | IOC_WRITE, number, size_of::<T>())
}

pub const DRM_IOCTL_VERSION: u64 = iowr::<DrmVersion>(0x00);
pub const DRM_IOCTL_GET_UNIQUE: u64 = iowr::<DrmUnique>(0x01);
pub const DRM_IOCTL_GEM_CLOSE: u64 = iow::<GemClose>(0x09);
pub const DRM_IOCTL_GET_CAP: u64 = iowr::<GetCap>(0x0c);
pub const DRM_IOCTL_PRIME_HANDLE_TO_FD: u64 = iowr::<PrimeHandle>(0x2d);
pub const DRM_IOCTL_PRIME_FD_TO_HANDLE: u64 = iowr::<PrimeHandle>(0x2e);
pub const GETPARAM: u64 = iowr::<GetParam>(DRM_COMMAND_BASE);
pub const CHANNEL_ALLOC: u64 = iowr::<ChannelAlloc>(DRM_COMMAND_BASE + 0x02);
pub const CHANNEL_FREE: u64 = iow::<ChannelFree>(DRM_COMMAND_BASE + 0x03);
pub const GROBJ_ALLOC: u64 = iow::<GrobjAlloc>(DRM_COMMAND_BASE + 0x04);
pub const GPUOBJ_FREE: u64 = iow::<GpuobjFree>(DRM_COMMAND_BASE + 0x06);
/// Its argument has no fixed size, so a request is known by its number alone.
pub const NVIF_NUMBER: u64 = DRM_COMMAND_BASE + 0x07;
pub const GEM_NEW: u64 = iowr::<GemNew>(DRM_COMMAND_BASE + 0x40);
pub const GEM_PUSHBUF: u64 = iowr::<GemPushbuf>(DRM_COMMAND_BASE + 0x41);
pub const GEM_CPU_PREP: u64 = iow::<GemCpuPrep>(DRM_COMMAND_BASE + 0x42);
pub const GEM_CPU_FINI: u64 = iow::<GemCpuFini>(DRM_COMMAND_BASE + 0x43);
pub const GEM_INFO: u64 = iowr::<GemInfo>(DRM_COMMAND_BASE + 0x44);

pub const GETPARAM_PCI_VENDOR: u64 = 3;
pub const GETPARAM_PCI_DEVICE: u64 = 4;
pub const GETPARAM_BUS_TYPE: u64 = 5;
pub const GETPARAM_FB_SIZE: u64 = 8;
pub const GETPARAM_AGP_SIZE: u64 = 9;
pub const GETPARAM_CHIPSET_ID: u64 = 11;
pub const GETPARAM_GRAPH_UNITS: u64 = 13;
pub const GETPARAM_PTIMER_TIME: u64 = 14;
pub const GETPARAM_HAS_BO_USAGE: u64 = 15;
/// Not in Linux 6.1.
pub const GETPARAM_VRAM_BAR_SIZE: u64 = 18;
/// Not in Linux 6.1.
pub const GETPARAM_VRAM_USED: u64 = 19;

pub const DRM_CAP_PRIME: u64 = 0x5;
pub const DRM_CAP_TIMESTAMP_MONOTONIC: u64 = 0x6;
pub const DRM_PRIME_CAP_IMPORT: u64 = 0x1;
pub const DRM_PRIME_CAP_EXPORT: u64 = 0x2;

pub const GEM_DOMAIN_VRAM: u32 = 1 << 1;
pub const GEM_DOMAIN_GART: u32 = 1 << 2;
pub const GEM_DOMAIN_MAPPABLE: u32 = 1 << 3;
/// The buffer need not be contiguous in VRAM.
pub const GEM_TILE_NONCONTIG: u32 = 0x8;

/// Most buffers of one submission.
pub const GEM_MAX_BUFFERS: usize = 1024;
/// Most segments of one submission.
pub const GEM_MAX_PUSH: usize = 512;
/// In a segment's length: fetch it only when all before it has executed.
pub const GEM_PUSHBUF_NO_PREFETCH: u64 = 1 << 23;

/// In `vram_available` of a submission: wait for it.
pub const GEM_PUSHBUF_SYNC: u64 = 1 << 0;

pub const GEM_CPU_PREP_NOWAIT: u32 = 0x1;
pub const GEM_CPU_PREP_WRITE: u32 = 0x4;

#[repr(C)]
#[derive(Debug)]
pub struct DrmVersion {
    pub version_major: i32,
    pub version_minor: i32,
    pub version_patchlevel: i32,
    pub name_len: usize,
    pub name: *mut u8,
    pub date_len: usize,
    pub date: *mut u8,
    pub desc_len: usize,
    pub desc: *mut u8,
}

#[repr(C)]
#[derive(Debug)]
pub struct DrmUnique {
    pub unique_len: usize,
    pub unique: *mut u8,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GetCap {
    pub capability: u64,
    pub value: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct PrimeHandle {
    pub handle: u32,
    pub flags: u32,
    pub fd: i32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GemClose {
    pub handle: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GetParam {
    pub param: u64,
    pub value: u64,
}

#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct Subchan {
    pub handle: u32,
    pub grclass: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct ChannelAlloc {
    pub fb_ctxdma_handle: u32,
    pub tt_ctxdma_handle: u32,
    pub channel: i32,
    pub pushbuf_domains: u32,
    pub notifier_handle: u32,
    pub subchan: [Subchan; 8],
    pub nr_subchan: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct ChannelFree {
    pub channel: i32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GrobjAlloc {
    pub channel: i32,
    pub handle: u32,
    pub class: i32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GpuobjFree {
    pub channel: i32,
    pub handle: u32,
}

#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct GemInfo {
    pub handle: u32,
    pub domain: u32,
    pub size: u64,
    pub offset: u64,
    pub map_handle: u64,
    pub tile_mode: u32,
    pub tile_flags: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GemNew {
    pub info: GemInfo,
    pub channel_hint: u32,
    pub align: u32,
}

#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct PushbufBoPresumed {
    pub valid: u32,
    pub domain: u32,
    pub offset: u64,
}

#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct PushbufBo {
    pub user_priv: u64,
    pub handle: u32,
    pub read_domains: u32,
    pub write_domains: u32,
    pub valid_domains: u32,
    pub presumed: PushbufBoPresumed,
}

#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct PushbufPush {
    pub bo_index: u32,
    pub pad: u32,
    pub offset: u64,
    pub length: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GemPushbuf {
    pub channel: u32,
    pub nr_buffers: u32,
    pub buffers: u64,
    pub nr_relocs: u32,
    pub nr_push: u32,
    pub relocs: u64,
    pub push: u64,
    pub suffix0: u32,
    pub suffix1: u32,
    pub vram_available: u64,
    pub gart_available: u64,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GemCpuPrep {
    pub handle: u32,
    pub flags: u32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub struct GemCpuFini {
    pub handle: u32,
}

/// The tree of objects behind `NVIF`: each request is a header, then what its type says.
///
/// Source: K61 `include/nvif/ioctl.h`, `include/nvif/cl0080.h`, `include/nvif/class.h`, `nouveau_abi16.c
/// nouveau_abi16_usif`.
pub mod nvif {
    pub const SCLASS: u8 = 0x01;
    pub const NEW: u8 = 0x02;
    pub const DEL: u8 = 0x03;
    pub const MTHD: u8 = 0x04;
    /// `route` of a request whose `token` is a channel's number.
    pub const ROUTE_ABI16: u8 = 0xff;
    /// Class of a device.
    pub const NV_DEVICE: i32 = 0x0080;
    /// Class of software's methods.
    pub const SW_GF100: i32 = -0x7;
    /// Method of a device: what it is.
    pub const NV_DEVICE_V0_INFO: u8 = 0x00;
    pub const NV_DEVICE_INFO_V0_PCIE: u8 = 0x03;
    pub const NV_DEVICE_INFO_V0_FERMI: u8 = 0x07;

    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub struct Ioctl {
        pub version: u8,
        pub r#type: u8,
        pub pad02: [u8; 4],
        pub owner: u8,
        pub route: u8,
        pub token: u64,
        pub object: u64,
    }

    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub struct New {
        pub version: u8,
        pub pad01: [u8; 6],
        pub route: u8,
        pub token: u64,
        pub object: u64,
        pub handle: u32,
        pub oclass: i32,
    }

    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub struct Sclass {
        pub version: u8,
        pub count: u8,
        pub pad02: [u8; 6],
    }

    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub struct Oclass {
        pub oclass: i32,
        pub minver: i16,
        pub maxver: i16,
    }

    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub struct Mthd {
        pub version: u8,
        pub method: u8,
        pub pad02: [u8; 6],
    }

    #[repr(C)]
    #[derive(Debug, Clone, Copy)]
    pub struct DeviceInfo {
        pub version: u8,
        pub platform: u8,
        pub chipset: u16,
        pub revision: u8,
        pub family: u8,
        pub pad06: [u8; 2],
        pub ram_size: u64,
        pub ram_user: u64,
        pub chip: [u8; 16],
        pub name: [u8; 64],
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn argument_sizes_are_those_of_the_c_compiler() {
        assert_eq!(size_of::<DrmVersion>(), 64);
        assert_eq!(size_of::<GemClose>(), 8);
        assert_eq!(size_of::<GetParam>(), 16);
        assert_eq!(size_of::<PrimeHandle>(), 12);
        assert_eq!(size_of::<nvif::Ioctl>(), 24);
        assert_eq!(size_of::<nvif::New>(), 32);
        assert_eq!(size_of::<nvif::Mthd>(), 8);
        assert_eq!(size_of::<nvif::DeviceInfo>(), 104);
        assert_eq!(size_of::<ChannelAlloc>(), 88);
        assert_eq!(size_of::<ChannelFree>(), 4);
        assert_eq!(size_of::<GrobjAlloc>(), 12);
        assert_eq!(size_of::<GpuobjFree>(), 8);
        assert_eq!(size_of::<GemInfo>(), 40);
        assert_eq!(size_of::<GemNew>(), 48);
        assert_eq!(size_of::<PushbufBo>(), 40);
        assert_eq!(size_of::<PushbufPush>(), 24);
        assert_eq!(size_of::<GemPushbuf>(), 64);
        assert_eq!(size_of::<GemCpuPrep>(), 8);
        assert_eq!(size_of::<GemCpuFini>(), 4);
    }

    #[test]
    fn fields_after_a_hole_or_an_array_keep_their_offset() {
        assert_eq!(offset_of!(DrmVersion, name_len), 16);
        assert_eq!(offset_of!(ChannelAlloc, subchan), 20);
        assert_eq!(offset_of!(ChannelAlloc, nr_subchan), 84);
        assert_eq!(offset_of!(GemInfo, map_handle), 24);
        assert_eq!(offset_of!(GemNew, align), 44);
        assert_eq!(offset_of!(PushbufBo, presumed), 24);
        assert_eq!(offset_of!(GemPushbuf, push), 32);
        assert_eq!(offset_of!(GemPushbuf, vram_available), 48);
    }

    #[test]
    fn ioctl_numbers_are_those_of_the_header_macros() {
        // As a C program with the kernel headers prints them.
        assert_eq!(DRM_IOCTL_VERSION, 0xc040_6400);
        assert_eq!(DRM_IOCTL_GEM_CLOSE, 0x4008_6409);
        assert_eq!(DRM_IOCTL_GET_CAP, 0xc010_640c);
        assert_eq!(DRM_IOCTL_PRIME_HANDLE_TO_FD, 0xc00c_642d);
        assert_eq!(GETPARAM, 0xc010_6440);
        assert_eq!(CHANNEL_ALLOC, 0xc058_6442);
        assert_eq!(CHANNEL_FREE, 0x4004_6443);
        assert_eq!(GROBJ_ALLOC, 0x400c_6444);
        assert_eq!(GPUOBJ_FREE, 0x4008_6446);
        assert_eq!(GEM_NEW, 0xc030_6480);
        assert_eq!(GEM_PUSHBUF, 0xc040_6481);
        assert_eq!(GEM_CPU_PREP, 0x4008_6482);
        assert_eq!(GEM_CPU_FINI, 0x4004_6483);
        assert_eq!(GEM_INFO, 0xc028_6484);
    }
}
