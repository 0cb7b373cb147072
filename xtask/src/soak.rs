//! `cargo xtask soak`: a stack of sixteen services whose hours are seconds, in trouble all the time.
//!
//! [`stack`] is the servers and programs and [`agents`] those behind a network that can be cut, [`trouble`] what befalls
//! them, [`rule`] what must hold whatever does; [`env_files`] changes secrets and reads what is rendered. A new kind of
//! trouble, or a new rule, is one more type in its file and one more line in [`soak`].

mod agents;
mod env_files;
mod outages;
mod rule;
mod stack;
mod strangers;
mod trouble;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use self::env_files::EnvFiles;
use self::outages::Outages;
use self::rule::{Requests, Rule, SecretIds, Tokens, Validity};
use self::stack::Stack;
use self::strangers::Strangers;
use self::trouble::{
    BootstrapDown, Chance, Course, NetworkCut, TokenRevoked, Trouble, VaultDown, VaultSealed,
};
use crate::error::{Error, Result};
use crate::{interrupt, programs, shell, tools};

/// Between two looks at everything.
const EVERY: Duration = Duration::from_millis(500);

/// How to soak.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// For how long
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,

    /// What chance begins with: the same number makes the same troubles in the same order
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Soaks, with the programs that `VAULTCREW_BIN_DIR` names or, without it, with newly built ones.
pub(crate) fn run(args: &SoakArgs) -> Result<()> {
    interrupt::watch()?;
    tools::run()?;
    let programs = match shell::variable(harness::BIN_DIR) {
        Some(dir) => PathBuf::from(dir),
        None => programs::build()?,
    };
    let said = soak(args, programs)?;
    println!("{said}");
    Ok(())
}

/// The soak that is part of every test run.
pub(crate) fn in_short(programs: PathBuf) -> Result<String> {
    soak(&SoakArgs { minutes: 2, seed: None }, programs)
}

fn soak(args: &SoakArgs, programs: PathBuf) -> Result<String> {
    let mut chance = Chance::new(args.seed);
    println!(
        "soaking for {} minutes; to have the same troubles again: --seed {}",
        args.minutes,
        chance.seed()
    );
    let mut stack = Stack::start(programs)?;
    let troubles: Vec<Box<dyn Trouble>> = vec![
        Box::new(BootstrapDown::default()),
        Box::new(VaultDown),
        Box::new(VaultSealed),
        Box::new(NetworkCut::default()),
        Box::new(TokenRevoked::default()),
    ];
    let env_files = EnvFiles::watch(&stack)?;
    let mut changes = env_files.changes();
    let mut rules: Vec<Box<dyn Rule>> = vec![
        Box::new(Validity::default()),
        Box::new(SecretIds::default()),
        Box::new(Tokens::default()),
        Box::new(Requests::default()),
        Box::new(env_files),
    ];
    let strangers = Strangers::start(&stack)?;
    let mut outages = Outages::default();
    let mut courses: Vec<Course> =
        troubles.into_iter().map(|trouble| Course::begin(trouble, &mut chance)).collect();

    let end = Instant::now() + Duration::from_mins(args.minutes);
    let mut breaches = Vec::new();
    let ended = loop {
        if let Err(interrupted) = interrupt::check() {
            break Err(interrupted);
        }
        let begin = Instant::now();
        if begin >= end || breaches.len() > 10 {
            break Ok(());
        }
        if let Err(error) =
            courses.iter_mut().try_for_each(|course| course.go_on(&mut stack, &mut outages, &mut chance))
        {
            break Err(error);
        }
        changes.go_on(&stack, &mut chance);
        for breach in rules.iter_mut().flat_map(|rule| rule.look(&stack, &outages)) {
            eprintln!("after {:.1} s: {breach}", stack.began().elapsed().as_secs_f64());
            breaches.push(breach);
        }
        let _ = harness::wait_until(EVERY.saturating_sub(begin.elapsed()), || false);
    };
    // Whatever still lasts must end well too.
    let ended =
        ended.and_then(|()| courses.iter_mut().try_for_each(|course| course.end(&mut stack, &mut outages)));
    let strangers = strangers.stop();
    breaches.extend(strangers.breach());
    breaches.extend(rules.iter().filter_map(|rule| rule.missed()));
    let mut said = vec![stack.says(), outages.says(), strangers.says()];
    said.extend(rules.iter().map(|rule| rule.says()));
    let said = format!("  {}", said.join("\n  "));
    ended?;
    if breaches.is_empty() {
        breaches.extend(stack.heals());
    }
    if breaches.is_empty() {
        return Ok(said);
    }
    let logs = stack.logs();
    Err(Error::Failed { doing: "soak".to_owned(), said: format!("{}\n{said}\n{logs}", breaches.join("\n")) })
}
