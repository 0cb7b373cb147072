//! Signals by their numbers, real-time ones included.
#![allow(unsafe_code, reason = "no safe wrapper sends a real-time signal")]

use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal as Named;

/// A signal that can be sent: 1 to 31, or a real-time one that the C library leaves to programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal(i32);

/// To whom a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Process(i32),
    Group(i32),
}

impl Signal {
    pub(crate) const INT: Self = Self(libc::SIGINT);
    pub(crate) const QUIT: Self = Self(libc::SIGQUIT);
    pub(crate) const KILL: Self = Self(libc::SIGKILL);
    pub(crate) const TERM: Self = Self(libc::SIGTERM);
    pub(crate) const CONT: Self = Self(libc::SIGCONT);
    pub(crate) const STOP: Self = Self(libc::SIGSTOP);

    pub(crate) const fn number(self) -> i32 {
        self.0
    }

    /// The exit code of what this signal ended, by the shell's convention.
    pub(crate) fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }

    /// All that a supervisor passes on. Not those that cannot be caught, that tell this process of a fault or a
    /// closed pipe of its own, or that tell it of its children.
    pub(crate) fn passed_on() -> impl Iterator<Item = Self> {
        const OWN: [i32; 9] = [
            libc::SIGKILL,
            libc::SIGSTOP,
            libc::SIGCHLD,
            libc::SIGPIPE,
            libc::SIGILL,
            libc::SIGFPE,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGSYS,
        ];
        (1..32).filter(|number| !OWN.contains(number)).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()).map(Self)
    }

    pub(crate) fn send(self, to: To) -> nix::Result<()> {
        let target = match to {
            To::Process(pid) => pid,
            To::Group(group) => -group,
        };
        // SAFETY: kill(2) takes two numbers and touches no memory.
        Errno::result(unsafe { libc::kill(target, self.0) }).map(drop)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Named::try_from(self.0) {
            Ok(named) => out.write_str(named.as_str()),
            Err(_) => write!(out, "SIGRTMIN+{}", self.0 - libc::SIGRTMIN()),
        }
    }
}

impl FromStr for Signal {
    type Err = String;

    /// `TERM`, `SIGTERM`, `15`, `RTMIN+3`: as `docker run --stop-signal` takes them.
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = |number: &str| number.parse().ok().map(|offset: i32| libc::SIGRTMIN() + offset);
        let number = match (name.strip_prefix("RTMIN+"), name.parse::<i32>()) {
            (Some(offset), _) => real_time(offset),
            (None, Ok(number)) => Some(number),
            (None, Err(_)) => format!("SIG{name}").parse::<Named>().ok().map(|named| named as i32),
        };
        number
            .filter(|number| {
                Named::try_from(*number).is_ok() || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(number)
            })
            .map(Self)
            .ok_or_else(|| "write a signal like TERM, SIGINT or RTMIN+3".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_as_docker_names_them() {
        for (text, shown) in [
            ("TERM", "SIGTERM"),
            ("sigint", "SIGINT"),
            ("3", "SIGQUIT"),
            ("SIGWINCH", "SIGWINCH"),
            ("RTMIN+3", "SIGRTMIN+3"),
            ("37", "SIGRTMIN+3"),
        ] {
            assert_eq!(text.parse::<Signal>().map(|signal| signal.to_string()), Ok(shown.to_owned()));
        }
        for wrong in ["", "0", "-1", "32", "99", "TERMINATE", "RTMIN+64", "RTMIN-1"] {
            assert!(wrong.parse::<Signal>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_this_process_own_is_not_passed_on() {
        let passed: Vec<String> = Signal::passed_on().map(|signal| signal.to_string()).collect();
        for name in ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGWINCH", "SIGRTMIN+3"] {
            assert!(passed.iter().any(|passed| passed == name), "{name}");
        }
        for name in ["SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGSEGV"] {
            assert!(!passed.iter().any(|passed| passed == name), "{name}");
        }
    }
}
