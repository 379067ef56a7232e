//! What CPUID tells a guest: what KVM supports, with this machine's processors.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// Family, features: local APIC ID and number of processors in EBX.
const LEAF_FEATURES: u32 = 0x1;
/// Intel's cache parameters: number of cores in EAX.
const LEAF_INTEL_CACHE: u32 = 0x4;
/// Extended features, in subleaves.
const LEAF_EXTENDED: u32 = 0x7;
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
                entry.ecx |= TSC_DEADLINE | HYPERVISOR;
                if count > 1 {
                    entry.edx |= HTT;
                }
            }
            LEAF_INTEL_CACHE if entry.eax & 0x1f != 0 => {
                entry.eax = entry.eax & 0x3fff | (count - 1).min(63) << 26;
            }
            LEAF_EXTENDED if entry.index == 0 => {
                entry.ebx &= !ERMS;
                entry.edx &= !FSRM;
            }
            LEAF_EXTENDED if entry.index == 1 => entry.eax &= !FSRS,
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
