//! `docker create --env-file`, by a real Docker Engine: the client reads the file, the engine tells what it was sent.

use std::fs;
use std::path::Path;
use std::process::Command;

use env_file::{Dialect, Entry, Fault, ReadDialect, parse};
use secrecy::ExposeSecret as _;

use super::{assert_same, output, round_trip};
use crate::random::{files, sample};

#[test]
fn docker_reads_docker_back() {
    let image = Image::of_nothing();
    let cannot_hold = |secret: &str| secret.contains(['\0', '\n']) || secret.ends_with('\r');
    round_trip(Dialect::Docker, cannot_hold, |file, held| {
        let expected: Vec<(String, String)> =
            held.iter().map(|(key, secret)| (key.clone(), format!("{key}={secret}"))).collect();
        assert_same(&image.environment(file).unwrap(), &expected, "docker");
    });
}

/// The dialect `literal` is docker's, except that nothing comes from the environment and no key is set twice.
#[test]
fn literal_is_read_as_by_docker() {
    let image = Image::of_nothing();
    let file = tempfile::NamedTempFile::new().unwrap();
    for content in sample(files(), 200) {
        fs::write(file.path(), &content).unwrap();
        let docker = image.environment(file.path());
        match (parse(content.as_bytes(), Path::new(".env"), ReadDialect::Literal), docker) {
            (Ok(taken), docker) => {
                let line = |entry: &Entry| format!("{}={}", entry.key, entry.value.expose_secret());
                let taken = taken.entries().iter().map(line).collect::<Vec<_>>();
                assert_eq!(Some(taken), docker, "{content:?}");
            }
            (Err(errors), Some(taken)) => {
                let stricter = |fault: &Fault| matches!(fault, Fault::NoEquals | Fault::Duplicate { .. });
                assert!(
                    errors.iter().all(|error| stricter(&error.fault)),
                    "{content:?}: {taken:?}, {errors}"
                );
            }
            (Err(_), None) => {}
        }
    }
}

/// An image without a file in it, of which containers are made and none is started.
pub(crate) struct Image {
    id: String,
}

impl Image {
    pub(crate) fn of_nothing() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("empty.tar");
        // The end of an archive is two blocks of zeros.
        fs::write(&archive, [0; 1024]).unwrap();
        Self { id: text(output(docker().arg("import").arg(&archive))) }
    }

    /// The environment of a container with this env file; `None` where the client refuses the file.
    pub(crate) fn environment(&self, file: &Path) -> Option<Vec<String>> {
        let mut create = docker();
        let created =
            create.arg("create").arg("--env-file").arg(file).arg(&self.id).arg("none").output().unwrap();
        if !created.status.success() {
            let said = String::from_utf8_lossy(&created.stderr);
            // By its version.
            let of_file =
                ["invalid env", "poorly formatted environment"].iter().any(|text| said.contains(text));
            assert!(of_file, "docker refuses for another reason: {said}");
            return None;
        }
        let container = text(created.stdout);
        let environment = output(docker().args(["inspect", "--format", "{{json .Config.Env}}", &container]));
        output(docker().args(["rm", &container]));
        let environment: Option<Vec<String>> = serde_json::from_slice(&environment).unwrap();
        Some(environment.unwrap_or_default())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = docker().args(["rmi", "--force", &self.id]).output();
    }
}

fn docker() -> Command {
    Command::new(harness::docker().unwrap())
}

fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).unwrap().trim_end().to_owned()
}
