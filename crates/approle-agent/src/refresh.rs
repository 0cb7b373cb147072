//! When the secrets are read, and when CMD is told of a change: pure.

use std::time::Duration;

use backoff::{Jitter, Policy};
use boot_clock::BootTime;

/// Between two reads while they fail: the return of Vault is noticed within three seconds.
const RETRY_DELAYS: Policy = match Policy::new(Duration::from_millis(500), Duration::from_millis(2500)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// Between two reads while somebody has to mend something first.
const MENDING_DELAYS: Policy = match Policy::new(Duration::from_secs(1), Duration::from_secs(30)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// After a change the secrets are read again so soon: one that is written in several steps is told once.
const SETTLE: Duration = Duration::from_secs(2);

/// How many changes in a row are waited for to settle.
const MOST_SETTLING: u32 = 5;

/// When to read the secrets next, and how that went so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refresh {
    every: Duration,
    /// Until when the first read may fail for a reason that passes.
    deadline: BootTime,
    due: BootTime,
    /// In a row.
    failures: u32,
    /// Of the last of these, so many for a reason that passes, or so many that somebody has to mend.
    alike: u32,
    passes: bool,
    /// The last read was denied, with a token that was new then: another login would change nothing.
    denied: bool,
    /// The content that was rendered last.
    rendered: Option<u64>,
    /// Changes in a row that CMD has not been told of.
    unsettled: u32,
}

/// How a read went, and the rendering of what it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Written; the content's fingerprint.
    Rendered(u64),
    /// The token may not read a secret, or is none any more.
    Denied,
    /// Vault is away, or asks to be left alone for so long.
    Away { retry_after: Option<Duration> },
    /// Vault was away, and is back.
    Unanswered,
    /// Nothing is there: at first somebody is yet to write it, later somebody has removed it.
    Missing,
    /// Anything else.
    Failed,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Nothing,
    /// CMD is to have the new secrets.
    Deliver,
    /// The token may have been revoked: a new one is worth one attempt.
    LogInAnew,
    /// There never were any secrets, and there will be none in time.
    GiveUp,
}

impl Refresh {
    pub(crate) fn new(every: Duration, deadline: BootTime) -> Self {
        Self {
            every,
            deadline,
            due: BootTime::default(),
            failures: 0,
            alike: 0,
            passes: false,
            denied: false,
            rendered: None,
            unsettled: 0,
        }
    }

