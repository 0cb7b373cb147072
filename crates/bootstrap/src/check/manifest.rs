//! Rules about the manifest, alone and together with the policies' names and the `.env` file.

use std::collections::BTreeSet;
use std::time::Duration;

use env_file::EnvFile;
use secrecy::ExposeSecret as _;

use super::env::Env;
use super::finding::{Finding, why_and_mend};
use super::inputs::Inputs;
use super::rule::Rule;
use crate::manifest::{Fault, Manifest, ManifestError, Resolved, Service, WrittenTtl, resolve_past_faults};

/// A server's `max_lease_ttl` unless it is told another.
const SYSTEM_MAX_TTL: Duration = Duration::from_hours(768);

/// A secret ID is replaced at half its life. Below this, an outage or a restart that lasts five minutes leaves
/// services without one that is good.
const SHORT_SECRET_ID_TTL: Duration = Duration::from_mins(10);

/// Which service holds what, as far as the files say it.
pub(super) struct Claims {
    resolved: Resolved,
    /// Whether manifest and policies could be read: else, what seems to be nobody's may be somebody's.
    has_all_rules: bool,
    /// Whether the `.env` file could be too: else, what seems to be missing may be there.
    pub(super) is_whole: bool,
    unclaimed: BTreeSet<String>,
    generated: BTreeSet<String>,
    manifest: Manifest,
}

impl Claims {
    pub(super) fn services(&self) -> &[Service] {
        &self.resolved.services
    }

    /// Keys of the `.env` file that no service gets, and their lines.
    pub(super) fn unclaimed(&self) -> &[(String, usize)] {
        if self.has_all_rules { &self.resolved.unclaimed } else { &[] }
    }

    /// Whether a service gets this key of the `.env` file, for all that is known.
    pub(super) fn covers(&self, key: &str) -> bool {
        !self.unclaimed.contains(key) && !self.resolved.ignored.iter().any(|ignored| ignored == key)
    }

    /// The services whose secrets this one is there to write.
    pub(super) fn rotates(&self, service: &str) -> &[String] {
        self.manifest.rotates(service)
    }

    pub(super) fn generates(&self, key: &str) -> bool {
        self.generated.contains(key)
    }
}

/// Reads the manifest, and notes what is wrong with it.
pub(super) fn read(inputs: &Inputs, env: Option<&Env>, findings: &mut Vec<Finding>) -> Claims {
    let text = inputs.manifest.as_deref().unwrap_or_default();
    let (manifest, mut errors) = Manifest::parse_past_faults(text, &inputs.manifest_path);
    let nothing = EnvFile::default();
    let env_file = env.map_or(&nothing, |env| &env.file);
    let (resolved, more) = resolve_past_faults(&manifest, &inputs.services(), env_file);
    let has_all_rules = errors.is_empty() && inputs.manifest.is_some() && !inputs.policies.is_empty();
    let is_whole = has_all_rules && env.is_some_and(|env| env.is_whole);
    // Whose only fault is that something is not there.
    let follows = |error: &ManifestError| {
        matches!(error.fault, Fault::MatchesNothing { .. } | Fault::RenamesNothing { .. })
            || matches!(error.fault, Fault::NoPolicy { .. } if inputs.policies.is_empty())
            || matches!(error.fault, Fault::GeneratedForNobody(_))
    };
    errors.extend(more.into_iter().filter(|error| is_whole || !follows(error)));
    findings.extend(errors.iter().map(|error| finding(error, inputs)));
    let claims = Claims {
        has_all_rules,
        is_whole,
        unclaimed: resolved.unclaimed.iter().map(|(key, _)| key.clone()).collect(),
        generated: manifest.generated().map(|(_, key)| key.to_owned()).collect(),
        resolved,
        manifest,
    };
    in_vain(&claims.manifest, env_file, &claims, inputs, findings);
    findings.extend(claims.manifest.ttls().iter().filter_map(|written| ttl(written, inputs)));
    claims
}

