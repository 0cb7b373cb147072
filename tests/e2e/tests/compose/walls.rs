//! What each container can reach, by trying.

use std::collections::{BTreeMap, BTreeSet};

use harness::wait_until;

use crate::engine::{Container, docker, lines, secretly_told, told};
use crate::images;
use crate::monitoring::MONITORING;
use crate::stack::{SOON, Stack};

const SERVICES: [&str; 6] = ["user", "auth", "chat", "game", "notification", "gateway"];
const DATABASES: [&str; 5] = ["user_db", "auth_db", "chat_db", "game_db", "notification_db"];

#[test]
fn nobody_reaches_what_is_not_theirs() {
    let stack = Stack::new(&[], &["monitoring"]).start();
    each_service_has_its_own_secrets(&stack);
    nobody_reads_the_secrets_of_others(&stack);
    files(&stack);
    networks(&stack);
    nobody_can_become_more(&stack);
}

/// The process that the agent started has what is in its secrets, and nothing of anybody else's.
fn each_service_has_its_own_secrets(stack: &Stack) {
    let mut seen = BTreeMap::new();
    for service in SERVICES {
        let own = "for process in /proc/[0-9]*; do \
                     case $(tr '\\0' ' ' <$process/cmdline) in 'sh /stand-in.sh'*) tr '\\0' '\\n' <$process/environ; exit;; esac; \
                   done; exit 1";
        let container = stack.container(service);
        let environment = secretly_told(&mut docker(["exec", container.id(), "sh", "-c", own]));
        let environment: BTreeSet<String> = lines(&environment).into_iter().map(str::to_owned).collect();
        let own = if service == "auth" { vec!["auth", "auth_db"] } else { vec![service] };
        for (key, value) in own.iter().flat_map(|name| stack.secret(name).as_object().unwrap().clone()) {
            let variable = format!("{key}={}", value.as_str().unwrap());
            assert!(environment.contains(variable.trim()), "{service} has no {key}");
        }
        let unwanted = |variable: &&String| ["VAULT", "BAO_"].iter().any(|name| variable.starts_with(name));
        assert_eq!(environment.iter().find(unwanted), None, "{service}");
        seen.insert(service, environment);
    }
    let password = |service: &str| {
        let prefix = format!("{}_DB_PASSWORD=", service.to_uppercase());
        seen.iter().filter(|(_, all)| all.iter().any(|variable| variable.starts_with(&prefix))).count()
    };
    for service in &SERVICES[..5] {
        assert_eq!(password(service), 1, "{service}'s password of its database");
    }
}

/// With its own credentials no service gets another's secret; and what the policies say is what the server does.
fn nobody_reads_the_secrets_of_others(stack: &Stack) {
    for (service, other) in SERVICES.iter().zip(SERVICES.iter().cycle().skip(1)) {
        stack.render(service, service).success();
        stack.render(service, other).expect_code(77);
        stack.render(service, "elasticsearch").expect_code(77);
    }
    let verify = || stack.exec("bootstrap", &["/bin/bootstrap", "verify"]);
    // On a busy machine it may be one of its waits that ends first.
    assert!(wait_until(SOON, || verify().code() == 0), "{}", verify().stdout);
}

/// Whoever has the same mounts and the same identity as a container reads just this of what is secret.
fn files(stack: &Stack) {
    let script = "for mount in \"$@\"; do find \"$mount\" -type f -readable 2>/dev/null; done; true";
    let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in stack.containers() {
        let mounts = container.mounts();
        let arguments: Vec<_> =
            ["-c", script, "sh"].into_iter().chain(mounts.iter().map(String::as_str)).collect();
        for path in lines(&within(&container, "none", &arguments)) {
            if let Some(what) = sensitive(path) {
                readers.entry(what).or_default().insert(container.service().to_owned());
            }
        }
    }
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut may_read = |what: &str, services: &[&str]| {
        expected.insert(what.to_owned(), services.iter().map(|&name| name.to_owned()).collect());
    };
    may_read("key shares", &["unsealer"]);
    may_read("break-glass credential", &["unsealer"]);
    may_read("root token", &["unsealer", "bootstrap"]);
    may_read(".env", &["bootstrap"]);
    may_read("bootstrap's credential", &["bootstrap"]);
    may_read("Vault's data", &["vault"]);
    for service in SERVICES {
        may_read(&format!("credential of {service}"), &[service, "bootstrap"]);
    }
    for database in DATABASES {
        may_read(&format!("credential of {database}"), &[&format!("{database}-init"), "bootstrap"]);
        may_read("a database's files", &DATABASES);
    }
    for service in MONITORING {
        may_read(&format!("credential of {service}"), &[service, "bootstrap"]);
    }
    may_read("credential of elasticsearch", &["elasticsearch", "elastic-users", "bootstrap"]);
    assert_eq!(readers, expected);
}

