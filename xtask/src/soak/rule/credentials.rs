//! What must hold for what `bootstrap` delivers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::outages::Outages;
use super::super::stack::{Stack, VAULT};
use super::Rule;

/// What `run` needs to start, to log in and to look.
const GRACE: Duration = Duration::from_secs(3);

/// What was delivered to a service logs in, save for as long as what is there to deliver it was down.
#[derive(Default)]
pub(in super::super) struct Validity {
    /// Service → since when it has none that does.
    without: BTreeMap<String, Instant>,
    logins: usize,
    longest: Duration,
}

impl Rule for Validity {
    fn look(&mut self, stack: &Stack, outages: &Outages) -> Vec<String> {
        let mut breaches = Vec::new();
        for service in stack.services() {
            let status = stack.log_in(service);
            if status == Some(403) {
                breaches.push(format!(
                    "{service}: a login with what was delivered is denied: the role is locked"
                ));
            }
            self.logins += usize::from(status == Some(200));
            // A Vault that is away leaves open whether a credential is good.
            let is_open = status.is_none() || outages.is_down(VAULT);
            if status == Some(200) || is_open {
                self.without.remove(service);
                continue;
            }
            let since = *self.without.entry(service.clone()).or_insert_with(Instant::now);
            let (without, excused) = (since.elapsed(), outages.since(since) + GRACE);
            self.longest = self.longest.max(without);
            if without > excused {
                breaches.push(format!(
                    "{service}: without a valid credential for {:.1} s, of which an outage excuses {:.1} s",
                    without.as_secs_f64(),
                    excused.as_secs_f64()
                ));
                self.without.insert(service.clone(), Instant::now());
            }
        }
        breaches
    }

    fn says(&self) -> String {
        let longest = self.longest.as_secs_f64();
        format!(
            "{} logins with what was delivered; nobody was without for longer than {longest:.1} s",
            self.logins
        )
    }
}

/// Never do more than two secret IDs of a role live.
#[derive(Default)]
pub(in super::super) struct SecretIds {
    looks: usize,
    most: usize,
}

impl Rule for SecretIds {
    fn look(&mut self, stack: &Stack, _: &Outages) -> Vec<String> {
        let mut breaches = Vec::new();
        for service in stack.services() {
            let Some(living) = stack.living_secret_ids(service) else { continue };
            self.looks += 1;
            self.most = self.most.max(living);
            if living > 2 {
                breaches.push(format!("{service}: {living} secret IDs live"));
            }
        }
        breaches
    }

    fn says(&self) -> String {
        format!("{} looks at the secret IDs of a role; {} lived at the most", self.looks, self.most)
    }
}