fn finding(error: &ManifestError, inputs: &Inputs) -> Finding {
    use Fault as F;
    let (rule, usual_mend) = match &error.fault {
        F::Toml(_) | F::UnknownName { .. } => {
            (Rule::ManifestSyntax, "write the entry as docs/manifest.md shows it")
        }
        F::Duration(_) => (Rule::TtlInvalid, "write it as in \"1h\""),
        F::NoWholeSeconds => (Rule::TtlInvalid, "write whole seconds or more, as in \"1h\""),
        F::TtlOrder { .. } => (Rule::TtlOrder, "lower the one or raise the other"),
        F::Cidr(_) | F::CidrHostBits { .. } => (Rule::Cidr, "write it as in \"172.20.0.0/16\""),
        F::Mode(_) => (Rule::FileMode, "write \"0440\" or less"),
        F::ServiceName(_) => (Rule::ServiceName, "rename the file"),
        F::SamePrefix { .. } => (Rule::ServicePrefix, "rename one of them"),
        F::NoPolicy { .. } => (Rule::ManifestUnknownService, "write its policy, or another service here"),
        F::MatchesNothing { .. } | F::RenamesNothing { .. } => (
            Rule::ManifestMatchesNothing,
            "add the key to the .env file, name one that is there, or remove this entry",
        ),
        F::GeneratedForNobody(_) => (Rule::GenerateForNobody, "give it to a service in [keys]"),
        F::Guessable { .. } => (Rule::GenerateWeak, "raise the length, or leave it out"),
        F::Alphabet => (Rule::GenerateWeak, "write other characters, or leave the alphabet out"),
        F::SameName { .. } => (Rule::RenameCollision, "choose another name for one"),
        F::Pattern(_) | F::NoServices(_) | F::GivenAndIgnored(_) | F::StackName(_) => {
            (Rule::ManifestEntry, "write it as docs/manifest.md shows it")
        }
    };
    let (why, mend) = why_and_mend(&error.fault.to_string(), usual_mend);
    // A fault of a name has no place in the manifest: it is a policy's.
    match error.place {
        Some(place) => Finding::of_file(rule, &error.path, why, mend).at(place),
        None => Finding::of_file(rule, &inputs.policies_dir.join(&error.path), why, mend),
    }
}

/// Entries that have no effect.
fn in_vain(
    manifest: &Manifest,
    env: &EnvFile,
    claims: &Claims,
    inputs: &Inputs,
    findings: &mut Vec<Finding>,
) {
    let path = &inputs.manifest_path;
    if claims.is_whole {
        let keys = env.entries().iter().map(|entry| entry.key.as_str());
        for (place, pattern) in manifest.ignored_in_vain(keys) {
            let why = format!("`{pattern}` is to be ignored, and no key of the .env file is called that");
            findings.push(
                Finding::of_file(Rule::IgnoreMatchesNothing, path, why, "remove it from ignore").at(place),
            );
        }
    }
    for (place, key) in manifest.generated() {
        if let Some(entry) = env.entry(key).filter(|entry| !entry.value.expose_secret().is_empty()) {
            let why = format!(
                "{key} is to be made up, and has a value on line {} of the .env file, which is taken instead",
                entry.line
            );
            let mend = "remove the value there, or this entry";
            findings.push(Finding::of_file(Rule::GenerateUnused, path, why, mend).at(place));
        }
    }
}

fn ttl(written: &WrittenTtl, inputs: &Inputs) -> Option<Finding> {
    let WrittenTtl { place, name, ttl } = *written;
    let hours = ttl.as_secs() / 3600;
    // Days and months would have to be counted back.
    let shown = if ttl == Duration::from_hours(hours) {
        format!("{hours}h")
    } else {
        humantime::format_duration(ttl).to_string()
    };
    let (rule, why, mend) = if ttl > SYSTEM_MAX_TTL {
        (
            Rule::TtlBeyondSystem,
            format!(
                "{name} ({shown}) is above 768h, to which a server cuts it in silence unless its max_lease_ttl is raised"
            ),
            format!("{name} = \"768h\", or raise max_lease_ttl in the server's configuration"),
        )
    } else if name == "secret_id_ttl" && ttl < SHORT_SECRET_ID_TTL {
        (
            Rule::TtlShort,
            format!(
                "secret_id_ttl ({shown}) is replaced at half its life: an outage of more than that leaves the services \
                 without a secret ID that is good"
            ),
            "secret_id_ttl = \"1h\", or 10m at the least".to_owned(),
        )
    } else {
        return None;
    };
    Some(Finding::of_file(rule, &inputs.manifest_path, why, mend).at(place))
}
