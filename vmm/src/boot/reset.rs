//! The reset vector of a BIOS, where kernels jump that know no other way to reset a machine.
//!
//! On hardware-reduced ACPI, Linux takes the machine for one with EFI; without its services it goes
//! to the BIOS next, and tries neither the ACPI reset register nor the keyboard controller.
//!
//! Source: K61 `arch/x86/kernel/reboot.c reboot_init, native_machine_emergency_restart`,
//! `drivers/firmware/efi/reboot.c efi_reboot_required`, `arch/x86/realmode/rm/reboot.S`.

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::devices::power;
use crate::layout;
use crate::memory::GuestMemory;

/// Real-mode code that stores to the reset register and waits for the end.
fn code() -> [u8; 10] {
    let [low, high] = (layout::POWER + power::RESET).to_le_bytes();
    [
        // mov dx, POWER + RESET
        0xba,
        low,
        high,
        // mov al, RESET_VALUE
        0xb0,
        power::RESET_VALUE,
        // out dx, al
        0xee,
        // cli; hlt; jmp to the hlt
        0xfa,
        0xf4,
        0xeb,
        0xfd,
    ]
}

/// Puts the code at [`layout::RESET_VECTOR`].
pub fn write(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    memory.write_slice(&code(), GuestAddress(layout::RESET_VECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_ends_before_the_legacy_hole_does() {
        let memory = crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap();

        write(&memory).unwrap();

        assert!(layout::RESET_VECTOR + code().len() as u64 <= layout::HIGH_MEMORY);
        let first: u8 = memory.read_obj(GuestAddress(layout::RESET_VECTOR)).unwrap();
        assert_eq!(first, 0xba);
    }
}
