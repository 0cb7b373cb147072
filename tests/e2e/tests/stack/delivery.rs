//! How credentials come to their services: whole, owned as told, and again when they are gone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::{Outcome, run, wait_until};
use serde_json::Value;

use crate::crew::{Crew, SOON, own_secret_policy, spawn};

const FILES: [&str; 3] = ["role_id", "secret_id", "accessor"];

fn is_root(crew: &Crew) -> bool {
    fs::metadata(crew.path("")).unwrap().uid() == 0
}

/// Has everything delivered to a tmpfs, which is kept as long as what this gives.
fn on_tmpfs(crew: &Crew) -> tempfile::TempDir {
    let tmpfs = tempfile::Builder::new().prefix("vaultcrew-e2e-").tempdir_in("/dev/shm").unwrap();
    symlink(tmpfs.path(), crew.path("approle")).unwrap();
    tmpfs
}

/// The program as one who may not give files away, whoever runs this test.
fn without_chown(crew: &Crew, subcommand: &str) -> Outcome {
    let command = crew.bootstrap(subcommand);
    let mut wrapped = if is_root(crew) {
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set", "-chown", "--inh-caps", "-chown"]).arg(command.get_program());
        setpriv
    } else {
        Command::new(command.get_program())
    };
    wrapped.args(command.get_args()).current_dir(crew.path("")).env("VAULT_ADDR", crew.vault.addr());
    run(&mut wrapped)
}

#[test]
fn an_owner_that_cannot_be_given_is_refused_before_anything_is_done() {
    let crew = Crew::new();
    crew.initialise();
    for (setting, what) in [("file_owner = 4321", "owner 4321"), ("file_group = 4321", "group 4321")] {
        crew.write("vaultcrew.toml", &format!("[services.chat]\n{setting}\n"));
        for subcommand in ["plan", "apply", "run"] {
            let refused = without_chown(&crew, subcommand).expect_code(78);
            assert!(refused.stderr.contains("the credentials of chat"), "{}", refused.stderr);
            assert!(
                refused.stderr.contains(what) && refused.stderr.contains("CAP_CHOWN"),
                "{}",
                refused.stderr
            );
        }
    }
    let root = crew.root_token();
    assert_eq!(crew.vault.api("GET", "/v1/sys/policies/acl/chat-policy", &root, &Value::Null).0, 404);
    assert!(!crew.path("approle").exists() && !crew.path("state").exists());
    // Its own it may have.
    let uid = fs::metadata(crew.path("")).unwrap().uid();
    crew.write("vaultcrew.toml", &format!("[services.chat]\nfile_owner = {uid}\n"));
    without_chown(&crew, "apply").success();
}

#[test]
fn mode_owner_and_group_are_as_told_and_follow_a_change() {
    let crew = Crew::new();
    crew.initialise();
    let (owner, group) = if is_root(&crew) {
        (4321, 5432)
    } else {
        let own = fs::metadata(crew.path("")).unwrap();
        (own.uid(), own.gid())
    };
    // A directory whose group is the service's gives it to what is delivered there, also without CAP_CHOWN.
    let directory = crew.path("approle/user");
    fs::create_dir_all(&directory).unwrap();
    chown(&directory, None, Some(group)).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o2750)).unwrap();
    without_chown(&crew, "apply").success();
    let found = |service: &str, name: &str| {
        let file = fs::metadata(crew.path(&format!("approle/{service}/{name}"))).unwrap();
        (file.mode() & 0o7777, file.uid(), file.gid())
    };
    let own = fs::metadata(crew.path("approle/chat")).unwrap();
    for name in FILES {
        assert_eq!(found("user", name), (0o440, own.uid(), group), "{name}");
        assert_eq!(found("chat", name), (0o440, own.uid(), own.gid()), "{name}");
    }
    let secret_id = crew.read("approle/chat/secret_id");
    let told = format!("[services.chat]\nfile_mode = \"0400\"\nfile_owner = {owner}\nfile_group = {group}\n");
    crew.write("vaultcrew.toml", &told);
    crew.apply().success();
    for name in FILES {
        assert_eq!(found("chat", name), (0o400, owner, group), "{name}");
    }
    assert_eq!(crew.read("approle/chat/secret_id"), secret_id, "nothing was wrong with the secret ID");
}

