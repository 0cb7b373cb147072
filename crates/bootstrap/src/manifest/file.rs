//! `vaultcrew.toml`, read and checked by itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::error::{Fault, ManifestError, ManifestErrors, Place};
use super::pattern::Pattern;
use super::resolve::is_service_name;
use super::{FileAttrs, GenerateSpec, Ttls};

/// A manifest whose every entry is valid by itself.
#[derive(Debug, Default)]
pub struct Manifest {
    pub(super) path: PathBuf,
    stack: Option<String>,
    pub(super) ignore: Vec<(Place, Pattern)>,
    pub(super) keys: Vec<KeyRule>,
    pub(super) generate: Vec<(Place, GenerateSpec)>,
    pub(super) defaults: Settings,
    pub(super) services: BTreeMap<String, ServiceRules>,
    pub(super) ttls: Vec<WrittenTtl>,
}

/// A time to live that the manifest sets.
#[derive(Clone, Copy, Debug)]
pub struct WrittenTtl {
    /// Where.
    pub place: Place,
    /// Which: `token_ttl`, `token_max_ttl` or `secret_id_ttl`.
    pub name: &'static str,
    /// How long.
    pub ttl: Duration,
}

/// One entry of `[keys]`.
#[derive(Debug)]
pub(super) struct KeyRule {
    pub(super) place: Place,
    pub(super) pattern: Pattern,
    pub(super) services: Vec<(Place, String)>,
}

/// One `[services.…]` table.
#[derive(Debug)]
pub(super) struct ServiceRules {
    pub(super) place: Place,
    /// Its own; the defaults stand behind them.
    pub(super) settings: Settings,
    pub(super) cidrs: Vec<String>,
    /// Key in `.env`, and its name in the secret.
    pub(super) rename: Vec<(Place, String, String)>,
    /// Services whose secrets it may write.
    pub(super) rotates: Vec<String>,
}

/// What `[defaults]` and every service can set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    token_ttl: Option<Duration>,
    token_max_ttl: Option<Duration>,
    secret_id_ttl: Option<Duration>,
    file_mode: Option<u32>,
    file_owner: Option<u32>,
    file_group: Option<u32>,
}

impl Settings {
    /// These, and where they say nothing, `defaults`.
    pub(super) fn or(self, defaults: Self) -> Self {
        Self {
            token_ttl: self.token_ttl.or(defaults.token_ttl),
            token_max_ttl: self.token_max_ttl.or(defaults.token_max_ttl),
            secret_id_ttl: self.secret_id_ttl.or(defaults.secret_id_ttl),
            file_mode: self.file_mode.or(defaults.file_mode),
            file_owner: self.file_owner.or(defaults.file_owner),
            file_group: self.file_group.or(defaults.file_group),
        }
    }

    pub(super) fn ttls(self) -> Ttls {
        let usual = Ttls::default();
        Ttls {
            token_ttl: self.token_ttl.unwrap_or(usual.token_ttl),
            token_max_ttl: self.token_max_ttl.unwrap_or(usual.token_max_ttl),
            secret_id_ttl: self.secret_id_ttl.unwrap_or(usual.secret_id_ttl),
        }
    }

    pub(super) fn files(self) -> FileAttrs {
        let mode = self.file_mode.unwrap_or(FileAttrs::default().mode);
        FileAttrs { mode, owner: self.file_owner, group: self.file_group }
    }
}

