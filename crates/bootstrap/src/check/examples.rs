//! Each rule with files that it finds something in, and with files that are as they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use env_file::ReadDialect;

use super::finding::{Finding, as_json};
use super::inputs::Inputs;
use super::rule::{RULES, Rule, Severity};
use crate::args::Sources;
use crate::desired::Desired;

/// The files of a small stack, with nothing wrong in them.
struct Files {
    env: Option<String>,
    mode: u32,
    dialect: ReadDialect,
    manifest: String,
    policies: Vec<(String, String)>,
}

fn good() -> Files {
    let files = Files {
        env: Some("USER_NAME=anna\nUSER_DB_PASSWORD=correct-horse\n".to_owned()),
        mode: 0o600,
        dialect: ReadDialect::Strict,
        manifest: String::new(),
        policies: Vec::new(),
    };
    files.policy("user", &read("secret/data/user")).policy("user_db", &read("secret/data/user_db"))
}

fn read(path: &str) -> String {
    stanza(path, "\"read\"")
}

fn stanza(path: &str, capabilities: &str) -> String {
    format!("path \"{path}\" {{\n  capabilities = [{capabilities}]\n}}\n")
}

/// The stanza of `user` beside another.
fn and_own(more: &str) -> String {
    read("secret/data/user") + more
}

impl Files {
    /// More lines in the `.env` file.
    fn env(mut self, lines: &str) -> Self {
        self.env.get_or_insert_default().push_str(lines);
        self
    }

    fn manifest(mut self, text: &str) -> Self {
        text.clone_into(&mut self.manifest);
        self
    }

    fn policy(self, service: &str, text: &str) -> Self {
        self.file(&format!("{service}-policy.hcl"), text)
    }

    /// A file in the directory of the policies.
    fn file(mut self, name: &str, text: &str) -> Self {
        self.policies.retain(|(other, _)| other != name);
        self.policies.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Writes them to a directory.
    fn written(&self) -> (tempfile::TempDir, Sources) {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("policies")).unwrap();
        for (name, text) in &self.policies {
            fs::write(path("policies").join(name), text).unwrap();
        }
        fs::write(path("vaultcrew.toml"), &self.manifest).unwrap();
        if let Some(env) = &self.env {
            fs::write(path(".env"), env).unwrap();
            fs::set_permissions(path(".env"), fs::Permissions::from_mode(self.mode)).unwrap();
        }
        let sources = Sources {
            env_file: path(".env"),
            dialect: self.dialect.to_string(),
            policies_dir: path("policies"),
            manifest: None,
        };
        (dir, sources)
    }

    /// What is found, the paths without the directory.
    fn findings(&self) -> Vec<Finding> {
        let (dir, sources) = self.written();
        let mut findings = super::findings(&Inputs::read(&sources, "secret"));
        for finding in &mut findings {
            finding.file = finding.file.strip_prefix(dir.path()).unwrap().to_owned();
        }
        findings
    }

    /// Whether `plan` and `apply` refuse them before they ask Vault.
    fn are_refused(&self) -> bool {
        Desired::load(&self.written().1).is_err()
    }

    /// The same in short: `file:line:column rule`.
    fn found(&self) -> Vec<String> {
        let found = self.findings().into_iter().map(|finding| {
            let mut place = finding.file.display().to_string();
            for number in [finding.line, finding.column].into_iter().flatten() {
                place = format!("{place}:{number}");
            }
            format!("{place} {}", finding.rule.id())
        });
        found.collect()
    }
}

