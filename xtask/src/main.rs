//! The project's tasks: `cargo xtask tools | test | demo | soak | stack | bench`.

mod bench;
mod demo;
mod error;
mod interrupt;
mod programs;
mod shell;
mod soak;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's tasks
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Get the servers and tools that tests and tasks need into target/tools
    Tools,
    /// Check everything: format, lints, documentation, the release programs, all tests, dependencies
    Test(test::TestArgs),
    /// Play the whole story on real servers, from nothing to a stack that works
    Demo(demo::DemoArgs),
    /// Keep a stack of sixteen services in trouble, and see that none is without a credential, a token or whole files
    Soak(soak::SoakArgs),
    /// Test for many minutes what only time shows: the Compose stack's longest stories, under a Docker Engine
    Stack,
    /// Measure how long a service waits for its secrets, beside those who do the same
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Tools => tools::run(),
        Task::Test(args) => test::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Soak(args) => soak::run(&args),
        Task::Stack => test::long_stories(&test::TestArgs::default()),
        Task::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error::Error::Interrupted) => {
            eprintln!("interrupted; everything that was started has been stopped");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {}", harness::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}
