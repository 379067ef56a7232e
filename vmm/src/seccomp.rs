//! What system calls the VMM's threads may make.
//!
//! Filters stack: all threads live under that of the process, which has what building a machine
//! takes; processors and the event loop add their own, much smaller ones.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::thread;

use clap::ValueEnum;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use thiserror::Error;
use vmm_sys_util::signal::register_signal_handler;

use crate::terminal;

/// What happens on a system call that is not allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SeccompMode {
    /// The VMM ends.
    #[default]
    On,
    /// The kernel's audit log names it, and it goes on.
    Log,
    /// There are no filters.
    Off,
}

/// A kind of thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// The main thread; all others start under it.
    Process,
    /// A virtual CPU.
    Vcpu,
    /// The event loop.
    Io,
}

/// Why a thread is not filtered.
#[derive(Debug, Error)]
pub enum SeccompError {
    /// The filter does not compile.
    #[error("Cannot build a system call filter")]
    Build(#[from] seccompiler::BackendError),
    /// The kernel refused it.
    #[error("Cannot install a system call filter")]
    Install(#[from] seccompiler::Error),
    /// The handler that reports violations could not be installed.
    #[error("Cannot watch for system call violations")]
    Handler(#[from] io::Error),
}

/// What every thread needs: memory, locks, its own end, and the log.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What a processor needs beyond that: configuration space of a card on the bus is a file.
const VCPU: &[i64] = &[libc::SYS_pread64, libc::SYS_pwrite64];

/// What the event loop needs beyond the common.
const IO: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_wait,
    libc::SYS_fdatasync,
    libc::SYS_getsockopt,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_unlink,
];

/// What building a machine needs beyond all of them. Nothing here starts a program, changes a
/// credential or reaches beyond the machine's own files.
const BUILD: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_bind,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_ioctl,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rt_sigaction,
    libc::SYS_sched_getaffinity,
    libc::SYS_seccomp,
    libc::SYS_set_tid_address,
    libc::SYS_signalfd4,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_statx,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
];

/// Calls on devices that running threads make (`linux/kvm.h`, `asm/ioctls.h`).
const IOCTLS: &[u64] = &[
    0xae80,      // KVM_RUN
    0x8090_ae81, // KVM_GET_REGS
    0x8138_ae83, // KVM_GET_SREGS
    0x4020_ae46, // KVM_SET_USER_MEMORY_REGION
    0x4010_ae42, // KVM_GET_DIRTY_LOG
    0xaec7,      // KVM_RESET_DIRTY_RINGS
    0x4010_ae67, // KVM_REGISTER_COALESCED_MMIO
    0x4010_ae68, // KVM_UNREGISTER_COALESCED_MMIO
    0x4008_ae61, // KVM_IRQ_LINE
    0x4008_ae6a, // KVM_SET_GSI_ROUTING
    0x4020_ae76, // KVM_IRQFD
    0x4040_ae79, // KVM_IOEVENTFD
    0x5401,      // TCGETS
    0x5402,      // TCSETS
];

/// Puts the calling thread into `sandbox`.
pub fn enter(sandbox: Sandbox, mode: SeccompMode) -> Result<(), SeccompError> {
    let action = match mode {
        SeccompMode::On => SeccompAction::Trap,
        SeccompMode::Log => SeccompAction::Log,
        SeccompMode::Off => return Ok(()),
    };
    if sandbox == Sandbox::Process {
        keep_allocator_from_files();
        register_signal_handler(libc::SIGSYS, report_violation)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
    }
    let filter = SeccompFilter::new(
        rules(sandbox)?,
        action,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&program)?)
}

/// Largest block of memory that the allocator takes from its arenas.
const LARGE_BLOCK: libc::c_int = 1 << 20;

/// Keeps the allocator from opening files of the system, as it does in whatever thread comes first: to
/// count the processors when it needs the ninth arena, and to ask how the kernel commits memory when it
/// shrinks one for the first time. So the number of arenas is set, to what it would choose, and they
/// are not shrunk.
///
/// Source: glibc `malloc/arena.c arena_get2, shrink_heap`; `mallopt(3)`.
fn keep_allocator_from_files() {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let most = libc::c_int::try_from(8 * processors).unwrap_or(libc::c_int::MAX);
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, most),
        (libc::M_TRIM_THRESHOLD, -1),
        // What is said of one of them ends their adjustment: this is about where it would end.
        (libc::M_MMAP_THRESHOLD, LARGE_BLOCK),
    ] {
        // SAFETY: the call takes two numbers. Where it is refused, things are as they were.
        unsafe { libc::mallopt(parameter, value) };
    }
}

fn rules(sandbox: Sandbox) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let lists: &[&[i64]] = match sandbox {
        Sandbox::Process => &[COMMON, IO, BUILD],
        Sandbox::Io => &[COMMON, IO],
        Sandbox::Vcpu => &[COMMON, VCPU],
    };
    let mut rules: BTreeMap<_, _> = lists
        .iter()
        .flat_map(|list| list.iter().map(|call| (*call, Vec::new())))
        .collect();
    if sandbox != Sandbox::Process {
        let ioctls = IOCTLS.iter().map(|request| argument_is(1, *request));
        rules.insert(libc::SYS_ioctl, ioctls.collect::<Result<_, _>>()?);
    }
    // No thread makes memory executable.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![argument_lacks(2, libc::PROT_EXEC as u64)?]);
    }
    if sandbox == Sandbox::Process {
        // But for the software card, which reserves what it compiles into when it is made.
        let code = SeccompRule::new(vec![
            equal(2, (libc::PROT_READ | libc::PROT_EXEC) as u64)?,
            equal(3, libc::MAP_SHARED as u64)?,
        ])?;
        rules.entry(libc::SYS_mmap).or_default().push(code);
    }
    Ok(rules)
}

