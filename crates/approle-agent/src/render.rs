//! Writing the secrets to files.

use std::path::{Path, PathBuf};

use env_file::Dialect;
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::{Attrs, Changed, SecretDir, SetFile};

use crate::AgentError;
use crate::args::OutputArgs;
use crate::secrets::Secrets;

/// The files that the secrets are written to.
#[derive(Clone, Debug)]
pub(crate) struct Outputs {
    env_file: Option<(PathBuf, Dialect)>,
    files_dir: Option<PathBuf>,
    attrs: Attrs,
}

impl Outputs {
    pub(crate) fn new(args: &OutputArgs) -> Self {
        // The argument parser lets no other name through.
        let dialect = args.format.parse().unwrap_or(Dialect::Compose);
        Self {
            env_file: args.env_file.clone().map(|path| (path, dialect)),
            files_dir: args.files_dir.clone(),
            attrs: Attrs::mode(args.file_mode),
        }
    }

    /// An error where there is no file to write.
    pub(crate) fn require_any(&self) -> Result<(), AgentError> {
        if self.env_file.is_none() && self.files_dir.is_none() { Err(AgentError::NoOutput) } else { Ok(()) }
    }

    /// Writes every output; each changes as a whole, and not at all where its content is the same.
    ///
    /// All content is made before the first file is touched.
    pub(crate) fn render(&self, secrets: &Secrets) -> Result<Changed, AgentError> {
        let env_file = self.env_file.as_ref().map(|(path, dialect)| {
            let content = env_file::write(*dialect, secrets.iter()).map_err(AgentError::EnvFile)?;
            Ok::<_, AgentError>((path, content))
        });
        let env_file = env_file.transpose()?;
        let files = self.files_dir.as_ref().map(|dir| Ok::<_, AgentError>((dir, one_a_key(secrets)?)));
        let files = files.transpose()?;

        let mut changed = Changed::No;
        if let Some((path, content)) = env_file {
            let directory = SecretDir::create(parent(path), 0o700)?;
            if directory.replace(file_name(path)?, &content, self.attrs)? == Changed::Yes {
                changed = Changed::Yes;
            }
        }
        if let Some((dir, files)) = files {
            let set: Vec<_> =
                files.iter().map(|(name, value)| SetFile { name, value, attrs: self.attrs }).collect();
            if SecretDir::create(dir, 0o700)?.replace_set(&set)? == Changed::Yes {
                changed = Changed::Yes;
            }
        }
        Ok(changed)
    }
}

fn one_a_key(secrets: &Secrets) -> Result<Vec<(&str, SecretSlice<u8>)>, AgentError> {
    secrets
        .iter()
        .map(|(key, value)| {
            let is_name = !key.is_empty() && !key.starts_with('.') && !key.contains(['/', '\0']);
            if is_name {
                Ok((key, SecretSlice::from(value.expose_secret().as_bytes().to_vec())))
            } else {
                Err(AgentError::FileName { key: key.to_owned() })
            }
        })
        .collect()
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
mod tests {
    use std::fs;

    use super::*;

    fn outputs(dir: &Path) -> Outputs {
        Outputs {
            env_file: Some((dir.join("run/user.env"), Dialect::Compose)),
            files_dir: Some(dir.join("files")),
            attrs: Attrs::PRIVATE,
        }
    }

    #[test]
    fn writes_the_env_file_and_one_file_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = outputs(dir.path());
        let secrets = Secrets::of(&[("USER_DB_NAME", "users"), ("USER_DB_PASSWORD", "pa$w0rd")]);
        assert_eq!(outputs.render(&secrets).unwrap(), Changed::Yes);
        assert!(fs::read_to_string(dir.path().join("run/user.env")).unwrap().contains("USER_DB_NAME="));
        assert_eq!(fs::read(dir.path().join("files/USER_DB_PASSWORD")).unwrap(), b"pa$w0rd");
        assert_eq!(outputs.render(&secrets).unwrap(), Changed::No);
    }

    #[test]
    fn nothing_is_written_where_one_output_cannot_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let error = outputs(dir.path()).render(&Secrets::of(&[("GOOD", "1"), ("../BAD", "2")])).unwrap_err();
        assert!(error.to_string().len() > 10);
        assert!(!dir.path().join("run").exists() && !dir.path().join("files").exists());
    }
}
