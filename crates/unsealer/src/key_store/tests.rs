use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const ANSWER: &[u8] = br#"{"keys":["00"],"keys_base64":["share-1","share-2","share-3","share-4","share-5"],
    "root_token":"s.root","recovery_keys":null}"#;

fn store() -> (tempfile::TempDir, KeyStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = KeyStore::in_dir(dir.path());
    (dir, store)
}

/// The numbers and values of the shares that lie there.
fn shares_in(store: &KeyStore, place: Place) -> Vec<String> {
    let shares = store.shares(place).unwrap();
    assert!(shares.unreadable.is_empty(), "{shares:?}");
    shares.found.iter().map(|share| share.value.expose_secret().to_owned()).collect()
}

fn initialised() -> (tempfile::TempDir, KeyStore) {
    let (dir, store) = store();
    store.prepare_init().unwrap();
    store.keep_init_response(ANSWER).unwrap();
    store.split_init_response().unwrap();
    (dir, store)
}

const REKEYED: &[u8] =
    br#"{"data":{"complete":true,"keys_base64":["new-1","new-2","new-3","new-4","new-5"]}}"#;
const OLD: [&str; 5] = ["share-1", "share-2", "share-3", "share-4", "share-5"];
const NEW: [&str; 5] = ["new-1", "new-2", "new-3", "new-4", "new-5"];

#[test]
fn keeps_an_answer_and_splits_it() {
    let (dir, store) = store();
    assert!(matches!(store.stored().unwrap(), Stored::Nothing));
    store.prepare_init().unwrap();
    assert!(matches!(store.stored().unwrap(), Stored::Requested));
    store.keep_init_response(ANSWER).unwrap();
    assert!(matches!(store.stored().unwrap(), Stored::Received));
    store.split_init_response().unwrap();

    assert_eq!(store.stored().unwrap(), Stored::Keys);
    assert_eq!(shares_in(&store, Place::Current), OLD);
    assert_eq!(store.root_token().unwrap().unwrap().expose_secret(), "s.root");
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("keys"), mode("keys/unseal-key-1")), (0o700, 0o400));
    assert_eq!(mode("root/root-token"), 0o440);
    assert!(!dir.path().join("keys/init-response.json").exists());
    assert!(!dir.path().join("keys/init-requested").exists());
}

#[test]
fn a_split_that_was_interrupted_is_done_again() {
    let (dir, store) = store();
    store.prepare_init().unwrap();
    store.keep_init_response(ANSWER).unwrap();
    fs::write(dir.path().join("keys/unseal-key-1"), "share-1").unwrap();
    assert!(matches!(store.stored().unwrap(), Stored::Received));
    store.split_init_response().unwrap();
    fs::write(dir.path().join("keys/init-requested"), "").unwrap();
    assert_eq!(shares_in(&store, Place::Current), OLD);
    store.settle_init().unwrap();
    assert!(!dir.path().join("keys/init-requested").exists());
}

#[test]
fn recovery_keys_are_kept_too() {
    let (dir, store) = store();
    store.prepare_init().unwrap();
    let answer = br#"{"keys_base64":[],"recovery_keys_base64":["r1","r2"],"root_token":"s.root"}"#;
    store.keep_init_response(answer).unwrap();
    store.split_init_response().unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("keys/recovery-key-2")).unwrap(), "r2");
    assert!(store.shares(Place::Current).unwrap().is_empty());
    assert_eq!(store.stored().unwrap(), Stored::Keys);
}

