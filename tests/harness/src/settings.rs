//! The variables that steer the test bed.

use std::path::PathBuf;

/// Directory of the four programs, as `cargo xtask` built them.
pub const BIN_DIR: &str = "VAULTCREW_BIN_DIR";
/// Another server binary than the one in the tools' directory: OpenBao's or HashiCorp Vault's.
pub const SERVER_BIN: &str = "VAULTCREW_SERVER_BIN";
/// Another directory of `initdb`, `postgres` and `psql` than those in the tools' directory.
pub const POSTGRES_BIN: &str = "VAULTCREW_POSTGRES_BIN";
/// The same for PostgreSQL 15, which has TLS and the contrib modules: another directory than Debian's.
pub const POSTGRES15_BIN: &str = "VAULTCREW_POSTGRES15_BIN";
/// Another `docker-compose`, of version 2, than those in the tools' directory.
pub const COMPOSE_BIN: &str = "VAULTCREW_COMPOSE_BIN";
/// Another `docker-buildx` than the one in the tools' directory.
pub const BUILDX_BIN: &str = "VAULTCREW_BUILDX_BIN";
/// Another directory than `target/tools`.
pub const TOOLS_DIR: &str = "VAULTCREW_TOOLS_DIR";

/// The variable's path; an empty variable counts as unset.
#[expect(clippy::disallowed_methods, reason = "the test bed has no command line: this is its one reader")]
pub(crate) fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Where programs are looked for.
pub(crate) fn search_path() -> PathBuf {
    path("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into())
}
