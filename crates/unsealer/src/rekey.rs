//! `unsealer rekey`: new key shares for the same Vault.
//!
//! The server takes the new shares only once they were given back to it, and until then the old ones stay good. So
//! they are on the disk, read back and compared, before the server is asked to take them; the old ones stay there
//! until the new ones have unsealed. A kill anywhere leaves both sets, and neither is given up before the server has
//! taken the other one: by its verification, or by a root token that it made of them.

use agent_runtime::{Exit, Failure};
use serde_json::json;
use vault_client::rekey::{self, Verification};
use vault_client::{Reply, VaultClient, VaultError, sys};

use crate::init::{SHARES, THRESHOLD};
use crate::key_store::{KeyStore, KeyStoreError, Place, Rekey, Shares};
use crate::output::answer;
use crate::root::{self, Authority, RootError};
use crate::unseal::KeySets;
use crate::{UnsealerError, lock};

/// Why there are no new shares.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// There is nothing to replace.
    #[error("there are no key shares in {0} to be replaced")]
    NoKeys(String),
    /// A rekey needs a Vault that runs.
    #[error("no node is unsealed: unseal Vault first, by unsealer unseal")]
    Sealed,
    /// Another seal than by shares.
    #[error(
        "this Vault unseals itself (seal type {0}): what it has are recovery keys, which are replaced by its own \
         command: operator rotate-keys -target=recovery"
    )]
    OtherSeal(String),
    /// Somebody else is at it.
    #[error(
        "Vault is in the middle of a rekey that somebody else began; end that one first: operator rotate-keys -cancel"
    )]
    UnderWay(#[source] VaultError),
    /// The current shares are not this Vault's.
    #[error("every combination of the key shares that are here was refused: nothing has changed")]
    AllRefused,
    /// The server does not take back what it gave.
    #[error("Vault does not take its own new shares back: the old ones stay good, and nothing has changed")]
    NotTakenBack,
    /// Nothing can be said about either set.
    #[error(
        "a rekey was cut off, and Vault takes neither its new key shares nor the old ones that can be read here: both \
         are kept. Look for unreadable ones with unsealer check-keys, and run unsealer rekey again"
    )]
    NeitherTaken,
    /// No right to do that.
    #[error("no token that may rekey can be had")]
    Root(#[from] RootError),
    /// The key store cannot be used.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// A request failed.
    #[error("{doing}")]
    Vault {
        /// What for.
        doing: &'static str,
        /// Vault's answer.
        #[source]
        cause: VaultError,
    },
}

impl Failure for RekeyError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoKeys(_) | Self::OtherSeal(_) | Self::AllRefused | Self::NeitherTaken => Exit::Config,
            Self::Sealed => Exit::Unavailable,
            Self::UnderWay(_) | Self::NotTakenBack => Exit::Failed,
            Self::Root(error) => error.exit(),
            Self::KeyStore(error) => error.exit(),
            Self::Vault { cause, .. } => cause.exit(),
        }
    }
}

impl RekeyError {
    fn vault(doing: &'static str) -> impl FnOnce(VaultError) -> Self {
        move |cause| Self::Vault { doing, cause }
    }
}

/// `unsealer rekey`. Not to be stopped: it takes a moment, and a kill loses nothing.
pub(crate) async fn command(
    client: &VaultClient,
    store: &KeyStore,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let _lock = lock::exclusively(store).await?;
    check(client, store).await?;
    let authority = Authority::obtain(client, store).await.map_err(RekeyError::Root)?;
    let finished = match finish(&authority.client, store).await {
        Ok(false) => begin(&authority.client, store).await.map(|()| false),
        finished => finished,
    };
    authority.release().await;
    let what = if finished? { "the rekey that was cut off is finished" } else { "rekeyed" };
    let keys = store.path().display();
    let text = format!(
        "{what}: {SHARES} new key shares are in {keys}; the old ones stay beside them until the new ones have unsealed\n"
    );
    answer(json, &json!({ "rekeyed": true, "shares": SHARES, "threshold": THRESHOLD }), &text, Exit::Done)
}

/// What a daemon does about a rekey that was cut off; gives whether there is none any more.
pub(crate) async fn resume(client: &VaultClient, store: &KeyStore) -> Result<bool, UnsealerError> {
    if store.rekey()? == Rekey::None {
        return Ok(true);
    }
    // Somebody is just at it.
    let Some(_lock) = store.try_lock()? else { return Ok(false) };
    let authority = Authority::obtain(client, store).await.map_err(RekeyError::Root)?;
    let finished = finish(&authority.client, store).await;
    authority.release().await;
    let text = if finished? { "finished" } else { "ended, and the old shares stay" };
    tracing::info!("a rekey that was cut off is {text}");
    Ok(true)
}

