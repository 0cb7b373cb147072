//! What came of each service, on stdout: a line for people, or JSON for programs.

use agent_runtime::{Exit, Failure as _, with_causes};
use serde::Serialize;

use crate::DbInitError;

/// What came of one service.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    service: String,
    outcome: &'static str,
    #[serde(flatten)]
    answer: Option<Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

/// What was done or seen.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// One word for programs.
    #[serde(skip)]
    pub(crate) outcome: &'static str,
    /// One sentence for people; for `plan`, SQL.
    #[serde(skip)]
    pub(crate) text: String,
    pub(crate) server: String,
    pub(crate) role: String,
    pub(crate) database: String,
    /// What was changed, or by `plan` the SQL that would change it.
    pub(crate) changes: Vec<String>,
}

impl Report {
    /// An error is logged here, once.
    pub(crate) fn new(service: String, result: Result<Answer, DbInitError>) -> Self {
        match result {
            Ok(answer) => {
                Self { service, outcome: answer.outcome, answer: Some(answer), error: None, exit: Exit::Done }
            }
            Err(error) => {
                let text = with_causes(&error);
                tracing::error!("{service}: {text}");
                Self { service, outcome: "failed", answer: None, error: Some(text), exit: error.exit() }
            }
        }
    }

    /// For people. Nothing of a failure, which the log has told.
    pub(crate) fn text(&self) -> Option<String> {
        let answer = self.answer.as_ref()?;
        let mark = if answer.outcome == "planned" { "-- " } else { "" };
        let gap = if answer.outcome == "planned" { "\n" } else { " " };
        Some(format!("{mark}{}:{gap}{}\n", self.service, answer.text))
    }
}

/// All of them for programs, in the order of `services`.
pub(crate) fn json(reports: &[Report]) -> String {
    // Strings and lists: nothing that JSON cannot say.
    serde_json::to_string_pretty(&serde_json::json!({ "services": reports })).unwrap_or_default() + "\n"
}

/// The exit code for all: that of the first one that failed.
pub(crate) fn exit(reports: &[Report]) -> Exit {
    let failed = reports.iter().map(|report| report.exit).find(|exit| *exit != Exit::Done);
    failed.unwrap_or(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Answer {
        Answer {
            outcome: "changed",
            text: "done: it is there".to_owned(),
            server: "db:5432".to_owned(),
            role: "u".to_owned(),
            database: "d".to_owned(),
            changes: vec!["created the role u".to_owned()],
        }
    }

    #[test]
    fn the_first_failure_decides() {
        let of = |name: &str, result| Report::new(name.to_owned(), result);
        let reports = [
            of("a", Ok(done())),
            of("b", Err(DbInitError::NoHost)),
            of("c", Err(DbInitError::ReaderIsUser("r".to_owned()))),
        ];
        assert_eq!(exit(&reports), Exit::Config);
        assert_eq!(exit(&reports[..1]), Exit::Done);
        assert_eq!(reports[0].text().as_deref(), Some("a: done: it is there\n"));
        assert_eq!(reports[1].text(), None);
        let json: serde_json::Value = serde_json::from_str(&json(&reports)).unwrap();
        assert_eq!(json["services"][0]["outcome"], "changed");
        assert_eq!(json["services"][0]["changes"][0], "created the role u");
        assert_eq!(json["services"][1]["outcome"], "failed");
        assert!(json["services"][1]["error"].as_str().unwrap().contains("--db-host"));
    }
}
