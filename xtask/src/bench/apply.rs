//! How long `bootstrap apply` takes for a thousand services of five keys: the first time, and when nothing differs.
//!
//! Beside it, each on a new server of its own: the script that it replaces, and the requests alone, many at once,
//! which is what the server bears.

mod raw;
mod stack;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::Programs;

use self::stack::{KEYS, SERVICES, Stack};
use super::{median, millis, verdict};
use crate::error::{Error, Result};
use crate::interrupt;

/// One takes up to half a minute.
const MOST_ROUNDS: u32 = 5;

/// The script, and where its packages lie among the tools.
const SCRIPT: &str = include_str!("apply/hvac.py");
const PACKAGES: [&str; 7] =
    ["hvac", "requests", "urllib3", "idna", "certifi", "charset-normalizer", "dotenv-1.2"];

/// The times of all rounds.
#[derive(Default)]
struct Times {
    first: Vec<Duration>,
    second: Vec<Duration>,
    script: Vec<Duration>,
    /// The requests of the first apply, and of the second.
    raw: Vec<Duration>,
    raw_reads: Vec<Duration>,
    /// Peak resident, in kB.
    memory: u64,
    /// What the second applies wrote, in entries of the server's storage log.
    writes: u64,
}

/// Measures, and prints a table and the budgets.
pub(super) fn run(programs: &Programs, rounds: u32) -> Result<()> {
    let rounds = rounds.min(MOST_ROUNDS);
    println!("\nA stack of {SERVICES} services with {KEYS} keys each, raft storage, {rounds} rounds");
    let mut times = Times::default();
    for _ in 0..rounds {
        interrupt::check()?;
        let stack = Stack::start()?;
        let (raw, accessors) = raw::first(&stack)?;
        times.raw.push(raw);
        times.raw_reads.push(raw::second(&stack, &accessors)?);
        interrupt::check()?;
        times.script.push(script(&Stack::start()?)?);
        interrupt::check()?;
        applies(&Stack::start()?, programs, &mut times)?;
    }
    print!("{}", table(&times));
    Ok(())
}

/// Twice on the same server.
fn applies(stack: &Stack, programs: &Programs, times: &mut Times) -> Result<()> {
    let mut apply = || -> Result<Duration> {
        let mut bootstrap = programs.bootstrap();
        bootstrap.args([
            "apply",
            "--log-level",
            "warn",
            "--token-file",
            "root-token",
            "--state-dir",
            "state",
        ]);
        bootstrap.arg("--approle-dir").arg(stack.approle_dir());
        let (time, memory) = stack.timed(&mut bootstrap)?;
        times.memory = times.memory.max(memory);
        Ok(time)
    };
    let first = apply()?;
    let before = stack.written()?;
    let second = apply()?;
    times.writes += stack.written()?.saturating_sub(before);
    times.first.push(first);
    times.second.push(second);
    Ok(())
}

fn script(stack: &Stack) -> Result<Duration> {
    let tools = harness::tools_dir();
    let paths = PACKAGES.map(|package| tools.join(format!("python-{package}")));
    let paths = std::env::join_paths(paths).map_err(|cause| Error::Failed {
        doing: "name Python's packages".to_owned(),
        said: cause.to_string(),
    })?;
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).env("PYTHONPATH", paths).env("APPROLE_DIR", stack.approle_dir());
    python.env("VAULT_TOKEN", stack.token()).stdin(Stdio::null());
    Ok(stack.timed(&mut python)?.0)
}

