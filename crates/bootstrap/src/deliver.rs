//! Handing a service its credentials, and seeing whether those it has still do.
//!
//! `<approle-dir>/<service>/` holds `role_id`, `secret_id` and the secret ID's `accessor`, which change
//! together: whoever holds the accessor alone can do nothing with it, and bootstrap looks the secret ID up
//! by it without knowing, or keeping, the secret ID itself.

mod due;
mod found;
mod owner;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_runtime::{Exit, Failure as _};
use boot_clock::BootTime;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, FileError, SecretDir, SetFile};
use vault_client::approle::SecretIdStatus;
use vault_client::{VaultClient, approle};

pub(crate) use due::Due;
pub(crate) use found::{accessor, is_delivered};
pub(crate) use owner::may_give_away;

use crate::BootstrapError;
use crate::args::Stack;
use crate::concurrent::for_each;
use crate::mark::MARK;
use crate::own::Hands;
use due::{Other, Room, is_past_overlap};
use found::{FILES, Found};

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
    /// Where the credentials that are replaced are kept, if they are.
    pub(crate) previous: Option<PathBuf>,
}

/// What a look at one delivery finds.
pub(crate) struct Look {
    role_id: SecretString,
    found: Found,
    status: Option<SecretIdStatus>,
    /// Why new credentials are due, if they are.
    pub(crate) due: Option<Due>,
}

/// What came of a refresh.
#[derive(Debug)]
pub(crate) enum Refreshed {
    /// The credentials do.
    Good(InForce),
    /// These are new.
    New(InForce),
    /// Vault went away before it was asked.
    NotAsked,
}

/// The credentials that lie in a directory now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    /// By which they can be told from others.
    pub(crate) accessor: String,
    /// When the secret ID ends; `None` for never.
    pub(crate) until: Option<BootTime>,
}

impl Refreshed {
    /// Whether there are new credentials.
    pub(crate) const fn is_new(&self) -> bool {
        matches!(self, Self::New(..))
    }
}

/// Refreshes all, side by side. One that fails holds up no other, save where Vault has gone away: then those that are
/// not under way yet are not begun.
pub(crate) async fn refresh_all(
    hands: &Hands,
    deliveries: Vec<Delivery>,
) -> Vec<Result<Refreshed, BootstrapError>> {
    let is_away = Arc::new(AtomicBool::new(false));
    let refreshed = for_each("looking at credentials", deliveries, |delivery| {
        let (client, is_away) = (hands.client(&delivery).clone(), Arc::clone(&is_away));
        async move {
            if is_away.load(Ordering::Relaxed) {
                return Ok::<_, Infallible>(Ok(Refreshed::NotAsked));
            }
            let refreshed = delivery.refresh(&client).await;
            if refreshed.as_ref().is_err_and(|error| error.exit() == Exit::Unavailable) {
                is_away.store(true, Ordering::Relaxed);
            }
            Ok(refreshed)
        }
    });
    let Ok(results) = refreshed.await;
    results
}

impl Delivery {
    /// That of a service.
    pub(crate) fn of_service(name: &str, attrs: Attrs, stack: &Stack) -> Self {
        Self {
            mount: stack.approle_mount.clone(),
            role: name.to_owned(),
            directory: stack.approle_dir.join(name),
            attrs,
            directory_mode: 0o750,
            previous: None,
        }
    }

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

    /// Looks, and delivers where that is due.
    async fn refresh(&self, client: &VaultClient) -> Result<Refreshed, BootstrapError> {
        let look = self.look(client).await?;
        if let Some(due) = look.due
            && self.make_room(client, &look, due).await?
        {
            let in_force = self.issue(client, look).await?;
            tracing::info!("delivered credentials to {}: {due}", self.directory.display());
            return Ok(Refreshed::New(in_force));
        }
        // Where new ones are due and have to wait, these are good yet.
        let (Found::Whole(delivered), Some(status)) = (look.found, look.status) else {
            return Ok(Refreshed::NotAsked);
        };
        if look.due.is_none() {
            // A mode that is another in the manifest now, a link that somebody removed.
            self.put(&delivered.files)?;
            if is_past_overlap(&status) {
                self.clear_replaced(client, &delivered.accessor).await?;
            }
        }
        Ok(Refreshed::Good(InForce::new(delivered.accessor, status.remaining)))
    }

