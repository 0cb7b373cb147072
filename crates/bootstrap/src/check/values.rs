//! Rules about the values of the `.env` file, none of which is ever shown.

use std::collections::HashMap;

use secrecy::ExposeSecret as _;

use super::env::Env;
use super::finding::Finding;
use super::inputs::Inputs;
use super::manifest::Claims;
use super::rule::Rule;

/// What stands in the place of a secret until somebody thinks of one, without its `-`, `_`, `.` and blanks.
const PLACEHOLDERS: &[&str] = &[
    "admin",
    "changeit",
    "changeme",
    "changethis",
    "default",
    "dummy",
    "example",
    "fixme",
    "letmein",
    "none",
    "null",
    "pass",
    "passw0rd",
    "password",
    "placeholder",
    "qwerty",
    "replaceme",
    "root",
    "secret",
    "test",
    "tobedefined",
    "todo",
    "token",
];

/// Below this a password is found by trying.
const SHORT_PASSWORD: usize = 8;

/// Judges the values of what is secret by its name and goes to a service.
pub(super) fn check(env: &Env, claims: &Claims, inputs: &Inputs, findings: &mut Vec<Finding>) {
    let mut holders: HashMap<&str, (&str, usize)> = HashMap::new();
    for entry in env.file.entries() {
        let (key, value) = (entry.key.as_str(), entry.value.expose_secret());
        if value.is_empty() || !is_secret(key) || !claims.covers(key) {
            continue;
        }
        let mut note = |rule, why: String, mend: String| {
            findings.push(Finding::of_file(rule, &inputs.env_file, why, mend).on(entry.line));
        };
        let make_one_up =
            format!("write a random one, or remove the line and make one up: [generate] {key} = {{}}");
        if is_placeholder(key, value) {
            let why = format!("{key} still holds a placeholder, which is what others try first");
            note(Rule::ValuePlaceholder, why, make_one_up);
        } else if let Some((other, line)) = holders.get(value) {
            let why = format!(
                "{key} has the same value as {other} on line {line}: who learns the one has the other too"
            );
            let mend = format!(
                "{make_one_up}; where the two are one secret, keep {other} alone and give it to both services"
            );
            note(Rule::ValueReused, why, mend);
        } else if is_password(key) && value.chars().count() < SHORT_PASSWORD {
            let why = format!(
                "{key} is shorter than {SHORT_PASSWORD} characters, and can be found by trying them all"
            );
            note(Rule::ValueShort, why, make_one_up);
        }
        holders.entry(value).or_insert((key, entry.line));
    }
}

fn parts(key: &str) -> impl DoubleEndedIterator<Item = String> {
    key.split(['_', '-', '.']).map(str::to_ascii_uppercase)
}

fn is_password(key: &str) -> bool {
    let password =
        |part: String| ["PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PWD"].contains(&part.as_str());
    parts(key).next_back().is_some_and(password)
}

fn is_secret(key: &str) -> bool {
    let ends_in = parts(key).next_back().unwrap_or_default();
    let public = parts(key).any(|part| part == "PUBLIC");
    is_password(key)
        || !public && ["SECRET", "TOKEN", "KEY", "CREDENTIAL", "CREDENTIALS"].contains(&&*ends_in)
}

fn is_placeholder(key: &str, value: &str) -> bool {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.', ' '], "");
    let word = plain(value);
    let first = value.chars().next();
    let lower = value.to_lowercase();
    word.is_empty()
        || PLACEHOLDERS.contains(&word.as_str())
        || word == plain(key)
        || "1234567890".starts_with(&word)
        || value.chars().count() > 1 && value.chars().all(|c| Some(c) == first)
        || value.starts_with('<') && value.ends_with('>')
        || ["your-", "your_", "your ", "change-me", "change_me", "changeme"]
            .iter()
            .any(|beginning| lower.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_known() {
        let judged = |value: &str| is_placeholder("USER_DB_PASSWORD", value);
        for value in [
            "changeme",
            "Change-Me!",
            "user_db_password",
            "12345",
            "xxxxxxxx",
            "<password>",
            "your_password_here",
        ] {
            assert!(judged(value), "{value}");
        }
        for value in ["changed-meanwhile", "x", "13579", "p4ssphrase of mine", "yours truly, 7", "<3 you"] {
            assert!(!judged(value), "{value}");
        }
    }

    #[test]
    fn secrets_are_told_by_their_names() {
        for key in
            ["USER_DB_PASSWORD", "JWT_ACCESS_SECRET", "api.token", "GF_SECURITY_SECRET_KEY", "PGPASS_PWD"]
        {
            assert!(is_secret(key), "{key}");
        }
        for key in ["PASSWORD_HOST", "JWT_PUBLIC_KEY", "KEYBOARD", "USER_DB_NAME"] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
