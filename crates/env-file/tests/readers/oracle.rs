//! What the readers themselves make of a file: Docker Compose, python-dotenv, dotenvy, each in the versions at hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

/// What a file holds. A key without a value, which a reader takes from elsewhere, has none.
pub(crate) type Values = BTreeMap<String, Option<String>>;

/// What a reader says of a file; `None` where it refuses it.
pub(crate) type Read = Option<Values>;

/// One reader, and what it says of each file.
pub(crate) struct Answers {
    pub(crate) reader: String,
    pub(crate) read: Vec<Read>,
}

impl Answers {
    pub(crate) fn is_compose(&self) -> bool {
        self.reader.ends_with("docker-compose")
    }

    /// dotenvy gives up on a file, aloud, where the others read it: a value with blanks, a name with `-`.
    pub(crate) fn may_give_up(&self) -> bool {
        self.reader == "dotenvy"
    }
}

/// Asks every reader about every file. No reader finds a variable in its environment.
pub(crate) fn ask(files: &[Vec<u8>]) -> Vec<Answers> {
    let dir = tempfile::tempdir().unwrap();
    for (index, file) in files.iter().enumerate() {
        fs::write(dir.path().join(index.to_string()), file).unwrap();
    }
    let composes = thread::scope(|scope| {
        let ask = |program: PathBuf| Answers {
            reader: program.display().to_string(),
            read: compose(&program, dir.path(), files),
        };
        let asked: Vec<_> = harness::composes()
            .unwrap()
            .into_iter()
            .map(|program| scope.spawn(move || ask(program)))
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let pythons = harness::python_dotenvs().unwrap().into_iter().map(|module| Answers {
        reader: name(&module),
        read: python_dotenv(&module, dir.path(), files.len()),
    });
    let dotenvy =
        Answers { reader: "dotenvy".to_owned(), read: files.iter().map(|file| dotenvy(file)).collect() };
    composes.into_iter().chain(pythons).chain([dotenvy]).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// A thousand files cost few runs: a run that fails is split, and a file that is likely to be refused is asked about alone.
fn compose(program: &Path, dir: &Path, files: &[Vec<u8>]) -> Vec<Read> {
    let likely = |index: &usize| {
        env_file::parse(&files[*index], Path::new(""), env_file::ReadDialect::Compose).is_err()
    };
    let (refused, taken): (Vec<usize>, Vec<usize>) = (0..files.len()).partition(likely);
    let mut read = vec![None; files.len()];
    compose_some(program, dir, &taken, &mut read);
    for index in refused {
        compose_some(program, dir, &[index], &mut read);
    }
    read
}

fn compose_some(program: &Path, dir: &Path, indices: &[usize], read: &mut [Read]) {
    if indices.is_empty() {
        return;
    }
    if let Some(values) = compose_run(program, dir, indices) {
        for (index, values) in indices.iter().zip(values) {
            read[*index] = Some(values);
        }
    } else if indices.len() > 1 {
        let (one, other) = indices.split_at(indices.len() / 2);
        compose_some(program, dir, one, read);
        compose_some(program, dir, other, read);
    }
}

/// The environment that Compose would give to one service for each file, these being named by their numbers.
pub(crate) fn compose_run(program: &Path, dir: &Path, indices: &[usize]) -> Option<Vec<Values>> {
    let service = |index: &usize| {
        (format!("s{index}"), json!({ "image": "none", "env_file": [dir.join(index.to_string())] }))
    };
    let services: serde_json::Map<String, Value> = indices.iter().map(service).collect();
    let project = tempfile::tempdir().unwrap();
    let file = project.path().join("compose.json");
    fs::write(&file, json!({ "name": "readers", "services": services }).to_string()).unwrap();
    let outcome = Command::new(program)
        .env_clear()
        .args(["--project-directory", "/nonexistent", "--file"])
        .arg(&file)
        .args(["config", "--format", "json"])
        .output()
        .unwrap();
    if !outcome.status.success() {
        return None;
    }
    let config: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    let environment = |index: &usize| match &config["services"][format!("s{index}")]["environment"] {
        Value::Null => Values::new(),
        // `config` prints what can be read again, and doubles each `$`.
        found => values(found, |value| value.replace("$$", "$")),
    };
    Some(indices.iter().map(environment).collect())
}

fn python_dotenv(module: &Path, dir: &Path, count: usize) -> Vec<Read> {
    let script = "import dotenv, json, logging, sys\n\
        logging.disable()\n\
        def read(name):\n\
        \x20   try: return dotenv.dotenv_values(name, encoding='utf-8')\n\
        \x20   except UnicodeDecodeError: return None\n\
        json.dump([read(f'{sys.argv[1]}/{n}') for n in range(int(sys.argv[2]))], sys.stdout)\n";
    let outcome = Command::new(python())
        .env_clear()
        .env("PYTHONPATH", module)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-c", script])
        .arg(dir)
        .arg(count.to_string())
        .output()
        .unwrap();
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    let files: Vec<Value> = serde_json::from_slice(&outcome.stdout).unwrap();
    files.iter().map(|file| file.is_object().then(|| values(file, str::to_owned))).collect()
}

/// The interpreter itself: a shim that picks a version would find nothing in an empty environment.
fn python() -> PathBuf {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    assert!(asked.status.success(), "python3 is needed: {}", String::from_utf8_lossy(&asked.stderr));
    PathBuf::from(String::from_utf8(asked.stdout).unwrap().trim_end())
}

fn dotenvy(file: &[u8]) -> Read {
    let mut read = Values::new();
    for pair in dotenvy::from_read_iter(file) {
        let (key, value) = pair.ok()?;
        // It sets what is not set, so that the first of two counts.
        read.entry(key).or_insert(Some(value));
    }
    Some(read)
}

fn values(object: &Value, decode: impl Fn(&str) -> String) -> Values {
    let pair = |(key, value): (&String, &Value)| (key.clone(), value.as_str().map(&decode));
    object.as_object().unwrap().iter().map(pair).collect()
}
