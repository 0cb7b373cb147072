//! Whether bootstrap may give files to other users: found out before anything is done, not when they are delivered.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Delivery;
use crate::BootstrapError;

/// `CAP_CHOWN` in `capabilities(7)`.
const CAP_CHOWN: u32 = 0;

const SETGID: u32 = 0o2000;

/// What a process may do to the ownership of its files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rights {
    uid: u32,
    /// Those that it may give its own files to.
    groups: Vec<u32>,
    /// Whether it may give them to anybody.
    chown: bool,
}

/// Refuses an owner or a group that bootstrap cannot give to what it delivers.
pub(crate) fn may_give_away(deliveries: &[Delivery]) -> Result<(), BootstrapError> {
    if deliveries.iter().all(|delivery| delivery.attrs.owner.is_none() && delivery.attrs.group.is_none()) {
        return Ok(());
    }
    // Where the kernel does not tell, the first delivery does.
    let Some(rights) = fs::read_to_string("/proc/self/status").ok().and_then(|text| Rights::parse(&text))
    else {
        return Ok(());
    };
    for Delivery { role, directory, attrs, .. } in deliveries {
        let refused = |what, id| {
            let (service, uid) = (role.clone(), rights.uid);
            Err(BootstrapError::CannotChown { service, what, id, uid })
        };
        if let Some(owner) = attrs.owner.filter(|owner| !rights.may_own(*owner)) {
            return refused("owner", owner);
        }
        let inherited = inherited_group(directory);
        if let Some(group) = attrs.group.filter(|&group| inherited != Some(group) && !rights.may_group(group))
        {
            return refused("group", group);
        }
    }
    Ok(())
}

/// The group that files in a directory, or in one that is made there, get by themselves.
fn inherited_group(directory: &Path) -> Option<u32> {
    let existing = directory.ancestors().find_map(|path| fs::metadata(path).ok())?;
    (existing.mode() & SETGID != 0).then_some(existing.gid())
}

impl Rights {
    /// Reads `/proc/self/status` (`proc_pid_status(5)`).
    fn parse(status: &str) -> Option<Self> {
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let numbers = |name: &str| -> Option<Vec<u32>> {
            Some(line(name)?.split_whitespace().filter_map(|number| number.parse().ok()).collect())
        };
        // Real, effective, saved, and that of the file system, which is the one that counts.
        let uid = *numbers("Uid:")?.get(3)?;
        let mut groups = numbers("Groups:")?;
        groups.push(*numbers("Gid:")?.get(3)?);
        let effective = u64::from_str_radix(line("CapEff:")?.trim(), 16).ok()?;
        Some(Self { uid, groups, chown: effective >> CAP_CHOWN & 1 == 1 })
    }

    fn may_own(&self, uid: u32) -> bool {
        self.chown || uid == self.uid
    }

    fn may_group(&self, gid: u32) -> bool {
        self.chown || self.groups.contains(&gid)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const STATUS: &str = "Name:\tbootstrap\nUid:\t1\t2\t3\t100\nGid:\t1\t2\t3\t200\nGroups:\t300 400 \n\
                          CapEff:\tEFFECTIVE\n";

    #[test]
    fn the_kernel_says_who_may_give_files_away() {
        let rights = |effective: &str| Rights::parse(&STATUS.replace("EFFECTIVE", effective)).unwrap();
        let plain = rights("0000000000000000");
        assert_eq!(plain, Rights { uid: 100, groups: vec![300, 400, 200], chown: false });
        assert!(plain.may_own(100) && !plain.may_own(101));
        assert!(plain.may_group(200) && plain.may_group(400) && !plain.may_group(500));
        assert!(rights("00000000a80425fb").may_own(101));
        // Everything but CAP_CHOWN.
        assert!(!rights("000001fffffffffe").may_own(101));
        assert_eq!(Rights::parse("Name:\tother"), None);
    }

    #[test]
    fn a_setgid_directory_gives_its_group_to_those_below_it() {
        let dir = tempfile::tempdir().unwrap();
        let gid = fs::metadata(dir.path()).unwrap().gid();
        assert_eq!(inherited_group(&dir.path().join("chat")), None);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2750)).unwrap();
        assert_eq!(inherited_group(&dir.path().join("chat")), Some(gid));
    }
}
