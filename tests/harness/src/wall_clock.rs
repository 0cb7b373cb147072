//! A wall clock of a program's own, which is set back and forth while it runs.
//!
//! Our programs are static, so that no library can be put between them and the kernel, and read the clock without a
//! system call, so that no tracer sees it. An emulator of this very processor carries their system calls out by its C
//! library, and that one's idea of the wall clock is libfaketime's. The clocks that only go forward are the machine's.
//!
//! libfaketime takes every absolute timer for one of the wall clock. So none can be had: our programs then sleep by relative
//! times.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result, or_panic};

/// The emulator.
pub const EMULATOR: &str = if cfg!(target_arch = "aarch64") { "qemu-aarch64" } else { "qemu-x86_64" };

/// What brings libfaketime.
pub const FAKETIME: &str = "faketime";

/// The wall clock of the programs that are started on it.
#[derive(Debug)]
pub struct WallClock {
    dir: tempfile::TempDir,
    library: PathBuf,
}

impl WallClock {
    /// One that is right.
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        let clock = or_panic(Self::set_up());
        clock.step("+0");
        clock
    }

    fn set_up() -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
        let found = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let library =
            found.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        let library = library.ok_or_else(|| Error::Missing {
            what: "libfaketime".to_owned(),
            remedy: format!("run `cargo xtask tools`, or install {FAKETIME}"),
        })?;
        Ok(Self { dir, library })
    }

    /// Sets it so much before or behind the machine's, as in `+2h`, `-90m`, `+365d`.
    #[track_caller]
    pub fn step(&self, by: &str) {
        let (new, file) = (self.dir.path().join("new"), self.file());
        let set = fs::write(&new, format!("{by}\n")).and_then(|()| fs::rename(&new, &file));
        or_panic(set.map_err(Error::io(format!("write {}", file.display()))));
    }

    /// The same command, on this clock.
    #[must_use]
    pub fn on(&self, command: &Command) -> Command {
        // As a grandchild strace leaves its place, and the signals that come there, to the program.
        let mut emulated = Command::new("strace");
        emulated.args(["-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=timerfd_create"]);
        emulated.args(["-e", "inject=timerfd_create:error=EMFILE", "-E"]);
        emulated.arg(format!("LD_PRELOAD={}", self.library.display()));
        emulated.arg(EMULATOR).arg(command.get_program()).args(command.get_args()).env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                emulated.env(name, value);
            }
        }
        if let Some(dir) = command.get_current_dir() {
            emulated.current_dir(dir);
        }
        emulated.env("FAKETIME_TIMESTAMP_FILE", self.file());
        emulated.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        emulated
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new()
    }
}
