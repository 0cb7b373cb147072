//! What each step does.

use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::process::{Command, Stdio};

use super::{Ending, Progress, Step, Suite, TestArgs};
use crate::error::{Error, Result};
use crate::{programs, shell, soak, tools};

pub(super) fn run(step: Step, args: &TestArgs, progress: &mut Progress) -> Result<Ending> {
    match step {
        Step::Format => cargo(&["fmt", "--all", "--check"]),
        Step::Lock => {
            let mut command = Command::new("cargo");
            command.args(["metadata", "--locked", "--format-version", "1"]);
            shell::output("read the workspace with Cargo.lock as it is", &mut command).map(|_| passed())
        }
        Step::Tools => tools::run_for_tests().map(|()| passed()),
        Step::Clippy => cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        Step::Doc => ending(
            Command::new("cargo")
                .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        ),
        Step::Programs => {
            let dir = programs::build()?;
            println!("built in {}", dir.display());
            programs::inspect(&dir)?;
            progress.programs = Some(dir);
            Ok(passed())
        }
        Step::Tests => tests(Suite::Servers, args, progress),
        Step::Soak => {
            let Some(programs) = progress.programs.clone() else {
                return Ok(Ending::Failed("there are no programs to soak".to_owned()));
            };
            println!("{}", soak::in_short(programs)?);
            Ok(passed())
        }
        Step::Stack => match engine() {
            Ok(version) => {
                println!("Docker Engine {version}");
                tests(Suite::Stack, args, progress)
            }
            Err(error) => Ok(Ending::Skipped(format!(
                "no Docker Engine answers, so the stack of compose/ was NOT tested ({})",
                harness::with_causes(&error)
            ))),
        },
        Step::Doctests => cargo(&["test", "--workspace", "--doc", "--quiet"]),
        Step::Deny => {
            let mut command = Command::new(needed("cargo-deny")?);
            ending(command.args(["check", "bans", "licenses", "sources"]))
        }
    }
}

/// `cargo xtask stack`: the stories that take many minutes, which `cargo xtask test` leaves out.
pub(crate) fn long_stories(args: &TestArgs) -> Result<()> {
    tools::run_for_long_stories()?;
    engine()?;
    let progress = Progress { programs: Some(programs::build()?) };
    match tests(Suite::LongStories, args, &progress)? {
        Ending::Passed(_) => Ok(()),
        Ending::Skipped(why) | Ending::Failed(why) => Err(Error::Steps(why)),
    }
}

/// The version of the Docker Engine that answers.
fn engine() -> Result<String> {
    let mut version = Command::new(harness::docker()?);
    version.args(["version", "--format", "{{.Server.Version}}"]);
    shell::output("ask the Docker Engine its version", &mut version).map(|text| text.trim().to_owned())
}

fn tests(suite: Suite, args: &TestArgs, progress: &Progress) -> Result<Ending> {
    let Some(programs) = &progress.programs else {
        return Ok(Ending::Failed("there are no programs to test".to_owned()));
    };
    println!("running the programs in {}", programs.display());
    let mut nextest = Command::new(needed("cargo-nextest")?);
    nextest.args(["nextest", "run"]).args(args.nextest(suite)).env(harness::BIN_DIR, programs);
    if std::io::stderr().is_terminal() {
        nextest.args(["--color", "always"]);
    }
    let (is_success, closing_line) = show_and_keep_summary(&mut nextest)?;
    if !is_success {
        return Ok(Ending::Failed(closing_line));
    }
    let ignored = ignored(suite, args)?;
    if ignored.is_empty() {
        return Ok(Ending::Passed(closing_line));
    }
    Ok(Ending::Skipped(format!("{closing_line}; ignored: {}", ignored.join(", "))))
}

/// Tests that are marked as ignored, which is a way of being skipped.
fn ignored(suite: Suite, args: &TestArgs) -> Result<Vec<String>> {
    let mut list = Command::new(needed("cargo-nextest")?);
    list.args(["nextest", "list", "--run-ignored", "only", "--message-format", "oneline"])
        .args(args.nextest(suite));
    Ok(shell::output("list ignored tests", &mut list)?.lines().map(str::to_owned).collect())
}

/// Runs nextest in the open; whether it succeeded, and its closing line.
fn show_and_keep_summary(command: &mut Command) -> Result<(bool, String)> {
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(Error::io("run cargo-nextest"))?;
    let mut summary = "no summary was seen".to_owned();
    // Taken once, from a child that was given it above.
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
        let line = line.map_err(Error::io("read what nextest says"))?;
        eprintln!("{line}");
        let plain = without_colour(&line);
        if let Some((_, counts)) = plain.split_once("Summary [").and_then(|(_, rest)| rest.split_once(']')) {
            counts.trim().clone_into(&mut summary);
        }
    }
    let status = child.wait().map_err(Error::io("wait for cargo-nextest"))?;
    Ok((status.success(), summary))
}

fn without_colour(line: &str) -> String {
    let mut parts = line.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}

fn needed(tool: &str) -> Result<std::path::PathBuf> {
    tools::find(tool).ok_or_else(|| Error::NotInstalled { names: format!("{tool} (cargo xtask tools)") })
}

fn cargo(arguments: &[&str]) -> Result<Ending> {
    ending(Command::new("cargo").args(arguments))
}

fn ending(command: &mut Command) -> Result<Ending> {
    let program = command.get_program().to_string_lossy().into_owned();
    let first = command.get_args().next().unwrap_or_default().to_string_lossy().into_owned();
    if shell::show(command)? { Ok(passed()) } else { Ok(Ending::Failed(format!("{program} {first}"))) }
}

fn passed() -> Ending {
    Ending::Passed(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(without_colour("\x1b[32;1m     Summary\x1b[0m [1s] 3 tests"), "     Summary [1s] 3 tests");
        assert_eq!(without_colour("plain"), "plain");
    }
}
