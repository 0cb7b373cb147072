//! The evaluation of policies against the server's own, for random policies and paths.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bootstrap::policy::{Acl, Capabilities, Capability, parse};
use harness::{Vault, random_token};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

/// A server and a token that carries this one policy, whatever its text is at the time.
struct Judge {
    vault: Vault,
    root: String,
    policy: String,
    token: String,
}

impl Judge {
    fn start() -> Self {
        let (vault, root) = Vault::start_unsealed();
        let policy = format!("random-{}", random_token());
        let body = json!({ "policies": [policy], "no_default_policy": true });
        let (status, answer) = vault.api("POST", "/v1/auth/token/create", &root, &body);
        assert_eq!(status, 200, "{answer}");
        let token = answer["auth"]["client_token"].as_str().unwrap().to_owned();
        Self { vault, root, policy, token }
    }

    /// Whether the server takes the text; where it does not, in its words why not.
    fn write(&self, text: &str) -> Result<(), String> {
        let path = format!("/v1/sys/policies/acl/{}", self.policy);
        match self.vault.api("POST", &path, &self.root, &json!({ "policy": text })) {
            (204, _) => Ok(()),
            (_, answer) => Err(answer["errors"].to_string()),
        }
    }

    fn grants(&self, paths: &[String]) -> Vec<Capabilities> {
        let (status, answer) = self.vault.api(
            "POST",
            "/v1/sys/capabilities",
            &self.root,
            &json!({ "token": self.token, "paths": paths }),
        );
        assert_eq!(status, 200, "{answer}");
        let granted = |path: &String| {
            let names = answer["data"][path].as_array().unwrap_or_else(|| panic!("{path:?}: {answer}"));
            names.iter().filter_map(Value::as_str).filter_map(Capability::parse).collect()
        };
        paths.iter().map(granted).collect()
    }
}

/// Few segments, so that rules and paths meet often, and those that look like wildcards and are none.
fn segment() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "ab", "a", "b", "c", "", "+a", "a+", "*a", "é"])
}

fn path() -> impl Strategy<Value = String> {
    (vec(segment(), 1..5), any::<bool>()).prop_map(|(segments, listed)| {
        // The server trims what it is asked for, and knows no empty path.
        let path = segments.join("/");
        let path = if path.is_empty() { "a".to_owned() } else { path };
        if listed { path + "/" } else { path }
    })
}

fn rule_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => segment().prop_map(str::to_owned), 2 => Just("+".to_owned())];
    (vec(segment, 1..5), select(vec!["", "", "", "*", "/*", "/", "b*"])).prop_map(|(segments, end)| {
        // What the server refuses.
        (segments.join("/") + end).replace("+*", "+/*")
    })
}

fn rule() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &["create", "read", "update", "delete", "list", "patch", "sudo"];
    let names = vec(prop_oneof![9 => select(NAMES), 1 => Just("deny")], 0..4);
    (rule_path(), names, any::<bool>()).prop_map(|(path, names, one_line)| {
        let end = if one_line { " " } else { "\n" };
        format!("path {path:?} {{{end}capabilities = {names:?} # why\n}}{end}")
    })
}

#[test]
fn the_server_grants_what_the_evaluator_says() {
    let judge = Judge::start();
    let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(vec(rule(), 1..7), vec(path(), 40)), |(rules, paths)| {
            let text = rules.concat();
            if let Err(why) = judge.write(&text) {
                return Err(TestCaseError::fail(format!("the server refuses {text}: {why}")));
            }
            let acl = Acl::new(&parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?);
            for (path, granted) in paths.iter().zip(judge.grants(&paths)) {
                prop_assert_eq!(acl.capabilities(path), granted, "{} by\n{}", path, text);
            }
            Ok(())
        })
        .unwrap();
}

/// Texts of all shapes, each behind a line with its name; `SERVICE` stands for a service's.
const CORPUS: &str = include_str!("../../../tests/e2e/tests/corpus/policies.txt");

