//! What is done with CMD: pure, without processes, signals or a clock.

use std::time::Duration;

use backoff::{Jitter, Policy};
use boot_clock::BootTime;

use crate::command::Signal;

/// Between attempts to start CMD again once its secrets changed.
const START_DELAYS: Policy = match Policy::new(Duration::from_secs(1), Duration::from_mins(1)) {
    Ok(policy) => policy,
    Err(_) => panic!("the first delay is above zero and below the ceiling"),
};

/// How CMD is stopped, and what a change of its secrets is to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// By which it is stopped.
    pub(crate) stop: Signal,
    /// Between that and SIGKILL.
    pub(crate) grace: Duration,
    pub(crate) on_change: OnChange,
}

/// What CMD gets when its secrets changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnChange {
    Restart,
    Signal(Signal),
    Nothing,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// This process got a signal.
    Signal(Signal),
    /// The secrets are there, or they have changed.
    Secrets,
    /// CMD runs.
    Started,
    /// CMD could not be started; the exit code that says why.
    NotStarted(u8),
    /// CMD ended, with this exit code.
    Ended(u8),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Start,
    /// Send CMD a signal.
    Send(Signal),
    /// Order everything else to stop, by this signal, and send CMD the other.
    Stop(Signal, Signal),
    /// It is over, with this exit code.
    Exit(u8),
}

/// The life of CMD. Every state and what leads out of it is in `docs/approle-agent.md`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supervisor {
    rules: Rules,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// For the first secrets.
    Waiting,
    /// `failures` in a row; `first`: it has never run.
    Starting {
        at: BootTime,
        failures: u32,
        first: bool,
    },
    Running,
    /// `None`: it was killed.
    Stopping {
        kill_at: Option<BootTime>,
        restart: bool,
    },
}

