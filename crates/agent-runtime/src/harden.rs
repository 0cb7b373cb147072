//! Keeping the process's memory to itself.

use std::fs;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Bit of `CAP_IPC_LOCK` in the capability sets (`capabilities(7)`).
const CAP_IPC_LOCK: u32 = 14;

/// Locks pages as they are used, so that the unused rest of a stack takes no memory (`mlockall(2)`).
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);

/// Switches core dumps and foreign ptrace off, and locks memory where that is allowed without limit.
///
/// What the system refuses is told and not fatal: a container without the right is no reason to stay down.
pub(crate) fn harden() {
    if let Err(error) = set_dumpable(false).and_then(|()| limit_core_dumps(0)) {
        tracing::warn!("core dumps cannot be switched off: {error}");
    }
    // Under a finite limit mlockall succeeds and a later thread or allocation fails: worse than no lock.
    if may_lock_memory() {
        let pages = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | ON_FAULT;
        if let Err(error) = mlockall(pages) {
            tracing::warn!("memory cannot be locked against swapping: {error}");
        }
    }
}

/// Gives a command that is about to take this process's place its core dumps back, as far as the hard limit.
///
/// The other measures end with the process image (`execve(2)`).
pub fn restore_core_dumps() {
    let restored = getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| limit_core_dumps(hard));
    if let Err(error) = restored {
        tracing::debug!("the limit on core dumps stays at 0: {error}");
    }
}

/// Sets the soft limit alone, so that it can be raised again.
fn limit_core_dumps(soft: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, soft, hard)
}

fn may_lock_memory() -> bool {
    getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY) || has_ipc_lock()
}

fn has_ipc_lock() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << CAP_IPC_LOCK) != 0)
}
