//! Vault, or the way to it: away, slow, busy.

use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Daemon, Proxy, Trouble, run, wait_until};
use serde_json::json;

use super::{change_key, inside};
use crate::crew::{CHAT_KEY, Crew, SOON, spawn};

#[test]
fn another_address_takes_over() {
    let mut crew = Crew::applied();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    command.env("VAULT_ADDR", format!("http://127.0.0.1:9,{}", crew.vault.addr()));
    let mut agent = spawn(command);
    agent.wait_for_log("rendered the secrets", SOON);
    crew.vault.restart();
    agent.wait_for_log("the secrets stay as they are", SOON);
    run(&mut crew.unsealer("unseal")).success();
    agent.wait_for_log("the secrets can be read again", SOON);
    agent.terminate().success();
}

#[test]
fn a_network_that_fails_leaves_the_last_files_and_is_not_flooded() {
    let crew = Crew::new();
    crew.write("vaultcrew.toml", "[defaults]\ntoken_ttl = \"9s\"\ntoken_max_ttl = \"1h\"\n");
    crew.initialise();
    crew.apply().success();
    let proxy = Proxy::start(crew.vault.addresses()[0]);
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    let mut agent = spawn(command_at(command, &proxy.addr()));
    agent.wait_for_log("rendered the secrets", SOON);
    let mut last = CHAT_KEY.to_owned();
    let troubles =
        [Trouble::Refuse, Trouble::Hang, Trouble::Reset(20), Trouble::Truncate(40), Trouble::Refuse];
    for (number, trouble) in troubles.into_iter().enumerate() {
        let warned = || agent.log().matches("the secrets stay as they are").count();
        let before = warned();
        let (since, seen) = (Instant::now(), proxy.requests().len());
        proxy.set(trouble.clone());
        proxy.cut();
        assert!(wait_until(SOON, || warned() > before), "{trouble:?}\n{}", agent.log());
        let next = format!("canary-{number}");
        change_key(&crew, &next);
        // Longer than a token's life.
        let is_whole = |value: &str| crew.read("out/chat.env").contains(&format!("CHAT_KEY='{value}'\n"));
        assert!(!wait_until(Duration::from_secs(10), || !is_whole(&last)), "{trouble:?}");
        let most = usize::try_from(since.elapsed().as_secs()).unwrap() * 2;
        let requests = proxy.requests().len() - seen;
        assert!(requests <= most, "{trouble:?}: {requests} requests in {:?}", since.elapsed());
        let back = Instant::now();
        proxy.set(Trouble::None);
        proxy.cut();
        assert!(wait_until(SOON, || is_whole(&next)), "{trouble:?}\n{}", agent.log());
        let is_ready = || super::status(&crew)["ready"] == serde_json::json!(true);
        assert!(wait_until(SOON, is_ready), "{trouble:?}\n{}", agent.log());
        eprintln!("{trouble:?}: {requests} requests, recovered in {:?}", back.elapsed());
        last = next;
    }
    assert!(agent.is_running());
    agent.terminate().success();
}

fn command_at(mut command: std::process::Command, address: &str) -> std::process::Command {
    command.env("VAULT_ADDR", address);
    command
}

/// A sidecar that reads every second, through this proxy.
fn reading_every_second(crew: &Crew, proxy: &Proxy) -> Daemon {
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env", "--refresh", "1s"]);
    let mut agent = spawn(command_at(command, &proxy.addr()));
    agent.wait_for_log("rendered the secrets", SOON);
    agent
}

fn holds(crew: &Crew, value: &str) -> bool {
    crew.read("out/chat.env") == format!("CHAT_KEY='{value}'\n")
}

#[test]
fn a_server_that_is_slow_is_waited_for_and_not_asked_twice() {
    let crew = Crew::applied();
    let proxy = Proxy::start(crew.vault.addresses()[0]);
    let agent = reading_every_second(&crew, &proxy);
    // The answers to reads alone: whether the server is there it says at once.
    proxy.at_path("/v1/secret/data/", Trouble::Delay(Duration::from_secs(4)));
    change_key(&crew, "canary-slow");
    assert!(wait_until(SOON, || holds(&crew, "canary-slow")), "{}", agent.log());
    let log = agent.terminate().success().stderr;
    assert!(!log.contains(" WARN ") && !log.contains("out of reach"), "{log}");
}

#[test]
fn a_quota_is_kept_to() {
    let crew = Crew::applied();
    let proxy = Proxy::start(crew.vault.addresses()[0]);
    let mut agent = reading_every_second(&crew, &proxy);
    let root = crew.root_token();
    let tells_when = json!({ "enable_rate_limit_response_headers": true });
    assert_eq!(crew.vault.api("POST", "/v1/sys/quotas/config", &root, &tells_when).0, 204);
    let quota = "/v1/sys/quotas/rate-limit/reads";
    let body = json!({ "path": "secret/", "rate": 1, "interval": "20s" });
    assert_eq!(crew.vault.api("POST", quota, &root, &body).0, 204);
    agent.wait_for_log("rate limited", SOON);
    let reads = || proxy.requests().iter().filter(|request| request.contains("/v1/secret/")).count();
    let before = reads();
    assert!(!wait_until(Duration::from_secs(15), || !agent.is_running()), "{}", agent.log());
    let asked = reads() - before;
    // Some may be told when to come back. Without that it would be nine or so.
    assert!(asked <= 5, "{asked} reads in fifteen seconds, of which one or two are granted");
    assert_eq!(crew.vault.api("DELETE", quota, &root, &serde_json::Value::Null).0, 204);
    change_key(&crew, "canary-after");
    assert!(wait_until(SOON, || holds(&crew, "canary-after")), "{}", agent.log());
    agent.terminate().success();
}

#[test]
fn new_credentials_are_found_where_nothing_can_be_watched() {
    let crew = Crew::applied();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env"]);
    let mut without = Command::new("strace");
    without.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=inotify_init1"]);
    without.args(["-e", "inject=inotify_init1:error=EMFILE"]);
    inside(&mut without, &command);
    let mut agent = spawn(without);
    agent.wait_for_log("rendered the secrets", SOON);
    std::fs::remove_file(crew.path("approle/chat/secret_id")).unwrap();
    crew.apply().success();
    let logins = || agent.log().matches("logged in by AppRole").count();
    assert!(wait_until(SOON, || logins() == 2), "{}", agent.log());
    agent.kill();
}