/// Takes in that a node was unsealed by the current shares, and whether now all are: those from before the last rekey
/// go then. Not earlier, since a node that was away during the rekey is still unsealed by them.
///
/// Being unsealed is no proof of shares that the server has yet to take: somebody else may have been faster. So this
/// decides nothing about a rekey that was cut off.
pub(crate) fn note_unsealed(store: &KeyStore, by: Place, all: bool) -> Result<(), KeyStoreError> {
    let is_over = by == Place::Current && all && store.rekey()? == Rekey::None;
    if is_over && store.drop_shares(Place::BeforeRekey)? {
        tracing::info!("the new key shares have unsealed Vault: those from before the rekey are removed");
    }
    Ok(())
}

async fn check(client: &VaultClient, store: &KeyStore) -> Result<(), UnsealerError> {
    if !store.has_shares(Place::Current)? {
        return Err(RekeyError::NoKeys(store.path().display().to_string()).into());
    }
    let mut answered = Err(RekeyError::Sealed.into());
    for node in 0..client.nodes().len() {
        match sys::seal_status(client, node, client.soon()).await {
            Ok(status) if !status.is_unsealed_by_shares() => {
                return Err(RekeyError::OtherSeal(status.seal_type).into());
            }
            Ok(status) if !status.sealed => return Ok(()),
            Ok(_) => {}
            Err(error) => answered = Err(error.into()),
        }
    }
    answered
}

/// Ends what an earlier run began: `true` where its new shares are the current ones now.
async fn finish(root: &VaultClient, store: &KeyStore) -> Result<bool, RekeyError> {
    match store.rekey()? {
        Rekey::None => return Ok(false),
        Rekey::Requested => {
            cancel(root).await?;
            store.settle_rekey()?;
            return Ok(false);
        }
        Rekey::Received => store.split_rekey_response()?,
        Rekey::Staged => {}
    }
    let new = store.shares(Place::Rekeyed)?;
    let taken = match pending(root).await? {
        Some(verification) if give_back(root, &verification, &new).await? => true,
        // Its answer was lost, or the server was restarted and has forgotten the rekey.
        _ => root::prove(root, &new).await?.is_some(),
    };
    if taken {
        store.promote()?;
    } else {
        cancel(root).await?;
        if root::prove(root, &store.shares(Place::Current)?).await?.is_none() {
            return Err(RekeyError::NeitherTaken);
        }
        store.drop_shares(Place::Rekeyed)?;
    }
    store.settle_rekey()?;
    Ok(taken)
}

async fn begin(root: &VaultClient, store: &KeyStore) -> Result<(), RekeyError> {
    store.prepare_rekey()?;
    let reply = match new_shares(root, store).await {
        Ok(reply) => reply,
        Err(error) => {
            if !matches!(error, RekeyError::UnderWay(_)) {
                cancel(root).await?;
            }
            store.settle_rekey()?;
            return Err(error);
        }
    };
    // From here on the next start can finish it.
    store.keep_rekey_response(&reply.body)?;
    store.split_rekey_response()?;
    let new = store.shares(Place::Rekeyed)?;
    let verification = pending(root).await?.ok_or(RekeyError::NotTakenBack)?;
    if !give_back(root, &verification, &new).await? {
        return Err(RekeyError::NotTakenBack);
    }
    store.promote()?;
    Ok(store.settle_rekey()?)
}

/// The server's answer with the new shares, for the current ones.
async fn new_shares(root: &VaultClient, store: &KeyStore) -> Result<Reply, RekeyError> {
    let attempt = match rekey::start(root, SHARES, THRESHOLD, root.soon()).await {
        Err(error @ VaultError::Refused { status: 400, .. }) => return Err(RekeyError::UnderWay(error)),
        started => started.map_err(RekeyError::vault("beginning a rekey"))?,
    };
    for (_, shares) in KeySets::read(store)?.0 {
        for candidate in shares.candidates(attempt.required) {
            match offer(root, &attempt, &shares, &candidate.offer).await {
                Ok(Some(reply)) => {
                    shares.warn_of_damage(&candidate);
                    return Ok(reply);
                }
                // A wrong combination: the attempt waits for all of them again.
                Ok(None) | Err(VaultError::Refused { .. }) => {}
                Err(cause) => return Err(RekeyError::vault("providing a key share")(cause)),
            }
        }
    }
    Err(RekeyError::AllRefused)
}

/// The answer to the last share; `None` where the server is not content with as many as it asked for.
async fn offer(
    root: &VaultClient,
    attempt: &rekey::Attempt,
    shares: &Shares,
    offer: &[usize],
) -> Result<Option<Reply>, VaultError> {
    let mut answer = None;
    for &index in offer {
        answer = rekey::provide(root, attempt, &shares.found[index].value, root.soon()).await?;
    }
    Ok(answer)
}

