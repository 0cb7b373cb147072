//! `db-init`: creates services' PostgreSQL databases, roles and grants from the secrets in Vault.
//!
//! In the order of its job: `target` reads from Vault what there is to be, `server` waits for PostgreSQL
//! (`login` is one attempt, `tls` how it is protected), `observed` looks at what there is (`verifier` at the
//! password), `grants` computes the difference as SQL, `inside` the same within the database, `prove` logs in as
//! the new user and uses the database. `make` does that for one service, `rotate` gives it a new password, and
//! `report` says what came of each. A second run finds no difference and changes nothing.
//!
//! The one exception: an administrator who may not read `pg_authid` can tell whether a password is right by a
//! login alone, and sets it anew at each run where the server asks the user for none (`trust`, `peer`).

mod args;
mod error;
mod failure;
mod grants;
#[cfg(test)]
mod hostile;
mod inside;
mod login;
mod make;
mod observed;
mod prove;
mod report;
mod rotate;
mod server;
mod target;
mod tls;
mod verifier;

pub use args::Args;
pub use error::DbInitError;
pub use failure::FailureKind;

use std::time::Duration;

use agent_runtime::{Exit, Shutdown};
use approle_session::{AppRole, LoginArgs};
use boot_clock::BootTime;
use futures_util::stream::{self, StreamExt as _};
use secrecy::SecretString;
use tracing::Instrument as _;
use vault_client::VaultClient;

use crate::args::Command;
use crate::report::{Answer, Report};
use crate::server::Server;
use crate::target::Target;
use crate::tls::Tls;

/// How long a health check waits for Vault.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command that was asked for, for every service.
pub async fn run(args: Args, shutdown: Shutdown) -> Result<Exit, DbInitError> {
    let tls = Tls::new(&args.server)?;
    let vault = args.vault.client()?;
    let mut services = args.services.clone();
    let mut seen = std::collections::BTreeSet::new();
    services.retain(|service| seen.insert(service.clone()));
    let several = services.len() > 1;
    let one = async |(place, name): (usize, String)| {
        let give_up = BootTime::now() + args.login.wait;
        let service = Service { name: &name, several, give_up, args: &args, tls: &tls, vault: &vault };
        let span = tracing::info_span!("service", name);
        let result = service.run(&shutdown).instrument(span).await;
        (place, Report::new(name, result))
    };
    let work = services.iter().cloned().enumerate().map(one);
    let mut under_way = stream::iter(work).buffer_unordered(usize::from(args.at_once));
    let mut reports = Vec::with_capacity(services.len());
    while let Some((place, report)) = under_way.next().await {
        if let Some(text) = report.text().filter(|_| !args.json) {
            agent_runtime::print(&text)?;
        }
        reports.push((place, report));
        if several {
            tracing::info!("{} of {} services", reports.len(), services.len());
        }
    }
    reports.sort_by_key(|(place, _)| *place);
    let reports: Vec<_> = reports.into_iter().map(|(_, report)| report).collect();
    if args.json {
        agent_runtime::print(&report::json(&reports))?;
    }
    Ok(report::exit(&reports))
}

/// One service, and what it is worked on with.
struct Service<'a> {
    name: &'a str,
    /// Whether there are others.
    several: bool,
    give_up: BootTime,
    args: &'a Args,
    tls: &'a Tls,
    vault: &'a VaultClient,
}

