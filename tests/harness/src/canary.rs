//! Looks for secrets where none may be.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::run::records;
use crate::wait::pause;

/// A shorter secret would be found everywhere.
const SHORTEST: usize = 6;

/// Secrets to look for: raw, percent-encoded, JSON-escaped, in base64 at any alignment, and in hex.
#[derive(Clone, Default)]
pub struct Canary {
    forms: Vec<Form>,
}

/// Where a secret was found. It names the secret, and does not hold it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The secret's name.
    pub secret: String,
    /// How it was written.
    pub form: &'static str,
    /// Where it was.
    pub place: String,
}

#[derive(Clone)]
struct Form {
    secret: String,
    writing: &'static str,
    bytes: Vec<u8>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) in {}", self.secret, self.form, self.place)
    }
}

impl fmt::Debug for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Canary({} forms)", self.forms.len())
    }
}

impl Canary {
    /// Looks for these secrets: name and value each. Panics where one is shorter than six bytes.
    #[track_caller]
    pub fn new<N: Into<String>, V: AsRef<[u8]>>(secrets: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut canary = Self::default();
        for (name, value) in secrets {
            canary.add(name, value);
        }
        canary
    }

    /// Looks for this secret too.
    #[track_caller]
    pub fn add(&mut self, name: impl Into<String>, value: impl AsRef<[u8]>) {
        let (name, value) = (name.into(), value.as_ref());
        assert!(value.len() >= SHORTEST, "the secret {name} is too short to be looked for");
        let mut forms = vec![("raw", value.to_vec()), ("hex", hex(value))];
        forms.extend(base64_forms(value).into_iter().map(|bytes| ("base64", bytes)));
        if let Ok(text) = str::from_utf8(value) {
            let escaped = serde_json::Value::from(text).to_string();
            forms.push(("JSON", escaped.as_bytes()[1..escaped.len() - 1].to_vec()));
        }
        self.forms.extend(forms.into_iter().map(|(writing, bytes)| Form {
            secret: name.clone(),
            writing,
            bytes,
        }));
    }

    /// Looks into these bytes; `place` says where they are from.
    #[must_use]
    pub fn scan(&self, place: &str, bytes: &[u8]) -> Option<Finding> {
        let finding = |form: &Form, written| Finding {
            secret: form.secret.clone(),
            form: written,
            place: place.to_owned(),
        };
        let decoded = percent_decoded(bytes);
        self.forms.iter().find_map(|form| {
            if contains(bytes, &form.bytes) {
                return Some(finding(form, form.writing));
            }
            contains(decoded.as_deref()?, &form.bytes).then(|| finding(form, "percent-encoded"))
        })
    }

    /// Looks into the arguments and outputs of all programs that [`run`](fn@crate::run) and its like started.
    #[must_use]
    pub fn scan_runs(&self) -> Option<Finding> {
        let parts = records().into_iter().flat_map(|record| record.parts());
        parts.into_iter().find_map(|(place, bytes)| self.scan(&place, &bytes))
    }

    /// Looks into a file, or all files below a directory. What cannot be read is passed over.
    #[must_use]
    pub fn scan_files(&self, path: &Path) -> Option<Finding> {
        if let Ok(entries) = fs::read_dir(path) {
            return entries.flatten().find_map(|entry| self.scan_files(&entry.path()));
        }
        let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        let bytes = if is_file { fs::read(path).ok()? } else { return None };
        self.scan(&path.display().to_string(), &bytes)
    }

    /// Looks into the command lines of all processes that this user can see.
    #[must_use]
    pub fn scan_command_lines(&self) -> Option<Finding> {
        self.scan_processes("cmdline")
    }

    /// Looks into the environments of all processes that this user can see.
    #[must_use]
    pub fn scan_environments(&self) -> Option<Finding> {
        self.scan_processes("environ")
    }

    /// Looks into all command lines, over and over, from another thread.
    #[must_use]
    pub fn watch_command_lines(self) -> CommandLineWatch {
        let done = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut finding = None;
            while finding.is_none() && !end.load(Ordering::Relaxed) {
                finding = self.scan_command_lines();
                pause(Duration::from_millis(2));
            }
            finding
        });
        CommandLineWatch { done, thread }
    }

    fn scan_processes(&self, file: &str) -> Option<Finding> {
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let process = entry.file_name();
            process.to_str()?.parse::<u32>().ok()?;
            // A process that ended meanwhile, or is another user's, shows nothing.
            let bytes = fs::read(entry.path().join(file)).ok()?;
            self.scan(&format!("/proc/{}/{file}", process.display()), &bytes)
        })
    }
}

/// A watch over all command lines.
#[derive(Debug)]
pub struct CommandLineWatch {
    done: Arc<AtomicBool>,
    thread: JoinHandle<Option<Finding>>,
}

impl CommandLineWatch {
    /// Ends the watch, and says what it saw first.
    #[must_use]
    pub fn stop(self) -> Option<Finding> {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic")
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// The characters that the secret alone decides, for each of the three places that it can begin at in a
/// longer encoded text, in both alphabets.
fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    (0..3)
        .flat_map(|offset| {
            let padded = [&b"\0\0\0"[..offset], secret].concat();
            let encoded = STANDARD_NO_PAD.encode(&padded);
            let first = (offset * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            let standard = encoded[first..last].to_owned();
            let url_safe = standard.replace('+', "-").replace('/', "_");
            [standard.into_bytes(), url_safe.into_bytes()]
        })
        .collect()
}

/// The bytes with every `%xx` decoded; none where there is no such thing.
fn percent_decoded(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.contains(&b'%') {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            if first == b'%' { after.get(..2).and_then(|two| str::from_utf8(two).ok()) } else { None };
        if let Some(byte) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            decoded.push(byte);
            rest = &after[2..];
        } else {
            decoded.push(first);
            rest = after;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "pa\"ss w0rd/+&";

    fn found(bytes: impl AsRef<[u8]>) -> Option<&'static str> {
        Canary::new([("PASSWORD", SECRET)]).scan("here", bytes.as_ref()).map(|finding| finding.form)
    }

    #[test]
    fn every_way_of_writing_a_secret_is_found() {
        assert_eq!(found(format!("log: {SECRET}.")), Some("raw"));
        assert_eq!(found("log: %70a%22ss%20w0rd%2f%2B%26."), Some("percent-encoded"));
        assert_eq!(found(serde_json::json!({ "k": SECRET }).to_string()), Some("JSON"));
        assert_eq!(found(hex(format!("<{SECRET}>").as_bytes())), Some("hex"));
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}{SECRET}and more");
            assert_eq!(found(STANDARD_NO_PAD.encode(&text)), Some("base64"), "{before:?}");
        }
    }

    #[test]
    fn innocent_text_is_innocent() {
        assert_eq!(found("PASSWORD is set; 100% of pa\"ss w0rd/+"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn a_finding_names_the_secret_and_does_not_hold_it() {
        let canary = Canary::new([("PASSWORD", SECRET)]);
        let finding = canary.scan("vault.log", SECRET.as_bytes()).unwrap();
        assert_eq!(finding.to_string(), "PASSWORD (raw) in vault.log");
        assert!(!format!("{canary:?}{finding:?}").contains(SECRET));
    }

    #[test]
    fn the_watch_sees_a_secret_on_a_command_line() {
        let secret = crate::random_token();
        let watch = Canary::new([("TOKEN", &secret)]).watch_command_lines();
        let seen = std::process::Command::new("sh").args(["-c", "sleep 0.2", &secret]).status();
        assert!(seen.unwrap().success());
        assert_eq!(watch.stop().unwrap().secret, "TOKEN");
    }
}
