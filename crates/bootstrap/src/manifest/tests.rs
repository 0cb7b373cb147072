use std::path::Path;

use env_file::{EnvFile, ReadDialect};
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text, Path::new("vaultcrew.toml")).unwrap()
}

/// The errors of a manifest that is wrong by itself.
fn refused(text: &str) -> String {
    Manifest::parse(text, Path::new("vaultcrew.toml")).unwrap_err().to_string()
}

fn env(text: &str) -> EnvFile {
    env_file::parse(text.as_bytes(), Path::new(".env"), ReadDialect::Strict).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn resolved(text: &str, services: &[&str], env_text: &str) -> Resolved {
    resolve(&manifest(text), &names(services), &env(env_text)).unwrap()
}

/// The errors of a manifest that does not fit the services or the `.env` file.
fn unresolved(text: &str, services: &[&str], env_text: &str) -> String {
    resolve(&manifest(text), &names(services), &env(env_text)).unwrap_err().to_string()
}

/// `service: KEY=value …`, generated values as `KEY*`.
fn shown(resolved: &Resolved) -> Vec<String> {
    let show = |(key, source): (&String, &Source)| match source {
        Source::Env(value) => format!(" {key}={}", value.expose_secret()),
        Source::Generate(_) => format!(" {key}*"),
    };
    let services = resolved.services.iter();
    services
        .map(|service| service.name.clone() + ":" + &service.secret.iter().map(show).collect::<String>())
        .collect()
}

#[test]
fn the_convention_needs_no_manifest() {
    let env = env("USER_NAME=u\nUSER_DB_NAME=d\nMY_APP_X=1\nUSERS=3\nOTHER=4\nUSER_=5\n");
    let found = resolve(&Manifest::empty(), &names(&["user", "user_db", "my-app"]), &env).unwrap();
    assert_eq!(shown(&found), ["user: USER_=5 USER_NAME=u", "user_db: USER_DB_NAME=d", "my-app: MY_APP_X=1"]);
    assert_eq!(found.unclaimed, [("USERS".to_owned(), 4), ("OTHER".to_owned(), 5)]);
    let user = &found.services[0];
    assert_eq!((user.ttls, user.files, user.cidrs.len()), (Ttls::default(), FileAttrs::default(), 0));
}

#[test]
fn usual_settings_are_the_documented_ones() {
    let hours = |n| Duration::from_hours(n);
    let ttls = Ttls { token_ttl: hours(1), token_max_ttl: hours(4), secret_id_ttl: hours(1) };
    assert_eq!(Ttls::default(), ttls);
    assert_eq!(FileAttrs::default(), FileAttrs { mode: 0o440, owner: None, group: None });
    let written = |ttl| format!("`\"{}\"`", humantime::format_duration(ttl));
    for (entry, usual) in [
        ("token_ttl", written(ttls.token_ttl)),
        ("token_max_ttl", written(ttls.token_max_ttl)),
        ("secret_id_ttl", written(ttls.secret_id_ttl)),
        ("file_mode", "`\"0440\"`".to_owned()),
    ] {
        let rows = documented();
        let row = rows.iter().find(|(documented, ..)| *documented == entry);
        assert_eq!(row.map(|(.., without)| *without), Some(usual.as_str()), "{entry}");
    }
}

#[test]
fn keys_go_to_those_named_instead() {
    let text =
        "[keys]\n'USER_DB_*' = ['user', 'user_db']\nELASTIC_PASSWORD = ['kibana']\nUSER_TOKEN = ['kibana']";
    let env = "USER_DB_NAME=d\nELASTIC_PASSWORD=e\nUSER_TOKEN=t\nUSER_X=x\n";
    assert_eq!(
        shown(&resolved(text, &["user", "user_db", "kibana"], env)),
        [
            "user: USER_DB_NAME=d USER_X=x",
            "user_db: USER_DB_NAME=d",
            "kibana: ELASTIC_PASSWORD=e USER_TOKEN=t"
        ]
    );
}

#[test]
fn the_closest_rule_decides() {
    // A short pattern of the manifest yields to the longer one of the convention, an equal one does not.
    let text = "ignore = ['USER_DB_SEED', 'TMP_*']\n[keys]\n'USER_*' = ['gateway']\n'TMP_A*' = ['user']";
    let env = "USER_X=1\nUSER_DB_X=2\nUSER_DB_SEED=3\nTMP_B=4\nTMP_AB=5\n";
    let found = resolved(text, &["user", "user_db", "gateway"], env);
    assert_eq!(shown(&found), ["user: TMP_AB=5", "user_db: USER_DB_X=2", "gateway: USER_X=1"]);
    assert_eq!(found.ignored, ["USER_DB_SEED", "TMP_B"]);
    assert!(found.unclaimed.is_empty());
}

#[test]
fn missing_and_empty_values_are_generated() {
    let text = "[keys]\n'DB_*' = ['a', 'b']\n[generate]\nDB_PASSWORD = {}\nA_PIN = { length = 20, alphabet = '0123456789' }\nB_KEY = {}";
    let found = resolved(text, &["a", "b"], "DB_PASSWORD=\nB_KEY=given\n");
    assert_eq!(shown(&found), ["a: A_PIN* DB_PASSWORD*", "b: B_KEY=given DB_PASSWORD*"]);
    let spec = |service: usize, key: &str| match &found.services[service].secret[key] {
        Source::Generate(spec) => spec.clone(),
        Source::Env(_) => panic!("{key} is not generated"),
    };
    assert_eq!(spec(0, "DB_PASSWORD"), spec(1, "DB_PASSWORD"));
    assert_eq!((spec(0, "DB_PASSWORD").length, spec(0, "DB_PASSWORD").alphabet.len()), (32, 62));
    let pin = GenerateSpec { env_key: "A_PIN".into(), length: 20, alphabet: "0123456789".into() };
    assert_eq!(spec(0, "A_PIN"), pin);
}

#[test]
fn services_override_the_defaults() {
    let text = "
[defaults]
token_ttl = '30m'
file_group = 5000
[services.gateway]
token_ttl = '10m'
secret_id_ttl = '1h 30m'
cidrs = ['172.20.0.0/16', '::1/128', '0.0.0.0/0']
file_mode = '0400'
file_owner = 101
rename = { GATEWAY_A = 'B', GATEWAY_B = 'A' }
";
    let found = resolved(text, &["user", "gateway"], "GATEWAY_A=1\nGATEWAY_B=2\n");
    assert_eq!(shown(&found), ["user:", "gateway: A=2 B=1"]);
    let [user, gateway] = &found.services[..] else { panic!("two services") };
    let minutes = |n| Duration::from_mins(n);
    assert_eq!((user.ttls.token_ttl, user.ttls.secret_id_ttl), (minutes(30), minutes(60)));
    assert_eq!((gateway.ttls.token_ttl, gateway.ttls.secret_id_ttl), (minutes(10), minutes(90)));
    assert_eq!(user.files, FileAttrs { mode: 0o440, owner: None, group: Some(5000) });
    assert_eq!(gateway.files, FileAttrs { mode: 0o400, owner: Some(101), group: Some(5000) });
    assert_eq!(gateway.cidrs, ["172.20.0.0/16", "::1/128", "0.0.0.0/0"]);
}

#[test]
fn names_that_no_entry_has_are_refused_with_the_one_that_is_meant() {
    for (text, said) in [
        (
            "[defaults]\ntoken_tll = '1h'\n",
            "2:1: `token_tll` is no entry of the manifest here; did you mean `token_ttl`?",
        ),
        ("[service.user]\n", "1:2: `service` is no entry of the manifest here; did you mean `services`?"),
        (
            "[services.user]\ncidr = []\n",
            "2:1: `cidr` is no entry of the manifest here; did you mean `cidrs`?",
        ),
        (
            "[services.user]\n\nFile_Mode = ''\n",
            "3:1: `File_Mode` is no entry of the manifest here; did you mean `file_mode`?",
        ),
        (
            "[generate]\nA = { size = 3 }\n",
            "2:7: `size` is no entry of the manifest here; it has length, alphabet",
        ),
        ("ignored = []\n", "1:1: `ignored` is no entry of the manifest here; did you mean `ignore`?"),
    ] {
        assert_eq!(refused(text), format!("vaultcrew.toml:{said}"));
    }
    let error = refused("ignore = 3\n");
    assert!(error.starts_with("vaultcrew.toml:1:10: "), "{error}");
    let error = refused("a = [\n");
    assert!(error.starts_with("vaultcrew.toml:"), "{error}");
}

const PAGE: &str = include_str!("../../../../docs/manifest.md");
const README: &str = include_str!("../../../../README.md");

/// Rows of the page's table: the entry, the tables that it stands in, and what is so without it.
fn documented() -> Vec<(&'static str, Vec<&'static str>, &'static str)> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [entry, tables, _, without] = cells[..] else { panic!("four cells: {line}") };
        (entry.trim_matches('`'), tables.split(", ").map(|table| table.trim_matches('`')).collect(), without)
    };
    rows.map(row).collect()
}

