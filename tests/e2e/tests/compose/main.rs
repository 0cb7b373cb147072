//! The stack of `compose/` under a real Docker Engine, told as stories.
//!
//! The servers that it runs stand in for the official images: OpenBao's program, Debian's PostgreSQL, and a recorder for what
//! the profile `monitoring` starts. `VAULTCREW_TEST_VAULT_IMAGE` and `VAULTCREW_TEST_POSTGRES_IMAGE` name official ones instead.

mod documented;
mod engine;
mod images;
mod shown;
mod stack;

mod adopt;
mod config;
mod faults;
mod first_process;
mod life;
mod long;
mod monitoring;
mod overlays;
mod small;
mod walls;
