//! What is written, how, and what a kill or a full disk leaves of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use harness::{run, wait_until};
use serde_json::{Value, json};

use super::{change_key, inside, is_root, namespaces, running};
use crate::crew::{CHAT_KEY, Crew, SOON, spawn};

#[test]
fn a_template_is_filled_in_from_two_secrets() {
    let crew = Crew::applied();
    crew.write_policy("user", &["user", "user_db"].map(crate::crew::own_secret_policy).join("\n"));
    crew.apply().success();
    crew.write(
        "app.tmpl",
        "[db]\nname = {{ secret(\"user_db\").USER_DB_NAME }}\nhours={{ secret('user').USER_SESSION_HOURS }}\n\
         home={{ env(\"HOME\") | default(\"none\") }}\nurl=postgres://{{ secret('user_db').USER_DB_PASSWORD | urlencode }}@db\n",
    );
    // Whoever is not root can name itself alone.
    let owner =
        if is_root() { "daemon".to_owned() } else { fs::metadata("/proc/self").unwrap().uid().to_string() };
    let group =
        if is_root() { "daemon".to_owned() } else { fs::metadata("/proc/self").unwrap().gid().to_string() };
    let render = |template: &str| {
        let mut command = crew.agent("render", "user");
        command.args(["--secret", "user,user_db", "--template", &format!("{template}:out/app.conf")]);
        run(command.args(["--file-mode", "0440", "--file-owner", &owner, "--file-group", &group]))
    };
    render("app.tmpl").success();
    let url = "canary%20pa%24w0rd%20%22x%22%20%231%3B%20%5Cn";
    assert_eq!(
        crew.read("out/app.conf"),
        format!("[db]\nname = users\nhours=12\nhome=none\nurl=postgres://{url}@db\n")
    );
    let written = fs::metadata(crew.path("out/app.conf")).unwrap();
    assert_eq!(written.mode() & 0o7777, 0o440);
    assert_eq!(written.uid(), owner.parse().unwrap_or(1));
    assert_eq!(written.gid(), group.parse().unwrap_or(1));

    crew.write("bad.tmpl", "one\ntwo {{ secret('user_db').USER_DB_NAM }}\n");
    let bad = render("bad.tmpl").expect_code(78);
    assert!(bad.stderr.contains("bad.tmpl:2: the secret user_db has no key USER_DB_NAM"), "{}", bad.stderr);
    assert_eq!(fs::metadata(crew.path("out/app.conf")).unwrap().ino(), written.ino());
}

#[test]
fn a_version_can_be_pinned_and_keys_chosen_and_renamed() {
    let crew = Crew::applied();
    change_key(&crew, "canary-new");
    let render = |options: &[&str]| {
        let mut command = crew.agent("render", "chat");
        run(command.args(["--env-file", "out/chat.env", "--format", "json"]).args(options))
    };
    let written = || serde_json::from_str::<Value>(&crew.read("out/chat.env")).unwrap();
    render(&["--secret", "chat"]).success();
    assert_eq!(written(), json!({ "CHAT_KEY": "canary-new" }));
    render(&["--secret", "chat@1", "--key", "CHAT_KEY=api_key"]).success();
    assert_eq!(written(), json!({ "api_key": CHAT_KEY }));
    render(&["--secret", "chat", "--prefix", "app_", "--upper"]).success();
    assert_eq!(written(), json!({ "APP_CHAT_KEY": "canary-new" }));
    let none = render(&["--secret", "chat", "--key", "CHAT_KEYS"]).expect_code(78);
    assert!(none.stderr.contains("no key CHAT_KEYS"), "{}", none.stderr);
    let none = render(&["--secret", "chat@9", "--wait", "1s"]).expect_code(78);
    assert!(none.stderr.contains("secret/chat@9"), "{}", none.stderr);
}

#[test]
fn what_is_in_the_way_is_named_and_a_fifo_does_not_block() {
    let crew = Crew::applied();
    fs::create_dir_all(crew.path("out/dir.env")).unwrap();
    run(Command::new("mkfifo").arg(crew.path("out/fifo.env"))).success();
    for name in ["dir", "fifo"] {
        let mut command = crew.agent("render", "chat");
        let refused = run(command.args(["--secret", "chat", "--env-file", &format!("out/{name}.env")]));
        let refused = refused.expect_code(78);
        assert!(refused.stderr.contains(&format!("out/{name}.env")), "{}", refused.stderr);
    }
}

