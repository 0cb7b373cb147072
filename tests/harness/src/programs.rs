//! The project's four programs, as they were built to be shipped.

use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result, or_panic};
use crate::settings;

/// The directory of the four programs that `cargo xtask` built. No other is looked at: a test of a program
/// that somebody built some other time proves nothing.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The programs of the directory in `VAULTCREW_BIN_DIR`; panics where there is none.
    #[track_caller]
    #[must_use]
    pub fn locate() -> Self {
        let remedy = || format!("run `cargo xtask test`, which builds them and sets {}", settings::BIN_DIR);
        let dir = settings::path(settings::BIN_DIR).ok_or_else(|| Error::Missing {
            what: "the directory of the programs".to_owned(),
            remedy: remedy(),
        });
        or_panic(dir.and_then(Self::in_dir))
    }

    /// The programs of this directory.
    pub fn in_dir(dir: PathBuf) -> Result<Self> {
        let programs = Self { dir };
        for name in ["unsealer", "bootstrap", "approle-agent", "db-init"] {
            let path = programs.path(name);
            if !path.is_file() {
                let what = format!("the program {}", path.display());
                return Err(Error::Missing {
                    what,
                    remedy: "run `cargo xtask test`, which builds it".to_owned(),
                });
            }
        }
        Ok(programs)
    }

    /// `unsealer`, with nothing but `PATH` in its environment.
    #[must_use]
    pub fn unsealer(&self) -> Command {
        self.command("unsealer")
    }

    /// `bootstrap`, with nothing but `PATH` in its environment.
    #[must_use]
    pub fn bootstrap(&self) -> Command {
        self.command("bootstrap")
    }

    /// `approle-agent`, with nothing but `PATH` in its environment.
    #[must_use]
    pub fn approle_agent(&self) -> Command {
        self.command("approle-agent")
    }

    /// `db-init`, with nothing but `PATH` in its environment.
    #[must_use]
    pub fn db_init(&self) -> Command {
        self.command("db-init")
    }

    /// Where a program is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.env_clear().env("PATH", settings::search_path());
        command
    }
}