    /// Looks at what lies there, and asks the server what that is still good for.
    pub(crate) async fn look(&self, client: &VaultClient) -> Result<Look, BootstrapError> {
        let found = self.found()?;
        let role_id = approle::role_id(client, &self.mount, &self.role, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("reading the role_id of {}", self.role)))?;
        let status = match &found {
            Found::Whole(delivered) => self.look_up(client, &delivered.accessor).await?,
            Found::Nothing | Found::Altered => None,
        };
        let due = match &found {
            Found::Nothing => Some(Due::Missing),
            Found::Altered => Some(Due::Altered),
            Found::Whole(delivered) => {
                let is_same_role = delivered.role_id.expose_secret() == role_id.expose_secret();
                due::of_whole(is_same_role, status.as_ref())
            }
        };
        Ok(Look { role_id, found, status, due })
    }

    /// Sees to it that no more than two secret IDs of the role will live once one more is issued, and gives whether
    /// one can be: strays are left by a kill between issuing and delivering.
    async fn make_room(&self, client: &VaultClient, look: &Look, due: Due) -> Result<bool, BootstrapError> {
        // Nothing was ever delivered to a directory that is yet to be made.
        if due == Due::Missing && !self.directory.exists() {
            return Ok(true);
        }
        let current = match &look.found {
            Found::Whole(delivered) if due == Due::HalfOver => Some(delivered.accessor.as_str()),
            _ => None,
        };
        let others = self.others(client, current).await?;
        let remaining = look.status.as_ref().and_then(|status| status.remaining);
        match due::room(current.and(remaining), &others) {
            Room::Wait => {
                tracing::debug!("{}: a younger secret ID may be on its way here", self.directory.display());
                Ok(false)
            }
            Room::After(strays) => {
                for accessor in strays {
                    self.destroy(client, accessor).await?;
                    tracing::info!("destroyed a stray secret ID of {}", self.role);
                }
                Ok(true)
            }
        }
    }

    /// Issues a secret ID and delivers it. A kill in between leaves a stray, which is cleared later.
    async fn issue(&self, client: &VaultClient, look: Look) -> Result<InForce, BootstrapError> {
        let directory = SecretDir::create(&self.directory, self.directory_mode)
            .map_err(|cause| BootstrapError::Delivery { service: self.role.clone(), cause })?;
        // Before, and not after, there is a secret ID that nobody gets.
        directory
            .prove_writable()
            .map_err(|cause| BootstrapError::Delivery { service: self.role.clone(), cause })?;
        let mark = BTreeMap::from([(ISSUED_BY.to_owned(), MARK.to_owned())]);
        let issued = approle::issue_secret_id(client, &self.mount, &self.role, &mark, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("issuing a secret ID for {}", self.role)))?;
        let bytes = |text: &str| SecretSlice::from(text.as_bytes().to_vec());
        let files = [
            bytes(look.role_id.expose_secret()),
            bytes(issued.secret_id.expose_secret()),
            bytes(&issued.secret_id_accessor),
        ];
        let kept = self.keep_previous(&look.found).and_then(|()| self.put(&files));
        if let Err(error) = kept {
            self.destroy(client, &issued.secret_id_accessor).await?;
            return Err(error);
        }
        let life = Some(issued.secret_id_ttl).filter(|ttl| !ttl.is_zero());
        Ok(InForce::new(issued.secret_id_accessor, life))
    }

    fn keep_previous(&self, found: &Found) -> Result<(), BootstrapError> {
        let (Some(previous), Found::Whole(delivered)) = (&self.previous, found) else { return Ok(()) };
        let kept = Self { directory: previous.clone(), ..self.clone() };
        kept.put(&delivered.files)
    }

    /// Makes these the files, as a set; does nothing where they are that already.
    fn put(&self, values: &[SecretSlice<u8>]) -> Result<(), BootstrapError> {
        let attrs = self.attrs;
        let files: Vec<_> =
            FILES.iter().zip(values).map(|(name, value)| SetFile { name, value, attrs }).collect();
        SecretDir::create(&self.directory, self.directory_mode)
            .and_then(|directory| directory.replace_set(&files))
            .map(drop)
            .map_err(|cause| BootstrapError::Delivery { service: self.role.clone(), cause })
    }

    /// Destroys the secret IDs that the current one replaced. Those that another run of bootstrap may be delivering
    /// right now stay.
    async fn clear_replaced(&self, client: &VaultClient, current: &str) -> Result<(), BootstrapError> {
        for Other { accessor, status } in self.others(client, Some(current)).await? {
            if is_past_overlap(&status) {
                self.destroy(client, &accessor).await?;
                tracing::info!("destroyed a replaced secret ID of {}", self.role);
            }
        }
        Ok(())
    }

    /// The living secret IDs that bootstrap issued, save the current one. Those of others are left alone.
    async fn others(
        &self,
        client: &VaultClient,
        current: Option<&str>,
    ) -> Result<Vec<Other>, BootstrapError> {
        let accessors = approle::secret_id_accessors(client, &self.mount, &self.role, client.soon())
            .await
            .map_err(BootstrapError::vault(format!("listing the secret IDs of {}", self.role)))?;
        let mut others = Vec::new();
        for accessor in accessors.into_iter().filter(|accessor| Some(accessor.as_str()) != current) {
            let Some(status) = self.look_up(client, &accessor).await? else { continue };
            if status.metadata.get(ISSUED_BY).is_some_and(|issuer| issuer == MARK) {
                others.push(Other { accessor, status });
            }
        }
        Ok(others)
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

    fn found(&self) -> Result<Found, BootstrapError> {
        match Found::read(&self.directory) {
            Ok(found) => Ok(found),
            Err(error) if error.is_input() => Ok(Found::Nothing),
            Err(cause) => Err(BootstrapError::Delivery { service: self.role.clone(), cause }),
        }
    }
}

impl InForce {
    fn new(accessor: String, remaining: Option<Duration>) -> Self {
        Self { accessor, until: remaining.map(|life| BootTime::now() + life) }
    }
}
