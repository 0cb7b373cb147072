//! One finding, and how it is told.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};

use super::rule::{Rule, Severity};
use crate::manifest::Place;

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(super) rule: Rule,
    pub(super) file: PathBuf,
    /// From 1; absent where the file as a whole is meant.
    pub(super) line: Option<usize>,
    /// In characters, from 1; absent where the line as a whole is meant.
    pub(super) column: Option<usize>,
    /// What, and why that matters. Never a value.
    pub(super) why: String,
    /// What to write or to run.
    pub(super) mend: String,
}

impl Finding {
    /// About a file as a whole.
    pub(super) fn of_file(rule: Rule, file: &Path, why: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { rule, file: file.to_owned(), line: None, column: None, why: why.into(), mend: mend.into() }
    }

    /// The same, about one of its lines.
    pub(super) fn on(self, line: usize) -> Self {
        Self { line: Some(line), ..self }
    }

    /// The same, about one of its places.
    pub(super) fn at(self, place: Place) -> Self {
        Self { line: Some(place.line), column: Some(place.column), ..self }
    }

    fn place(&self) -> String {
        let mut text = self.file.display().to_string();
        for number in [self.line, self.column].into_iter().flatten() {
            // Writing to a String has no error.
            let _ = write!(text, ":{number}");
        }
        text
    }
}

/// The house's errors are one text each, `what and why; what to do`; a finding keeps the two apart.
pub(super) fn why_and_mend(message: &str, usual_mend: &str) -> (String, String) {
    let (why, mend) = message.split_once("; ").unwrap_or((message, usual_mend));
    (why.to_owned(), mend.to_owned())
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        map.serialize_entry("rule", self.rule.id())?;
        map.serialize_entry("severity", &self.rule.severity())?;
        map.serialize_entry("file", &self.file.to_string_lossy())?;
        map.serialize_entry("line", &self.line)?;
        map.serialize_entry("column", &self.column)?;
        map.serialize_entry("why", &self.why)?;
        map.serialize_entry("mend", &self.mend)?;
        map.end()
    }
}

/// For people: as compilers do, and a line that counts.
pub(super) fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding { rule, why, mend, .. } = finding;
        let (place, severity) = (finding.place(), rule.severity());
        let _ = writeln!(text, "{place}: {severity}[{}]: {why}\n  mend: {mend}", rule.id());
    }
    let count = |severity| findings.iter().filter(|finding| finding.rule.severity() == severity).count();
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let _ = writeln!(text, "{}, {}", counted(errors, "error"), counted(warnings, "warning"));
    text
}

/// For programs: an array of objects.
pub(super) fn as_json(findings: &[Finding]) -> String {
    // Names, numbers and texts have no way to fail.
    serde_json::to_string_pretty(findings).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding() -> Finding {
        let place = Place { line: 3, column: 8 };
        Finding::of_file(Rule::PolicyWildcard, Path::new("p.hcl"), "too \"wide\"", "write less").at(place)
    }

    #[test]
    fn people_read_lines() {
        let whole = Finding::of_file(Rule::EnvUnclaimed, Path::new(".env"), "why", "mend");
        assert_eq!(
            as_text(&[finding(), whole.clone(), whole.on(7)]),
            "p.hcl:3:8: error[policy-wildcard]: too \"wide\"\n  mend: write less\n\
             .env: warning[env-unclaimed]: why\n  mend: mend\n\
             .env:7: warning[env-unclaimed]: why\n  mend: mend\n\
             1 error, 2 warnings\n"
        );
        assert_eq!(as_text(&[]), "0 errors, 0 warnings\n");
    }

    #[test]
    fn programs_read_json() {
        let read: serde_json::Value = serde_json::from_str(&as_json(&[finding()])).unwrap();
        let wanted = serde_json::json!([{
            "rule": "policy-wildcard", "severity": "error", "file": "p.hcl", "line": 3, "column": 8,
            "why": "too \"wide\"", "mend": "write less",
        }]);
        assert_eq!(read, wanted);
        assert_eq!(as_json(&[]), "[]\n");
    }
}
