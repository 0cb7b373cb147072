use std::fs;

use super::*;

const RULES: environment::Rules =
    environment::Rules { with_secrets: false, overwrite: false, speaks_to_vault: false };

fn outputs(dir: &Path) -> Outputs {
    Outputs {
        selection: Selection::default(),
        env_file: Some((dir.join("run/user.env"), Dialect::Compose)),
        files_dir: Some(dir.join("files")),
        templates: Vec::new(),
        attrs: Attrs::PRIVATE,
        environment: RULES,
        fingerprint_key: RandomState::new(),
    }
}

fn secrets(values: &[(&str, &str)]) -> Arc<Secrets> {
    Arc::new(Secrets::of(&[("user", values)]))
}

#[test]
fn writes_the_env_file_and_one_file_a_key_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let outputs = outputs(dir.path());
    let rendering = outputs.make(&secrets(&[("NAME", "users"), ("PASSWORD", "pa$w0rd")])).unwrap();
    assert_eq!(rendering.write().unwrap().len(), 2);
    assert!(fs::read_to_string(dir.path().join("run/user.env")).unwrap().contains("NAME="));
    assert_eq!(fs::read(dir.path().join("files/PASSWORD")).unwrap(), b"pa$w0rd");

    let again = outputs.make(&secrets(&[("NAME", "users"), ("PASSWORD", "pa$w0rd")])).unwrap();
    assert_eq!((again.write().unwrap().len(), again.fingerprint), (0, rendering.fingerprint));
    let other = outputs.make(&secrets(&[("NAME", "users"), ("PASSWORD", "other")])).unwrap();
    assert_ne!(other.fingerprint, rendering.fingerprint);
}

#[test]
fn nothing_is_written_where_one_output_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let Err(error) = outputs(dir.path()).make(&secrets(&[("GOOD", "1"), ("../BAD", "2")])) else {
        panic!("../BAD became a file");
    };
    assert!(agent_runtime::with_causes(&error).contains("../BAD"));
    assert!(!dir.path().join("run").exists() && !dir.path().join("files").exists());
}

#[test]
fn what_lies_in_the_files_directory_changes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::write(dir.path().join("app.tmpl"), "name = {{ secret('user').NAME }}").unwrap();
    let outputs = Outputs {
        env_file: Some((files.join("all.env"), Dialect::Json)),
        templates: vec![(Template::load(&dir.path().join("app.tmpl")).unwrap(), files.join("app.conf"))],
        ..outputs(dir.path())
    };
    outputs.make(&secrets(&[("NAME", "users")])).unwrap().write().unwrap();
    for name in ["NAME", "all.env", "app.conf"] {
        assert_eq!(fs::read_link(files.join(name)).unwrap(), Path::new("..data").join(name));
    }
    assert_eq!(fs::read(files.join("app.conf")).unwrap(), b"name = users");
    // A key of the same name would be one file with two contents.
    assert!(outputs.make(&secrets(&[("NAME", "users"), ("app.conf", "x")])).is_err());
}

#[test]
fn what_is_in_the_way_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/user.env");
    fs::create_dir_all(&path).unwrap();
    let rendering = outputs(dir.path()).make(&secrets(&[("NAME", "users")])).unwrap();
    let error = agent_runtime::with_causes(&rendering.write().unwrap_err());
    assert!(error.contains("user.env") && error.contains("a directory"), "{error}");
    assert!(path.is_dir());
}