/// Every rule, an example that fails it, and the same mended.
#[expect(clippy::too_many_lines, reason = "a table")]
fn examples() -> Vec<(Rule, Files, Files)> {
    let keys = |count| (0..count).map(|key: usize| format!("USER_K{key}=1\n")).collect::<Vec<_>>().concat();
    let user = |text: &str| good().policy("user", text);
    let user_and = |text: &str| user(&and_own(text));
    vec![
        (Rule::FileUnreadable, Files { env: None, ..good() }, good()),
        (Rule::EnvPermissions, Files { mode: 0o644, ..good() }, Files { mode: 0o400, ..good() }),
        (Rule::EnvSyntax, good().env("a line\n"), good().env("# a line\n")),
        (Rule::EnvDialect, good().env("USER_X=pa$w0rd\n"), good().env("USER_X='pa$w0rd'\n")),
        (Rule::EnvDuplicate, good().env("USER_X=1\nUSER_X=2\n"), good().env("USER_X=1\nUSER_Y=2\n")),
        (
            Rule::EnvDuplicate,
            Files { dialect: ReadDialect::Compose, ..good().env("USER_X=1\nUSER_X=2\n") },
            Files { dialect: ReadDialect::Compose, ..good().env("USER_X=1\n") },
        ),
        (Rule::EnvUnclaimed, good().env("TZ=UTC\n"), good().env("TZ=UTC\n").manifest("ignore = ['TZ']")),
        (
            Rule::EnvEmptyValue,
            good().env("USER_X=\n"),
            good().env("USER_X=\n").manifest("[generate]\nUSER_X = {}"),
        ),
        (Rule::ValuePlaceholder, good().env("USER_TOKEN=changeme\n"), good().env("USER_TOKEN=c1e\n")),
        (Rule::ValueShort, good().env("USER_PASSWORD=k3Jx9\n"), good().env("USER_PASSWORD=k3Jx9aQe\n")),
        (
            Rule::ValueReused,
            good().env("USER_PASSWORD=correct-horse\n"),
            good().env("USER_PASSWORD=battery-staple\n"),
        ),
        (
            Rule::KeyName,
            good().env("USER_A.B=1\n"),
            good().env("USER_A.B=1\n").manifest("[services.user]\nrename = { 'USER_A.B' = 'USER_A_B' }"),
        ),
        (
            Rule::SecretEmpty,
            good().policy("chat", &read("secret/data/chat")),
            good().policy("chat", &read("secret/data/chat")).env("CHAT_X=1\n"),
        ),
        (Rule::SecretTooManyKeys, good().env(&keys(498)), good().env(&keys(497))),
        (
            Rule::SecretTooLarge,
            good().env(&format!("USER_X={}\n", "x".repeat(1 << 20))),
            good().env(&format!("USER_X={}\n", "x".repeat(1 << 19))),
        ),
        (Rule::ManifestSyntax, good().manifest("ignored = []"), good().manifest("ignore = []")),
        (Rule::ManifestEntry, good().manifest("[keys]\n'*_X' = ['user']"), good()),
        (
            Rule::ManifestUnknownService,
            good().manifest("[keys]\nUSER_NAME = ['users']"),
            good().manifest("[keys]\nUSER_NAME = ['user']"),
        ),
        (
            Rule::ManifestMatchesNothing,
            good().manifest("[keys]\nUSER_NAMES = ['user']"),
            good().manifest("[keys]\nUSER_NAME = ['user']"),
        ),
        (
            Rule::IgnoreMatchesNothing,
            good().manifest("ignore = ['COMPOSE_*']"),
            good().manifest("ignore = ['COMPOSE_*']").env("COMPOSE_FILE=x\n"),
        ),
        (
            Rule::RenameCollision,
            good().env("USER_X=1\n").manifest("[services.user]\nrename = { USER_X = 'USER_NAME' }"),
            good().env("USER_X=1\n").manifest("[services.user]\nrename = { USER_X = 'X' }"),
        ),
        (
            Rule::GenerateWeak,
            good().manifest("[generate]\nUSER_PIN = { length = 4 }"),
            good().manifest("[generate]\nUSER_PIN = { length = 24 }"),
        ),
        (
            Rule::GenerateForNobody,
            good().manifest("[generate]\nCHAT_KEY = {}"),
            good().manifest("[generate]\nUSER_KEY = {}"),
        ),
        (
            Rule::GenerateUnused,
            good().manifest("[generate]\nUSER_NAME = {}"),
            good().manifest("[generate]\nUSER_KEY = {}"),
        ),
        (
            Rule::TtlInvalid,
            good().manifest("[defaults]\ntoken_ttl = '0s'"),
            good().manifest("[defaults]\ntoken_ttl = '30m'"),
        ),
        (
            Rule::TtlOrder,
            good().manifest("[services.user]\ntoken_ttl = '5h'"),
            good().manifest("[services.user]\ntoken_ttl = '4h'"),
        ),
        (
            Rule::TtlShort,
            good().manifest("[services.user]\nsecret_id_ttl = '5m'"),
            good().manifest("[services.user]\nsecret_id_ttl = '10m'"),
        ),
        (
            Rule::TtlBeyondSystem,
            good().manifest("[defaults]\ntoken_max_ttl = '90d'"),
            good().manifest("[defaults]\ntoken_max_ttl = '32d'"),
        ),
        (
            Rule::FileMode,
            good().manifest("[defaults]\nfile_mode = '0444'"),
            good().manifest("[defaults]\nfile_mode = '0440'"),
        ),
        (
            Rule::Cidr,
            good().manifest("[services.user]\ncidrs = ['10.0.0.1/8']"),
            good().manifest("[services.user]\ncidrs = ['10.0.0.0/8']"),
        ),
        (Rule::NoPolicies, Files { policies: Vec::new(), ..good() }, good()),
        (Rule::ServiceName, good().policy("Chat", &read("secret/data/Chat")), good()),
        (Rule::ServicePrefix, good().policy("user-db", &read("secret/data/user-db")), good()),
        (Rule::PolicyFileName, good().file("chat.hcl", ""), good().file("README.md", "")),
        (
            Rule::PolicySyntax,
            user("path \"secret/data/user\" { capabilities = ['read'] }"),
            user("{\"path\": {\"secret/data/user\": {\"capabilities\": [\"read\"]}}}"),
        ),
        (Rule::PolicyEmpty, user("# later\n"), good()),
        (
            Rule::PolicyUnknownKey,
            user("path \"secret/data/user\" { capability = [\"read\"] }"),
            user("name = \"x\" path \"secret/data/user\" { capabilities = [\"read\"] comment = \"y\" }"),
        ),
        (
            Rule::PolicyUnknownCapability,
            user(&stanza("secret/data/user", "\"raed\"")),
            user(&stanza("secret/data/user", "\"deny\", \"raed\"")),
        ),
        (Rule::PolicyNoCapability, user_and(&stanza("secret/data/user_db", "")), good()),
        (Rule::PolicyDeprecated, user("path \"secret/data/user\" { policy = \"read\" }"), good()),
        (
            Rule::PolicyDuplicatePath,
            user_and(&read("/secret/data/user")),
            user_and(&read("secret/data/user_db")),
        ),
        (
            Rule::PolicyConditional,
            user_and(&read("secret/data/{{identity.entity.id}}")),
            user_and(&stanza("secret/data/{{identity.entity.id}}", "\"deny\"")),
        ),
        (Rule::PolicyWildcard, user(&read("secret/data/*")), user_and(&stanza("secret/data/*", "\"deny\""))),
        (
            Rule::PolicySystemPath,
            user_and(&read("sys/policies/acl/user-policy")),
            user_and(&stanza("auth/token/renew-self", "\"update\"")),
        ),
        (Rule::PolicyOtherMount, user_and(&read("secrets/data/user")), good()),
        (Rule::PolicyKv2Data, user_and(&read("secret/user")), user_and(&read("secret/metadata/user"))),
        (
            Rule::PolicyUnknownSecret,
            user_and(&read("secret/data/userdb")),
            user_and(&read("secret/data/user_db")),
        ),
        (
            Rule::PolicyWrite,
            user(&stanza("secret/data/user", "\"read\", \"update\"")),
            user_and(&stanza("transit/encrypt/user", "\"update\"")),
        ),
        (Rule::PolicySudo, user(&stanza("secret/data/user", "\"read\", \"sudo\"")), good()),
        (Rule::PolicyList, user_and(&stanza("secret/metadata/user", "\"list\"")), good()),
        (Rule::PolicyOwnSecret, user(&read("secret/data/user_db")), user_and(&read("secret/data/user_db"))),
        (Rule::RotationCopy, rotating(&["user_db"]), rotating(&["user", "user_db"])),
    ]
}

