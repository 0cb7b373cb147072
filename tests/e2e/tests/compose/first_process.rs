//! `approle-agent` as the first process of a container, above a command in Debian's image.

use std::fs;
use std::path::PathBuf;

use harness::{Programs, Vault, wait_until};
use serde_json::{Value, json};

use crate::engine::{LABEL, docker, run, told};
use crate::images;
use crate::stack::SOON;

/// A command that says that it is there, and ends as it is told by a signal.
fn ends_by(signal: &str, code: u8) -> String {
    format!("trap 'exit {code}' {signal}; echo there; while :; do sleep 0.1; done")
}

#[test]
fn a_stop_is_prompt_and_the_exit_code_is_the_commands() {
    let service = Service::start();
    let before = service.tokens();
    let stopped = |options: &[&str], agent: &[&str], script: &str| {
        let container = service.run(options, agent, script);
        container.wait_for("there");
        container.stop();
        container
    };
    assert_eq!(stopped(&[], &["run", "--secret=chat"], &ends_by("TERM", 3)).exit_code(), 3);
    // An image's own STOPSIGNAL is what the engine sends: it is passed on, and with the option it has its grace too.
    let quits = Image::stopped_by(&service.image, "SIGQUIT");
    let by_quit = Service { image: quits.name.clone(), ..service };
    let stopped = |options: &[&str], agent: &[&str], script: &str| {
        let container = by_quit.run(options, agent, script);
        container.wait_for("there");
        container.stop();
        container
    };
    assert_eq!(stopped(&[], &["run", "--secret=chat"], &ends_by("QUIT", 4)).exit_code(), 4);
    let options = ["run", "--secret=chat", "--stop-signal=SIGQUIT"];
    assert_eq!(stopped(&[], &options, &ends_by("QUIT", 5)).exit_code(), 5);
    let deaf = "trap '' TERM QUIT; echo there; while :; do sleep 0.1; done";
    let killed = stopped(&[], &[&options[..], &["--grace=1s"]].concat(), deaf);
    assert_eq!(killed.exit_code(), 137);
    // By the agent, which has time left to revoke its token, and not by the engine.
    assert!(killed.log().contains("did not end in its --grace"), "{}", killed.log());
    assert_eq!(by_quit.tokens(), before, "a token outlived its agent");
    // After exec it is the command alone that is told.
    let gone = by_quit.run(&[], &["exec", "--secret=chat"], &ends_by("QUIT", 6));
    gone.wait_for("there");
    assert_eq!(gone.inside(&["cat", "/proc/1/comm"]).trim(), "sh");
    let environ = gone.inside(&["cat", "/proc/1/environ"]);
    assert!(environ.contains("CHAT_KEY=") && !environ.contains("VAULT"), "{environ}");
    gone.stop();
    assert_eq!(gone.exit_code(), 6);
    assert_eq!(by_quit.tokens(), before, "a token outlived its agent");
}

#[test]
fn what_ends_by_itself_and_what_never_began() {
    let service = Service::start();
    let agent = ["run", "--secret=chat"];
    for (script, code) in [("exit 7", 7), ("kill -KILL $$", 137)] {
        assert_eq!(service.run(&[], &agent, script).exit_code(), code, "{script}");
    }
    let waiting = service.run(&[], &["run", "--secret=chat", "--credentials-dir=/nowhere"], "exit 1");
    waiting.wait_for("waiting for AppRole credentials in /nowhere");
    waiting.stop();
    assert_eq!(waiting.exit_code(), 143);

    let orphans = "i=0; while [ $i -lt 100 ]; do (sleep 0.$((i % 10)) &); i=$((i+1)); done; \
                   zombies() { cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '; }; \
                   sleepers() { cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep; }; \
                   n=0; while [ $n -lt 100 ] && [ $(($(zombies) + $(sleepers))) != 0 ]; do sleep 0.1; n=$((n+1)); done; \
                   echo \"left: $(zombies) $(sleepers)\"; exit 6";
    let reaped = service.run(&[], &agent, orphans);
    assert_eq!(reaped.exit_code(), 6);
    assert!(reaped.log().contains("left: 0 0"), "{}", reaped.log());
}

#[test]
fn the_command_finds_the_container_as_if_the_agent_were_not_there() {
    let service = Service::start();
    let script = "ls /proc/self/fd; pwd; umask; id; grep -E '^(Sig(Pnd|Blk|Ign)|NoNewPrivs|CapEff):' /proc/self/status; \
                  if [ -t 0 ]; then echo terminal; else cat; fi";
    let hardened = [
        "--user=65534",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--workdir=/tmp",
    ];
    for options in [&["--interactive"][..], &["--tty"], &hardened] {
        let ran = |agent: &[&str]| {
            let mut all = options.to_vec();
            all.push("--rm");
            let mut written_to = std::process::Command::new("sh");
            written_to.args(["-c", "echo written to it | exec \"$@\"", "sh"]);
            let command = service.command("run", &all, agent, script);
            written_to.arg(command.get_program()).args(command.get_args());
            run(&mut written_to).success().stdout
        };
        let plain = ran(&[]);
        assert_eq!(plain.contains("terminal"), options == ["--tty"], "{plain}");
        assert_eq!(plain.contains("written to it"), options == ["--interactive"], "{plain}");
        for agent in [["run", "--secret=chat"], ["exec", "--secret=chat"]] {
            // On a terminal there is one output, which the log shares.
            let mut lines: Vec<_> = ran(&agent).lines().map(str::to_owned).collect();
            lines.retain(|line| !line.contains(" INFO ") && !line.contains(" WARN "));
            assert_eq!(lines, plain.lines().collect::<Vec<_>>(), "{options:?} {agent:?}");
        }
    }
}

