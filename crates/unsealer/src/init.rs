//! Initialising, once.

use std::time::Duration;

use agent_runtime::{Exit, Failure};
use boot_clock::{BootTime, sleep_until};
use serde_json::json;
use vault_client::{VaultClient, VaultError, sys};

use crate::key_store::{KeyStore, KeyStoreError, Place, Stored};
use crate::output::answer;
use crate::{UnsealerError, lock};

/// How many key shares are made.
pub(crate) const SHARES: u8 = 5;

/// How many of them unseal.
pub(crate) const THRESHOLD: u8 = 3;

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
        "this Vault is initialised, but {keys_dir} holds no keys for it: mount the directory with unseal-key-1 to -5 \
         of this Vault there, or take them in by unsealer adopt-keys; nothing will be initialised or overwritten"
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
    /// It was initialised before, and needs no keys: it unseals itself.
    UnsealsItself,
}

/// `unsealer init`.
pub(crate) async fn command(
    client: &VaultClient,
    store: &KeyStore,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let keys = store.path().display();
    let (what, text) = match ensure(client, store).await? {
        Initialised::Now => ("now", format!("initialised; {SHARES} key shares are in {keys}\n")),
        Initialised::Before => ("before", format!("initialised already; its keys are in {keys}\n")),
        Initialised::UnsealsItself => {
            ("unseals itself", "initialised already, and unseals itself\n".to_owned())
        }
    };
    answer(json, &json!({ "initialised": what, "keys_dir": store.path() }), &text, Exit::Done)
}

/// Makes sure that Vault is initialised and its keys are in the store, finishing what an earlier run began.
pub(crate) async fn ensure(client: &VaultClient, store: &KeyStore) -> Result<Initialised, InitError> {
    let _lock = lock::exclusively(store).await?;
    if finish(store)? {
        return Ok(Initialised::Now);
    }
    let status = sys::seal_status(client, INIT_NODE, client.soon()).await.map_err(InitError::Vault)?;
    match (status.initialized, store.stored()?) {
        (true, Stored::Keys) => Ok(Initialised::Before),
        (true, _) if !status.is_unsealed_by_shares() => Ok(Initialised::UnsealsItself),
        (true, Stored::Requested) => Err(InitError::answer_lost(store)),
        (true, _) => Err(InitError::keys_elsewhere(store)),
        (false, Stored::Keys) => Err(InitError::occupied(store)?),
        (false, stored) => {
            refuse_where_others_are_initialised(client, store).await?;
            let asked_before = stored == Stored::Requested;
            initialise(client, store, status.is_unsealed_by_shares(), asked_before).await?;
            Ok(Initialised::Now)
        }
    }
}

/// Splits an answer that an earlier run stored; `false` where there is none.
pub(crate) fn finish(store: &KeyStore) -> Result<bool, InitError> {
    match store.stored()? {
        Stored::Received => {
            tracing::warn!(
                "an earlier start was cut off after the initialisation: splitting the answer it kept"
            );
            store.split_init_response()?;
            Ok(true)
        }
        Stored::Keys => {
            store.settle_init()?;
            Ok(false)
        }
        Stored::Requested if store.recover_init_response()? => finish(store),
        Stored::Nothing | Stored::Requested => Ok(false),
    }
}

/// A node that has yet to join a cluster says that it is not initialised; initialising it would make another one.
async fn refuse_where_others_are_initialised(
    client: &VaultClient,
    store: &KeyStore,
) -> Result<(), InitError> {
    for node in (0..client.nodes().len()).filter(|&node| node != INIT_NODE) {
        // One that does not answer says nothing: at the first start the nodes come up one after another.
        if sys::seal_status(client, node, client.soon()).await.is_ok_and(|status| status.initialized) {
            return Err(InitError::keys_elsewhere(store));
        }
    }
    Ok(())
}