/// A kill at each of the system calls that change anything leaves the old set or the new one, whole.
#[test]
fn a_kill_at_any_point_of_rendering_leaves_the_old_or_the_new() {
    let crew = Crew::applied();
    crew.write("chat.tmpl", "key: {{ secret('chat').CHAT_KEY }}\n");
    let render = || {
        let mut command = crew.agent("render", "chat");
        command.args(["--secret", "chat", "--env-file", "out/set/chat.env", "--format", "json"]);
        command.args(["--files-dir", "out/set", "--template", "chat.tmpl:out/set/chat.conf"]);
        command.args(["--template", "chat.tmpl:out/other.conf"]);
        command
    };
    let whole = |value: &str| {
        let env = format!("{{\"CHAT_KEY\":\"{value}\"}}\n");
        let read = |name: &str| fs::read_to_string(crew.path("out/set").join(name)).unwrap_or_default();
        read("CHAT_KEY") == value && read("chat.env") == env && read("chat.conf") == format!("key: {value}\n")
    };
    run(&mut render()).success();
    let mut old = CHAT_KEY.to_owned();
    let mut kills = 0;
    for nth in 1.. {
        let new = format!("canary-{nth}");
        let other = crew.read("out/other.conf");
        change_key(&crew, &new);
        let mut traced = Command::new("strace");
        let calls = "renameat,renameat2,fsync,fchmod,mkdirat,symlinkat,unlinkat";
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        traced.args(["-e", &format!("inject={calls}:signal=KILL:when={nth}")]);
        inside(&mut traced, &render());
        let code = run(&mut traced).code();
        assert!(whole(&old) || whole(&new), "killed at call {nth}: neither the old set nor the new");
        // What lies elsewhere changes by itself, as a whole.
        let other_now = crew.read("out/other.conf");
        assert!(
            other_now == other || other_now == format!("key: {new}\n"),
            "killed at call {nth}: {other_now:?}"
        );
        old = if whole(&new) { new } else { old };
        if code == 0 {
            break;
        }
        assert_eq!(code, 137, "at call {nth}");
        kills += 1;
    }
    assert!(kills >= 8, "{kills} kills");
    assert!(whole(&old));
    let strays = fs::read_dir(crew.path("out/set")).unwrap().flatten();
    let strays: Vec<_> = strays
        .map(|entry| entry.file_name())
        .filter(|name| name.display().to_string().starts_with(".."))
        .collect();
    assert_eq!(strays.len(), 2, "{strays:?}");
}

#[test]
fn a_full_disk_keeps_the_old_files_and_is_recovered_from() {
    let crew = Crew::applied();
    fs::create_dir(crew.path("out")).unwrap();
    // The command is the one who sees the disk: it fills it, and frees it when told.
    let script = "cp out/chat.env before; cat /dev/zero > out/fill 2>/dev/null; echo > full; \
                  while [ ! -e free ]; do sleep 0.05; done; cp out/chat.env during; rm out/fill; \
                  while cmp -s out/chat.env before; do sleep 0.05; done; cp out/chat.env after; \
                  ls -A out > names; echo > done; while :; do sleep 0.05; done";
    let options = ["--refresh", "1s", "--on-change", "none", "--env-file", "out/chat.env"];
    let mut mounted = namespaces(&["--mount"]);
    let mount = "mount -t tmpfs -o size=64k tmpfs out && exec \"$@\"";
    mounted.args(["sh", "-c", mount, "sh"]);
    inside(&mut mounted, &running(&crew, &options, script));
    let mut agent = spawn(mounted);
    assert!(wait_until(SOON, || crew.path("full").exists()), "{}", agent.log());
    // More than the room that a page's rest may have.
    change_key(&crew, &"canary-large ".repeat(1000));
    agent.wait_for_log("free space or inodes", SOON);
    crew.write("free", "");
    assert!(wait_until(SOON, || crew.path("done").exists()), "{}", agent.log());
    assert_eq!(crew.read("during"), crew.read("before"));
    assert!(crew.read("before").contains(CHAT_KEY) && crew.read("after").contains("canary-large"));
    assert_eq!(crew.read("names"), "chat.env\n");
    agent.terminate().expect_code(143);
}

#[test]
fn a_directory_that_may_not_be_written_any_more_keeps_its_files() {
    let crew = Crew::applied();
    let set_mode = |name: &str, mode: u32| {
        fs::set_permissions(crew.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["out", "run"] {
        fs::create_dir(crew.path(name)).unwrap();
    }
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    // Root may write everywhere: somebody else has to try.
    let mut outer = Command::new("setpriv");
    if is_root() {
        set_mode("", 0o711);
        run(Command::new("chown")
            .args(["-R", "65534:65534"])
            .args(["approle/chat", "out", "run"].map(|name| crew.path(name))))
        .success();
        outer.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    }
    inside(&mut outer, &command);
    let mut agent = spawn(outer);
    agent.wait_for_log("rendered the secrets", SOON);
    let before = crew.read("out/chat.env");
    set_mode("out", 0o555);
    change_key(&crew, "canary-1");
    agent.wait_for_log("the secrets stay as they are: a rendered file cannot be written", SOON);
    assert!(agent.log().contains("out/chat.env (this process is uid"), "{}", agent.log());
    assert_eq!(crew.read("out/chat.env"), before);
    set_mode("out", 0o755);
    assert!(wait_until(SOON, || crew.read("out/chat.env").contains("canary-1")), "{}", agent.log());
    agent.terminate().success();
}

#[test]
fn the_program_installs_itself() {
    let crew = Crew::new();
    let mut install = crew.programs.approle_agent();
    install.args(["install", "shared/bin"]).current_dir(crew.path(""));
    run(&mut install).success();
    let path = crew.path("shared/bin/approle-agent");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o555);
    let inode = fs::metadata(&path).unwrap().ino();
    run(Command::new(&path).args(["install", "shared/bin"]).current_dir(crew.path(""))).success();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    assert!(run(Command::new(&path).arg("--version")).success().stdout.starts_with("approle-agent "));
}
