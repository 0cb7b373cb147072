use std::time::Duration;

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const FIRST: Fingerprint = Fingerprint(1);
const SECOND: Fingerprint = Fingerprint(2);
const GRANTED: Event = Event::Opened(Lease { ttl: HOUR, renewable: true });

fn at(seconds: u64) -> BootTime {
    BootTime::at(Duration::from_secs(1_000 + seconds))
}

/// A session and its clock, told as a story: what is expected next, then what happens.
struct Story {
    session: Session,
    now: BootTime,
}

impl Story {
    fn begin(give_up: Option<BootTime>) -> Self {
        let timing = Timing { look_every: Duration::from_secs(5), give_up };
        Self { session: Session::new(timing), now: at(0) }
    }

    /// A session that logged in with [`FIRST`] at 0 s, for an hour.
    fn logged_in() -> Self {
        Self::begin(None)
            .expect(Action::ReadCredentials, Event::Credentials(FIRST))
            .expect(Action::Login, GRANTED)
    }

    fn expect(mut self, action: Action, event: Event) -> Self {
        assert_eq!(self.session.next(self.now), Step::Do(action));
        self.session.handle(self.now, event, Jitter::NONE);
        self
    }

    /// Lets time pass, looking at the unchanged credentials on the way, until something else is due.
    fn until_due(mut self, credentials: Fingerprint) -> (Self, Step) {
        for _ in 0..10_000 {
            match self.session.next(self.now) {
                Step::Do(Action::ReadCredentials) => {
                    self.session.handle(self.now, Event::Credentials(credentials), Jitter::NONE);
                }
                Step::SleepUntil(when) => {
                    assert!(when > self.now, "a sleep that does not wait spins");
                    self.now = when;
                }
                due => return (self, due),
            }
        }
        (self, Step::SleepUntil(BootTime::at(Duration::MAX)))
    }

    fn at(mut self, now: BootTime) -> Self {
        self.now = now;
        self
    }
}

#[test]
fn logs_in_with_what_it_finds_and_renews_at_three_fifths() {
    let story = Story::logged_in();
    assert!(story.session.is_open(at(3599)) && !story.session.is_open(at(3600)));

    let (story, due) = story.until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Renew), at(2160)));
    let renewed = Event::Renewed(Lease { ttl: HOUR, renewable: true });
    let (story, due) = story.expect(Action::Renew, renewed).until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Renew), at(4320)));
}

#[test]
fn what_was_lost_on_its_way_is_asked_again_soon_though_much_has_failed() {
    let away = Event::Unavailable { retry_after: None };
    let (mut story, _) = Story::logged_in().until_due(FIRST);
    for _ in 0..5 {
        story = story.expect(Action::Renew, away);
        assert!(story.session.is_held_back(story.now));
        (story, _) = story.until_due(FIRST);
    }
    let now = story.now;
    assert!(!story.session.is_held_back(now));
    let (lost, due) = story.expect(Action::Renew, Event::Unanswered).until_due(FIRST);
    assert_eq!(due, Step::Do(Action::Renew));
    assert!(lost.now.saturating_since(now) <= Duration::from_millis(500));
}

#[test]
fn jitter_renews_at_two_thirds_at_the_latest() {
    let mut story = Story::begin(None).expect(Action::ReadCredentials, Event::Credentials(FIRST));
    story.session.handle(story.now, GRANTED, Jitter::fixed(1.0));
    let (story, due) = story.until_due(FIRST);
    assert_eq!(due, Step::Do(Action::Renew));
    assert!(story.now > at(2160) && story.now <= at(2400));
}

#[test]
fn newly_delivered_credentials_log_in_anew_and_retire_the_old_token() {
    Story::logged_in()
        .at(at(600))
        .expect(Action::ReadCredentials, Event::Credentials(SECOND))
        .expect(Action::Login, GRANTED)
        .expect(Action::Revoke, Event::Revoked);
}

#[test]
fn a_capped_renewal_leads_to_a_login_and_not_to_ever_quicker_renewals() {
    let (story, _) = Story::logged_in().until_due(FIRST);
    let capped = Event::Renewed(Lease { ttl: HOUR / 4, renewable: true });
    let (story, due) = story.expect(Action::Renew, capped).until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Login), at(2160 + 540)));
    story.expect(Action::Login, GRANTED).expect(Action::Revoke, Event::Revoked);
}

#[test]
fn a_batch_token_is_replaced_by_a_login() {
    let batch = Event::Opened(Lease { ttl: HOUR, renewable: false });
    let story = Story::begin(None)
        .expect(Action::ReadCredentials, Event::Credentials(FIRST))
        .expect(Action::Login, batch);
    let (_, due) = story.until_due(FIRST);
    assert_eq!(due, Step::Do(Action::Login));
}

