//! What CPUID tells a guest: what KVM supports, with this machine's processors.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Family, features: local APIC ID and number of processors in EBX.
const LEAF_FEATURES: u32 = 0x1;
/// Intel's cache parameters: number of cores in EAX.
const LEAF_INTEL_CACHE: u32 = 0x4;
/// Extended features, in subleaves.
const LEAF_EXTENDED: u32 = 0x7;
/// State that XSAVE knows: components in EAX of subleaf 0.
const LEAF_XSAVE: u32 = 0xd;
/// Extended topology, and its second version.
const LEAF_TOPOLOGY: [u32; 2] = [0xb, 0x1f];
/// Address widths; number of cores in ECX.
const LEAF_SIZES: u32 = 0x8000_0008;
/// AMD's cache parameters: number of sharing processors in EAX.
const LEAF_AMD_CACHE: u32 = 0x8000_001d;
/// AMD's topology.
const LEAF_AMD_TOPOLOGY: u32 = 0x8000_001e;

/// Leaf 1, ECX: the local APIC timer has the TSC deadline mode. KVM implements it everywhere and
/// announces it nowhere.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: EBX holds the number of processors.
const HTT: u32 = 1 << 28;

/// Leaf 7.0, EBX and EDX; leaf 7.1, EAX: string instructions are quick. Where they are, Linux clears
/// memory of devices with `rep stosb`, an exit for each byte instead of each 8.
const ERMS: u32 = 1 << 9;
const FSRM: u32 = 1 << 4;
const FSRS: u32 = 1 << 11;

/// What has AVX's encoding: KVM emulates none of it, so that a program which copies memory with it, as
/// the C library does, dies of SIGILL (and a kernel's processor stops) where a BAR traps. Without it they
/// use what is emulated, loads and stores of 16 bytes.
///
/// Leaf 1, ECX: FMA, AVX, F16C. Leaf 7.0, EBX: AVX2 and AVX-512; ECX: AVX-512, VAES, VPCLMULQDQ; EDX:
/// AVX-512 and AMX, whose registers are of the same state. Leaf 7.1, EAX: AVX-VNNI, AVX512_BF16,
/// AVX-IFMA; EDX: further of AVX, and AVX10. Leaf 0xd.0, EAX: their components.
///
/// Source: Intel SDM, volume 2A, CPUID; Linux `arch/x86/kvm/emulate.c`, `arch/x86/kernel/cpu/cpuid-deps.c`.
const AVX_ECX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
const AVX_7_EBX: u32 =
    1 << 5 | 1 << 16 | 1 << 17 | 1 << 21 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 30 | 1 << 31;
const AVX_7_ECX: u32 = 1 << 1 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14;
const AVX_7_EDX: u32 = 1 << 2 | 1 << 3 | 1 << 8 | 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25;
const AVX_71_EAX: u32 = 1 << 4 | 1 << 5 | 1 << 21 | 1 << 23;
const AVX_71_EDX: u32 = 1 << 4 | 1 << 5 | 1 << 10 | 1 << 19;
const AVX_STATE: u32 = 1 << 2 | 0b111 << 5 | 0b11 << 17;

/// Topology levels, as leaf 0xb numbers them.
const LEVEL_SMT: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// Makes `cpuid`, as KVM supports it, that of processor `index` out of `cpus` single-threaded
/// cores in one package.
pub fn describe(cpuid: &mut CpuId, index: u8, cpus: u8) {
    let id = u32::from(index);
    let count = u32::from(cpus);
    let id_bits = count.next_power_of_two().trailing_zeros();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            LEAF_FEATURES => {
                entry.ebx = entry.ebx & 0xffff | count << 16 | id << 24;
                entry.ecx = entry.ecx & !AVX_ECX | TSC_DEADLINE | HYPERVISOR;
                if count > 1 {
                    entry.edx |= HTT;
                }
            }
            LEAF_INTEL_CACHE if entry.eax & 0x1f != 0 => {
                entry.eax = entry.eax & 0x3fff | (count - 1).min(63) << 26;
            }
            LEAF_EXTENDED if entry.index == 0 => {
                entry.ebx &= !(ERMS | AVX_7_EBX);
                entry.ecx &= !AVX_7_ECX;
                entry.edx &= !(FSRM | AVX_7_EDX);
            }
            LEAF_EXTENDED if entry.index == 1 => {
                entry.eax &= !(FSRS | AVX_71_EAX);
                entry.edx &= !AVX_71_EDX;
            }
            LEAF_XSAVE if entry.index == 0 => entry.eax &= !AVX_STATE,
            leaf if LEAF_TOPOLOGY.contains(&leaf) => topology(entry, id, count, id_bits),
            LEAF_SIZES => entry.ecx = (count - 1) | id_bits << 12,
            LEAF_AMD_CACHE => entry.eax &= !(0xfff << 14),
            LEAF_AMD_TOPOLOGY => {
                entry.eax = id;
                entry.ebx = id;
                entry.ecx = 0;
            }
            _ => {}
        }
    }
}

fn topology(entry: &mut kvm_cpuid_entry2, id: u32, count: u32, id_bits: u32) {
    let (shift, processors, level) = match entry.index {
        0 => (0, 1, LEVEL_SMT),
        1 => (id_bits, count, LEVEL_CORE),
        _ => (0, 0, 0),
    };
    entry.eax = shift;
    entry.ebx = processors;
    entry.ecx = entry.index & 0xff | level << 8;
    entry.edx = id;
}

/// Width of a guest physical address in bits.
pub fn physical_address_bits(cpuid: &CpuId) -> u32 {
    cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == LEAF_SIZES)
        .map_or(36, |entry| entry.eax & 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_has_no_instruction_that_kvm_does_not_emulate() {
        let leaf = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            eax: !0,
            ebx: !0,
            ecx: !0,
            edx: !0,
            ..Default::default()
        };
        let mut cpuid = CpuId::from_entries(&[leaf(1, 0), leaf(7, 0), leaf(0xd, 0)]).unwrap();

        describe(&mut cpuid, 0, 1);

        let [features, extended, state] = cpuid.as_slice() else {
            unreachable!()
        };
        // SSE4.2 and XSAVE stay, AVX goes; so do AVX2, and the upper halves of the registers.
        assert_eq!(features.ecx >> 20 & 1, 1);
        assert_eq!(features.ecx >> 26 & 1, 1);
        assert_eq!(features.ecx >> 28 & 1, 0);
        assert_eq!(extended.ebx >> 5 & 1, 0);
        assert_eq!(state.eax & 0b111, 0b011);
    }

    #[test]
    fn third_of_four_cores_knows_its_place() {
        let leaf = |function, index| kvm_cpuid_entry2 {
            function,
            index,
            ..Default::default()
        };
        let mut cpuid = CpuId::from_entries(&[leaf(1, 0), leaf(0xb, 0), leaf(0xb, 1)]).unwrap();

        describe(&mut cpuid, 2, 4);

        let entries = cpuid.as_slice();
        assert_eq!(entries[0].ebx, 4 << 16 | 2 << 24);
        assert_eq!((entries[1].eax, entries[1].ebx, entries[1].edx), (0, 1, 2));
        assert_eq!((entries[2].eax, entries[2].ebx, entries[2].edx), (2, 4, 2));
        assert_eq!(entries[2].ecx, 1 | LEVEL_CORE << 8);
    }
}
