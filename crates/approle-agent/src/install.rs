//! Putting this program where images that cannot be rebuilt find it.

use std::fs;
use std::path::Path;

use secrecy::SecretSlice;
use secret_file::{Attrs, Changed, SecretDir};

use crate::AgentError;

/// Copies the running program to `approle-agent` in the directory, for everybody to execute. Whoever runs the one
/// that is there already goes on with that.
pub(crate) fn install(directory: &Path) -> Result<Changed, AgentError> {
    const NAME: &str = "approle-agent";
    let own = std::env::current_exe().and_then(fs::read).map_err(AgentError::OwnProgram)?;
    let program = SecretSlice::from(own);
    Ok(SecretDir::create(directory, 0o755)?.replace(NAME, &program, Attrs::mode(0o555))?)
}
