use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;

fn read_as(dialect: ReadDialect, text: &str) -> Result<Vec<(String, String)>, String> {
    let file = parse(text.as_bytes(), Path::new("app/.env"), dialect).map_err(|errors| errors.to_string())?;
    let pair = |entry: &Entry| (entry.key.clone(), entry.value.expose_secret().to_owned());
    Ok(file.entries().iter().map(pair).collect())
}

/// The value of `K` in `text`, or the errors.
fn value_as(dialect: ReadDialect, text: &str) -> Result<String, String> {
    let entries = read_as(dialect, text)?;
    Ok(entries.into_iter().find(|(key, _)| key == "K").map(|(_, value)| value).expect("the text sets K"))
}

#[test]
fn dialects_are_named() {
    for (name, dialect) in [
        ("strict", ReadDialect::Strict),
        ("compose", ReadDialect::Compose),
        ("literal", ReadDialect::Literal),
    ] {
        assert_eq!(name.parse(), Ok(dialect));
        assert_eq!(dialect.to_string(), name);
    }
    assert_eq!(ReadDialect::default(), ReadDialect::Strict);
    let error = "yaml".parse::<ReadDialect>().unwrap_err().to_string();
    assert_eq!(error, "unknown dialect; expected one of: strict, compose, literal");
}

#[test]
fn entries_keep_order_and_lines() {
    let text = b"# first\n\nB=2\nA='1\n1'\nC=3";
    let file = parse(text, Path::new(".env"), ReadDialect::Strict).unwrap();
    let lines: Vec<_> = file.entries().iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
    assert_eq!(lines, [("B", 3), ("A", 4), ("C", 6)]);
    assert_eq!(file.entry("A").unwrap().value.expose_secret(), "1\n1");
    assert!(file.entry("D").is_none());
}

#[test]
fn errors_name_place_key_reason_and_mend() {
    let errors = read_as(ReadDialect::Strict, "A=1\nDB_PASSWORD=hunter$ecret\nA=2\n").unwrap_err();
    assert_eq!(
        errors,
        "app/.env:2:19: DB_PASSWORD: some readers expand a `$` here and some do not; put the value in single quotes\n\
         app/.env:3:1: A: set before, on line 1; keep one of the two"
    );
}

#[test]
fn columns_count_characters() {
    let errors = read_as(ReadDialect::Strict, "K=éé$x").unwrap_err();
    assert!(errors.starts_with("app/.env:1:5: K: "), "{errors}");
}

