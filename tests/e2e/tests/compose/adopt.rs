//! docs/adopt.md, done to the stack that it begins with.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::documented::{Step, sections};
use crate::engine::{run, secretly_told, told};
use crate::images;
use crate::stack::{Stack, composes, prepare};

pub(crate) const PAGE: &str = "docs/adopt.md";

/// Every change fits into what the ones before it left, and every Compose takes what comes of each.
#[test]
fn every_change_fits() {
    let dir = tempfile::tempdir().unwrap();
    let example = images::repository().join("examples/transcendence");
    for (name, file) in [(".env", ".env.example"), ("vaultcrew.toml", "vaultcrew.toml")] {
        fs::copy(example.join(file), dir.path().join(name)).unwrap();
    }
    lay(dir.path());
    let is_taken = || {
        for compose in composes() {
            let mut command = Command::new(compose);
            prepare(&mut command).current_dir(dir.path()).env("COMPOSE_PROJECT_NAME", "adopted");
            let outcome = run(command.args(["config", "--quiet"])).success();
            assert_eq!(outcome.stdout + &outcome.stderr, "");
        }
    };
    is_taken();
    let mut changes = 0;
    for step in sections(PAGE).into_iter().flat_map(|(_, steps)| steps) {
        if let Step::Change(change) = step {
            change.make(dir.path());
            is_taken();
            changes += 1;
        }
    }
    assert!(changes > 5, "{changes}");
}

/// What the page begins with, and the copies that it says to make.
pub(crate) fn lay(dir: &Path) {
    let repository = images::repository();
    for (from, to) in [
        ("examples/adopt", "."),
        ("compose", "vaultcrew"),
        ("compose/config", "vaultcrew/config"),
        ("policies", "policies"),
    ] {
        fs::create_dir_all(dir.join(to)).unwrap();
        let entries = fs::read_dir(repository.join(from)).unwrap().map(Result::unwrap);
        for entry in entries.filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), dir.join(to).join(entry.file_name())).unwrap();
        }
    }
}

/// The page from its beginning to its end, service by service, with images that are at hand.
pub(crate) fn adopt(stack: &Stack) {
    let dir = stack.path("");
    lay(&dir);
    let (postgres, monitoring) = (images::name("postgres"), images::name("monitoring"));
    // It says what it was given, and what it finds in its database.
    let user = "printenv USER_DB_PASSWORD >/tmp/password; export PGPASSWORD=$$USER_DB_PASSWORD; \
                psql -qtAX -h $$USER_DB_HOST -d $$USER_DB_NAME -U $$USER_DB_USER -c 'SELECT what FROM story' >/tmp/row && \
                exec sleep 3600";
    let here = format!(
        "services:\n  user:\n    image: {postgres}\n    command: [sh, -c, {user:?}]\n  \
           user_db: {{ image: '{postgres}' }}\n  grafana: {{ image: '{monitoring}', command: [/run.sh] }}\n  \
           mailer: {{ image: '{postgres}', command: [sleep, '3600'] }}\n"
    );
    fs::write(dir.join("compose.override.yaml"), here).unwrap();
    let typed = |script: &str| {
        let mut command = stack.shell(script);
        command
            .current_dir(&dir)
            .env_remove("COMPOSE_FILE")
            .env_remove("VAULTCREW_STACK")
            .env_remove("VAULTCREW_UID");
        command
    };
    before(stack, &typed);

    let mut exported = String::new();
    for step in sections(PAGE).into_iter().flat_map(|(_, steps)| steps) {
        match step {
            Step::Change(change) => change.make(&dir),
            Step::Commands(commands) => {
                let outcome = run(&mut typed(&format!("{exported}{commands}")));
                assert!(outcome.code() == 0, "{commands}\n{}\n{}", outcome.stderr, stack.story());
                let exports = commands.lines().filter(|line| line.starts_with("export "));
                exported.extend(exports.flat_map(|line| [line, "\n"]));
            }
        }
    }
    after(stack);
}

/// The database holds something, and Docker shows the passwords.
fn before(stack: &Stack, typed: &dyn Fn(&str) -> Command) {
    let env = fs::read_to_string(stack.path(".env")).unwrap();
    stack.write(".env", &(env + "MAILER_TOKEN=example-token-of-mailer\n"));
    told(&mut typed("docker compose up --detach user_db && docker compose create user grafana"));
    let table = "CREATE TABLE story (what text); INSERT INTO story VALUES ('kept')";
    let ask = || {
        stack.exec(
            "user_db",
            &["psql", "-qX", "-h", "127.0.0.1", "-U", "user_app", "-d", "users", "-c", table],
        )
    };
    assert!(harness::wait_until(crate::stack::SOON, || ask().code() == 0), "{}", stack.story());
    for (service, secret) in SHOWN {
        assert!(stack.container(service).inspected.to_string().contains(secret), "{service}");
    }
}

/// Values of the example's `.env`, and where they are seen before.
const SHOWN: [(&str, &str); 3] =
    [("user", "example-pa$w0rd-of-user"), ("user_db", "example-pa$w0rd-of-user"), ("grafana", GRAFANA)];
const GRAFANA: &str = "example-grafana";

fn after(stack: &Stack) {
    stack.wait_until_well();
    let read = |service: &str, path: &str| {
        secretly_told(&mut crate::engine::docker(["exec", stack.container(service).id(), "cat", path]))
            .trim()
            .to_owned()
    };
    assert_eq!(read("user", "/tmp/row"), "kept");
    assert_eq!(read("user", "/tmp/password"), SHOWN[0].1);
    assert!(read("grafana", "/run/secrets/GF_SECURITY_ADMIN_PASSWORD").contains(GRAFANA));
    for container in stack.containers() {
        for (_, secret) in SHOWN {
            assert!(!container.inspected.to_string().contains(secret), "{}", container.service());
        }
    }
}