#[test]
fn every_entry_is_documented_and_every_documented_one_is_an_entry() {
    for (table, text) in [
        ("the top", "_ = 1"),
        ("generate", "[generate]\nA = { _ = 1 }"),
        ("defaults", "[defaults]\n_ = 1"),
        ("services", "[services.a]\n_ = 1"),
    ] {
        let errors = Manifest::parse(text, Path::new("vaultcrew.toml")).unwrap_err();
        let Some(Fault::UnknownName { known, .. }) = errors.iter().next().map(|error| &error.fault) else {
            panic!("{errors}")
        };
        let mut known: Vec<&str> = known.iter().map(String::as_str).collect();
        let rows = documented();
        let mut rows: Vec<&str> =
            rows.iter().filter(|(_, tables, _)| tables.contains(&table)).map(|(entry, ..)| *entry).collect();
        known.sort_unstable();
        rows.sort_unstable();
        assert_eq!(rows, known, "in {table}");
    }
}

#[test]
fn every_example_is_a_manifest() {
    let examples =
        |page: &'static str| page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let texts: Vec<&str> = examples(PAGE).chain(examples(README)).collect();
    assert!(texts.len() >= 2);
    for text in texts {
        manifest(text);
    }
}

#[test]
fn faults_of_the_manifest_are_told_at_once_in_order() {
    let error = refused(
        "ignore = ['*X', '', 'MODSEC_*']
[keys]
'A*B' = ['a']
A = []
'MODSEC_*' = ['a']
[generate]
P = { length = 8 }
Q = { alphabet = 'aa' }
'R*' = {}
[defaults]
token_ttl = '5h'
[services.a]
token_ttl = 'soon'
secret_id_ttl = '0s'
token_max_ttl = '1500ms'
cidrs = ['10.0.0.1', '10.0.0.1/8', 'fe80::1/129', '::ff/120']
file_mode = '0444'
rename = { 'X*' = 'Y' }
[services.b]
token_max_ttl = '2h'
[services.c]
token_ttl = '1h'
",
    );
    let expected = [
        ("1:11", "`*X` is no key"),
        ("1:17", "`` is no key"),
        ("3:1", "`A*B` is no key"),
        ("4:1", "`A` is given to no service"),
        ("5:1", "both in `ignore` and in [keys]"),
        ("7:16", "length 8 from 62 different characters can be guessed; it takes 11"),
        ("8:18", "an alphabet is two or more"),
        ("9:1", "`R*` is no key"),
        ("10:1", "token_ttl (5h) is above token_max_ttl (4h)"),
        ("13:13", "`soon` is no duration"),
        ("14:17", "at least one second"),
        ("15:17", "at least one second"),
        ("16:10", "`10.0.0.1` is no network"),
        ("16:22", "write \"10.0.0.0/8\""),
        ("16:36", "`fe80::1/129` is no network"),
        ("16:51", "write \"::/120\""),
        ("17:13", "`0444` is no private file mode"),
        ("18:12", "`X*` is no key"),
        ("19:11", "token_ttl (5h) is above token_max_ttl (2h)"),
    ];
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), expected.len(), "{error}");
    for (line, (place, reason)) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!("vaultcrew.toml:{place}: ")) && line.contains(reason), "{line}");
    }
}

