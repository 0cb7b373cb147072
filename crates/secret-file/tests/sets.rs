//! Files that change together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::{Attrs, Changed, FileError, SecretDir, SetFile};
use tempfile::TempDir;

fn directory() -> (TempDir, SecretDir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = SecretDir::open(temp.path()).unwrap();
    (temp, dir)
}

fn replace(dir: &SecretDir, files: &[(&str, &str)]) -> Result<Changed, FileError> {
    let values: Vec<_> =
        files.iter().map(|(_, value)| SecretSlice::from(value.as_bytes().to_vec())).collect();
    let files: Vec<_> = files
        .iter()
        .zip(&values)
        .map(|((name, _), value)| SetFile { name, value, attrs: Attrs::mode(0o440) })
        .collect();
    dir.replace_set(&files)
}

#[test]
fn a_set_is_removed_and_what_lies_beside_it_stays() {
    let (temp, dir) = directory();
    fs::write(temp.path().join("theirs"), "x").unwrap();
    assert_eq!(dir.remove_set().unwrap(), Changed::No);
    replace(&dir, &[("a", "1"), ("b", "2")]).unwrap();
    assert_eq!(dir.remove_set().unwrap(), Changed::Yes);
    assert_eq!((dir.names().unwrap(), internal(temp.path())), (vec!["theirs".to_owned()], Vec::new()));

    // A removal that was interrupted has left links that lead nowhere.
    replace(&dir, &[("a", "1")]).unwrap();
    fs::remove_file(temp.path().join("..data")).unwrap();
    assert_eq!(dir.remove_set().unwrap(), Changed::Yes);
    assert_eq!(dir.names().unwrap(), ["theirs"]);
    assert_eq!(dir.remove_set().unwrap(), Changed::No);
}

/// As a program reads them that knows nothing of sets.
fn plainly(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

fn internal(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("..")).collect();
    names.sort();
    names
}

#[test]
fn a_set_is_written_changed_and_left_alone() {
    let (temp, dir) = directory();
    assert_eq!(replace(&dir, &[("a", "1"), ("b", "2")]).unwrap(), Changed::Yes);
    assert_eq!(dir.names().unwrap(), ["a", "b"]);
    let before = fs::metadata(temp.path().join("a")).unwrap();
    assert_eq!(before.permissions().mode() & 0o7777, 0o440);
    assert_eq!(replace(&dir, &[("b", "2"), ("a", "1")]).unwrap(), Changed::No);
    assert_eq!(before.ino(), fs::metadata(temp.path().join("a")).unwrap().ino());

    assert_eq!(replace(&dir, &[("a", "3"), ("c", "4")]).unwrap(), Changed::Yes);
    assert_eq!(plainly(temp.path(), "a").unwrap(), "3");
    assert_eq!(plainly(temp.path(), "c").unwrap(), "4");
    assert_eq!(dir.names().unwrap(), ["a", "c"], "the link of a dropped name is removed");
    let internal = internal(temp.path());
    assert_eq!(internal.len(), 2, "one generation and ..data: {internal:?}");

    let values = dir.read_set(&["c", "a"], 9).unwrap();
    assert_eq!((values[0].expose_secret(), values[1].expose_secret()), (&b"4"[..], &b"3"[..]));
    assert_eq!(dir.read("a", 9).unwrap().expose_secret(), b"3");
    assert!(dir.read_set(&["a", "b"], 9).unwrap_err().is_not_found());
    assert!(matches!(dir.read_set(&["a"], 0), Err(FileError::TooLarge { .. })));
}

#[test]
fn attributes_are_part_of_a_set() {
    let (temp, dir) = directory();
    let value = SecretSlice::from(b"1".to_vec());
    let file = |attrs| [SetFile { name: "a", value: &value, attrs }];
    assert_eq!(dir.replace_set(&file(Attrs::mode(0o440))).unwrap(), Changed::Yes);
    assert_eq!(dir.replace_set(&file(Attrs::mode(0o400))).unwrap(), Changed::Yes);
    assert_eq!(dir.replace_set(&file(Attrs::mode(0o400))).unwrap(), Changed::No);
    assert_eq!(fs::metadata(temp.path().join("a")).unwrap().permissions().mode() & 0o777, 0o400);
}

