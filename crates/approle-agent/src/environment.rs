//! What CMD finds in its environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process::Command;

use secrecy::{ExposeSecret as _, SecretString};

use crate::AgentError;
use crate::args::EnvironmentArgs;
use crate::select::Variables;

/// What CMD has no use for, unless it talks to Vault itself: which one, and how to log in there.
const VAULT: [&str; 2] = ["VAULT_", "BAO_"];

/// What speaks to the crew alone.
const CREW: &str = "VAULTCREW_";

/// Credentials that were this program's: CMD gets its own or none.
const CREDENTIALS: [&str; 5] =
    ["VAULT_TOKEN", "BAO_TOKEN", "VAULT_ROLE_ID", "VAULT_SECRET_ID", "VAULT_WRAPPING_TOKEN"];

/// A command's whole environment.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// The keys of secrets whose variables were set already.
    kept: Vec<String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.variables.keys()).finish()
    }
}

/// How an environment is made of the one that this program was started with.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) with_secrets: bool,
    pub(crate) overwrite: bool,
    /// CMD is given a token, by whatever way: it has to know for which Vault.
    pub(crate) speaks_to_vault: bool,
}

impl Rules {
    /// Where there is no command that would be given one.
    pub(crate) const NO_COMMAND: Self =
        Self { with_secrets: false, overwrite: false, speaks_to_vault: false };

    pub(crate) const fn new(args: &EnvironmentArgs, speaks_to_vault: bool) -> Self {
        Self { with_secrets: !args.no_env, overwrite: args.overwrite_env, speaks_to_vault }
    }

    pub(crate) const fn without_secrets(self) -> Self {
        Self { with_secrets: false, ..self }
    }

    /// What there was, without what is not CMD's business, and the secrets.
    pub(crate) fn make(
        &self,
        inherited: impl Iterator<Item = (OsString, OsString)>,
        variables: &Variables,
    ) -> Result<Environment, AgentError> {
        let passing = inherited.filter(|(name, _)| self.lets_pass(name));
        let mut environment = Environment { variables: passing.collect(), kept: Vec::new() };
        if !self.with_secrets {
            return Ok(environment);
        }
        for (key, value) in variables.iter() {
            check(key, value)?;
            let found = environment.variables.get(OsStr::new(key));
            if found.is_some_and(|value| !value.is_empty()) && !self.overwrite {
                environment.kept.push(key.to_owned());
            } else {
                environment.variables.insert(key.into(), value.expose_secret().into());
            }
        }
        Ok(environment)
    }

    fn lets_pass(&self, name: &OsStr) -> bool {
        let begins_with = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        let is_credential = CREDENTIALS.iter().any(|credential| name == *credential);
        let is_vaults = VAULT.iter().any(|prefix| begins_with(prefix));
        !is_credential && !begins_with(CREW) && (self.speaks_to_vault || !is_vaults)
    }
}

impl Environment {
    /// With the token that CMD is to have for itself.
    pub(crate) fn with_token(mut self, token: &SecretString) -> Self {
        self.variables.insert("VAULT_TOKEN".into(), token.expose_secret().into());
        self
    }

    /// The command, ready to be started with this environment and no other.
    pub(crate) fn command(&self, command: &[OsString]) -> Result<Command, AgentError> {
        // The argument parser lets no empty command through.
        let Some((program, arguments)) = command.split_first() else {
            let cause = std::io::ErrorKind::NotFound.into();
            return Err(AgentError::Command { command: OsString::new(), cause });
        };
        for key in &self.kept {
            tracing::warn!(
                "{key} is set already and stays as it is; --overwrite-env lets the secret replace it"
            );
        }
        let mut prepared = Command::new(program);
        prepared.args(arguments).env_clear().envs(&self.variables);
        Ok(prepared)
    }
}

fn check(key: &str, value: &SecretString) -> Result<(), AgentError> {
    let unusable = |why| AgentError::Variable { key: key.to_owned(), why };
    if key.is_empty() || key.contains(['=', '\0']) {
        return Err(unusable("its name is empty or contains = or NUL"));
    }
    if value.expose_secret().contains('\0') {
        return Err(unusable("its value contains NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Rules = Rules { with_secrets: true, overwrite: false, speaks_to_vault: false };

    fn of(rules: &Rules, secrets: &[(&str, &str)]) -> Result<Vec<String>, AgentError> {
        let inherited = [
            ("PATH", "/bin"),
            ("VAULT_ADDR", "x"),
            ("VAULT_TOKEN", "x"),
            ("BAO_TOKEN", "x"),
            ("VAULTCREW_WAIT", "1s"),
            ("SET", "old"),
            ("EMPTY", ""),
        ];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into())).into_iter();
        let environment = rules.make(inherited, &Variables::of(secrets))?;
        let text = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        Ok(environment.variables.into_iter().map(text).collect())
    }

    #[test]
    fn secrets_join_what_there_is_and_vault_is_scrubbed() {
        let secrets = [("SET", "new"), ("EMPTY", "full"), ("KEY", "a b")];
        assert_eq!(of(&QUIET, &secrets).unwrap(), ["EMPTY=full", "KEY=a b", "PATH=/bin", "SET=old"]);
        let overwrite = Rules { overwrite: true, ..QUIET };
        assert_eq!(of(&overwrite, &secrets).unwrap(), ["EMPTY=full", "KEY=a b", "PATH=/bin", "SET=new"]);
        let without = Rules { with_secrets: false, ..overwrite };
        assert_eq!(of(&without, &secrets).unwrap(), ["EMPTY=", "PATH=/bin", "SET=old"]);
    }

    #[test]
    fn a_command_with_a_token_knows_for_which_vault() {
        let speaking = Rules { speaks_to_vault: true, ..QUIET };
        assert_eq!(of(&speaking, &[]).unwrap(), ["EMPTY=", "PATH=/bin", "SET=old", "VAULT_ADDR=x"]);
        let environment = speaking.make(std::iter::empty(), &Variables::of(&[])).unwrap();
        let environment = environment.with_token(&"canary".into());
        assert_eq!(format!("{environment:?}"), "[\"VAULT_TOKEN\"]");
    }

    #[test]
    fn what_the_environment_cannot_carry_is_named() {
        for (key, value) in [("", "canary"), ("A=B", "canary"), ("KEY", "can\0ary-canary")] {
            let error = of(&QUIET, &[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && !error.contains("canary"), "{error}");
        }
    }
}