/// Whatever the server takes of them is read, and for the same.
#[test]
fn every_shape_that_the_server_takes_is_read_for_the_same() {
    let judge = Judge::start();
    let paths =
        ["data/chat", "data/other", "metadata/chat", "data/SE", "data/chat/", "chat", "data/a/b", "x/y/z"];
    let paths = paths.map(|path| format!("secret/{path}"));
    let (mut taken, mut unread) = (0, Vec::new());
    for section in CORPUS.split("=== ").skip(1) {
        let (name, text) = section.split_once('\n').unwrap();
        let text = text.replace("SERVICE", "chat");
        if judge.write(&text).is_err() {
            continue;
        }
        taken += 1;
        let rules = match parse(&text) {
            Ok(rules) => rules,
            Err(error) => {
                unread.push(format!("{name}: {error}"));
                continue;
            }
        };
        // What depends on who asks or when is not told by the text.
        if rules.iter().any(|rule| rule.is_templated() || rule.expires) {
            continue;
        }
        let acl = Acl::new(&rules);
        for (path, granted) in paths.iter().zip(judge.grants(&paths)) {
            assert_eq!(acl.capabilities(path), granted, "{name}: {path}");
        }
    }
    assert!(taken > 100, "{taken}");
    assert_eq!(unread, Vec::<String>::new());
}

/// Pieces of policies in an order that mostly makes one, with something that may not belong there now and then.
fn nearly_policy() -> impl Strategy<Value = String> {
    let setting = select(vec![
        "capabilities = [\"list\"]",
        "capabilities=[\"read\",]",
        "\"capabilities\" = [ # }\n\"update\"\n]",
        "capabilities = []",
        "policy = \"write\"",
        "comment = \"x\\n\\u0041\\x7d\"",
        "comment = \"${ \"}\" }\"",
        "comment = <<E\n} \"\n  E\n",
        "comment = <<-E_1\n  x\nE_1\r\n",
        "max_wrapping_ttl = 5",
        "allowed_parameters = { \"*\" = [], x = [1, true, \"y\"] }",
        "denied_parameters { x = [] }",
        "expiration = \"2099-01-01T00:00:00Z\"",
    ]);
    let odd = select(vec![
        "path",
        "a",
        "{",
        "}",
        "=",
        "[",
        "]",
        ",",
        ",,",
        "\"",
        "\\",
        "${",
        "<<E\n",
        "\nE\n",
        "-1.5e3",
        "true",
        "'",
        ":",
        "# x\n",
        "// }\n",
        "/* { */",
        "/*",
        "*",
        "\r\n",
        "name = \"x\"",
        "\u{feff}",
        "é",
        "\0",
    ]);
    let odd = prop_oneof![12 => Just(""), 1 => odd];
    let head = select(vec![
        "path \"a\" {",
        "path \"/b\" {",
        "path c{",
        "\"path\" \"a\" \"b\" {",
        "path\n\"b\"\n{",
        "path \"a\" = {",
    ]);
    let between = select(vec![" ", "\n", ", ", ",\n", "\t# x\n", " /* } */ "]);
    let body = vec((setting, between, odd.clone()), 0..4);
    vec((head, odd, body), 1..4).prop_map(|stanzas| {
        // A comment before it, as bootstrap writes one: without it a text in braces would be JSON.
        let mut text = "# x\n".to_owned();
        for (head, odd, body) in stanzas {
            text += head;
            text += odd;
            for (setting, between, odd) in body {
                text.extend([setting, between, odd]);
            }
            text += "}\n";
        }
        text
    })
}

/// Whatever the server takes is read, and read for the same.
#[test]
fn what_the_server_takes_is_read_for_the_same() {
    let judge = Judge::start();
    let paths = ["a", "b", "c"].map(str::to_owned);
    let config = Config { cases: 2000, failure_persistence: None, ..Config::default() };
    let taken = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&nearly_policy(), |text| {
            match (judge.write(&text), parse(&text)) {
                (Ok(()), Ok(rules)) => {
                    taken.set(taken.get() + 1);
                    let acl = Acl::new(&rules);
                    for (path, granted) in paths.iter().zip(judge.grants(&paths)) {
                        prop_assert_eq!(acl.capabilities(path), granted, "{} by\n{}", path, text);
                    }
                    Ok(())
                }
                (Ok(()), Err(error)) => {
                    Err(TestCaseError::fail(format!("taken, and not read: {text}\n{error}")))
                }
                // One that is read alone is never written, so that nothing comes of having read it.
                (Err(_), _) => Ok(()),
            }
        })
        .unwrap();
    let taken = taken.get();
    assert!((400..1600).contains(&taken), "the server took {taken} of the texts");
}
