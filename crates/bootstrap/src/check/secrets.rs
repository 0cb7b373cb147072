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

/// What raft takes as one value, in bytes. Some 200 more are the server's own, which vary with its version.
const LARGEST: usize = (1 << 20) - 128;

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
    (claims.is_whole && service.secret.is_empty() && claims.rotates(name).is_empty())
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

/// The bytes that `text` takes in the server's JSON, without its quotes. Go writes out what HTML and JavaScript
/// might trip over.
fn json_length(text: &str) -> usize {
    let length = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' => 2,
        '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        _ => c.len_utf8(),
    };
    text.chars().map(length).sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_raft_was_seen_to_count() {
        // As many of each fill 1048320 bytes of the value that OpenBao takes at the most.
        for (text, count) in
            [("x", 1_048_320), ("<", 174_720), ("\u{2028}", 174_720), ("\n", 524_160), ("é", 524_160)]
        {
            assert_eq!(json_length(&text.repeat(count)), 1_048_320, "{text:?}");
        }
    }
}
