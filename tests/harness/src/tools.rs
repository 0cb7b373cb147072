//! Where the servers' binaries are: in the tools' directory, or where a variable says.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::postgres::PostgresVersion;
use crate::settings;

/// Whose server it is. They differ in their storage back ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flavour {
    /// OpenBao.
    OpenBao,
    /// HashiCorp Vault.
    Vault,
}

/// The directory that `cargo xtask tools` fills: `bin/bao`, `postgres-16/`, `postgres-18/`.
#[must_use]
pub fn tools_dir() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/harness is two deep");
    settings::path(settings::TOOLS_DIR).unwrap_or_else(|| workspace.join("target/tools"))
}

/// The server's binary.
pub fn server() -> Result<PathBuf> {
    let named = settings::path(settings::SERVER_BIN);
    existing("the Vault server's binary", settings::SERVER_BIN, named, || tools_dir().join("bin/bao"))
}

/// The server's binary as a command with a clean environment, for its subcommands.
pub fn server_command() -> Result<Command> {
    let mut command = Command::new(server()?);
    command.env_clear().env("PATH", settings::search_path());
    Ok(command)
}

/// Whose binary it is, by what it says.
pub fn server_flavour() -> Result<Flavour> {
    let output =
        server_command()?.arg("version").output().map_err(Error::io("ask the server its version"))?;
    let is_openbao = String::from_utf8_lossy(&output.stdout).starts_with("OpenBao");
    Ok(if is_openbao { Flavour::OpenBao } else { Flavour::Vault })
}

/// The directory of PostgreSQL's programs.
pub fn postgres_bin(version: PostgresVersion) -> Result<PathBuf> {
    let (variable, usual) = match version {
        PostgresVersion::V15 => (settings::POSTGRES15_BIN, "/usr/lib/postgresql/15/bin".into()),
        _ => (settings::POSTGRES_BIN, tools_dir().join(format!("postgres-{version}/bin"))),
    };
    existing("PostgreSQL's bin directory", variable, settings::path(variable), || usual)
}

fn existing(
    what: &str,
    variable: &str,
    named: Option<PathBuf>,
    usual: impl FnOnce() -> PathBuf,
) -> Result<PathBuf> {
    let remedy = match named {
        Some(_) => format!("{variable} names it"),
        None => format!("run `cargo xtask tools`, or name one in {variable}"),
    };
    let path = named.unwrap_or_else(usual);
    path.canonicalize().map_err(|_| Error::Missing { what: format!("{what} {}", path.display()), remedy })
}
