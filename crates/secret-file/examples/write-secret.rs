//! Writes what it reads from its standard input to one file, or to each file of a set.
//!
//! ```sh
//! write-secret replace|create-new DIRECTORY NAME < value
//! write-secret set DIRECTORY NAME… < value
//! ```
//!
//! The tests trace it and make its system calls fail or kill it, one after another.

use std::env;
use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use secrecy::SecretSlice;
use secret_file::{Attrs, SecretDir, SetFile};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            // Nobody is left to tell that it cannot be told.
            let _ = writeln!(io::stderr(), "{error}{cause}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [job, directory, names @ ..] = arguments.as_slice() else {
        return Err("no job and directory".into());
    };
    let mut value = Vec::new();
    io::stdin().read_to_end(&mut value)?;
    let value = SecretSlice::from(value);
    let directory = SecretDir::open(Path::new(directory))?;
    let attrs = Attrs::mode(0o440);
    match (job.as_str(), names) {
        ("replace", [name]) => directory.replace(name, &value, attrs).map(drop)?,
        ("create-new", [name]) => directory.create_new(name, &value, attrs)?,
        ("set", names) => {
            let files: Vec<_> = names.iter().map(|name| SetFile { name, value: &value, attrs }).collect();
            directory.replace_set(&files).map(drop)?;
        }
        _ => return Err("unknown job, or not its number of names".into()),
    }
    Ok(())
}
