//! The picture: services on the left, secrets on the right, each secret beside the service of its name.
//!
//! By convention a service reads the secret of its own name, a straight line; whatever is an exception runs aslant,
//! in another colour, and broken, so that it is seen first and without colours too.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::page::escaped;
use super::{Access, Reader, Secret};

/// In the picture's own units, which are pixels where the page is wide enough.
const WIDTH: usize = 1080;
const SERVICE_WIDTH: usize = 230;
const SERVICE_HEIGHT: usize = 44;
const SECRET_LEFT: usize = 520;
const SECRET_WIDTH: usize = WIDTH - SECRET_LEFT - 2;
const TOP: usize = 92;
const GAP: usize = 14;
const KEY_LINE: usize = 17;
/// Of the monospaced font at its size, with some to spare: a tenth of a unit.
const KEY_LETTER: usize = 71;
const KEYS_IN: usize = SECRET_WIDTH - 32;
/// Between lines that end at the same box.
const SPREAD: i64 = 7;

/// A secret's card and where it is.
struct Card<'a> {
    secret: &'a Secret,
    top: usize,
    height: usize,
    /// Per key: line and offset in it.
    keys: Vec<(usize, usize, String, bool)>,
}

pub(super) fn svg(access: &Access) -> String {
    let mut cards: Vec<Card<'_>> = Vec::new();
    let mut top = TOP;
    for secret in &access.secrets {
        let card = Card::new(secret, access, top);
        top += card.height + GAP;
        cards.push(card);
    }
    let middle: BTreeMap<&str, usize> =
        cards.iter().map(|card| (card.secret.name.as_str(), card.top + card.height / 2)).collect();
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {top}\" role=\"img\" aria-labelledby=\"picture-title\">\n\
         <title id=\"picture-title\">Services, secrets, and a line for each that may be read; the same in words \
         is below</title>\n"
    );
    svg += &legend(access);
    // Writing to a String has no error, here and below.
    let _ = writeln!(svg, "<text class=\"head\" x=\"2\" y=\"{}\">Services</text>", TOP - 14);
    let _ = writeln!(
        svg,
        "<text class=\"head\" x=\"{SECRET_LEFT}\" y=\"{}\">Secrets in Vault, and the keys in them</text>",
        TOP - 14
    );
    svg += &lines(access, &middle);
    for reader in &access.services {
        let Some(middle) = middle.get(reader.service.as_str()) else { continue };
        let _ = writeln!(
            svg,
            "<rect class=\"card\" x=\"2\" y=\"{}\" width=\"{SERVICE_WIDTH}\" height=\"{SERVICE_HEIGHT}\" rx=\"8\"/>\
             <text class=\"name\" x=\"16\" y=\"{}\">{}</text><text class=\"soft\" x=\"16\" y=\"{}\">{}</text>",
            middle - SERVICE_HEIGHT / 2,
            middle - 3,
            shortened(&reader.service, 25),
            middle + 14,
            shortened(&reader.reads_in_words(), 34),
        );
    }
    for card in &cards {
        svg += &card.svg();
    }
    svg + "</svg>\n"
}

impl Reader {
    /// What the lines from it say, for whoever cannot follow one among many.
    fn reads_in_words(&self) -> String {
        let others: Vec<&str> = self
            .secrets
            .iter()
            .map(|reach| reach.secret.as_str())
            .filter(|secret| *secret != self.service)
            .collect();
        match (others.as_slice(), others.len() < self.secrets.len()) {
            ([], false) => "reads nothing".to_owned(),
            ([], true) => "reads its own secret".to_owned(),
            (others, true) => format!("reads its own, {}", others.join(", ")),
            (others, false) => format!("reads {}", others.join(", ")),
        }
    }
}

/// What the lines mean, of those kinds that there are.
fn legend(access: &Access) -> String {
    let reaches =
        || access.services.iter().flat_map(|reader| reader.secrets.iter().map(move |reach| (reader, reach)));
    let has_other = reaches().any(|(reader, reach)| reader.service != reach.secret);
    let has_wide = reaches().any(|(_, reach)| reach.is_wider());
    let kinds = [
        (true, "own", "reads the secret of its own name"),
        (has_other, "other", "reads another secret"),
        (has_wide, "own wide", "a thick line: may do more than read"),
    ];
    let (mut svg, mut x) = (String::new(), 2);
    for (_, class, words) in kinds.into_iter().filter(|(is, ..)| *is) {
        let _ = writeln!(
            svg,
            "<path class=\"line {class}\" d=\"M{x} 22h40\"/><text class=\"soft\" x=\"{}\" y=\"26\">{words}</text>",
            x + 50
        );
        x += 60 + words.len() * 7;
    }
    if !access.shared_keys.is_empty() {
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"2\" y=\"50\"><tspan class=\"key several\">KEY ×3</tspan>  the same key is in 3 secrets</text>"
        );
    }
    svg
}

