//! `unsealer check-keys`: which shares are good, told from the shares themselves, and by Vault where asked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use agent_runtime::Exit;
use serde::Serialize;
use vault_client::VaultClient;

use crate::UnsealerError;
use crate::init::THRESHOLD;
use crate::key_store::{KeyStore, Place, Rekey, Shares};
use crate::output::answer;
use crate::root::{self, Authority};
use crate::shamir::Candidate;

/// What is known of the shares that are here.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Report {
    /// How many are good, or may be.
    usable: usize,
    threshold: usize,
    /// By what the good ones are known: `vault`, `each other`, or nothing.
    proven_by: Option<&'static str>,
    shares: Vec<ShareReport>,
    /// A rekey was cut off and its new shares lie beside these.
    rekey_unfinished: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ShareReport {
    file: PathBuf,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Damaged,
    Unreadable,
    /// There are too few others to tell it by.
    Undetermined,
}

/// What Vault says of the shares.
enum Verdict {
    NotAsked,
    /// It takes these.
    Taken(Candidate),
    /// It takes none.
    Refused,
}

impl From<Option<Candidate>> for Verdict {
    fn from(taken: Option<Candidate>) -> Self {
        taken.map_or(Self::Refused, Self::Taken)
    }
}

/// Checks the shares; with `prove` Vault is asked as well.
pub(crate) async fn command(
    client: &VaultClient,
    store: &KeyStore,
    threshold: Option<usize>,
    prove: bool,
    json: bool,
) -> Result<Exit, UnsealerError> {
    let shares = store.shares(Place::Current)?;
    let threshold = threshold.unwrap_or(THRESHOLD.into());
    let verdict = if prove { ask(client, store, &shares).await?.into() } else { Verdict::NotAsked };
    let mut report = Report::of(&shares, threshold, &verdict);
    report.rekey_unfinished = store.rekey()? != Rekey::None;
    for share in report.shares.iter_mut().filter(|share| share.why.is_none()) {
        share.why = too_open(&share.file);
    }
    answer(json, &report, &report.text(store.path()), report.exit())
}

/// Whether Vault takes the shares, proven by a root token that is made of them and revoked at once.
async fn ask(
    client: &VaultClient,
    store: &KeyStore,
    shares: &Shares,
) -> Result<Option<Candidate>, UnsealerError> {
    if let Some(credential) = store.break_glass_credential()? {
        return Ok(root::prove_by(client, &credential, shares).await?);
    }
    let authority = Authority::obtain(client, store).await?;
    let proven = root::prove(&authority.client, shares).await;
    authority.release().await;
    Ok(proven?)
}

fn too_open(file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| format!("mode {mode:04o}: run chmod 400 {}", file.display()))
}

impl Report {
    fn of(shares: &Shares, threshold: usize, verdict: &Verdict) -> Self {
        let candidates = shares.candidates(threshold);
        // More shares on one polynomial than it takes to make one: that is no accident.
        let agreeing = candidates.first().filter(|first| first.agreeing.len() > threshold);
        let (good, proven_by) = match verdict {
            Verdict::Taken(taken) => (Some(taken), Some("vault")),
            Verdict::Refused => (None, Some("vault")),
            Verdict::NotAsked => (agreeing, agreeing.map(|_| "each other")),
        };
        let state = |index: usize| match good {
            Some(good) if good.agreeing.contains(&index) => State::Good,
            None if proven_by.is_none() && candidates.iter().any(|one| one.agreeing.contains(&index)) => {
                State::Undetermined
            }
            _ => State::Damaged,
        };
        let found = shares.found.iter().enumerate();
        let found = found.map(|(index, share)| (share.path.clone(), state(index), None));
        let unreadable = shares.unreadable.iter();
        let unreadable = unreadable.map(|(path, why)| (path.clone(), State::Unreadable, Some(why.clone())));
        let mut shares: Vec<_> =
            found.chain(unreadable).map(|(file, state, why)| ShareReport { file, state, why }).collect();
        shares.sort_by(|one, other| one.file.cmp(&other.file));
        let usable = shares.iter().filter(|share| matches!(share.state, State::Good | State::Undetermined));
        Self { usable: usable.count(), threshold, proven_by, shares, rekey_unfinished: false }
    }

    fn exit(&self) -> Exit {
        let is_bad = |share: &ShareReport| matches!(share.state, State::Damaged | State::Unreadable);
        if self.usable < self.threshold {
            Exit::Config
        } else if self.shares.iter().any(|share| is_bad(share) || share.why.is_some()) {
            Exit::Failed
        } else {
            Exit::Done
        }
    }

    fn text(&self, keys: &Path) -> String {
        let line = |share: &ShareReport| {
            let state = match share.state {
                State::Good => "good",
                State::Damaged => "damaged, or of another Vault",
                State::Unreadable => "unreadable",
                State::Undetermined => "undetermined",
            };
            let why = share.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            format!(
                "{}  {state}{why}
",
                share.file.display()
            )
        };
        let mut text: String = self.shares.iter().map(line).collect();
        let (usable, threshold) = (self.usable, self.threshold);
        let verdict = if self.shares.is_empty() {
            format!("there are no key shares in {}\n", keys.display())
        } else if usable < threshold {
            format!("{usable} of the {threshold} that unseal: Vault cannot be unsealed with these\n")
        } else if let Some(by) = self.proven_by {
            format!("{usable} good key shares, proven by {by}; {threshold} unseal\n")
        } else {
            format!(
                "{usable} key shares can be read, too few of which fit together to tell good from damaged; \
                 unsealer check-keys --prove asks Vault\n"
            )
        };
        text += &verdict;
        if self.rekey_unfinished {
            text += "a rekey was cut off: unsealer rekey finishes it\n";
        }
        text
    }
}