impl Manifest {
    /// The manifest that says nothing: the convention alone.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads `text`. `path` only names the file in errors, which are told all at once once it is TOML.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestErrors> {
        let (manifest, errors) = Self::parse_past_faults(text, path);
        if errors.is_empty() { Ok(manifest) } else { Err(ManifestErrors(errors)) }
    }

    /// Reads `text` as [`parse`](Self::parse) does; what is at fault is left out.
    #[must_use]
    pub fn parse_past_faults(text: &str, path: &Path) -> (Self, Vec<ManifestError>) {
        let error = |(place, fault)| ManifestError { path: path.to_owned(), place: Some(place), fault };
        let written: Written = match toml::from_str(text) {
            Ok(written) => written,
            Err(toml) => {
                let place = Place::of(text, toml.span().map_or(0, |span| span.start));
                return (Self::empty(), vec![error((place, Fault::of_toml(toml.message())))]);
            }
        };
        let mut reading = Reading { text, faults: Vec::new(), ttls: Vec::new() };
        let mut manifest = reading.manifest(written, path);
        manifest.ttls = reading.ttls;
        reading.faults.sort_by_key(|(place, _)| (place.line, place.column));
        (manifest, reading.faults.into_iter().map(error).collect())
    }

    /// The name of the stack, if it has one.
    #[must_use]
    pub fn stack(&self) -> Option<&str> {
        self.stack.as_deref()
    }

    /// Every time to live that it sets.
    #[must_use]
    pub fn ttls(&self) -> &[WrittenTtl] {
        &self.ttls
    }

    /// The keys of `[generate]`, as `.env` would have them, and their places.
    pub fn generated(&self) -> impl Iterator<Item = (Place, &str)> {
        self.generate.iter().map(|(place, spec)| (*place, spec.env_key.as_str()))
    }

    /// The services whose secrets `service` is there to write; it holds none of its own then.
    #[must_use]
    pub fn rotates(&self, service: &str) -> &[String] {
        self.services.get(service).map_or(&[], |rules| &rules.rotates)
    }

    /// The entries of `ignore` that speak of none of `keys`, as written, and their places.
    pub fn ignored_in_vain<'a>(
        &'a self,
        keys: impl Iterator<Item = &'a str> + Clone,
    ) -> impl Iterator<Item = (Place, String)> {
        let in_vain = move |pattern: &Pattern| !keys.clone().any(|key| pattern.fits(key).is_some());
        let ignore = self.ignore.iter().filter(move |(_, pattern)| in_vain(pattern));
        ignore.map(|(place, pattern)| (*place, pattern.to_string()))
    }
}

/// The shape of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    stack: Option<Spanned<String>>,
    #[serde(default)]
    ignore: Vec<Spanned<String>>,
    #[serde(default)]
    keys: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    generate: BTreeMap<Spanned<String>, WrittenGenerate>,
    defaults: Option<Spanned<WrittenDefaults>>,
    #[serde(default)]
    services: BTreeMap<Spanned<String>, WrittenService>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGenerate {
    length: Option<Spanned<usize>>,
    alphabet: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDefaults {
    token_ttl: Option<Spanned<String>>,
    token_max_ttl: Option<Spanned<String>>,
    secret_id_ttl: Option<Spanned<String>>,
    file_mode: Option<Spanned<String>>,
    file_owner: Option<u32>,
    file_group: Option<u32>,
}

/// [`WrittenDefaults`] and more; serde cannot flatten a table that refuses unknown names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenService {
    token_ttl: Option<Spanned<String>>,
    token_max_ttl: Option<Spanned<String>>,
    secret_id_ttl: Option<Spanned<String>>,
    file_mode: Option<Spanned<String>>,
    file_owner: Option<u32>,
    file_group: Option<u32>,
    #[serde(default)]
    cidrs: Vec<Spanned<String>>,
    #[serde(default)]
    rename: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    rotates: Vec<String>,
}

/// Goes through the file and notes every fault; what is at fault is left out.
struct Reading<'a> {
    text: &'a str,
    faults: Vec<(Place, Fault)>,
    ttls: Vec<WrittenTtl>,
}

