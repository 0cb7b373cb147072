//! One login of a service: what its token may do, and the token's end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agent_runtime::Shutdown;
use approle_session::Credentials;
use tokio::time::Instant;
use vault_client::{VaultClient, approle, capabilities, token};

use crate::policy::{Capabilities, Capability};

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

/// What the server says.
pub(super) struct Answers {
    /// Path → what may be done to it.
    pub(super) granted: BTreeMap<String, Capabilities>,
    /// The policies that the token carries.
    pub(super) policies: Vec<String>,
}

impl Login {
    /// Logs in, once and never again, asks, and revokes the token whatever came of it.
    pub(super) async fn ask(
        self,
        service: &str,
        paths: &[String],
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
        let answer = shutdown.or_stop(capabilities::of_self(&own, paths, by)).await;

        let by = if shutdown.is_ordered() { Instant::now() + FAREWELL } else { own.soon() };
        if let Err(error) = token::revoke_self(&own, by).await {
            tracing::warn!("the token of {service} was not revoked and ends by its own TTL: {error}");
        }
        let granted = answer?.map_err(VerifyError::Ask)?;
        let granted = granted.into_iter().map(|(path, names)| {
            let capabilities = understood(&path, &names)?;
            Ok((path, capabilities))
        });
        Ok(Answers { granted: granted.collect::<Result<_, VerifyError>>()?, policies: auth.policies })
    }
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
    fn a_capability_that_is_not_known_proves_nothing() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(understood("a", &names(&["deny"])).unwrap().is_none());
        assert_eq!(understood("a", &names(&["update", "read"])).unwrap().to_string(), "read, update");
        let error = understood("a", &names(&["read", "fly\u{7}"])).unwrap_err().to_string();
        assert!(error.contains("\"fly\" on a"), "{error}");
    }
}