/// Two services share a password, and another rotates it in these secrets.
fn rotating(secrets: &[&str]) -> Files {
    let manifest = format!(
        "[keys]\nUSER_DB_PASSWORD = [\"user\", \"user_db\"]\n[services.rotation]\nrotates = {secrets:?}\n"
    );
    let both: String =
        secrets.iter().map(|name| stanza(&format!("secret/data/{name}"), "\"read\", \"update\"")).collect();
    good().manifest(&manifest).policy("rotation", &both)
}

#[test]
fn every_rule_finds_what_it_is_for_and_nothing_else() {
    let examples = examples();
    for (rule, id, _) in RULES {
        assert!(examples.iter().any(|(of, ..)| of == rule), "{id} has no example");
    }
    for (rule, failing, passing) in examples {
        let found = |files: &Files| files.findings().into_iter().any(|finding| finding.rule == rule);
        assert!(found(&failing), "{} finds nothing: {:?}", rule.id(), failing.found());
        assert!(!found(&passing), "{} finds: {:?}", rule.id(), passing.found());
        for finding in failing.findings() {
            assert!(finding.why.len() > 10 && finding.mend.len() > 3, "{finding:?}");
        }
    }
    assert_eq!(good().found(), [""; 0]);
}

#[test]
fn what_plan_refuses_is_an_error() {
    let (mut refused, mut taken) = (0, 0);
    for files in examples().into_iter().flat_map(|(_, failing, passing)| [failing, passing]) {
        let has_error = files.findings().iter().any(|finding| finding.rule.severity() == Severity::Error);
        if files.are_refused() {
            assert!(has_error, "{:?}", files.found());
            refused += 1;
        } else {
            taken += 1;
        }
    }
    assert!(refused > 15 && taken > 50, "{refused} refused, {taken} taken");
}