#[test]
fn an_answer_that_cannot_be_read_is_kept_and_not_quoted() {
    for body in ["", "{", r#"{"root_token":"s.canary"}"#, r#"{"keys_base64":["canary"],"root_token":""}"#] {
        let (dir, store) = store();
        store.prepare_init().unwrap();
        store.keep_init_response(body.as_bytes()).unwrap();
        let error = store.split_init_response().unwrap_err();
        assert!(matches!(error, KeyStoreError::Response { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"));
        assert_eq!(fs::read_to_string(dir.path().join("keys/init-response.json")).unwrap(), body);
    }
}

#[test]
fn nothing_of_an_earlier_life_is_overwritten() {
    let (dir, store) = store();
    fs::write(dir.path().join("root/root-token"), "s.other").unwrap();
    assert!(matches!(store.prepare_init().unwrap_err(), KeyStoreError::Occupied { .. }));
    fs::remove_file(dir.path().join("root/root-token")).unwrap();
    fs::create_dir(dir.path().join("keys/break-glass")).unwrap();
    assert!(matches!(store.prepare_init().unwrap_err(), KeyStoreError::Occupied { .. }));

    fs::remove_dir(dir.path().join("keys/break-glass")).unwrap();
    store.prepare_init().unwrap();
    store.keep_init_response(ANSWER).unwrap();
    assert!(store.keep_init_response(b"{}").is_err());
    // The same answer again, after a failure: it is in place.
    store.keep_init_response(ANSWER).unwrap();
    assert_eq!(fs::read(dir.path().join("keys/init-response.json")).unwrap(), ANSWER);
}

#[test]
fn a_hold_outlives_the_process_and_ends_by_order() {
    let (dir, store) = store();
    assert!(!store.is_held().unwrap() && !store.hold(false).unwrap());
    assert!(store.hold(true).unwrap() && !store.hold(true).unwrap());
    let next_start = KeyStore::in_dir(dir.path());
    assert!(next_start.is_held().unwrap());
    assert!(matches!(next_start.stored().unwrap(), Stored::Nothing));
    assert!(store.hold(false).unwrap() && !store.is_held().unwrap());
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let (dir, _) = store();
    let keys = dir.path().join("keys");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
    let error = opened(&[&keys], Envelope::default()).unwrap_err().to_string();
    assert!(error.contains("0755") && error.contains("chmod 700"), "{error}");
}

fn opened(dirs: &[&Path], envelope: Envelope) -> Result<KeyStore, KeyStoreError> {
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    KeyStore::open(&dirs, &dirs[0].with_file_name("root").join("root-token"), envelope)
}

#[test]
fn shares_lie_by_turns_in_several_directories_none_of_which_can_unseal() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = ["a", "b", "c"].map(|name| dir.path().join(name));
    let store = opened(&[&dirs[0], &dirs[1], &dirs[2]], Envelope::default()).unwrap();
    store.prepare_init().unwrap();
    store.keep_init_response(ANSWER).unwrap();
    // Until it is split the answer is worth nothing in any one of them.
    let half = fs::read(dirs[0].join("init-response.json.half")).unwrap();
    let pad = fs::read(dirs[1].join("init-response.json.pad")).unwrap();
    assert!(half.len() == ANSWER.len() && pad.len() >= half.len());
    assert!(!half.windows(6).chain(pad.windows(6)).any(|window| window == b"share-"));
    assert!(store.keep_init_response(b"{}").is_err());
    store.keep_init_response(ANSWER).unwrap();
    store.split_init_response().unwrap();
    assert_eq!(shares_in(&store, Place::Current), OLD);
    for dir in &dirs {
        let count = fs::read_dir(dir).unwrap().count();
        assert!((1..=2).contains(&count), "{count} files in {}", dir.display());
    }
    assert!(matches!(opened(&[&dirs[0], &dirs[1]], Envelope::default()), Err(KeyStoreError::TwoDirectories)));
    let twice = opened(&[&dirs[0], &dirs[1], &dirs[0]], Envelope::default());
    assert!(matches!(twice, Err(KeyStoreError::SameDirectory(_))));
}

#[test]
fn an_answer_waits_for_its_pad() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, c, other] = ["a", "b", "c", "other"].map(|name| dir.path().join(name));
    let store = opened(&[&a, &b, &c], Envelope::default()).unwrap();
    store.prepare_init().unwrap();
    store.keep_init_response(ANSWER).unwrap();
    let without = opened(&[&a, &other, &c], Envelope::default()).unwrap();
    assert_eq!(without.stored().unwrap(), Stored::Received);
    let error = without.split_init_response().unwrap_err();
    assert!(matches!(error, KeyStoreError::PadMissing { .. }), "{error}");
    // In whichever order the directories are given.
    let again = opened(&[&a, &c, &b], Envelope::default()).unwrap();
    again.split_init_response().unwrap();
    assert_eq!(shares_in(&again, Place::Current), OLD);
    assert!(!b.join("init-response.json.pad").exists());
}

