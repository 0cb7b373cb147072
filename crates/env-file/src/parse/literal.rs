//! `KEY=VALUE` lines whose values are taken byte for byte.

use secrecy::SecretString;

use super::{Entry, EnvFile, Lines, Refusal};
use crate::error::Fault;

pub(super) fn read(text: &str, lines: &Lines<'_>, file: &mut EnvFile) -> Vec<Refusal> {
    // Docker drops a carriage return at the end of the last line too, line feed or not.
    let written = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    written.filter_map(|line| read_line(line, text, lines, file).err()).collect()
}

/// Reads one line of `text`, given without its line end.
fn read_line(line: &str, text: &str, lines: &Lines<'_>, file: &mut EnvFile) -> Result<(), Refusal> {
    let statement = line.trim_start();
    if statement.is_empty() || statement.starts_with('#') {
        return Ok(());
    }
    let offset = statement.as_ptr().addr() - text.as_ptr().addr();
    let refuse = |fault| Refusal::of_file(offset, fault);
    let (key, value) = statement.split_once('=').ok_or(refuse(Fault::NoEquals))?;
    if key.is_empty() {
        return Err(refuse(Fault::NoKey));
    }
    if key.contains(char::is_whitespace) {
        return Err(refuse(Fault::InvalidKey));
    }
    let entry = Entry { key: key.to_owned(), value: SecretString::from(value), line: lines.line(offset) };
    file.insert(entry).map_err(|first| Refusal {
        offset,
        key: Some(key.to_owned()),
        fault: Fault::Duplicate { first },
    })
}
