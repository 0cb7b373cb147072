//! Three nodes: one is initialised, the others join it, and the leader may go.

use std::time::Duration;

use harness::{Storage, Vault, VaultOptions, free_address, run, wait_until};
use serde_json::Value;

use crate::crew::{Crew, spawn};

/// Electing a leader takes a while, on a busy machine more so.
const ELECTION: Duration = Duration::from_secs(40);

fn node(join: Option<String>) -> Vault {
    VaultOptions { storage: Storage::Raft, join, ..VaultOptions::default() }.start().expect("a raft node")
}

/// Whether a node is unsealed: 200 for the active one, 429 for a standby.
fn is_unsealed(node: &Vault) -> bool {
    matches!(node.health(), Some(200 | 429))
}

#[test]
fn three_nodes_from_nothing_and_after_the_loss_of_the_leader() {
    let first = node(None);
    let mut others = [node(Some(first.addr())), node(Some(first.addr()))];
    let late_addresses = [free_address().unwrap(), free_address().unwrap()];
    let [one, two] = [others[0].addr(), others[1].addr()];
    let addresses = format!("{},{one},{two},http://{}", first.addr(), late_addresses[0]);
    let mut crew = Crew::with(first);

    let mut unsealer = crew.unsealer("run");
    unsealer.env("VAULT_ADDR", &addresses);
    let unsealer = spawn(unsealer);
    let all_unsealed =
        |crew: &Crew, others: &[Vault]| is_unsealed(&crew.vault) && others.iter().all(is_unsealed);
    assert!(wait_until(ELECTION, || all_unsealed(&crew, &others)), "{}", unsealer.log());
    assert_eq!(unsealer.log().matches("initialising Vault").count(), 1);

    // All three are of one cluster, not three of their own, and soon have a vote in it.
    let root = crew.root_token();
    let voters = || {
        let (_, raft) = crew.vault.api("GET", "/v1/sys/storage/raft/configuration", &root, &Value::Null);
        let servers = raft["data"]["config"]["servers"].as_array().cloned().unwrap_or_default();
        servers.iter().filter(|server| server["voter"] == true).count()
    };
    assert!(wait_until(ELECTION, || voters() == 3), "{} voters", voters());

    let mut apply = crew.bootstrap("apply");
    run(apply.env("VAULT_ADDR", &addresses)).success();
    let exec = |crew: &Crew| {
        let mut exec = crew.agent("exec", "chat");
        exec.env("VAULT_ADDR", &addresses).args(["--wait", "30s", "--secret", "chat", "--", "true"]);
        run(&mut exec)
    };
    exec(&crew).success();

    // Each follower restarts in turn, and is unsealed while the others serve.
    for follower in &mut others {
        follower.restart();
        exec(&crew).success();
        assert!(wait_until(ELECTION, || is_unsealed(follower)), "{}", unsealer.log());
    }

    // A node that was told of from the start comes last, and has held up nobody.
    let late = VaultOptions {
        storage: Storage::Raft,
        join: Some(crew.vault.addr()),
        addresses: Some(late_addresses),
        ..VaultOptions::default()
    };
    let late = late.start().expect("a raft node");
    assert!(wait_until(ELECTION, || is_unsealed(&late)), "{}", unsealer.log());
    drop(late);

    // The leader is gone: another is elected, found and logged in to.
    crew.vault.kill();
    exec(&crew).success();
    crew.vault.restart();
    assert!(wait_until(ELECTION, || all_unsealed(&crew, &others)), "{}", unsealer.log());
    assert_eq!(unsealer.terminate().code(), 0);
}