#[test]
fn an_answer_that_was_written_and_has_no_name_is_found_in_every_form() {
    for (number, encrypts) in [(1, false), (1, true), (3, false), (3, true)] {
        let dir = tempfile::tempdir().unwrap();
        let (identity, recipient) = envelope::tests::key_pair(dir.path(), "identity");
        let recipients = if encrypts { vec![recipient] } else { Vec::new() };
        let dirs: Vec<_> = (0..number).map(|index| dir.path().join(format!("keys-{index}"))).collect();
        let dirs: Vec<&Path> = dirs.iter().map(PathBuf::as_path).collect();
        let store = opened(&dirs, Envelope::new(&recipients, Some(&identity)).unwrap()).unwrap();
        store.prepare_init().unwrap();
        store.keep_init_response(ANSWER).unwrap();
        let names = store.first().names().unwrap();
        let name = names.iter().find(|name| name.starts_with("init-response")).unwrap();
        fs::rename(dirs[0].join(name), dirs[0].join("..tmp-0123456789abcdef")).unwrap();
        assert_eq!(store.stored().unwrap(), Stored::Requested);
        assert!(store.recover_init_response().unwrap());
        store.split_init_response().unwrap();
        assert_eq!(shares_in(&store, Place::Current), OLD);
        assert!(!store.recover_init_response().unwrap());
    }
}

#[test]
fn encrypted_shares_are_nowhere_in_the_clear_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (identity, recipient) = envelope::tests::key_pair(dir.path(), "identity");
    let keys = dir.path().join("keys");
    let envelope = || Envelope::new(std::slice::from_ref(&recipient), Some(&identity)).unwrap();
    let store = opened(&[&keys], envelope()).unwrap();
    store.prepare_init().unwrap();
    store.keep_init_response(ANSWER).unwrap();
    // A kill after some of the files: the split is done again.
    assert!(keys.join("init-response.json.age").exists());
    store.split_init_response().unwrap();
    assert_eq!(shares_in(&store, Place::Current), OLD);
    let credential = Credential { role_id: "role".into(), secret_id: "share-of-glass".into() };
    store.keep_break_glass_credential(&credential).unwrap();
    let read = store.break_glass_credential().unwrap().unwrap();
    assert_eq!(read.secret_id.expose_secret(), "share-of-glass");
    let glass = fs::read(keys.join("break-glass/secret_id.age")).unwrap();
    assert!(glass.starts_with(b"age-encryption.org/v1"));
    assert!(!keys.join("break-glass/secret_id").exists());
    for entry in fs::read_dir(&keys).unwrap().flatten().filter(|entry| entry.file_name() != "break-glass") {
        let content = fs::read(entry.path()).unwrap();
        assert!(!content.windows(6).any(|window| window == b"share-"), "{}", entry.path().display());
        assert!(entry.path().extension().is_some_and(|ending| ending == "age"));
    }
    // Without the identity they are there, and each says why it cannot be used.
    let blind = opened(&[&keys], Envelope::default()).unwrap();
    assert_eq!(blind.stored().unwrap(), Stored::Keys);
    assert!(blind.has_break_glass_credential().unwrap() && blind.break_glass_credential().is_err());
    let shares = blind.shares(Place::Current).unwrap();
    assert!(shares.is_empty() && shares.unreadable.len() == 5);
    assert!(shares.unreadable[0].1.contains("--age-identity-file"), "{:?}", shares.unreadable[0]);
}

#[test]
fn shares_that_could_not_be_read_again_are_not_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (_, recipient) = envelope::tests::key_pair(dir.path(), "elsewhere");
    let store = opened(&[&dir.path().join("keys")], Envelope::new(&[recipient], None).unwrap()).unwrap();
    assert!(matches!(store.prepare_init(), Err(KeyStoreError::Envelope(_))));
    assert_eq!(store.stored().unwrap(), Stored::Nothing);
}

#[test]
fn one_unreadable_share_hides_none_of_the_others() {
    let (dir, store) = initialised();
    fs::remove_file(dir.path().join("keys/unseal-key-2")).unwrap();
    std::os::unix::fs::symlink("unseal-key-1", dir.path().join("keys/unseal-key-2")).unwrap();
    let shares = store.shares(Place::Current).unwrap();
    assert_eq!((shares.found.len(), shares.unreadable.len()), (4, 1));
    assert!(shares.unreadable[0].1.contains("symbolic link"), "{:?}", shares.unreadable);
}

