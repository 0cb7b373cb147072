//! Which secrets there are, and the search for them where none may be.

use std::fs;
use std::path::Path;

use harness::{Canary, Finding, Postgres, Vault};

use super::proof::{Service, root_token};
use super::screen::Screen;
use super::stage::Stage;
use crate::error::{Error, Result};

/// Parts of the names of keys whose values are secret.
const MARKS: [&str; 4] = ["PASS", "SECRET", "TOKEN", "KEY"];
/// A shorter value may turn up anywhere.
const SHORTEST: usize = 8;

/// The secrets that the stack has so far.
#[derive(Default)]
pub(super) struct Secrets {
    canary: Canary,
    count: usize,
}

impl Secrets {
    /// Those that are there before the crew begins.
    pub(super) fn of_stage(stage: &Stage) -> Result<Self> {
        let mut secrets = Self::default();
        secrets.add_file("the superuser's password", &stage.superuser_password())?;
        let env = stage.env_file();
        let text = fs::read_to_string(&env).map_err(Error::io(format!("read {}", env.display())))?;
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            secrets.add_keyed(key.trim_start_matches("export "), value.trim().trim_matches(['\'', '"']));
        }
        Ok(secrets)
    }

    /// The unsealer's: shares, root token, break-glass credential.
    pub(super) fn add_keys(&mut self, stage: &Stage) -> Result<()> {
        self.add("the root token", root_token(stage)?.trim_end());
        for share in 1..=5 {
            self.add_file(&format!("key share {share}"), &stage.keys().join(format!("unseal-key-{share}")))?;
        }
        self.add_file("the break-glass secret_id", &stage.keys().join("break-glass/secret_id"))
    }

    /// The services': what Vault holds for them, and what they log in with.
    pub(super) fn add_services(&mut self, stage: &Stage, services: &[Service]) -> Result<()> {
        self.add_file("bootstrap's secret_id", &stage.bootstrap_state().join("secret_id"))?;
        for service in services {
            for (key, value) in &service.secret {
                self.add_keyed(key, value);
            }
            let file = stage.approle().join(&service.name).join("secret_id");
            self.add_file(&format!("the secret_id of {}", service.name), &file)?;
        }
        Ok(())
    }

    pub(super) fn canary(&self) -> &Canary {
        &self.canary
    }

    /// Searches everything that the run wrote and showed; the first finding is an error.
    pub(super) fn search(
        &self,
        stage: &Stage,
        vault: &Vault,
        postgres: &Postgres,
        screen: &Screen,
        watched: Option<Finding>,
    ) -> Result<String> {
        let canary = &self.canary;
        let found = watched
            .or_else(|| canary.scan_runs())
            .or_else(|| canary.scan("Vault's log", vault.log().as_bytes()))
            .or_else(|| canary.scan("PostgreSQL's log", postgres.log().as_bytes()))
            .or_else(|| canary.scan("what was shown", screen.shown().as_bytes()))
            .or_else(|| canary.scan_files(&stage.dir().join("run")))
            .or_else(|| canary.scan_command_lines());
        match found {
            Some(finding) => Err(Error::Failed {
                doing: "keep secrets out of outputs, logs and command lines".to_owned(),
                said: format!("found {finding}"),
            }),
            None => Ok(format!("none of {} in any output, log, status file or command line", self.count)),
        }
    }

    fn add_keyed(&mut self, key: &str, value: &str) {
        if value.len() >= SHORTEST && MARKS.iter().any(|mark| key.contains(mark)) {
            self.add(key, value);
        }
    }

    fn add_file(&mut self, name: &str, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))?;
        self.add(name, text.trim_end());
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) {
        self.canary.add(name, value);
        self.count += 1;
    }
}