#[test]
fn refused_credentials_are_not_tried_again_until_they_differ() {
    let story = Story::begin(None)
        .expect(Action::ReadCredentials, Event::Credentials(FIRST))
        .expect(Action::Login, Event::Refused);
    let (story, due) = story.until_due(FIRST);
    assert!(matches!(due, Step::SleepUntil(_)), "the same credentials were tried again");

    let (_, due) = story.until_due(SECOND);
    assert_eq!(due, Step::Do(Action::Login));
}

#[test]
fn a_locked_role_is_tried_again_after_the_lockout() {
    let story = Story::begin(None)
        .expect(Action::ReadCredentials, Event::Credentials(FIRST))
        .expect(Action::Login, Event::Denied);
    let (story, due) = story.until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Login), at(15 * 60)));
}

#[test]
fn refused_credentials_leave_a_living_token_alone() {
    let story = Story::logged_in()
        .at(at(600))
        .expect(Action::ReadCredentials, Event::Credentials(SECOND))
        .expect(Action::Login, Event::Refused);
    let (story, due) = story.until_due(SECOND);
    assert_eq!((due, story.now), (Step::Do(Action::Renew), at(2160)));
}

#[test]
fn a_failed_renewal_is_retried_while_the_token_lives_and_then_becomes_a_login() {
    let (mut story, mut due) = Story::logged_in().until_due(FIRST);
    let mut renewals = 0;
    while due == Step::Do(Action::Renew) {
        renewals += 1;
        story = story.expect(Action::Renew, Event::Unavailable { retry_after: None });
        (story, due) = story.until_due(FIRST);
    }
    assert_eq!((due, story.session.is_open(story.now)), (Step::Do(Action::Login), false));
    assert!((700..1500).contains(&renewals), "{renewals} attempts in 24 minutes");
}

#[test]
fn a_lapsed_token_is_replaced_at_once() {
    let (story, _) = Story::logged_in().until_due(FIRST);
    story
        .expect(Action::Renew, Event::Lapsed)
        .expect(Action::Revoke, Event::Revoked)
        .expect(Action::Login, GRANTED);
}

#[test]
fn a_token_that_is_not_renewed_is_replaced_by_a_login() {
    let (story, _) = Story::logged_in().until_due(FIRST);
    let story = story.expect(Action::Renew, Event::NotRenewed).expect(Action::Login, GRANTED);
    let (story, due) = story.expect(Action::Revoke, Event::Revoked).until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Renew), at(2 * 2160)));
}

#[test]
fn a_role_that_was_deleted_is_not_hammered_and_its_token_used_to_the_end() {
    let (story, _) = Story::logged_in().until_due(FIRST);
    let mut story = story.expect(Action::Renew, Event::NotRenewed).expect(Action::Login, Event::Refused);
    let mut renewals = 0;
    while story.session.is_open(story.now) {
        let due;
        (story, due) = story.until_due(FIRST);
        if due == Step::Do(Action::Renew) {
            renewals += 1;
            story = story.expect(Action::Renew, Event::NotRenewed);
        } else {
            break;
        }
    }
    assert!((5..15).contains(&renewals), "{renewals} attempts in 24 minutes");
    // Made anew, its new credentials are tried at once.
    let (_, due) = story.until_due(SECOND);
    assert_eq!(due, Step::Do(Action::Login));
}

#[test]
fn a_token_of_an_earlier_life_is_taken_up_again() {
    let mut story = Story::begin(None);
    story.session = story.session.resuming();
    let left = Event::Opened(Lease { ttl: HOUR / 2, renewable: true });
    let story = story.expect(Action::ReadCredentials, Event::Credentials(FIRST)).expect(Action::Resume, left);
    // The credentials that were there already are no reason for a login.
    let (story, due) = story.until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Renew), at(1080)));
    let renewed = Event::Renewed(Lease { ttl: HOUR, renewable: true });
    let (_, due) = story.expect(Action::Renew, renewed).until_due(SECOND);
    assert_eq!(due, Step::Do(Action::Login));
}

#[test]
fn a_token_of_an_earlier_life_that_is_dead_is_no_loss() {
    let mut story = Story::begin(None);
    story.session = story.session.resuming();
    let away = Event::Unavailable { retry_after: None };
    let story = story.expect(Action::ReadCredentials, Event::Credentials(FIRST)).expect(Action::Resume, away);
    let (story, due) = story.until_due(FIRST);
    assert_eq!(due, Step::Do(Action::Resume));
    story.expect(Action::Resume, Event::Lapsed).expect(Action::Login, GRANTED);
}

#[test]
fn a_change_that_is_noticed_is_looked_at_once_it_is_complete() {
    let mut story = Story::logged_in().at(at(1));
    story.session.look_every(Duration::from_mins(1));
    for _ in 0..3 {
        story.session.handle(story.now, Event::Noticed, Jitter::NONE);
    }
    let soon = at(1) + DELIVERY_TAKES;
    assert_eq!(story.session.next(story.now), Step::SleepUntil(soon));
    let story = story.at(soon).expect(Action::ReadCredentials, Event::Credentials(SECOND));
    story.expect(Action::Login, GRANTED).expect(Action::Revoke, Event::Revoked);
}

