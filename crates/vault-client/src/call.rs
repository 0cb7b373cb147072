//! One call: which node, how often, until when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backoff::{Jitter, Policy};
use http::{HeaderName, HeaderValue};
use rustify::client::Client as _;
use rustify::endpoint::Endpoint;
use rustify::errors::ClientError;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinSet;
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

use crate::reply::Failure;
use crate::transport::{TooLarge, Transport};
use crate::{Address, Reply, RequestLine, Settings, SettingsError, VaultError, sys, tls};

/// Between two attempts of one call: 50 ms, doubling to 2 s, so that whoever waits for Vault notices its return.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(50), Duration::from_secs(2)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// What a time-out may be: below, no request succeeds; above, nobody waits for it.
const MIN_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_hours(1);

/// How long a node is taken for the active one without asking again. One that stepped down answers on, as a
/// standby that is a moment behind.
const LEADER_FOR: Duration = Duration::from_secs(5);

/// A cluster's client, and the token it speaks with. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct VaultClient {
    cluster: Arc<Cluster>,
    token: Option<SecretString>,
    timeout: Duration,
    retries: bool,
}

struct Cluster {
    nodes: Vec<Node>,
    /// The node that was last found to be active, and when.
    leader: Mutex<Option<(usize, Instant)>>,
}

struct Node {
    address: Address,
    transport: Transport,
}

/// Which node a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The active node, found again when it changes. Writes and logins go there: a standby is behind for a
    /// moment, and refuses a secret ID that is that young.
    Leader,
    /// The first node that answers.
    Any,
    /// The node with this index in [`Settings::addresses`].
    Node(usize),
}

/// Whether a request may be sent again after a failure that leaves open whether it was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// One attempt: initialising, issuing a secret ID, logging in.
    Never,
    /// Again and again until the deadline, for as long as the failure is [transient](VaultError::is_transient).
    Idempotent,
}

impl std::fmt::Debug for VaultClient {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.nodes().map(ToString::to_string)).finish()
    }
}

impl VaultClient {
    /// A client without a token. No connection is made yet.
    pub fn new(settings: &Settings) -> Result<Self, SettingsError> {
        if settings.addresses.is_empty() {
            return Err(SettingsError::NoAddress);
        }
        if !(MIN_TIMEOUT..=MAX_TIMEOUT).contains(&settings.timeout) {
            return Err(SettingsError::Timeout);
        }
        let tls = tls::client_config(settings)?;
        let node = |address: &Address| {
            let transport = Transport::new(address, settings, tls.clone())?;
            Ok(Node { address: address.clone(), transport })
        };
        let nodes = settings.addresses.iter().map(node).collect::<Result<Vec<_>, SettingsError>>()?;
        let cluster = Arc::new(Cluster { nodes, leader: Mutex::new(None) });
        Ok(Self { cluster, token: None, timeout: settings.timeout, retries: true })
    }

    /// The same client, speaking with `token`.
    #[must_use]
    pub fn with_token(&self, token: SecretString) -> Self {
        Self { token: Some(token), ..self.clone() }
    }

    /// The same client, each of whose attempts may take this long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client, which sends everything once: for whoever has a loop of its own around each request, and
    /// says how often that may ask.
    #[must_use]
    pub fn without_retries(&self) -> Self {
        Self { retries: false, ..self.clone() }
    }