/// A Vault on this host, what a service has of it, and an image.
struct Service {
    vault: Vault,
    root: String,
    dir: tempfile::TempDir,
    image: String,
}

impl Service {
    fn start() -> Self {
        let (vault, root) = Vault::start_unsealed();
        let dir = tempfile::tempdir().unwrap();
        let service = Self { vault, root, dir, image: images::base() };
        service.ask("POST", "sys/mounts/secret", &json!({ "type": "kv", "options": { "version": "2" } }));
        service.ask("POST", "sys/auth/approle", &json!({ "type": "approle" }));
        let policy = json!({ "policy": "path \"secret/data/chat\" { capabilities = [\"read\"] }" });
        service.ask("PUT", "sys/policies/acl/chat-policy", &policy);
        service.ask("POST", "auth/approle/role/chat", &json!({ "token_policies": ["chat-policy"] }));
        let role_id = service.ask("GET", "auth/approle/role/chat/role-id", &Value::Null);
        let secret_id = service.ask("POST", "auth/approle/role/chat/secret-id", &json!({}));
        for (name, answer) in [("role_id", role_id), ("secret_id", secret_id)] {
            fs::write(service.dir.path().join(name), answer["data"][name].as_str().unwrap()).unwrap();
        }
        // Whoever runs as somebody else reads them too.
        run(std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(service.dir.path())).success();
        let secret = json!({ "data": { "CHAT_KEY": "canary-4fd2" } });
        let is_written =
            || service.vault.api("POST", "/v1/secret/data/chat", &service.root, &secret).0 == 200;
        assert!(wait_until(SOON, is_written), "the mount is not ready");
        service
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.vault.client().expect(method, &format!("/v1/{path}"), &self.root, body).unwrap()
    }

    /// How many tokens there are.
    fn tokens(&self) -> usize {
        let list = self.ask("LIST", "auth/token/accessors", &Value::Null);
        list["data"]["keys"].as_array().unwrap().len()
    }

    /// Starts a container in which this script is run by the agent with these arguments.
    fn run(&self, options: &[&str], agent: &[&str], script: &str) -> Contained {
        let created = told(&mut self.command("create", options, agent, script));
        let contained = Contained { id: created.trim().to_owned() };
        told(&mut docker(["start", &contained.id]));
        contained
    }

    /// `docker <verb>` for that container; without arguments of the agent, the script alone.
    fn command(&self, verb: &str, options: &[&str], agent: &[&str], script: &str) -> std::process::Command {
        let mut command = docker([verb, "--network=host", "--env=VAULTCREW_CREDENTIALS_DIR=/approle"]);
        let mount = |from: PathBuf, to: &str| format!("--volume={}:{to}:ro", from.display());
        command.arg(mount(Programs::locate().path("approle-agent").canonicalize().unwrap(), "/agent"));
        command.arg(mount(self.dir.path().to_owned(), "/approle"));
        command.arg(format!("--env=VAULT_ADDR={}", self.vault.addr()));
        command.arg(format!("--label={LABEL}=first-process")).args(options).arg(&self.image);
        if !agent.is_empty() {
            command.arg("/agent").args(agent).arg("--");
        }
        command.args(["sh", "-c", script]);
        command
    }
}

/// A container; removed when dropped.
struct Contained {
    id: String,
}

impl Contained {
    #[track_caller]
    fn wait_for(&self, text: &str) {
        assert!(wait_until(SOON, || self.log().contains(text)), "no {text:?} in\n{}", self.log());
    }

    fn log(&self) -> String {
        let outcome = run(&mut docker(["logs", &self.id]));
        outcome.stdout + &outcome.stderr
    }

    fn inside(&self, command: &[&str]) -> String {
        told(docker(["exec", &self.id]).args(command))
    }

    /// By what its image says, and by SIGKILL ten seconds later.
    fn stop(&self) {
        told(&mut docker(["stop", &self.id]));
    }

    /// What `docker inspect` shows once it has ended.
    fn exit_code(&self) -> i64 {
        told(&mut docker(["wait", &self.id]));
        let shown: Value = serde_json::from_str(&told(&mut docker(["inspect", &self.id]))).unwrap();
        shown[0]["State"]["ExitCode"].as_i64().unwrap()
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        run(&mut docker(["rm", "--force", &self.id]));
    }
}

/// An image like another, but for the signal that stops it; removed when dropped.
struct Image {
    name: String,
}

impl Image {
    fn stopped_by(image: &str, signal: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Dockerfile"), format!("FROM {image}\nSTOPSIGNAL {signal}\n")).unwrap();
        let mut build = std::process::Command::new(harness::buildx().unwrap());
        build.args(["build", "--quiet", "--load", "--label", &format!("{LABEL}=first-process")]);
        Self { name: told(build.arg(dir.path())).trim().to_owned() }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        run(&mut docker(["image", "rm", "--force", &self.name]));
    }
}
