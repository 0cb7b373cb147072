//! Many services: the policy in parts, and a token for each.
//!
//! A server makes a token's rules anew at each request, so that with four rules for each of a thousand services every
//! request cost it some 15 ms. Therefore a service's rules stand in the part that the first hexadecimal digit of its
//! name's SHA-256 says, and each look is taken with batch tokens under one part each, of which the server stores
//! nothing. bootstrap's own token carries all parts, and can make no token that may do more than it may.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use vault_client::{VaultClient, VaultError, token};

use super::{MOUNT, POLICY, rule};
use crate::concurrent::for_each;
use crate::deliver::Delivery;
use crate::mark::Mark;

/// Of so many services the policy is one.
const MOST_TOGETHER: usize = 64;

/// How long the token of a part is good for: one look, however slow.
const LIFE: Duration = Duration::from_mins(10);

/// Whether the policy of so many services is divided.
pub(super) const fn is_divided(services: usize) -> bool {
    services > MOST_TOGETHER
}

/// The policy that has the rules for a service.
pub(super) fn policy_of(mark: &Mark, service: &str) -> String {
    let digit = digest(&SHA256, service.as_bytes()).as_ref()[0] >> 4;
    format!("{}{digit:x}", beginning(mark))
}

/// Whether this is the name of a part of the stack's policy.
pub(super) fn is_part(mark: &Mark, policy: &str) -> bool {
    policy.strip_prefix(&beginning(mark)).is_some_and(|digit| digit.len() == 1)
}

/// No stack's name has a dot in it.
fn beginning(mark: &Mark) -> String {
    format!("{}.", mark.name(POLICY))
}

/// By which the tokens of the parts are made.
pub(super) fn rules() -> String {
    let only = "  allowed_parameters = {\n    \"type\" = [\"batch\"]\n    \"policies\" = []\n    \
                \"no_default_policy\" = []\n    \"ttl\" = []\n  }\n";
    rule("auth/token/create", r#""update""#, only)
}

/// By whose token each delivery is looked after.
pub(crate) struct Hands {
    own: VaultClient,
    mark: Mark,
    parts: HashMap<String, VaultClient>,
}

impl Hands {
    /// By this one all.
    pub(crate) fn one(client: VaultClient) -> Self {
        Self { own: client, mark: Mark::default(), parts: HashMap::new() }
    }

    /// By bootstrap's own token, or, where there are many services, by one for each part of them.
    ///
    /// Where Vault makes none, as before the apply that divides the policy, by its own.
    pub(crate) async fn of(own: VaultClient, mark: Mark, deliveries: &[Delivery]) -> Self {
        let services = deliveries.iter().filter(|delivery| delivery.mount != MOUNT);
        let policies: BTreeSet<String> = match services.clone().count() {
            count if is_divided(count) => services.map(|delivery| policy_of(&mark, &delivery.role)).collect(),
            _ => BTreeSet::new(),
        };
        let made = for_each("logging in", policies.into_iter().collect(), |policy: String| {
            let own = own.clone();
            async move {
                let auth = token::create_batch(&own, &[&policy], LIFE, own.soon()).await?;
                Ok::<_, VaultError>((policy, own.with_token(auth.client_token)))
            }
        });
        let parts = made.await.unwrap_or_else(|error| {
            tracing::debug!("there is no token for a part of the services: {error}");
            Vec::new()
        });
        Self { own, mark, parts: parts.into_iter().collect() }
    }

    /// The one for this delivery.
    pub(crate) fn client(&self, delivery: &Delivery) -> &VaultClient {
        if delivery.mount == MOUNT {
            return &self.own;
        }
        self.parts.get(&policy_of(&self.mark, &delivery.role)).unwrap_or(&self.own)
    }
}
