//! Plain requests to a Vault server, as a test makes them.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

use crate::error::{Error, Result};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(30);

/// One server's HTTP API. Connections are kept between requests.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    agent: ureq::Agent,
}

impl Api {
    /// The API of the server at this address, without TLS.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let settings = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(LIMIT))
            .max_redirects(0)
            .proxy(None)
            .build();
        Self { base: format!("http://{address}"), agent: settings.new_agent() }
    }

    /// Makes one request: `path` begins with `/v1/`; an empty `token` sends none; `Value::Null` no body.
    ///
    /// The answer is the status and the JSON body; `Null` where there is none.
    pub fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Result<(u16, Value)> {
        let url = format!("{}{path}", self.base);
        self.exchange(method, &url, token, body).map_err(|cause| Error::Request {
            method: method.to_owned(),
            url,
            cause: Box::new(cause),
        })
    }

    /// The same, where every answer but a 2xx is an error.
    pub fn expect(&self, method: &str, path: &str, token: &str, body: &Value) -> Result<Value> {
        match self.send(method, path, token, body)? {
            (200..300, answer) => Ok(answer),
            (status, answer) => Err(Error::Answer {
                method: method.to_owned(),
                url: format!("{}{path}", self.base),
                status,
                body: answer["errors"].to_string(),
            }),
        }
    }

    fn exchange(
        &self,
        method: &str,
        url: &str,
        token: &str,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        let mut request = Request::builder().method(method).uri(url);
        if !token.is_empty() {
            request = request.header("X-Vault-Token", token);
        }
        let mut response = if body.is_null() {
            self.agent.run(request.body(())?)?
        } else {
            self.agent.run(request.header("Content-Type", "application/json").body(body.to_string())?)?
        };
        let text = response.body_mut().read_to_string()?;
        Ok((response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null)))
    }
}
