//! The state in which a virtual CPU starts.

use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::boot::Entry;
use crate::layout;
use crate::memory::GuestMemory;
use crate::vm::{VmError, call};

/// Bits of CR0, CR4 and EFER (Intel SDM, volume 3, section 2.5).
const CR0_PE: u64 = 1;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Page-table entry bits: present and writable, and a large page.
const PTE_PRESENT_WRITABLE: u64 = 3;
const PTE_LARGE: u64 = 1 << 7;
/// Entries in a page directory, and the size of what one of them maps.
const PD_ENTRIES: u64 = 512;
const LARGE_PAGE: u64 = 2 << 20;

/// Descriptors, as the Linux boot protocol wants them: code at 0x10, data at 0x18.
const GDT_CODE: u16 = 2;
const GDT_DATA: u16 = 3;
const GDT_TSS: u16 = 4;
const GDT_ENTRIES: usize = 5;

/// Model-specific registers (Intel SDM, volume 4).
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MSR_MTRR_DEFAULT_TYPE: u32 = 0x2ff;
/// Fast string operations.
const MISC_ENABLE_FAST_STRING: u64 = 1;
/// MTRRs on, all memory write-back.
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;

/// Local vector table entries of the local APIC, by offset of the register page.
const APIC_LVT_LINT0: usize = 0x350;
const APIC_LVT_LINT1: usize = 0x360;
/// Delivery modes, in place.
const APIC_MODE_NMI: u32 = 4 << 8;
const APIC_MODE_EXTINT: u32 = 7 << 8;
const APIC_MODE_MASK: u32 = 7 << 8;

/// The register that every processor has set at reset.
const RFLAGS_RESERVED: u64 = 2;

/// Why a processor could not be set up.
#[derive(Debug, Error)]
pub enum StateError {
    /// The hypervisor refused.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The boot tables lie outside memory.
    #[error("Cannot write the boot tables")]
    Memory(#[from] GuestMemoryError),
}

/// Sets up the processor that starts the kernel; the others wait for it in the irqchip.
pub fn start_at(vcpu: &VcpuFd, entry: Entry, memory: &GuestMemory) -> Result<(), StateError> {
    let mut sregs = call("read system registers", vcpu.get_sregs())?;
    let long = matches!(entry, Entry::Linux64(_));
    let code = segment(GDT_CODE, 0xb, long);
    let data = segment(GDT_DATA, 0x3, false);
    let tss = kvm_segment {
        s: 0,
        g: 0,
        limit: 0x67,
        ..segment(GDT_TSS, 0xb, false)
    };
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = tss;
    sregs.gdt.base = layout::BOOT_GDT;
    sregs.gdt.limit = (8 * GDT_ENTRIES - 1) as u16;
    sregs.idt.limit = 0;
    for (index, segment) in [(GDT_CODE, code), (GDT_DATA, data), (GDT_TSS, tss)] {
        let address = layout::BOOT_GDT + 8 * u64::from(index);
        memory.write_obj(descriptor(&segment), GuestAddress(address))?;
    }

    let mut regs = kvm_regs {
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    };
    match entry {
        Entry::Linux64(rip) => {
            identity_map(memory)?;
            sregs.cr0 = CR0_PE | CR0_PG;
            sregs.cr3 = layout::BOOT_PML4;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
            regs.rip = rip;
            regs.rsi = layout::ZERO_PAGE;
            regs.rsp = layout::BOOT_STACK;
        }
        Entry::Pvh(rip) => {
            sregs.cr0 = CR0_PE;
            sregs.cr4 = 0;
            sregs.efer = 0;
            regs.rip = rip;
            regs.rbx = layout::PVH_START_INFO;
        }
    }
    call("set system registers", vcpu.set_sregs(&sregs))?;
    call("set registers", vcpu.set_regs(&regs))?;
    Ok(())
}

/// Sets what every processor needs before it runs.
pub fn prepare(vcpu: &VcpuFd) -> Result<(), StateError> {
    let msr = |index, data| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    let msrs = Msrs::from_entries(&[
        msr(MSR_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        msr(MSR_MTRR_DEFAULT_TYPE, MTRR_WRITE_BACK),
    ])
    .map_err(|_| VmError::TooManyRoutes)?;
    call("set model-specific registers", vcpu.set_msrs(&msrs))?;

    // The state that FNINIT and a reset leave: all exceptions masked.
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    call("set the floating-point state", vcpu.set_fpu(&fpu))?;

    let mut apic = call("read the local APIC", vcpu.get_lapic())?;
    for (offset, mode) in [
        (APIC_LVT_LINT0, APIC_MODE_EXTINT),
        (APIC_LVT_LINT1, APIC_MODE_NMI),
    ] {
        let register = &mut apic.regs[offset..offset + 4];
        let mut bytes = [0; 4];
        for (byte, from) in bytes.iter_mut().zip(register.iter()) {
            *byte = from.cast_unsigned();
        }
        let value = u32::from_le_bytes(bytes) & !APIC_MODE_MASK | mode;
        for (to, byte) in register.iter_mut().zip(value.to_le_bytes()) {
            *to = byte.cast_signed();
        }
    }
    call("set the local APIC", vcpu.set_lapic(&apic))?;
    Ok(())
}

/// A flat ring-0 segment.
fn segment(index: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector: index * 8,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

/// The segment as its table holds it.
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = if segment.g == 1 {
        u64::from(segment.limit >> 12)
    } else {
        u64::from(segment.limit)
    };
    let flags = u64::from(segment.type_)
        | u64::from(segment.s) << 4
        | u64::from(segment.dpl) << 5
        | u64::from(segment.present) << 7
        | u64::from(segment.l) << 13
        | u64::from(segment.db) << 14
        | u64::from(segment.g) << 15;
    limit & 0xffff | (limit >> 16 & 0xf) << 48 | flags << 40
}

/// Maps the first GiB to itself.
fn identity_map(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    let link = |to: u64| to | PTE_PRESENT_WRITABLE;
    memory.write_obj(link(layout::BOOT_PDPT), GuestAddress(layout::BOOT_PML4))?;
    memory.write_obj(link(layout::BOOT_PD), GuestAddress(layout::BOOT_PDPT))?;
    for entry in 0..PD_ENTRIES {
        memory.write_obj(
            link(entry * LARGE_PAGE) | PTE_LARGE,
            GuestAddress(layout::BOOT_PD + 8 * entry),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_the_flat_ones() {
        assert_eq!(
            descriptor(&segment(GDT_CODE, 0xb, true)),
            0x00af_9b00_0000_ffff
        );
        assert_eq!(
            descriptor(&segment(GDT_CODE, 0xb, false)),
            0x00cf_9b00_0000_ffff
        );
        assert_eq!(
            descriptor(&segment(GDT_DATA, 0x3, false)),
            0x00cf_9300_0000_ffff
        );
    }

    #[test]
    fn identity_map_ends_at_one_gib() {
        let memory = crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap();

        identity_map(&memory).unwrap();

        let last: u64 = memory
            .read_obj(GuestAddress(layout::BOOT_PD + 8 * 511))
            .unwrap();
        assert_eq!(last, (1 << 30) - LARGE_PAGE + 0x83);
    }
}
