//! Whether a policy lets read a path, by the rules of the server.

use std::cmp::Reverse;

use super::policy::Stanza;

/// Whether `path` may be read under these stanzas: one that names it decides, else the wildcard that fits
/// closest; of several with the same path, every one grants and a single one denies.
pub(super) fn may_read(stanzas: &[&Stanza], path: &str) -> bool {
    let Some(pattern) = stanzas
        .iter()
        .map(|stanza| stanza.pattern())
        .filter(|pattern| fits(pattern, path))
        .max_by_key(|pattern| closeness(pattern))
    else {
        return false;
    };
    let mut deciding = stanzas.iter().filter(|stanza| stanza.pattern() == pattern).peekable();
    let denied = stanzas.iter().any(|stanza| stanza.pattern() == pattern && stanza.denies());
    !denied && deciding.any(|stanza| stanza.grants().any(|capability| capability == "read"))
}

/// Whether it stands for more than one path: a `*` at the end, a `+` that is all of a segment.
pub(super) fn is_wildcard(pattern: &str) -> bool {
    pattern.ends_with('*') || pattern.split('/').any(|segment| segment == "+")
}

fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, open) = pattern.strip_suffix('*').map_or((pattern, false), |beginning| (beginning, true));
    let mut segments = path.split('/');
    let mut wanted = pattern.split('/').peekable();
    while let Some(want) = wanted.next() {
        let Some(segment) = segments.next() else { return false };
        let last = wanted.peek().is_none();
        let fits = match want {
            "+" => true,
            _ if last && open => segment.starts_with(want),
            _ => segment == want,
        };
        if !fits {
            return false;
        }
    }
    open || segments.next().is_none()
}

/// The server's order of patterns that fit alike; the last wins.
///
/// From Vault's documentation of policies: the first wildcard later, no `*` at the end, fewer `+`, longer, later
/// by the alphabet.
fn closeness(pattern: &str) -> impl Ord + '_ {
    let is_exact = !is_wildcard(pattern);
    let glob = pattern.ends_with('*');
    let mut offset = 0;
    let mut first = if glob { pattern.len() - 1 } else { pattern.len() };
    let mut pluses = 0_usize;
    for segment in pattern.split('/') {
        if segment == "+" {
            first = first.min(offset);
            pluses += 1;
        }
        offset += segment.len() + 1;
    }
    (is_exact, first, !glob, Reverse(pluses), pattern.len(), pattern.to_owned())
}