/// Gives the new shares back to the server, which takes them by that; `false` where it refuses them.
async fn give_back(
    root: &VaultClient,
    verification: &Verification,
    new: &Shares,
) -> Result<bool, RekeyError> {
    let Some(candidate) = new.candidates(verification.required).into_iter().next() else { return Ok(false) };
    for &index in &candidate.offer {
        match rekey::verify(root, verification, &new.found[index].value, root.soon()).await {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(VaultError::Refused { .. }) => return Ok(false),
            Err(cause) => return Err(RekeyError::vault("giving a new key share back")(cause)),
        }
    }
    Ok(false)
}

async fn pending(root: &VaultClient) -> Result<Option<Verification>, RekeyError> {
    rekey::pending(root, root.soon())
        .await
        .map_err(RekeyError::vault("asking whether Vault waits for new key shares"))
}

async fn cancel(root: &VaultClient) -> Result<(), RekeyError> {
    rekey::cancel(root, root.soon()).await.map_err(RekeyError::vault("ending the rekey"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;
    use vault_client::Settings;
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;
    use crate::shamir::tests::SHARES;

    /// A store with a rekey that was cut off once its new shares were here; the old ones are the same backwards.
    fn staged() -> (tempfile::TempDir, KeyStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = KeyStore::in_dir(dir.path());
        let old = SHARES.map(|share| share.chars().rev().collect::<String>());
        store.prepare_init().unwrap();
        let answer = json!({ "keys_base64": old, "root_token": "s.root" });
        store.keep_init_response(answer.to_string().as_bytes()).unwrap();
        store.split_init_response().unwrap();
        store.prepare_rekey().unwrap();
        store.keep_rekey_response(json!({ "keys_base64": SHARES }).to_string().as_bytes()).unwrap();
        store.split_rekey_response().unwrap();
        (dir, store)
    }

    /// Finishes the rekey against a server that knows of none, and answers each last share by `answer`.
    async fn finish_where(store: &KeyStore, answer: ResponseTemplate) -> Result<bool, RekeyError> {
        let server = MockServer::start().await;
        let given = |verb: &str, at: &str, answer: ResponseTemplate| {
            Mock::given(method(verb)).and(path(format!("/v1/sys/{at}"))).respond_with(answer)
        };
        let none = ResponseTemplate::new(400)
            .set_body_json(json!({ "errors": ["no rotation configuration found"] }));
        let attempt = json!({ "data": { "nonce": "n", "required": 3, "otp": "pad" } });
        let done = || ResponseTemplate::new(204);
        given("GET", "rotate/root/verify", none).mount(&server).await;
        given("DELETE", "rotate/root/init", done()).mount(&server).await;
        given("DELETE", "generate-root-token/attempt", done()).mount(&server).await;
        let attempt = ResponseTemplate::new(200).set_body_json(attempt);
        given("POST", "generate-root-token/attempt", attempt).mount(&server).await;
        given("POST", "generate-root-token/update", answer).mount(&server).await;
        let settings = Settings {
            addresses: vec![server.uri().parse().unwrap()],
            ca_certificates: None,
            client_identity: None,
            tls_server_name: None,
            namespace: None,
            timeout: Duration::from_secs(2),
        };
        finish(&VaultClient::new(&settings).unwrap(), store).await
    }

    fn assert_both_are_kept(store: &KeyStore) {
        assert_eq!(store.rekey().unwrap(), Rekey::Staged);
        assert_eq!(store.shares(Place::Rekeyed).unwrap().found.len(), 5);
        assert_eq!(store.shares(Place::Current).unwrap().found.len(), 5);
    }

    #[tokio::test]
    async fn no_set_is_given_up_before_the_server_has_taken_the_other() {
        let (_dir, store) = staged();
        for (status, words) in [(400, "invalid key"), (500, "cipher: message authentication failed")] {
            let refused = ResponseTemplate::new(status).set_body_json(json!({ "errors": [words] }));
            assert!(matches!(finish_where(&store, refused).await, Err(RekeyError::NeitherTaken)));
            assert_both_are_kept(&store);
        }
    }

    #[tokio::test]
    async fn a_server_that_fails_has_refused_nothing() {
        let garbled = ResponseTemplate::new(200).set_body_string("{");
        for answer in [ResponseTemplate::new(500), ResponseTemplate::new(503), garbled] {
            let (_dir, store) = staged();
            let error = finish_where(&store, answer.set_body_json(Value::Null)).await.unwrap_err();
            assert!(!matches!(error, RekeyError::NeitherTaken), "{error}");
            assert_both_are_kept(&store);
        }
    }

    #[tokio::test]
    async fn being_unsealed_proves_nothing_about_shares_on_their_way() {
        let (_dir, store) = staged();
        for place in [Place::Rekeyed, Place::Current, Place::BeforeRekey] {
            note_unsealed(&store, place, true).unwrap();
            assert_both_are_kept(&store);
        }
    }
}
