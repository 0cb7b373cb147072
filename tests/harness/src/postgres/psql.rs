//! SQL, by `psql`.

use std::process::{Command, Stdio};

use super::Postgres;
use crate::settings;

impl Postgres {
    /// `psql`, about to run SQL over TCP as this user: it prints rows unaligned and without headings.
    #[must_use]
    pub fn psql_command(&self, user: &str, password: &str, database: &str, sql: &str) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command
            .env_clear()
            .env("PATH", settings::search_path())
            .env("PGPASSWORD", password)
            // As an argument, one with `=` in it would be taken for a connection string.
            .env("PGDATABASE", database)
            .env("PGCONNECT_TIMEOUT", "10")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", user, "-c", sql])
            .args(["-h", &self.address.ip().to_string(), "-p", &self.address.port().to_string()])
            .stdin(Stdio::null());
        command
    }

    /// Runs SQL over TCP as this user: what `psql` printed, or its errors.
    pub fn psql(&self, user: &str, password: &str, database: &str, sql: &str) -> Result<String, String> {
        let mut command = self.psql_command(user, password, database, sql);
        let output = command.output().map_err(|error| format!("cannot run psql: {error}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Runs SQL as the superuser; panics with the server's words where it fails.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        match self.psql("postgres", &self.password, database, sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}
