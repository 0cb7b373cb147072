//! The files as they are. What cannot be read is a finding, and the rest is looked at all the same.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_runtime::with_causes;
use env_file::ReadDialect;
use secrecy::{ExposeSecret as _, SecretSlice};
use secret_file::FileError;

use super::finding::{Finding, why_and_mend};
use super::rule::Rule;
use crate::args::Sources;
use crate::desired::{MANIFEST_FILE, MAX_ENV_FILE, MAX_TEXT_FILE, POLICY_FILE};

/// What there is to check.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) env_file: PathBuf,
    pub(super) dialect: ReadDialect,
    /// `None` where it cannot be read.
    pub(super) env: Option<SecretSlice<u8>>,
    pub(super) env_mode: Option<u32>,
    pub(super) manifest_path: PathBuf,
    /// `None` where it cannot be read; empty where there is none.
    pub(super) manifest: Option<String>,
    pub(super) policies_dir: PathBuf,
    pub(super) policies: Vec<PolicyFile>,
    /// Names of files in the directory that are no policy's.
    pub(super) other_files: Vec<String>,
    pub(super) kv_mount: String,
    /// What kept this from being more.
    pub(super) unreadable: Vec<Finding>,
}

/// One `<service>-policy.hcl`.
#[derive(Debug)]
pub(super) struct PolicyFile {
    pub(super) path: PathBuf,
    pub(super) service: String,
    /// `None` where it cannot be read.
    pub(super) text: Option<String>,
}

impl Inputs {
    /// Reads all files.
    pub(super) fn read(sources: &Sources, kv_mount: &str) -> Self {
        let beside = sources.env_file.with_file_name(MANIFEST_FILE);
        let mut inputs = Self {
            env_file: sources.env_file.clone(),
            // The argument parser lets no other name through.
            dialect: sources.dialect.parse().unwrap_or(ReadDialect::Strict),
            env: None,
            env_mode: fs::metadata(&sources.env_file).ok().map(|found| found.mode()),
            manifest_path: sources.manifest.clone().unwrap_or(beside),
            manifest: None,
            policies_dir: sources.policies_dir.clone(),
            policies: Vec::new(),
            other_files: Vec::new(),
            kv_mount: kv_mount.trim_matches('/').to_owned(),
            unreadable: Vec::new(),
        };
        inputs.read_env();
        inputs.read_manifest(sources.manifest.is_some());
        if let Err(cause) = inputs.read_policies() {
            let why = format!("the policies cannot be listed: {cause}");
            let mend = "make the directory, with one <service>-policy.hcl for each service, or name it with --policies-dir";
            let finding = Finding::of_file(Rule::FileUnreadable, &inputs.policies_dir, why, mend);
            inputs.unreadable.push(finding);
        }
        inputs
    }

    /// The services' names, in the order of the policies.
    pub(super) fn services(&self) -> Vec<String> {
        self.policies.iter().map(|policy| policy.service.clone()).collect()
    }

    fn read_env(&mut self) {
        match secret_file::read_file(&self.env_file, MAX_ENV_FILE) {
            Ok(content) => self.env = Some(content),
            Err(error) => {
                let mend =
                    "write it, or name another with --env-file; a missing one is not taken for an empty one";
                self.unreadable.push(unreadable(&self.env_file, &error, mend));
            }
        }
    }

    fn read_manifest(&mut self, required: bool) {
        match secret_file::read_text(&self.manifest_path, MAX_TEXT_FILE) {
            Ok(text) => self.manifest = Some(text.expose_secret().to_owned()),
            Err(FileError::Empty { .. }) => self.manifest = Some(String::new()),
            Err(error) if error.is_not_found() && !required => self.manifest = Some(String::new()),
            Err(error) => {
                let mend = "write it, or leave out --manifest: the convention needs none";
                self.unreadable.push(unreadable(&self.manifest_path, &error, mend));
            }
        }
    }

    fn read_policies(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.policies_dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(service) = name.strip_suffix(POLICY_FILE) else {
                self.other_files.push(name);
                continue;
            };
            let path = entry.path();
            let text = match secret_file::read_text(&path, MAX_TEXT_FILE) {
                Ok(text) => Some(text.expose_secret().to_owned()),
                Err(FileError::Empty { .. }) => Some(String::new()),
                Err(error) => {
                    self.unreadable.push(unreadable(&path, &error, "make it a readable text file"));
                    None
                }
            };
            self.policies.push(PolicyFile { path, service: service.to_owned(), text });
        }
        self.policies.sort_by(|one, other| one.service.cmp(&other.service));
        self.other_files.sort();
        Ok(())
    }
}

fn unreadable(path: &Path, error: &FileError, usual_mend: &str) -> Finding {
    let (why, mend) = why_and_mend(&with_causes(error), usual_mend);
    Finding::of_file(Rule::FileUnreadable, path, why, mend)
}
