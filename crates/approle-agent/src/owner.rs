//! Users and groups by name.
//!
//! Read from the two files and nowhere else: what the C library would load for it is not in a static program.

use std::fs;

/// The uid of a user's name or number, for clap's `value_parser`.
pub(crate) fn user(text: &str) -> Result<u32, String> {
    id(text, "/etc/passwd", "user")
}

/// The gid of a group's name or number.
pub(crate) fn group(text: &str) -> Result<u32, String> {
    id(text, "/etc/group", "group")
}

fn id(text: &str, file: &str, kind: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let entries = fs::read_to_string(file).map_err(|error| format!("{file} cannot be read: {error}"))?;
    find(&entries, text).ok_or_else(|| format!("{file} has no such {kind}; a number is taken as it is"))
}

/// In both files a line begins with the name, and the third field is the number.
fn find(entries: &str, name: &str) -> Option<u32> {
    let mut lines = entries.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let entries = "root:x:0:0:root:/root:/bin/sh\n# broken\npostgres:x:70:70::/:/bin/sh\n";
        assert_eq!(
            (find(entries, "postgres"), find(entries, "post"), find(entries, "# broken")),
            (Some(70), None, None)
        );
        assert_eq!((user("0"), user("root"), group("4711")), (Ok(0), Ok(0), Ok(4711)));
        assert!(user("no such user").is_err());
    }
}
