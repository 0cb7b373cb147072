//! When the command of `--on-change exec:` runs: pure.

use std::time::Duration;

use backoff::{Jitter, Policy};
use boot_clock::BootTime;

/// Between attempts while it fails.
const DELAYS: Policy = match Policy::new(Duration::from_secs(2), Duration::from_mins(5)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// How long it may take.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Once a change, one at a time, and again until it succeeds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hook {
    phase: Phase,
    /// Failures in a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Due(BootTime),
    /// `again`: another change came meanwhile. `kill_at` is `None` once it was killed.
    Running {
        kill_at: Option<BootTime>,
        again: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Start,
    Kill,
}

impl Hook {
    pub(crate) const fn changed(&mut self, now: BootTime) {
        match &mut self.phase {
            Phase::Idle | Phase::Due(_) => self.phase = Phase::Due(now),
            Phase::Running { again, .. } => *again = true,
        }
    }

    pub(crate) fn due(&mut self, now: BootTime) -> Option<Act> {
        match &mut self.phase {
            Phase::Due(at) if *at <= now => Some(Act::Start),
            Phase::Running { kill_at, .. } if kill_at.is_some_and(|at| at <= now) => {
                *kill_at = None;
                Some(Act::Kill)
            }
            _ => None,
        }
    }

    pub(crate) const fn wake_up(&self) -> Option<BootTime> {
        match self.phase {
            Phase::Idle => None,
            Phase::Due(at) => Some(at),
            Phase::Running { kill_at, .. } => kill_at,
        }
    }

    pub(crate) fn started(&mut self, now: BootTime) {
        self.phase = Phase::Running { kill_at: Some(now + LIMIT), again: false };
    }

    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
        let again = matches!(self.phase, Phase::Running { again: true, .. });
        self.phase = if again { Phase::Due(BootTime::at(Duration::ZERO)) } else { Phase::Idle };
    }

    pub(crate) fn failed(&mut self, now: BootTime, jitter: Jitter) {
        self.phase = Phase::Due(now + DELAYS.delay(self.failures, jitter));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::at(Duration::from_secs(1_000 + seconds))
    }

    #[test]
    fn runs_once_a_change_and_once_more_for_those_that_came_meanwhile() {
        let mut hook = Hook::default();
        assert_eq!((hook.due(at(0)), hook.wake_up()), (None, None));
        hook.changed(at(1));
        assert_eq!(hook.due(at(1)), Some(Act::Start));
        hook.started(at(1));
        hook.changed(at(2));
        hook.changed(at(3));
        assert_eq!(hook.due(at(3)), None);
        hook.succeeded();
        assert_eq!(hook.due(at(4)), Some(Act::Start));
        hook.started(at(4));
        hook.succeeded();
        assert_eq!((hook.due(at(5)), hook.wake_up()), (None, None));
    }

    #[test]
    fn a_failure_is_tried_again_ever_later() {
        let mut hook = Hook::default();
        hook.changed(at(0));
        let mut now = at(0);
        for attempt in 0..20 {
            assert_eq!(hook.due(now), Some(Act::Start), "attempt {attempt}");
            hook.started(now);
            hook.failed(now, Jitter::NONE);
            let next = hook.wake_up().unwrap();
            assert!(next > now && next <= now + Duration::from_mins(5));
            now = next;
        }
    }

    #[test]
    fn one_that_hangs_is_killed_once() {
        let mut hook = Hook::default();
        hook.changed(at(0));
        hook.started(at(0));
        assert_eq!((hook.due(at(59)), hook.wake_up()), (None, Some(at(60))));
        assert_eq!((hook.due(at(60)), hook.due(at(61)), hook.wake_up()), (Some(Act::Kill), None, None));
    }
}
