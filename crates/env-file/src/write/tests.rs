use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::{ReadDialect, parse};

fn written(dialect: Dialect, entries: &[(&str, &str)]) -> Result<String, WriteError> {
    let secrets: Vec<(&str, SecretString)> =
        entries.iter().map(|(key, value)| (*key, SecretString::from(*value))).collect();
    let bytes = write(dialect, secrets.iter().map(|(key, value)| (*key, value)))?;
    Ok(String::from_utf8(bytes.expose_secret().to_vec()).expect("text in, text out"))
}

fn reread(dialect: ReadDialect, file: &str) -> Vec<(String, String)> {
    let file = parse(file.as_bytes(), Path::new("written"), dialect).unwrap();
    let pair = |entry: &crate::Entry| (entry.key.clone(), entry.value.expose_secret().to_owned());
    file.entries().iter().map(pair).collect()
}

#[test]
fn dialects_are_named() {
    let named: Vec<Dialect> = Dialect::VALUES.iter().map(|name| name.parse().unwrap()).collect();
    assert_eq!(named, [Dialect::Compose, Dialect::Docker, Dialect::Sh, Dialect::Systemd, Dialect::Json]);
    assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), Dialect::VALUES);
    assert!(
        "yaml".parse::<Dialect>().unwrap_err().to_string().contains("compose, docker, sh, systemd, json")
    );
}

#[test]
fn each_dialect_writes_in_its_own_way() {
    let entries = [("A", "pa$w0rd"), ("B", "it's \"C:\\\" `x`"), ("C", "")];
    for (dialect, expected) in [
        (Dialect::Compose, "A='pa$w0rd'\nB=\"it's \\\"C:\\\\\\\" `x`\"\nC=''\n"),
        (Dialect::Docker, "A=pa$w0rd\nB=it's \"C:\\\" `x`\nC=\n"),
        (Dialect::Sh, "A='pa$w0rd'\nB='it'\\''s \"C:\\\" `x`'\nC=''\n"),
        (Dialect::Systemd, "A=\"pa\\$w0rd\"\nB=\"it's \\\"C:\\\\\\\" \\`x\\`\"\nC=\"\"\n"),
        (Dialect::Json, "{\"A\":\"pa$w0rd\",\"B\":\"it's \\\"C:\\\\\\\" `x`\",\"C\":\"\"}\n"),
    ] {
        assert_eq!(written(dialect, &entries).as_deref(), Ok(expected), "{dialect}");
    }
}

#[test]
fn nothing_is_an_empty_file_or_object() {
    assert_eq!(written(Dialect::Compose, &[]).as_deref(), Ok(""));
    assert_eq!(written(Dialect::Json, &[]).as_deref(), Ok("{}\n"));
}

#[test]
fn json_escapes_control_characters() {
    let file = written(Dialect::Json, &[("a\tb", "\0\u{1f}\r\n\u{7f}é😀")]).unwrap();
    assert_eq!(file, "{\"a\\tb\":\"\\u0000\\u001f\\r\\n\u{7f}é😀\"}\n");
}

#[test]
fn what_cannot_be_carried_is_refused_by_key() {
    let long = "c4n4ry".repeat(11_000);
    for (dialect, value, why) in [
        (Dialect::Docker, "c4n4ry\n", "line break"),
        (Dialect::Docker, "c4n4ry\r", "carriage return"),
        (Dialect::Docker, long.as_str(), "64 KiB"),
        (Dialect::Compose, "c4n4ry\0", "NUL"),
        (Dialect::Sh, "c4n4ry\0", "NUL"),
        (Dialect::Systemd, "c4n4ry\u{feff}", "byte order marks"),
        (Dialect::Systemd, "c4n4ry\u{1fffe}", "noncharacters"),
    ] {
        let error = written(dialect, &[("OK", "1"), ("KEY", value)]).unwrap_err().to_string();
        assert!(
            error.contains("`KEY`") && error.contains(why) && error.contains(&dialect.to_string()),
            "{error}"
        );
        assert!(!error.contains("c4n4ry"), "{error}");
    }
}

#[test]
fn docker_takes_a_line_of_just_under_64_kib() {
    let most = "x".repeat(DOCKER_LONGEST_LINE - "KEY=\n".len());
    assert!(written(Dialect::Docker, &[("KEY", &most)]).is_ok());
    assert!(written(Dialect::Docker, &[("KEY", &format!("{most}x"))]).is_err());
}

#[test]
fn keys_must_be_names_to_the_reader() {
    for (dialect, key, valid) in [
        (Dialect::Compose, "discovery.type", true),
        (Dialect::Docker, "2fa-issuer", true),
        (Dialect::Sh, "_A1", true),
        (Dialect::Json, "any thing", true),
        (Dialect::Sh, "discovery.type", false),
        (Dialect::Systemd, "2FA", false),
        (Dialect::Sh, "A;rm -rf", false),
        (Dialect::Compose, "A B", false),
        (Dialect::Docker, "#A", false),
        (Dialect::Docker, "A=B", false),
        (Dialect::Compose, "A\nB", false),
        (Dialect::Compose, "É", false),
        (Dialect::Compose, "", false),
    ] {
        let result = written(dialect, &[(key, "v")]);
        assert_eq!(result.is_ok(), valid, "{dialect} {key:?}: {result:?}");
    }
}

#[test]
fn a_key_twice_is_refused() {
    let error = written(Dialect::Json, &[("A", "1"), ("A", "2")]).unwrap_err();
    assert_eq!(error, WriteError::Duplicate { key: "A".into() });
}

/// Pieces that are special to some reader.
fn awkward_value() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "a", "0", " ", "\t", "#", " #", "'", "\"", "\\", "$", "${A}", "$A", "$(", "`", "!", "\n", "\r",
            "\u{7f}", "é", "😀", "\u{a0}", "%", "=", ";", "&", "\\n",
        ][..],
    );
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn compose_files_are_read_back(values in prop::collection::vec(awkward_value(), 0..5)) {
        let keys: Vec<String> = (0..values.len()).map(|n| format!("K{n}")).collect();
        let entries: Vec<_> = keys.iter().zip(&values).map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let read = reread(ReadDialect::Compose, &written(Dialect::Compose, &entries).unwrap());
        prop_assert!(read.iter().map(|(key, value)| (key.as_str(), value.as_str())).eq(entries));
    }

    #[test]
    fn compose_files_suit_every_reader_where_a_way_exists(value in awkward_value()) {
        let file = written(Dialect::Compose, &[("K", &value)]).unwrap();
        let dollar_in_double_quotes = value.contains('$') && !fits_single_quotes(&value);
        if !dollar_in_double_quotes && !value.contains("${") && !value.ends_with('\\') {
            prop_assert_eq!(reread(ReadDialect::Strict, &file), [("K".to_owned(), value)]);
        }
    }

    #[test]
    fn docker_files_are_read_back(value in awkward_value()) {
        match written(Dialect::Docker, &[("K", &value)]) {
            Ok(file) => prop_assert_eq!(reread(ReadDialect::Literal, &file), [("K".to_owned(), value)]),
            Err(_) => prop_assert!(value.contains('\n') || value.ends_with('\r')),
        }
    }
}
