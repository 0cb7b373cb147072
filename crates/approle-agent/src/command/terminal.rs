//! The terminal that CMD is run on, if it is.

use std::io::stdin;

use nix::sys::signal::{SigSet, Signal as Named};
use rustix::process::{Pid, getpgrp, getpid, getsid};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::command::Signal;
use crate::command::signal::To;

/// The terminal on standard input, where this process has its foreground and so can give it away.
///
/// Without one, as in most containers, nothing here does anything.
pub(crate) struct Terminal {
    is_ours: bool,
}

impl Terminal {
    pub(crate) fn find() -> Self {
        let terminal = Self { is_ours: tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp()) };
        if terminal.is_ours {
            // From the background, which this process is about to be in, this signal would end in a loop of
            // writes that are refused (`tty_ioctl(4)`, TOSTOP).
            let _ = background_output().thread_block();
        }
        terminal
    }

    /// Spawns without the block of [`find`](Self::find), which a child would inherit.
    pub(crate) fn with_its_signals<T>(&self, spawn: impl FnOnce() -> T) -> T {
        if !self.is_ours {
            return spawn();
        }
        let _ = background_output().thread_unblock();
        let spawned = spawn();
        let _ = background_output().thread_block();
        spawned
    }

    /// Puts a new process group into the foreground.
    pub(crate) fn give_to(&self, group: i32) {
        let Some(group) = Pid::from_raw(group).filter(|_| self.is_ours) else { return };
        if let Err(error) = tcsetpgrp(stdin(), group) {
            tracing::debug!("the command could not be given the terminal: {error}");
        }
        // It may have read from the terminal before it had it, and was stopped for that.
        let _ = Signal::CONT.send(To::Group(group.as_raw_nonzero().get()));
    }

    /// A shell's user has stopped the command (Ctrl-Z): this process, which the shell knows, stops too, and goes
    /// on with the command when told to. The first process of a container has no shell above it.
    pub(crate) fn suspend_with(&self, group: i32) {
        if !self.is_ours || getsid(None).is_ok_and(|session| session == getpid()) {
            return;
        }
        let own = getpgrp();
        let _ = tcsetpgrp(stdin(), own);
        let _ = Signal::STOP.send(To::Group(own.as_raw_nonzero().get()));
        // Here it goes on: in the foreground, or not.
        if tcgetpgrp(stdin()).is_ok_and(|foreground| foreground == own) {
            self.give_to(group);
        } else {
            let _ = Signal::CONT.send(To::Group(group));
        }
    }
}

fn background_output() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Named::SIGTTOU);
    set
}