#[test]
fn new_shares_take_the_place_of_the_old_ones_and_those_stay_beside_them() {
    let (dir, store) = initialised();
    assert_eq!(store.rekey().unwrap(), Rekey::None);
    store.prepare_rekey().unwrap();
    assert_eq!(store.rekey().unwrap(), Rekey::Requested);
    store.keep_rekey_response(REKEYED).unwrap();
    assert_eq!(store.rekey().unwrap(), Rekey::Received);
    store.split_rekey_response().unwrap();
    assert_eq!(store.rekey().unwrap(), Rekey::Staged);
    assert_eq!(shares_in(&store, Place::Current), OLD);
    assert_eq!(shares_in(&store, Place::Rekeyed), NEW);

    store.promote().unwrap();
    store.settle_rekey().unwrap();
    assert_eq!(store.rekey().unwrap(), Rekey::None);
    assert_eq!(shares_in(&store, Place::Current), NEW);
    assert_eq!(shares_in(&store, Place::BeforeRekey), OLD);
    store.drop_shares(Place::BeforeRekey).unwrap();
    assert!(!dir.path().join("keys/before-rekey").exists());
}

#[test]
fn a_change_of_shares_that_was_cut_off_loses_neither_set() {
    let (dir, store) = initialised();
    store.prepare_rekey().unwrap();
    store.keep_rekey_response(REKEYED).unwrap();
    store.split_rekey_response().unwrap();
    store.promote().unwrap();
    // As if killed when two of the new shares were in place.
    let rekeyed = dir.path().join("keys/rekeyed");
    fs::create_dir(&rekeyed).unwrap();
    for (number, value) in (1..).zip(NEW) {
        fs::write(rekeyed.join(format!("unseal-key-{number}")), value).unwrap();
    }
    for number in 3..=5 {
        let path = dir.path().join(format!("keys/unseal-key-{number}"));
        fs::remove_file(&path).unwrap();
        fs::write(path, OLD[number - 1]).unwrap();
    }
    store.promote().unwrap();
    assert_eq!(shares_in(&store, Place::Current), NEW);
    assert_eq!(shares_in(&store, Place::BeforeRekey), OLD);
    assert!(!rekeyed.exists());
}

#[test]
fn what_is_adopted_puts_what_was_there_aside() {
    let (dir, store) = initialised();
    let credential = |name: &str| Credential { role_id: name.into(), secret_id: name.into() };
    store.keep_break_glass_credential(&credential("ours")).unwrap();
    let backup = dir.path().join("backup");
    fs::create_dir(&backup).unwrap();
    for (number, value) in (1..).zip(&NEW[..3]) {
        fs::write(backup.join(format!("unseal-key-{number}")), value).unwrap();
    }
    let other = store.read_other(&backup).unwrap();
    assert!(other.break_glass.is_none());
    let aside = store.adopt(&other.shares, None).unwrap();
    assert_eq!(shares_in(&store, Place::Current), NEW[..3]);
    assert!(store.break_glass_credential().unwrap().is_none());

    let before = store.read_other(&aside).unwrap();
    assert_eq!(before.shares.found.len(), 5);
    let aside = store.adopt(&before.shares, before.break_glass.as_ref()).unwrap();
    assert!(aside.ends_with("earlier-2"));
    assert_eq!(shares_in(&store, Place::Current), OLD);
    let back = store.break_glass_credential().unwrap().unwrap();
    assert_eq!(back.role_id.expose_secret(), "ours");
}

#[test]
fn a_set_that_cannot_be_read_whole_takes_no_others_place() {
    let (dir, store) = initialised();
    store.prepare_rekey().unwrap();
    store.keep_rekey_response(REKEYED).unwrap();
    store.split_rekey_response().unwrap();
    let path = dir.path().join("keys/rekeyed/unseal-key-5");
    fs::rename(&path, dir.path().join("aside")).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(store.promote(), Err(KeyStoreError::Incomplete { .. })));
    assert_eq!(shares_in(&store, Place::Current), OLD);
    assert!(dir.path().join("keys/rekeyed/unseal-key-4").exists());
}

#[test]
fn what_is_adopted_puts_the_shares_of_a_rekey_aside_too() {
    let (dir, store) = initialised();
    store.prepare_rekey().unwrap();
    store.keep_rekey_response(REKEYED).unwrap();
    store.split_rekey_response().unwrap();
    let backup = dir.path().join("backup");
    fs::create_dir(&backup).unwrap();
    fs::write(backup.join("unseal-key-1"), "another").unwrap();
    store.adopt(&store.read_other(&backup).unwrap().shares, None).unwrap();
    assert_eq!(store.rekey().unwrap(), Rekey::None);
    let kept = store.read_other(&dir.path().join("keys/earlier-1-rekeyed")).unwrap().shares;
    assert_eq!(kept.found.len(), 5);
}