impl Service<'_> {
    async fn run(&self, shutdown: &Shutdown) -> Result<Answer, DbInitError> {
        let (objects, give_up) = (&self.args.objects, self.give_up);
        match &self.args.command {
            None => {
                let make = async |server: &Server, target: &Target| {
                    make::make(server, target, objects, give_up).await
                };
                self.with_server(shutdown, make).await
            }
            Some(Command::Plan) => {
                let plan = async |server: &Server, target: &Target| {
                    make::plan(server, target, objects, give_up).await
                };
                self.with_server(shutdown, plan).await
            }
            Some(Command::Wait) => {
                let wait = async |server: &Server, target: &Target| {
                    server.wait(give_up).await?;
                    Ok(answer("ready", format!("{} is ready", server.place()), server, target))
                };
                self.with_server(shutdown, wait).await
            }
            Some(Command::Healthcheck) => self.with_server(shutdown, healthcheck).await,
            Some(Command::Rotate(rotate)) => {
                let copies = rotate::copies(rotate)?;
                let alternate = rotate.alternate;
                let rotate =
                    async |client: VaultClient| rotate::rotate(self, &client, &copies, alternate).await;
                self.with_vault(shutdown, rotate).await
            }
        }
    }

    /// Reads the service's secret, and works on its server, without Vault. The next run finishes what one that is
    /// stopped began.
    async fn with_server(
        &self,
        shutdown: &Shutdown,
        work: impl AsyncFnOnce(&Server, &Target) -> Result<Answer, DbInitError>,
    ) -> Result<Answer, DbInitError> {
        let read = async |client: VaultClient| {
            let secret = target::read_secret(&client, &self.args.kv_mount, self.name).await?;
            let target = Target::of(self.name, &self.args.kv_mount, &secret.values)?;
            let server = self.server(&client, &target).await?;
            Ok((target, server))
        };
        let (target, server) = self.with_vault(shutdown, read).await?;
        shutdown.or_stop(work(&server, &target)).await?
    }

    /// The server, with the administrator's password, which may be in Vault.
    async fn server(&self, client: &VaultClient, target: &Target) -> Result<Server, DbInitError> {
        let args = &self.args.server;
        let password = match &args.admin_password_secret {
            // A health check is no administrator's business.
            _ if matches!(self.args.command, Some(Command::Healthcheck)) => None,
            None => server::read_admin_password(args, self.name)?,
            Some(place) => Some(self.secret_value(client, place).await?),
        };
        Server::new(args, target, self.tls, password)
    }

    /// The value that `--admin-password-secret` names.
    async fn secret_value(&self, client: &VaultClient, place: &str) -> Result<SecretString, DbInitError> {
        let parts = place.rsplit_once(':').filter(|(name, key)| !name.is_empty() && !key.is_empty());
        let (name, key) = parts.ok_or_else(|| DbInitError::Place {
            flag: "--admin-password-secret",
            value: place.to_owned(),
            form: "SECRET:KEY",
        })?;
        let mount = &self.args.kv_mount;
        let secret = target::read_secret(client, mount, name).await?;
        target::value(&secret.values, mount, name, key)
    }

    /// Logs in to Vault, does the work, and revokes the token.
    async fn with_vault<T>(
        &self,
        shutdown: &Shutdown,
        work: impl AsyncFnOnce(VaultClient) -> Result<T, DbInitError>,
    ) -> Result<T, DbInitError> {
        let mut approle = AppRole::new(self.vault.clone(), &self.login());
        let done = async {
            let client = approle.open(shutdown).await?;
            shutdown.or_stop(work(client)).await?
        }
        .await;
        approle.close().await;
        done
    }

    /// Of several services, each has its credentials in a directory of its own name.
    fn login(&self) -> LoginArgs {
        let mut login = self.args.login.clone();
        let own = login.credentials_dir.join(self.name);
        if self.several || own.is_dir() {
            login.credentials_dir = own;
        }
        if matches!(self.args.command, Some(Command::Healthcheck)) {
            login.wait = login.wait.min(HEALTH_PATIENCE);
        }
        login
    }
}

/// One login as the service's user.
async fn healthcheck(server: &Server, target: &Target) -> Result<Answer, DbInitError> {
    let login = server.connect(&target.user, Some(&target.password), &target.database).await;
    login.map_err(|error| server.user_refused(target, &target.database, &error))?;
    let text = format!("{} can use {} on {}", target.user, target.database, server.place());
    Ok(answer("healthy", text, server, target))
}

/// An answer that tells of no change.
fn answer(outcome: &'static str, text: String, server: &Server, target: &Target) -> Answer {
    let (role, database) = (target.user.clone(), target.database.clone());
    Answer { outcome, text, server: server.place(), role, database, changes: Vec::new() }
}
