//! How soon a Vault that was restarted is unsealed, and what watching it costs in between.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Daemon, Programs, Storage, Vault, VaultOptions, wait_until};

use super::{median, millis, verdict};
use crate::error::{Error, Result};
use crate::interrupt;

/// How long an unsealing may take at all.
const PATIENCE: Duration = Duration::from_mins(1);
/// Over which span the idle watch is measured: clock ticks are hundredths of a second.
const IDLE: Duration = Duration::from_secs(30);
/// A restart of a raft node takes seconds.
const MOST_ROUNDS: u32 = 7;

/// What watching cost while nothing happened.
struct Cost {
    /// Per cent of one core.
    cpu: f64,
    /// Resident, in kB.
    resident: u64,
}

/// Measures with one node and with three, prints a table and the budgets.
pub(super) fn run(programs: &Programs, rounds: u32) -> Result<()> {
    let rounds = rounds.min(MOST_ROUNDS);
    println!("\nFrom a Vault that listens again to one that is unsealed, raft storage, {rounds} rounds");
    let one = Stack::start(programs, 1)?;
    let alone = one.restarts(rounds)?;
    println!("  {:<44} {:>10} {:>10}", "", "median", "slowest");
    print_row("one node", &alone.times);
    let cost = alone.stack.idle()?;
    drop(alone.stack);
    let three = Stack::start(programs, 3)?.restarts(rounds)?;
    print_row("three nodes, all restarted at once, the last", &three.times);
    drop(three.stack);

    let slowest = alone.times.iter().max().copied().unwrap_or_default();
    let Cost { cpu, resident } = cost;
    let resident_mb = f64::from(u32::try_from(resident).unwrap_or(u32::MAX)) / 1000.0;
    println!("\n  Budgets of unsealer run");
    println!(
        "  at most 2.5 s after Vault listens         {:>7.0} ms  {}",
        millis(slowest),
        verdict(slowest <= Duration::from_millis(2500))
    );
    println!("  less than 0.2 % of a core while idle      {cpu:>7.2} %   {}", verdict(cpu < 0.2));
    println!(
        "  at most 8 MB resident, 5 aimed for        {resident_mb:>7.2} MB  {}",
        verdict(resident_mb <= 8.0)
    );
    Ok(())
}

fn print_row(name: &str, times: &[Duration]) {
    let slowest = times.iter().max().copied().unwrap_or_default();
    println!("  {name:<44} {:>7.0} ms {:>7.0} ms", millis(median(times)), millis(slowest));
}

/// The nodes, and the unsealer that watches them.
struct Stack {
    unsealer: Daemon,
    nodes: Vec<Vault>,
    _dir: tempfile::TempDir,
}

/// A stack, and how long each of its restarts took.
struct Restarted {
    stack: Stack,
    times: Vec<Duration>,
}

impl Stack {
    fn start(programs: &Programs, number: usize) -> Result<Self> {
        let mut nodes: Vec<Vault> = Vec::new();
        for _ in 0..number {
            let join = nodes.first().map(Vault::addr);
            nodes.push(VaultOptions { storage: Storage::Raft, join, ..VaultOptions::default() }.start()?);
        }
        let dir = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
        let mut run = programs.unsealer();
        run.args(["run", "--keys-dir", "keys", "--root-token-file", "root/root-token"]);
        run.args(["--status-file", "unsealer.json"]).current_dir(dir.path());
        run.env("VAULT_ADDR", nodes.iter().map(Vault::addr).collect::<Vec<_>>().join(","));
        let stack = Self { unsealer: Daemon::spawn(&mut run)?, nodes, _dir: dir };
        stack.wait_until_unsealed()?;
        stack.settle()?;
        Ok(stack)
    }

    /// Every node is a member that votes, and unsealer has nothing left to do.
    fn settle(&self) -> Result<()> {
        let ready = wait_until(PATIENCE, || self.unsealer.log().contains("break-glass credential is in"));
        if !ready {
            return Err(self.late("to make the break-glass credential"));
        }
        // A new member gets its vote after some ten seconds.
        if self.nodes.len() > 1 {
            pause(Duration::from_secs(15))?;
        }
        Ok(())
    }

    fn restarts(mut self, rounds: u32) -> Result<Restarted> {
        let mut times = Vec::new();
        for _ in 0..rounds {
            interrupt::check()?;
            for node in &mut self.nodes {
                node.stop();
            }
            // Long enough for unsealer to have seen that it is away, as in a restart by an operator.
            pause(Duration::from_secs(1))?;
            for node in &mut self.nodes {
                node.restart();
            }
            let begin = Instant::now();
            self.wait_until_unsealed()?;
            times.push(begin.elapsed());
        }
        Ok(Restarted { stack: self, times })
    }

    fn wait_until_unsealed(&self) -> Result<()> {
        let unsealed = |node: &Vault| matches!(node.health(), Some(200 | 429));
        if wait_until(PATIENCE, || self.nodes.iter().all(unsealed)) {
            Ok(())
        } else {
            Err(self.late("to unseal"))
        }
    }

    fn late(&self, doing: &str) -> Error {
        Error::Failed { doing: format!("wait for unsealer {doing}"), said: self.unsealer.log() }
    }

    /// What the watch costs while nothing happens.
    fn idle(&self) -> Result<Cost> {
        let process = format!("/proc/{}", self.unsealer.pid());
        let process = Path::new(&process);
        pause(Duration::from_secs(2))?;
        let (before, begin) = (ticks(process)?, Instant::now());
        pause(IDLE)?;
        let used = ticks(process)?.saturating_sub(before);
        let used = f64::from(u32::try_from(used).unwrap_or(u32::MAX)) / ticks_per_second()?;
        Ok(Cost { cpu: 100.0 * used / begin.elapsed().as_secs_f64(), resident: resident(process)? })
    }
}

/// Lets this much time pass, unless the task is interrupted.
fn pause(span: Duration) -> Result<()> {
    let _interrupted = wait_until(span, || interrupt::check().is_err());
    interrupt::check()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))
}

/// User and system time, fields 14 and 15 of proc(5)'s `stat`.
fn ticks(process: &Path) -> Result<u64> {
    let stat = read(&process.join("stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn ticks_per_second() -> Result<f64> {
    let text = crate::shell::output("ask for the clock tick", Command::new("getconf").arg("CLK_TCK"))?;
    Ok(text.trim().parse().unwrap_or(100.0))
}

fn resident(process: &Path) -> Result<u64> {
    let status = read(&process.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_and_memory() {
        let me = Path::new("/proc/self");
        // Some work, lest it be less than a tick.
        let begin = Instant::now();
        while ticks(me).unwrap() == 0 {
            assert!(begin.elapsed() < PATIENCE);
        }
        assert!(resident(me).unwrap() > 500 && ticks_per_second().unwrap() >= 1.0);
    }
}
