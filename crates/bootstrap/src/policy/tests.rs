use super::*;

fn rules(text: &str) -> Vec<PathRule> {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn may(text: &str, path: &str) -> String {
    Acl::new(&rules(text)).capabilities(path).to_string()
}

/// Each accepted by the server, and granting this to the path `a`.
#[test]
fn reads_what_the_servers_read() {
    for (text, granted) in [
        (r#"path "a" { capabilities = ["read"] }"#, "read"),
        (r#"path "a" { capabilities = ["read"] comment = "x" }"#, "read"),
        (r#"path "a" { capabilities = ["read",], comment = "x", }, path "b" {}"#, "read"),
        (r#"path a { capabilities = ["list", "read"] }"#, "read, list"),
        (r#""path" "/a" { "capabilities" = ["read"] }"#, "read"),
        (r#"path "a" "b" { capabilities = ["read"] }"#, "read"),
        (
            "path \"a\" {\n  capabilities = [\n    \"read\", # why\n    \"update\" // too\n  ] /* so */\n}",
            "read, update",
        ),
        ("path \"a\" {\r\n  capabilities = [\"patch\", \"scan\", \"sudo\"]\r\n}\r\n", "patch, scan, sudo"),
        (r#"path "a" { policy = "read" capabilities = ["update"] }"#, "read, update, list"),
        (r#"path "a" { policy = "write" }"#, "create, read, update, delete, list"),
        (r#"path "a" { policy = "deny" }"#, "nothing"),
        (r#"path "a" { capabilities = ["read"] capabilities = ["list"] }"#, "read, list"),
        (r#"path "a" { capabilities = ["deny", "read"] }"#, "nothing"),
        (r#"path "a" { capabilities = [] }"#, "nothing"),
        (r#"path "a" {}"#, "nothing"),
        (r#"path "a" { capabilities = ["read"] } path "a" { capabilities = ["list"] }"#, "read, list"),
        (r#"path "a" { capabilities = ["read"] } path "a" { capabilities = ["deny"] }"#, "nothing"),
        (
            r#"name = "x" path "\x61" { capabilities = ["read"] min_wrapping_ttl = "1s" max_wrapping_ttl = 90 }"#,
            "read",
        ),
        (
            r#"path "a" { capabilities = ["read"] allowed_parameters = { "*" = [] } denied_parameters { x = ["1", 2, true] } }"#,
            "read",
        ),
        (r#"path "a" { policy = "" }"#, "nothing"),
        (r#"path "a" { policy = "deny" policy = "read" }"#, "read, list"),
        (r#"path "a" { capabilities = ["deny", "fly"] }"#, "nothing"),
        (r#"{"path": {"a": {"capabilities": ["read"], "comment": null}}}"#, "read"),
        (r#"{"path": [{"b": {}}, {"/a": {"policy": "read"}}]} # why"#, "read, list"),
        ("path \"a\" { comment = <<E\nread } \"\n  E\n capabilities = [\"read\"] }", "read"),
        ("path \"a\" { comment = <<-END\n  x\n  END\n capabilities = [\"read\"] }", "read"),
        (r#"path "a" { comment = "${ "quoted" }" capabilities = ["read"] }"#, "read"),
    ] {
        assert_eq!(may(text, "a"), granted, "{text}");
    }
}

#[test]
fn refuses_the_rest_by_line_and_says_what_is_there() {
    for (text, told) in [
        ("path \"a\" {\n  capabilities : [\"read\"]\n}", "line 2, column 16: ':' has no meaning here"),
        ("\npath \"a\" {\n  capabilities = [\"read\"]\n", "line 2, column 10: a { without its }"),
        ("\u{feff}path \"a\" {}", "line 1, column 1: '\\u{feff}' has no meaning here"),
        (
            "path \"a\" {\n  capabilities = \"read\"\n}",
            "line 2, column 3: capabilities must be a list of strings",
        ),
        (r#"path "a" { capabilities = [true] }"#, "column 12: capabilities must be a list of strings"),
        (r#"path "a" { policy = 1 }"#, "column 12: policy must be a string"),
        ("path \"a\" {\n capabilities = [\"READ\"]}", "line 2: the capability \"READ\" is not known"),
        (r#"path "a" { capabilities = ["root"] }"#, "the capability \"root\" is not known"),
        (r#"path "a" { policy = "all" }"#, "policy = \"all\" is not known"),
        (r#"path "a" { foo = 1 }"#, "line 1: \"foo\" is not known; what it grants cannot be told"),
        (r#"foo "a" {}"#, "line 1: \"foo\" is not known"),
        ("path = \"a\"", "line 1, column 1: a path stanza must be path \"…\" { … }"),
        (r#"{"path": "a"}"#, "line 1, column 2: behind \"path\" must be an object of paths"),
        (r#"{"path": {"a": 1}}"#, "line 1: \"a\" is not known"),
        (r#"path "a/+*" {}"#, "line 1: the path \"a/+*\" has +* in it"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(told), "{text}: {error}");
    }
}

#[test]
fn knows_the_line_and_what_depends_on_the_asker_or_the_time() {
    let rules = rules(
        "# one\npath \"a/{{identity.entity.id}}\" {}\n\npath \"b\" {\n  expiration = \"2030-01-01T00:00:00Z\"\n}\n",
    );
    let seen: Vec<_> = rules.iter().map(|rule| (rule.line, rule.is_templated(), rule.expires)).collect();
    assert_eq!(seen, [(2, true, false), (4, false, true)]);
}

/// As the server answered, in each of these.
#[test]
fn the_most_specific_rule_decides() {
    let read = |path: &str| format!("path \"{path}\" {{ capabilities = [\"read\"] }}\n");
    for (rule, matched, unmatched) in [
        ("a", &["a", "a/", "/a"][..], &["a//", "a/b", "A"][..]),
        ("/a", &["a"], &["b"]),
        ("//a", &[], &["a", "//a"]),
        ("a/", &["a/"], &["a"]),
        ("*", &["a", "a/b"], &[]),
        ("a/*", &["a/", "a/b", "a/b/c"], &["a"]),
        ("a*b", &["a*b"], &["aab"]),
        ("a/+", &["a/x", "a/", "a/x/"], &["a", "a/x/y"]),
        ("a/+/b", &["a/x/b", "a//b", "a/+/b"], &["a/x/y/b"]),
        ("+/a", &["b/a"], &["/a"]),
        ("a/+b", &["a/+b"], &["a/cb"]),
        ("a/+b*", &["a/+b", "a/+bc"], &["a/cb"]),
        ("a+/b*", &["a+/bc"], &["ac/b"]),
        ("a/+/*", &["a/b/", "a/b/c"], &["a/b"]),
        ("a/+/b*", &["a/b/b", "a/b/bc/d"], &["a/b"]),
    ] {
        for path in matched {
            assert_eq!(may(&read(rule), path), "read", "{rule} and {path}");
        }
        for path in unmatched {
            assert_eq!(may(&read(rule), path), "nothing", "{rule} and {path}");
        }
    }
    let text = read("a/*")
        + r#"path "a/b*" { capabilities = ["list"] } path "a/+/c" { capabilities = ["update"] }
             path "a/b/d" { capabilities = ["deny"] }"#;
    for (path, granted) in
        [("a/x", "read"), ("a/bx", "list"), ("a/b/c", "list"), ("a/d/c", "update"), ("a/b/d", "nothing")]
    {
        assert_eq!(may(&text, path), granted, "{path}");
    }
}
