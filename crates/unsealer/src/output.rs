//! A command's answer on stdout, for people or for programs.

use agent_runtime::Exit;
use serde::Serialize;

use crate::UnsealerError;

/// Prints `text`, or `value` as JSON, and gives `exit`.
pub(crate) fn answer(
    json: bool,
    value: &impl Serialize,
    text: &str,
    exit: Exit,
) -> Result<Exit, UnsealerError> {
    if json {
        // Strings, numbers, lists: nothing that JSON cannot say.
        agent_runtime::print(&(serde_json::to_string_pretty(value).unwrap_or_default() + "\n"))?;
    } else {
        agent_runtime::print(text)?;
    }
    Ok(exit)
}
