//! The profile `monitoring`: each image gets its secrets in the form that it takes, and in no other.

use serde_json::Value;

use crate::engine::{docker, secretly_told};
use crate::shown;
use crate::stack::Stack;

pub(crate) const MONITORING: [&str; 5] = ["elasticsearch", "kibana", "logstash", "filebeat", "grafana"];

#[test]
fn each_image_gets_its_secrets_in_its_own_form() {
    let stack = Stack::new(&[], &["monitoring"]);
    stack.make_volumes();
    stack.up_with(&MONITORING);
    let elastic = secret(&stack, "elasticsearch", "ELASTIC_PASSWORD");

    // A file that it alone may read.
    assert_eq!(read(&stack, "elasticsearch", "/run/secrets/ELASTIC_PASSWORD"), elastic);
    assert!(!read(&stack, "elasticsearch", "/tmp/record/environment").contains(&elastic));
    let others = "stat -L -c '%a %u' /run/secrets/* && ls /run/secrets";
    let listed = stack.exec("elasticsearch", &["sh", "-c", others]).success().stdout;
    assert_eq!(listed, "600 1000\nELASTIC_PASSWORD\n");

    // Users of their own, whom the job has made before.
    let made = |path: &str| -> Value {
        serde_json::from_str(&read(&stack, "elasticsearch", &format!("/tmp/record/{path}"))).unwrap()
    };
    let own = secret(&stack, "kibana", "KIBANA_SYSTEM_PASSWORD");
    assert_eq!(made("user-kibana_system-_password")["password"], own);
    for service in ["logstash", "filebeat"] {
        let key = format!("{}_WRITER_PASSWORD", service.to_uppercase());
        let user = made(&format!("user-{service}_writer"));
        assert_eq!(user["password"], secret(&stack, service, &key));
        assert_eq!(user["roles"], serde_json::json!([format!("{service}_writer")]));
        let role = made(&format!("role-{service}_writer"));
        let names = role["indices"][0]["names"].as_array().unwrap();
        assert!(!names.is_empty() && names.iter().all(|name| name.as_str().unwrap().len() > 5), "{role}");
    }

    // A whole configuration file.
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
    for (service, file) in [("logstash", "logstash.conf"), ("filebeat", "filebeat.yml")] {
        let key = format!("{}_WRITER_PASSWORD", service.to_uppercase());
        let own = secret(&stack, service, &key);
        let environment = read(&stack, service, "/tmp/record/environment");
        assert!(environment.lines().any(|line| line == format!("{key}={own}")), "{service}");
        assert!(!environment.contains("VAULT_ADDR") && !environment.contains(&elastic), "{service}");
        let configuration = read(&stack, service, &format!("/run/secrets/{file}"));
        assert!(configuration.contains(&format!("\"${{{key}}}\"")), "{service}");
        assert!(configuration.contains("\"http://elasticsearch:9200\""), "{service}");
    }
    let arguments = read(&stack, "filebeat", "/tmp/record/arguments");
    assert_eq!(arguments, "-e\n--strict.perms=false\n-c\n/run/secrets/filebeat.yml\n");

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

/// By the settings of the official images; what stands in for Elasticsearch speaks TLS, and the job that makes the users does.
pub(crate) fn monitoring_speaks_tls(stack: &Stack) {
    read(stack, "elasticsearch", "/tmp/record/user-logstash_writer");
    let job = stack.container("elastic-users");
    assert!(job.is_well(), "{}", job.told());
    let plain = ["curl", "--silent", "--max-time", "10", "http://elasticsearch:9200"];
    assert_ne!(stack.exec("grafana", &plain).code(), 0);
    let checked = ["curl", "--silent", "--cacert", "/tls/ca/ca.pem", "https://elasticsearch:9200"];
    stack.exec("grafana", &checked).success();
    for (service, file) in
        [("kibana", "kibana.yml"), ("logstash", "logstash.conf"), ("filebeat", "filebeat.yml")]
    {
        let configuration = read(stack, service, &format!("/run/secrets/{file}"));
        assert!(configuration.contains("\"https://elasticsearch:9200\""), "{service}");
        assert!(configuration.contains("[\"/tls/ca/ca.pem\"]"), "{service}");
        assert!(!configuration.contains("http://"), "{service}");
    }
    for (service, setting) in [("kibana", "server.ssl.enabled: true"), ("logstash", "ssl_enabled => true")] {
        let file = if service == "kibana" { "kibana.yml" } else { "logstash.conf" };
        assert!(read(stack, service, &format!("/run/secrets/{file}")).contains(setting), "{service}");
        read(stack, service, "/tls/own/key.pem");
    }
    let environment = read(stack, "grafana", "/tmp/record/environment");
    assert!(environment.lines().any(|line| line == "GF_SERVER_PROTOCOL=https"));
    read(stack, "grafana", "/tls/own/key.pem");
}

fn secret(stack: &Stack, service: &str, key: &str) -> String {
    stack.secret(service)[key].as_str().unwrap_or_else(|| panic!("{service} has no {key}")).to_owned()
}

/// A file in a service's container, off the record.
fn read(stack: &Stack, service: &str, path: &str) -> String {
    secretly_told(&mut docker(["exec", stack.container(service).id(), "cat", path]))
}
