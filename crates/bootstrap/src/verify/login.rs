//! One login of a service: what its token may do, and the token's end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::Shutdown;
use approle_session::Credentials;
use tokio::time::Instant;
use vault_client::capabilities::{self, Granted, OwnRules};
use vault_client::{VaultClient, VaultError, approle, token};

use crate::policy::{Capabilities, Capability, PathRule};

use super::VerifyError;

/// What a program that is told to stop leaves a login to end by itself, and then the revocation of its token: it
/// has ten seconds in all.
const GRACE: Duration = Duration::from_secs(3);
const FAREWELL: Duration = Duration::from_secs(2);

/// With what to log in.
pub(super) struct Login {
    pub(super) client: VaultClient,
    /// The AppRole mount, below `auth/`.
    pub(super) mount: String,
    /// Where the credentials lie.
    pub(super) directory: PathBuf,
    /// How long a Vault that went away meanwhile is waited for.
    pub(super) patience: Duration,
}

/// Which paths there are to ask about.
pub(super) struct Questions {
    pub(super) all: Arc<Vec<String>>,
    /// Those that are asked about where the server tells its rules, as a proof of these, and for the rules that it does
    /// not tell.
    pub(super) chosen: Vec<String>,
}

/// What the server says.
pub(super) struct Answers {
    /// By which rules it judges the token, save those with a `+`; `None` where it does not tell.
    pub(super) rules: Option<Vec<PathRule>>,
    /// Path → what may be done to it, for each that was asked about.
    pub(super) granted: BTreeMap<String, Capabilities>,
    /// The policies that the token carries.
    pub(super) policies: Vec<String>,
}

impl Login {
    /// Logs in, once and never again, asks, and revokes the token whatever came of it.
    pub(super) async fn ask(
        self,
        service: &str,
        questions: &Questions,
        shutdown: &Shutdown,
    ) -> Result<Answers, VerifyError> {
        let Credentials { role_id, secret_id } =
            Credentials::read(&self.directory).map_err(VerifyError::NoCredentials)?;
        if shutdown.is_ordered() {
            return Err(shutdown.ordered().await.into());
        }
        let login = approle::login(&self.client, &self.mount, &role_id, &secret_id, self.client.soon());
        let auth = shutdown.or_stop_after(GRACE, login).await?.map_err(VerifyError::Login)?;
        let own = self.client.with_token(auth.client_token);
        let by = Instant::now() + self.patience;
        let answer = shutdown.or_stop(questions.ask(&own, by)).await;

        let by = if shutdown.is_ordered() { Instant::now() + FAREWELL } else { own.soon() };
        if let Err(error) = token::revoke_self(&own, by).await {
            tracing::warn!("the token of {service} was not revoked and ends by its own TTL: {error}");
        }
        let (rules, granted) = answer?.map_err(VerifyError::Ask)?;
        let granted = granted.into_iter().map(|(path, names)| {
            let capabilities = understood(&path, &names)?;
            Ok((path, capabilities))
        });
        let granted = granted.collect::<Result<_, VerifyError>>()?;
        Ok(Answers { rules: rules.map(path_rules).transpose()?, granted, policies: auth.policies })
    }
}

impl Questions {
    async fn ask(
        &self,
        own: &VaultClient,
        by: Instant,
    ) -> Result<(Option<OwnRules>, BTreeMap<String, Vec<String>>), VaultError> {
        let rules = capabilities::rules_of_self(own, by).await?;
        let paths = if rules.is_some() { &self.chosen } else { self.all.as_ref() };
        Ok((rules, capabilities::of_self(own, paths, by).await?))
    }
}

/// The server's rules as those of policies.
fn path_rules(told: OwnRules) -> Result<Vec<PathRule>, VerifyError> {
    let OwnRules { root, exact, prefixes } = told;
    let whole = exact.into_iter();
    let beginnings = prefixes.into_iter().map(|(prefix, granted)| (format!("{prefix}*"), granted));
    let everything = root.then(|| ("*".to_owned(), Granted { capabilities: vec!["root".to_owned()] }));
    let rule = |(path, Granted { capabilities }): (String, Granted)| {
        let denies = capabilities.iter().any(|name| name == "deny");
        let capabilities = understood(&path, &capabilities)?;
        Ok(PathRule { path, capabilities, denies, expires: false, line: 0 })
    };
    whole.chain(beginnings).chain(everything).map(rule).collect()
}

fn understood(path: &str, names: &[String]) -> Result<Capabilities, VerifyError> {
    let known = |name: &String| {
        Capability::parse(name).ok_or_else(|| VerifyError::UnknownCapability {
            path: path.to_owned(),
            capability: name.chars().filter(|letter| !letter.is_control()).take(40).collect(),
        })
    };
    names.iter().filter(|name| *name != "deny").map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_rules_are_those_of_policies() {
        let granted =
            |names: &[&str]| Granted { capabilities: names.iter().map(|name| (*name).to_owned()).collect() };
        let told = OwnRules {
            root: false,
            exact: [("a".to_owned(), granted(&["read"]))].into(),
            prefixes: [(String::new(), granted(&["deny"]))].into(),
        };
        let rules = path_rules(told).unwrap();
        let shown: Vec<String> =
            rules.iter().map(|rule| format!("{} {} {}", rule.path, rule.capabilities, rule.denies)).collect();
        assert_eq!(shown, ["a read false", "* nothing true"]);
        let root = path_rules(OwnRules { root: true, ..OwnRules::default() }).unwrap();
        assert_eq!(root[0].capabilities.to_string(), "root");
    }

    #[test]
    fn a_capability_that_is_not_known_proves_nothing() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(understood("a", &names(&["deny"])).unwrap().is_none());
        assert_eq!(understood("a", &names(&["update", "read"])).unwrap().to_string(), "read, update");
        let error = understood("a", &names(&["read", "fly\u{7}"])).unwrap_err().to_string();
        assert!(error.contains("\"fly\" on a"), "{error}");
    }
}
