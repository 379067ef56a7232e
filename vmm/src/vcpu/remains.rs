//! What is left of a virtual CPU that cannot go on.

use std::fmt::Write as _;

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, kvm_run,
};
use kvm_ioctls::VcpuFd;

/// What KVM adds to an internal error, if that is how it left the guest.
///
/// Source: `linux/kvm.h`, `struct kvm_run`, `internal` and `emulation_failure`.
pub fn internal_error(run: &kvm_run) -> Option<String> {
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return None;
    }
    // SAFETY: the reason says that this field of the union is the one that was written; all of its
    // bits are valid numbers.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let what = match internal.suberror {
        KVM_INTERNAL_ERROR_EMULATION => "cannot emulate an instruction",
        KVM_INTERNAL_ERROR_SIMUL_EX => "met an exception within another",
        KVM_INTERNAL_ERROR_DELIVERY_EV => "left the guest in the midst of an event",
        KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "does not know why the processor exited",
        _ => "failed",
    };
    let data = &internal.data[..internal.data.len().min(internal.ndata as usize)];
    let mut text = format!("KVM {what} (error {})", internal.suberror);
    let instruction = u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES);
    match data {
        // The second word begins with a length, the bytes follow.
        [flags, rest @ ..]
            if internal.suberror == KVM_INTERNAL_ERROR_EMULATION && flags & instruction != 0 =>
        {
            let bytes: Vec<u8> = rest.iter().flat_map(|word| word.to_le_bytes()).collect();
            if let Some((len, bytes)) = bytes.split_first() {
                text += ":";
                for byte in bytes.iter().take(usize::from(*len)) {
                    // Writing to a string cannot fail.
                    let _ = write!(text, " {byte:02x}");
                }
            }
        }
        [] => {}
        data => {
            let _ = write!(text, ": {data:#x?}");
        }
    }
    Some(text)
}

/// Its registers, for the log. Empty if KVM does not say.
pub fn registers(fd: &VcpuFd) -> String {
    let (Ok(regs), Ok(sregs)) = (fd.get_regs(), fd.get_sregs()) else {
        return String::new();
    };
    format!(
        "rip {:#x} rsp {:#x} rflags {:#x} rax {:#x} rcx {:#x} rdx {:#x} rsi {:#x} rdi {:#x} \
         cs {:#x} cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
        regs.rip,
        regs.rsp,
        regs.rflags,
        regs.rax,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        sregs.cs.selector,
        sregs.cr0,
        sregs.cr2,
        sregs.cr3,
        sregs.cr4,
        sregs.efer
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_with(suberror: u32, data: &[u64]) -> kvm_run {
        let mut run = kvm_run {
            exit_reason: KVM_EXIT_INTERNAL_ERROR,
            ..Default::default()
        };
        let mut words = [0; 16];
        words[..data.len()].copy_from_slice(data);
        run.__bindgen_anon_1.internal = kvm_bindings::kvm_run__bindgen_ty_1__bindgen_ty_13 {
            suberror,
            ndata: data.len() as u32,
            data: words,
        };
        run
    }

    #[test]
    fn instruction_that_cannot_be_emulated_is_shown() {
        // vmovdqu [rdi], ymm0
        let run = left_with(KVM_INTERNAL_ERROR_EMULATION, &[1, 0x0007_7ffe_c504]);

        assert_eq!(
            internal_error(&run).unwrap(),
            "KVM cannot emulate an instruction (error 1): c5 fe 7f 07"
        );
    }

    #[test]
    fn error_of_more_words_than_there_is_room_for_is_no_panic() {
        let mut run = left_with(9, &[]);
        run.__bindgen_anon_1.internal.ndata = u32::MAX;

        assert!(
            internal_error(&run)
                .unwrap()
                .starts_with("KVM failed (error 9)")
        );
        run.exit_reason = 0;
        assert_eq!(internal_error(&run), None);
    }
}
