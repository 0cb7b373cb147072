//! Values that Compose, python-dotenv and dotenvy read alike; everything else is refused.

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::lex::{Quote, Written};
use crate::error::Fault;

/// The value, or the offset within `written.text` of what the readers disagree on.
pub(super) fn value(written: &Written<'_>) -> Result<SecretString, (usize, Fault)> {
    match written.quote {
        Quote::None => unquoted(written.text).map(SecretString::from),
        Quote::Single => single_quoted(written.text),
        Quote::Double => double_quoted(written.text),
    }
}

fn unquoted(text: &str) -> Result<&str, (usize, Fault)> {
    if text.starts_with('#') {
        return Err((0, Fault::LeadingHash));
    }
    let before_comment = match text.match_indices(" #").next() {
        Some((comment, _)) => &text[..comment],
        None => text,
    };
    if let Some(tab) = before_comment.find("\t#") {
        return Err((tab, Fault::TabBeforeComment));
    }
    let value = before_comment.trim_end_matches([' ', '\t', '\r']);
    if let Some(place) = unusual_blank(value) {
        return Err((place, Fault::UnusualBlank));
    }
    if let Some(place) = value.find(['\'', '"', '\\']) {
        return Err((place, Fault::UnquotedSyntax));
    }
    check_dollars(value)?;
    Ok(value)
}

/// A blank that some readers trim and others keep: at an end of the value, or before what is a comment to some.
fn unusual_blank(value: &str) -> Option<usize> {
    let unusual = |c: char| c != '\t' && (c.is_control() || c.is_whitespace() && c != ' ');
    let at_end = |place: usize, c: char| {
        let behind = value[place + c.len_utf8()..].trim_start();
        value[..place].trim_matches(unusual).is_empty() || behind.is_empty() || behind.starts_with('#')
    };
    value.char_indices().find(|&(place, c)| unusual(c) && at_end(place, c)).map(|(place, _)| place)
}

fn single_quoted(text: &str) -> Result<SecretString, (usize, Fault)> {
    check_line_ends(text)?;
    if let Some(place) = text.find(r"\\") {
        return Err((place, Fault::SingleQuotedBackslashes));
    }
    if let Some(place) = text.find("${").filter(|&place| text[place..].contains('}')) {
        return Err((place, Fault::QuotedReference));
    }
    // Elsewhere dotenvy finds that a quote is not closed, and says so.
    if let Some(place) = text.find(r"\'").filter(|&place| text[place..].contains(['#', '$', '\n'])) {
        return Err((place, Fault::EscapedQuoteInSingle));
    }
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    text.split(r"\'").enumerate().for_each(|(index, piece)| {
        if index > 0 {
            value.push('\'');
        }
        value.push_str(piece);
    });
    Ok(SecretString::from(value.as_str()))
}

fn double_quoted(text: &str) -> Result<SecretString, (usize, Fault)> {
    check_line_ends(text)?;
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(backslash) = rest.find('\\') {
        value.push_str(&rest[..backslash]);
        let offset = text.len() - rest.len() + backslash;
        let escaped = rest[backslash + 1..].chars().next();
        match escaped {
            Some('\'') => return Err((offset, Fault::EscapedSingleQuote)),
            Some('$') => return Err((offset, Fault::EscapedDollar)),
            Some(' ') => return Err((offset, Fault::EscapedSpace)),
            Some('0') => return Err((offset, Fault::OctalEscape)),
            Some('\\') if offset + 2 == text.len() => return Err((offset, Fault::BackslashBeforeQuote)),
            _ => push_escape(&mut value, escaped),
        }
        rest = &rest[backslash + 1 + escaped.map_or(0, char::len_utf8)..];
    }
    value.push_str(rest);
    check_dollars(text)?;
    Ok(SecretString::from(value.as_str()))
}

/// Appends what a backslash and the character after it stand for in double quotes: an unknown pair, for itself.
pub(super) fn push_escape(value: &mut String, escaped: Option<char>) {
    match escaped {
        Some('a') => value.push('\u{7}'),
        Some('b') => value.push('\u{8}'),
        Some('f') => value.push('\u{c}'),
        Some('n') => value.push('\n'),
        Some('r') => value.push('\r'),
        Some('t') => value.push('\t'),
        Some('v') => value.push('\u{b}'),
        Some(itself @ ('\\' | '"')) => value.push(itself),
        other => {
            value.push('\\');
            value.extend(other);
        }
    }
}

fn check_line_ends(text: &str) -> Result<(), (usize, Fault)> {
    text.find('\r').map_or(Ok(()), |place| Err((place, Fault::CrlfInQuotes)))
}

fn check_dollars(text: &str) -> Result<(), (usize, Fault)> {
    match text.find('$') {
        Some(place) if text[place..].starts_with("${") => Err((place, Fault::Reference)),
        Some(place) => Err((place, Fault::Dollar)),
        None => Ok(()),
    }
}
