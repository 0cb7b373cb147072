//! Where a Vault node listens.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// A node's address: `http://` or `https://`, host, port, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(Url);

/// Why a text is not a node's address. The text itself is left out: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No URL at all.
    #[error("not a URL ({0}); write it as https://vault.example:8200")]
    NotAUrl(url::ParseError),
    /// Another scheme than http or https.
    #[error("its scheme is {0:?}; only http and https are spoken here: write https://vault.example:8200")]
    Scheme(String),
    /// A user name or password in the URL.
    #[error(
        "it holds a user name or password, which a Vault address never does; remove everything up to the @"
    )]
    Credentials,
    /// A path, a query or a fragment.
    #[error("it goes on behind the port; remove the path, query or fragment (/v1 is added by itself)")]
    Trailing,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(AddressError::NotAUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AddressError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Trailing);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Address {
    /// Whether the node is spoken to by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host as it stands in the URL: a name, or an IP address (IPv6 in brackets).
    pub(crate) fn host(&self) -> &str {
        // An http(s) URL without a host does not parse.
        self.0.host_str().unwrap_or_default()
    }

    /// The URL that the API's paths follow, its host replaced by `name` where one is given.
    ///
    /// Not by an IP address: that would be where the requests go.
    pub(crate) fn api_base(&self, name: Option<&str>) -> Result<String, url::ParseError> {
        let mut url = self.0.clone();
        if let Some(name) = name {
            url.set_host(Some(name))?;
            if !matches!(url.host(), Some(url::Host::Domain(_))) {
                return Err(url::ParseError::InvalidDomainCharacter);
            }
        }
        url.set_path("v1");
        Ok(url.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_operators_write() {
        for (text, shown) in [
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
            ("https://vault.example:8200/", "https://vault.example:8200"),
            (" https://vault ", "https://vault"),
            ("http://[::1]:8200", "http://[::1]:8200"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_the_rest_without_repeating_it() {
        for text in [
            "127.0.0.1:8200",
            "vault:8200",
            "",
            "ftp://vault",
            "http://user:hunter2@vault",
            "http://vault/v1",
            "http://vault?token=hunter2",
            "http://",
            "http://vault:99999",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn another_host_name_keeps_scheme_and_port() {
        let address: Address = "https://10.0.0.7:8200".parse().unwrap();
        assert_eq!(address.api_base(Some("vault.internal")).unwrap(), "https://vault.internal:8200/v1");
        assert_eq!(address.api_base(None).unwrap(), "https://10.0.0.7:8200/v1");
        assert!(address.api_base(Some("10.0.0.9")).is_err());
    }
}
