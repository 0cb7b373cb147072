//! Starts real Vault and PostgreSQL servers and the project's own programs, for end-to-end tests and tasks.
//!
//! Every server has a loopback address, a port and a directory of its own, so any number of tests run side
//! by side. Nothing here imports a program: programs are run as their users run them.
//!
//! Constructors called `start` are for tests: they panic with the whole story where the server does not
//! come up. Tasks use the `…Options` types, whose `start` returns an [`Error`].

mod canary;
mod durability;
mod error;
mod faults;
mod http;
mod loopback;
mod postgres;
mod process;
mod programs;
mod proxy;
mod run;
mod settings;
mod tools;
mod trace;
mod vault;
mod wait;
mod wall_clock;

pub use canary::{Canary, CommandLineWatch, Finding};
pub use durability::{NotDurable, Step};
pub use error::{Error, Result, with_causes};
pub use faults::{Fault, Hurt, run_hurt, run_killed_at};
pub use http::Api;
pub use loopback::{free_address, random_token};
pub use nix::sys::signal::Signal;
pub use postgres::{Postgres, PostgresOptions, PostgresVersion};
pub use programs::Programs;
pub use proxy::{Moment, Proxy, Trouble};
pub use run::{Daemon, Outcome, run, run_within, spawn};
pub use settings::{BIN_DIR, BUILDX_BIN, COMPOSE_BIN, POSTGRES_BIN, POSTGRES15_BIN, SERVER_BIN, TOOLS_DIR};
pub use tools::{
    Flavour, SYSTEMD_ENV_READER, buildx, composes, docker, earlier_server, hadolint, postgres_bin,
    python_dotenvs, server, server_command, server_flavour, tools_dir,
};
pub use trace::{Call, Trace, trace, under_strace};
pub use vault::{Storage, Vault, VaultOptions};
pub use wait::{give_up, wait_until};
pub use wall_clock::{EMULATOR, FAKETIME, WallClock};
