//! Debian packages, unpacked among the tools: nothing is installed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pins::Tool;
use crate::error::{Error, Result};
use crate::shell;

/// apt's own downloader: it knows the machine's proxies, and refuses a file with another hash.
const DOWNLOADER: &str = "/usr/lib/apt/apt-helper";

/// Downloads the package from the first of the machine's mirrors that has it, and unpacks it below `staging`.
pub(super) fn unpack(tool: &Tool, pool: &str, sha256: &str, staging: &Path) -> Result<PathBuf> {
    let file = format!("{}_{}_{}.deb", tool.package, tool.version, architecture());
    let path = staging.join(&file);
    let mut said = "apt has no sources here".to_owned();
    let has_it = mirrors(tool)?.iter().any(|mirror| {
        let mut download = Command::new(DOWNLOADER);
        download.arg("download-file").arg(format!("{mirror}/{pool}/{file}")).arg(&path);
        match shell::output("download", download.arg(format!("SHA256:{sha256}"))) {
            Ok(_) => true,
            Err(error) => {
                said = harness::with_causes(&error);
                false
            }
        }
    });
    if !has_it {
        return Err(no_mirror(tool, said));
    }
    let contents = staging.join("contents");
    let mut extract = Command::new("dpkg-deb");
    extract.arg("--extract").arg(&path).arg(&contents);
    shell::output(&format!("unpack {file}"), &mut extract)?;
    Ok(contents)
}

/// Where the machine itself gets its packages from. A mirror has one pool for all suites.
fn mirrors(tool: &Tool) -> Result<BTreeSet<String>> {
    let mut list = Command::new("apt-get");
    list.args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"]);
    let sites = shell::output("list apt's mirrors", &mut list)
        .map_err(|error| no_mirror(tool, harness::with_causes(&error)))?;
    Ok(sites.lines().map(str::to_owned).collect())
}

fn no_mirror(tool: &Tool, said: String) -> Error {
    let remedy = match (tool.instead, tool.installed) {
        (Some(variable), _) => format!("name one in {variable}"),
        (None, Some(program)) => format!("put {program} on PATH"),
        (None, None) => "get it by other means".to_owned(),
    };
    Error::NoMirror { package: tool.package, version: tool.version, remedy, said }
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}
