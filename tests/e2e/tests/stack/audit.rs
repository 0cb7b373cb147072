//! Whether anything records who reads what.

use std::fs;

use std::os::unix::fs::symlink;

use harness::{Flavour, Vault, VaultOptions, run, wait_until};

use crate::crew::{Crew, SOON, audit_stanza};

#[test]
fn a_server_without_an_audit_device_is_told_how_to_get_one() {
    if harness::server_flavour().unwrap() != Flavour::OpenBao {
        return;
    }
    let mut crew = Crew::with(Vault::start());
    crew.initialise();
    let log = crew.path("audit.log").display().to_string();
    // OpenBao refuses to be told by the API, and so it is not asked.
    let applied = run(crew.bootstrap("apply").args(["--enable-audit-file", &log])).success();
    let line = applied.stderr.lines().find(|line| line.contains("no audit device keeps a record")).unwrap();
    let stanza = &line[line.find("audit \"file\"").unwrap()..];
    assert!(stanza.contains(&log), "{stanza}");

    // What is printed is what works.
    let configuration = crew.vault.dir().join("vault.hcl");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("{text}{stanza}\n")).unwrap();
    crew.vault.restart();
    run(&mut crew.unsealer("unseal")).success();
    crew.vault.wait_for_health(200).unwrap();
    assert_eq!(run(&mut crew.bootstrap("plan")).success().stdout, "nothing to change\n");
    assert!(crew.read("audit.log").contains("sys/mounts"));
}

#[test]
fn a_device_that_keeps_nothing_is_told_and_one_that_cannot_write_is_seen() {
    if harness::server_flavour().unwrap() != Flavour::OpenBao {
        return;
    }
    let start = |file: &str| {
        let options = VaultOptions { configuration: audit_stanza(file), ..VaultOptions::default() };
        let crew = Crew::with(options.start().unwrap());
        crew.initialise();
        crew
    };
    for file in ["discard", "/dev/null"] {
        let plan = run(&mut start(file).bootstrap("plan")).success().stdout;
        assert!(plan.contains("! no audit device keeps a record"), "{file}: {plan}");
    }

    let mut crew = start("audit.log");
    crew.apply().success();
    let log = crew.vault.dir().join("audit.log");
    let kept = || fs::read_to_string(&log).unwrap().matches("\"path\":\"sys/audit\"").count();
    let before = kept();
    assert_eq!(run(&mut crew.bootstrap("plan")).success().stdout, "nothing to change\n");
    assert_eq!(kept(), before + 2, "the question for the devices and its answer are on record");

    // From now on every write to it fails: the disk is full.
    fs::remove_file(&log).unwrap();
    symlink("/dev/full", &log).unwrap();
    crew.vault.reload();
    let token = crew.root_token();
    let fails = || crew.vault.api("GET", "/v1/sys/audit", &token, &serde_json::Value::Null).0 == 500;
    assert!(wait_until(SOON, fails), "the server answers without a record");
    let failed = run(&mut crew.bootstrap("plan")).expect_code(69);
    assert!(failed.stderr.contains("often an audit device that it cannot write to"), "{}", failed.stderr);
}
