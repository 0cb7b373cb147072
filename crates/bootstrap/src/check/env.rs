//! Rules about the `.env` file: whether it is private, and whether all its readers read the same.

use env_file::{EnvFile, Fault, ParseErrors, ReadDialect, parse_past_faults};
use secrecy::ExposeSecret as _;

use super::finding::{Finding, why_and_mend};
use super::inputs::Inputs;
use super::manifest::Claims;
use super::rule::Rule;
use crate::desired::exposure;

/// The `.env` file as far as it can be read.
pub(super) struct Env {
    pub(super) file: EnvFile,
    /// Whether all of it can be.
    pub(super) is_whole: bool,
}

/// Reads it, and notes what cannot be read and by whom.
pub(super) fn read(inputs: &Inputs, findings: &mut Vec<Finding>) -> Option<Env> {
    let bytes = inputs.env.as_ref()?.expose_secret();
    let (file, errors) = parse_past_faults(bytes, &inputs.env_file, inputs.dialect);
    findings.extend(errors.iter().flat_map(ParseErrors::iter).map(|error| {
        let rule = rule(&error.fault);
        let (why, mend) = why_and_mend(&error.fault.to_string(), "write KEY=value");
        let key = error.key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
        let finding = Finding::of_file(rule, &inputs.env_file, key + &why, mend);
        Finding { line: Some(error.line), column: Some(error.column), ..finding }
    }));
    if inputs.dialect == ReadDialect::Compose {
        overridden(bytes, inputs, findings);
    }
    Some(Env { file, is_whole: errors.is_none() })
}

fn rule(fault: &Fault) -> Rule {
    match fault {
        Fault::Duplicate { .. } => Rule::EnvDuplicate,
        Fault::NotUtf8
        | Fault::Nul
        | Fault::NoEquals
        | Fault::NoKey
        | Fault::InvalidKey
        | Fault::Unterminated
        | Fault::TextAfterQuote
        | Fault::UnquotedBlock
        | Fault::Undefined { .. }
        | Fault::Missing { .. }
        | Fault::InvalidReference
        | Fault::ExpandsTooFar
        | Fault::NestedTooDeep => Rule::EnvSyntax,
        _ => Rule::EnvDialect,
    }
}

/// Compose lets the last of two lines win, in silence.
fn overridden(bytes: &[u8], inputs: &Inputs, findings: &mut Vec<Finding>) {
    let (_, errors) = parse_past_faults(bytes, &inputs.env_file, ReadDialect::Strict);
    for error in errors.iter().flat_map(ParseErrors::iter) {
        if let (Fault::Duplicate { first }, Some(key)) = (&error.fault, &error.key) {
            let why = format!("{key}: set before, on line {first}, whose value Compose drops in silence");
            let finding = Finding::of_file(Rule::EnvDuplicate, &inputs.env_file, why, "keep one of the two");
            findings.push(Finding { line: Some(error.line), column: Some(error.column), ..finding });
        }
    }
}

/// Who else can read it, and which of its keys have no use or no value.
pub(super) fn check(env: &Env, claims: &Claims, inputs: &Inputs, findings: &mut Vec<Finding>) {
    let path = &inputs.env_file;
    if let Some((why, mend)) = inputs.env_mode.and_then(|mode| exposure(path, mode)) {
        findings.push(Finding::of_file(Rule::EnvPermissions, path, why, mend));
    }
    for (key, line) in claims.unclaimed() {
        let why = format!("no service claims {key}, so that it is written nowhere");
        let mend = format!(
            "in vaultcrew.toml give it to a service, [keys] {key} = [\"<service>\"], or list it: ignore = [\"{key}\"]"
        );
        findings.push(Finding::of_file(Rule::EnvUnclaimed, path, why, mend).on(*line));
    }
    for entry in env.file.entries() {
        let (key, value) = (&entry.key, entry.value.expose_secret());
        if value.is_empty() && claims.covers(key) && !claims.generates(key) {
            let why = format!("{key} is empty, and its service is given an empty text");
            let mend = format!("give it a value, make one up ([generate] {key} = {{}}), or remove the line");
            findings.push(Finding::of_file(Rule::EnvEmptyValue, path, why, mend).on(entry.line));
        }
    }
}