    /// The nodes' addresses, in the order of [`Target::Node`].
    #[must_use]
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.cluster.nodes.iter().map(|node| &node.address)
    }

    /// The deadline of a request that need not outlast its own time-out.
    #[must_use]
    pub fn soon(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Sends `endpoint` to the node or nodes that `to` names, at the latest until `by`.
    ///
    /// Each attempt ends at `by` or at the client's own time-out, whichever is sooner.
    pub async fn call<E: Endpoint>(
        &self,
        to: Target,
        endpoint: E,
        retry: Retry,
        by: Instant,
    ) -> Result<Reply, VaultError> {
        let mut attempt = 0;
        loop {
            let error = match self.attempt(to, &endpoint, by).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let pause =
                RETRY_DELAYS.delay(attempt, Jitter::draw()).max(error.retry_after().unwrap_or_default());
            if retry == Retry::Never || !self.retries || !error.is_transient() || Instant::now() + pause >= by
            {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "trying again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt<E: Endpoint>(&self, to: Target, endpoint: &E, by: Instant) -> Result<Reply, VaultError> {
        match to {
            Target::Node(index) => self.send(index, endpoint, by).await,
            Target::Any => self.send_to_any(endpoint, by).await,
            Target::Leader => {
                let leader = self.leader(by).await;
                let result = self.send(leader, endpoint, by).await;
                if result.as_ref().is_err_and(VaultError::is_transient) {
                    self.cluster.note_leader(None);
                }
                result
            }
        }
    }

    async fn send_to_any<E: Endpoint>(&self, endpoint: &E, by: Instant) -> Result<Reply, VaultError> {
        let count = self.cluster.nodes.len();
        let first = self.cluster.known_leader().unwrap_or(0);
        for offset in 0..count - 1 {
            match self.send((first + offset) % count, endpoint, by).await {
                Err(error) if error.is_transient() => tracing::debug!(%error, "trying the next node"),
                settled => return settled,
            }
        }
        self.send((first + count - 1) % count, endpoint, by).await
    }

    /// The active node, asked of all at once where it is not known. Where none says it is, one that answers:
    /// a standby passes requests on as soon as there is a leader. The first one where none answers.
    async fn leader(&self, by: Instant) -> usize {
        if let Some(known) = self.cluster.known_leader() {
            return known;
        }
        let mut asked = JoinSet::new();
        for index in 0..self.cluster.nodes.len() {
            let client = self.clone();
            asked.spawn(async move { (index, sys::is_leader(&client, index, by).await) });
        }
        let mut standby = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((index, Ok(true))) => {
                    self.cluster.note_leader(Some(index));
                    return index;
                }
                Ok((index, Ok(false))) => standby = standby.or(Some(index)),
                _ => {}
            }
        }
        standby.unwrap_or(0)
    }

    /// One request to one node.
    pub(crate) async fn send<E: Endpoint>(
        &self,
        index: usize,
        endpoint: &E,
        by: Instant,
    ) -> Result<Reply, VaultError> {
        let node = &self.cluster.nodes[index];
        // vaultrs begins some of its paths with a slash, and two of them with a tab.
        let path = endpoint.path();
        let path = path.trim_start_matches(['/', '\t']);
        let method: http::Method = endpoint.method().into();
        let line = Box::new(RequestLine { method, url: format!("{}/v1/{path}", node.address) });
        let refuse = |line: &RequestLine, why: &str| VaultError::Refused {
            request: Box::new(line.clone()),
            status: 400,
            messages: vec![why.to_owned()],
        };
        if !is_plain(path) {
            return Err(refuse(
                &line,
                "not sent: the path has an empty or dotted segment or a control character",
            ));
        }
        let (query, body) = endpoint
            .query()
            .and_then(|query| Ok((query, endpoint.body()?)))
            .map_err(|_| refuse(&line, "not sent: the request cannot be written as JSON"))?;
        let sent_body = Zeroizing::new(body.unwrap_or_default());
        let mut request = rustify::http::build_request(
            node.transport.base(),
            path,
            endpoint.method(),
            query,
            Some(sent_body.to_vec()),
        )
        .map_err(|_| refuse(&line, "not sent: the path makes no URL"))?;
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.expose_secret())
                .map_err(|_| refuse(&line, "not sent: the token has characters that no Vault token has"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static("x-vault-token"), value);
        }

        let limit = by.min(Instant::now() + self.timeout);
        let answer = match tokio::time::timeout_at(limit, node.transport.send(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unreachable(line, &error)),
            Err(_) => {
                let reason = "it took too long".to_owned();
                return Err(VaultError::Unreachable { request: line, reason, transient: true, sent: true });
            }
        };
        let (parts, mut body) = answer.into_parts();
        if parts.status.is_success() {
            let (body, connection) = (Zeroizing::new(body), parts.extensions.get().copied());
            return Ok(Reply {
                status: parts.status,
                headers: parts.headers,
                body,
                connection,
                request: line,
            });
        }
        let failure = Failure {
            request: line,
            status: parts.status,
            headers: &parts.headers,
            body: &body,
            sent_body: &sent_body,
            token: self.token.as_ref(),
        };
        let error = failure.into_error();
        body.zeroize();
        Err(error)
    }
}

impl Cluster {
    fn known_leader(&self) -> Option<usize> {
        if self.nodes.len() == 1 {
            return Some(0);
        }
        let leader = *self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        leader.filter(|(_, found)| found.elapsed() < LEADER_FOR).map(|(index, _)| index)
    }

    fn note_leader(&self, index: Option<usize>) {
        let leader = index.map(|index| (index, Instant::now()));
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }
}

/// Whether a path means to a server what it says: no segment that a URL would drop or climb by.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|segment| !matches!(segment, "" | "." | "..")) && !path.contains(char::is_control)
}

/// The innermost cause says what happened ("Connection refused"); the outer ones repeat the request.
fn unreachable(request: Box<RequestLine>, error: &ClientError) -> VaultError {
    let mut cause: &(dyn std::error::Error + 'static) = match error {
        ClientError::RequestError { source, .. } | ClientError::ResponseError { source } => source.as_ref(),
        other => other,
    };
    let (mut transient, mut sent) = (true, true);
    let mut late = None;
    loop {
        if let Some(http) = cause.downcast_ref::<reqwest::Error>() {
            sent = !http.is_connect();
            // Its innermost cause is a timer's.
            late = (http.is_connect() && http.is_timeout())
                .then_some("no connection came about in time")
                .or(late);
        }
        if cause.is::<TooLarge>() {
            transient = false;
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            transient = !matches!(tls, rustls::Error::InvalidCertificate(_));
        }
        // An io::Error hides the error that it carries from `source`.
        let carried = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match carried.map(|error| error as &(dyn std::error::Error + 'static)).or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            None => break,
        }
    }
    let reason = late.map_or_else(|| cause.to_string(), ToOwned::to_owned);
    VaultError::Unreachable { request, reason, transient, sent }
}
