//! The images: the four programs', and those that stand in for the official ones. They stay between runs, and are built anew
//! when what is in them changes. `docker image rm $(docker image ls -q --filter label=org.vaultcrew.test)` removes them.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::Programs;

use crate::engine::{LABEL, docker, run, told};

/// What the images' names begin with.
pub(crate) const PREFIX: &str = "vaultcrew-test";
/// The targets of `compose/Dockerfile`.
pub(crate) const PROGRAMS: [&str; 4] = ["unsealer", "bootstrap", "approle-agent", "db-init"];

const DEBIAN: &str = "debian:bookworm-slim";

/// Builds what is missing or outdated. Of several tests at once one does, and the others wait.
pub(crate) fn build() {
    let _lock = lock();
    let base = base();
    for stand_in in ["vault", "postgres", "monitoring"] {
        let mut context = Context::of(&images().join(stand_in));
        if stand_in == "vault" {
            context.add(&harness::server().unwrap(), "bao");
        }
        context.build(&name(stand_in), &base, &[]);
    }
    let programs = Programs::locate();
    for program in PROGRAMS {
        let mut context = Context::of(&compose_dir());
        context.dockerfile = compose_dir().join("Dockerfile");
        context.files.clear();
        for program in PROGRAMS {
            context.add(&programs.path(program), program);
        }
        context.build(&name(program), &base, &["--build-arg=PROGRAMS=prebuilt", "--target", program]);
    }
    // The images that these took the names of.
    let ours = format!("label={LABEL}");
    told(&mut docker(["image", "prune", "--force", "--filter", &ours]));
}

/// The same image once more, under another digest and with this tag.
pub(crate) fn build_again(image: &str, tag: &str) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Dockerfile"), format!("FROM {}\nLABEL built=again\n", name(image))).unwrap();
    let tag = format!("--tag={}:{tag}", name(image));
    let mut build = Command::new(harness::buildx().unwrap());
    run(build.args(["build", "--quiet", "--load", &tag]).arg(dir.path())).success();
}

/// An earlier version of the server, with the tag `earlier`.
pub(crate) fn build_earlier_vault() {
    let _lock = lock();
    let mut context = Context::of(&images().join("vault"));
    context.add(&harness::earlier_server().unwrap(), "bao");
    context.build(&(name("vault") + ":earlier"), &base(), &[]);
}

/// The name of one of our images.
pub(crate) fn name(image: &str) -> String {
    format!("{PREFIX}/{image}")
}

/// The stack that is tested.
pub(crate) fn compose_dir() -> PathBuf {
    repository().join("compose")
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/e2e is two deep").to_owned()
}

fn lock() -> File {
    let path = harness::tools_dir().join("images.lock");
    let lock = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    lock.lock().unwrap();
    lock
}

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compose/images")
}

fn is_there(image: &str) -> bool {
    run(&mut docker(["image", "inspect", image])).code() == 0
}

/// Debian as an image: here, pulled, or made from its packages.
pub(crate) fn base() -> String {
    if is_there(DEBIAN) || run(&mut docker(["pull", "--quiet", DEBIAN])).code() == 0 {
        return DEBIAN.to_owned();
    }
    let own = name("debian");
    if !is_there(&own) {
        let dir = tempfile::tempdir().unwrap();
        run(Command::new("debootstrap").args(["--variant=minbase", "bookworm"]).arg(dir.path())).success();
        let mut archive = Command::new("tar");
        let mut archive =
            archive.arg("-C").arg(dir.path()).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let label = format!("LABEL {LABEL}=base");
        let mut import = docker(["import", "--change", &label, "-", &own]);
        assert!(import.stdin(archive.stdout.take().unwrap()).status().unwrap().success());
        assert!(archive.wait().unwrap().success());
    }
    own
}

/// What an image is built from.
struct Context {
    dockerfile: PathBuf,
    /// Files, and the names that the Dockerfile knows them by.
    files: Vec<(PathBuf, String)>,
}

impl Context {
    /// A directory's files, among them its Dockerfile.
    fn of(dir: &Path) -> Self {
        let files =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut files: Vec<_> = files.map(|path| (path.clone(), name(&path))).collect();
        files.sort();
        Self { dockerfile: dir.join("Dockerfile"), files }
    }

    fn add(&mut self, file: &Path, name: &str) {
        self.files.push((file.to_owned(), name.to_owned()));
    }

    fn build(&self, image: &str, base: &str, options: &[&str]) {
        let made_of = self.digest(base);
        let label = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
        if run(&mut docker(["image", "inspect", "--format", &label, image])).stdout.trim() == made_of {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for (file, name) in &self.files {
            let copy = dir.path().join(name);
            fs::copy(file, &copy).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        let mut build = Command::new(harness::buildx().unwrap());
        build.args(["build", "--quiet", "--load", "--tag", image, "--label", &format!("{LABEL}={made_of}")]);
        build.args(["--build-arg", &format!("BASE={base}")]).args(options);
        run(build.arg("--file").arg(&self.dockerfile).arg(dir.path())).success();
    }

    /// Tells whether anything changed: texts by their content, programs by their time too, which is quicker.
    fn digest(&self, base: &str) -> String {
        let mut hasher = DefaultHasher::new();
        base.hash(&mut hasher);
        for (file, name) in self.files.iter().chain([&(self.dockerfile.clone(), String::new())]) {
            let metadata = fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            (name, metadata.len()).hash(&mut hasher);
            if metadata.len() < 1 << 20 {
                fs::read(file).unwrap().hash(&mut hasher);
            } else {
                (metadata.mtime(), metadata.mtime_nsec()).hash(&mut hasher);
            }
        }
        format!("{:016x}", hasher.finish())
    }
}
