//! For a terminal.

use std::fmt::Write as _;

use super::{Access, CREW, Secret};

/// How wide a line of keys becomes.
const WIDTH: usize = 100;

/// A block for each service: the secrets that it may read, and the keys in them.
pub(super) fn table(access: &Access) -> String {
    let mut text = String::new();
    let width = access.secrets.iter().map(|secret| secret.name.chars().count()).max().unwrap_or_default();
    // Writing to a String has no error.
    for reader in &access.services {
        let _ = writeln!(text, "{} may", reader.service);
        for reach in &reader.secrets {
            let secret = access.secrets.iter().find(|secret| secret.name == reach.secret);
            let begin = format!("  {} {:width$}  ", reach.capabilities, reach.secret);
            text += &wrapped(&begin, secret);
        }
        for other in &reader.elsewhere {
            let _ = writeln!(text, "  {} {}", other.capabilities, other.path);
        }
        if reader.secrets.is_empty() && reader.elsewhere.is_empty() {
            text += "  nothing\n";
        }
    }
    for (title, lines) in [
        ("secrets that several services may read", shared(access)),
        ("keys in several secrets", keys(access)),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}");
            text.extend(lines);
        }
    }
    text + "\n" + &CREW.join("\n") + "\n"
}

fn shared(access: &Access) -> Vec<String> {
    let shared = access.secrets.iter().filter(|secret| secret.readers.len() > 1);
    shared.map(|secret| format!("  {}: {}\n", secret.name, secret.readers.join(", "))).collect()
}

fn keys(access: &Access) -> Vec<String> {
    access.shared_keys.iter().map(|(key, secrets)| format!("  {key}: {}\n", secrets.join(", "))).collect()
}

fn wrapped(begin: &str, secret: Option<&Secret>) -> String {
    let (mut text, mut line) = (String::new(), begin.to_owned());
    let indent = begin.chars().count();
    let keys = match secret {
        Some(secret) if !secret.in_files => return format!("{begin}(not filled from these files)\n"),
        Some(secret) if !secret.keys.is_empty() => &secret.keys,
        _ => return format!("{begin}(no keys)\n"),
    };
    for (index, key) in keys.iter().enumerate() {
        let comma = if index + 1 < keys.len() { "," } else { "" };
        if line.chars().count() + key.chars().count() + 1 > WIDTH && line.chars().count() > indent {
            text += line.trim_end();
            text.push('\n');
            line = " ".repeat(indent);
        }
        // Writing to a String has no error.
        let _ = write!(line, "{key}{comma} ");
    }
    text + line.trim_end() + "\n"
}