#[test]
fn plain_files_and_foreign_links_in_the_way_become_links_of_the_set() {
    let (temp, dir) = directory();
    fs::write(temp.path().join("a"), "old").unwrap();
    fs::write(temp.path().join("other"), "stays").unwrap();
    symlink("other", temp.path().join("b")).unwrap();
    assert_eq!(replace(&dir, &[("a", "1"), ("b", "2")]).unwrap(), Changed::Yes);
    assert_eq!(plainly(temp.path(), "a").unwrap(), "1");
    assert_eq!(plainly(temp.path(), "b").unwrap(), "2");
    assert_eq!(plainly(temp.path(), "other").unwrap(), "stays");

    // One that somebody put there again, over a generation that is right.
    fs::remove_file(temp.path().join("a")).unwrap();
    fs::write(temp.path().join("a"), "planted").unwrap();
    assert_eq!(replace(&dir, &[("a", "1"), ("b", "2")]).unwrap(), Changed::Yes);
    assert_eq!(plainly(temp.path(), "a").unwrap(), "1");
    assert_eq!(replace(&dir, &[("a", "1"), ("b", "2")]).unwrap(), Changed::No);
}

#[test]
fn a_directory_in_the_way_is_refused_before_anything_is_written() {
    let (temp, dir) = directory();
    replace(&dir, &[("a", "1")]).unwrap();
    fs::create_dir(temp.path().join("b")).unwrap();
    let error = replace(&dir, &[("a", "2"), ("b", "2")]).unwrap_err();
    assert!(matches!(error, FileError::NotRegular { .. }), "{error}");
    assert_eq!(plainly(temp.path(), "a").unwrap(), "1");
    assert!(matches!(replace(&dir, &[("a", "2"), ("a", "2")]), Err(FileError::BadName { .. })));
}

#[test]
fn strays_of_killed_writers_are_cleared_by_any_write() {
    for write in ["set", "file"] {
        let (temp, dir) = directory();
        replace(&dir, &[("a", "1")]).unwrap();
        fs::write(temp.path().join("..tmp-0123"), "secret").unwrap();
        fs::create_dir(temp.path().join("..gen-0123")).unwrap();
        fs::write(temp.path().join("..gen-0123/a"), "secret").unwrap();
        fs::create_dir(temp.path().join("..not-ours")).unwrap();
        if write == "set" {
            assert_eq!(replace(&dir, &[("a", "1")]).unwrap(), Changed::No);
        } else {
            dir.replace("plain", &SecretSlice::from(b"1".to_vec()), Attrs::PRIVATE).unwrap();
        }
        let internal = internal(temp.path());
        assert_eq!(internal.len(), 3, "{write}: ..data, its generation and the foreign one: {internal:?}");
        assert_eq!(plainly(temp.path(), "a").unwrap(), "1");
    }
}

#[test]
fn what_another_writer_is_just_making_is_no_stray() {
    let (temp, dir) = directory();
    let made = fs::File::create(temp.path().join("..tmp-0123")).unwrap();
    made.lock().unwrap();
    dir.replace("plain", &SecretSlice::from(b"1".to_vec()), Attrs::PRIVATE).unwrap();
    assert_eq!(internal(temp.path()), ["..tmp-0123"]);
    drop(made);
    dir.replace("plain", &SecretSlice::from(b"1".to_vec()), Attrs::PRIVATE).unwrap();
    assert!(internal(temp.path()).is_empty());
}