impl Supervisor {
    pub(crate) const fn new(rules: Rules) -> Self {
        Self { rules, phase: Phase::Waiting }
    }

    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running)
    }

    /// What is due at `now` by time alone.
    pub(crate) fn due(&mut self, now: BootTime) -> Option<Act> {
        match &mut self.phase {
            Phase::Starting { at, .. } if *at <= now => Some(Act::Start),
            Phase::Stopping { kill_at, .. } if kill_at.is_some_and(|at| at <= now) => {
                *kill_at = None;
                Some(Act::Send(Signal::KILL))
            }
            _ => None,
        }
    }

    /// When to ask [`due`](Self::due) again.
    pub(crate) const fn wake_up(&self) -> Option<BootTime> {
        match self.phase {
            Phase::Starting { at, .. } => Some(at),
            Phase::Stopping { kill_at, .. } => kill_at,
            Phase::Waiting | Phase::Running => None,
        }
    }

    pub(crate) fn handle(&mut self, now: BootTime, event: Event, jitter: Jitter) -> Option<Act> {
        match event {
            Event::Signal(signal) => self.signalled(now, signal),
            Event::Secrets => self.secrets(now),
            Event::Started => {
                self.phase = Phase::Running;
                None
            }
            Event::NotStarted(code) => self.not_started(now, code, jitter),
            Event::Ended(code) => self.ended(now, code),
        }
    }

    fn signalled(&mut self, now: BootTime, signal: Signal) -> Option<Act> {
        let is_stop = signal == Signal::TERM || signal == self.rules.stop;
        match &mut self.phase {
            // Nobody is there who could make anything of another one. A terminal's keys are meant to end it too.
            Phase::Waiting | Phase::Starting { .. } => {
                let ends = is_stop || signal == Signal::INT || signal == Signal::QUIT;
                ends.then_some(Act::Exit(signal.exit_code()))
            }
            Phase::Running if is_stop => {
                self.phase = Phase::Stopping { kill_at: Some(now + self.rules.grace), restart: false };
                Some(Act::Stop(signal, self.rules.stop))
            }
            Phase::Stopping { restart, .. } if is_stop => {
                *restart = false;
                Some(Act::Stop(signal, self.rules.stop))
            }
            // CMD makes of it what it wants, as if this process were not there.
            Phase::Running | Phase::Stopping { .. } => Some(Act::Send(signal)),
        }
    }

    fn secrets(&mut self, now: BootTime) -> Option<Act> {
        match (&mut self.phase, self.rules.on_change) {
            (Phase::Waiting, _) => {
                self.phase = Phase::Starting { at: now, failures: 0, first: true };
                None
            }
            // What failed with the old ones may go with the new.
            (Phase::Starting { at, .. }, _) => {
                *at = now;
                None
            }
            (Phase::Running, OnChange::Restart) => {
                self.phase = Phase::Stopping { kill_at: Some(now + self.rules.grace), restart: true };
                Some(Act::Send(self.rules.stop))
            }
            (Phase::Running, OnChange::Signal(signal)) => Some(Act::Send(signal)),
            (Phase::Running, OnChange::Nothing) | (Phase::Stopping { .. }, _) => None,
        }
    }

    fn not_started(&mut self, now: BootTime, code: u8, jitter: Jitter) -> Option<Act> {
        match &mut self.phase {
            Phase::Starting { at, failures, first: false } => {
                *at = now + START_DELAYS.delay(*failures, jitter);
                *failures = failures.saturating_add(1);
                None
            }
            // It never ran: whoever wrote the command has to mend it.
            _ => Some(Act::Exit(code)),
        }
    }

    fn ended(&mut self, now: BootTime, code: u8) -> Option<Act> {
        match self.phase {
            Phase::Stopping { restart: true, .. } => {
                self.phase = Phase::Starting { at: now, failures: 0, first: false };
                None
            }
            _ => Some(Act::Exit(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUP: Signal = Signal::CONT;
    const GRACE: Duration = Duration::from_secs(7);

    fn at(seconds: u64) -> BootTime {
        BootTime::at(Duration::from_secs(1_000 + seconds))
    }

    fn supervisor(on_change: OnChange) -> Supervisor {
        Supervisor::new(Rules { stop: Signal::INT, grace: GRACE, on_change })
    }

    fn running(on_change: OnChange) -> Supervisor {
        let mut supervisor = supervisor(on_change);
        assert_eq!(supervisor.handle(at(0), Event::Secrets, Jitter::NONE), None);
        assert_eq!(supervisor.due(at(0)), Some(Act::Start));
        assert_eq!(supervisor.handle(at(0), Event::Started, Jitter::NONE), None);
        assert_eq!((supervisor.due(at(99)), supervisor.wake_up()), (None, None));
        supervisor
    }

    fn tell(supervisor: &mut Supervisor, seconds: u64, event: Event) -> Option<Act> {
        supervisor.handle(at(seconds), event, Jitter::NONE)
    }

    #[test]
    fn what_is_told_to_stop_before_it_began_never_begins() {
        for (signal, act) in [
            (Signal::TERM, Some(Act::Exit(143))),
            (Signal::INT, Some(Act::Exit(130))),
            (Signal::QUIT, Some(Act::Exit(131))),
            (HUP, None),
        ] {
            assert_eq!(tell(&mut supervisor(OnChange::Restart), 0, Event::Signal(signal)), act);
        }
    }

    #[test]
    fn its_own_end_is_the_end() {
        let mut own = running(OnChange::Restart);
        assert_eq!(tell(&mut own, 1, Event::Ended(3)), Some(Act::Exit(3)));
    }

    #[test]
    fn an_order_to_stop_is_its_stop_signal_and_then_a_kill() {
        let mut own = running(OnChange::Restart);
        assert_eq!(tell(&mut own, 1, Event::Signal(HUP)), Some(Act::Send(HUP)));
        let stop = Some(Act::Stop(Signal::TERM, Signal::INT));
        assert_eq!(tell(&mut own, 2, Event::Signal(Signal::TERM)), stop);
        assert_eq!(tell(&mut own, 3, Event::Signal(Signal::TERM)), stop);
        assert_eq!((own.due(at(8)), own.wake_up()), (None, Some(at(9))));
        assert_eq!(own.due(at(9)), Some(Act::Send(Signal::KILL)));
        assert_eq!((own.due(at(10)), own.wake_up()), (None, None));
        assert_eq!(tell(&mut own, 10, Event::Ended(137)), Some(Act::Exit(137)));
    }

    #[test]
    fn a_change_restarts_it_once_and_an_end_of_its_own_is_no_restart() {
        let mut own = running(OnChange::Restart);
        assert_eq!(tell(&mut own, 1, Event::Secrets), Some(Act::Send(Signal::INT)));
        assert_eq!(tell(&mut own, 2, Event::Secrets), None);
        assert_eq!(tell(&mut own, 3, Event::Ended(130)), None);
        assert_eq!(own.due(at(3)), Some(Act::Start));
        assert_eq!(tell(&mut own, 3, Event::Started), None);
        assert_eq!(tell(&mut own, 4, Event::Ended(1)), Some(Act::Exit(1)));
    }

    #[test]
    fn an_order_to_stop_amid_a_restart_stops() {
        let mut own = running(OnChange::Restart);
        assert_eq!(tell(&mut own, 1, Event::Secrets), Some(Act::Send(Signal::INT)));
        assert!(matches!(tell(&mut own, 2, Event::Signal(Signal::TERM)), Some(Act::Stop(..))));
        assert_eq!(own.wake_up(), Some(at(8)));
        assert_eq!(tell(&mut own, 3, Event::Ended(0)), Some(Act::Exit(0)));
    }

    #[test]
    fn a_first_start_that_fails_is_the_end_and_a_later_one_is_tried_again() {
        let mut own = supervisor(OnChange::Restart);
        tell(&mut own, 0, Event::Secrets);
        assert_eq!(tell(&mut own, 0, Event::NotStarted(127)), Some(Act::Exit(127)));

        let mut own = running(OnChange::Restart);
        tell(&mut own, 1, Event::Secrets);
        tell(&mut own, 1, Event::Ended(0));
        let mut now = at(1);
        for _ in 0..20 {
            assert_eq!(own.due(now), Some(Act::Start));
            assert_eq!(own.handle(now, Event::NotStarted(126), Jitter::NONE), None);
            let next = own.wake_up().unwrap();
            assert!(next > now && next <= now + Duration::from_mins(1));
            now = next;
        }
        assert_eq!(own.handle(now, Event::Signal(Signal::TERM), Jitter::NONE), Some(Act::Exit(143)));
    }

    #[test]
    fn a_change_can_be_a_signal_or_nothing() {
        assert_eq!(tell(&mut running(OnChange::Signal(HUP)), 1, Event::Secrets), Some(Act::Send(HUP)));
        assert_eq!(tell(&mut running(OnChange::Nothing), 1, Event::Secrets), None);
    }
}
