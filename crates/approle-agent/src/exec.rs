//! Becoming the command.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use secrecy::ExposeSecret as _;

use crate::AgentError;
use crate::args::EnvironmentArgs;
use crate::secrets::Secrets;

/// What the command has no use for: which Vault, and how to log in there.
const SCRUBBED: [&str; 3] = ["VAULT_", "BAO_", "VAULTCREW_"];

/// Replaces this process by the command. Returns only where that fails.
pub(crate) fn become_command(command: &[OsString], args: &EnvironmentArgs, secrets: &Secrets) -> AgentError {
    // The argument parser lets no empty command through.
    let Some((program, arguments)) = command.split_first() else {
        let cause = io::ErrorKind::NotFound.into();
        return AgentError::Command { command: OsString::new(), cause };
    };
    let environment = match environment(std::env::vars_os(), args, secrets) {
        Ok(environment) => environment,
        Err(error) => return error,
    };
    agent_runtime::restore_core_dumps();
    let cause = Command::new(program).args(arguments).env_clear().envs(environment).exec();
    AgentError::Command { command: program.clone(), cause }
}

/// The command's environment: what there was, without [`SCRUBBED`], and the secrets.
fn environment(
    inherited: impl Iterator<Item = (OsString, OsString)>,
    args: &EnvironmentArgs,
    secrets: &Secrets,
) -> Result<BTreeMap<OsString, OsString>, AgentError> {
    let scrubbed =
        |name: &OsStr| SCRUBBED.iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
    let mut environment: BTreeMap<_, _> = inherited.filter(|(name, _)| !scrubbed(name)).collect();
    if args.no_env {
        return Ok(environment);
    }
    for (key, value) in secrets.iter() {
        let unusable = |why| AgentError::Variable { key: key.to_owned(), why };
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(unusable("its name is empty or contains = or NUL"));
        }
        if value.expose_secret().contains('\0') {
            return Err(unusable("its value contains NUL"));
        }
        let set = environment.get(OsStr::new(key)).is_some_and(|value| !value.is_empty());
        if set && !args.overwrite_env {
            tracing::warn!(
                "{key} is set already and stays as it is; --overwrite-env lets the secret replace it"
            );
            continue;
        }
        environment.insert(key.into(), value.expose_secret().into());
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(no_env: bool, overwrite_env: bool, secrets: &[(&str, &str)]) -> Result<Vec<String>, AgentError> {
        let inherited = [
            ("PATH", "/bin"),
            ("VAULT_ADDR", "x"),
            ("BAO_TOKEN", "x"),
            ("VAULTCREW_WAIT", "1s"),
            ("SET", "old"),
            ("EMPTY", ""),
        ];
        let inherited = inherited.map(|(name, value)| (name.into(), value.into())).into_iter();
        let args = EnvironmentArgs { no_env, overwrite_env };
        let environment = environment(inherited, &args, &Secrets::of(secrets))?;
        let text = |(name, value): (OsString, OsString)| format!("{}={}", name.display(), value.display());
        Ok(environment.into_iter().map(text).collect())
    }

    #[test]
    fn secrets_join_what_there_is_and_vault_is_scrubbed() {
        let secrets = [("SET", "new"), ("EMPTY", "full"), ("KEY", "a b")];
        assert_eq!(of(false, false, &secrets).unwrap(), ["EMPTY=full", "KEY=a b", "PATH=/bin", "SET=old"]);
        assert_eq!(of(false, true, &secrets).unwrap(), ["EMPTY=full", "KEY=a b", "PATH=/bin", "SET=new"]);
        assert_eq!(of(true, true, &secrets).unwrap(), ["EMPTY=", "PATH=/bin", "SET=old"]);
    }

    #[test]
    fn what_the_environment_cannot_carry_is_named() {
        for (key, value) in [("", "canary"), ("A=B", "canary"), ("KEY", "can\0ary-canary")] {
            let error = of(false, false, &[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(key) && !error.contains("canary"), "{error}");
        }
    }
}
