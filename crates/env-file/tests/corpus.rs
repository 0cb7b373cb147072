//! Lines from real .env files, with the values that their readers gave them.

use std::path::Path;

use env_file::{ReadDialect, parse};
use secrecy::ExposeSecret;

const AGREE: &str = include_str!("corpus/agree.env");
const REFUSED: &str = include_str!("corpus/refused.env");

#[test]
fn reads_what_all_readers_agree_on() {
    let file = parse(AGREE.as_bytes(), Path::new(".env"), ReadDialect::Strict).unwrap();
    let expected: Vec<String> =
        AGREE.lines().filter_map(|line| line.strip_prefix("#=")).map(unfold).collect();
    assert_eq!(file.entries().len(), expected.len());
    for (entry, expected) in file.entries().iter().zip(expected) {
        assert_eq!(entry.value.expose_secret(), expected, "{}", entry.key);
    }
}

#[test]
fn a_byte_order_mark_is_refused_once_or_skipped() {
    let marked = format!("\u{feff}{AGREE}");
    let read = |dialect| parse(marked.as_bytes(), Path::new(".env"), dialect);
    let error = read(ReadDialect::Strict).unwrap_err().to_string();
    assert!(error.starts_with(".env:1:1: a byte order mark") && error.lines().count() == 1, "{error}");
    let (file, _) = env_file::parse_past_faults(marked.as_bytes(), Path::new(".env"), ReadDialect::Strict);
    let compose = read(ReadDialect::Compose).unwrap();
    assert!(!file.entries().is_empty());
    assert_eq!(file.entries().len(), compose.entries().len());
}

#[test]
fn reads_the_same_from_crlf() {
    // Line ends inside quotes are the one thing that changes, and that strict reading refuses.
    let single_lines: Vec<&str> = AGREE.split("\n#=").filter(|case| case.lines().count() == 2).collect();
    let (lf, crlf) = (single_lines.join("\n#="), single_lines.join("\n#=").replace('\n', "\r\n"));
    let [lf, crlf] =
        [lf, crlf].map(|text| parse(text.as_bytes(), Path::new(".env"), ReadDialect::Strict).unwrap());
    assert!(lf.entries().len() > 50);
    for (one, other) in lf.entries().iter().zip(crlf.entries()) {
        assert_eq!((&one.key, one.line), (&other.key, other.line));
        assert_eq!(one.value.expose_secret(), other.value.expose_secret(), "{}", one.key);
    }
}

#[test]
fn compose_reads_what_all_agree_on_the_same() {
    let file = parse(AGREE.as_bytes(), Path::new(".env"), ReadDialect::Compose).unwrap();
    let strict = parse(AGREE.as_bytes(), Path::new(".env"), ReadDialect::Strict).unwrap();
    for (compose, strict) in file.entries().iter().zip(strict.entries()) {
        assert_eq!(compose.value.expose_secret(), strict.value.expose_secret(), "{}", strict.key);
    }
}

#[test]
fn refuses_the_rest_all_at_once() {
    let errors = parse(REFUSED.as_bytes(), Path::new(".env"), ReadDialect::Strict).unwrap_err();
    let found: Vec<_> = errors
        .iter()
        .map(|error| {
            let fault = format!("{:?}", error.fault);
            let name = fault.split([' ', '{']).next().unwrap();
            (error.line, format!("{name} {}", error.column))
        })
        .collect();
    let numbered = REFUSED.lines().enumerate();
    let expected: Vec<_> =
        numbered.filter_map(|(index, line)| Some((index + 2, line.strip_prefix("#!")?.to_owned()))).collect();
    assert_eq!(found, expected);
}

fn unfold(value: &str) -> String {
    value.replace('⏎', "\n").replace('⇥', "\t")
}