#[test]
fn the_server_is_left_alone_as_long_as_it_asks() {
    let busy = Event::Unavailable { retry_after: Some(Duration::from_secs(90)) };
    let story = Story::begin(None)
        .expect(Action::ReadCredentials, Event::Credentials(FIRST))
        .expect(Action::Login, busy);
    let (story, due) = story.until_due(FIRST);
    assert_eq!((due, story.now), (Step::Do(Action::Login), at(90)));
}

#[test]
fn gives_up_in_time_and_says_why() {
    let end = Some(at(600));
    let nothing = Story::begin(end).expect(Action::ReadCredentials, Event::NoCredentials).at(at(600));
    assert_eq!(nothing.session.next(nothing.now), Step::Failed(Reason::NoCredentials));

    let refused = Story::begin(end)
        .expect(Action::ReadCredentials, Event::Credentials(FIRST))
        .expect(Action::Login, Event::Refused);
    let (refused, due) = refused.until_due(FIRST);
    assert_eq!((due, refused.now), (Step::Failed(Reason::Refused), at(600)));

    // Once there was a token it never gives up, not even after that has expired in an outage.
    let (mut opened, mut due) = Story::begin(end)
        .expect(Action::ReadCredentials, Event::Credentials(FIRST))
        .expect(Action::Login, GRANTED)
        .until_due(FIRST);
    while opened.session.is_open(opened.now) {
        assert_eq!(due, Step::Do(Action::Renew));
        (opened, due) =
            opened.expect(Action::Renew, Event::Unavailable { retry_after: None }).until_due(FIRST);
    }
    assert!(opened.now > at(600));
    assert_eq!(due, Step::Do(Action::Login));
}

#[test]
fn a_suspended_machine_wakes_up_to_a_login() {
    let story = Story::logged_in().at(at(48 * 3600));
    story.expect(Action::ReadCredentials, Event::Credentials(FIRST)).expect(Action::Login, GRANTED);
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u64..3).prop_map(|n| Event::Credentials(Fingerprint(n))),
        Just(Event::NoCredentials),
        (0_u64..7200, any::<bool>())
            .prop_map(|(ttl, renewable)| Event::Opened(Lease { ttl: Duration::from_secs(ttl), renewable })),
        (0_u64..7200)
            .prop_map(|ttl| Event::Renewed(Lease { ttl: Duration::from_secs(ttl), renewable: true })),
        Just(Event::Refused),
        Just(Event::Denied),
        Just(Event::Lapsed),
        Just(Event::NotRenewed),
        Just(Event::Unanswered),
        proptest::option::of(0_u64..120)
            .prop_map(|seconds| Event::Unavailable { retry_after: seconds.map(Duration::from_secs) }),
        Just(Event::Revoked),
    ]
}

/// The events that can follow an action.
fn answers(action: Action, event: Event) -> bool {
    match action {
        Action::Login | Action::Resume | Action::Renew | Action::Revoke if event == Event::Unanswered => true,
        Action::ReadCredentials => matches!(event, Event::Credentials(_) | Event::NoCredentials),
        Action::Login => {
            matches!(event, Event::Opened(_) | Event::Refused | Event::Denied | Event::Unavailable { .. })
        }
        Action::Resume => matches!(event, Event::Opened(_) | Event::Lapsed | Event::Unavailable { .. }),
        Action::Renew => {
            matches!(event, Event::Renewed(_) | Event::Lapsed | Event::NotRenewed | Event::Unavailable { .. })
        }
        Action::Revoke => matches!(event, Event::Revoked),
    }
}

proptest! {
    #[test]
    fn no_course_of_events_spins_or_hammers(
        events in proptest::collection::vec((any_event(), 0.0_f64..1.0), 1..200),
    ) {
        let mut story = Story::begin(None);
        let (mut found, mut refused) = (None, None);
        let mut requests = 0_u32;
        for (event, jitter) in events {
            match story.session.next(story.now) {
                Step::SleepUntil(when) => {
                    prop_assert!(when > story.now);
                    story.now = when;
                    requests = 0;
                }
                Step::Failed(_) => prop_assert!(false, "a session without an end gave up"),
                Step::Do(action) if answers(action, event) => {
                    if action == Action::Login {
                        prop_assert!(found.is_some());
                        prop_assert!(refused.is_none() || found != refused, "refused credentials were tried again");
                    }
                    if let Event::Credentials(read) = event { found = Some(read); }
                    if event == Event::NoCredentials { found = None; }
                    match event {
                        Event::Refused => refused = found,
                        // Other credentials were tried since: those before them may be back for a reason.
                        Event::Denied | Event::Opened(_) => refused = None,
                        _ => {}
                    }
                    requests += 1;
                    story.session.handle(story.now, event, Jitter::fixed(jitter));
                }
                Step::Do(_) => {}
            }
            // A zero or tiny TTL aside, a handful of actions at one instant is all there is to do.
            prop_assert!(requests <= 12, "{requests} actions without a pause");
        }
    }
}
