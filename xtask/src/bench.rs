//! `cargo xtask bench`: the programs beside their peers and their budgets, each subject in one run on one machine.

mod agent;
mod apply;
mod databases;
mod unsealer;

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::error::Result;
use crate::{interrupt, programs, tools};

/// What to measure, and how.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure; everything by default
    #[arg(value_name = "SUBJECT")]
    subjects: Vec<Subject>,
    /// How often each contender starts
    #[arg(long, value_name = "NUMBER", default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// How long a service waits for its secrets
    Agent,
    /// How long bootstrap apply takes for a thousand services, the first time and again
    Apply,
    /// How soon a restarted Vault is unsealed, and what watching it costs
    Unsealer,
    /// How long db-init takes for five databases
    Databases,
}

/// Measures each subject, and prints its table and budgets.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    interrupt::watch()?;
    tools::run()?;
    let programs = harness::Programs::in_dir(programs::build()?)?;
    for subject in Subject::value_variants() {
        if !args.subjects.is_empty() && !args.subjects.contains(subject) {
            continue;
        }
        match subject {
            Subject::Agent => agent::run(&programs, args.rounds)?,
            Subject::Apply => apply::run(&programs, args.rounds)?,
            Subject::Unsealer => unsealer::run(&programs, args.rounds)?,
            Subject::Databases => databases::run(&programs, args.rounds)?,
        }
    }
    Ok(())
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

/// The upper one of the two in the middle, where their number is even; zero of none.
fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let median =
            |times: &[u64]| median(&times.iter().copied().map(Duration::from_millis).collect::<Vec<_>>());
        assert_eq!(median(&[9, 1, 5]), Duration::from_millis(5));
        assert_eq!(median(&[4, 1]), Duration::from_millis(4));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
