//! How long a service waits for its secrets, beside those who do the same.
//!
//! One round is one start of each contender, in turn, on the same server, so that whatever else the machine
//! does falls on all of them alike.

mod contenders;
mod server;

use std::time::Duration;

use harness::Programs;

use self::contenders::Contender;
use self::server::Bench;
use super::{median, millis, verdict};
use crate::error::Result;
use crate::interrupt;

/// A contender and how long each of its rounds took.
type Row = (Contender, Vec<Duration>);

/// Measures, and prints a table and the budgets.
pub(super) fn run(programs: &Programs, rounds: u32) -> Result<()> {
    let bench = Bench::start()?;
    let mut rows: Vec<Row> = Contender::ALL.map(|contender| (contender, Vec::new())).into();
    for (contender, _) in &rows {
        contender.check(&bench, programs)?;
    }
    println!("From nothing to the command that has its secret: one login, one read, {rounds} rounds");
    for _ in 0..rounds {
        for (contender, times) in &mut rows {
            interrupt::check()?;
            times.push(contender.time(&bench, programs)?);
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let median_of = |contender| {
        let row = rows.iter().find(|(row, _)| *row == contender);
        row.map_or(Duration::ZERO, |(_, times)| median(times))
    };
    let agent = median_of(Contender::Agent);
    let heading = format!("\n  {:<44} {:>10} {:>10} {:>10}", "", "median", "fastest", "x agent");
    let line = |(contender, times): &Row| {
        let (median, fastest) = (median(times), times.iter().min().copied().unwrap_or_default());
        let ratio = median.as_secs_f64() / agent.as_secs_f64();
        let (name, median, fastest) = (contender.name(), millis(median), millis(fastest));
        format!("  {name:<44} {median:>7.2} ms {fastest:>7.2} ms {ratio:>10.2}")
    };
    let above = millis(agent) - millis(median_of(Contender::RawWithRevoke));
    let faster_than = |contender| median_of(contender).as_secs_f64() / agent.as_secs_f64();
    let (shell, bao) = (faster_than(Contender::Shell), faster_than(Contender::ServersAgent));
    let budgets = [
        "\n  Budgets of approle-agent exec".to_owned(),
        format!("  at most 5 ms above its raw requests      {above:>7.2} ms  {}", verdict(above <= 5.0)),
        format!("  at least 6 times faster than curl + jq   {shell:>7.1} x   {}", verdict(shell >= 6.0)),
        format!("  at least 100 times faster than bao agent {bao:>7.1} x   {}", verdict(bao >= 100.0)),
    ];
    let lines = [heading].into_iter().chain(rows.iter().map(line)).chain(budgets);
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(millis: &[u64]) -> Vec<Duration> {
        millis.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn budgets_are_judged_by_the_medians() {
        let row = |contender, millis: &[u64]| (contender, times(millis));
        let rows = [
            row(Contender::Raw, &[4]),
            row(Contender::RawWithRevoke, &[10]),
            row(Contender::Agent, &[16, 16, 900]),
            row(Contender::Shell, &[96]),
            row(Contender::ServersAgent, &[1599]),
        ];
        let text = table(&rows);
        let verdict = |budget: &str| text.lines().find(|line| line.contains(budget)).unwrap().to_owned();
        assert!(verdict("5 ms above").ends_with("6.00 ms  MISSED"), "{text}");
        assert!(verdict("6 times").ends_with("6.0 x   met"), "{text}");
        assert!(verdict("100 times").ends_with("MISSED"), "{text}");
    }
}
