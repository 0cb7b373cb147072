//! The token sink: a file in which others find the token.

use std::path::{Path, PathBuf};

use agent_runtime::with_causes;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use secret_file::{Attrs, FileError, SecretDir};

/// Far above what Vault makes (some hundred characters).
const MAX_TOKEN: usize = 4096;

/// A file that holds the current token, and outlives the program.
#[derive(Debug)]
pub struct Sink {
    path: PathBuf,
    attrs: Attrs,
    /// What was written last.
    held: Option<SecretString>,
    failing: bool,
}

impl Sink {
    /// The sink at this path, readable for whom `attrs` says.
    #[must_use]
    pub const fn new(path: PathBuf, attrs: Attrs) -> Self {
        Self { path, attrs, held: None, failing: false }
    }

    /// The token in it; none where it cannot be read, which is said.
    pub(crate) fn token(&self) -> Option<SecretString> {
        match secret_file::read_text(&self.path, MAX_TOKEN) {
            Ok(token) => Some(token),
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                tracing::warn!("the token sink is not taken up: {}", with_causes(&error));
                None
            }
        }
    }

    /// Makes this token the one in it. `false` where that failed; it is said once, and worth trying again.
    pub(crate) fn take(&mut self, token: &SecretString) -> bool {
        if self.held.as_ref().is_some_and(|held| held.expose_secret() == token.expose_secret()) {
            return true;
        }
        match self.write(token) {
            Ok(()) => {
                self.held = Some(token.clone());
                self.failing = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("the token sink stays as it is: {}", with_causes(&error));
                }
                false
            }
        }
    }

    fn write(&self, token: &SecretString) -> Result<(), FileError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // A path without a name is refused by the write.
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let content = SecretSlice::from(token.expose_secret().as_bytes().to_vec());
        let directory = SecretDir::create(parent.unwrap_or(Path::new(".")), self.attrs.directory_mode())?;
        directory.replace(name, &content, self.attrs).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_token_that_it_could_take() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/token");
        let mut sink = Sink::new(path.clone(), Attrs::PRIVATE);
        assert!(sink.token().is_none());
        assert!(sink.take(&"canary-1".into()) && sink.take(&"canary-2".into()));
        assert_eq!(sink.token().unwrap().expose_secret(), "canary-2");
        assert!(!format!("{sink:?}").contains("canary"));

        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(sink.take(&"canary-2".into()), "what was written is not written again");
        assert!(!sink.take(&"canary-3".into()));
    }
}
