//! What the demonstration shows: each step as it happens on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::interrupt;

/// Shows steps, and remembers all that it showed.
pub(super) struct Screen {
    is_terminal: bool,
    shown: RefCell<String>,
    steps: RefCell<Vec<(String, Duration)>>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stdout().is_terminal(),
            shown: RefCell::default(),
            steps: RefCell::default(),
        }
    }

    /// Shows a line, or several.
    pub(super) fn say(&self, text: &str) {
        println!("{text}");
        self.shown.borrow_mut().push_str(text);
    }

    /// Takes a step, whose text says what came of it.
    pub(super) fn step(&self, title: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        self.step_with(title, || work().map(|remark| (remark, ())))
    }

    /// Takes a step that gives something besides the text.
    pub(super) fn step_with<T>(&self, title: &str, work: impl FnOnce() -> Result<(String, T)>) -> Result<T> {
        interrupt::check()?;
        if self.is_terminal {
            print!("  … {title}");
            let _ = std::io::stdout().flush();
        }
        let begin = Instant::now();
        let result = work();
        self.clear();
        let (remark, value) = result.inspect_err(|_| self.say(&format!("  ✗ {title}")))?;
        self.finish(title, &remark, begin.elapsed());
        Ok(value)
    }

    /// Takes a step that writes to the terminal itself.
    pub(super) fn noisy_step<T>(&self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        interrupt::check()?;
        let begin = Instant::now();
        let value = work()?;
        self.finish(title, "", begin.elapsed());
        Ok(value)
    }

    /// All that was shown.
    pub(super) fn shown(&self) -> String {
        self.shown.borrow().clone()
    }

    /// How long each step took; steps of one program together.
    pub(super) fn times(&self) -> String {
        let steps = self.steps.borrow();
        let total: Duration = steps.iter().map(|(_, time)| *time).sum();
        let mut groups: Vec<(&str, u32, Duration)> = Vec::new();
        for (title, time) in steps.iter() {
            let name = group(title);
            match groups.last_mut() {
                Some((last, count, sum)) if *last == name => {
                    *count += 1;
                    *sum += *time;
                }
                _ => groups.push((name, 1, *time)),
            }
        }
        let mut text = String::new();
        for (name, count, time) in groups {
            let times = if count > 1 { format!(" ({count})") } else { String::new() };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {:<32} {:>6.2} s", format!("{name}{times}"), time.as_secs_f64());
        }
        let _ = writeln!(text, "  {:<32} {:>6.2} s", "all", total.as_secs_f64());
        text
    }

    fn finish(&self, title: &str, remark: &str, time: Duration) {
        let line = format!("  ✓ {title:<30} {:>6.2} s  {remark}", time.as_secs_f64());
        self.say(line.trim_end());
        self.steps.borrow_mut().push((title.to_owned(), time));
    }

    fn clear(&self) {
        if self.is_terminal {
            print!("\r\x1b[2K");
        }
    }
}

/// The part of a title that steps of one kind share.
fn group(title: &str) -> &str {
    ["db-init", "approle-agent", "database of"]
        .into_iter()
        .find(|kind| title.starts_with(kind))
        .unwrap_or(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_one_kind_are_summed_up() {
        let screen = Screen::new();
        for (title, millis) in [("bootstrap apply", 500), ("db-init user_db", 100), ("db-init chat_db", 200)]
        {
            screen.finish(title, "", Duration::from_millis(millis));
        }
        let times = screen.times();
        assert!(times.contains("bootstrap apply                    0.50 s"), "{times}");
        assert!(times.contains("db-init (2)                        0.30 s"), "{times}");
        assert!(times.contains("all                                0.80 s"), "{times}");
    }
}
