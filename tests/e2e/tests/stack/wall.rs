//! The four-hour wall, case by case, with lives of seconds in the place of hours: whatever was away, for longer than
//! every life there is, the stack is well again by itself.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Daemon, Signal, Storage, VaultOptions, WallClock, run, server_command, wait_until};

use serde_json::Value;

use crate::crew::{Crew, SOON, spawn};

/// An hour, four hours, an hour.
const LIVES: &str = "[defaults]\ntoken_ttl = \"6s\"\ntoken_max_ttl = \"18s\"\nsecret_id_ttl = \"10s\"\n";

/// Thirty days; bootstrap's token lives for 10 s and 30 s at most.
const OWN: &str = "4m";

/// Longer than every life but that.
const LONG: Duration = Duration::from_secs(20);

/// A minute. The agents, each of which looks at its directory every five seconds, have that besides.
const WITHIN: Duration = Duration::from_secs(5);
const AGENTS_WITHIN: Duration = Duration::from_secs(10);

const SERVICES: [&str; 3] = ["chat", "user", "user_db"];

/// A stack at work, without the root token.
struct Stack {
    crew: Crew,
    root: String,
    unsealer: Option<Daemon>,
    bootstrap: Daemon,
    agents: Vec<Daemon>,
}

impl Stack {
    fn start() -> Self {
        Self::on(Crew::new(), OWN)
    }

    fn on(crew: Crew, own_life: &str) -> Self {
        Self::at(crew, own_life, |command| command)
    }

    /// Each of its daemons as `command` has it started.
    fn at(crew: Crew, own_life: &str, command: impl Fn(Command) -> Command) -> Self {
        crew.write("vaultcrew.toml", LIVES);
        crew.initialise();
        let root = crew.root_token();
        let bootstrap = spawn(command(bootstrap(&crew, own_life)));
        assert!(wait_until(SOON, || crew.health().code() == 0), "{}", bootstrap.log());
        fs::remove_file(crew.path("root/root-token")).unwrap();
        let agents = SERVICES.map(|service| spawn(command(agent(&crew, service)))).into();
        let stack = Self { crew, root, unsealer: None, bootstrap, agents };
        stack.is_well_within("at the start", SOON, SOON);
        stack
    }

    /// All processes of the stack's own.
    fn signal(&mut self, signal: Signal) {
        self.bootstrap.signal(signal);
        self.agents.iter_mut().for_each(|agent| agent.signal(signal));
    }

    #[track_caller]
    fn is_well(&self, after: &str) {
        self.is_well_within(after, WITHIN, AGENTS_WITHIN);
    }

    /// bootstrap says so, every service can log in, and every agent is logged in.
    #[track_caller]
    fn is_well_within(&self, after: &str, limit: Duration, agents: Duration) {
        let begin = Instant::now();
        let delivers = || SERVICES.iter().all(|service| self.crew.login(service) == 200);
        let is_well = wait_until(limit, || delivers() && self.crew.health().code() == 0);
        assert!(is_well, "{after}: {}\n{}", self.crew.health().stderr, self.bootstrap.log());
        let well_after = begin.elapsed();
        for (service, daemon) in SERVICES.iter().zip(&self.agents) {
            let left = agents.saturating_sub(begin.elapsed());
            assert!(
                wait_until(left, || agent_is_well(&self.crew, service)),
                "{after}: {service}\n{}",
                daemon.log()
            );
        }
        println!("{after}: well after {well_after:?}, the agents after {:?}", begin.elapsed());
    }

    fn end(self) {
        for daemon in self.agents.into_iter().chain([self.bootstrap]).chain(self.unsealer) {
            assert_eq!(daemon.terminate().code(), 0);
        }
    }
}

fn bootstrap(crew: &Crew, own_life: &str) -> Command {
    let mut command = crew.bootstrap("run");
    command.args(["--wait", "2m", "--own-secret-id-ttl", own_life]);
    command
}

fn agent(crew: &Crew, service: &str) -> Command {
    let mut command = crew.agent("run", service);
    command.args(["--wait", "2m", "--secret", service, "--env-file", &format!("out/{service}.env")]);
    command
}

fn agent_is_well(crew: &Crew, service: &str) -> bool {
    let mut health = crew.programs.approle_agent();
    health.args(["healthcheck", "--status-file", &format!("run/{service}.json")]).current_dir(crew.path(""));
    run(&mut health).code() == 0
}

fn pass(time: Duration) {
    assert!(!wait_until(time, || false));
}

#[test]
fn every_process_stands_still_and_goes_on() {
    let mut stack = Stack::start();
    stack.signal(Signal::SIGSTOP);
    stack.crew.vault.signal(Signal::SIGSTOP);
    pass(LONG);
    stack.crew.vault.signal(Signal::SIGCONT);
    stack.signal(Signal::SIGCONT);
    stack.is_well("after a standstill");
    stack.end();
}