/// Every pair that a reader can get while hundreds are delivered, each with a `role_id` and a `secret_id` of its own, is
/// one that was delivered.
#[test]
fn nobody_ever_reads_half_a_delivery() {
    const ROUNDS: usize = 25;
    let crew = Crew::new();
    let services: Vec<String> = (0..8).map(|number| format!("service{number}")).collect();
    fs::remove_dir_all(crew.path("policies")).unwrap();
    for service in &services {
        crew.write_policy(service, &own_secret_policy(service));
    }
    let _tmpfs = on_tmpfs(&crew);
    crew.initialise();
    crew.apply().success();
    let root = crew.root_token();
    let is_over = AtomicBool::new(false);
    let mut delivered = BTreeMap::new();
    let mut note = || {
        for service in &services {
            let read = |name| crew.read(&format!("approle/{service}/{name}"));
            delivered.insert(read("role_id"), read("secret_id"));
        }
    };
    let read = std::thread::scope(|scope| {
        let directories: Vec<_> = services.iter().map(|name| crew.path(&format!("approle/{name}"))).collect();
        let is_over = &is_over;
        let watchers = [0, 1].map(|half| {
            let mine: Vec<_> = directories.iter().skip(half).step_by(2).cloned().collect();
            scope.spawn(move || watch(&mine, is_over))
        });
        note();
        for _ in 0..ROUNDS {
            for service in &services {
                let role = format!("/v1/auth/approle/role/{service}");
                assert_eq!(crew.vault.api("DELETE", &role, &root, &Value::Null).0, 204);
            }
            crew.apply().success();
            note();
        }
        is_over.store(true, Ordering::Relaxed);
        watchers.into_iter().flat_map(|watcher| watcher.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(delivered.len(), (ROUNDS + 1) * services.len(), "every delivery was of another role");
    assert!(read.len() > ROUNDS * services.len() / 2, "the watchers saw {} changes", read.len());
    for (role_id, secret_id) in read {
        assert_eq!(delivered.get(&role_id), Some(&secret_id), "a pair that was never delivered: {role_id}");
    }
    for service in &services {
        assert_eq!(crew.login(service), 200);
    }
}

/// Reads the pairs again and again, as anything can that opens the set first; gives each that differs from the one
/// before. Each file by itself is read too: it is never a part, and there at the second attempt at the latest, since
/// what is replaced between the steps of one opening is gone.
fn watch(directories: &[PathBuf], is_over: &AtomicBool) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut last = BTreeMap::new();
    for directory in directories.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let set = directory.join(fs::read_link(directory.join("..data")).expect("there always is a set"));
        let read = |name| fs::read_to_string(set.join(name)).ok();
        // What is replaced between the two is gone as a whole.
        if let Some(pair) = read("role_id").zip(read("secret_id"))
            && last.insert(directory, pair.clone()).as_ref() != Some(&pair)
        {
            pairs.push(pair);
        }
        for name in FILES {
            let read = || fs::read_to_string(directory.join(name));
            let text = read().or_else(|_| read());
            assert!(
                text.as_ref().is_ok_and(|text| text.len() == 36),
                "{name}: {:?}",
                text.map(|text| text.len())
            );
        }
    }
    pairs
}

#[test]
fn an_emptied_tmpfs_is_filled_again_and_a_replaced_role_is_delivered() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", "[defaults]\nsecret_id_ttl = \"16s\"\n");
    let _tmpfs = on_tmpfs(&crew);
    crew.initialise();
    crew.apply().success();
    let root = crew.root_token();
    fs::remove_file(crew.path("root/root-token")).unwrap();
    let bootstrap = spawn(crew.bootstrap("run"));
    assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());

    // As a restart of the last container that mounts them leaves them: the directories are mounts and stay.
    for service in ["chat", "user", "user_db"] {
        let directory = crew.path(&format!("approle/{service}"));
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let is_set = path.is_dir() && !path.is_symlink();
            if is_set { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
    }
    for service in ["chat", "user", "user_db"] {
        assert!(wait_until(SOON, || crew.login(service) == 200), "{service}: {}", bootstrap.log());
        assert!(crew.living_secret_ids(service, &root) <= 2, "{service}: {}", bootstrap.log());
    }

    let role = "/v1/auth/approle/role/chat";
    let role_id = crew.read("approle/chat/role_id");
    let new = serde_json::json!({ "role_id": "another-role-id" });
    assert_eq!(crew.vault.api("POST", &format!("{role}/role-id"), &root, &new).0, 204);
    assert!(
        wait_until(SOON, || crew.read("approle/chat/role_id") == "another-role-id"),
        "{}",
        bootstrap.log()
    );
    assert_eq!(crew.login("chat"), 200);
    // The same, by one who deletes the role and makes it anew.
    let (_, settings) = crew.vault.api("GET", role, &root, &Value::Null);
    assert_eq!(crew.vault.api("DELETE", role, &root, &Value::Null).0, 204);
    assert_eq!(crew.vault.api("POST", role, &root, &settings["data"]).0, 204);
    assert!(wait_until(SOON, || crew.login("chat") == 200), "{}", bootstrap.log());
    assert_ne!(crew.read("approle/chat/role_id"), role_id);

    // One that somebody laid in the place of what was delivered.
    fs::remove_file(crew.path("approle/chat/secret_id")).unwrap();
    crew.write("approle/chat/secret_id", "not-what-was-delivered");
    assert!(wait_until(SOON, || crew.login("chat") == 200), "{}", bootstrap.log());
    assert!(bootstrap.log().contains("somebody had put another file there"), "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}

/// What a kill between issuing and delivering leaves: a secret ID that is young, and that nobody has.
#[test]
fn a_stray_makes_room_before_another_secret_id_is_issued() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", "[defaults]\nsecret_id_ttl = \"24s\"\n");
    crew.initialise();
    crew.apply().success();
    let root = crew.root_token();
    let role = "/v1/auth/approle/role/chat";
    let issue = |metadata: &str| {
        let body = serde_json::json!({ "metadata": metadata });
        let (status, issued) = crew.vault.api("POST", &format!("{role}/secret-id"), &root, &body);
        assert_eq!(status, 200);
        serde_json::json!({ "secret_id_accessor": issued["data"]["secret_id_accessor"] })
    };
    let is_alive = |accessor: &Value| {
        crew.vault.api("POST", &format!("{role}/secret-id-accessor/lookup"), &root, accessor).0 == 200
    };
    // Half of the life of what was delivered is over.
    let delivered = crew.read("approle/chat/secret_id");
    assert!(!wait_until(Duration::from_secs(13), || false));
    let stray = issue("{\"issued-by\": \"vaultcrew\"}");
    let bootstrap = spawn(crew.bootstrap("run"));
    let mut most = 0;
    let is_replaced = wait_until(SOON, || {
        most = most.max(crew.living_secret_ids("chat", &root));
        crew.read("approle/chat/secret_id") != delivered
    });
    assert!(is_replaced, "{}", bootstrap.log());
    assert!(!is_alive(&stray) && bootstrap.log().contains("destroyed a stray secret ID of chat"));
    assert_eq!(most.max(crew.living_secret_ids("chat", &root)), 2, "{}", bootstrap.log());
    assert_eq!(crew.login("chat"), 200);

    // One that somebody else issued is none of bootstrap's business.
    let foreign = issue("{\"issued-by\": \"somebody\"}");
    let delivered = crew.read("approle/chat/secret_id");
    assert!(wait_until(SOON, || crew.read("approle/chat/secret_id") != delivered), "{}", bootstrap.log());
    assert!(is_alive(&foreign), "{}", bootstrap.log());
    assert_eq!(bootstrap.terminate().code(), 0);
}
