//! The profile `monitoring`: each image gets its secrets in the form that it takes, and in no other.

use serde_json::Value;

use crate::engine::{docker, secretly_told};
use crate::shown;
use crate::stack::Stack;

#[test]
fn each_image_gets_its_secrets_in_its_own_form() {
    let stack = Stack::new(&[], &["monitoring"]);
    stack.make_volumes();
    stack.up_with(&["elasticsearch", "kibana", "logstash", "filebeat", "grafana"]);
    let elastic = secret(&stack, "elasticsearch", "ELASTIC_PASSWORD");

    // A file that it alone may read.
    assert_eq!(read(&stack, "elasticsearch", "/run/secrets/ELASTIC_PASSWORD"), elastic);
    assert!(!read(&stack, "elasticsearch", "/tmp/record/environment").contains(&elastic));
    let others = "stat -L -c '%a %u' /run/secrets/* && ls /run/secrets";
    let listed = stack.exec("elasticsearch", &["sh", "-c", others]).success().stdout;
    assert_eq!(listed, "600 1000\nELASTIC_PASSWORD\n");

    // A whole configuration file, with the password that the job set before.
    let own = secret(&stack, "kibana", "KIBANA_SYSTEM_PASSWORD");
    let set: Value =
        serde_json::from_str(&read(&stack, "elasticsearch", "/tmp/record/kibana_system")).unwrap();
    assert_eq!(set["password"], own);
    let configuration = read(&stack, "kibana", "/run/secrets/kibana.yml");
    let entry = |key: &str| {
        let line = configuration.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        serde_json::from_str::<Value>(line.unwrap()).unwrap()
    };
    assert_eq!(entry("elasticsearch.password"), own);
    assert_eq!(
        entry("xpack.encryptedSavedObjects.encryptionKey"),
        secret(&stack, "kibana", "KIBANA_ENCRYPTION_KEY")
    );
    assert!(!configuration.contains(&elastic));
    let environment = read(&stack, "kibana", "/tmp/record/environment");
    assert!(!environment.contains(&own) && !environment.contains(&elastic));
    assert_eq!(read(&stack, "kibana", "/tmp/record/arguments"), "--config=/run/secrets/kibana.yml\n");

    // Variables of the process, which the configuration names.
    for service in ["logstash", "filebeat"] {
        let environment = read(&stack, service, "/tmp/record/environment");
        assert!(environment.lines().any(|line| line == format!("ELASTIC_PASSWORD={elastic}")), "{service}");
        assert!(!environment.contains("VAULT_ADDR"), "{service}");
    }
    let arguments = read(&stack, "filebeat", "/tmp/record/arguments");
    assert_eq!(arguments, "-e\n--strict.perms=false\n-c\n/config/filebeat.yml\n");
    assert!(read(&stack, "logstash", "/pipeline/logstash.conf").contains("\"${ELASTIC_PASSWORD}\""));
    assert!(read(&stack, "filebeat", "/config/filebeat.yml").contains("\"${ELASTIC_PASSWORD}\""));

    // Files, which variables of its own name.
    let environment = read(&stack, "grafana", "/tmp/record/environment");
    for key in ["GF_SECURITY_ADMIN_USER", "GF_SECURITY_ADMIN_PASSWORD", "GF_SECURITY_SECRET_KEY"] {
        let file = environment.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix("__FILE="));
        let value = secret(&stack, "grafana", key);
        assert_eq!(read(&stack, "grafana", file.unwrap()), value);
        assert!(key.ends_with("USER") || !environment.contains(&value), "{key}");
    }
    shown::nothing_secret(&stack);
}

fn secret(stack: &Stack, service: &str, key: &str) -> String {
    stack.secret(service)[key].as_str().unwrap_or_else(|| panic!("{service} has no {key}")).to_owned()
}

/// A file in a service's container, off the record.
fn read(stack: &Stack, service: &str, path: &str) -> String {
    secretly_told(&mut docker(["exec", stack.container(service).id(), "cat", path]))
}
