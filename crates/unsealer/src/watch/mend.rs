//! What wants a root token, done beside the watch: the end of a rekey that was cut off, and the break-glass credential.

use std::time::Duration;

use agent_runtime::with_causes;
use boot_clock::BootTime;
use vault_client::VaultClient;

use crate::key_store::KeyStore;
use crate::status::Local;
use crate::{UnsealerError, break_glass, rekey};

/// Between two attempts: without a root token there is nothing to do it with, and one may be put there later.
const AGAIN_AFTER: Duration = Duration::from_mins(5);

/// When it was, and is to be, attempted.
#[derive(Debug, Default)]
pub(super) struct Mending {
    due: BootTime,
    is_under_way: bool,
}

impl Mending {
    /// When the next attempt is to begin; `None` where there is nothing to be done, or it is being done.
    pub(super) fn due(&self, any_unsealed: bool, local: Option<&Local>) -> Option<BootTime> {
        // Once at each start while there is root: what was proven may not have been noted.
        let is_first = self.due == BootTime::default();
        let lacks =
            |local: &Local| !local.break_glass || local.rekey_unfinished || (is_first && local.root_token);
        let wanted = local.is_some_and(|local| local.has_keys() && lacks(local));
        (!self.is_under_way && any_unsealed && wanted).then_some(self.due)
    }

    /// Nothing has been tried yet: whoever waits for readiness may revoke the root token next.
    pub(super) fn is_settling(&self, any_unsealed: bool, local: Option<&Local>) -> bool {
        let is_first = self.due == BootTime::default();
        is_first && (local.is_none() || self.is_under_way || self.due(any_unsealed, local).is_some())
    }

    pub(super) fn begin(&mut self) {
        self.is_under_way = true;
    }

    pub(super) fn end(&mut self, result: Result<(), UnsealerError>, local: Option<&Local>) {
        self.is_under_way = false;
        self.due = BootTime::now() + AGAIN_AFTER;
        if let Err(error) = result {
            let what = if local.is_some_and(|local| local.rekey_unfinished) {
                "a rekey was cut off, and cannot be finished now; unsealer rekey tries it again"
            } else {
                "there is no break-glass credential that was proven, and none could be with the root token that is here"
            };
            tracing::warn!("{what}: {}", with_causes(&error));
        }
    }
}

/// One attempt.
pub(super) async fn mend(client: &VaultClient, store: &KeyStore) -> Result<(), UnsealerError> {
    rekey::resume(client, store).await?;
    break_glass::ensure(client, store).await.map(drop)
}