#[test]
fn every_service_needs_a_policy() {
    let text = "[keys]\nA_X = ['a', 'gatway']\n[services.postgres]\ntoken_ttl = '1m'\n";
    assert_eq!(
        unresolved(text, &["a", "gateway"], "A_X=1\n"),
        "vaultcrew.toml:2:13: service `gatway` has no policy: there is no gatway-policy.hcl in the policies directory; did you mean `gateway`?\n\
         vaultcrew.toml:3:11: service `postgres` has no policy: there is no postgres-policy.hcl in the policies directory"
    );
}

#[test]
fn rules_must_decide_something() {
    let text = "[keys]\nELASTIC_PASWORD = ['a']\n'NONE_*' = ['a']\n'A_*' = ['a']\nA_B = ['a']\n";
    let error = unresolved(text, &["a"], "ELASTIC_PASSWORD=1\nA_B=2\n");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(lines[0].contains("`A_*` matches no key") && lines[0].contains("longer pattern"), "{error}");
    assert!(lines[1].ends_with("did you mean `ELASTIC_PASSWORD`?"), "{error}");
    assert!(lines[2].starts_with("vaultcrew.toml:3:1: `NONE_*`"), "{error}");
}

#[test]
fn a_generated_key_needs_a_service() {
    let text = "ignore = ['B']\n[generate]\nA = {}\nB = {}\n";
    let error = unresolved(text, &["x"], "");
    assert!(
        error.contains("3:1: no service gets the generated `A`") && error.contains("generated `B`"),
        "{error}"
    );
}

