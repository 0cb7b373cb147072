//! One line on the terminal that says how far a long work has come. Where stderr is no terminal, or the log is for
//! programs, there is none.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What stands at the end of the terminal, and is in the way of log lines.
static LINE: Mutex<Option<String>> = Mutex::new(None);

/// Whether there is somebody to read it.
static IS_READ: AtomicBool = AtomicBool::new(false);

/// Fewer are done before anybody has read the line.
const FEW: usize = 20;

/// Between two writings of the line.
const PAUSE: Duration = Duration::from_millis(100);

/// Clears the line that the cursor is in, and goes to its beginning.
const CLEAR: &[u8] = b"\r\x1b[K";

/// How far a work has come; its line goes with it.
#[derive(Debug)]
pub struct Progress {
    /// Whether there is a line.
    is_shown: bool,
    doing: &'static str,
    done: usize,
    total: usize,
    written: Option<Instant>,
}

impl Progress {
    /// Begins a work of `total` parts, such as `asking Vault about services`.
    #[must_use]
    pub fn begin(doing: &'static str, total: usize) -> Self {
        let is_shown = total >= FEW && IS_READ.load(Ordering::Relaxed);
        Self { is_shown, doing, done: 0, total, written: None }
    }

    /// One more part is done.
    pub fn step(&mut self) {
        self.done += 1;
        if self.is_shown && self.written.is_none_or(|written| written.elapsed() >= PAUSE) {
            self.written = Some(Instant::now());
            let mut line = line();
            *line = Some(self.text());
            redraw(line.as_deref(), b"");
        }
    }

    fn text(&self) -> String {
        format!("{}: {} of {}", self.doing, self.done, self.total)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.written.is_some() {
            let mut line = line();
            *line = None;
            redraw(line.as_deref(), b"");
        }
    }
}

/// stderr for log lines that people read: they come above the line, which may be shown from now on.
#[derive(Clone, Copy)]
pub(crate) struct AboveTheLine;

impl AboveTheLine {
    pub(crate) fn begin() -> Self {
        IS_READ.store(io::stderr().is_terminal(), Ordering::Relaxed);
        Self
    }
}

impl Write for AboveTheLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = line();
        if line.is_some() {
            redraw(line.as_deref(), bytes);
        } else {
            io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn line() -> MutexGuard<'static, Option<String>> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `above` in the line's place and the line behind it, in one piece. A terminal that went away is no reason to
/// end the work.
fn redraw(line: Option<&str>, above: &[u8]) {
    let line = line.unwrap_or_default().as_bytes();
    let _ = io::stderr().write_all(&[CLEAR, above, line].concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_where_nobody_looks() {
        // There is no log here.
        let mut progress = Progress::begin("counting", FEW);
        progress.step();
        assert_eq!((progress.text().as_str(), progress.is_shown), ("counting: 1 of 20", false));
        assert!(progress.written.is_none() && line().is_none());
    }
}
