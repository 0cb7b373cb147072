//! `bootstrap verify`: least privilege, proven on the running server.
//!
//! As each service it asks by which rules the server judges it, and what it may do to chosen paths, and compares both
//! with what the policies' files grant, for every path there is. What the files grant is computed here and never asked
//! of the server; see [`policy`].

mod deviation;
mod login;
mod paths;
mod report;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_runtime::{Exit, Failure, Shutdown, Stopped};
use approle_session::CredentialsError;
use tokio::time::Instant;
use vault_client::{VaultClient, VaultError, sys};

use crate::BootstrapError;
use crate::args::Verification;
use crate::concurrent::for_each;
use crate::desired::{POLICY_FILE, policy_texts};
use crate::policy::{self, PathRule, PolicyError};

use deviation::Judgement;
use login::{Login, Questions};

/// Why nothing is proven of a service.
#[derive(Debug, thiserror::Error)]
enum VerifyError {
    #[error("{}: what it grants cannot be told", file.display())]
    Policy {
        file: PathBuf,
        #[source]
        cause: PolicyError,
    },
    #[error("{}: line {line}: what the path {path:?} grants depends on {on}, so that nothing can be expected", file.display())]
    Depends { file: PathBuf, line: usize, path: String, on: &'static str },
    #[error("there are no credentials to log in with; bootstrap apply delivers them")]
    NoCredentials(#[source] CredentialsError),
    #[error("it cannot log in; where it is refused, see bootstrap plan")]
    Login(#[source] VaultError),
    #[error("Vault does not tell what its token may do; a token is not good outside its role's CIDR blocks")]
    Ask(#[source] VaultError),
    #[error("Vault grants it {capability:?} on {path}, which this version does not know")]
    UnknownCapability { path: String, capability: String },
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Failure for VerifyError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoCredentials(CredentialsError::File(error)) => error.exit(),
            Self::Policy { .. }
            | Self::Depends { .. }
            | Self::NoCredentials(CredentialsError::NotACredential(_)) => Exit::Config,
            Self::Login(VaultError::Refused { .. }) => Exit::Denied,
            Self::Login(error) | Self::Ask(error) => error.exit(),
            Self::UnknownCapability { .. } => Exit::Failed,
            Self::Stopped(stopped) => stopped.exit(),
        }
    }
}

/// One service and what came of it.
struct Verified {
    service: String,
    result: Result<Judgement, VerifyError>,
}

/// Verifies every service that has a policy.
pub(crate) async fn command(
    client: &VaultClient,
    args: &Verification,
    shutdown: &Shutdown,
) -> Result<Exit, BootstrapError> {
    let texts = policy_texts(&args.policies_dir)?;
    let rules: BTreeMap<String, _> = texts
        .into_iter()
        .map(|(service, text)| {
            let file = args.policies_dir.join(format!("{service}{POLICY_FILE}"));
            let rules = rules(&file, &text);
            (service, rules)
        })
        .collect();
    let services: Vec<String> = rules.keys().cloned().collect();
    let readable: Vec<&PathRule> = rules.values().flatten().flatten().collect();
    let mounts = paths::Mounts { kv: &args.kv_mount, approle: &args.approle_mount };
    let paths = Arc::new(paths::all(&services, &readable, mounts));

    shutdown
        .or_stop(sys::unsealed(client, Instant::now() + args.wait))
        .await?
        .map_err(BootstrapError::vault("waiting for Vault to answer and to be unsealed"))?;
    let proven = for_each(
        "verifying services",
        rules.into_iter().enumerate().collect(),
        |(index, (service, rules))| {
            let (paths, shutdown) = (Arc::clone(&paths), shutdown.clone());
            let rules = rules.map(|rules| {
                let chosen = paths::chosen(&services, index, &rules, mounts);
                (Questions { all: Arc::clone(&paths), chosen }, rules)
            });
            let login = Login {
                client: client.clone(),
                mount: args.approle_mount.clone(),
                directory: args.approle_dir.join(&service),
                patience: args.wait,
            };
            async move {
                let result = match rules {
                    Ok((questions, rules)) => {
                        let answers = login.ask(&service, &questions, &shutdown).await;
                        answers.map(|answers| deviation::judge(&service, &rules, answers, &paths))
                    }
                    Err(error) => Err(error),
                };
                Ok::<_, Infallible>(Verified { service, result })
            }
        },
    );
    let Ok(verified) = proven.await;
    if shutdown.is_ordered() {
        return Err(shutdown.ordered().await.into());
    }
    let text = if args.json {
        report::json(&verified, &paths, &args.kv_mount)
    } else {
        report::text(&verified, &paths, &args.kv_mount)
    };
    agent_runtime::print(&text)?;
    Ok(exit(&verified))
}

fn rules(file: &Path, text: &str) -> Result<Vec<PathRule>, VerifyError> {
    let rules = policy::parse(text).map_err(|cause| VerifyError::Policy { file: file.to_owned(), cause })?;
    let on = |rule: &PathRule| match (rule.is_templated(), rule.expires) {
        (true, _) => Some("who asks"),
        (false, true) => Some("the time"),
        (false, false) => None,
    };
    match rules.iter().find_map(|rule| Some((rule, on(rule)?))) {
        Some((rule, on)) => {
            Err(VerifyError::Depends { file: file.to_owned(), line: rule.line, path: rule.path.clone(), on })
        }
        None => Ok(rules),
    }
}

/// A deviation is the gravest: it is there, whatever could not be proven besides.
fn exit(verified: &[Verified]) -> Exit {
    let judged = verified.iter().filter_map(|verified| verified.result.as_ref().ok());
    if judged.into_iter().any(|judgement| !judgement.is_exact()) {
        return Exit::Failed;
    }
    let failure = verified.iter().find_map(|verified| verified.result.as_ref().err());
    failure.map_or(Exit::Done, Failure::exit)
}
