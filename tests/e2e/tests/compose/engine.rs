//! The Docker Engine, by its own command.

use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Outcome, run_within};
use serde_json::Value;

/// Carried by all that the tests make besides what Compose makes.
pub(crate) const LABEL: &str = "org.vaultcrew.test";

/// How long one command may take; the longest builds an image from packages.
const LIMIT: Duration = Duration::from_mins(5);

/// `docker <arguments>`.
pub(crate) fn docker<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(harness::docker().unwrap());
    command.args(arguments);
    command
}

/// Runs it to its end, with its outputs on record.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Outcome {
    run_within(command, LIMIT).unwrap_or_else(|error| panic!("{}", harness::with_causes(&error)))
}

/// What it prints.
#[track_caller]
pub(crate) fn told(command: &mut Command) -> String {
    run(command).success().stdout
}

/// What it prints, off the record: it is secret.
#[track_caller]
pub(crate) fn secretly_told(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{}: {}", command.get_program().display(), output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What it prints, off the record, and whether it succeeded or not: for questions that are asked over and over.
fn asked(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Lines that are not empty.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// One of the stack's containers, as it is at the moment.
#[derive(Debug)]
pub(crate) struct Container {
    /// Everything that `docker inspect` shows.
    pub(crate) inspected: Value,
}

impl Container {
    /// All containers of the project, those that ended too, by their services' names.
    pub(crate) fn all(project: &str) -> Vec<Self> {
        let filter = format!("label=com.docker.compose.project={project}");
        let listed = asked(&mut docker(["container", "ls", "--all", "--quiet", "--filter", &filter]));
        let ids = lines(&listed);
        if ids.is_empty() {
            return Vec::new();
        }
        // One that is being removed meanwhile is not shown, and makes the command fail.
        let shown = asked(docker(["container", "inspect"]).args(ids));
        let all: Vec<Value> = serde_json::from_str(&shown).unwrap();
        let mut all: Vec<Self> = all.into_iter().map(|inspected| Self { inspected }).collect();
        all.sort_by(|one, other| one.service().cmp(other.service()));
        all
    }

    pub(crate) fn service(&self) -> &str {
        self.text("/Config/Labels/com.docker.compose.service")
    }

    pub(crate) fn id(&self) -> &str {
        self.text("/Id")
    }

    pub(crate) fn user(&self) -> &str {
        self.text("/Config/User")
    }

    /// Its image, by its digest.
    pub(crate) fn image(&self) -> &str {
        self.text("/Image")
    }

    /// Its image, by the name that it was asked for.
    pub(crate) fn image_name(&self) -> &str {
        self.text("/Config/Image")
    }

    /// The networks that it is in, by their names; `none` is none.
    pub(crate) fn networks(&self) -> Vec<String> {
        let networks = self.inspected["NetworkSettings"]["Networks"].as_object().unwrap();
        networks.keys().filter(|name| *name != "none").cloned().collect()
    }

    /// The further groups of its processes.
    pub(crate) fn groups(&self) -> Vec<String> {
        let groups = self.inspected["HostConfig"]["GroupAdd"].as_array();
        groups.into_iter().flatten().map(|group| group.as_str().unwrap().to_owned()).collect()
    }

    /// Where volumes and files of the host are mounted in it.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let mounts = self.inspected["Mounts"].as_array().unwrap();
        mounts.iter().map(|mount| mount["Destination"].as_str().unwrap().to_owned()).collect()
    }

    /// Its addresses in all its networks.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let networks = self.inspected["NetworkSettings"]["Networks"].as_object().unwrap();
        networks.values().map(|network| network["IPAddress"].as_str().unwrap().to_owned()).collect()
    }

    /// Its first process, as the host numbers it; 0 where it does not run.
    pub(crate) fn pid(&self) -> i64 {
        self.inspected.pointer("/State/Pid").and_then(Value::as_i64).unwrap()
    }

    pub(crate) fn started_at(&self) -> &str {
        self.text("/State/StartedAt")
    }

    /// How often the engine started it again because it ended.
    pub(crate) fn restarts(&self) -> i64 {
        self.inspected["RestartCount"].as_i64().unwrap()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.text("/State/Status") == "running"
    }

    pub(crate) fn restart_policy(&self) -> &str {
        self.text("/HostConfig/RestartPolicy/Name")
    }

    /// It stays until it is told to end.
    pub(crate) fn is_lasting(&self) -> bool {
        self.restart_policy() == "unless-stopped"
    }

    /// It runs and is healthy as far as it says; or it had something to do once, and did it.
    pub(crate) fn is_well(&self) -> bool {
        if self.is_lasting() {
            let health = self.inspected.pointer("/State/Health/Status").and_then(Value::as_str);
            return self.is_running() && health.is_none_or(|health| health == "healthy");
        }
        self.text("/State/Status") == "exited" && self.inspected.pointer("/State/ExitCode") == Some(&0.into())
    }

    /// All that it wrote.
    pub(crate) fn log(&self) -> String {
        let outcome = run(&mut docker(["logs", self.id()]));
        outcome.stdout + &outcome.stderr
    }

    /// What it is, in a line.
    pub(crate) fn told(&self) -> String {
        format!("{}: {}", self.service(), self.inspected["State"])
    }

    fn text(&self, pointer: &str) -> &str {
        self.inspected.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}