impl Reading<'_> {
    fn manifest(&mut self, written: Written, path: &Path) -> Manifest {
        let stack = written.stack.and_then(|name| {
            self.read(&name, |name| {
                if is_service_name(name) { Ok(name.clone()) } else { Err(Fault::StackName(name.clone())) }
            })
        });
        let ignore = written.ignore.iter().filter_map(|text| Some((self.place(text), self.pattern(text)?)));
        let ignore: Vec<(Place, Pattern)> = ignore.collect();
        let keys = written.keys.into_iter().filter_map(|(key, services)| self.rule(&key, services, &ignore));
        let keys = keys.collect();
        let generate =
            written.generate.into_iter().filter_map(|(key, spec)| self.generate(&key, spec)).collect();
        let defaults = written.defaults.map(|written| {
            let defaults = self.settings(written.get_ref());
            self.check_ttls(self.place(&written), defaults);
            defaults
        });
        let defaults = defaults.unwrap_or_default();
        let services = written.services.into_iter().map(|(name, service)| {
            let rules = self.service(self.place(&name), service, defaults);
            (name.into_inner(), rules)
        });
        let services = services.collect();
        Manifest {
            path: path.to_owned(),
            stack,
            ignore,
            keys,
            generate,
            defaults,
            services,
            ttls: Vec::new(),
        }
    }

    fn place<T>(&self, spanned: &Spanned<T>) -> Place {
        Place::of(self.text, spanned.span().start)
    }

    /// The value of `spanned` as `read` takes it, or a note of the fault that it found.
    fn read<T, R>(&mut self, spanned: &Spanned<T>, read: impl FnOnce(&T) -> Result<R, Fault>) -> Option<R> {
        let place = self.place(spanned);
        read(spanned.get_ref()).map_err(|fault| self.faults.push((place, fault))).ok()
    }

    fn pattern(&mut self, text: &Spanned<String>) -> Option<Pattern> {
        self.read(text, |text| Pattern::parse(text).ok_or_else(|| Fault::Pattern(text.clone())))
    }

    fn rule(
        &mut self,
        key: &Spanned<String>,
        services: Vec<Spanned<String>>,
        ignore: &[(Place, Pattern)],
    ) -> Option<KeyRule> {
        let pattern = self.pattern(key)?;
        self.read(key, |text| {
            if services.is_empty() {
                Err(Fault::NoServices(text.clone()))
            } else if ignore.iter().any(|(_, ignored)| *ignored == pattern) {
                Err(Fault::GivenAndIgnored(text.clone()))
            } else {
                Ok(())
            }
        })?;
        let services =
            services.into_iter().map(|service| (self.place(&service), service.into_inner())).collect();
        Some(KeyRule { place: self.place(key), pattern, services })
    }

    fn generate(&mut self, key: &Spanned<String>, spec: WrittenGenerate) -> Option<(Place, GenerateSpec)> {
        let env_key = self.read(key, |text| match Pattern::parse(text) {
            Some(Pattern::Name(name)) => Ok(name),
            _ => Err(Fault::Pattern(text.clone())),
        })?;
        let alphabet = match spec.alphabet {
            Some(alphabet) => self.read(&alphabet, |text| checked_alphabet(text))?,
            None => ('0'..='9').chain('A'..='Z').chain('a'..='z').collect(),
        };
        let length = match spec.length {
            Some(length) => self.read(&length, |&length| checked_length(length, alphabet.len()))?,
            None => least_length(alphabet.len()).max(USUAL_LENGTH),
        };
        Some((self.place(key), GenerateSpec { env_key, length, alphabet }))
    }

    fn settings(&mut self, written: &WrittenDefaults) -> Settings {
        let [token_ttl, token_max_ttl, secret_id_ttl] = [
            ("token_ttl", &written.token_ttl),
            ("token_max_ttl", &written.token_max_ttl),
            ("secret_id_ttl", &written.secret_id_ttl),
        ]
        .map(|(name, written)| {
            let written = written.as_ref()?;
            let ttl = self.read(written, |text| whole_seconds(text))?;
            self.ttls.push(WrittenTtl { place: self.place(written), name, ttl });
            Some(ttl)
        });
        let file_mode =
            written.file_mode.as_ref().and_then(|mode| self.read(mode, |text| private_mode(text)));
        let (file_owner, file_group) = (written.file_owner, written.file_group);
        Settings { token_ttl, token_max_ttl, secret_id_ttl, file_mode, file_owner, file_group }
    }

    fn check_ttls(&mut self, place: Place, settings: Settings) {
        let Ttls { token_ttl, token_max_ttl, .. } = settings.ttls();
        if token_ttl > token_max_ttl {
            let [token_ttl, token_max_ttl] =
                [token_ttl, token_max_ttl].map(|ttl| humantime::format_duration(ttl).to_string());
            self.faults.push((place, Fault::TtlOrder { token_ttl, token_max_ttl }));
        }
    }

    fn service(&mut self, place: Place, written: WrittenService, defaults: Settings) -> ServiceRules {
        let settings = self.settings(&WrittenDefaults {
            token_ttl: written.token_ttl,
            token_max_ttl: written.token_max_ttl,
            secret_id_ttl: written.secret_id_ttl,
            file_mode: written.file_mode,
            file_owner: written.file_owner,
            file_group: written.file_group,
        });
        if settings.token_ttl.is_some() || settings.token_max_ttl.is_some() {
            self.check_ttls(place, settings.or(defaults));
        }
        let cidrs = written.cidrs.iter().filter_map(|cidr| self.read(cidr, |text| network(text))).collect();
        let rename = written.rename.into_iter().filter_map(|(key, name)| {
            let valid = |text: &String| match Pattern::parse(text) {
                Some(Pattern::Name(name)) => Ok(name),
                _ => Err(Fault::Pattern(text.clone())),
            };
            Some((self.place(&key), self.read(&key, valid)?, self.read(&name, valid)?))
        });
        let rename = rename.collect();
        ServiceRules { place, settings, cidrs, rename, rotates: written.rotates }
    }
}