fn table(times: &Times) -> String {
    let row = |name: &str, times: &[Duration]| {
        let fastest = times.iter().min().copied().unwrap_or_default();
        format!("  {name:<52} {:>8.0} ms {:>8.0} ms", millis(median(times)), millis(fastest))
    };
    let ratio =
        |one: &[Duration], other: &[Duration]| median(one).as_secs_f64() / median(other).as_secs_f64();
    let faster = ratio(&times.script, &times.first);
    let above = ratio(&times.first, &times.raw);
    // Three things about each service are told by no list, so that the server's own limit is below what is aimed for.
    let again = ratio(&times.first, &times.second);
    let bears = ratio(&times.first, &times.raw_reads);
    let above_reads = ratio(&times.second, &times.raw_reads);
    let megabytes = f64::from(u32::try_from(times.memory).unwrap_or(u32::MAX)) / 1000.0;
    let budget = |name: &str, value: f64, unit: &str, met: bool| {
        format!("  {name:<52} {value:>8.2} {unit:<2} {}", verdict(met))
    };
    let lines = [
        format!("  {:<52} {:>11} {:>11}", "", "median", "fastest"),
        row("bootstrap apply, the first", &times.first),
        row("bootstrap apply, the second", &times.second),
        row("hvac script, one request after another", &times.script),
        row("raw requests of the first, many at once", &times.raw),
        row("raw requests of the second, many at once", &times.raw_reads),
        "\n  Budgets of bootstrap apply".to_owned(),
        budget("the first at least 3 times faster than hvac", faster, "x", faster >= 3.0),
        budget("the first at most 1.3 times its raw requests", above, "x", above <= 1.3),
        format!(
            "  {name:<52} {again:>8.2} x  {bears:.2} x is what the server bears",
            name = "the second faster than the first (10 x aimed for)"
        ),
        budget("the second at most 1.3 times its raw requests", above_reads, "x", above_reads <= 1.3),
        format!(
            "  {:<52} {:>8}    {}",
            "the second writes nothing",
            times.writes,
            verdict(times.writes == 0)
        ),
        budget("less than 30 MB resident at the peak", megabytes, "MB", megabytes < 30.0),
    ];
    lines.map(|line| line + "\n").concat()
}

/// Does `work` for each service, as many at once as bootstrap has under way; the results in the services' order.
/// `begin` makes what each of these works with.
fn side_by_side<W, T: Send>(
    begin: impl Fn() -> Result<W> + Sync,
    work: impl Fn(&mut W, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    const AT_ONCE: usize = 16;
    let (begin, work) = (&begin, &work);
    let share = move |first: usize| -> Vec<Result<T>> {
        match begin() {
            Ok(mut with) => {
                (first..SERVICES).step_by(AT_ONCE).map(|service| work(&mut with, service)).collect()
            }
            Err(error) => vec![Err(error)],
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|first| scope.spawn(move || share(first))).collect();
        let mut by_worker: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).into_iter())
            .collect();
        (0..SERVICES).filter_map(|service| by_worker[service % AT_ONCE].next()).collect()
    })
}

/// How long it takes.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    work()?;
    Ok(begin.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_judged_by_the_medians() {
        let of = |millis: &[u64]| millis.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        let times = Times {
            first: of(&[2000, 2000, 9000]),
            second: of(&[210]),
            script: of(&[6000]),
            raw: of(&[1500]),
            raw_reads: of(&[200]),
            memory: 16_000,
            writes: 1,
        };
        let text = table(&times);
        let verdict = |budget: &str| text.lines().find(|line| line.contains(budget)).unwrap().to_owned();
        assert!(verdict("than hvac").ends_with("3.00 x  met"), "{text}");
        assert!(verdict("first at most").ends_with("1.33 x  MISSED"), "{text}");
        assert!(verdict("10 x aimed for").ends_with("9.52 x  10.00 x is what the server bears"), "{text}");
        assert!(verdict("second at most").ends_with("1.05 x  met"), "{text}");
        assert!(verdict("writes nothing").ends_with("MISSED"), "{text}");
        assert!(verdict("30 MB").ends_with("16.00 MB met"), "{text}");
    }

    #[test]
    fn results_keep_their_order() {
        let doubled = side_by_side(|| Ok(2), |factor, service| Ok(service * *factor)).unwrap();
        assert_eq!(doubled, (0..SERVICES).map(|service| service * 2).collect::<Vec<_>>());
    }
}
