//! Handing a service its credentials, and seeing whether those it has still do.
//!
//! `<approle-dir>/<service>/` holds `role_id`, `secret_id` and the secret ID's `accessor`, which change
//! together: whoever holds the accessor alone can do nothing with it, and bootstrap looks the secret ID up
//! by it without knowing, or keeping, the secret ID itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, FileError, SecretDir, SetFile};
use vault_client::approle::SecretIdStatus;
use vault_client::{VaultClient, approle};

use crate::BootstrapError;

const ROLE_ID: &str = "role_id";
const SECRET_ID: &str = "secret_id";
const ACCESSOR: &str = "accessor";

const MAX_FILE: usize = 4096;

/// A role whose credentials lie in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The AppRole mount, below `auth/`.
    pub(crate) mount: String,
    /// The role; for a service, its name.
    pub(crate) role: String,
    /// Where the files go.
    pub(crate) directory: PathBuf,
    /// The files' mode and owner.
    pub(crate) attrs: Attrs,
    /// The directory's mode, where it has to be made.
    pub(crate) directory_mode: u32,
}

/// Why a service needs new credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Missing,
    OtherRole,
    Gone,
    HalfOver,
}

impl std::fmt::Display for Due {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Missing => "there were none",
            Self::OtherRole => "the role_id has changed",
            Self::Gone => "the secret ID had expired or was destroyed",
            Self::HalfOver => "half of the secret ID's life was over",
        })
    }
}

/// What lies in the directory.
struct Delivered {
    role_id: SecretString,
    accessor: String,
}

impl Delivery {
    /// Looks, and delivers where that is due; gives whether it did.
    ///
    /// `overlap` is how long a replaced secret ID may live on beside the new one: a service that read it just
    /// before has that long to log in.
    pub(crate) async fn refresh(
        &self,
        client: &VaultClient,
        overlap: Duration,
    ) -> Result<Option<Due>, BootstrapError> {
        let delivered = self.delivered()?;
        let role_id = approle::role_id(client, &self.mount, &self.role, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("reading the role_id of {}", self.role)))?;
        let status = match &delivered {
            Some(delivered) => self.look_up(client, &delivered.accessor).await?,
            None => None,
        };
        if let Some(due) = due(delivered.as_ref(), &role_id, status) {
            self.issue(client, &role_id).await?;
            tracing::info!("delivered credentials to {}: {due}", self.directory.display());
            return Ok(Some(due));
        }
        let age = status.and_then(|status| Some(status.ttl.saturating_sub(status.remaining?)));
        if let Some(delivered) = delivered.filter(|_| age.is_none_or(|age| age > overlap)) {
            self.clear_strays(client, &delivered.accessor).await?;
        }
        Ok(None)
    }

    /// Issues a secret ID and delivers it. A kill in between leaves a stray, which is cleared later.
    async fn issue(&self, client: &VaultClient, role_id: &SecretString) -> Result<(), BootstrapError> {
        // Proven before, and not after, there is a secret ID that nobody gets.
        let failed = |cause| BootstrapError::Delivery { service: self.role.clone(), cause };
        let directory = SecretDir::create(&self.directory, self.directory_mode).map_err(failed)?;
        let issued = approle::issue_secret_id(client, &self.mount, &self.role, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("issuing a secret ID for {}", self.role)))?;
        let bytes = |text: &str| SecretSlice::from(text.as_bytes().to_vec());
        let files = [
            (ROLE_ID, bytes(role_id.expose_secret())),
            (SECRET_ID, bytes(issued.secret_id.expose_secret())),
            (ACCESSOR, bytes(&issued.secret_id_accessor)),
        ];
        let files: Vec<_> =
            files.iter().map(|(name, value)| SetFile { name, value, attrs: self.attrs }).collect();
        directory.replace_set(&files).map_err(failed)?;
        Ok(())
    }

    /// Destroys every secret ID of the role but the one with this accessor.
    async fn clear_strays(&self, client: &VaultClient, current: &str) -> Result<(), BootstrapError> {
        let doing = || BootstrapError::vault(format!("clearing old secret IDs of {}", self.role));
        let accessors = approle::secret_id_accessors(client, &self.mount, &self.role, client.soon());
        for accessor in accessors.await.map_err(doing())? {
            if accessor != current {
                let destroyed =
                    approle::destroy_accessor(client, &self.mount, &self.role, &accessor, client.soon());
                destroyed.await.map_err(doing())?;
                tracing::debug!("destroyed an old secret ID of {}", self.role);
            }
        }
        Ok(())
    }

    async fn look_up(
        &self,
        client: &VaultClient,
        accessor: &str,
    ) -> Result<Option<SecretIdStatus>, BootstrapError> {
        approle::look_up_accessor(client, &self.mount, &self.role, accessor, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("looking up the secret ID of {}", self.role)))
    }

    /// What was delivered; `None` where files are missing or are not what bootstrap delivers.
    fn delivered(&self) -> Result<Option<Delivered>, BootstrapError> {
        match read(&self.directory) {
            Ok(delivered) => Ok(delivered),
            Err(error) if error.is_input() => Ok(None),
            Err(cause) => Err(BootstrapError::Delivery { service: self.role.clone(), cause }),
        }
    }
}

fn read(directory: &Path) -> Result<Option<Delivered>, FileError> {
    const FILES: [&str; 3] = [ROLE_ID, SECRET_ID, ACCESSOR];
    let directory = SecretDir::open(directory)?;
    let files = directory.read_set(&FILES, MAX_FILE)?;
    // The set may be whole while somebody removed the name that the service reads it by.
    for name in FILES {
        directory.read(name, MAX_FILE)?;
    }
    let text = |index: usize| Some(std::str::from_utf8(files.get(index)?.expose_secret()).ok()?.to_owned());
    let (Some(role_id), Some(accessor)) = (text(0), text(2)) else { return Ok(None) };
    Ok(Some(Delivered { role_id: role_id.into(), accessor }))
}

/// Whether new credentials are due. Pure: by what lies there, the role's own ID, and the server's look-up.
fn due(delivered: Option<&Delivered>, role_id: &SecretString, status: Option<SecretIdStatus>) -> Option<Due> {
    let Some(delivered) = delivered else { return Some(Due::Missing) };
    if delivered.role_id.expose_secret() != role_id.expose_secret() {
        return Some(Due::OtherRole);
    }
    let Some(status) = status else { return Some(Due::Gone) };
    let half_over = status.remaining.is_some_and(|remaining| remaining <= status.ttl / 2);
    half_over.then_some(Due::HalfOver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_by_what_lies_there_and_what_the_server_says() {
        let delivered = Delivered { role_id: "r".into(), accessor: "a".to_owned() };
        let hour = Duration::from_hours(1);
        let living = |remaining| Some(SecretIdStatus { ttl: hour, remaining: Some(remaining) });
        assert_eq!(due(None, &"r".into(), None), Some(Due::Missing));
        assert_eq!(due(Some(&delivered), &"other".into(), living(hour)), Some(Due::OtherRole));
        assert_eq!(due(Some(&delivered), &"r".into(), None), Some(Due::Gone));
        assert_eq!(due(Some(&delivered), &"r".into(), living(hour / 2)), Some(Due::HalfOver));
        assert_eq!(due(Some(&delivered), &"r".into(), living(hour * 2 / 3)), None);
        assert_eq!(
            due(Some(&delivered), &"r".into(), Some(SecretIdStatus { ttl: hour, remaining: None })),
            None
        );
    }
}