fn lines(access: &Access, middle: &BTreeMap<&str, usize>) -> String {
    // Lines to a box from above end above its middle, those from below end below it.
    let mut ends: BTreeMap<(bool, &str, bool), i64> = BTreeMap::new();
    let mut svg = String::new();
    let mut number = 0;
    for reader in &access.services {
        let Some(from) = middle.get(reader.service.as_str()) else { continue };
        for reach in &reader.secrets {
            let Some(target) = middle.get(reach.secret.as_str()) else { continue };
            let is_own = reader.service == reach.secret;
            let class = if is_own { "own" } else { "other" };
            let (mut begin, mut end) = (number_of(*from), number_of(*target));
            if !is_own {
                let is_below = target > from;
                let mut shift = |is_service, name| {
                    let count = ends.entry((is_service, name, is_below)).or_default();
                    *count = (*count + 1).min(2);
                    SPREAD * *count
                };
                let sign = if is_below { 1 } else { -1 };
                begin += sign * shift(true, &reader.service);
                end -= sign * shift(false, &reach.secret);
                number += 1;
            }
            let wide = if reach.is_wider() { " wide" } else { "" };
            let (left, right) = (SERVICE_WIDTH + 2, SECRET_LEFT);
            // Neighbours bend at different places, so that they can be followed.
            let bend = usize::midpoint(left, right) + (number * 23) % 110 - 55;
            let _ = writeln!(
                svg,
                "<path class=\"line {class}{wide}\" d=\"M{left} {begin}C{bend} {begin} {bend} {end} {right} {end}\"/>\
                 <circle class=\"dot-{class}\" cx=\"{right}\" cy=\"{end}\" r=\"4\"/>"
            );
        }
    }
    svg
}

fn number_of(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

impl<'a> Card<'a> {
    fn new(secret: &'a Secret, access: &Access, top: usize) -> Self {
        let (mut keys, mut line, mut offset) = (Vec::new(), 0, 0);
        for key in &secret.keys {
            let holders = access.shared_keys.get(key).map(Vec::len);
            let count = holders.map(|holders| format!(" ×{holders}")).unwrap_or_default();
            let text = format!("{key}{count}");
            let width = (text.chars().count() + 2) * KEY_LETTER / 10;
            if offset > 0 && offset + width > KEYS_IN {
                (line, offset) = (line + 1, 0);
            }
            keys.push((line, offset, text, holders.is_some()));
            offset += width;
        }
        Self { secret, top, height: 40 + (line + 1) * KEY_LINE, keys }
    }

    fn svg(&self) -> String {
        let Self { secret, top, height, keys } = self;
        let foreign = if secret.in_files { "" } else { " foreign" };
        let several = if secret.readers.len() == 1 { "" } else { " several" };
        let mut svg = format!(
            "<rect class=\"card{foreign}\" x=\"{SECRET_LEFT}\" y=\"{top}\" width=\"{SECRET_WIDTH}\" height=\"{height}\" rx=\"8\"/>\
             <text class=\"name\" x=\"{}\" y=\"{}\">{}</text>\
             <text class=\"soft{several}\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            SECRET_LEFT + 16,
            top + 24,
            shortened(&secret.name, 36),
            WIDTH - 16,
            top + 24,
            shortened(&secret.read_by(), 40),
        );
        let note = match (secret.keys.is_empty(), secret.in_files) {
            (false, _) => None,
            (true, true) => Some("no keys"),
            (true, false) => Some("not filled from these files"),
        };
        if let Some(note) = note {
            let _ = writeln!(
                svg,
                "<text class=\"soft\" x=\"{}\" y=\"{}\">{note}</text>",
                SECRET_LEFT + 16,
                top + 44
            );
        }
        for (line, offset, key, is_shared) in keys {
            let several = if *is_shared { " several" } else { "" };
            let (x, y) = (SECRET_LEFT + 16 + offset, top + 44 + line * KEY_LINE);
            let key = shortened(key, KEYS_IN * 10 / KEY_LETTER);
            let _ = writeln!(svg, "<text class=\"key{several}\" x=\"{x}\" y=\"{y}\">{key}</text>");
        }
        svg
    }
}

/// Escaped, and with an ellipsis where it would run out of its box; the table has it whole.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return escaped(text);
    }
    let short: String = text.chars().take(most - 1).collect();
    escaped(&short) + "…"
}