#[test]
fn renames_must_fit() {
    let text = "[services.a]\nrename = { A_X = 'A_Y', A_ZZZZ = 'Q', B_X = 'R' }\n";
    let error = unresolved(text, &["a", "b"], "A_X=1\nA_Y=2\nA_ZZZ=3\nB_X=4\n");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(lines[0].contains("2:25: service `a` gets no key `A_ZZZZ`") && lines[0].contains("mean `A_ZZZ`"));
    assert!(lines[1].contains("2:39: service `a` gets no key `B_X`"));
    assert!(lines[2].contains("service `a` would hold two keys named `A_Y`"));
}

#[test]
fn policies_must_be_named_after_services() {
    for bad in ["User", "-a", "_a", "a b", "", "é", "a/b"] {
        let error = unresolved("", &[bad], "");
        assert!(error.contains("is no service name"), "{error}");
    }
    let error = unresolved("", &["user-db", "user_db"], "");
    assert_eq!(
        error,
        "user_db-policy.hcl: services `user-db` and `user_db` would both hold the keys that begin with USER_DB_; rename one of them"
    );
}

#[test]
fn nothing_shows_a_value() {
    let shown = format!("{:?}", resolved("", &["a"], "A_KEY=c4n4ry\n"));
    assert!(shown.contains("A_KEY") && !shown.contains("c4n4ry"), "{shown}");
}

#[test]
fn the_transcendence_example_says_what_sixteen_services_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |name: &str| std::fs::read_to_string(root.join("examples/transcendence").join(name)).unwrap();
    let mut services: Vec<String> = std::fs::read_dir(root.join("policies"))
        .unwrap()
        .filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix("-policy.hcl")?.to_owned()))
        .collect();
    services.sort();
    assert_eq!(services.len(), 16, "{services:?}");
    let env = env(&read(".env.example"));
    let found = resolve(&manifest(&read("vaultcrew.toml")), &services, &env).unwrap();
    assert_eq!(found.unclaimed, []);
    assert_eq!(found.ignored, ["COMPOSE_PROJECT_NAME", "TZ"]);
    let secret = |name: &str| &found.services.iter().find(|service| service.name == name).unwrap().secret;
    let database = |service: &str| {
        ["HOST", "NAME", "PASSWORD", "PORT", "USER"].map(|key| format!("{}_DB_{key}", service.to_uppercase()))
    };
    for service in ["user", "auth", "chat", "game", "notification"] {
        assert!(secret(&format!("{service}_db")).keys().eq(database(service).iter()), "{service}_db");
    }
    for service in ["user", "chat", "game", "notification"] {
        assert!(database(service).iter().all(|key| secret(service).contains_key(key)), "{service}");
    }
    let Source::Env(password) = &secret("elasticsearch")["ELASTIC_PASSWORD"] else { panic!("it is in .env") };
    assert_eq!(password.expose_secret(), "example-$uper-elastic-password");
    for service in ["elasticsearch", "logstash"] {
        assert!(matches!(secret(service)["LOGSTASH_WRITER_PASSWORD"], Source::Generate(_)), "{service}");
    }
    assert!(secret("gateway").keys().filter(|key| key.starts_with("MODSEC_")).count() >= 30);
    assert!(matches!(secret("grafana")["GF_SECURITY_SECRET_KEY"], Source::Generate(_)));
    assert!(matches!(secret("grafana")["GF_SECURITY_ADMIN_PASSWORD"], Source::Env(_)));
    let holders =
        |key: &str| found.services.iter().filter(|service| service.secret.contains_key(key)).count();
    for entry in env.entries() {
        let expected = match entry.key.as_str() {
            "COMPOSE_PROJECT_NAME" | "TZ" => 0,
            key if key.contains("_DB_") && !key.starts_with("AUTH") => 2,
            _ => 1,
        };
        assert_eq!(holders(&entry.key), expected, "{}", entry.key);
    }
}

