//! How long `db-init` takes for five databases, beside the bare SQL.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{
    Daemon, Postgres, PostgresOptions, PostgresVersion, Programs, Vault, VaultOptions, run_within,
};

use super::{median, millis, verdict};
use crate::error::{Error, Result};
use crate::interrupt;

const SERVICES: [&str; 5] = ["one_db", "two_db", "three_db", "four_db", "five_db"];
/// How long any of the programs may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures, prints a table and the budget.
pub(super) fn run(programs: &Programs, rounds: u32) -> Result<()> {
    let stack = Stack::start(programs)?;
    let (mut bare, mut made, mut again) = (Vec::new(), Vec::new(), Vec::new());
    println!("\nFive databases on a PostgreSQL that writes to disk, {rounds} rounds");
    for _ in 0..rounds {
        interrupt::check()?;
        bare.push(stack.bare_sql()?);
        stack.forget();
        made.push(stack.db_init(programs)?);
        again.push(stack.db_init(programs)?);
        stack.forget();
    }
    println!("  {:<58} {:>10}", "", "median");
    let row = |name: &str, times: &[Duration]| println!("  {name:<58} {:>7.1} ms", millis(median(times)));
    row("psql for each, side by side: role, database, rights", &bare);
    row("db-init for all, with Vault and the proofs", &made);
    row("db-init again: nothing to change", &again);
    let ratio = median(&made).as_secs_f64() / median(&bare).as_secs_f64();
    println!("\n  Budget of db-init");
    println!("  at most twice the time of the bare SQL    {ratio:>7.2} x   {}", verdict(ratio <= 2.0));
    Ok(())
}

/// Five services with credentials, and a PostgreSQL.
struct Stack {
    vault: Vault,
    postgres: Postgres,
    dir: tempfile::TempDir,
}

impl Stack {
    fn start(programs: &Programs) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::io("make a temporary directory"))?;
        // As servers run: what is done is on the disk.
        let durable = ["fsync", "synchronous_commit", "full_page_writes"];
        let options = durable.iter().fold(PostgresOptions::new(PostgresVersion::V18), |options, setting| {
            options.setting(setting, "on")
        });
        let stack = Self { vault: VaultOptions::default().start()?, postgres: options.start()?, dir };
        for service in SERVICES {
            let policy = format!("path \"secret/data/{service}\" {{ capabilities = [\"read\"] }}\n");
            stack.write(&format!("policies/{service}-policy.hcl"), &policy)?;
        }
        let env = SERVICES.map(|service| {
            let key = service.to_uppercase();
            format!("{key}_USER={service}\n{key}_PASSWORD=measured\n{key}_NAME={service}\n")
        });
        stack.write(".env", &env.concat())?;
        stack.write("superuser", stack.postgres.password())?;
        let keys = ["--keys-dir", "keys", "--root-token-file", "root/token"];
        stack.succeed(programs.unsealer().arg("init").args(keys))?;
        stack.succeed(programs.unsealer().arg("unseal").args(keys))?;
        stack.succeed(programs.bootstrap().args(["apply", "--token-file", "root/token"]).args([
            "--env-file",
            ".env",
            "--policies-dir",
            "policies",
            "--approle-dir",
            "approle",
            "--state-dir",
            "state",
        ]))?;
        Ok(stack)
    }

    fn write(&self, name: &str, content: &str) -> Result<()> {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(self.dir.path()))
            .and_then(|()| fs::write(&path, content))
            .map_err(Error::io(format!("write {}", path.display())))
    }

    /// Runs it in the directory of the stack; how long it took.
    fn succeed(&self, command: &mut Command) -> Result<Duration> {
        command.current_dir(self.dir.path()).env("VAULT_ADDR", self.vault.addr());
        let begin = Instant::now();
        let outcome = run_within(command, PATIENCE)?;
        let time = begin.elapsed();
        if outcome.code() == 0 {
            return Ok(time);
        }
        let doing = format!("measure {}", command.get_program().display());
        Err(Error::Failed { doing, said: outcome.stderr })
    }

    fn db_init(&self, programs: &Programs) -> Result<Duration> {
        let mut command = programs.db_init();
        command.args(SERVICES.iter().flat_map(|service| ["--service", service]));
        command.args([
            "--credentials-dir",
            "approle",
            "--admin-password-file",
            "superuser",
            "--at-once",
            "5",
        ]);
        let address = self.postgres.address();
        command.args(["--db-host", &address.ip().to_string(), "--db-port", &address.port().to_string()]);
        self.succeed(&mut command)
    }

    /// What the seed of every set-up script does, each statement as it stands.
    fn bare_sql(&self) -> Result<Duration> {
        let begin = Instant::now();
        let sessions = SERVICES.map(|service| {
            let role = format!("CREATE ROLE {service} WITH LOGIN PASSWORD 'measured'");
            let mut psql =
                self.postgres.psql_command("postgres", self.postgres.password(), "postgres", &role);
            psql.args(["-c", &format!("CREATE DATABASE {service} OWNER {service}")]);
            psql.args(["-c", &format!("REVOKE ALL ON DATABASE {service} FROM PUBLIC")]);
            psql.args(["-c", &format!("GRANT ALL PRIVILEGES ON DATABASE {service} TO {service}")]);
            Daemon::spawn(&mut psql)
        });
        for session in sessions {
            let outcome = session?.wait(PATIENCE);
            if outcome.code() != 0 {
                return Err(Error::Failed { doing: "measure psql".to_owned(), said: outcome.stderr });
            }
        }
        Ok(begin.elapsed())
    }

    fn forget(&self) {
        for service in SERVICES {
            self.postgres.sql("postgres", &format!("DROP DATABASE {service}"));
            self.postgres.sql("postgres", &format!("DROP ROLE {service}"));
        }
    }
}
