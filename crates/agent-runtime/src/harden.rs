//! Keeping the process's memory to itself.

use std::fs;
use std::sync::OnceLock;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// Bit of `CAP_IPC_LOCK` in the capability sets (`capabilities(7)`).
const CAP_IPC_LOCK: u32 = 14;

/// Locks pages as they are used, so that the unused rest of a stack takes no memory (`mlockall(2)`).
const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);

/// The soft limit on core dumps that the program was started with.
static CORE_DUMPS: OnceLock<u64> = OnceLock::new();

/// Switches core dumps and foreign ptrace off, and locks memory where that is allowed without limit.
///
/// What the system refuses is told and not fatal: a container without the right is no reason to stay down.
pub(crate) fn harden() {
    if let Err(error) = set_dumpable(false).and_then(|()| limit_core_dumps()) {
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

/// Does what leads to another program's start under the limit on core dumps that this one was started with.
///
/// The other measures end with the process image (`execve(2)`).
pub fn with_core_dumps<T>(start: impl FnOnce() -> T) -> T {
    let restored = CORE_DUMPS.get().map_or(Ok(()), |soft| set_soft_limit(*soft).map(drop));
    if let Err(error) = restored {
        tracing::debug!("the limit on core dumps stays at 0: {error}");
    }
    let started = start();
    // Where that has not taken this process's place.
    if let Err(error) = limit_core_dumps() {
        tracing::debug!("core dumps cannot be switched off again: {error}");
    }
    started
}

fn limit_core_dumps() -> nix::Result<()> {
    let before = set_soft_limit(0)?;
    CORE_DUMPS.get_or_init(|| before);
    Ok(())
}

/// Sets the soft limit alone, so that it can be raised again, and gives the one before.
fn set_soft_limit(soft: u64) -> nix::Result<u64> {
    let (before, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, soft, hard)?;
    Ok(before)
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
