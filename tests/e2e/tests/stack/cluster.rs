//! Three nodes: one is initialised, the others join it, and each may go: the leader, under load, or during a rekey.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use harness::{Api, Daemon, Signal, Storage, Vault, VaultOptions, free_address, run, wait_until};
use serde_json::{Value, json};

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

/// Three nodes that `unsealer run` has initialised and unsealed, all of one cluster and with a vote in it; `late` may
/// name others that it was told of and that are not there. Gives their addresses too.
fn cluster(late: &str) -> (Crew, [Vault; 2], String, Daemon) {
    let first = node(None);
    let others = [node(Some(first.addr())), node(Some(first.addr()))];
    let [one, two] = [others[0].addr(), others[1].addr()];
    let addresses = format!("{},{one},{two}{late}", first.addr());
    let crew = Crew::with(first);
    let unsealer = unsealer(&crew, &addresses);
    assert!(wait_until(ELECTION, || all_unsealed(&crew, &others)), "{}", unsealer.log());
    assert_eq!(unsealer.log().matches("initialising Vault").count(), 1);

    let root = crew.root_token();
    let voters = || {
        let (_, raft) = crew.vault.api("GET", "/v1/sys/storage/raft/configuration", &root, &Value::Null);
        let servers = raft["data"]["config"]["servers"].as_array().cloned().unwrap_or_default();
        servers.iter().filter(|server| server["voter"] == true).count()
    };
    assert!(wait_until(ELECTION, || voters() == 3), "{} voters", voters());
    (crew, others, addresses, unsealer)
}

fn unsealer(crew: &Crew, addresses: &str) -> Daemon {
    let mut unsealer = crew.unsealer("run");
    unsealer.env("VAULT_ADDR", addresses);
    spawn(unsealer)
}

fn all_unsealed(crew: &Crew, others: &[Vault]) -> bool {
    is_unsealed(&crew.vault) && others.iter().all(is_unsealed)
}

#[test]
fn three_nodes_from_nothing_and_after_the_loss_of_the_leader() {
    let late_addresses = [free_address().unwrap(), free_address().unwrap()];
    let late = format!(",http://{}", late_addresses[0]);
    let (mut crew, mut others, addresses, unsealer) = cluster(&late);
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

/// Somebody who writes all the time, to whichever node is active, and services that log in and read all the time.
struct Load {
    ends: Arc<AtomicBool>,
    /// How many writes the servers have confirmed, and how many failed.
    confirmed: Arc<AtomicUsize>,
    failed: Arc<AtomicUsize>,
    writer: JoinHandle<()>,
    services: JoinHandle<Vec<String>>,
}

impl Load {
    fn on(crew: &Crew, others: &[Vault], addresses: &str) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (confirmed, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let nodes: Vec<Api> =
            [&crew.vault].into_iter().chain(others).map(|node| node.client().clone()).collect();
        let token = crew.root_token();
        let writer = thread::spawn({
            let (ends, confirmed, failed) = (Arc::clone(&ends), Arc::clone(&confirmed), Arc::clone(&failed));
            move || {
                for number in 1.. {
                    if ends.load(Ordering::SeqCst) {
                        return;
                    }
                    // One after another, so that the last one confirmed is what is there.
                    let is_confirmed = || nodes.iter().any(|node| write(node, &token, number));
                    while !is_confirmed() && !ends.load(Ordering::SeqCst) {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                    confirmed.store(number, Ordering::SeqCst);
                }
            }
        });
        let (programs, dir, addresses) = (crew.programs.clone(), crew.path(""), addresses.to_owned());
        let services = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                let mut failures = Vec::new();
                while !ends.load(Ordering::SeqCst) {
                    let mut exec = programs.approle_agent();
                    exec.env("VAULT_ADDR", &addresses).current_dir(&dir);
                    exec.args(["exec", "--credentials-dir", "approle/chat", "--secret", "chat"]);
                    let outcome = run(exec.args(["--wait", "40s", "--", "true"]));
                    if outcome.code() != 0 {
                        failures.push(outcome.stderr);
                    }
                }
                failures
            }
        });
        Self { ends, confirmed, failed, writer, services }
    }

    /// Waits until something was written from now on.
    fn goes_on(&self) -> bool {
        let before = self.confirmed.load(Ordering::SeqCst);
        wait_until(ELECTION, || self.confirmed.load(Ordering::SeqCst) > before + 2)
    }

    /// The number of the last write that was confirmed; no service may have failed.
    fn end(self) -> usize {
        self.ends.store(true, Ordering::SeqCst);
        self.writer.join().unwrap();
        let failures = self.services.join().unwrap();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        self.confirmed.load(Ordering::SeqCst)
    }
}

