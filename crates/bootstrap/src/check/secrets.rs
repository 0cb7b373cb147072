//! Rules about the secrets that the services will hold.

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::env::Env;
use super::finding::Finding;
use super::inputs::Inputs;
use super::manifest::Claims;
use super::rule::Rule;
use crate::manifest::{Service, Source};

/// More keys than this in one write are refused by KV v2.
const MOST_KEYS: usize = 499;

/// What raft takes as one value, in bytes; the server's own share of it is left to it.
const LARGEST: usize = (1 << 20) - 1024;

/// Whether every service has a secret that fits, under names that its programs can be given.
pub(super) fn check(env: Option<&Env>, claims: &Claims, inputs: &Inputs, findings: &mut Vec<Finding>) {
    for service in claims.services() {
        let file = inputs.policies.iter().find(|policy| policy.service == service.name);
        let Some(file) = file.map(|policy| policy.path.as_path()) else { continue };
        findings.extend(emptiness(service, file, claims));
        findings.extend(too_many_keys(service, file));
        findings.extend(too_large(service, file));
        findings.extend(service.secret.keys().filter_map(|key| key_name(service, key, env, inputs)));
    }
}

fn emptiness(service: &Service, file: &Path, claims: &Claims) -> Option<Finding> {
    let name = &service.name;
    let why = format!("service {name} holds no key: its secret is empty");
    let mend = format!(
        "begin its keys in the .env file with {}_, or give it some in vaultcrew.toml: [keys] KEY = [\"{name}\"]",
        name.to_uppercase().replace('-', "_")
    );
    (claims.is_whole && service.secret.is_empty())
        .then(|| Finding::of_file(Rule::SecretEmpty, file, why, mend))
}

fn too_many_keys(service: &Service, file: &Path) -> Option<Finding> {
    let (name, count) = (&service.name, service.secret.len());
    let why = format!("service {name} would hold {count} keys, and KV v2 takes {MOST_KEYS} at most");
    let mend = "split the service in two, or put what is no secret under ignore in vaultcrew.toml, or into one JSON value";
    (count > MOST_KEYS).then(|| Finding::of_file(Rule::SecretTooManyKeys, file, why, mend))
}

fn too_large(service: &Service, file: &Path) -> Option<Finding> {
    let value = |source: &Source| match source {
        Source::Env(value) => json_length(value.expose_secret()),
        Source::Generate(spec) => spec.length,
    };
    // Two pairs of quotes, a colon and a comma.
    let size: usize = service.secret.iter().map(|(key, source)| json_length(key) + value(source) + 6).sum();
    let largest = service.secret.iter().max_by_key(|(_, source)| value(source)).map(|(key, _)| key.as_str());
    let why = format!(
        "the secret of {} would take {} KiB, and the server's storage ends at 1 MiB; its largest value is {}",
        service.name,
        size / 1024,
        largest.unwrap_or_default()
    );
    let mend = "keep large values in files of their own, outside of Vault, and a key to decrypt them in it";
    (size > LARGEST).then(|| Finding::of_file(Rule::SecretTooLarge, file, why, mend))
}

/// The bytes that `text` takes as a text of JSON, without its quotes.
fn json_length(text: &str) -> usize {
    let length = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        0..0x20 | b'<' | b'>' | b'&' => 6,
        _ => 1,
    };
    text.bytes().map(length).sum()
}

fn key_name(service: &Service, key: &str, env: Option<&Env>, inputs: &Inputs) -> Option<Finding> {
    let plain = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if !key.starts_with(|c: char| c.is_ascii_digit()) && key.chars().all(plain) {
        return None;
    }
    let name = &service.name;
    let why = format!(
        "no shell can name the variable {key}, and env files in the dialects sh and systemd cannot hold it"
    );
    let usable: String = key.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let usable = if usable.starts_with(|c: char| c.is_ascii_digit()) { format!("_{usable}") } else { usable };
    let mend = format!("in vaultcrew.toml: [services.{name}] rename = {{ \"{key}\" = \"{usable}\" }}");
    // Under another name in the .env file, it is the manifest's.
    match env.and_then(|env| env.file.entry(key)) {
        Some(entry) => Some(Finding::of_file(Rule::KeyName, &inputs.env_file, why, mend).on(entry.line)),
        None => Some(Finding::of_file(Rule::KeyName, &inputs.manifest_path, why, mend)),
    }
}
