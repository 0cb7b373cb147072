//! Using what the crew made, as the services would.

use std::collections::BTreeMap;
use std::fs;

use harness::{Postgres, Vault};
use serde_json::Value;

use super::crew::Crew;
use super::stage::Stage;
use crate::error::{Error, Result};

/// The exit code of a refusal.
const DENIED: i32 = 77;

/// A service and what Vault holds for it.
pub(super) struct Service {
    pub(super) name: String,
    pub(super) secret: BTreeMap<String, String>,
}

impl Service {
    /// Those whose secret is that of a database, which db-init makes.
    pub(super) fn databases(names: &[String]) -> impl Iterator<Item = &str> {
        names.iter().map(String::as_str).filter(|name| is_database(name))
    }

    pub(super) fn is_database(&self) -> bool {
        is_database(&self.name)
    }

    /// The value of the key that ends so.
    fn value(&self, suffix: &str) -> Result<&str> {
        let key = self.secret.keys().find(|key| key.ends_with(suffix));
        key.map(|key| self.secret[key].as_str()).ok_or_else(|| Error::Failed {
            doing: format!("use the database of {}", self.name),
            said: format!("its secret has no key that ends in {suffix}"),
        })
    }
}

/// Reads every service's secret with the root token: what the agents must get.
pub(super) fn read_services(stage: &Stage, vault: &Vault, names: &[String]) -> Result<Vec<Service>> {
    let token = root_token(stage)?;
    let read = |name: &String| {
        let answer =
            vault.client().expect("GET", &format!("/v1/secret/data/{name}"), &token, &Value::Null)?;
        let secret = serde_json::from_value(answer["data"]["data"].clone()).map_err(|_| Error::Failed {
            doing: format!("read secret/{name}"),
            said: "it is no flat map of strings".to_owned(),
        })?;
        Ok(Service { name: name.clone(), secret })
    };
    names.iter().map(read).collect()
}

pub(super) fn root_token(stage: &Stage) -> Result<String> {
    let path = stage.root_token();
    fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
}

/// The next service in the list whose secret this one's policy does not name.
pub(super) fn foreign<'a>(stage: &Stage, service: &Service, all: &'a [Service]) -> Result<&'a Service> {
    let path = stage.policies().join(format!("{}-policy.hcl", service.name));
    let policy = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    let own = all.iter().position(|other| other.name == service.name).unwrap_or(0);
    let mut others = all.iter().cycle().skip(own + 1).take(all.len());
    let is_foreign = |other: &&Service| !policy.contains(&format!("\"secret/data/{}\"", other.name));
    others.find(is_foreign).ok_or_else(|| wrong(&service.name, "its policy grants every secret there is"))
}

/// The service logs in, gets all of its own secret, on disk and in its environment, and is refused a
/// foreign one.
pub(super) fn prove_service(
    crew: &Crew,
    stage: &Stage,
    service: &Service,
    foreign: &Service,
) -> Result<String> {
    let name = &service.name;
    let file = stage.rendered().join(format!("{name}.json"));
    let mut render = crew.agent("render", name, name);
    render.arg("--env-file").arg(&file).args(["--format", "json"]);
    crew.succeed(render)?;
    let text = fs::read_to_string(&file).map_err(Error::io(format!("read {}", file.display())))?;
    if serde_json::from_str::<BTreeMap<String, String>>(&text).ok().as_ref() != Some(&service.secret) {
        return Err(wrong(name, &format!("{} is not what Vault holds", file.display())));
    }

    let mut exec = crew.agent("exec", name, name);
    let check =
        r#"for key; do eval "[ -n \"\${$key+set}\" ]" || exit 9; done; [ -z "$VAULT_ADDR" ] || exit 8"#;
    exec.args(["--", "sh", "-c", check, "sh"]).args(service.secret.keys());
    crew.succeed(exec)?;

    let mut denied = crew.agent("exec", name, &foreign.name);
    denied.args(["--", "sh", "-c", "exit 0"]);
    crew.expect(denied, DENIED)?;
    Ok(format!("{} keys; refused {}", service.secret.len(), foreign.name))
}

/// The database's user connects, makes a table and drops it, and is refused the neighbour's database.
pub(super) fn prove_database(postgres: &Postgres, service: &Service, neighbour: &Service) -> Result<String> {
    let (user, password) = (service.value("_DB_USER")?, service.value("_DB_PASSWORD")?);
    let (database, other) = (service.value("_DB_NAME")?, neighbour.value("_DB_NAME")?);
    let sql = "CREATE TABLE proof (n int); INSERT INTO proof VALUES (1); DROP TABLE proof";
    postgres.psql(user, password, database, sql).map_err(|error| wrong(&service.name, &error))?;
    match postgres.psql(user, password, other, "SELECT 1") {
        Err(error) if error.contains("permission denied") => {}
        Err(error) => return Err(wrong(&service.name, &error)),
        Ok(_) => return Err(wrong(&service.name, &format!("{user} gets into the database {other}"))),
    }
    Ok(format!("{user} uses {database}; refused {other}"))
}

fn is_database(name: &str) -> bool {
    name.ends_with("_db")
}

fn wrong(service: &str, said: &str) -> Error {
    Error::Failed { doing: format!("prove {service}"), said: said.to_owned() }
}
