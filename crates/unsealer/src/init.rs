//! Initialising, once.

use std::time::Duration;

use agent_runtime::{Exit, Failure};
use boot_clock::{BootTime, sleep_until};
use vault_client::{VaultClient, VaultError, sys};

use crate::UnsealerError;
use crate::key_store::{KeyStore, KeyStoreError, Stored};

/// How many key shares are made.
const SHARES: u8 = 5;

/// How many of them unseal.
const THRESHOLD: u8 = 3;

/// Between two attempts to store the answer.
const KEEP_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The node that is initialised; the others join it. Two inits make two clusters, `retry_join` or not.
pub(crate) const INIT_NODE: usize = 0;

/// Why there is no initialised Vault whose keys are here.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A request failed.
    #[error("Vault could not be initialised")]
    Vault(#[source] VaultError),
    /// The keys cannot be kept, or not be read.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// The answer to an earlier request never came, and the server was initialised, by that or by somebody else.
    #[error(
        "this Vault is initialised, and its keys were never received: an earlier start was cut off between the \
         request and the answer. If somebody else initialised it meanwhile, put their keys into that directory and \
         remove {journal}. If not, nobody has its keys and it holds nothing yet: to begin anew, stop Vault, empty \
         its storage, remove {journal} and start both again"
    )]
    AnswerLost {
        /// The note that the earlier start left.
        journal: String,
    },
    /// The server is initialised, and its keys are elsewhere.
    #[error(
        "this Vault is initialised, but {keys_dir} holds no keys for it: mount or copy the directory with \
         unseal-key-1 to -5 of this Vault there; nothing will be initialised or overwritten"
    )]
    KeysElsewhere {
        /// The keys directory.
        keys_dir: String,
    },
    /// There are keys, but the server is not initialised.
    #[error(transparent)]
    Occupied(KeyStoreError),
}

impl Failure for InitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Vault(error) => error.exit(),
            Self::KeyStore(error) | Self::Occupied(error) => error.exit(),
            Self::AnswerLost { .. } | Self::KeysElsewhere { .. } => Exit::Config,
        }
    }
}

/// What [`ensure`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initialised {
    /// It was initialised by this call, or its keys were split by it.
    Now,
    /// It was initialised before, and its keys are here.
    Before,
    /// It was initialised before, and its keys are not here; it may not need them.
    Elsewhere {
        /// Whether anything has to be unsealed, and by shares.
        needs_keys: bool,
    },
}

/// `unsealer init`.
pub(crate) async fn command(client: &VaultClient, store: &KeyStore) -> Result<Exit, UnsealerError> {
    let text = match ensure(client, store).await? {
        Initialised::Now => format!("initialised; {SHARES} key shares are in {}\n", store.path().display()),
        Initialised::Before => format!("initialised already; its keys are in {}\n", store.path().display()),
        Initialised::Elsewhere { needs_keys: false } => {
            "initialised already, and unseals itself\n".to_owned()
        }
        Initialised::Elsewhere { needs_keys: true } => return Err(InitError::keys_elsewhere(store).into()),
    };
    agent_runtime::print(&text)?;
    Ok(Exit::Done)
}

/// Makes sure that Vault is initialised and its keys are in the store, finishing what an earlier run began.
pub(crate) async fn ensure(client: &VaultClient, store: &KeyStore) -> Result<Initialised, InitError> {
    let stored = store.stored()?;
    if let Stored::Received = stored {
        tracing::warn!("an earlier start was cut off after the initialisation: splitting the answer it kept");
        store.split()?;
        return Ok(Initialised::Now);
    }
    let status = sys::seal_status(client, INIT_NODE, client.soon()).await.map_err(InitError::Vault)?;
    match (status.initialized, stored) {
        (true, Stored::Keys(_)) => Ok(Initialised::Before),
        (true, Stored::Requested) => {
            Err(InitError::AnswerLost { journal: store.path().join("init-requested").display().to_string() })
        }
        (true, _) => Ok(Initialised::Elsewhere { needs_keys: status.is_unsealed_by_shares() }),
        (false, Stored::Keys(shares)) => {
            let first = shares.first().map_or(1, |share| share.number);
            let path = store.path().join(format!("unseal-key-{first}"));
            Err(InitError::Occupied(KeyStoreError::Occupied { path }))
        }
        (false, _) => {
            initialise(client, store).await?;
            Ok(Initialised::Now)
        }
    }
}

