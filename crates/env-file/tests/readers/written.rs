//! Ten thousand secrets in each dialect, a hundred to a file, read back by the dialect's real reader.

pub(crate) mod docker;
mod systemd;

use std::fs;
use std::path::Path;
use std::process::Command;

use env_file::{Dialect, ReadDialect, WriteError, write};
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;

use crate::random::sample;
use crate::{oracle, rules};

const SECRETS: usize = 10_000;
const IN_A_FILE: usize = 100;

/// All of Unicode, what is special to some reader, and the shapes that secrets have.
fn secret() -> impl Strategy<Value = String> {
    let special = prop::sample::select(
        &[
            "'",
            "\"",
            "\\",
            "$",
            "`",
            "#",
            " #",
            "=",
            " ",
            "\t",
            "\n",
            "\r",
            "\r\n",
            "!",
            "%",
            "&",
            ";",
            "~",
            "-",
            "--",
            "${A}",
            "$(id)",
            "$$",
            "\\n",
            "\\'",
            "\\\"",
            "\\\\",
            "\\0",
            "export ",
            "K1=",
            "\u{feff}",
            "\u{a0}",
            "\u{2028}",
            "\u{7f}",
            "\u{1b}",
            "{\"a\":1}",
            "-----BEGIN X-----\n",
            "\0",
            "\u{fffe}",
            "é",
            "😀",
            "a",
            "Z9",
        ][..],
    )
    .prop_map(str::to_owned);
    let any = any::<char>().prop_map(String::from);
    let ascii = prop::char::range(' ', '~').prop_map(String::from);
    let pieces =
        |piece, length| prop::collection::vec(piece, length).prop_map(|pieces: Vec<String>| pieces.concat());
    prop_oneof![
        6 => pieces(special.clone().boxed(), 0..12),
        4 => pieces(prop_oneof![special, any.clone(), ascii.clone()].boxed(), 0..24),
        2 => pieces(any.boxed(), 0..24),
        2 => pieces(ascii.boxed(), 1..64),
        1 => Just(String::new()),
    ]
}

/// Writes the secrets in `dialect`, and gives the files to `read` with what each must hold. A secret is left out
/// where the dialect has no way to write it, and then the error names its key and shows nothing of it.
fn round_trip(
    dialect: Dialect,
    cannot_hold: impl Fn(&str) -> bool,
    mut read: impl FnMut(&Path, &[(String, String)]),
) {
    let dir = TempDir::new().unwrap();
    let secrets = sample(secret(), SECRETS);
    let mut carried = 0;
    for (number, secrets) in secrets.chunks(IN_A_FILE).enumerate() {
        let mut held = Vec::new();
        for (index, secret) in secrets.iter().enumerate() {
            let entry = (format!("K{index}"), secret.clone());
            match written(dialect, std::slice::from_ref(&entry)) {
                Ok(_) => held.push(entry),
                Err(error) => {
                    assert!(cannot_hold(secret), "{dialect} refuses {secret:?}: {error}");
                    let WriteError::Uncarriable { key, .. } = &error else { panic!("{error}") };
                    assert_eq!(*key, entry.0);
                }
            }
        }
        let file = dir.path().join(number.to_string());
        fs::write(&file, written(dialect, &held).unwrap()).unwrap();
        read(&file, &held);
        carried += held.len();
    }
    // A dialect that refused much would pass without being read.
    assert!(carried > SECRETS / 2, "{carried}");
}

fn written(dialect: Dialect, entries: &[(String, String)]) -> Result<Vec<u8>, WriteError> {
    let secrets: Vec<(&str, SecretString)> =
        entries.iter().map(|(key, value)| (key.as_str(), SecretString::from(value.as_str()))).collect();
    let file = write(dialect, secrets.iter().map(|(key, value)| (*key, value)))?;
    Ok(file.expose_secret().to_vec())
}

/// Compares one by one, so that a failure shows one secret and not a hundred.
fn assert_same(read: &[String], held: &[(String, String)], reader: &str) {
    assert_eq!(read.len(), held.len(), "{reader}");
    for (read, (key, secret)) in read.iter().zip(held) {
        assert_eq!(read, secret, "{key}, by {reader}");
    }
}

fn output(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn by_shell(shell: &str) {
    let script = r#"set -a; . "$0"; for key; do eval "printf '%s\\0' \"\$$key\""; done"#;
    round_trip(
        Dialect::Sh,
        |secret| secret.contains('\0'),
        |file, held| {
            let keys = held.iter().map(|(key, _)| key);
            let printed = output(Command::new(shell).arg("-c").arg(script).arg(file).args(keys));
            let read: Vec<String> =
                String::from_utf8(printed).unwrap().split_terminator('\0').map(str::to_owned).collect();
            assert_same(&read, held, shell);
        },
    );
}

#[test]
fn dash_reads_sh_back() {
    by_shell("dash");
}

#[test]
fn bash_reads_sh_back() {
    by_shell("bash");
}

#[test]
fn docker_compose_reads_compose_back() {
    let programs = harness::composes().unwrap();
    round_trip(
        Dialect::Compose,
        |secret| secret.contains('\0'),
        |file, held| {
            let number = file.file_name().unwrap().to_str().unwrap().parse().unwrap();
            for program in &programs {
                let mut values = oracle::compose_run(program, file.parent().unwrap(), &[number])
                    .unwrap_or_else(|| panic!("{} refuses a file", program.display()));
                let values = values.swap_remove(0);
                let read: Vec<String> = held.iter().map(|(key, _)| values[key].clone().unwrap()).collect();
                assert_eq!(values.len(), held.len());
                assert_same(&read, held, &program.display().to_string());
            }
        },
    );
}

#[test]
fn jq_reads_json_back() {
    round_trip(
        Dialect::Json,
        |_| false,
        |file, held| {
            // Code points: a NUL would end a text that jq prints.
            let printed = output(Command::new("jq").args(["-c", "[.[] | explode]"]).arg(file));
            let read: Vec<Vec<u32>> = serde_json::from_slice(&printed).unwrap();
            let text =
                |points: &Vec<u32>| points.iter().map(|&point| char::from_u32(point).unwrap()).collect();
            assert_same(&read.iter().map(text).collect::<Vec<String>>(), held, "jq");
        },
    );
}

/// What docs/env-files.md says of writing a value for all readers.
#[test]
fn a_value_is_written_for_all_readers_where_there_is_a_way() {
    let fits_single_quotes = |secret: &str| {
        !secret.contains(['\'', '\r'])
            && !secret.contains(r"\\")
            && !secret.ends_with('\\')
            && !secret.contains("${")
    };
    let fits_double_quotes = |secret: &str| !secret.contains('$') && !secret.ends_with('\\');
    let secrets = sample(secret(), 1000).into_iter().filter(|secret| !secret.contains('\0'));
    let (mut files, mut count) = (Vec::new(), 0);
    for secret in secrets {
        let file = written(Dialect::Compose, &[("K".to_owned(), secret.clone())]).unwrap();
        if fits_single_quotes(&secret) || fits_double_quotes(&secret) {
            let read = rules::ours(&file, ReadDialect::Strict).map_err(|errors| errors.to_string());
            assert_eq!(
                read,
                Ok([("K".to_owned(), Some(secret))].into()),
                "{}",
                String::from_utf8_lossy(&file)
            );
            count += 1;
        }
        files.push(file);
    }
    assert!(count > 500, "{count}");
    let wrong = rules::deviations(&files);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