/// A value that is generated has this many characters unless the manifest says otherwise.
const USUAL_LENGTH: usize = 32;

/// What a generated value is worth at the least, so that nobody can try them all.
const LEAST_BITS: usize = 64;

fn checked_alphabet(text: &str) -> Result<String, Fault> {
    let usable = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '`' | '\\' | '$');
    let repeats = text.char_indices().any(|(at, c)| text[..at].contains(c));
    if text.len() >= 2 && text.chars().all(usable) && !repeats {
        Ok(text.to_owned())
    } else {
        Err(Fault::Alphabet)
    }
}

fn checked_length(length: usize, characters: usize) -> Result<usize, Fault> {
    let needed = least_length(characters);
    if length >= needed { Ok(length) } else { Err(Fault::Guessable { length, characters, needed }) }
}

fn least_length(characters: usize) -> usize {
    // Whole bits would ask too much of small alphabets, so a tenth of a bit is the unit.
    let tenths = (characters as u128).pow(10).ilog2() as usize;
    (LEAST_BITS * 10).div_ceil(tenths)
}

fn whole_seconds(text: &str) -> Result<Duration, Fault> {
    let duration = humantime::parse_duration(text).map_err(|_| Fault::Duration(text.to_owned()))?;
    if duration.subsec_nanos() == 0 && !duration.is_zero() {
        Ok(duration)
    } else {
        Err(Fault::NoWholeSeconds)
    }
}

fn private_mode(text: &str) -> Result<u32, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = if digits { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| mode & !0o770 == 0 && mode & 0o400 != 0).ok_or_else(|| Fault::Mode(text.to_owned()))
}

/// An IPv4 or IPv6 network as Vault stores it.
fn network(text: &str) -> Result<String, Fault> {
    let invalid = || Fault::Cidr(text.to_owned());
    let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let prefix: u32 = prefix.parse().map_err(|_| invalid())?;
    let masked: IpAddr = match address {
        IpAddr::V4(v4) if prefix <= 32 => {
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) if prefix <= 128 => {
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into())
        }
        _ => return Err(invalid()),
    };
    let network = format!("{masked}/{prefix}");
    if masked == address {
        Ok(network)
    } else {
        Err(Fault::CidrHostBits { written: text.to_owned(), network })
    }
}
