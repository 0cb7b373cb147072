//! Hurting a program at any one of its effects, from outside.
//!
//! The effects are found by tracing one run, and each is hurt in a run of its own: by `strace -e inject` into the
//! program as it is shipped, and at its requests by a [`Proxy`].

use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::proxy::{Moment, Proxy, Trouble};
use crate::run::{Outcome, spawn};
use crate::trace::{Call, Trace, traced};

/// What happens at an effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The program is killed, and the effect does not happen.
    KillBefore,
    /// The program is killed as soon as the effect has happened.
    KillAfter,
    /// The system refuses it, with this word, such as `ENOSPC`.
    Error(&'static str),
}

/// How a run went that was to be hurt.
#[derive(Debug)]
pub struct Hurt {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether it came as far as the effect.
    pub was_hit: bool,
    /// What it did until then, as far as it has to do with requests.
    pub trace: Trace,
}

impl Fault {
    /// In strace's words.
    ///
    /// A SIGKILL that strace injects comes at the entry of a call, which then does not happen. Any other signal is
    /// taken once the call is over; the programs have left this one with its default, which ends them at once.
    fn injection(self) -> String {
        match self {
            Self::KillBefore => "signal=KILL".to_owned(),
            Self::KillAfter => "signal=USR2".to_owned(),
            Self::Error(word) => format!("error={word}"),
        }
    }
}

/// Runs the program with this fault at this effect, which an earlier run of the same has had.
#[track_caller]
pub fn run_hurt(command: &Command, effect: &Call, fault: Fault) -> Hurt {
    let Call { name, number, .. } = effect;
    let inject = format!("inject={name}:{}:when={number}", fault.injection());
    let (outcome, trace) = traced(command, &["-e", &format!("trace={name},writev,sendto"), "-e", &inject]);
    let was_hit = match fault {
        Fault::KillBefore => outcome.code() == 128 + Signal::SIGKILL as i32,
        Fault::KillAfter => outcome.code() == 128 + Signal::SIGUSR2 as i32,
        Fault::Error(_) => trace.calls.iter().any(|call| call.result.contains("(INJECTED)")),
    };
    Hurt { outcome, was_hit, trace }
}

/// Runs the program, which asks the server through `proxy`, and kills it at this moment of its `number`th request.
/// Where it has not that many it ends by itself.
#[track_caller]
pub fn run_killed_at(command: &mut Command, proxy: &Proxy, moment: Moment, number: usize) -> Outcome {
    let pid = Arc::new(OnceLock::new());
    proxy.at(moment, proxy.requests().len() + number, {
        let pid = Arc::clone(&pid);
        move || {
            // Where it is gone already there is nobody to kill.
            let _ = kill(Pid::from_raw(*pid.wait()), Signal::SIGKILL);
            Trouble::Reset(0)
        }
    });
    let program = spawn(command);
    pid.set(i32::try_from(program.pid()).expect("the kernel's pids fit")).expect("it is set once");
    let outcome = program.wait(Duration::from_mins(1));
    proxy.forget();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::trace;

    fn touch(dir: &std::path::Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "true > one; true > two"]).current_dir(dir);
        command
    }

    #[test]
    fn an_effect_happens_before_a_kill_after_it_and_not_after_a_kill_before_it() {
        let find = |trace: &Trace| {
            trace.effects().find(|call| call.target().is_some_and(|path| path.ends_with("two"))).cloned()
        };
        let dir = tempfile::tempdir().unwrap();
        let (outcome, whole) = trace(&touch(dir.path()));
        assert_eq!(outcome.code(), 0);
        let Some(second) = find(&whole) else { panic!("the shell has made no file: {whole:?}") };
        for (fault, is_there) in
            [(Fault::KillBefore, false), (Fault::KillAfter, true), (Fault::Error("ENOSPC"), false)]
        {
            let dir = tempfile::tempdir().unwrap();
            let hurt = run_hurt(&touch(dir.path()), &second, fault);
            assert!(hurt.was_hit, "{fault:?}: {}", hurt.outcome.stderr);
            assert!(dir.path().join("one").exists(), "{fault:?}");
            assert_eq!(dir.path().join("two").exists(), is_there, "{fault:?}");
        }
        let beyond = Call { number: second.number + 1, ..second };
        let dir = tempfile::tempdir().unwrap();
        assert!(!run_hurt(&touch(dir.path()), &beyond, Fault::KillBefore).was_hit);
    }
}
