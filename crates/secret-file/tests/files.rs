//! Single files: what is written, what is refused, what is read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid, mkfifo};
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::{Attrs, Changed, FileError, SecretDir, read_file, read_text};
use tempfile::TempDir;

const CANARY: &str = "canary-9f2c41";

fn directory() -> (TempDir, SecretDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = SecretDir::open(temp.path()).unwrap();
    (temp, dir)
}

fn secret(text: &str) -> SecretSlice<u8> {
    text.as_bytes().to_vec().into()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// All names, the internal ones too.
fn everything_in(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn replaces_content_and_attributes() {
    let (temp, dir) = directory();
    let path = temp.path().join("key");
    for (value, bits) in [("one", 0o400), ("two", 0o640), ("", 0o604), ("", 0o777)] {
        assert_eq!(dir.replace("key", &secret(value), Attrs::mode(bits)).unwrap(), Changed::Yes);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), (value, bits));
    }
    assert_eq!(everything_in(temp.path()), ["key"]);
}

#[test]
fn leaves_alone_what_is_right_already() {
    let (temp, dir) = directory();
    let path = temp.path().join("key");
    let attrs = Attrs { owner: Some(geteuid().as_raw()), ..Attrs::mode(0o440) };
    assert_eq!(dir.replace("key", &secret("one"), attrs).unwrap(), Changed::Yes);
    let before = fs::metadata(&path).unwrap();
    assert_eq!(dir.replace("key", &secret("one"), attrs).unwrap(), Changed::No);
    let after = fs::metadata(&path).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));

    for (value, attrs) in
        [("one", Attrs::mode(0o400)), ("onE", Attrs::mode(0o400)), ("on", Attrs::mode(0o400))]
    {
        assert_eq!(dir.replace("key", &secret(value), attrs).unwrap(), Changed::Yes, "{value}");
    }
}

#[test]
fn owner_and_group_are_given_and_compared() {
    // Only root may give files away.
    let (uid, gid) =
        if geteuid().is_root() { (1234, 5678) } else { (geteuid().as_raw(), getegid().as_raw()) };
    let (temp, dir) = directory();
    let attrs = Attrs { owner: Some(uid), group: Some(gid), mode: 0o440 };
    assert_eq!(dir.replace("key", &secret("one"), attrs).unwrap(), Changed::Yes);
    let found = fs::metadata(temp.path().join("key")).unwrap();
    assert_eq!((found.uid(), found.gid()), (uid, gid));
    assert_eq!(dir.replace("key", &secret("one"), attrs).unwrap(), Changed::No);
}

#[test]
fn a_planted_link_is_replaced_and_not_followed() {
    let (temp, dir) = directory();
    let victim = temp.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, temp.path().join("key")).unwrap();
    assert!(matches!(dir.read("key", 99), Err(FileError::Symlink { .. })));
    assert_eq!(dir.replace("key", &secret("one"), Attrs::PRIVATE).unwrap(), Changed::Yes);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(fs::symlink_metadata(temp.path().join("key")).unwrap().is_file());
}

#[test]
fn what_is_no_file_is_refused_by_its_kind() {
    let (temp, dir) = directory();
    fs::create_dir(temp.path().join("directory")).unwrap();
    mkfifo(&temp.path().join("FIFO"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(temp.path().join("socket")).unwrap();
    for name in ["directory", "FIFO", "socket"] {
        let write = dir.replace(name, &secret(CANARY), Attrs::PRIVATE).unwrap_err();
        let read = dir.read(name, 99).unwrap_err();
        let remove = dir.remove(name).unwrap_err();
        let followed = read_file(&temp.path().join(name), 99).unwrap_err();
        for error in [write, read, remove, followed] {
            assert!(matches!(error, FileError::NotRegular { .. }), "{error}");
            assert!(error.is_input());
            assert!(error.to_string().contains(name) && !format!("{error:?}").contains(CANARY), "{error}");
        }
    }
    assert_eq!(everything_in(temp.path()), ["FIFO", "directory", "socket"]);
}

#[test]
fn names_that_lead_elsewhere_or_are_reserved_are_refused() {
    let (temp, dir) = directory();
    for name in ["", ".", "..", "a/b", "/a", "a\0b", "..data", "..tmp-0"] {
        let errors = [
            dir.replace(name, &secret("x"), Attrs::PRIVATE).unwrap_err(),
            dir.create_new(name, &secret("x"), Attrs::PRIVATE).unwrap_err(),
            dir.read(name, 9).unwrap_err(),
            dir.read_set(&["ok", name], 9).unwrap_err(),
            dir.remove(name).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, FileError::BadName { .. }), "{name:?}: {error}");
        }
    }
    assert!(everything_in(temp.path()).is_empty());
    dir.replace(".hidden", &secret("x"), Attrs::PRIVATE).unwrap();
    assert_eq!(dir.names().unwrap(), [".hidden"]);
}

