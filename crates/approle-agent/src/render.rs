//! Writing the secrets to files.
//!
//! Everything is made in memory before the first file is touched: a value that one output cannot carry, or a
//! template with a fault, leaves all of them as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env_file::Dialect;
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::{Attrs, Changed, SecretDir, SetFile};

use crate::AgentError;
use crate::args::OutputArgs;
use crate::environment::{self, Environment};
use crate::secrets::Secrets;
use crate::select::{Selection, Variables};
use crate::template::Template;

/// What is made of the secrets.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    selection: Selection,
    env_file: Option<(PathBuf, Dialect)>,
    files_dir: Option<PathBuf>,
    templates: Vec<(Template, PathBuf)>,
    attrs: Attrs,
    environment: environment::Rules,
    fingerprint_key: RandomState,
}

/// All content of one moment, not written yet.
pub(crate) struct Rendering {
    /// Each in a directory that it may share with anything.
    files: Vec<(PathBuf, SecretSlice<u8>)>,
    /// Those of the files directory, which change at one instant.
    set: Option<(PathBuf, BTreeMap<String, SecretSlice<u8>>)>,
    pub(crate) environment: Environment,
    /// Tells one content from another and betrays nothing of it.
    pub(crate) fingerprint: u64,
    attrs: Attrs,
}

impl Outputs {
    /// Reads the templates; two outputs of one path are an error.
    pub(crate) fn new(args: &OutputArgs, environment: environment::Rules) -> Result<Self, AgentError> {
        // The argument parser lets no other name through.
        let dialect = args.format.parse().unwrap_or(Dialect::Compose);
        let template = |(from, to): &(PathBuf, PathBuf)| Ok((Template::load(from)?, to.clone()));
        let outputs = Self {
            selection: Selection {
                keys: args.keys.clone(),
                prefix: args.prefix.clone().unwrap_or_default(),
                upper: args.upper,
            },
            env_file: args.env_file.clone().map(|path| (path, dialect)),
            files_dir: args.files_dir.clone(),
            templates: args.templates.iter().map(template).collect::<Result<_, AgentError>>()?,
            attrs: Attrs { mode: args.file_mode, owner: args.file_owner, group: args.file_group },
            environment,
            fingerprint_key: RandomState::new(),
        };
        let mut seen = BTreeSet::new();
        for path in outputs.paths() {
            if !seen.insert(path.components().collect::<PathBuf>()) {
                return Err(AgentError::SameOutput { path: path.to_owned() });
            }
        }
        Ok(outputs)
    }

    /// An error where there is no file to write.
    pub(crate) fn require_any(&self) -> Result<(), AgentError> {
        if self.paths().next().is_none() { Err(AgentError::NoOutput) } else { Ok(()) }
    }

    /// Who may read what is written.
    pub(crate) const fn attrs(&self) -> Attrs {
        self.attrs
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let env_file = self.env_file.iter().map(|(path, _)| path.as_path());
        let templates = self.templates.iter().map(|(_, path)| path.as_path());
        env_file.chain(self.files_dir.as_deref()).chain(templates)
    }

    /// Makes the content of every output, and CMD's environment.
    pub(crate) fn make(&self, secrets: &Arc<Secrets>) -> Result<Rendering, AgentError> {
        let variables = self.selection.of(secrets)?;
        let mut files = Vec::new();
        if let Some((path, dialect)) = &self.env_file {
            let content = env_file::write(*dialect, variables.iter()).map_err(AgentError::EnvFile)?;
            files.push((path.clone(), content));
        }
        if !self.templates.is_empty() {
            let inherited = Arc::new(std::env::vars_os().filter_map(as_text).collect());
            for (template, path) in &self.templates {
                files.push((path.clone(), template.render(secrets, &inherited)?));
            }
        }
        let mut set = None;
        if let Some(directory) = &self.files_dir {
            let mut members = one_a_key(&variables)?;
            let (inside, outside) = files.into_iter().partition(|(path, _)| is_in(path, directory));
            files = outside;
            for (path, content) in Vec::from_iter::<Vec<(PathBuf, SecretSlice<u8>)>>(inside) {
                if members.insert(file_name(&path)?.to_owned(), content).is_some() {
                    return Err(AgentError::SameOutput { path });
                }
            }
            set = Some((directory.clone(), members));
        }
        let environment = self.environment.make(std::env::vars_os(), &variables)?;
        let fingerprint = self.fingerprint(&variables, &files);
        Ok(Rendering { files, set, environment, fingerprint, attrs: self.attrs })
    }

    fn fingerprint(&self, variables: &Variables, files: &[(PathBuf, SecretSlice<u8>)]) -> u64 {
        let mut hasher = self.fingerprint_key.build_hasher();
        for (name, value) in variables.iter() {
            (name, value.expose_secret()).hash(&mut hasher);
        }
        for (path, content) in files {
            (path, content.expose_secret()).hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Rendering {
    /// Writes every output; each changes as a whole, and not at all where its content is the same. Gives those
    /// that changed.
    pub(crate) fn write(&self) -> Result<Vec<PathBuf>, AgentError> {
        let mut changed = Vec::new();
        for (path, content) in &self.files {
            let directory = SecretDir::create(parent(path), self.attrs.directory_mode())?;
            if directory.replace(file_name(path)?, content, self.attrs)? == Changed::Yes {
                changed.push(path.clone());
            }
        }
        if let Some((path, members)) = &self.set {
            let member = |(name, value)| SetFile { name, value, attrs: self.attrs };
            let files: Vec<_> = members.iter().map(|(name, value)| member((name.as_str(), value))).collect();
            if SecretDir::create(path, self.attrs.directory_mode())?.replace_set(&files)? == Changed::Yes {
                changed.push(path.clone());
            }
        }
        Ok(changed)
    }
}

fn one_a_key(variables: &Variables) -> Result<BTreeMap<String, SecretSlice<u8>>, AgentError> {
    variables
        .iter()
        .map(|(key, value)| {
            let is_name = !key.is_empty() && !key.starts_with('.') && !key.contains(['/', '\0']);
            if is_name {
                Ok((key.to_owned(), SecretSlice::from(value.expose_secret().as_bytes().to_vec())))
            } else {
                Err(AgentError::FileName { key: key.to_owned() })
            }
        })
        .collect()
}

fn as_text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

fn is_in(path: &Path, directory: &Path) -> bool {
    parent(path).components().eq(directory.components())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn file_name(path: &Path) -> Result<&str, AgentError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| AgentError::FileName { key: path.display().to_string() })
}

#[cfg(test)]
mod tests;