#[test]
fn unreadable_files_are_refused_as_a_whole() {
    for (bytes, place, reason) in [
        (&b"A=1\nB=caf\xe9\nC=$x"[..], "f:2:6: ", "not UTF-8"),
        (b"\xff\xfeA\0=\0", "f:1:1: ", "not UTF-8"),
        (b"A=1\nB=x\0y", "f:2:4: ", "NUL"),
        (b"A=1\rB=2\n", "f:1:4: ", "carriage return"),
    ] {
        let error = parse(bytes, Path::new("f"), ReadDialect::Strict).unwrap_err().to_string();
        assert!(error.starts_with(place) && error.contains(reason), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn keys_are_not_told_after_a_quote_went_wrong() {
    let errors = read_as(ReadDialect::Strict, "K='it's\nA=$x\n").unwrap_err();
    let second = errors.lines().nth(1).unwrap();
    assert!(second.starts_with("app/.env:2:3: some readers"), "{second}");
}

#[test]
fn compose_expands_from_earlier_lines_alone() {
    for (text, expected) in [
        ("A=1\nK=$A-${A}", "1-1"),
        ("A=1\nK=\"${A}x\"", "1x"),
        ("A=1\nK='${A}'", "${A}"),
        ("K=a$$b", "a$b"),
        ("K=\"a\\$b\"", "a$b"),
        ("K=5$ or $1", "5$ or $1"),
        ("K=${A:-d}", "d"),
        ("K=${A-d}", "d"),
        ("A=\nK=${A-d}", ""),
        ("A=\nK=${A:-d}", "d"),
        ("A=1\nK=${A:-d}", "1"),
        ("B=2\nK=${A:-<${B:-${A}}>}", "<2>"),
        ("A=1\nK=${A:+y}", "y"),
        ("A=\nK=${A:+y}", ""),
        ("A=\nK=${A+y}", "y"),
        ("K=${A+y}", ""),
        ("A=1\nK=${A:?must be set}", "1"),
        ("A=1\nK=${A:-$B}", "1"),
        ("A=1\nA=2\nK=$A", "2"),
    ] {
        assert_eq!(value_as(ReadDialect::Compose, text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn compose_reads_its_own_ways() {
    for (text, expected) in [
        ("K: yaml", "yaml"),
        ("K= #text", "#text"),
        ("K=1\t#x", "1\t#x"),
        ("K='a\\\\b'", "a\\\\b"),
        ("K=\"a\\'b\"", "a\\'b"),
        ("K='a\r\nb'", "a\r\nb"),
        ("K=\u{a0}a\u{2003}", "a"),
        ("K=\"\\0101\\0377\"", "Aÿ"),
        ("K=\"\\07\\0\\0400\\089\"", "\\7\\\\400\\89"),
        ("A=1\nK=\"\\0044A\"", "1"),
        ("K=1\nK=2", "2"),
    ] {
        assert_eq!(value_as(ReadDialect::Compose, text).as_deref(), Ok(expected), "{text:?}");
        assert!(value_as(ReadDialect::Strict, text).is_err(), "{text:?}");
    }
}

#[test]
fn compose_never_asks_the_process_environment() {
    // PATH is in the environment of every test.
    for (text, named) in [("K=${PATH}", true), ("K=\"x${PATH:?gone}\"", true), ("K=$PATH", false)] {
        let error = value_as(ReadDialect::Compose, text).unwrap_err();
        assert!(error.contains("no earlier line"), "{error}");
        assert_eq!(error.contains("PATH"), named, "{error}");
    }
    let error = value_as(ReadDialect::Compose, "K").unwrap_err();
    assert!(error.contains("no `=`"), "{error}");
}

#[test]
fn compose_refuses_references_it_cannot_resolve() {
    let lines = (0..100).map(|n| format!("K{}=$K{n}$K{n}\n", n + 1)).collect::<Vec<_>>().concat();
    let laughs = format!("K0=ha\n{lines}");
    let deep = format!("K={}x{}", "${A:-".repeat(30), "}".repeat(30));
    for (text, reason) in [
        ("K=${", "cannot expand"),
        ("K=${A", "cannot expand"),
        ("K=${}", "cannot expand"),
        ("K=${1A}", "cannot expand"),
        ("A=1\nK=${A!x}", "cannot expand"),
        ("K=\"\\0000\"", "NUL"),
        ("K=${\u{a0}}", "cannot expand"),
        ("A=1\nK=\"${A:-x\\ny}\"", "cannot expand"),
        ("A=1\nK=${A:-${}}", "cannot expand"),
        ("A=1\nK=${A:-${B?gone}}", "`B` has to be set"),
        ("A=1\nK=${A\u{a0}}", "cannot expand"),
        (deep.as_str(), "nested too deeply"),
        (laughs.as_str(), "more than 1 MiB"),
    ] {
        let error = value_as(ReadDialect::Compose, text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn literal_takes_every_byte() {
    let text = "# c\n\n  K= \"a\" # b $x \\n \r\nB=\n";
    let entries = read_as(ReadDialect::Literal, text).unwrap();
    assert_eq!(entries, [("K".into(), " \"a\" # b $x \\n ".into()), ("B".into(), String::new())]);
}

#[test]
fn literal_refuses_what_is_no_assignment() {
    let errors = read_as(ReadDialect::Literal, "K\n=v\nA B=v\nK=1\nK=2\n").unwrap_err();
    let places: Vec<_> = errors.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["app/.env:1:1", "app/.env:2:1", "app/.env:3:1", "app/.env:5:1"]);
}

#[test]
fn debug_of_a_file_shows_no_value() {
    let file = parse(b"K=c4n4ry", Path::new(".env"), ReadDialect::Strict).unwrap();
    let shown = format!("{file:?}");
    assert!(shown.contains('K') && !shown.contains("c4n4ry"), "{shown}");
}

#[test]
fn a_mebibyte_takes_no_time() {
    // Each would take minutes if any step looked back over, or copied, what was read before.
    let begun = std::time::Instant::now();
    for text in [
        format!("K='{}'", "a\\'b\n".repeat(1 << 18)),
        format!("K={}", "a#$1 ".repeat(1 << 18)),
        format!("K=\"{}\"", "\\n\\\\$ ".repeat(1 << 18)),
        "K=${".repeat(1 << 18),
        "K='\n".repeat(1 << 18),
        "K=-----BEGIN X\n".repeat(1 << 16),
        "K=1\n".repeat(1 << 18),
        (0..1 << 17).map(|n| format!("K{n}=$x\n")).collect::<Vec<_>>().concat(),
    ] {
        for dialect in [ReadDialect::Strict, ReadDialect::Compose, ReadDialect::Literal] {
            let _ = parse(text.as_bytes(), Path::new(".env"), dialect);
        }
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

/// Pieces of values that are special to some reader, and a canary.
fn awkward_value() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "c4n4ry",
            "a",
            " ",
            "\t",
            "#",
            " #",
            "'",
            "\"",
            "\\",
            "$",
            "${",
            "}",
            "\r",
            "\u{a0}",
            "\u{7}",
            "é",
            "\\0",
            "\\n",
            "-----BEGIN ",
            "=",
            ":",
        ][..],
    );
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_error_holds_a_byte_of_a_value(value in awkward_value(), more in awkward_value()) {
        // A name in the braces of a reference is told, so the canary must not become a part of one.
        let braces = value.contains("${") || more.contains("${");
        let canary = if braces { "-c4n4ry" } else { "c4n4ry" };
        let [value, more] = [value, more].map(|text| text.replace("c4n4ry", canary));
        // A later line that sets a key is no part of the value, and its key is told.
        let continued = more.replace(['=', ':'], "");
        for text in [format!("K={value}\nL='{more}'"), format!("K=\"{value}\n{continued}\nM=1")] {
            for dialect in [ReadDialect::Strict, ReadDialect::Compose, ReadDialect::Literal] {
                let (file, errors) = parse_past_faults(text.as_bytes(), Path::new("app/.env"), dialect);
                let told = errors.as_ref().map(ToString::to_string).unwrap_or_default();
                for shown in [told, format!("{errors:?}"), format!("{file:?}")] {
                    prop_assert!(!shown.contains("c4n4ry"), "{}", shown);
                }
            }
        }
    }

    #[test]
    fn what_strict_takes_compose_takes_the_same(value in awkward_value(), quote in "['\"]?") {
        let text = format!("K={quote}{value}{quote}\n");
        if let Ok(strict) = read_as(ReadDialect::Strict, &text) {
            prop_assert_eq!(read_as(ReadDialect::Compose, &text), Ok(strict));
        }
    }

    #[test]
    fn single_quotes_carry_nearly_everything(value in "[^'\\\\\\r\\x00{]{0,40}") {
        prop_assert_eq!(value_as(ReadDialect::Strict, &format!("K='{value}'")), Ok(value));
    }

    #[test]
    fn any_bytes_are_read_or_refused_at_a_place_in_them(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            any::<String>().prop_map(String::into_bytes),
            prop::collection::vec((awkward_value(), prop::sample::select(&["=", "\n", "\r\n", "\0", "\u{feff}"][..])), 0..12)
                .prop_map(|pieces| pieces.iter().fold(String::new(), |text, (piece, sign)| text + piece + sign).into_bytes()),
        ],
    ) {
        let lines: Vec<usize> = bytes.split(|&byte| byte == b'\n').map(<[u8]>::len).collect();
        for dialect in [ReadDialect::Strict, ReadDialect::Compose, ReadDialect::Literal] {
            let (_, errors) = parse_past_faults(&bytes, Path::new(".env"), dialect);
            for error in errors.iter().flat_map(ParseErrors::iter) {
                // The column counts characters, which are no more than the bytes.
                let in_line = lines.get(error.line - 1).is_some_and(|length| (1..=length + 1).contains(&error.column));
                prop_assert!(in_line, "{error} in {bytes:?}");
            }
        }
    }

    /// dotenvy differs from Compose in much; here are the shapes where it does not.
    #[test]
    fn agrees_with_dotenvy_where_it_agrees_with_compose(
        values in prop::collection::vec(
            prop_oneof![
                "[A-Za-z0-9:/?=.@_+%&;,~^(){}|!*-]{1,20}( +# [a-z ]{0,5})?",
                "'[^'\\\\\r\\x00{]{0,20}'",
                "\"([^\"\\\\$\r\\x00]|\\\\n|\\\\\"|\\\\\\\\x){0,20}\"[ \t]{0,2}( # c)?",
            ],
            1..8,
        ),
        end in prop::sample::select(&["\n", "\r\n"][..]),
    ) {
        let lines: Vec<_> = values.iter().enumerate().map(|(n, value)| format!("K{n}={value}{end}")).collect();
        let text = lines.concat();
        let theirs: Vec<(String, String)> =
            dotenvy::from_read_iter(text.as_bytes()).map(|pair| pair.expect("in its grammar")).collect();
        prop_assert_eq!(read_as(ReadDialect::Strict, &text), Ok(theirs));
    }
}

#[test]
fn what_is_not_at_fault_is_read_for_one_who_looks_on() {
    let text = "A=1\nno line\nB=pa$w0rd\nC='3'\nA=2\n";
    let (file, errors) = parse_past_faults(text.as_bytes(), Path::new(".env"), ReadDialect::Strict);
    let read: Vec<(&str, &str)> =
        file.entries().iter().map(|entry| (entry.key.as_str(), entry.value.expose_secret())).collect();
    assert_eq!(read, [("A", "1"), ("C", "3")]);
    assert_eq!(errors.unwrap().iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3, 5]);
}