#[test]
fn create_new_overwrites_nothing() {
    let (temp, dir) = directory();
    dir.create_new("key", &secret("one"), Attrs::mode(0o400)).unwrap();
    let error = dir.create_new("key", &secret("two"), Attrs::mode(0o400)).unwrap_err();
    assert!(error.is_exists() && !error.is_input(), "{error}");
    symlink("nowhere", temp.path().join("link")).unwrap();
    assert!(dir.create_new("link", &secret("two"), Attrs::PRIVATE).unwrap_err().is_exists());
    assert_eq!(fs::read_to_string(temp.path().join("key")).unwrap(), "one");
    assert_eq!((mode(&temp.path().join("key")), everything_in(temp.path()).len()), (0o400, 2));
}

#[test]
fn what_a_killed_writer_left_can_be_read_and_named_while_no_writer_has_it() {
    let (temp, dir) = directory();
    let path = temp.path().join("..tmp-0123");
    fs::write(&path, "kept").unwrap();
    let writer = fs::File::open(&path).unwrap();
    writer.lock().unwrap();
    assert!(dir.strays().unwrap().is_empty());
    drop(writer);
    fs::write(temp.path().join("taken"), "").unwrap();
    let stray = dir.strays().unwrap().remove(0);
    assert!(stray.rename("taken", Attrs::mode(0o400)).unwrap_err().is_exists());

    let stray = dir.strays().unwrap().remove(0);
    assert_eq!(stray.read(4).unwrap().expose_secret(), b"kept");
    assert!(matches!(stray.read(3), Err(FileError::TooLarge { .. })));
    // It is no writer's to clear meanwhile.
    dir.replace("other", &secret(""), Attrs::PRIVATE).unwrap();
    stray.rename("key", Attrs::mode(0o400)).unwrap();
    assert_eq!(mode(&temp.path().join("key")), 0o400);
    assert_eq!(everything_in(temp.path()), ["key", "other", "taken"]);
}

#[test]
fn of_many_writers_at_once_none_disturbs_another() {
    let (temp, _) = directory();
    let created = thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let path = temp.path();
                scope.spawn(move || {
                    let dir = SecretDir::open(path).unwrap();
                    let value = secret(&format!("{writer}"));
                    for round in 0..25 {
                        dir.replace(&format!("own-{writer}"), &secret(&format!("{round}")), Attrs::PRIVATE)
                            .unwrap();
                        dir.replace("shared", &value, Attrs::PRIVATE).unwrap();
                    }
                    match dir.create_new("once", &value, Attrs::PRIVATE) {
                        Ok(()) => 1,
                        Err(error) => {
                            assert!(error.is_exists(), "{error}");
                            0
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum::<u32>()
    });
    assert_eq!(created, 1);
    assert_eq!(everything_in(temp.path()).len(), 10);
}

#[test]
fn reads_within_the_limit() {
    let (temp, dir) = directory();
    fs::write(temp.path().join("key"), "12345").unwrap();
    assert_eq!(dir.read("key", 5).unwrap().expose_secret(), b"12345");
    let error = dir.read("key", 4).unwrap_err();
    assert!(matches!(error, FileError::TooLarge { limit: 4, .. }) && error.is_input(), "{error}");
    assert!(dir.read("absent", 4).unwrap_err().is_not_found());
    // Its size is told as 0, and it is longer.
    assert!(matches!(read_file(Path::new("/proc/self/status"), 16), Err(FileError::TooLarge { .. })));
    assert!(read_file(Path::new("/proc/self/status"), 1 << 20).unwrap().expose_secret().len() > 16);
}

#[test]
fn reads_text_without_one_newline() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("text");
    let link = temp.path().join("link");
    symlink(&path, &link).unwrap();
    for (content, text) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a\r", " a\r")] {
        fs::write(&path, content).unwrap();
        assert_eq!(read_text(&link, 9).unwrap().expose_secret(), text, "{content:?}");
    }
    for content in ["", "\n", "\r\n"] {
        fs::write(&path, content).unwrap();
        let error = read_text(&path, 9).unwrap_err();
        assert!(matches!(error, FileError::Empty { .. }) && error.is_input(), "{content:?}: {error}");
    }
    fs::write(&path, [b'a', 0xff]).unwrap();
    assert!(matches!(read_text(&path, 9), Err(FileError::NotUtf8 { .. })));
}