fn sensitive(path: &str) -> Option<String> {
    let below = |directory: &str| path.strip_prefix(directory);
    if let Some(rest) = below("/vault/approle/") {
        let service = rest.split('/').next()?;
        return path.ends_with("secret_id").then(|| format!("credential of {service}"));
    }
    let known = [
        ("/vault/keys/unseal-key", "key shares"),
        ("/vault/keys/break-glass", "break-glass credential"),
        ("/vault/root/", "root token"),
        ("/stack/.env", ".env"),
        ("/vault/bootstrap/", "bootstrap's credential"),
        ("/vault/data/", "Vault's data"),
        ("/var/lib/postgresql/", "a database's files"),
    ];
    known.iter().find(|(directory, _)| below(directory).is_some()).map(|(_, what)| (*what).to_owned())
}

/// A service reaches Vault and its own database, by name or by address, and no other one.
fn networks(stack: &Stack) {
    let containers = stack.containers();
    let running: Vec<_> = containers.iter().filter(|container| container.is_running()).collect();
    let mut targets = Vec::new();
    for container in &running {
        let port = match container.service() {
            "vault" => 8200,
            "elasticsearch" => 9200,
            name if name.ends_with("_db") => 5432,
            _ => continue,
        };
        let addresses = container.addresses().into_iter().chain([container.service().to_owned()]);
        targets.extend(addresses.map(|host| (container.service(), format!("{host}/{port}"))));
    }
    let script = "for target in \"$@\"; do \
                    (timeout 3 bash -c \"exec 3<>/dev/tcp/$target\" 2>/dev/null && echo \"$target\") & \
                  done; wait";
    for container in &running {
        let service = container.service();
        let arguments = ["-c", script, "sh"].into_iter();
        let arguments: Vec<_> = arguments.chain(targets.iter().map(|(_, target)| target.as_str())).collect();
        let network = format!("container:{}", container.id());
        let told = within(container, &network, &arguments);
        let open: BTreeSet<&str> = lines(&told).into_iter().collect();
        let reached: BTreeSet<&str> = targets
            .iter()
            .filter(|(_, target)| open.contains(target.as_str()))
            .map(|(name, _)| *name)
            .collect();
        let database = format!("{service}_db");
        let expected: BTreeSet<&str> = match service {
            "unsealer" | "bootstrap" | "gateway" => ["vault"].into(),
            "vault" => ["vault", "elasticsearch"].into(),
            name if DATABASES.contains(&name) => [name].into(),
            name if MONITORING.contains(&name) => ["vault", "elasticsearch"].into(),
            _ => ["vault", &database].into(),
        };
        assert_eq!(reached, expected, "{service}");
    }
}

/// No root, no capability, nothing to write where programs are, and no way to more rights.
fn nobody_can_become_more(stack: &Stack) {
    for container in stack.containers() {
        let host = &container.inspected["HostConfig"];
        let service = container.service();
        assert!(!["", "0", "root"].contains(&container.user().split(':').next().unwrap()), "{service}");
        assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{service}");
        assert_eq!(host["CapAdd"], serde_json::Value::Null, "{service}");
        // These three write where they lie.
        let writes = ["elasticsearch", "kibana", "logstash"].contains(&service);
        assert_eq!(host["ReadonlyRootfs"], !writes, "{service}");
        assert_eq!(host["Privileged"], false, "{service}");
        assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]), "{service}");
        assert!(host["Memory"].as_i64() > Some(0) && host["PidsLimit"].as_i64() > Some(0), "{service}");
        assert_eq!(host["LogConfig"]["Config"]["max-file"], "3", "{service}");
        assert!(["unless-stopped", "on-failure"].contains(&container.restart_policy()), "{service}");
    }
    let vault = format!("{}_vault", stack.project);
    assert_eq!(told(&mut docker(["network", "inspect", "--format={{.Internal}}", &vault])).trim(), "true");
}

/// `sh <arguments>` with the mounts, the identity and the network of a container, which may hold no shell itself.
fn within(container: &Container, network: &str, arguments: &[&str]) -> String {
    let mut command =
        docker(["run", "--rm", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"]);
    command.args(["--network", network, "--user", container.user(), "--volumes-from", container.id()]);
    for group in container.groups() {
        command.args(["--group-add", &group]);
    }
    told(command.args(["--entrypoint=sh", &images::name("postgres")]).args(arguments))
}
