//! Whether anything records who reads what.

use std::fs;

use harness::{Flavour, Vault, run};

use crate::crew::Crew;

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
    let line = applied.stderr.lines().find(|line| line.contains("no audit device is enabled")).unwrap();
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
