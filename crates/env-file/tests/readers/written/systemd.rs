//! systemd's parser of env files, the one that `EnvironmentFile=` goes through, run without systemd: its generator
//! of the users' environments reads `environment.d` by it and prints what it found.
//!
//! The generator differs in two things that come after the parser: it fills in variables, so that `$` is written
//! twice here, and it takes no empty value.

use std::fs;
use std::path::Path;
use std::process::Command;

use env_file::Dialect;

use super::{assert_same, output, round_trip, written};

#[test]
fn systemd_reads_systemd_back() {
    let cannot_hold = |secret: &str| secret.contains(is_excluded);
    round_trip(Dialect::Systemd, cannot_hold, |_, held| {
        let filled: Vec<(String, String)> =
            held.iter().filter(|(_, secret)| !secret.is_empty()).cloned().collect();
        let doubled = filled.iter().map(|(key, secret)| (key.clone(), secret.replace('$', "$$")));
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join(".config/environment.d");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("1.conf"), written(Dialect::Systemd, &doubled.collect::<Vec<_>>()).unwrap())
            .unwrap();
        assert_same(&printed(home.path(), &filled), &filled, "systemd");
    });
}

/// systemd.exec(5) under `EnvironmentFile=`: NUL, the byte order mark and noncharacters.
fn is_excluded(c: char) -> bool {
    let code = u32::from(c);
    code == 0 || code == 0xfeff || (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// The values of those keys, as the generator prints them for this home directory.
fn printed(home: &Path, keys: &[(String, String)]) -> Vec<String> {
    let printed = output(Command::new(harness::SYSTEMD_ENV_READER).env_clear().env("HOME", home));
    let printed = String::from_utf8(printed).unwrap();
    let value = |key: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        unescaped(line.unwrap_or_else(|| panic!("systemd prints no {key}")))
    };
    keys.iter().map(|(key, _)| value(key)).collect()
}

/// Undoes how the generator prints: bare, or in double quotes with the escapes of C.
fn unescaped(printed: &str) -> String {
    let Some(text) = printed.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return printed.to_owned();
    };
    let mut bytes = text.bytes();
    let mut value = Vec::new();
    while let Some(byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next() } else { None };
        value.push(match escaped {
            None => byte,
            Some(b'a') => 7,
            Some(b'b') => 8,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'v') => 11,
            Some(b'f') => 12,
            Some(b'r') => b'\r',
            Some(digit @ b'0'..=b'3') => {
                let more = [digit, bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(str::from_utf8(&more).unwrap(), 8).unwrap()
            }
            Some(itself) => itself,
        });
    }
    String::from_utf8(value).unwrap()
}
