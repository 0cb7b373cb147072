//! `bootstrap check`: what is wrong, or will be, with the files that `plan` and `apply` read, told without a
//! server and without a token. Everything at once: what one finding hides, and nothing else, waits for it.
//!
//! `inputs` reads the files; the rules, one family a file, are functions of what was read.

mod env;
#[cfg(test)]
mod examples;
mod finding;
mod inputs;
mod manifest;
mod policies;
mod rule;
mod secrets;
mod values;

use agent_runtime::Exit;

pub(crate) use rule::Rule;

use crate::BootstrapError;
use crate::args::Check;
use finding::Finding;
use inputs::Inputs;
use rule::Severity;

/// Checks, and tells on stdout.
pub(crate) fn command(check: &Check) -> Result<Exit, BootstrapError> {
    let mut findings = findings(&Inputs::read(&check.sources, &check.kv_mount));
    findings.retain(|finding| !check.allow.contains(&finding.rule));
    let text = if check.json { finding::as_json(&findings) } else { finding::as_text(&findings) };
    agent_runtime::print(&text)?;
    let fails = |finding: &Finding| check.deny_warnings || finding.rule.severity() == Severity::Error;
    Ok(if findings.iter().any(fails) { Exit::Config } else { Exit::Done })
}

/// Everything that the rules find, in the order of the files and their lines.
fn findings(inputs: &Inputs) -> Vec<Finding> {
    let mut findings = inputs.unreadable.clone();
    let env = env::read(inputs, &mut findings);
    let claims = manifest::read(inputs, env.as_ref(), &mut findings);
    if let Some(env) = &env {
        env::check(env, &claims, inputs, &mut findings);
        values::check(env, &claims, inputs, &mut findings);
    }
    secrets::check(env.as_ref(), &claims, inputs, &mut findings);
    policies::check(inputs, &claims, &mut findings);
    findings.sort_by(|one, other| order(one, inputs).cmp(&order(other, inputs)));
    findings.dedup();
    findings
}

/// The `.env` file first, then the manifest, then the policies.
fn order<'a>(finding: &'a Finding, inputs: &Inputs) -> impl Ord + use<'a> {
    let Finding { rule, file, line, column, .. } = finding;
    let first = [&inputs.env_file, &inputs.manifest_path].iter().position(|path| *path == file);
    (first.unwrap_or(usize::MAX), file, line, column, *rule)
}