#[test]
fn bootstrap_is_down_for_three_token_lives() {
    let mut stack = Stack::start();
    let down = std::mem::replace(&mut stack.bootstrap, spawn(Command::new("true")));
    down.kill();
    pass(LONG);
    for service in SERVICES {
        assert_eq!(stack.crew.login(service), 400, "{service}: it has not been long enough");
    }
    stack.bootstrap = spawn(bootstrap(&stack.crew, OWN));
    stack.is_well("after a bootstrap that was down");
    stack.end();
}

#[test]
fn vault_is_sealed_for_longer_than_every_life() {
    let mut stack = Stack::start();
    stack.crew.vault.restart();
    pass(LONG);
    // What lives in Vault has ended, and the health check tells so; nothing has given up.
    let sick = stack.crew.health().expect_code(1);
    assert!(sick.stderr.contains("have ended"), "{}", sick.stderr);
    assert!(stack.bootstrap.is_running() && stack.agents.iter_mut().all(Daemon::is_running));
    run(&mut stack.crew.unsealer("unseal")).success();
    stack.crew.vault.wait_for_health(200).unwrap();
    stack.is_well("after a sealed Vault");
    stack.end();
}

/// That of bootstrap and of the agents, while what they judge by, Vault's, goes on.
#[test]
fn the_wall_clock_is_set_back_and_forth() {
    let clock = WallClock::new();
    let stack = Stack::at(Crew::new(), OWN, |command| clock.on(&command));
    let last_line = |daemon: &Daemon| daemon.log().lines().next_back().unwrap_or_default().to_owned();
    for step in ["+2h", "-400d", "+400d", "+0"] {
        clock.step(step);
        // Longer than a secret ID lives and than a token does without renewal: all is replaced meanwhile.
        let is_ill = || SERVICES.iter().any(|service| stack.crew.login(service) != 200);
        assert!(!wait_until(LONG / 2, is_ill), "{step}\n{}", stack.bootstrap.log());
        stack.is_well(&format!("with the clock at {step}, as it logs: {}", last_line(&stack.bootstrap)));
    }
    let log = stack.bootstrap.log();
    assert!(log.matches("approle/chat: half of the secret ID's life was over").count() >= 6, "{log}");
    let years: std::collections::BTreeSet<&str> = log.lines().filter_map(|line| line.get(..4)).collect();
    assert!(years.len() >= 2, "its clock was not set: {years:?}");
    stack.end();
}

#[test]
fn the_credential_directories_are_emptied() {
    let stack = Stack::start();
    fs::remove_dir_all(stack.crew.path("approle")).unwrap();
    stack.is_well("after the directories were emptied");
    for service in SERVICES {
        assert!(stack.crew.living_secret_ids(service, &stack.root) <= 2, "{service}");
    }
    stack.end();
}

#[test]
fn everything_is_killed_and_started_at_once() {
    let mut stack = Stack::start();
    stack.unsealer = Some(spawn(stack.crew.unsealer("run")));
    stack.signal(Signal::SIGKILL);
    stack.unsealer.as_mut().unwrap().signal(Signal::SIGKILL);
    stack.crew.vault.kill();
    pass(LONG);
    // In the order that is worst.
    stack.agents = SERVICES.map(|service| spawn(agent(&stack.crew, service))).into();
    stack.bootstrap = spawn(bootstrap(&stack.crew, OWN));
    stack.unsealer = Some(spawn(stack.crew.unsealer("run")));
    stack.crew.vault.restart();
    stack.crew.vault.wait_for_health(200).unwrap();
    stack.is_well("after everything was killed");
    stack.end();
}

/// The snapshot is older than bootstrap's own credential, which Vault therefore does not know.
#[test]
fn a_snapshot_is_restored() {
    let vault = VaultOptions { storage: Storage::Raft, ..VaultOptions::default() }.start().unwrap();
    let mut stack = Stack::on(Crew::with(vault), "1m");
    let snapshot = |stack: &Stack, action: &str| {
        let mut command = server_command().unwrap();
        command.args(["operator", "raft", "snapshot", action]).arg(stack.crew.path("snapshot"));
        let addr = stack.crew.vault.addr();
        command.env("BAO_ADDR", &addr).env("BAO_TOKEN", &stack.root);
        command.env("VAULT_ADDR", &addr).env("VAULT_TOKEN", &stack.root);
        run(&mut command).success();
    };
    snapshot(&stack, "save");
    let own = stack.crew.read("state/secret_id");
    let is_replaced = || stack.crew.read("state/secret_id") != own;
    assert!(wait_until(Duration::from_secs(50), is_replaced), "{}", stack.bootstrap.log());
    snapshot(&stack, "restore");
    // The server takes some seconds for it, in which it answers nobody.
    let is_served =
        || stack.crew.vault.api("GET", "/v1/auth/token/lookup-self", &stack.root, &Value::Null).0 == 200;
    assert!(wait_until(SOON, is_served));
    stack.is_well("after a snapshot was restored");
    stack.bootstrap.wait_for_log("the one before it", SOON);
    stack.end();
}
