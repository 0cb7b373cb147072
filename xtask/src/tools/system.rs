//! The programs that a distribution brings: looked for, and installed where that is ours to do.

use std::process::Command;

use crate::error::{Error, Result};
use crate::shell;

/// A program, by its name or its path, and the Debian package that brings it.
pub(super) type Program = (&'static str, &'static str);

/// What tests and tasks run.
pub(super) const NEEDED: &[Program] = &[("curl", "curl"), ("jq", "jq"), ("strace", "strace")];
/// What tests run besides: the readers of env files, a judge of scripts, what sets a wall clock, what makes an image of Debian
/// where none can be pulled, and a PostgreSQL with TLS and the contrib modules, which no wheel has.
pub(super) const FOR_TESTS: &[Program] = &[
    ("bash", "bash"),
    ("dash", "dash"),
    ("debootstrap", "debootstrap"),
    (harness::FAKETIME, "faketime"),
    (harness::EMULATOR, "qemu-user"),
    ("shellcheck", "shellcheck"),
    (harness::SYSTEMD_ENV_READER, "systemd"),
    ("/usr/lib/postgresql/15/bin/postgres", "postgresql-15"),
];

/// Makes sure that they are there: root installs what is missing with `apt-get`, others are told.
pub(super) fn check(programs: &[Program]) -> Result<()> {
    let missing = || {
        let missing = programs.iter().filter(|(program, _)| !shell::is_on_path(program));
        missing.map(|(_, package)| *package).collect::<Vec<_>>()
    };
    if !missing().is_empty() && shell::is_root() && shell::is_on_path("apt-get") {
        install(&missing())?;
    }
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { Err(Error::NotInstalled { names: missing.join(" ") }) }
}

fn install(packages: &[&str]) -> Result<()> {
    println!("installing {}", packages.join(", "));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet=2");
        command
    };
    // Lists may be missing or stale; where they cannot be renewed, the old ones may still do.
    let _ = shell::output("renew the package lists", apt().arg("update"));
    shell::output(
        "install packages",
        apt().args(["install", "--yes", "--no-install-recommends"]).args(packages),
    )
    .map(drop)
}