    pub(crate) const fn due(&self) -> BootTime {
        self.due
    }

    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) const fn has_rendered(&self) -> bool {
        self.rendered.is_some()
    }

    /// Whether CMD was told of everything that was rendered.
    pub(crate) const fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// There is a new token: what it may read is read at once, unless reads fail for reasons of their own.
    pub(crate) const fn logged_in(&mut self, now: BootTime) {
        if self.failures == 0 || self.passes {
            self.due = now;
        }
    }

    pub(crate) fn handle(&mut self, now: BootTime, read: Read, jitter: Jitter) -> Verdict {
        if read == Read::Denied && !std::mem::replace(&mut self.denied, true) {
            return Verdict::LogInAnew;
        }
        self.denied = read == Read::Denied;
        match read {
            Read::Rendered(content) => self.succeeded(now, content, jitter),
            _ => self.failed(now, read, jitter),
        }
    }

    fn succeeded(&mut self, now: BootTime, content: u64, jitter: Jitter) -> Verdict {
        self.failures = 0;
        let before = self.rendered.replace(content);
        if before.is_some_and(|before| before != content) {
            self.unsettled += 1;
            if self.unsettled < MOST_SETTLING {
                self.due = now + SETTLE;
                return Verdict::Nothing;
            }
        }
        // Agents that began together do not stay together.
        self.due = now + self.every * 9 / 10 + jitter.of(self.every / 10);
        self.deliver_what_settled(before.is_none())
    }

    fn failed(&mut self, now: BootTime, read: Read, jitter: Jitter) -> Verdict {
        let is_first = self.rendered.is_none();
        let passes =
            matches!(read, Read::Away { .. } | Read::Unanswered) || (read == Read::Missing && is_first);
        // What fails for a new reason may pass as soon as any: a server that just came back has odd answers.
        if self.passes != passes || read == Read::Unanswered {
            (self.passes, self.alike) = (passes, 0);
        }
        let delays = if passes { RETRY_DELAYS } else { MENDING_DELAYS };
        let asked_for = if let Read::Away { retry_after } = read { retry_after } else { None };
        self.due = now + delays.delay(self.alike, jitter).max(asked_for.unwrap_or_default());
        self.alike = self.alike.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        if is_first && (!passes || self.due >= self.deadline) {
            return Verdict::GiveUp;
        }
        // The files are new already, and nobody knows for how long this lasts.
        self.deliver_what_settled(false)
    }

    fn deliver_what_settled(&mut self, is_first: bool) -> Verdict {
        let unsettled = std::mem::take(&mut self.unsettled);
        if is_first || unsettled > 0 { Verdict::Deliver } else { Verdict::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_mins(5);
    const AWAY: Read = Read::Away { retry_after: None };

    fn at(seconds: u64) -> BootTime {
        BootTime::at(Duration::from_secs(1_000 + seconds))
    }

    fn refresh() -> Refresh {
        Refresh::new(EVERY, at(60))
    }

    fn rendered() -> Refresh {
        let mut refresh = refresh();
        assert_eq!(refresh.handle(at(0), Read::Rendered(1), Jitter::NONE), Verdict::Deliver);
        refresh
    }

    #[test]
    fn secrets_are_delivered_at_once_and_then_read_at_the_interval() {
        let mut refresh = rendered();
        assert_eq!(refresh.due(), at(270));
        assert_eq!(refresh.handle(at(270), Read::Rendered(1), Jitter::fixed(1.0)), Verdict::Nothing);
        assert_eq!(refresh.due(), at(570));
        refresh.logged_in(at(300));
        assert_eq!(refresh.due(), at(300));
    }

    #[test]
    fn a_change_in_several_steps_is_told_once() {
        let mut refresh = rendered();
        for (seconds, content, verdict) in
            [(270, 2, Verdict::Nothing), (272, 3, Verdict::Nothing), (274, 3, Verdict::Deliver)]
        {
            assert_eq!(refresh.due(), at(seconds));
            assert_eq!(refresh.handle(at(seconds), Read::Rendered(content), Jitter::NONE), verdict);
        }
        assert_eq!(refresh.handle(at(544), Read::Rendered(3), Jitter::NONE), Verdict::Nothing);
    }

    #[test]
    fn what_never_settles_is_told_all_the_same() {
        let mut refresh = rendered();
        let verdicts: Vec<_> = (2..12)
            .map(|content| refresh.handle(refresh.due(), Read::Rendered(content), Jitter::NONE))
            .collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Deliver).count(), 2);
    }

    #[test]
    fn a_change_is_told_though_vault_went_away() {
        let mut refresh = rendered();
        refresh.handle(at(270), Read::Rendered(2), Jitter::NONE);
        assert_eq!(refresh.handle(at(272), AWAY, Jitter::NONE), Verdict::Deliver);
        assert_eq!(refresh.handle(at(274), AWAY, Jitter::NONE), Verdict::Nothing);
    }

    #[test]
    fn what_was_rendered_once_is_kept_through_everything() {
        for read in [AWAY, Read::Unanswered, Read::Missing, Read::Failed] {
            let mut refresh = rendered();
            let mut reads = 0;
            while refresh.due() < at(270 + 3600) {
                let now = refresh.due();
                assert_eq!(refresh.handle(now, read, Jitter::NONE), Verdict::Nothing);
                assert!(refresh.due() > now, "a failure that does not wait spins");
                reads += 1;
            }
            // Half a second apart where each is lost: one that is took two seconds of its own.
            let most = if read == Read::Unanswered { 14_400 } else { 3600 };
            assert!(reads <= most, "{reads} reads of {read:?} in an hour");
        }
    }

    #[test]
    fn a_server_is_left_alone_for_as_long_as_it_asks() {
        let mut refresh = rendered();
        let busy = Read::Away { retry_after: Some(Duration::from_secs(40)) };
        assert_eq!(refresh.handle(at(270), busy, Jitter::NONE), Verdict::Nothing);
        assert_eq!(refresh.due(), at(310));
    }

    #[test]
    fn an_odd_answer_of_a_server_that_is_back_is_no_long_pause() {
        let mut refresh = rendered();
        for seconds in 270..300 {
            refresh.handle(at(seconds), AWAY, Jitter::fixed(1.0));
        }
        refresh.handle(at(300), Read::Failed, Jitter::fixed(1.0));
        assert_eq!(refresh.due(), at(301));
        refresh.handle(at(301), AWAY, Jitter::fixed(1.0));
        assert!(refresh.due() < at(302));
        refresh.logged_in(at(301));
        assert_eq!(refresh.due(), at(301));
        assert_eq!(refresh.failures(), 32);
    }

    #[test]
    fn what_was_lost_on_its_way_is_asked_for_again_soon() {
        let mut refresh = rendered();
        for seconds in 270..280 {
            refresh.handle(at(seconds), AWAY, Jitter::fixed(1.0));
        }
        assert!(refresh.due() > at(281));
        refresh.handle(at(281), Read::Unanswered, Jitter::fixed(1.0));
        assert!(refresh.due() < at(282));
    }

    #[test]
    fn the_first_secrets_are_waited_for_where_that_can_help() {
        for read in [AWAY, Read::Missing] {
            let mut waiting = refresh();
            while waiting.handle(waiting.due().max(at(0)), read, Jitter::NONE) == Verdict::Nothing {}
            assert!(waiting.due() >= at(60) && waiting.due() < at(65));
        }

        assert_eq!(refresh().handle(at(0), Read::Failed, Jitter::NONE), Verdict::GiveUp);
        let mut denied = refresh();
        assert_eq!(denied.handle(at(0), Read::Denied, Jitter::NONE), Verdict::LogInAnew);
        assert_eq!(denied.handle(at(0), Read::Denied, Jitter::NONE), Verdict::GiveUp);
    }

    #[test]
    fn a_denial_is_worth_one_login_and_no_more() {
        let mut refresh = rendered();
        assert_eq!(refresh.handle(at(270), Read::Denied, Jitter::NONE), Verdict::LogInAnew);
        refresh.logged_in(at(271));
        assert_eq!(refresh.due(), at(271));
        assert_eq!(refresh.handle(at(271), Read::Denied, Jitter::NONE), Verdict::Nothing);
        refresh.logged_in(at(271));
        assert!(refresh.due() > at(271));
        assert_eq!(refresh.handle(at(275), Read::Rendered(1), Jitter::NONE), Verdict::Nothing);
        assert_eq!(refresh.handle(at(545), Read::Denied, Jitter::NONE), Verdict::LogInAnew);
    }
}
