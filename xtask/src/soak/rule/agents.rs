//! What must hold for the agents.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::super::agents::{Agent, Fares};
use super::super::outages::Outages;
use super::super::stack::{NETWORK, Stack, VAULT};
use super::Rule;

/// How soon an agent is itself again once nothing is in its way.
const BACK_WITHIN: Duration = Duration::from_secs(3);

/// In any span as long as this, an agent makes fewer requests than so many: two a second. Shorter ones say nothing: a
/// login, the read that follows it and the end of the token before come at once.
const SPAN: Duration = Duration::from_secs(10);
const TOO_MANY: usize = 20;

/// An agent has a good token and is ready, save while Vault or the way to it is down, and for three seconds after.
#[derive(Default)]
pub(in super::super) struct Tokens {
    /// Service → when what was delivered to it did not log in, or did again.
    delivered: BTreeMap<String, Instant>,
    without_delivery: BTreeSet<String>,
    looks: usize,
    without: usize,
    slowest: Duration,
}

impl Rule for Tokens {
    fn look(&mut self, stack: &Stack, outages: &Outages) -> Vec<String> {
        let mut breaches = Vec::new();
        for agent in stack.agents() {
            let now = Instant::now();
            let fares = agent.fares(&stack.api());
            self.looks += 1;
            if matches!(fares, Fares::Well | Fares::Unknown)
                || outages.is_down(VAULT)
                || outages.is_down(NETWORK)
            {
                continue;
            }
            self.without += 1;
            let Some((without, since)) = self.without_excuse(now, agent, stack, outages) else { continue };
            self.slowest = self.slowest.max(without);
            if without > BACK_WITHIN {
                breaches.push(format!(
                    "{}: {fares:?}, {:.1} s after {since}; it says:\n{}",
                    agent.service,
                    without.as_secs_f64(),
                    agent.last_words(12)
                ));
            }
        }
        breaches
    }

    fn says(&self) -> String {
        format!(
            "{} looks at an agent; {} times it had no good token or was not ready, at the latest {:.1} s after Vault was \
             there again",
            self.looks,
            self.without,
            self.slowest.as_secs_f64()
        )
    }
}

impl Tokens {
    /// How long ago it was that something was last in its way, and what.
    fn without_excuse(
        &mut self,
        now: Instant,
        agent: &Agent,
        stack: &Stack,
        outages: &Outages,
    ) -> Option<(Duration, &'static str)> {
        // Without credentials that log in there is nothing that it could do.
        let logs_in = stack.log_in(&agent.service) == Some(200);
        let had_none = self.without_delivery.remove(&agent.service);
        if !logs_in {
            self.without_delivery.insert(agent.service.clone());
        }
        if !logs_in || had_none {
            self.delivered.insert(agent.service.clone(), Instant::now());
        }
        let ends = [
            (Some(stack.began()), "the beginning"),
            (outages.last_end(VAULT), "Vault's return"),
            (outages.last_end(NETWORK), "the network's return"),
            (agent.unaware_until(), "it has to know that its token was revoked"),
            (self.delivered.get(&agent.service).copied(), "it was given credentials that log in"),
        ];
        let ends = ends.into_iter().filter_map(|(end, what)| Some((end?, what)));
        let (last, what) = ends.max_by_key(|(end, _)| *end)?;
        Some((now.checked_duration_since(last)?, what))
    }
}

/// No agent makes two requests a second or more, whatever happens.
#[derive(Default)]
pub(in super::super) struct Requests {
    agents: Vec<Seen>,
}

#[derive(Default)]
struct Seen {
    all: usize,
    /// Those of the last [`SPAN`].
    recent: VecDeque<Instant>,
    most: usize,
}

impl Rule for Requests {
    fn look(&mut self, stack: &Stack, _: &Outages) -> Vec<String> {
        self.agents.resize_with(stack.agents().len(), Seen::default);
        let mut breaches = Vec::new();
        for (agent, seen) in stack.agents().iter().zip(&mut self.agents) {
            for arrival in agent.network().arrivals(seen.all) {
                seen.take(arrival);
                if seen.recent.len() == TOO_MANY {
                    breaches.push(format!(
                        "{}: {TOO_MANY} requests in {} s:\n{}",
                        agent.service,
                        SPAN.as_secs(),
                        agent.last_words(TOO_MANY)
                    ));
                }
            }
        }
        breaches
    }

    fn says(&self) -> String {
        let all: usize = self.agents.iter().map(|seen| seen.all).sum();
        let most = self.agents.iter().map(|seen| seen.most).max().unwrap_or_default();
        format!("{all} requests of agents; the most of one agent in {} s were {most}", SPAN.as_secs())
    }
}

impl Seen {
    fn take(&mut self, arrival: Instant) {
        self.all += 1;
        self.recent.push_back(arrival);
        while self.recent.front().is_some_and(|first| arrival.saturating_duration_since(*first) >= SPAN) {
            self.recent.pop_front();
        }
        self.most = self.most.max(self.recent.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_requests_of_any_span_are_found() {
        let begin = Instant::now();
        let mut seen = Seen::default();
        for milliseconds in [0, 100, 9_900, 10_000, 10_050, 10_099, 10_100, 22_000] {
            seen.take(begin + Duration::from_millis(milliseconds));
        }
        assert_eq!((seen.all, seen.most, seen.recent.len()), (8, 5, 1));
    }
}