async fn initialise(client: &VaultClient, store: &KeyStore) -> Result<(), InitError> {
    store.prepare()?;
    tracing::info!("initialising Vault with {SHARES} key shares, threshold {THRESHOLD}");
    let reply = match sys::init(client, INIT_NODE, SHARES, THRESHOLD).await {
        Ok(reply) => reply,
        Err(error) => {
            // A clear refusal (another init was first) made no keys. After anything else they may exist.
            if error.certainly_undone() {
                store.withdraw()?;
            }
            return Err(InitError::Vault(error));
        }
    };
    keep(store, &reply.body).await;
    store.split()?;
    tracing::info!("the key shares are in {}", store.path().display());
    Ok(())
}

/// Puts the answer on the disk, however long that takes: until then this process holds the only copy.
async fn keep(store: &KeyStore, body: &[u8]) {
    while let Err(error) = store.keep_response(body) {
        tracing::error!(
            "{}. THE KEYS OF THIS VAULT ARE IN THE MEMORY OF THIS PROCESS ALONE: do not stop it, mend this, and it \
             goes on",
            agent_runtime::with_causes(&error)
        );
        sleep_until(BootTime::now() + KEEP_AGAIN_AFTER).await;
    }
}

impl InitError {
    pub(crate) fn keys_elsewhere(store: &KeyStore) -> Self {
        Self::KeysElsewhere { keys_dir: store.path().display().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vault_client::Settings;
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    const ANSWER: &str = r#"{"keys_base64":["a","b","c","d","e"],"root_token":"s.canary"}"#;

    /// What a store says and holds after one attempt at a server that answers `sys/init` by `answer`.
    async fn attempt(
        answer: ResponseTemplate,
    ) -> (Result<Initialised, InitError>, KeyStore, tempfile::TempDir) {
        let server = MockServer::start().await;
        let status =
            json!({ "type": "shamir", "initialized": false, "sealed": true, "t": 0, "n": 0, "progress": 0 });
        Mock::given(path("/v1/sys/seal-status"))
            .respond_with(ResponseTemplate::new(200).set_body_json(status))
            .mount(&server)
            .await;
        Mock::given(method("POST"))
            .and(path("/v1/sys/init"))
            .respond_with(answer)
            .expect(1)
            .mount(&server)
            .await;
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::open(&dir.path().join("keys"), &dir.path().join("root/root-token")).unwrap();
        let settings = Settings {
            addresses: vec![server.uri().parse().unwrap()],
            ca_certificates: None,
            client_identity: None,
            tls_server_name: None,
            namespace: None,
            timeout: Duration::from_secs(2),
        };
        let result = ensure(&VaultClient::new(&settings).unwrap(), &store).await;
        if let Err(error) = &result {
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        (result, store, dir)
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_split() {
        let (result, store, _dir) = attempt(ResponseTemplate::new(200).set_body_string(ANSWER)).await;
        assert_eq!(result.unwrap(), Initialised::Now);
        assert!(matches!(store.stored().unwrap(), Stored::Keys(shares) if shares.len() == 5));
    }

    #[tokio::test]
    async fn after_a_clear_refusal_the_next_start_may_try_again() {
        let refused = ResponseTemplate::new(400).set_body_json(json!({ "errors": ["already initialized"] }));
        let (result, store, _dir) = attempt(refused).await;
        assert!(matches!(result, Err(InitError::Vault(VaultError::Refused { .. }))));
        assert!(matches!(store.stored().unwrap(), Stored::Nothing));
    }

    #[tokio::test]
    async fn a_slow_answer_is_waited_for() {
        let slow = ResponseTemplate::new(200).set_body_string(ANSWER).set_delay(Duration::from_millis(2500));
        let (result, ..) = attempt(slow).await;
        assert_eq!(result.unwrap(), Initialised::Now);
    }

    #[tokio::test]
    async fn after_an_answer_that_never_came_it_is_known_that_it_was_asked_for() {
        for answer in [ResponseTemplate::new(500), ResponseTemplate::new(307).insert_header("location", "/")]
        {
            let (result, store, _dir) = attempt(answer).await;
            assert!(matches!(result, Err(InitError::Vault(_))));
            assert!(matches!(store.stored().unwrap(), Stored::Requested));
        }
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_is_kept_as_it_came() {
        for body in
            ["", &ANSWER[..40], "<html>canary</html>", r#"{"keys_base64":[],"root_token":"s.canary"}"#]
        {
            let (result, store, dir) = attempt(ResponseTemplate::new(200).set_body_string(body)).await;
            assert!(matches!(result, Err(InitError::KeyStore(KeyStoreError::Response { .. }))), "{body}");
            assert!(matches!(store.stored().unwrap(), Stored::Received));
            assert_eq!(std::fs::read_to_string(dir.path().join("keys/init-response.json")).unwrap(), body);
        }
    }
}
