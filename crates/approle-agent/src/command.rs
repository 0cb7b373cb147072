//! Running CMD: what a first process of a container owes its command, and its kernel.
//!
//! [`supervisor`] decides about CMD and [`hook`] about what `--on-change exec:` names; this driver has the
//! processes, the signals and the terminal. Nobody else in this program waits for a child, so that whatever
//! [`reap`](Driver::reap) finds is CMD, the hook, or an orphan that this process was left as its init.

mod hook;
mod signal;
mod signals;
mod supervisor;
mod terminal;

pub(crate) use signal::Signal;
pub(crate) use supervisor::{OnChange, Rules};

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;

use agent_runtime::{Exit, Order};
use backoff::Jitter;
use boot_clock::{BootTime, sleep_until};
use rustix::process::{WaitOptions, WaitStatus};
use tokio::sync::watch;

use crate::AgentError;
use crate::command::hook::Hook;
use crate::command::signal::To;
use crate::command::signals::Signals;
use crate::command::supervisor::{Act, Event, Supervisor};
use crate::command::terminal::Terminal;
use crate::environment::Environment;
use crate::report::Report;

/// What is run, and on what occasion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// CMD; `None` for a sidecar, which has nothing but secrets to keep.
    pub(crate) command: Option<(&'a [OsString], Rules)>,
    /// What to run after each change of the secrets.
    pub(crate) hook: Option<&'a [OsString]>,
}

/// CMD's environment once there is one, and each one after a change.
pub(crate) type Delivered = watch::Receiver<Option<Environment>>;

/// Runs CMD and the hook.
pub(crate) struct Driver<'a> {
    plan: Plan<'a>,
    supervisor: Option<Supervisor>,
    hook: Hook,
    signals: Signals,
    delivered: Delivered,
    has_secrets: bool,
    /// Whether more may come of `delivered`.
    is_open: bool,
    terminal: Terminal,
    command_pid: Option<i32>,
    hook_pid: Option<i32>,
    /// Why CMD could not be started.
    failure: Option<AgentError>,
    report: &'a Report,
}

enum Happened {
    Signal(Signal),
    Child,
    Delivered,
    Closed,
    Time,
}

impl<'a> Driver<'a> {
    /// Takes the signals over: from here on none is lost.
    pub(crate) fn new(plan: Plan<'a>, delivered: Delivered, report: &'a Report) -> io::Result<Self> {
        let signals = match plan.command {
            Some(_) => Signals::take(Signal::passed_on())?,
            None => Signals::take([Signal::TERM, Signal::INT])?,
        };
        Ok(Self {
            plan,
            supervisor: plan.command.map(|(_, rules)| Supervisor::new(rules)),
            hook: Hook::default(),
            signals,
            delivered,
            has_secrets: false,
            is_open: true,
            terminal: Terminal::find(),
            command_pid: None,
            hook_pid: None,
            failure: None,
            report,
        })
    }

    /// Runs until CMD ends, or a sidecar is told to. `None`: no secrets will ever be delivered, for a reason that
    /// the other side knows. In the end, or as soon as that is certain, everything else is ordered to stop.
    pub(crate) async fn run(mut self, order: Order) -> Result<Option<Exit>, AgentError> {
        let end = self.until_the_end(&order).await;
        order.give(15);
        match (end, self.failure.take()) {
            (Some(_), Some(failure)) => Err(failure),
            (end, _) => Ok(end),
        }
    }

    async fn until_the_end(&mut self, order: &Order) -> Option<Exit> {
        loop {
            let now = BootTime::now();
            if let Some(act) = self.supervisor.as_mut().and_then(|supervisor| supervisor.due(now)) {
                if let Some(exit) = self.carry_out(act, order) {
                    return Some(exit);
                }
                continue;
            }
            self.run_hook(now);
            match self.happened().await {
                Happened::Signal(signal) if self.supervisor.is_none() => {
                    tracing::debug!("told to stop by {signal}");
                    return Some(Exit::Done);
                }
                Happened::Signal(signal) => {
                    if let Some(exit) = self.tell(Event::Signal(signal), order) {
                        return Some(exit);
                    }
                }
                Happened::Child => {
                    if let Some(exit) = self.reap(order) {
                        return Some(exit);
                    }
                }
                Happened::Delivered => {
                    if let Some(exit) = self.secrets_delivered(order) {
                        return Some(exit);
                    }
                }
                Happened::Closed => {
                    self.is_open = false;
                    // Without a command that runs there is nothing left to do.
                    self.command_pid?;
                }
                Happened::Time => {}
            }
        }
    }

    async fn happened(&mut self) -> Happened {
        let due = [self.supervisor.as_ref().and_then(Supervisor::wake_up), self.hook.wake_up()];
        let wake_up = due.into_iter().flatten().min();
        tokio::select! {
            biased;
            signalled = self.signals.next() => match signalled {
                Some(signal) => Happened::Signal(signal),
                None => Happened::Child,
            },
            delivered = self.delivered.changed(), if self.is_open => match delivered {
                Ok(()) => Happened::Delivered,
                Err(_) => Happened::Closed,
            },
            () = sleep_until(wake_up.unwrap_or_default()), if wake_up.is_some() => Happened::Time,
        }
    }

