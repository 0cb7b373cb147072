//! `cargo xtask demo`: the whole crew at work on real servers, on the stack in `examples/transcendence`.
//!
//! [`stage`] is the directory that it plays in, [`crew`] runs the programs as an operator would,
//! [`proof`] uses what they made, [`changes`] tells what a run altered, [`secrets`] looks for leaks,
//! [`screen`] shows it all.

mod changes;
mod crew;
mod proof;
mod screen;
mod secrets;
mod stage;

use std::path::PathBuf;

use clap::Args;

use self::changes::Snapshot;
use self::crew::Crew;
use self::proof::Service;
use self::screen::Screen;
use self::secrets::Secrets;
use self::stage::Stage;
use crate::error::{Error, Result};
use crate::{interrupt, programs, tools};

/// How to play it.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave everything running at the end, and say how to use it
    #[arg(long)]
    keep: bool,

    /// Directory to play in, kept at the end: a second run finds the state of the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Plays the whole story. Everything that was started is stopped, however it ends, unless it is kept.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    interrupt::watch()?;
    let screen = Screen::new();
    let played = play(args, &screen);
    // What an interruption broke is not what went wrong.
    interrupt::check()?;
    played
}

fn play(args: &DemoArgs, screen: &Screen) -> Result<()> {
    screen.step("servers and tools", || tools::run().map(|()| String::new()))?;
    let bin_dir = screen.noisy_step("release programs", programs::build)?;

    let stage = Stage::open(args.dir.clone(), args.keep)?;
    screen.say(&format!("\nplaying in {}\n", stage.dir().display()));
    let mut vault = screen.step_with("Vault (OpenBao, raft storage)", || {
        let vault = stage.start_vault()?;
        Ok((format!("listens on {}", vault.addr()), vault))
    })?;
    let mut postgres = screen.step_with("PostgreSQL 18", || {
        let postgres = stage.start_postgres()?;
        Ok((format!("listens on {}", postgres.address()), postgres))
    })?;
    stage.prepare(postgres.address())?;
    let mut secrets = Secrets::of_stage(&stage)?;
    let early_watch = secrets.canary().clone().watch_command_lines();

    let before = Snapshot::of_files(&stage)?;
    let crew = Crew::new(bin_dir, &stage, vault.addr())?;
    let unsealer = screen.step_with("unsealer run", || {
        let unsealer = crew.unsealer()?;
        Ok((format!("{}; keys in {}", crew.unsealer_says()?, stage.keys().display()), unsealer))
    })?;
    secrets.add_keys(&stage)?;
    let services = stage.services()?;
    let before = before.and_servers(&stage, &vault, &postgres, &services)?;
    screen.step("bootstrap apply", || crew.bootstrap_apply())?;
    let bootstrap = screen.step_with("bootstrap run", || {
        let bootstrap = crew.bootstrap()?;
        Ok((crew.bootstrap_says()?, bootstrap))
    })?;
    for service in Service::databases(&services) {
        screen.step(&format!("db-init {service}"), || crew.db_init(service))?;
    }
    let services = proof::read_services(&stage, &vault, &services)?;
    secrets.add_services(&stage, &services)?;
    let late_watch = secrets.canary().clone().watch_command_lines();
    for service in &services {
        let foreign = proof::foreign(&stage, service, &services)?;
        screen.step(&format!("approle-agent {}", service.name), || {
            proof::prove_service(&crew, &stage, service, foreign)
        })?;
    }
    let databases: Vec<&Service> = services.iter().filter(|service| service.is_database()).collect();
    for (index, service) in databases.iter().enumerate() {
        let neighbour = databases[(index + 1) % databases.len()];
        screen.step(&format!("database of {}", service.name), || {
            proof::prove_database(&postgres, service, neighbour)
        })?;
    }
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    let after = Snapshot::of_files(&stage)?.and_servers(&stage, &vault, &postgres, &names)?;
    screen.step("search for secrets", || {
        let watched = [early_watch.stop(), late_watch.stop()].into_iter().flatten().next();
        secrets.search(&stage, &vault, &postgres, screen, watched)
    })?;

    screen.say(&report(&stage, &services, &before.changes(&after), screen));
    if args.keep {
        let pids = [vault.pid(), postgres.pid(), Some(unsealer.pid()), Some(bootstrap.pid())];
        screen.say(&stage.usage(
            &vault.addr(),
            postgres.address(),
            &pids.into_iter().flatten().collect::<Vec<_>>(),
        ));
        unsealer.leave_running();
        bootstrap.leave_running();
        vault.leave_running();
        postgres.leave_running();
        return Ok(());
    }
    screen.step("stop everything", || {
        for (name, daemon) in [("bootstrap run", bootstrap), ("unsealer run", unsealer)] {
            let outcome = daemon.end()?;
            if outcome.code() != 0 {
                let said = format!("it ended with {}:\n{}", outcome.code(), outcome.stderr);
                return Err(Error::Failed { doing: format!("stop {name} in good order"), said });
            }
        }
        vault.stop();
        postgres.stop();
        Ok(stage.fate())
    })
}

fn report(stage: &Stage, services: &[Service], altered: &[String], screen: &Screen) -> String {
    let keys: usize = services.iter().map(|service| service.secret.len()).sum();
    let databases = services.iter().filter(|service| service.is_database()).count();
    let number = services.len();
    let changed = match altered {
        [] => "nothing changed: everything was there already".to_owned(),
        names => format!("changed: {}", names.join(", ")),
    };
    format!(
        "\nWhat there is now\n  \
         {number} services: {number} policies, {number} AppRoles, {number} secrets with {keys} keys\n  \
         {databases} databases, each with a role of its own that owns it\n  \
         {changed}\n\
         Where\n  \
         key shares      {}\n  \
         root token      {}\n  \
         credentials     {}/<service>/\n  \
         rendered        {}/<service>.json\n\
         How long\n{}",
        stage.keys().display(),
        stage.root_token().display(),
        stage.approle().display(),
        stage.rendered().display(),
        screen.times(),
    )
}
