//! What is told of it: a table for people, or JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use agent_runtime::with_causes;
use serde::Serialize;

use crate::policy::Capabilities;

use super::Verified;
use super::deviation::{Deviation, Judgement};
use super::paths::KV_FORMS;

/// A line for each service, with the secrets that it can reach, and one for each deviation and each failure.
pub(super) fn text(verified: &[Verified], paths: &[String], kv: &str) -> String {
    let width = verified.iter().map(|verified| verified.service.len()).max().unwrap_or_default();
    let (mut table, mut more) = (String::new(), String::new());
    let (mut deviating, mut failed) = (0, 0);
    // Writing to a String has no error.
    for Verified { service, result } in verified {
        let (sign, cells) = match result {
            Ok(judgement) => {
                let sign = if judgement.is_exact() { '✓' } else { '✗' };
                (sign, cells(judgement, kv))
            }
            Err(_) => ('?', "not verified".to_owned()),
        };
        let _ = writeln!(table, "{sign} {service:width$}  {cells}");
        match result {
            Ok(judgement) => {
                deviating += usize::from(!judgement.is_exact());
                for policy in &judgement.foreign_policies {
                    let _ = writeln!(
                        more,
                        "✗ {service}: its token carries the policy {policy}, which no file gives it: take that \
                         out of its role or its identity"
                    );
                }
                for Deviation { path, expected, found, remedy } in &judgement.deviations {
                    let _ =
                        writeln!(more, "✗ {service}: {path}: expected {expected}, found {found}; {remedy}");
                }
            }
            Err(error) => {
                failed += 1;
                let _ = writeln!(more, "? {service}: {}", with_causes(error));
            }
        }
    }
    let end = match (deviating, failed) {
        (0, 0) => "each may do what its policy says, and nothing else".to_owned(),
        (0, failed) => format!("{failed} not verified, the others exact"),
        (deviating, 0) => format!("{deviating} deviating"),
        (deviating, failed) => format!("{deviating} deviating, {failed} not verified"),
    };
    let (services, paths) = (verified.len(), paths.len());
    format!("{table}{more}{services} services, {paths} paths each: {end}\n")
}

/// The secrets that a service can reach, and how: `auth: read; auth_db: read, metadata: list`.
fn cells(judgement: &Judgement, kv: &str) -> String {
    let mut secrets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for form in KV_FORMS {
        let prefix = format!("{kv}/{form}/");
        for (path, found) in &judgement.granted {
            if let Some(secret) = path.strip_prefix(&prefix) {
                let what = if form == "data" { found.to_string() } else { format!("{form}: {found}") };
                secrets.entry(if secret.is_empty() { "(all)" } else { secret }).or_default().push(what);
            }
        }
    }
    if secrets.is_empty() {
        return "no secret".to_owned();
    }
    let cells: Vec<String> =
        secrets.into_iter().map(|(secret, what)| format!("{secret}: {}", what.join(", "))).collect();
    cells.join("; ")
}

/// The same, with every path that is granted anything.
pub(super) fn json(verified: &[Verified], paths: &[String], kv: &str) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        exact: bool,
        kv_mount: &'a str,
        paths: usize,
        services: Vec<Service<'a>>,
    }
    #[derive(Serialize)]
    struct Service<'a> {
        #[serde(rename = "service")]
        name: &'a str,
        exact: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        granted: BTreeMap<&'a str, Capabilities>,
        deviations: &'a [Deviation],
        foreign_policies: &'a [String],
    }
    let services = verified.iter().map(|Verified { service, result }| match result {
        Ok(judgement) => Service {
            name: service,
            exact: judgement.is_exact(),
            error: None,
            granted: judgement.granted.iter().map(|(path, found)| (path.as_str(), *found)).collect(),
            deviations: &judgement.deviations,
            foreign_policies: &judgement.foreign_policies,
        },
        Err(error) => Service {
            name: service,
            exact: false,
            error: Some(with_causes(error)),
            granted: BTreeMap::new(),
            deviations: &[],
            foreign_policies: &[],
        },
    });
    let services: Vec<_> = services.collect();
    let exact = services.iter().all(|service| service.exact);
    let report = Report { exact, kv_mount: kv, paths: paths.len(), services };
    // Strings and lists are always JSON.
    serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
}