#[test]
fn every_rule_is_documented_with_its_severity() {
    let page = include_str!("../../../../docs/check.md");
    for (_, id, severity) in RULES {
        assert!(page.contains(&format!("| `{id}` | {severity} | ")), "{id}, {severity}");
    }
    assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), RULES.len());
}

#[test]
fn everything_is_found_at_once() {
    let files = good()
        .env("a line\nTZ=UTC\nUSER_X=pa$w0rd\nUSER_TOKEN=changeme\n")
        .manifest("[keys]\n'USER_*' = ['chat']\n[defaults]\ntoken_ttl = 'soon'\nfile_mode = '0444'\n")
        .policy("user", "path \"secret/data/*\" {\n  capabilities = [\"read\", \"sudo\"]\n}\n")
        .policy("chat", "path 'x' {}");
    assert_eq!(
        Files { mode: 0o640, ..files }.found(),
        [
            ".env env-permissions",
            ".env:3:1 env-syntax",
            ".env:5:10 env-dialect",
            ".env:6 value-placeholder",
            "vaultcrew.toml:4:13 ttl-invalid",
            "vaultcrew.toml:5:13 file-mode",
            "policies/chat-policy.hcl:1:6 policy-syntax",
            "policies/user-policy.hcl:1:6 policy-wildcard",
            "policies/user-policy.hcl:2:27 policy-sudo",
        ]
    );
}

#[test]
fn what_cannot_be_read_hides_nothing_but_what_depends_on_it() {
    let policy = read("secret/data/user_db");
    let without_env = Files { env: None, ..good().policy("user", &policy).manifest("ignore = ['TZ']") };
    assert_eq!(without_env.found(), [".env file-unreadable", "policies/user-policy.hcl policy-own-secret"]);
    let broken_manifest = good().manifest("ignore =").env("TZ=UTC\nUSER_TOKEN=changeme\n");
    assert_eq!(broken_manifest.found(), [".env:4 value-placeholder", "vaultcrew.toml:1:9 manifest-syntax"]);
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources {
        env_file: directory.path().to_owned(),
        dialect: "strict".to_owned(),
        policies_dir: directory.path().join("none"),
        manifest: Some(directory.path().join("none.toml")),
    };
    let rules: Vec<_> =
        super::findings(&Inputs::read(&sources, "secret")).into_iter().map(|finding| finding.rule).collect();
    assert_eq!(rules, [Rule::FileUnreadable; 3]);
}

