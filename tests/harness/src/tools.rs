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

/// systemd's own reader of env files, run without systemd: it prints what `~/.config/environment.d` sets.
pub const SYSTEMD_ENV_READER: &str =
    "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator";

/// The directory that `cargo xtask tools` fills: `bin/bao`, `postgres-16/`, `python-dotenv-1.2/` and others.
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

/// An earlier OpenBao's binary, for stories of an upgrade.
pub fn earlier_server() -> Result<PathBuf> {
    tool("bao-2.6")
}

/// The judge of Dockerfiles.
pub fn hadolint() -> Result<PathBuf> {
    tool("hadolint")
}

/// A program that nothing but `cargo xtask` brings.
fn tool(name: &str) -> Result<PathBuf> {
    let path = tools_dir().join("bin").join(name);
    if path.exists() {
        return Ok(path);
    }
    let remedy = "run `cargo xtask tools`, or for a story that takes many minutes `cargo xtask stack`";
    Err(Error::Missing { what: path.display().to_string(), remedy: remedy.to_owned() })
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

/// Every `docker-compose` there is: at least one, of version 2. Each runs by itself, without `docker`.
pub fn composes() -> Result<Vec<PathBuf>> {
    let named = settings::path(settings::COMPOSE_BIN);
    let usual = |version| move || tools_dir().join(format!("bin/docker-compose-{version}"));
    let oldest = existing("docker-compose", settings::COMPOSE_BIN, named.clone(), usual("2.26"))?;
    // The newer one is of a suite that may drop it.
    let newer = named.is_none().then(usual("2.40")).filter(|path| path.exists());
    Ok([oldest].into_iter().chain(newer).collect())
}

/// `docker-buildx`, which runs by itself, without `docker`.
pub fn buildx() -> Result<PathBuf> {
    let named = settings::path(settings::BUILDX_BIN);
    existing("docker-buildx", settings::BUILDX_BIN, named, || tools_dir().join("bin/docker-buildx"))
}

/// The `docker` command: on `PATH`, else among the tools.
pub fn docker() -> Result<PathBuf> {
    let search_path = settings::search_path();
    let on_path = std::env::split_paths(&search_path).map(|dir| dir.join("docker"));
    let path = on_path.chain([tools_dir().join("bin/docker")]).find(|path| path.is_file());
    path.ok_or_else(|| Error::Missing {
        what: "the `docker` command".to_owned(),
        remedy: "run `cargo xtask tools`, or put one on PATH".to_owned(),
    })
}

/// Directories to name in `PYTHONPATH`, one for each version of python-dotenv, the oldest first.
pub fn python_dotenvs() -> Result<Vec<PathBuf>> {
    let versions = ["1.0", "1.2"].map(|version| tools_dir().join(format!("python-dotenv-{version}")));
    let there = |path: PathBuf| {
        let missing = || Error::Missing {
            what: format!("python-dotenv in {}", path.display()),
            remedy: "run `cargo xtask tools`".to_owned(),
        };
        if path.join("dotenv").is_dir() { Ok(path) } else { Err(missing()) }
    };
    versions.into_iter().map(there).collect()
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