async fn initialise(
    client: &VaultClient,
    store: &KeyStore,
    by_shares: bool,
    asked_before: bool,
) -> Result<(), InitError> {
    store.prepare_init()?;
    tracing::info!("initialising Vault with {SHARES} key shares, threshold {THRESHOLD}");
    let reply = match sys::init(client, INIT_NODE, by_shares, SHARES, THRESHOLD).await {
        Ok(reply) => reply,
        // What an earlier start asked for was carried out only now: its answer is the one that is lost.
        Err(VaultError::Refused { .. }) if asked_before => return Err(InitError::answer_lost(store)),
        Err(error) => {
            // A clear refusal (another init was first) made no keys. After anything else they may exist.
            if error.certainly_undone() && !asked_before {
                store.withdraw_init()?;
            }
            return Err(InitError::Vault(error));
        }
    };
    keep(store, &reply.body).await;
    store.split_init_response()?;
    tracing::info!("the key shares are in {}", store.path().display());
    Ok(())
}

/// Puts the answer on the disk, however long that takes: until then this process holds the only copy.
async fn keep(store: &KeyStore, body: &[u8]) {
    while let Err(error) = store.keep_init_response(body) {
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

    pub(crate) fn answer_lost(store: &KeyStore) -> Self {
        Self::AnswerLost { journal: store.init_journal().display().to_string() }
    }

    pub(crate) fn occupied(store: &KeyStore) -> Result<Self, KeyStoreError> {
        let shares = store.shares(Place::Current)?;
        let first = shares.found.first().map(|share| share.path.clone());
        let path = first.unwrap_or_else(|| store.path().to_owned());
        Ok(Self::Occupied(KeyStoreError::Occupied { path }))
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
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::in_dir(dir.path());
        (attempt_with(answer, &store).await, store, dir)
    }

    async fn attempt_with(answer: ResponseTemplate, store: &KeyStore) -> Result<Initialised, InitError> {
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
        let settings = Settings {
            addresses: vec![server.uri().parse().unwrap()],
            ca_certificates: None,
            client_identity: None,
            tls_server_name: None,
            namespace: None,
            timeout: Duration::from_secs(2),
        };
        let result = ensure(&VaultClient::new(&settings).unwrap(), store).await;
        if let Err(error) = &result {
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        result
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_split() {
        let (result, store, _dir) = attempt(ResponseTemplate::new(200).set_body_string(ANSWER)).await;
        assert_eq!(result.unwrap(), Initialised::Now);
        assert!(store.shares(Place::Current).unwrap().found.len() == 5);
    }

    #[tokio::test]
    async fn after_a_clear_refusal_the_next_start_may_try_again() {
        let refused = ResponseTemplate::new(400).set_body_json(json!({ "errors": ["already initialized"] }));
        let (result, store, _dir) = attempt(refused).await;
        assert!(matches!(result, Err(InitError::Vault(VaultError::Refused { .. }))));
        assert!(matches!(store.stored().unwrap(), Stored::Nothing));
    }

    #[tokio::test]
    async fn a_refusal_does_not_hide_that_an_earlier_start_asked() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::in_dir(dir.path());
        store.prepare_init().unwrap();
        let refused = ResponseTemplate::new(400).set_body_json(json!({ "errors": ["already initialized"] }));
        let result = attempt_with(refused, &store).await;
        assert!(matches!(result, Err(InitError::AnswerLost { .. })));
        let failed = ResponseTemplate::new(403).set_body_json(json!({ "errors": ["no"] }));
        assert!(matches!(attempt_with(failed, &store).await, Err(InitError::Vault(_))));
        assert_eq!(store.stored().unwrap(), Stored::Requested);
    }

    #[tokio::test]
    async fn an_answer_that_was_written_and_has_no_name_yet_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::in_dir(dir.path());
        store.prepare_init().unwrap();
        let stray = dir.path().join("keys/..tmp-0123456789abcdef");
        std::fs::write(&stray, &ANSWER[..40]).unwrap();
        assert!(!finish(&store).unwrap());
        std::fs::write(&stray, ANSWER).unwrap();
        assert!(finish(&store).unwrap());
        assert_eq!(store.shares(Place::Current).unwrap().found.len(), 5);
        assert_eq!(store.stored().unwrap(), Stored::Keys);
    }

    #[test]
    fn a_hold_leaves_an_answer_that_has_no_name_yet() {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::in_dir(dir.path());
        store.prepare_init().unwrap();
        std::fs::write(dir.path().join("keys/..tmp-0123456789abcdef"), ANSWER).unwrap();
        assert!(store.hold(true).unwrap());
        assert!(finish(&store).unwrap());
        assert_eq!(store.shares(Place::Current).unwrap().found.len(), 5);
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
