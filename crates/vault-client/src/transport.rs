//! How one request reaches one node: our own implementation of rustify's client.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustify::client::Client;
use rustify::errors::ClientError;
use rustls::ClientConfig;
use zeroize::Zeroize as _;

use crate::{Address, Settings, SettingsError};

/// The largest answer that is read. A KV secret is below 1 MiB, a list of ten thousand roles too.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// How long a connection may take to come about, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One node and the connections to it.
pub(crate) struct Transport {
    http: reqwest::Client,
    base: String,
}

impl Transport {
    pub(crate) fn new(
        address: &Address,
        settings: &Settings,
        tls: ClientConfig,
    ) -> Result<Self, SettingsError> {
        // By the certificate's name the node is asked for, at the address's host it is found.
        let name = settings.tls_server_name.as_deref().filter(|_| address.is_https());
        let base = address.api_base(name).map_err(|_| SettingsError::ServerName)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // A proxy from the environment would be handed tokens and key shares.
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .user_agent(concat!("vaultcrew/", env!("CARGO_PKG_VERSION")))
            .default_headers(standing_headers(settings)?);
        if name.is_some() {
            builder = builder.dns_resolver(FixedHost(address.host().to_owned()));
        }
        Ok(Self { http: builder.build().map_err(SettingsError::Http)?, base })
    }
}

#[async_trait]
impl Client for Transport {
    async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ClientError> {
        let (url, method) = (request.uri().to_string(), request.method().to_string());
        let failed = |error: reqwest::Error| ClientError::RequestError {
            source: error.without_url().into(),
            url,
            method,
        };
        let request = reqwest::Request::try_from(request)
            .map_err(|source| ClientError::ReqwestBuildError { source: source.without_url() })?;
        let mut answer = match self.http.execute(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(failed(error)),
        };
        if answer.content_length().is_some_and(|length| length > MAX_BODY as u64) {
            return Err(ClientError::ResponseError { source: TooLarge.into() });
        }
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => body.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    body.zeroize();
                    return Err(ClientError::ResponseError { source: TooLarge.into() });
                }
                Ok(None) => break,
                Err(error) => {
                    body.zeroize();
                    return Err(failed(error));
                }
            }
        }
        let mut response = Response::new(body);
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        if let Some(connection) = answer.extensions().get::<HttpInfo>() {
            response.extensions_mut().insert(Connection(connection.local_addr()));
        }
        Ok(response)
    }

    fn base(&self) -> &str {
        &self.base
    }
}

/// Which connection an answer came by. The same one twice shows that the server did not restart in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection(SocketAddr);

/// An answer beyond [`MAX_BODY`].
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {} MiB, which no Vault sends", MAX_BODY / 1024 / 1024)]
pub(crate) struct TooLarge;

fn standing_headers(settings: &Settings) -> Result<http::HeaderMap, SettingsError> {
    let mut headers = http::HeaderMap::new();
    // Vault Agent and proxies in front of a server may demand it, as a guard against forged requests.
    headers.insert(HeaderName::from_static("x-vault-request"), HeaderValue::from_static("true"));
    if let Some(namespace) = &settings.namespace {
        let value = HeaderValue::from_str(namespace).map_err(|_| SettingsError::Namespace)?;
        headers.insert(HeaderName::from_static("x-vault-namespace"), value);
    }
    Ok(headers)
}

/// Resolves every name to the addresses of one host.
struct FixedHost(String);

impl Resolve for FixedHost {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.trim_matches(['[', ']']).to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
