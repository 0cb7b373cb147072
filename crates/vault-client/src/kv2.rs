//! A KV version 2 engine: secrets as flat maps of strings, in versions.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::time::Instant;
use vaultrs::api::kv2::requests::{
    DeleteSecretMetadataRequest, ReadSecretMetadataRequest, ReadSecretRequest, SetSecretMetadataRequest,
    SetSecretRequest, SetSecretRequestOptions,
};

use crate::endpoint::Plain;
use crate::{Reply, Retry, Target, VaultClient, VaultError, found, keys, listing, offered};

/// One version of a secret.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The values by key.
    pub values: BTreeMap<String, SecretString>,
    /// Which version this is, counted from 1.
    pub version: u64,
    /// When it was written, in the server's words. With the version's number it tells a secret from another that
    /// was later made at the same path.
    pub created: String,
}

/// What a secret is besides its values.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// The newest version; 0 where there is only metadata.
    pub current_version: u64,
    /// Free text by key.
    #[serde(default, deserialize_with = "or_empty")]
    pub custom_metadata: BTreeMap<String, String>,
    /// The versions that are still there, by their numbers.
    #[serde(default)]
    pub versions: BTreeMap<u64, VersionState>,
}

/// What the metadata says of one version.
#[derive(Clone, Debug, Deserialize)]
pub struct VersionState {
    /// When it was written.
    pub created_time: String,
    /// When it was or will be deleted; empty where it is not.
    #[serde(default)]
    pub deletion_time: String,
    /// Whether its values are gone for good.
    #[serde(default)]
    pub destroyed: bool,
}

impl Metadata {
    /// When the newest version was written; `None` where it cannot be read any more.
    #[must_use]
    pub fn created(&self) -> Option<&str> {
        let newest = self.versions.get(&self.current_version)?;
        (newest.deletion_time.is_empty() && !newest.destroyed).then_some(newest.created_time.as_str())
    }
}

/// A version that was just written.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Written {
    /// Its number.
    pub version: u64,
    /// As [`Secret::created`].
    #[serde(rename = "created_time", default)]
    pub created: String,
}

/// Reads `<mount>/data/<path>`, the newest version or the one that is named.
///
/// `None` where there is no such path or version, or it is deleted. A value that is not a string is an
/// error that names its key: numbers above 2^53 lose precision on their way through the server.
pub async fn read(
    client: &VaultClient,
    mount: &str,
    path: &str,
    version: Option<u64>,
    by: Instant,
) -> Result<Option<Secret>, VaultError> {
    #[derive(Deserialize)]
    struct Data {
        data: BTreeMap<String, Field>,
        metadata: Written,
    }
    let request = ReadSecretRequest { mount: mount.to_owned(), path: path.to_owned(), version };
    let Some(reply) = found(client.call(Target::Leader, request, Retry::Idempotent, by).await)? else {
        return Ok(None);
    };
    let Data { data, metadata } = reply.data()?;
    let values = data.into_iter().map(|(key, field)| match field {
        Field::Text(value) => Ok((key, value)),
        Field::Other => {
            Err(reply.unexpected(format!("the value of {key:?} is not a string; store it as one")))
        }
    });
    let values = values.collect::<Result<_, _>>()?;
    Ok(Some(Secret { values, version: metadata.version, created: metadata.created }))
}

/// Reads `<mount>/metadata/<path>`; `None` where there is no such path.
pub async fn metadata(
    client: &VaultClient,
    mount: &str,
    path: &str,
    by: Instant,
) -> Result<Option<Metadata>, VaultError> {
    let request = ReadSecretMetadataRequest { mount: mount.to_owned(), path: path.to_owned() };
    let reply = found(client.call(Target::Leader, request, Retry::Idempotent, by).await)?;
    reply.as_ref().map(Reply::data).transpose()
}

/// The names of all secrets directly below the mount; those that end in `/` are folders.
pub async fn names(client: &VaultClient, mount: &str, by: Instant) -> Result<Vec<String>, VaultError> {
    let request = Plain::list(format!("{mount}/metadata"));
    keys(client.call(Target::Leader, request, Retry::Idempotent, by).await)
}

