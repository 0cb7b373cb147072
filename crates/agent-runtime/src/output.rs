//! What a command answers with, on stdout.

use std::io::{self, ErrorKind, Write as _};

/// Writes `text` to stdout. A reader that has left (`unsealer status | head -1`) is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
