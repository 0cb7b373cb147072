//! Rules about the secrets that the services will hold.

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::env::Env;
use super::finding::{Finding, why_and_mend};
use super::inputs::Inputs;
use super::manifest::Claims;
use super::rule::Rule;
use crate::limits;
use crate::manifest::{Service, Source};
use crate::observed;

/// Whether every service has a secret that fits, under names that its programs can be given.
pub(super) fn check(env: Option<&Env>, claims: &Claims, inputs: &Inputs, findings: &mut Vec<Finding>) {
    for service in claims.services() {
        let file = inputs.policies.iter().find(|policy| policy.service == service.name);
        let Some(file) = file.map(|policy| policy.path.as_path()) else { continue };
        findings.extend(emptiness(service, file, claims));
        findings.extend(too_much(service, file, &inputs.kv_mount));
        findings.extend(copies_left_behind(service, file, claims, &inputs.kv_mount));
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

fn too_much(service: &Service, file: &Path, mount: &str) -> Option<Finding> {
    let size = |source: &Source| match source {
        Source::Env(value) => limits::stored(value.expose_secret()),
        // Of a usual alphabet.
        Source::Generate(spec) => 2 + spec.length,
    };
    let sizes = service.secret.iter().map(|(key, source)| (key.as_str(), size(source)));
    let excess = limits::check(&observed::path(mount, &service.name), sizes)?;
    let rule = if excess.has_too_many_keys() { Rule::SecretTooManyKeys } else { Rule::SecretTooLarge };
    let (why, mend) = why_and_mend(&excess.to_string(), "");
    Some(Finding::of_file(rule, file, why, mend))
}

/// The secrets that hold a password which this service rotates elsewhere. `db-init rotate` writes those that it may, and
/// can see no others.
fn copies_left_behind(service: &Service, file: &Path, claims: &Claims, mount: &str) -> Vec<Finding> {
    let (name, rotates) = (&service.name, claims.rotates(&service.name));
    let (written, others): (Vec<_>, Vec<_>) =
        claims.services().iter().partition(|service| rotates.contains(&service.name));
    let is_rotated = |key: &&String| {
        key.ends_with("_DB_PASSWORD") && written.iter().any(|service| service.secret.contains_key(*key))
    };
    let copy = |other: &Service| {
        let key = other.secret.keys().find(is_rotated)?;
        let why = format!(
            "{name} rotates {key}, and would leave the copy in the secret of {} as it is",
            other.name
        );
        let path = observed::path(mount, &other.name).replacen('/', "/data/", 1);
        let mend = format!(
            "in vaultcrew.toml, add \"{}\" to what {name} rotates, and here path \"{path}\" {{ capabilities = [\"read\", \"update\"] }}",
            other.name
        );
        Some(Finding::of_file(Rule::RotationCopy, file, why, mend))
    };
    others.into_iter().filter_map(copy).collect()
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
