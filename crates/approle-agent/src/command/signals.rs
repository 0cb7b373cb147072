//! The signals that this process gets.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::command::Signal;

/// What arrives from now on.
pub(crate) struct Signals {
    streams: Vec<(Signal, Stream)>,
    child: Stream,
}

impl Signals {
    /// Takes these over, and SIGCHLD. One that this process was started to ignore, as by `nohup`, stays ignored, by
    /// its children too. Must be called on the runtime.
    pub(crate) fn take(signals: impl IntoIterator<Item = Signal>) -> io::Result<Self> {
        let ignored = ignored();
        let is_heard = |signal: &Signal| ignored & (1 << (signal.number() - 1)) == 0;
        let stream = |taken: Signal| Ok((taken, signal(SignalKind::from_raw(taken.number()))?));
        let streams = signals.into_iter().filter(is_heard).map(stream).collect::<io::Result<_>>()?;
        Ok(Self { streams, child: signal(SignalKind::child())? })
    }

    /// The next one; `None` where children have ended or were stopped. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Option<Signal> {
        let has_arrived = |stream: &mut Stream, context: &mut Context<'_>| {
            matches!(stream.poll_recv(context), Poll::Ready(Some(())))
        };
        poll_fn(|context| {
            for (signal, stream) in &mut self.streams {
                if has_arrived(stream, context) {
                    return Poll::Ready(Some(*signal));
                }
            }
            if has_arrived(&mut self.child, context) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}

/// The signals that are ignored now, as a mask (`proc_pid_status(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
