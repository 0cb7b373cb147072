//! What was down, from when to when: by that a rule knows what it has to excuse.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// All outages so far.
#[derive(Debug, Default)]
pub(super) struct Outages {
    list: Vec<Outage>,
}

#[derive(Debug)]
struct Outage {
    what: &'static str,
    begin: Instant,
    end: Option<Instant>,
}

impl Outages {
    pub(super) fn begin(&mut self, what: &'static str) {
        self.list.push(Outage { what, begin: Instant::now(), end: None });
    }

    pub(super) fn end(&mut self, what: &'static str) {
        let now = Instant::now();
        self.list.iter_mut().filter(|outage| outage.what == what).for_each(|outage| {
            outage.end.get_or_insert(now);
        });
    }

    /// Whether this is down now.
    pub(super) fn is_down(&self, what: &str) -> bool {
        self.list.iter().any(|outage| outage.what == what && outage.end.is_none())
    }

    /// When this was last down, and is no more.
    pub(super) fn last_end(&self, what: &str) -> Option<Instant> {
        self.list.iter().filter(|outage| outage.what == what).filter_map(|outage| outage.end).max()
    }

    /// For how long anything was down, of the outages that reach into the time since `begin`, from their own beginnings.
    pub(super) fn since(&self, begin: Instant) -> Duration {
        let now = Instant::now();
        let reaching = self.list.iter().filter(|outage| outage.end.is_none_or(|end| end >= begin));
        reaching.map(|outage| outage.end.unwrap_or(now) - outage.begin).sum()
    }

    pub(super) fn says(&self) -> String {
        let now = Instant::now();
        let mut kinds: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
        for outage in &self.list {
            let (count, longest) = kinds.entry(outage.what).or_default();
            *count += 1;
            *longest = (*longest).max(outage.end.unwrap_or(now) - outage.begin);
        }
        let kind = |(what, (count, longest)): (&&str, &(usize, Duration))| {
            format!("{what}: {count} times, {:.1} s at the longest", longest.as_secs_f64())
        };
        format!("down: {}", kinds.iter().map(kind).collect::<Vec<_>>().join("; "))
    }
}
