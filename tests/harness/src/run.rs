//! Running programs, with all they write on record.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Error, Result, or_panic};
use crate::process::{GRACE, Process, tail};
use crate::wait::wait_until;

/// How long a program that should end may take.
const LIMIT: Duration = Duration::from_mins(1);

/// How a program ended and what it wrote.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output; what is not UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to standard error, its log above all.
    pub stderr: String,
}

impl Outcome {
    /// Its exit code, as a shell gives it: 128+n where signal n ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// The same outcome where the exit code was 0; else the end of the test, with all that was written.
    #[track_caller]
    pub fn success(self) -> Self {
        self.expect_code(0)
    }

    /// The same outcome where the exit code was this; else the end of the test, with all that was written.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs the program to its end, at most a minute.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    or_panic(run_within(command, LIMIT))
}

/// Runs the program to its end; past the limit it is killed, which is an error.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Outcome> {
    let mut daemon = Daemon::spawn(command)?;
    match daemon.process.wait(limit) {
        Some(status) => Ok(daemon.record.outcome(status)),
        None => Err(daemon.late("end", limit)),
    }
}

/// Starts a program that stays.
#[track_caller]
pub fn spawn(command: &mut Command) -> Daemon {
    or_panic(Daemon::spawn(command))
}

/// A program that stays until it is told to end; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    record: Arc<Record>,
}

impl Daemon {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let record = Record::of(command)?;
        let process = Process::spawn(&record.name, command)?;
        Ok(Self { process, record })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        text(&read(&self.record.stderr))
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        text(&read(&self.record.stdout))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits until its log holds this text; panics with the log where it does not, or where it ended first.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        or_panic(self.log_holds(text, limit));
    }

    /// The same, as a result.
    pub fn log_holds(&mut self, text: &str, limit: Duration) -> Result<()> {
        let found = || read(&self.record.stderr).windows(text.len()).any(|window| window == text.as_bytes());
        let _ = wait_until(limit, || found() || self.process.ended().is_some());
        if found() {
            return Ok(());
        }
        match self.process.ended() {
            Some(status) => Err(Error::Ended {
                program: self.record.name.clone(),
                status: format!("{status}, without logging {text:?}"),
                log: tail(&self.log()),
            }),
            None => Err(self.late(&format!("log {text:?}"), limit)),
        }
    }

    /// Waits until it ends of itself.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        match self.process.wait(limit) {
            Some(status) => self.record.outcome(status),
            None => or_panic(Err(self.late("end", limit))),
        }
    }

    /// Asks it to end with SIGTERM; panics where it does not within fifteen seconds.
    #[track_caller]
    pub fn terminate(self) -> Outcome {
        or_panic(self.end())
    }

    /// The same, as a result.
    pub fn end(mut self) -> Result<Outcome> {
        match self.process.stop(Signal::SIGTERM) {
            Some(status) => Ok(self.record.outcome(status)),
            None => Err(self.late("end by SIGTERM", GRACE)),
        }
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it where it stands.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Lets it outlive this value.
    pub fn leave_running(self) {
        std::mem::forget(self.process);
    }

    fn late(&self, goal: &str, limit: Duration) -> Error {
        let (program, log) = (self.record.name.clone(), tail(&self.log()));
        Error::Late { program, goal: goal.to_owned(), limit, log }
    }
}

/// One run: its arguments, and the files that take what it writes.
#[derive(Debug)]
pub(crate) struct Record {
    name: String,
    arguments: Vec<u8>,
    stdout: File,
    stderr: File,
}

/// All runs of this process, in the order of their starts.
static RECORDS: Mutex<Vec<Arc<Record>>> = Mutex::new(Vec::new());

impl Record {
    /// Puts the run on record, and its output into files: a program that leaves a child behind holds up
    /// nobody, as it would with pipes.
    fn of(command: &mut Command) -> Result<Arc<Self>> {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
        let arguments = command.get_args().map(OsStr::as_encoded_bytes).collect::<Vec<_>>().join(&b'\n');
        let doing = || Error::io("make a temporary file for a program's output");
        let (stdout, stderr) =
            (tempfile::tempfile().map_err(doing())?, tempfile::tempfile().map_err(doing())?);
        command.stdout(stdout.try_clone().map_err(doing())?).stderr(stderr.try_clone().map_err(doing())?);
        let record = Arc::new(Self { name, arguments, stdout, stderr });
        RECORDS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&record));
        Ok(record)
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        Outcome { status, stdout: text(&read(&self.stdout)), stderr: text(&read(&self.stderr)) }
    }

    /// Everything that became visible of the run, with the name of each part.
    pub(crate) fn parts(&self) -> [(String, Vec<u8>); 3] {
        [
            (format!("the arguments of {}", self.name), self.arguments.clone()),
            (format!("the standard output of {}", self.name), read(&self.stdout)),
            (format!("the standard error of {}", self.name), read(&self.stderr)),
        ]
    }
}

pub(crate) fn records() -> Vec<Arc<Record>> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The whole file, wherever its writer's position is: that one is shared with the program.
fn read(file: &File) -> Vec<u8> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = vec![0; usize::try_from(length).expect("outputs fit into memory")];
    file.read_exact_at(&mut bytes, 0).expect("a file that only grows is read up to its length");
    bytes
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
