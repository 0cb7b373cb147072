//! CMD and its signals.

use std::time::Duration;

use harness::{run, spawn, wait_until};

use super::{as_first_process, child_of, running, signal, tokens};
use crate::crew::{CHAT_KEY, Crew, SOON};

#[test]
fn the_commands_exit_code_is_the_agents() {
    let crew = Crew::applied();
    let before = tokens(&crew);
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -37 $$", 128 + 37)] {
        run(&mut running(&crew, &[], script)).expect_code(code);
    }
    let asked =
        |command: &[&str]| run(crew.agent("run", "chat").args(["--secret", "chat", "--"]).args(command));
    assert!(asked(&["no-such-command"]).expect_code(127).stderr.contains("no-such-command"));
    asked(&["/"]).expect_code(126);
    assert_eq!(tokens(&crew), before, "a token outlived its agent");
}

#[test]
fn the_command_has_the_secrets_and_no_way_into_vault() {
    let crew = Crew::applied();
    crew.prints_secrets();
    let script = "printf %s \"$CHAT_KEY\"; env | grep -c -e VAULT -e BAO";
    let ran = run(&mut running(&crew, &[], script));
    assert_eq!(ran.stdout, format!("{CHAT_KEY}0\n"));
    let set = run(running(&crew, &[], script).env("CHAT_KEY", "mine"));
    assert_eq!(set.stdout, "mine0\n");
    let overwritten = run(running(&crew, &["--overwrite-env"], script).env("CHAT_KEY", "mine"));
    assert_eq!(overwritten.stdout, format!("{CHAT_KEY}0\n"));
}

#[test]
fn every_signal_reaches_the_command_and_its_own_end_is_the_end() {
    let crew = Crew::applied();
    let script = "for s in HUP INT QUIT USR1 USR2 ALRM WINCH ABRT 37; do trap \"echo $s >> seen\" $s; done; \
                  trap 'echo TERM >> seen; exit 3' TERM; echo $$ > ready; \
                  while :; do sleep 0.05; done";
    let mut agent = spawn(&mut as_first_process(&running(&crew, &[], script)));
    assert!(wait_until(SOON, || crew.path("ready").exists()), "{}", agent.log());
    let first = child_of(agent.pid());
    assert_ne!(crew.read("ready").trim(), "1");
    for name in ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "WINCH", "ABRT", "37"] {
        signal(name, first);
        let seen = || crew.path("seen").exists() && crew.read("seen").lines().any(|line| line == name);
        assert!(wait_until(SOON, seen), "{name} did not arrive\n{}", agent.log());
    }
    assert!(agent.is_running());
    signal("TERM", first);
    agent.wait(SOON).expect_code(3);
}

#[test]
fn a_stop_becomes_the_commands_own_stop_signal() {
    let crew = Crew::applied();
    let script = "trap 'exit 5' INT; echo > ready; while :; do sleep 0.05; done";
    let agent = spawn(&mut running(&crew, &["--stop-signal", "SIGINT"], script));
    assert!(wait_until(SOON, || crew.path("ready").exists()), "{}", agent.log());
    agent.terminate().expect_code(5);
}

#[test]
fn a_command_that_ignores_the_order_to_stop_is_killed_and_the_token_revoked() {
    let crew = Crew::applied();
    let before = tokens(&crew);
    let script = "trap '' TERM; echo > ready; while :; do sleep 0.05; done";
    let agent = spawn(&mut as_first_process(&running(&crew, &["--grace", "1s"], script)));
    assert!(wait_until(SOON, || crew.path("ready").exists()), "{}", agent.log());
    signal("TERM", child_of(agent.pid()));
    let ended = agent.wait(SOON).expect_code(137);
    assert!(ended.stderr.contains("did not end in its --grace"), "{}", ended.stderr);
    assert_eq!(tokens(&crew), before, "a token outlived its agent");
}

#[test]
fn a_hundred_orphans_are_taken_and_the_status_is_the_commands() {
    let crew = Crew::applied();
    let script = "i=0; while [ $i -lt 100 ]; do (sleep 0.$((i % 10)) &); i=$((i+1)); done; \
                  zombies() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; }; \
                  sleepers() { cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep; }; \
                  n=0; while [ $n -lt 100 ] && [ $(($(zombies) + $(sleepers))) != 0 ]; do sleep 0.1; n=$((n+1)); done; \
                  echo \"$(zombies) $(sleepers)\" > left; exit 6";
    run(&mut as_first_process(&running(&crew, &[], script))).expect_code(6);
    assert_eq!(crew.read("left"), "0 0\n");
}

#[test]
fn what_the_command_leaves_behind_is_gone_before_it_starts_again() {
    let crew = Crew::applied();
    let script = "sleep 1000 & echo $! >> children; wait $!";
    let agent = spawn(&mut running(&crew, &["--refresh", "1s"], script));
    let children = || std::fs::read_to_string(crew.path("children")).unwrap_or_default();
    assert!(wait_until(SOON, || children().lines().count() == 1), "{}", agent.log());
    super::change_key(&crew, "canary-other");
    assert!(wait_until(SOON, || children().lines().count() == 2), "{}", agent.log());
    let first: u32 = children().lines().next().unwrap().parse().unwrap();
    let is_gone =
        || std::fs::read_to_string(format!("/proc/{first}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(wait_until(SOON, is_gone), "the first command's child lives on");
    agent.terminate().expect_code(143);
}

#[test]
fn signals_before_the_command_runs() {
    let crew = Crew::new();
    for (name, code) in [("TERM", 143), ("QUIT", 131), ("INT", 130)] {
        let mut waiting = spawn(&mut as_first_process(&running(&crew, &["--wait", "1h"], "exit 1")));
        waiting.wait_for_log("waiting for AppRole credentials", SOON);
        let first = child_of(waiting.pid());
        // There is nobody yet who could make anything of these.
        for harmless in ["HUP", "USR1", "WINCH"] {
            signal(harmless, first);
        }
        assert!(!wait_until(Duration::from_millis(300), || !waiting.is_running()), "{}", waiting.log());
        signal(name, first);
        waiting.wait(SOON).expect_code(code);
    }
}

#[test]
fn what_never_starts_says_why() {
    let crew = Crew::applied();
    let run_with = |options: &[&str]| run(crew.agent("run", "chat").args(options).args(["--", "true"]));
    assert!(run_with(&["--secret", "nobody"]).expect_code(77).stderr.contains("secret/nobody"));
    let away = run(running(&crew, &["--wait", "2s"], "true").env("VAULT_ADDR", "http://127.0.0.1:9"));
    away.expect_code(69);
    // What is not there yet is waited for, and said.
    let root = crew.root_token();
    let metadata = "/v1/secret/metadata/chat";
    assert_eq!(crew.vault.api("DELETE", metadata, &root, &serde_json::Value::Null).0, 204);
    let mut waiting = spawn(&mut running(&crew, &["--wait", "1m"], "exit 4"));
    waiting.wait_for_log("there is no secret secret/chat", SOON);
    super::change_key(&crew, "canary-at-last");
    waiting.wait(SOON).expect_code(4);
    assert!(run_with(&["--secret", "chat,chat@1"]).expect_code(78).stderr.contains("asked for twice"));
    let lacking = run(crew.agent("run", "chat").args(["--secret", "chat", "--on-change", "restart"]));
    assert!(lacking.expect_code(78).stderr.contains("need a command"));
}
