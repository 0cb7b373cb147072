//! The HTML page: the picture, and the same in words for whoever reads rather than looks.

use std::fmt::Write as _;

use super::{Access, CREW, picture};

/// Okabe and Ito's colours, which people with any kind of colour blindness tell apart.
const STYLE: &str = "
:root{color-scheme:light dark;--page:#fff;--card:#f6f7f9;--edge:#c9ced6;--ink:#1b1f24;--soft:#57606a;--own:#0072b2;--other:#b34e00}
@media (prefers-color-scheme:dark){:root{--page:#14171a;--card:#1e2328;--edge:#444c56;--ink:#e8eaed;--soft:#a3acb6;--own:#56b4e9;--other:#f0a830}}
@media print{:root{--page:#fff;--card:#fff;--edge:#888;--ink:#000;--soft:#333;--own:#0072b2;--other:#b34e00}
 svg{max-height:74vh}tr,.crew{break-inside:avoid}section{break-before:page}}
body{margin:2rem auto;max-width:1120px;padding:0 1rem;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.2rem;margin:2.2rem 0 .5rem}
p{max-width:46rem;margin:.3rem 0}.crew{color:var(--soft);border-left:3px solid var(--edge);padding-left:.8rem;margin-top:1.5rem}
svg{display:block;width:100%;height:auto;margin:1.2rem 0}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{text-align:left;vertical-align:top;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--edge)}
code,.key{font-family:ui-monospace,\"SFMono-Regular\",Menlo,Consolas,\"DejaVu Sans Mono\",\"Liberation Mono\",monospace}td code{font-size:.82rem;overflow-wrap:anywhere}
.card{fill:var(--card);stroke:var(--edge)}.card.foreign{stroke-dasharray:5 4}.name{fill:var(--ink);font-weight:600;font-size:15px}
.soft{fill:var(--soft);font-size:12px}.key{fill:var(--ink);font-size:11.5px}.several{fill:var(--other);font-weight:700}
.head{fill:var(--soft);font-size:13px;font-weight:600}.line{fill:none;stroke-width:2}.own{stroke:var(--own)}
.other{stroke:var(--other);stroke-dasharray:8 4}.wide{stroke-width:5}.dot-own{fill:var(--own)}.dot-other{fill:var(--other)}
";

/// The whole page: no script, nothing from elsewhere, and no date, so that the same files give the same page.
pub(super) fn html(access: &Access) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Who may read which secret</title>\n<style>{STYLE}</style>\n\
         <h1>Who may read which secret</h1>\n\
         <p>{}. A line means that the service may read that secret, and so every key in it. \
         Without a line it may not. Only the names of keys are shown, never a value.</p>\n",
        summary(access)
    );
    page += &picture::svg(access);
    for line in CREW {
        // Writing to a String has no error, here and below.
        let _ = writeln!(page, "<p class=\"crew\">{}</p>", escaped(line));
    }
    page +=
        "<section>\n<h2>The same in words</h2>\n<table>\n<tr><th>Service<th>may<th>Secret<th>Keys in it\n";
    for reader in &access.services {
        let mut name = escaped(&reader.service);
        for reach in &reader.secrets {
            let secret = access.secrets.iter().find(|secret| secret.name == reach.secret);
            let keys = secret.map(|secret| secret.keys.join(", ")).unwrap_or_default();
            let _ = writeln!(
                page,
                "<tr><td><b>{name}</b><td>{}<td>{}<td><code>{}</code>",
                reach.capabilities,
                escaped(&reach.secret),
                escaped(&keys)
            );
            name.clear();
        }
        for other in &reader.elsewhere {
            let path = escaped(&other.path);
            let _ = writeln!(
                page,
                "<tr><td><b>{name}</b><td>{}<td colspan=\"2\"><code>{path}</code>",
                other.capabilities
            );
            name.clear();
        }
        if !name.is_empty() {
            let _ = writeln!(page, "<tr><td><b>{name}</b><td colspan=\"3\">nothing");
        }
    }
    page += "</table>\n";
    if !access.shared_keys.is_empty() {
        page += "<h2>Keys that several secrets hold</h2>\n<table>\n<tr><th>Key<th>Secrets\n";
        for (key, secrets) in &access.shared_keys {
            let _ =
                writeln!(page, "<tr><td><code>{}</code><td>{}", escaped(key), escaped(&secrets.join(", ")));
        }
        page += "</table>\n";
    }
    page + "</section>\n</html>\n"
}

fn summary(access: &Access) -> String {
    let shared = access.secrets.iter().filter(|secret| secret.readers.len() > 1).count();
    let shared = match shared {
        0 => "none of which several services may read".to_owned(),
        1 => "one of which several services may read".to_owned(),
        shared => format!("{shared} of which several services may read"),
    };
    format!("{} services, {} secrets in Vault, {shared}", access.services.len(), access.secrets.len())
}

/// Text for between tags and in double-quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter if letter.is_control() => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::parse;

    /// After a wanted change: look at the page that the failure prints, and put it into the file.
    #[test]
    fn the_page_is_as_recorded_and_nothing_in_it_is_taken_for_a_tag() {
        let rules = |text: &str| parse(text).unwrap();
        let policies = BTreeMap::from([
            (
                "chat".to_owned(),
                rules(
                    r#"path "secret/data/chat" { capabilities = ["read"] } path "secret/data/user" { capabilities = ["read"] }"#,
                ),
            ),
            (
                "user".to_owned(),
                rules(
                    r#"path "secret/data/user" { capabilities = ["read", "update"] } path "secret/data/<b>&\"'" { capabilities = ["read"] } path "transit/<i>" { capabilities = ["update"] }"#,
                ),
            ),
        ]);
        let keys = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let secrets = BTreeMap::from([
            ("chat".to_owned(), keys(&["CHAT_KEY", "SHARED"])),
            ("user".to_owned(), keys(&["SHARED", "<script>alert(1)</script>"])),
        ]);
        let page = html(&Access::new("secret", &policies, &secrets));
        for tag in ["<b>&", "<script", "<i>"] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page == include_str!("page/golden.html"), "the page has changed:\n{page}");
    }
}
