//! Files of pieces that are special to some reader, the same ones in every run.

use std::fmt::Debug;
use std::path::Path;

use env_file::{ReadDialect, parse};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

use crate::rules::deviations;

const PIECES: &[&str] = &[
    "a",
    "B1",
    " ",
    "  ",
    "\t",
    "#",
    " #",
    "# c",
    "'",
    "\"",
    "\\",
    "\\n",
    "\\'",
    "\\\"",
    "\\\\",
    "\\$",
    "\\t",
    "\\0",
    "\\ ",
    "\\07",
    "$",
    "$$",
    "$A",
    "${A}",
    "${A:-d}",
    "${A-",
    "${X:?e}",
    "${",
    "}",
    "{",
    "(",
    ")",
    "1",
    "=",
    ":",
    "é",
    "\u{a0}",
    "-----BEGIN ",
];

/// How many files that Compose cannot read are looked at.
const REFUSED: usize = 60;

const NAMES: &[&str] = &["A", "B1", "K", "A1", "B", "a.b", "k-b", "1A", "[x]", "export"];
const ODD_NAMES: &[&str] = &["A B", "é", "'K'", "\"K\"", "K:", ""];

fn value() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(PIECES);
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

fn line() -> impl Strategy<Value = String> {
    let before = prop::sample::select(&["", "", "", "export ", "export\t", " ", "\u{a0}", "\u{2003}"][..]);
    let sign =
        prop::sample::select(&["=", "=", "=", "=", "=", " = ", "= ", "=\t", ": ", "==", "=\u{2003}"][..]);
    let quote = prop::sample::select(&["", "'", "\""][..]);
    let end = prop::sample::select(&["", "", " ", "# c", " # it's", "\t# c", "\u{2003}"][..]);
    let name = prop_oneof![9 => prop::sample::select(NAMES), 1 => prop::sample::select(ODD_NAMES)];
    let set =
        (before, name, sign, quote, value(), end).prop_map(|(before, name, sign, quote, value, end)| {
            [before, name, sign, quote, value.as_str(), quote, end].concat()
        });
    prop_oneof![
        8 => set,
        1 => value().prop_map(|text| format!("#{text}")),
        1 => prop::sample::select(&["", "", " ", "\t", "K", "\u{b}"][..]).prop_map(str::to_owned),
    ]
}

#[test]
fn values_are_read_as_by_the_others() {
    let quote = prop::sample::select(&["", "'", "\""][..]);
    let end = prop::sample::select(&["", "'", "\"", " ", "# c", " # c"][..]);
    let line =
        (quote, value(), end).prop_map(|(quote, value, end)| format!("K={quote}{value}{quote}{end}\n"));
    check(line, 800);
}

/// Files of up to three such lines, and the ways to end a line.
pub(crate) fn files() -> impl Strategy<Value = String> {
    let mark = prop::sample::select(&["", "", "", "\u{feff}"][..]);
    let end = prop::sample::select(&["\n", "\n", "\n", "\n", "\r\n", "\r\n", "\n\n", "\r", ""][..]);
    (mark, prop::collection::vec((line(), end), 1..4))
        .prop_map(|(mark, lines)| lines.iter().fold(mark.to_owned(), |file, (line, end)| file + line + end))
}

#[test]
fn files_are_read_as_by_the_others() {
    check(files(), 500);
}

fn check(files: impl Strategy<Value = String>, count: usize) {
    let files = sample(files, count);
    let (mut files, mut refused): (Vec<String>, Vec<String>) = files
        .into_iter()
        .partition(|file| parse(file.as_bytes(), Path::new(""), ReadDialect::Compose).is_ok());
    // Of what nobody reads a part will do: Compose has to be asked about each alone.
    refused.truncate(REFUSED);
    files.append(&mut refused);
    let wrong = deviations(&files.into_iter().map(String::into_bytes).collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
}

/// The same values in every run: a test that fails now and then tells nobody what broke it.
pub(crate) fn sample<T: Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let config =
        Config { rng_algorithm: RngAlgorithm::ChaCha, rng_seed: RngSeed::Fixed(1), ..Config::default() };
    let mut runner = TestRunner::new(config);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}
