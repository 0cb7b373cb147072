//! Commands as somebody types them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::{Stack, composes, variables};

impl Stack {
    /// A script as somebody would type it in `compose/`. There `docker compose` is the pinned one, with the stack's options.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let path = format!("{}:{}", self.docker_as_typed().display(), search_path());
        let of = |option: &str| {
            let values = self.options.iter().zip(self.options.iter().skip(1));
            values.filter(|(name, _)| *name == option).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        self.prepare(&mut command)
            .args(["-euo", "pipefail", "-c", script])
            .env_remove("COMPOSE")
            .env("COMPOSE_FILE", of("--file").join(":"))
            .env("COMPOSE_PROFILES", of("--profile").join(","))
            .env("P", &self.project)
            .env("PATH", path);
        command
    }

    /// A directory with a `docker` that knows `compose`.
    fn docker_as_typed(&self) -> PathBuf {
        let dir = self.dir.path().join("bin");
        let docker = harness::docker().unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" != compose ] || {{ shift; exec {} \"$@\"; }}\nexec {} \"$@\"\n",
            composes()[0].display(),
            docker.display()
        );
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("docker"), script).unwrap();
        fs::set_permissions(dir.join("docker"), fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }
}

fn search_path() -> String {
    variables().find(|(name, _)| name == "PATH").map(|(_, value)| value).unwrap_or_default()
}
