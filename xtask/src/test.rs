//! `cargo xtask test`: every check there is, in one order, with a summary.

mod steps;

pub(crate) use self::steps::long_stories;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::shell;

/// What to check.
#[derive(Debug, Default, Args)]
pub(crate) struct TestArgs {
    /// Run this step alone, with those that it needs; can be given several times
    #[arg(long, value_name = "STEP")]
    only: Vec<Only>,

    /// Arguments for nextest, such as `-E 'test(restart)'`
    #[arg(last = true, value_name = "NEXTEST_ARGS")]
    nextest: Vec<String>,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd)]
enum Step {
    Format,
    Lock,
    Tools,
    Clippy,
    Doc,
    Programs,
    Tests,
    Soak,
    Stack,
    Doctests,
    Deny,
}

/// A step to be run alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Only {
    Format,
    Lock,
    Tools,
    Clippy,
    Doc,
    Programs,
    /// All tests
    Tests,
    /// The end-to-end tests
    E2e,
    /// Two minutes of trouble
    Soak,
    /// The Compose stack, under a Docker Engine
    Stack,
    Doctests,
    Deny,
}

/// A suite of tests: what nextest is told to run, and as which of its profiles.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Suite {
    /// Everything that needs no Docker Engine.
    Servers,
    /// The stack.
    Stack,
    /// The stack's stories that take many minutes.
    LongStories,
}

/// What came of a step.
enum Ending {
    Passed(String),
    Skipped(String),
    Failed(String),
}

/// What later steps need of earlier ones.
#[derive(Default)]
struct Progress {
    programs: Option<PathBuf>,
}

/// Runs the steps, all of them also when one fails; an error names those that failed.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let is_ci = shell::variable("CI").is_some_and(|value| value != "false");
    let mut progress = Progress::default();
    let mut endings = Vec::new();
    for step in Step::ALL {
        if !args.includes(step) {
            endings.push((step, Ending::Skipped("not asked for".to_owned()), Duration::ZERO));
            continue;
        }
        println!("\n== {} ==", step.title());
        let begin = Instant::now();
        let ending = match steps::run(step, args, &mut progress) {
            Ok(ending) => ending,
            Err(error) => Ending::Failed(harness::with_causes(&error)),
        };
        println!("-- {} ({})", ending.text(), seconds(begin.elapsed()));
        endings.push((step, ending, begin.elapsed()));
    }
    print!("\n{}", summary(&endings));
    let bad = |ending: &Ending| match ending {
        Ending::Passed(_) => false,
        Ending::Skipped(_) => is_ci,
        Ending::Failed(_) => true,
    };
    let failed: Vec<_> =
        endings.iter().filter(|(_, ending, _)| bad(ending)).map(|(step, ..)| step.title()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed.join(", "))) }
}

impl TestArgs {
    fn includes(&self, step: Step) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only.steps().contains(&step))
    }

    /// What nextest is told: the suite, the packages that were asked for, then the user's own arguments.
    fn nextest(&self, suite: Suite) -> impl Iterator<Item = &str> {
        let e2e_alone = self.only.contains(&Only::E2e) && !self.only.contains(&Only::Tests);
        let packages: &[&str] = match suite {
            Suite::Servers if e2e_alone => &["--package", "e2e"],
            Suite::Servers => &["--workspace"],
            Suite::Stack => &["--profile", "stack", "--package", "e2e"],
            Suite::LongStories => &["--profile", "long", "--package", "e2e"],
        };
        packages.iter().copied().chain(self.nextest.iter().map(String::as_str))
    }
}

impl Only {
    fn steps(self) -> &'static [Step] {
        match self {
            Self::Format => &[Step::Format],
            Self::Lock => &[Step::Lock],
            Self::Tools => &[Step::Tools],
            Self::Clippy => &[Step::Clippy],
            Self::Doc => &[Step::Doc],
            Self::Programs => &[Step::Programs],
            Self::Tests | Self::E2e => &[Step::Tools, Step::Programs, Step::Tests],
            Self::Soak => &[Step::Tools, Step::Programs, Step::Soak],
            Self::Stack => &[Step::Tools, Step::Programs, Step::Stack],
            Self::Doctests => &[Step::Doctests],
            Self::Deny => &[Step::Tools, Step::Deny],
        }
    }
}

impl Step {
    const ALL: [Self; 11] = [
        Self::Format,
        Self::Lock,
        Self::Tools,
        Self::Clippy,
        Self::Doc,
        Self::Programs,
        Self::Tests,
        Self::Soak,
        Self::Stack,
        Self::Doctests,
        Self::Deny,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lock => "lock file",
            Self::Tools => "servers and tools",
            Self::Clippy => "clippy",
            Self::Doc => "documentation",
            Self::Programs => "release programs",
            Self::Tests => "tests",
            Self::Soak => "soak",
            Self::Stack => "the stack under Docker",
            Self::Doctests => "documentation tests",
            Self::Deny => "bans, licences, sources",
        }
    }
}

impl Ending {
    fn text(&self) -> String {
        match self {
            Self::Passed(remark) if remark.is_empty() => "passed".to_owned(),
            Self::Passed(remark) => format!("passed: {remark}"),
            Self::Skipped(why) => format!("skipped: {why}"),
            Self::Failed(why) => format!("FAILED: {why}"),
        }
    }
}

fn summary(endings: &[(Step, Ending, Duration)]) -> String {
    let mut text = "Summary\n".to_owned();
    for (step, ending, time) in endings {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:<24} {:>8}  {}", step.title(), seconds(*time), ending.text());
    }
    let total = endings.iter().map(|(.., time)| *time).sum();
    let _ = writeln!(text, "  {:<24} {:>8}", "all", seconds(total));
    text + "  Not part of it: security advisories, whose database has to be fetched (cargo deny check advisories).\n"
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(only: &[Only], nextest: &[&str]) -> TestArgs {
        let nextest = nextest.iter().map(|&arg| arg.to_owned()).collect();
        TestArgs { only: only.to_vec(), nextest }
    }

    #[test]
    fn everything_is_checked_unless_something_is_asked_for() {
        assert!(Step::ALL.iter().all(|step| args(&[], &[]).includes(*step)));
        let only = args(&[Only::E2e], &[]);
        let included: Vec<_> = Step::ALL.into_iter().filter(|step| only.includes(*step)).collect();
        assert_eq!(included, [Step::Tools, Step::Programs, Step::Tests]);
    }

    #[test]
    fn nextest_gets_the_package_and_then_the_users_arguments() {
        let told =
            |only: &[Only], suite| args(only, &["-E", "x"]).nextest(suite).collect::<Vec<_>>().join(" ");
        assert_eq!(told(&[], Suite::Servers), "--workspace -E x");
        assert_eq!(told(&[Only::E2e], Suite::Servers), "--package e2e -E x");
        assert_eq!(told(&[Only::E2e, Only::Tests], Suite::Servers), "--workspace -E x");
        assert_eq!(told(&[], Suite::Stack), "--profile stack --package e2e -E x");
    }

    #[test]
    fn the_summary_names_what_failed_and_what_was_skipped() {
        let endings = [
            (Step::Format, Ending::Failed("cargo fmt".to_owned()), Duration::from_millis(1500)),
            (Step::Doc, Ending::Skipped("not asked for".to_owned()), Duration::ZERO),
        ];
        let text = summary(&endings);
        assert!(text.contains("format                      1.5 s  FAILED: cargo fmt"), "{text}");
        assert!(text.contains("0.0 s  skipped: not asked for"), "{text}");
    }
}