#[test]
fn reads_what_docker_and_kubernetes_mount() {
    let (temp, dir) = directory();
    fs::write(temp.path().join("a"), "plain").unwrap();
    fs::write(temp.path().join("b"), "plain").unwrap();
    assert_eq!(dir.read_set(&["a", "b"], 9).unwrap()[1].expose_secret(), b"plain");

    let (temp, dir) = directory();
    fs::create_dir(temp.path().join("..2026_11_23_10_00_00.123")).unwrap();
    fs::write(temp.path().join("..2026_11_23_10_00_00.123/a"), "mounted").unwrap();
    symlink("..2026_11_23_10_00_00.123", temp.path().join("..data")).unwrap();
    symlink("..data/a", temp.path().join("a")).unwrap();
    assert_eq!(dir.read_set(&["a"], 9).unwrap()[0].expose_secret(), b"mounted");
    assert_eq!(dir.read("a", 9).unwrap().expose_secret(), b"mounted");
}

#[test]
fn a_data_link_that_leads_out_of_the_directory_is_not_followed() {
    for target in ["/etc", "../elsewhere", "plain", ".."] {
        let (temp, dir) = directory();
        symlink(target, temp.path().join("..data")).unwrap();
        symlink("..data/hostname", temp.path().join("hostname")).unwrap();
        assert!(matches!(dir.read_set(&["hostname"], 999), Err(FileError::NotASet { .. })), "{target}");
        assert!(matches!(dir.read("hostname", 999), Err(FileError::NotASet { .. })), "{target}");
        assert!(matches!(replace(&dir, &[("a", "1")]), Err(FileError::NotASet { .. })), "{target}");
    }
}

#[test]
fn a_data_link_that_leads_nowhere_is_mended_by_the_next_set() {
    let (temp, dir) = directory();
    symlink("..gen-gone", temp.path().join("..data")).unwrap();
    assert!(dir.read_set(&["a"], 9).unwrap_err().is_not_found());
    assert_eq!(replace(&dir, &[("a", "1")]).unwrap(), Changed::Yes);
    assert_eq!(plainly(temp.path(), "a").unwrap(), "1");
}

#[test]
fn a_removed_member_leaves_no_value_behind() {
    let (temp, dir) = directory();
    replace(&dir, &[("a", "1"), ("b", "2")]).unwrap();
    assert!(dir.remove("a").unwrap());
    assert!(!temp.path().join("..data/a").exists());
    assert!(dir.read_set(&["a"], 9).unwrap_err().is_not_found());
    assert_eq!(replace(&dir, &[("a", "1"), ("b", "2")]).unwrap(), Changed::Yes);
}

#[test]
fn a_reader_beside_the_writer_sees_one_generation() {
    let (temp, dir) = directory();
    replace(&dir, &[("a", "0"), ("b", "0")]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for generation in 1..300 {
                let value = generation.to_string();
                replace(&dir, &[("a", &value), ("b", &value)]).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let reader = SecretDir::open(temp.path()).unwrap();
        while !done.load(Ordering::Acquire) {
            let values = reader.read_set(&["a", "b"], 9).unwrap();
            assert_eq!(values[0].expose_secret(), values[1].expose_secret());
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn after_any_sequence_of_sets_just_the_last_is_there(
        sets in proptest::collection::vec(proptest::collection::btree_map("[a-d]", "[x-z]{0,2}", 0..4), 1..6),
    ) {
        let (temp, dir) = directory();
        let mut before: Option<&BTreeMap<String, String>> = None;
        for set in &sets {
            let files: Vec<_> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let changed = replace(&dir, &files).unwrap();
            prop_assert_eq!(changed == Changed::No, before == Some(set));
            before = Some(set);
            let names: Vec<_> = set.keys().cloned().collect();
            prop_assert_eq!(dir.names().unwrap(), names);
            for (name, value) in set {
                prop_assert_eq!(plainly(temp.path(), name), Some(value.clone()));
            }
            prop_assert_eq!(internal(temp.path()).len(), 2);
        }
    }
}