/// Argument `index` is `value`, in the low half that the kernel looks at.
fn equal(index: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// A rule of that alone.
fn argument_is(index: u8, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![equal(index, value)?])
}

/// None of `bits` is set in argument `index`.
fn argument_lacks(index: u8, bits: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(bits);
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, 0)?;
    SeccompRule::new(vec![condition])
}

/// Handles SIGSYS: puts the terminal back, says which call it was and ends the process.
extern "C" fn report_violation(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    /// Bytes of `siginfo_t` before the number of the system call: three integers, padding and
    /// the address of the instruction (`asm-generic/siginfo.h`).
    const SYSCALL_AT: usize = 24;

    terminal::restore();
    // SAFETY: the kernel passes a whole `siginfo_t`, and for SIGSYS that field is an integer.
    let call = unsafe { info.cast::<u8>().add(SYSCALL_AT).cast::<i32>().read() };
    let mut text = *b"gpuvm: seccomp stopped system call     \n";
    let mut at = text.len() - 2;
    let mut rest = call.unsigned_abs();
    loop {
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
        if rest == 0 || text[at] != b' ' {
            break;
        }
    }
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    // SAFETY: ends the process at once, which is allowed in a signal handler.
    unsafe { libc::_exit(128 + signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a call yields in a thread under `sandbox`, where denied calls fail with EXDEV.
    fn under(sandbox: Sandbox, call: fn() -> i64) -> Result<(), i32> {
        thread::spawn(move || {
            let filter = SeccompFilter::new(
                rules(sandbox).unwrap(),
                SeccompAction::Errno(libc::EXDEV as u32),
                SeccompAction::Allow,
                TargetArch::x86_64,
            )
            .unwrap();
            let program: BpfProgram = filter.try_into().unwrap();
            apply_filter(&program).unwrap();
            match call() {
                -1 => Err(io::Error::last_os_error().raw_os_error().unwrap()),
                _ => Ok(()),
            }
        })
        .join()
        .unwrap()
    }

    fn map(protection: i32, sharing: i32) -> i64 {
        let flags = sharing | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        at as i64
    }

    fn open() -> i64 {
        // SAFETY: the path is a terminated string.
        i64::from(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) })
    }

    #[test]
    fn processors_and_event_loop_open_no_files() {
        for sandbox in [Sandbox::Vcpu, Sandbox::Io] {
            assert_eq!(under(sandbox, open), Err(libc::EXDEV));
        }
        assert_eq!(under(Sandbox::Process, open), Ok(()));
    }

    #[test]
    fn threads_without_files_take_memory_and_give_it_back() {
        keep_allocator_from_files();
        // Each keeps its arena until all have one.
        let ready = std::sync::Barrier::new(20);
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let filter = SeccompFilter::new(
                        rules(Sandbox::Vcpu).unwrap(),
                        SeccompAction::KillProcess,
                        SeccompAction::Allow,
                        TargetArch::x86_64,
                    );
                    let program: BpfProgram = filter.unwrap().try_into().unwrap();
                    apply_filter(&program).unwrap();
                    let blocks: Vec<_> = (0..20).map(|_| vec![1u8; 100 << 10]).collect();
                    ready.wait();
                    drop(std::hint::black_box(blocks));
                });
            }
        });
    }

    #[test]
    fn nobody_gets_executable_memory() {
        for sandbox in [Sandbox::Process, Sandbox::Vcpu, Sandbox::Io] {
            let executable = || map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
            assert_eq!(under(sandbox, executable), Err(libc::EXDEV));
            let readable = || map(libc::PROT_READ, libc::MAP_PRIVATE);
            assert_eq!(under(sandbox, readable), Ok(()));
        }
    }

    #[test]
    fn the_card_gets_room_for_its_code_and_nobody_else() {
        let file = || {
            // SAFETY: the name is a terminated string.
            let fd = unsafe { libc::memfd_create(c"code".as_ptr(), libc::MFD_CLOEXEC) };
            let protection = libc::PROT_READ | libc::PROT_EXEC;
            // SAFETY: a new mapping at an address that the kernel chooses.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    protection,
                    libc::MAP_SHARED,
                    fd,
                    0,
                )
            };
            at as i64
        };
        assert_eq!(under(Sandbox::Process, file), Ok(()));
        let writable = || {
            let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            map(all, libc::MAP_SHARED)
        };
        assert_eq!(under(Sandbox::Process, writable), Err(libc::EXDEV));
        let shared = || map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED);
        for sandbox in [Sandbox::Vcpu, Sandbox::Io] {
            assert_eq!(under(sandbox, shared), Err(libc::EXDEV));
        }
    }

    #[test]
    fn processors_make_the_named_ioctls_only() {
        // SAFETY: neither request has an operand that is written with a bad descriptor.
        let other = || i64::from(unsafe { libc::ioctl(-1, 0x5413) });
        // SAFETY: as above.
        let run = || i64::from(unsafe { libc::ioctl(-1, 0xae80) });

        assert_eq!(under(Sandbox::Vcpu, other), Err(libc::EXDEV));
        assert_eq!(under(Sandbox::Vcpu, run), Err(libc::EBADF));
    }
}