/// The metadata of all secrets directly below the mount, in one answer (`LIST <mount>/detailed-metadata`); `None`
/// where the server has no such thing, as HashiCorp Vault, or it is not this token's to have.
pub async fn all_metadata(
    client: &VaultClient,
    mount: &str,
    by: Instant,
) -> Result<Option<BTreeMap<String, Metadata>>, VaultError> {
    let request = Plain::list(format!("{mount}/detailed-metadata"));
    let reply = offered(client.call(Target::Leader, request, Retry::Idempotent, by).await)?;
    // A folder is listed too, and has no metadata.
    let listed = reply.map(|reply| listing::<Option<Metadata>>(&reply)).transpose()?.flatten();
    Ok(listed.map(|all| all.into_iter().filter_map(|(name, metadata)| Some((name, metadata?))).collect()))
}

/// Deletes `<mount>/metadata/<path>`: every version of the secret, for good. One that is gone already is done.
pub async fn delete_for_good(
    client: &VaultClient,
    mount: &str,
    path: &str,
    by: Instant,
) -> Result<(), VaultError> {
    let request = DeleteSecretMetadataRequest { mount: mount.to_owned(), path: path.to_owned() };
    found(client.call(Target::Leader, request, Retry::Idempotent, by).await)?.map_or(Ok(()), Reply::done)
}

/// Writes a new version of `<mount>/data/<path>` if the newest one is `check_and_set` (0: there is none).
///
/// Sent once: a second sending would meet the first one's version. Whether somebody else's version was there first,
/// [`is_overtaken`] says of the error.
pub async fn write(
    client: &VaultClient,
    mount: &str,
    path: &str,
    values: &BTreeMap<String, SecretString>,
    check_and_set: u64,
    by: Instant,
) -> Result<Written, VaultError> {
    let text = |(key, value): (&String, &SecretString)| (key.clone(), Value::from(value.expose_secret()));
    let request = || SetSecretRequest {
        mount: mount.to_owned(),
        path: path.to_owned(),
        data: Value::Object(values.iter().map(text).collect()),
        // No secret comes near that many versions; one that did would be refused, not overwritten.
        options: Some(SetSecretRequestOptions { cas: u32::try_from(check_and_set).unwrap_or(u32::MAX) }),
    };
    // With check-and-set a repeated write cannot be carried out twice; what it can is be refused although
    // its first sending went through. Only a failure that certainly wrote nothing is therefore retried.
    let mut reply = client.call(Target::Leader, request(), Retry::Never, by).await;
    while let Err(VaultError::Unexpected { status: 400, transient: true, .. }) = reply {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if Instant::now() >= by {
            break;
        }
        reply = client.call(Target::Leader, request(), Retry::Never, by).await;
    }
    reply?.data()
}

/// Whether a write was refused since there is another version than the one it was meant to follow.
#[must_use]
pub fn is_overtaken(error: &VaultError) -> bool {
    matches!(error, VaultError::Refused { status: 400, messages, .. }
        if messages.iter().any(|message| message.contains("check-and-set parameter did not match")))
}

/// Sets the custom metadata of `<mount>/metadata/<path>`, all of it.
pub async fn set_custom_metadata(
    client: &VaultClient,
    mount: &str,
    path: &str,
    custom_metadata: &BTreeMap<String, String>,
    by: Instant,
) -> Result<(), VaultError> {
    let custom_metadata: HashMap<_, _> = custom_metadata.clone().into_iter().collect();
    let request = SetSecretMetadataRequest {
        mount: mount.to_owned(),
        path: path.to_owned(),
        custom_metadata: Some(custom_metadata),
        ..SetSecretMetadataRequest::default()
    };
    client.call(Target::Leader, request, Retry::Idempotent, by).await.and_then(Reply::done)
}

/// A value of a secret: a string, or something that is passed over without being kept.
enum Field {
    Text(SecretString),
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyField;

        impl<'de> Visitor<'de> for AnyField {
            type Value = Field;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a JSON value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.into()))
            }
            fn visit_string<E>(self, text: String) -> Result<Field, E> {
                Ok(Field::Text(text.into()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
        }

        deserializer.deserialize_any(AnyField)
    }
}

/// Vault writes no custom metadata as `null`.
fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::<BTreeMap<String, String>>::deserialize(deserializer).map(Option::unwrap_or_default)
}
