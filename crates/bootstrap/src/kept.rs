//! What is kept fresh: the services of the last apply, on record in the state directory.
//!
//! So `bootstrap run` goes on while the files are broken or gone, also over a restart, and knows without root whether
//! they say something else by now. Losing the record costs just that.

use std::path::Path;
use std::time::Duration;

use ring::hmac;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, SecretDir};
use serde::{Deserialize, Serialize};

use crate::BootstrapError;
use crate::args::{Sources, Stack};
use crate::deliver::Delivery;
use crate::desired::{Desired, DesiredService};
use crate::inputs::Inputs;
use crate::ledger::{self, DIRECTORY};
use crate::mark::Mark;
use crate::own;

const FILE: &str = "applied.json";

/// Above this it is no record of ours: some ten thousand services.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// The services, and the files that declared them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Kept {
    /// Of the digests, in hexadecimal.
    key: String,
    /// As they were applied; `None` where that is not known.
    pub(crate) files: Option<Inputs>,
    /// The stack's name, where it has one.
    stack: Option<String>,
    services: Vec<KeptService>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct KeptService {
    name: String,
    mode: u32,
    owner: Option<u32>,
    group: Option<u32>,
    /// In seconds.
    secret_id_ttl: u64,
}

impl Kept {
    /// Reads the record; an empty one with a new key where there is none that can be read.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, BootstrapError> {
        let read = || {
            let content = SecretDir::open(&state_dir.join(DIRECTORY)).ok()?.read(FILE, MAX_FILE).ok()?;
            serde_json::from_slice::<Self>(content.expose_secret()).ok().filter(|kept| kept.key.len() >= 64)
        };
        if let Some(kept) = read() {
            return Ok(kept);
        }
        let key = ledger::random_key().map_err(BootstrapError::Random)?;
        Ok(Self { key, files: None, stack: None, services: Vec::new() })
    }

    /// Takes what files declare for what there is to keep, where nothing is on record.
    pub(crate) fn or_declared(mut self, desired: &Desired) -> Self {
        if self.files.is_none() {
            (self.services, self.stack) = (services(desired), desired.mark.stack.clone());
        }
        self
    }

    /// Notes what was applied, and from which files.
    pub(crate) fn note(
        &mut self,
        desired: &Desired,
        files: Inputs,
        state_dir: &Path,
    ) -> Result<(), BootstrapError> {
        (self.services, self.stack) = (services(desired), desired.mark.stack.clone());
        self.files = Some(files);
        // Maps of strings are always JSON.
        let content = SecretSlice::from(serde_json::to_vec(self).unwrap_or_default());
        SecretDir::create(&state_dir.join(DIRECTORY), 0o700)
            .and_then(|directory| directory.replace(FILE, &content, Attrs::mode(0o400)))
            .map(drop)
            .map_err(BootstrapError::StateDir)
    }

    /// The files as they are now.
    pub(crate) fn look_at(&self, sources: &Sources) -> Inputs {
        Inputs::read(sources, &self.hmac_key())
    }

    /// A token's digest, by which one is told from another.
    pub(crate) fn digest(&self, token: &SecretString) -> String {
        ledger::digest(&self.hmac_key(), token)
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes())
    }

    /// Where the credentials go, bootstrap's own last.
    pub(crate) fn deliveries(&self, stack: &Stack) -> Vec<Delivery> {
        let services = self.services.iter().map(|service| {
            let KeptService { mode, owner, group, .. } = *service;
            Delivery::of_service(&service.name, Attrs { mode, owner, group }, stack)
        });
        services.chain([own::delivery(stack, &self.mark())]).collect()
    }

    /// The stack's mark.
    pub(crate) fn mark(&self) -> Mark {
        Mark { stack: self.stack.clone() }
    }

    /// How many services there are.
    pub(crate) const fn len(&self) -> usize {
        self.services.len()
    }

    /// How long the secret IDs live; zero for ever.
    pub(crate) fn lives(&self) -> impl Iterator<Item = Duration> {
        self.services.iter().map(|service| Duration::from_secs(service.secret_id_ttl))
    }
}

fn services(desired: &Desired) -> Vec<KeptService> {
    let service = |service: &DesiredService| KeptService {
        name: service.name.clone(),
        mode: service.attrs.mode,
        owner: service.attrs.owner,
        group: service.attrs.group,
        secret_id_ttl: service.role.secret_id_ttl.as_secs(),
    };
    desired.services.iter().map(service).collect()
}