#[test]
fn removes_durably_and_says_whether_there_was_something() {
    let (temp, dir) = directory();
    dir.replace("key", &secret("one"), Attrs::PRIVATE).unwrap();
    assert!(dir.remove("key").unwrap());
    assert!(!dir.remove("key").unwrap());
    assert!(everything_in(temp.path()).is_empty());
}

#[test]
fn opens_directories_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("real")).unwrap();
    symlink("real", temp.path().join("link")).unwrap();
    fs::write(temp.path().join("file"), "").unwrap();
    SecretDir::open(&temp.path().join("real/")).unwrap();
    for link in ["link", "link/", "link/."] {
        let error = SecretDir::open(&temp.path().join(link)).unwrap_err();
        assert!(matches!(error, FileError::Symlink { .. }), "{link}: {error}");
    }
    assert!(SecretDir::open(&temp.path().join("file")).unwrap_err().is_input());
    assert!(SecretDir::open(&temp.path().join("absent")).unwrap_err().is_not_found());
}

#[test]
fn creates_the_directories_that_are_missing() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b/c/");
    let dir = SecretDir::create(&path, 0o750).unwrap();
    assert_eq!(dir.mode().unwrap(), 0o750);
    SecretDir::create(&path, 0o700).unwrap();
    assert_eq!(mode(&path), 0o750, "one that exists is left as it is");

    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o2755)).unwrap();
    let inherits = SecretDir::create(&temp.path().join("setgid"), 0o770).unwrap();
    assert_eq!(inherits.mode().unwrap(), 0o2770, "neither the umask nor the mode takes what is inherited");
}

#[test]
fn proves_that_it_can_be_written() {
    let (temp, dir) = directory();
    dir.prove_writable().unwrap();
    dir.prove_room(12).unwrap();
    assert!(everything_in(temp.path()).is_empty());
    fs::remove_dir(temp.path()).unwrap();
    assert!(dir.prove_writable().unwrap_err().is_not_found());
}

#[test]
fn one_at_a_time_has_the_lock() {
    let (temp, dir) = directory();
    let lock = dir.try_lock().unwrap().unwrap();
    let other = SecretDir::open(temp.path()).unwrap();
    assert!(other.try_lock().unwrap().is_none());
    drop(lock);
    assert!(other.try_lock().unwrap().is_some());
}

#[test]
fn an_empty_directory_is_removed_and_a_full_one_is_not() {
    let (temp, dir) = directory();
    assert!(!dir.remove_directory("old").unwrap());
    fs::create_dir(temp.path().join("old")).unwrap();
    fs::write(temp.path().join("old/key"), "").unwrap();
    assert!(dir.remove_directory("old").is_err());
    fs::remove_file(temp.path().join("old/key")).unwrap();
    assert!(dir.remove_directory("old").unwrap());
    assert!(!temp.path().join("old").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_back(value in proptest::collection::vec(any::<u8>(), 0..=65_536)) {
        let (_temp, dir) = directory();
        let written = SecretSlice::from(value.clone());
        prop_assert_eq!(dir.replace("key", &written, Attrs::PRIVATE).unwrap(), Changed::Yes);
        let read = dir.read("key", 65_536).unwrap();
        prop_assert_eq!(read.expose_secret(), value.as_slice());
        prop_assert_eq!(dir.replace("key", &written, Attrs::PRIVATE).unwrap(), Changed::No);
    }
}