/// Whether this node is active and has confirmed the write.
fn write(node: &Api, token: &str, number: usize) -> bool {
    let is_active = matches!(node.send("GET", "/v1/sys/health", "", &Value::Null), Ok((200, _)));
    let body = json!({ "data": { "number": number.to_string() } });
    is_active && matches!(node.send("POST", "/v1/secret/data/load", token, &body), Ok((200, _)))
}

#[test]
fn each_node_restarts_in_turn_under_load() {
    let (mut crew, mut others, addresses, unsealer) = cluster("");
    let mut apply = crew.bootstrap("apply");
    run(apply.env("VAULT_ADDR", &addresses)).success();
    let load = Load::on(&crew, &others, &addresses);
    assert!(load.goes_on());
    for follower in &mut others {
        follower.restart();
        assert!(wait_until(ELECTION, || is_unsealed(follower)), "{}", unsealer.log());
        assert!(load.goes_on());
    }
    // As long as the leader is there nobody notices.
    assert_eq!(load.failed.load(Ordering::SeqCst), 0);
    crew.vault.restart();
    assert!(wait_until(ELECTION, || all_unsealed(&crew, &others)), "{}", unsealer.log());
    assert!(load.goes_on());
    let last = load.end();

    let root = crew.root_token();
    let active = [&crew.vault, &others[0], &others[1]].into_iter().find(|node| node.health() == Some(200));
    let (_, read) = active.expect("an active node").api("GET", "/v1/secret/data/load", &root, &Value::Null);
    let found: usize = read["data"]["data"]["number"].as_str().unwrap().parse().unwrap();
    // The one that nobody waited for any more may have been written too.
    assert!(found == last || found == last + 1, "{found} is there, and {last} was confirmed");
    assert_eq!(unsealer.terminate().code(), 0);
}

#[test]
fn an_agent_goes_on_by_the_next_leader_where_the_last_one_hangs() {
    let (mut crew, others, addresses, _unsealer) = cluster("");
    let mut apply = crew.bootstrap("apply");
    run(apply.env("VAULT_ADDR", &addresses)).success();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    command.env("VAULT_ADDR", &addresses);
    let mut agent = spawn(command);
    agent.wait_for_log("rendered the secrets", ELECTION);
    assert_eq!(crew.vault.health(), Some(200), "the first node is not the leader");

    // It takes every connection, and answers none.
    crew.vault.signal(Signal::SIGSTOP);
    let active = || others.iter().find(|node| node.health() == Some(200));
    assert!(wait_until(ELECTION, || active().is_some()));
    let body = json!({ "data": { "CHAT_KEY": "canary-of-the-next" } });
    let root = crew.root_token();
    let is_written =
        || active().is_some_and(|node| node.api("POST", "/v1/secret/data/chat", &root, &body).0 == 200);
    assert!(wait_until(ELECTION, is_written));
    let is_rendered = || crew.read("out/chat.env").contains("canary-of-the-next");
    assert!(wait_until(ELECTION, is_rendered), "{}", agent.log());
    agent.terminate().success();
}

#[test]
fn a_follower_that_was_away_during_a_rekey_is_unsealed_when_it_comes_back() {
    let (mut crew, mut others, addresses, unsealer) = cluster("");
    others[1].stop();
    let mut rekey = crew.unsealer("rekey");
    run(rekey.env("VAULT_ADDR", &addresses)).success();
    // The others restart meanwhile, and need the new ones.
    for number in 0..2 {
        let node = if number == 0 { &mut others[0] } else { &mut crew.vault };
        node.restart();
        assert!(wait_until(ELECTION, || is_unsealed(node)), "{}", unsealer.log());
    }
    assert_eq!(unsealer.terminate().code(), 0);
    assert!(crew.path("keys/before-rekey/unseal-key-1").exists());

    // It does not know the new ones yet, and is unsealed by those that it knows.
    others[1].restart();
    for (share, status) in [(1, 200), (2, 200), (3, 400)] {
        let body = json!({ "key": crew.read(&format!("keys/unseal-key-{share}")) });
        assert_eq!(others[1].api("PUT", "/v1/sys/unseal", "", &body).0, status);
    }
    let mut unseal = crew.unsealer("unseal");
    run(unseal.env("VAULT_ADDR", &addresses)).success();
    assert!(wait_until(ELECTION, || all_unsealed(&crew, &others)));
    assert!(crew.path("keys/before-rekey/unseal-key-1").exists());

    // Once it has caught up the new ones unseal it too, and the old ones go.
    let unsealer = self::unsealer(&crew, &addresses);
    let are_gone = (0..10).any(|_| {
        others[1].restart();
        assert!(wait_until(ELECTION, || is_unsealed(&others[1])), "{}", unsealer.log());
        wait_until(Duration::from_secs(3), || !crew.path("keys/before-rekey").exists())
    });
    assert!(are_gone, "{}", unsealer.log());
    assert_eq!(unsealer.terminate().code(), 0);
}
