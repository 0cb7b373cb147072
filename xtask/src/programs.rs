//! Building the four programs as they are shipped, and looking at what came out.

mod elf;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::shell;

/// The four programs; each package is named after its program.
pub(crate) const PROGRAMS: [&str; 4] = ["unsealer", "bootstrap", "approle-agent", "db-init"];
/// The largest that a program may be, and the size to aim for, in bytes.
const MOST: u64 = 6_000_000;
const AIM: u64 = 5_000_000;

/// Builds the programs with the release profile; returns their directory.
///
/// For musl where target and compiler for it are installed, since that is smaller and never loads an
/// image's name-service libraries; else for the host, with a static C library.
pub(crate) fn build() -> Result<PathBuf> {
    let target = target()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", &target]);
    cargo.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    if !shell::show(&mut cargo)? {
        let said = "cargo says why above".to_owned();
        return Err(Error::Failed { doing: "build the programs".to_owned(), said });
    }
    Ok(target_dir().join(target).join("release"))
}

/// Prints each program's size; an error where one is too large, or is no static binary.
pub(crate) fn inspect(dir: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for program in PROGRAMS {
        let path = dir.join(program);
        let bytes = fs::read(&path).map_err(Error::io(format!("read {}", path.display())))?;
        let size = bytes.len() as u64;
        let megabytes = megabytes(size);
        let remark = if size > AIM { ": more than the 5 MB aimed for" } else { "" };
        println!("  {program:<14} {megabytes} MB{remark}");
        if size > MOST {
            wrong.push(format!("{program} has {megabytes} MB, 6 is the most"));
        }
        match elf::has_interpreter(&bytes) {
            Some(false) => {}
            Some(true) => wrong.push(format!("{program} is not static: it asks for a dynamic linker")),
            None => wrong.push(format!("{program} is no 64-bit little-endian ELF file")),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Failed { doing: "accept the programs".to_owned(), said: wrong.join("; ") })
}

/// The target directory; relative to the workspace, which is where cargo runs this.
fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    workspace.join(shell::variable("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from))
}

fn target() -> Result<String> {
    let version = shell::output("ask rustc for its host", Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
    let musl = host.replace("-gnu", "-musl");
    let installed = shell::output(
        "ask rustc for its libraries",
        Command::new("rustc").args(["--print", "target-libdir", "--target", &musl]),
    );
    let is_installed = installed.is_ok_and(|dir| Path::new(dir.trim()).is_dir());
    let compiler = format!("CC_{}", musl.replace('-', "_"));
    let has_compiler = shell::is_on_path("musl-gcc") || shell::variable(&compiler).is_some();
    Ok(if is_installed && has_compiler { musl } else { host })
}

fn megabytes(size: u64) -> String {
    format!("{}.{:02}", size / 1_000_000, size % 1_000_000 / 10_000)
}