#[test]
fn no_value_is_in_a_finding() {
    const VALUES: [&str; 4] = ["s3same-0pen", "h1dden$word", "sh0rt", "hunter2hunter2"];
    let [reused, dollar, short, duplicate] = VALUES;
    let env = format!(
        "USER_TOKEN={reused}\nUSER_SECRET={reused}\nUSER_X={dollar}\nUSER_PASSWORD={short}\n\
         USER_KEY={duplicate}\nUSER_KEY={duplicate}\nTZ={reused}\n{dollar}\nUSER_A.B={reused}\n"
    );
    let files = Files { mode: 0o666, ..good().env(&env).manifest("[generate]\nUSER_TOKEN = {}") };
    let findings = files.findings();
    assert!(findings.len() > 6, "{:?}", files.found());
    let told = as_json(&findings);
    for value in VALUES {
        assert!(!told.contains(value), "{told}");
    }
}

#[test]
fn mends_can_be_written_as_they_are() {
    let mend = |files: Files, rule: Rule| {
        let findings = files.findings();
        findings.into_iter().find(|finding| finding.rule == rule).unwrap().mend
    };
    let user = |text: &str| good().policy("user", text);
    let kv2 = mend(user(&read("secret/user")), Rule::PolicyKv2Data);
    assert_eq!(kv2, "write path \"secret/data/user\"");
    let slip = mend(user(&read("secret/data/usr_db")), Rule::PolicyUnknownSecret);
    assert_eq!(slip, "write path \"secret/data/user_db\"");
    let slip = mend(user(&stanza("secret/data/user", "\"Reed\"")), Rule::PolicyUnknownCapability);
    assert_eq!(slip, "write \"read\"");
    let slip = mend(user(&read("secrets/data/user")), Rule::PolicyOtherMount);
    assert_eq!(slip, "write path \"secret/data/user\"");
    let own = mend(user(&read("secret/data/user_db")), Rule::PolicyOwnSecret);
    assert_eq!(own, "add path \"secret/data/user\" { capabilities = [\"read\"] }");
    assert_eq!(user(&own["add ".len()..]).found(), [""; 0]);
    let renamed = mend(good().env("USER_1-X=1\n"), Rule::KeyName);
    assert_eq!(renamed, "in vaultcrew.toml: [services.user] rename = { \"USER_1-X\" = \"USER_1_X\" }");
    assert!(mend(good().file("user_policy.hcl", ""), Rule::PolicyFileName).contains("/user-policy.hcl"));
    assert!(mend(Files { mode: 0o604, ..good() }, Rule::EnvPermissions).starts_with("chmod 600 "));
}

#[test]
fn who_rotates_a_secret_may_write_that_one_and_needs_none_of_its_own() {
    let both = |path: &str| stanza(path, "\"read\", \"update\"");
    let declared = |text: &str| {
        good().manifest("[services.rotation]\nrotates = [\"user_db\"]\n").policy("rotation", text)
    };
    assert_eq!(declared(&both("secret/data/user_db")).found(), [""; 0]);
    let too_much = declared(&(both("secret/data/user_db") + &both("secret/data/user")));
    assert_eq!(too_much.found(), ["policies/rotation-policy.hcl:5:27 policy-write"]);
    let worse = declared(&stanza("secret/data/user_db", "\"read\", \"delete\""));
    let may_not = "policies/rotation-policy.hcl rotation-copy";
    assert_eq!(worse.found(), [may_not, "policies/rotation-policy.hcl:2:27 policy-write"]);
    let too_little = declared(&read("secret/data/user_db"));
    assert_eq!(too_little.found(), ["policies/rotation-policy.hcl rotation-copy"]);
    assert_eq!(rotating(&["user_db"]).found(), ["policies/rotation-policy.hcl rotation-copy"]);
    assert_eq!(rotating(&["user", "user_db"]).found(), [""; 0]);
    let undeclared = good().policy("rotation", &both("secret/data/user_db"));
    assert!(undeclared.found().contains(&"policies/rotation-policy.hcl:2:27 policy-write".to_owned()));
}
