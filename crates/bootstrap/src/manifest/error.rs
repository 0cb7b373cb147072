//! What can be wrong with a manifest, alone or together with the policies and the `.env` file.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong, at least one.
#[derive(Debug, PartialEq, Eq)]
pub struct ManifestErrors(pub(super) Vec<ManifestError>);

impl ManifestErrors {
    /// The errors, at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ManifestError> {
        self.0.iter()
    }
}

impl fmt::Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestErrors {}

/// One fault and where it lies.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {fault}", path.display(), place.as_ref().map(|place| format!(":{place}")).unwrap_or_default())]
pub struct ManifestError {
    /// The manifest, or the policy whose name is at fault.
    pub path: PathBuf,
    /// Where in the manifest; absent for a fault of a file's name.
    pub place: Option<Place>,
    /// Why, and what to do.
    pub fault: Fault,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Place {
    /// The place of byte `offset` of `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No TOML, or a value of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// A name that no entry has at this place.
    #[error("`{name}` is no entry of the manifest here; {}", match suggestion {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("it has {}", known.join(", ")),
    })]
    UnknownName {
        /// As written.
        name: String,
        /// The entry that is most like it.
        suggestion: Option<String>,
        /// Every entry that there is at this place.
        known: Vec<String>,
    },
    /// A text that is no duration.
    #[error("`{0}` is no duration; write it as in \"1h\", \"90m\" or \"1h 30m\"")]
    Duration(String),
    /// A duration that Vault cannot keep.
    #[error("a time to live must be at least one second, and whole seconds")]
    NoWholeSeconds,
    /// `token_ttl` above `token_max_ttl`.
    #[error(
        "token_ttl ({token_ttl}) is above token_max_ttl ({token_max_ttl}), which would cut it silently; lower the one or raise the other"
    )]
    TtlOrder {
        /// As a duration.
        token_ttl: String,
        /// As a duration.
        token_max_ttl: String,
    },
    /// A text that is no network.
    #[error("`{0}` is no network; write it as in \"172.20.0.0/16\"")]
    Cidr(String),
    /// A network with bits beyond its prefix, which Vault would store otherwise than written.
    #[error("`{written}` has bits set beyond its prefix; write \"{network}\"")]
    CidrHostBits {
        /// As written.
        written: String,
        /// What it means.
        network: String,
    },
    /// A mode that is no octal text, or lets others in.
    #[error("`{0}` is no private file mode; write it in octal, nothing for others, as in \"0440\"")]
    Mode(String),
    /// A pattern with a `*` elsewhere than at its end, or no text at all.
    #[error("`{0}` is no key; write a whole name, or the beginning of names and `*` at the end")]
    Pattern(String),
    /// A `[keys]` entry without services.
    #[error("`{0}` is given to no service; name at least one, or list it in `ignore`")]
    NoServices(String),
    /// The same pattern given and ignored.
    #[error("`{0}` is both in `ignore` and in [keys]; keep one of the two")]
    GivenAndIgnored(String),
    /// A policy file whose name is no service's.
    #[error(
        "`{0}` is no service name; use lower-case letters, digits, `-` and `_`, a letter or digit first, and rename the file"
    )]
    ServiceName(String),
    /// A stack's name that is none.
    #[error(
        "`{0}` is no name of a stack; use lower-case letters, digits, `-` and `_`, a letter or digit first"
    )]
    StackName(String),
    /// Two services whose keys would begin alike.
    #[error(
        "services `{one}` and `{other}` would both hold the keys that begin with {prefix}; rename one of them"
    )]
    SamePrefix {
        /// The one.
        one: String,
        /// The other.
        other: String,
        /// What their keys begin with.
        prefix: String,
    },
    /// A service without a policy.
    #[error("service `{service}` has no policy: there is no {service}-policy.hcl in the policies directory{}", did_you_mean(.suggestion.as_deref()))]
    NoPolicy {
        /// As written in the manifest.
        service: String,
        /// The service whose name is most like it.
        suggestion: Option<String>,
    },
    /// A `[keys]` entry that decides about no key.
    #[error(
        "`{pattern}` matches no key of the .env file{}{}",
        if pattern.ends_with('*') { " that a longer pattern does not match as well" } else { "; add the key there, generate it, or remove this entry" },
        did_you_mean(.suggestion.as_deref())
    )]
    MatchesNothing {
        /// As written.
        pattern: String,
        /// The key that is most like it.
        suggestion: Option<String>,
    },
    /// A value to generate that no service would get.
    #[error("no service gets the generated `{0}`; give it to one in [keys]")]
    GeneratedForNobody(String),
    /// A value to generate that could be guessed.
    #[error(
        "length {length} from {characters} different characters can be guessed; it takes {needed} or more"
    )]
    Guessable {
        /// As written.
        length: usize,
        /// In the alphabet.
        characters: usize,
        /// The least length for this alphabet.
        needed: usize,
    },
    /// An alphabet that cannot serve.
    #[error(
        "an alphabet is two or more printable ASCII characters, each once, without blanks, quotes, `\\` and `$`"
    )]
    Alphabet,
    /// A rename of a key that the service does not get.
    #[error("service `{service}` gets no key `{key}` that could be renamed{}", did_you_mean(.suggestion.as_deref()))]
    RenamesNothing {
        /// Whose.
        service: String,
        /// As written.
        key: String,
        /// The key that is most like it.
        suggestion: Option<String>,
    },
    /// Two keys of one service under one name.
    #[error("service `{service}` would hold two keys named `{name}`; choose another name for one")]
    SameName {
        /// Whose.
        service: String,
        /// The name.
        name: String,
    },
}

impl Fault {
    /// What the TOML reader says, an unknown name in the house's words.
    pub(super) fn of_toml(message: &str) -> Self {
        let mut quoted = message.split('`').skip(1).step_by(2).map(str::to_owned);
        match quoted.next() {
            Some(name) if message.starts_with("unknown field") => {
                let known: Vec<String> = quoted.collect();
                Self::UnknownName {
                    suggestion: suggest(&name, known.iter().map(String::as_str)),
                    name,
                    known,
                }
            }
            _ => Self::Toml(message.to_owned()),
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The one of `candidates` that `written` may be a slip for: at most a third of it differs.
pub(crate) fn suggest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(distance, _)| *distance <= written.chars().count().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many characters must be added, removed or replaced to get from `one` to `other` (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, c) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, d) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
