//! Handing a service its credentials, and seeing whether those it has still do.
//!
//! `<approle-dir>/<service>/` holds `role_id`, `secret_id` and the secret ID's `accessor`, which change
//! together: whoever holds the accessor alone can do nothing with it, and bootstrap looks the secret ID up
//! by it without knowing, or keeping, the secret ID itself.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, FileError, SecretDir, SetFile};
use vault_client::approle::SecretIdStatus;
use vault_client::{VaultClient, approle};

use crate::BootstrapError;
use crate::concurrent::for_each;
use crate::mark::MARK;

const ROLE_ID: &str = "role_id";
const SECRET_ID: &str = "secret_id";
const ACCESSOR: &str = "accessor";

const MAX_FILE: usize = 4096;

/// How long a replaced secret ID lives on beside the new one: a service that read it just before has that
/// long to log in.
const OVERLAP: Duration = Duration::from_mins(2);

/// The metadata key by which bootstrap knows the secret IDs that it issued.
const ISSUED_BY: &str = "issued-by";

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

/// What a look at one delivery finds.
pub(crate) struct Look {
    role_id: SecretString,
    accessor: Option<String>,
    status: Option<SecretIdStatus>,
    /// Why new credentials are due, if they are.
    pub(crate) due: Option<Due>,
}

/// Refreshes all, side by side; one that fails does not hold up the others.
pub(crate) async fn refresh_all(
    client: &VaultClient,
    deliveries: Vec<Delivery>,
) -> Vec<Result<Option<Due>, BootstrapError>> {
    let refreshed = for_each(deliveries, |delivery| {
        let client = client.clone();
        async move { Ok::<_, Infallible>(delivery.refresh(&client).await) }
    });
    let Ok(results) = refreshed.await;
    results
}

impl Delivery {
    /// Removes what was delivered to a directory, and the directory where nothing else is in it.
    pub(crate) fn remove(directory: &Path) -> Result<(), FileError> {
        match SecretDir::open(directory) {
            Ok(opened) => opened.remove_set()?,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        // It stays where it is a mount, or holds what somebody else put there.
        let _ = fs::remove_dir(directory);
        Ok(())
    }

    /// Looks, and delivers where that is due; gives whether it did.
    async fn refresh(&self, client: &VaultClient) -> Result<Option<Due>, BootstrapError> {
        let look = self.look(client).await?;
        if let Some(due) = look.due {
            self.issue(client, &look.role_id).await?;
            tracing::info!("delivered credentials to {}: {due}", self.directory.display());
            return Ok(Some(due));
        }
        if look.status.as_ref().is_some_and(is_past_overlap) {
            self.clear_replaced(client, look.accessor.as_deref().unwrap_or_default()).await?;
        }
        Ok(None)
    }

    /// Looks at what lies there, and asks the server what that is still good for.
    pub(crate) async fn look(&self, client: &VaultClient) -> Result<Look, BootstrapError> {
        let delivered = self.delivered()?;
        let role_id = approle::role_id(client, &self.mount, &self.role, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("reading the role_id of {}", self.role)))?;
        let status = match &delivered {
            Some(delivered) => self.look_up(client, &delivered.accessor).await?,
            None => None,
        };
        let due = due(delivered.as_ref(), &role_id, status.as_ref());
        Ok(Look { role_id, accessor: delivered.map(|delivered| delivered.accessor), status, due })
    }

    /// Issues a secret ID and delivers it. A kill in between leaves a stray, which is cleared later.
    async fn issue(&self, client: &VaultClient, role_id: &SecretString) -> Result<(), BootstrapError> {
        let failed = |cause| BootstrapError::Delivery { service: self.role.clone(), cause };
        let directory = SecretDir::create(&self.directory, self.directory_mode).map_err(failed)?;
        // Before, and not after, there is a secret ID that nobody gets.
        directory.prove_writable().map_err(failed)?;
        let mark = BTreeMap::from([(ISSUED_BY.to_owned(), MARK.to_owned())]);
        let issued = approle::issue_secret_id(client, &self.mount, &self.role, &mark, client.soon())
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
        if let Err(cause) = directory.replace_set(&files) {
            self.destroy(client, &issued.secret_id_accessor).await?;
            return Err(failed(cause));
        }
        Ok(())
    }

    /// Destroys the secret IDs that the current one replaced. Those of others, and those that another run of
    /// bootstrap may be delivering right now, stay.
    async fn clear_replaced(&self, client: &VaultClient, current: &str) -> Result<(), BootstrapError> {
        let accessors = approle::secret_id_accessors(client, &self.mount, &self.role, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("listing the secret IDs of {}", self.role)))?;
        for accessor in accessors.iter().filter(|accessor| *accessor != current) {
            let Some(status) = self.look_up(client, accessor).await? else { continue };
            let is_ours = status.metadata.get(ISSUED_BY).is_some_and(|issuer| issuer == MARK);
            if is_ours && is_past_overlap(&status) {
                self.destroy(client, accessor).await?;
                tracing::info!("destroyed a replaced secret ID of {}", self.role);
            }
        }
        Ok(())
    }

    async fn destroy(&self, client: &VaultClient, accessor: &str) -> Result<(), BootstrapError> {
        approle::destroy_accessor(client, &self.mount, &self.role, accessor, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("destroying a replaced secret ID of {}", self.role)))
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

/// Whether credentials that bootstrap delivered lie in a directory.
pub(crate) fn is_delivered(directory: &Path) -> bool {
    matches!(read(directory), Ok(Some(_)))
}

/// Whether a secret ID has been there for so long that those before it are no longer needed.
fn is_past_overlap(status: &SecretIdStatus) -> bool {
    // A quarter of a life at most: half of it later there is the next one.
    let overlap = OVERLAP.min(status.ttl / 4);
    status.remaining.is_none_or(|remaining| status.ttl.saturating_sub(remaining) > overlap)
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
fn due(
    delivered: Option<&Delivered>,
    role_id: &SecretString,
    status: Option<&SecretIdStatus>,
) -> Option<Due> {
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

    fn living(remaining: Option<Duration>) -> SecretIdStatus {
        SecretIdStatus { ttl: Duration::from_hours(1), remaining, metadata: BTreeMap::new() }
    }

    #[test]
    fn due_by_what_lies_there_and_what_the_server_says() {
        let delivered = Delivered { role_id: "r".into(), accessor: "a".to_owned() };
        let due = |delivered, role_id: &str, status: Option<SecretIdStatus>| {
            super::due(delivered, &role_id.into(), status.as_ref())
        };
        let minutes = |minutes| Some(living(Some(Duration::from_mins(minutes))));
        assert_eq!(due(None, "r", None), Some(Due::Missing));
        assert_eq!(due(Some(&delivered), "other", minutes(60)), Some(Due::OtherRole));
        assert_eq!(due(Some(&delivered), "r", None), Some(Due::Gone));
        assert_eq!(due(Some(&delivered), "r", minutes(30)), Some(Due::HalfOver));
        assert_eq!(due(Some(&delivered), "r", minutes(31)), None);
        assert_eq!(due(Some(&delivered), "r", Some(living(None))), None);
    }

    #[test]
    fn what_is_replaced_lives_on_for_two_minutes() {
        assert!(!is_past_overlap(&living(Some(Duration::from_mins(58)))));
        assert!(is_past_overlap(&living(Some(Duration::from_mins(57)))));
        assert!(is_past_overlap(&living(None)));
    }
}