    fn secrets_delivered(&mut self, order: &Order) -> Option<Exit> {
        if std::mem::replace(&mut self.has_secrets, true) {
            tracing::info!("the secrets have changed");
            if self.plan.hook.is_some() {
                self.hook.changed(BootTime::now());
            }
        }
        self.tell(Event::Secrets, order)
    }

    fn tell(&mut self, event: Event, order: &Order) -> Option<Exit> {
        let act = self.supervisor.as_mut()?.handle(BootTime::now(), event, Jitter::draw());
        self.report.command_runs(self.supervisor.as_ref().is_some_and(Supervisor::is_running));
        act.and_then(|act| self.carry_out(act, order))
    }

    fn carry_out(&mut self, act: Act, order: &Order) -> Option<Exit> {
        match act {
            Act::Start => {
                let event = self.start();
                self.tell(event, order)
            }
            Act::Send(signal) => {
                self.send(signal);
                None
            }
            Act::Stop(by, signal) => {
                tracing::info!("told to stop by {by}: sending {signal} to the command");
                order.give(u8::try_from(by.number()).unwrap_or(15));
                self.send(signal);
                None
            }
            Act::Exit(code) => Some(Exit::Command(code)),
        }
    }

    fn send(&self, signal: Signal) {
        let Some(pid) = self.command_pid else { return };
        if signal == Signal::KILL {
            tracing::warn!("the command did not end in its --grace and is killed");
        } else {
            tracing::debug!("sending {signal} to the command");
        }
        if let Err(errno) = signal.send(To::Process(pid)) {
            tracing::warn!("{signal} could not be sent to the command: {errno}");
        }
    }

    fn start(&mut self) -> Event {
        let Some((command, _)) = self.plan.command else { return Event::NotStarted(127) };
        // Each start follows a delivery.
        let environment = self.delivered.borrow().clone().unwrap_or_default();
        match self.spawn(command, &environment, Stdio::inherit()) {
            Ok(pid) => {
                tracing::info!(pid, "started the command");
                self.command_pid = Some(pid);
                self.terminal.give_to(pid);
                self.report.command_started();
                Event::Started
            }
            Err(failure) => {
                use agent_runtime::Failure as _;
                let Exit::Command(code) = failure.exit() else { return Event::NotStarted(126) };
                tracing::debug!("{}", agent_runtime::with_causes(&failure));
                if self.report.has_run() {
                    tracing::warn!("{}; trying again", agent_runtime::with_causes(&failure));
                } else {
                    self.failure = Some(failure);
                }
                Event::NotStarted(code)
            }
        }
    }

    /// In a process group of its own, so that what a terminal's keys send reaches it once.
    fn spawn(
        &self,
        command: &[OsString],
        environment: &Environment,
        stdin: Stdio,
    ) -> Result<i32, AgentError> {
        let mut prepared = environment.command(command)?;
        prepared.process_group(0).stdin(stdin);
        let spawned = self.terminal.with_its_signals(|| agent_runtime::with_core_dumps(|| prepared.spawn()));
        let failed = |cause| AgentError::Command { command: prepared.get_program().to_owned(), cause };
        let child = spawned.map_err(failed)?;
        // The kernel's process IDs fit.
        Ok(i32::try_from(child.id()).unwrap_or(i32::MAX))
    }

    fn run_hook(&mut self, now: BootTime) {
        match (self.hook.due(now), self.plan.hook) {
            (Some(hook::Act::Start), Some(command)) => {
                let environment = self.delivered.borrow().clone().unwrap_or_default();
                match self.spawn(command, &environment, Stdio::null()) {
                    Ok(pid) => {
                        tracing::info!(pid, "running the command of --on-change");
                        self.hook_pid = Some(pid);
                        self.hook.started(now);
                    }
                    Err(failure) => {
                        tracing::warn!("{}; trying again", agent_runtime::with_causes(&failure));
                        self.hook.failed(now, Jitter::draw());
                    }
                }
            }
            (Some(hook::Act::Kill), _) => {
                tracing::warn!(
                    "the command of --on-change took more than {} s and is killed",
                    hook::LIMIT.as_secs()
                );
                if let Some(pid) = self.hook_pid {
                    // It may have ended in between.
                    let _ = Signal::KILL.send(To::Group(pid));
                }
            }
            _ => {}
        }
    }

    /// Takes every child that ended or was stopped.
    fn reap(&mut self, order: &Order) -> Option<Exit> {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED)
        {
            let pid = pid.as_raw_nonzero().get();
            if Some(pid) == self.command_pid {
                if status.stopped() {
                    self.terminal.suspend_with(pid);
                    continue;
                }
                self.command_pid = None;
                let code = exit_code(status);
                tracing::debug!(pid, code, "the command ended");
                if let Some(exit) = self.tell(Event::Ended(code), order) {
                    return Some(exit);
                }
                // It is to start again: what it left behind would be in its way. There may be nothing.
                let _ = Signal::KILL.send(To::Group(pid));
            } else if Some(pid) == self.hook_pid && !status.stopped() {
                self.hook_pid = None;
                self.hook_ended(exit_code(status));
            } else {
                tracing::debug!(pid, "took an orphan that ended");
            }
        }
        None
    }

    fn hook_ended(&mut self, code: u8) {
        if code == 0 {
            self.hook.succeeded();
        } else {
            tracing::warn!("the command of --on-change failed with exit code {code}; trying again");
            self.hook.failed(BootTime::now(), Jitter::draw());
        }
    }
}

/// As a shell tells it: 128 and the number of the signal that ended it.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