/// Keys and service names from few words, so that they meet.
fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&["A", "B", "DB", "X"][..]), 1..4)
        .prop_map(|words| words.join("_"))
}

proptest! {
    #[test]
    fn every_key_is_claimed_ignored_or_unclaimed(
        keys in prop::collection::btree_set(words(), 0..12),
        services in prop::collection::btree_set(words().prop_map(|name| name.to_lowercase()), 0..5),
        ignore in prop::collection::vec(words().prop_map(|name| name + "*"), 0..2),
    ) {
        let services: Vec<String> = services.into_iter().collect();
        let env = env(&keys.iter().map(|key| format!("{key}=v\n")).collect::<Vec<_>>().concat());
        let found = resolve(&manifest(&format!("ignore = {ignore:?}")), &services, &env).unwrap();
        for key in &keys {
            let holders = found.services.iter().filter(|service| service.secret.contains_key(key)).count();
            let ignored = found.ignored.iter().filter(|ignored| *ignored == key).count();
            let unclaimed = found.unclaimed.iter().filter(|(unclaimed, _)| unclaimed == key).count();
            prop_assert_eq!(holders + ignored + unclaimed, 1, "{}", key);
        }
    }

    #[test]
    fn the_longest_beginning_wins(
        keys in prop::collection::btree_set(words(), 1..12),
        services in prop::collection::btree_set(words().prop_map(|name| name.to_lowercase()), 1..6),
    ) {
        let services: Vec<String> = services.into_iter().collect();
        let env = env(&keys.iter().map(|key| format!("{key}=v\n")).collect::<Vec<_>>().concat());
        let found = resolve(&Manifest::empty(), &services, &env).unwrap();
        for key in &keys {
            let fitting = services.iter().filter(|name| key.starts_with(&format!("{}_", name.to_uppercase())));
            let expected = fitting.max_by_key(|name| name.len());
            let holder = found.services.iter().find(|service| service.secret.contains_key(key));
            prop_assert_eq!(holder.map(|service| &service.name), expected, "{}", key);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Manifest::parse(&text, Path::new("vaultcrew.toml"));
    }
}

#[test]
fn what_is_not_at_fault_is_read_for_one_who_looks_on() {
    let text = "ignore = ['A', '*B']\n[defaults]\ntoken_ttl = 'soon'\ntoken_max_ttl = '2h'\n[generate]\nUSER_K = {}\n";
    let (manifest, errors) = Manifest::parse_past_faults(text, Path::new("vaultcrew.toml"));
    assert_eq!(
        errors.iter().filter_map(|error| error.place).map(|place| place.line).collect::<Vec<_>>(),
        [1, 3]
    );
    let ttls: Vec<_> = manifest.ttls().iter().map(|ttl| (ttl.place.line, ttl.name, ttl.ttl)).collect();
    assert_eq!(ttls, [(4, "token_max_ttl", Duration::from_hours(2))]);
    assert_eq!(
        manifest.generated().map(|(place, key)| (place.line, key)).collect::<Vec<_>>(),
        [(6, "USER_K")]
    );
    let in_vain = |keys: &[&'static str]| manifest.ignored_in_vain(keys.iter().copied()).count();
    assert_eq!((in_vain(&["A"]), in_vain(&["B"])), (0, 1));
    let text = "[keys]\nUSER_X = ['user', 'usr']\n";
    let (resolved, errors) =
        resolve_past_faults(&self::manifest(text), &names(&["user"]), &env("USER_X=1\n"));
    assert_eq!((shown(&resolved), errors.len()), (vec!["user: USER_X=1".to_owned()], 1));
}
