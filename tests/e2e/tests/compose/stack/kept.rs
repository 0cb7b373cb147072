//! What a stack keeps: asked of its Vault and of its volumes.

use std::process::Stdio;

use harness::Canary;
use serde_json::Value;

use super::Stack;
use crate::engine::{docker, lines, secretly_told, told};

impl Stack {
    /// A script in Vault's container with root's rights: `$bao` is the server's program. What it prints is off the record.
    #[track_caller]
    pub(crate) fn ask_vault(&self, script: &str) -> String {
        let script = format!(
            "read -r VAULT_TOKEN; export VAULT_TOKEN; bao=$(command -v bao || command -v vault); {script}"
        );
        let vault = self.container("vault");
        let mut command = docker(["exec", "--interactive", vault.id(), "sh", "-euc", &script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), (self.root_token() + "\n").as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}: {}\n{}", output.status, self.story());
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the secret of this name holds.
    pub(crate) fn secret(&self, name: &str) -> Value {
        let told = self.ask_vault(&format!("$bao kv get -format=json -mount=secret {name}"));
        serde_json::from_str::<Value>(&told).unwrap()["data"]["data"].clone()
    }

    pub(crate) fn root_token(&self) -> String {
        secretly_told(&mut self.as_root(&[&self.mounted("vault-root")], "cat /vault-root/root-token"))
    }

    /// The option that mounts one of the stack's volumes at `/<name>`.
    pub(crate) fn mounted(&self, volume: &str) -> String {
        format!("--volume={}_{volume}:/{volume}", self.project)
    }

    /// The files of a volume with their content's digests, and with owner and mode.
    pub(crate) fn listing(&self, volume: &str) -> String {
        let script = format!(
            "cd /{volume}; find . -type f | sort | xargs -r stat -c '%n %a %u:%g'; \
                              find . -type f | sort | xargs -r sha256sum"
        );
        told(&mut self.as_root(&[&self.mounted(volume)], &script))
    }

    /// Everything that is secret here: the values of the `.env` file and those that were made up, the key shares, the root
    /// token and the credentials.
    pub(crate) fn canary(&self) -> Canary {
        let mut canary = Canary::default();
        let telling =
            |name: &str| ["PASSWORD", "SECRET", "ENCRYPTION_KEY"].iter().any(|part| name.contains(part));
        for service in ["auth", "kibana", "grafana", "user", "chat", "game", "notification", "elasticsearch"]
        {
            for (name, value) in self.secret(service).as_object().unwrap() {
                if telling(name) {
                    canary.add(name, value.as_str().unwrap());
                }
            }
        }
        let volumes =
            ["vault-keys", "vault-root", "bootstrap", "approle-user", "approle-user_db", "approle-chat"];
        let options: Vec<_> = volumes.map(|volume| self.mounted(volume)).into();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let script = format!(
            "for file in $(find {} -type f ! -name role_id ! -name accessor ! -name '*.json' ! -name '*.age'); do \
                              echo \"$file $(cat $file)\"; done",
            volumes.map(|name| format!("/{name}")).join(" ")
        );
        let files = secretly_told(&mut self.as_root(&options, &script));
        for (name, value) in lines(&files).into_iter().filter_map(|line| line.split_once(' ')) {
            if value.len() >= 16 {
                canary.add(name, value);
            }
        }
        canary
    }
}

/// What must never be made anew.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Kept {
    keys: String,
    root_token: String,
    cluster: String,
    secrets: String,
}

impl Kept {
    /// All of it but the root token, which was made anew.
    pub(crate) fn without_root(mut self) -> Self {
        self.root_token.clear();
        self
    }

    pub(crate) fn of(stack: &Stack) -> Self {
        let status: Value = serde_json::from_str(&stack.ask_vault("$bao status -format=json")).unwrap();
        Self {
            keys: stack.listing("vault-keys"),
            root_token: stack.listing("vault-root"),
            cluster: status["cluster_id"].to_string(),
            secrets: stack.ask_vault(
                "for name in auth user chat_db; do \
                   $bao kv metadata get -format=json -mount=secret $name | grep -v request_id; \
                 done",
            ),
        }
    }
}
