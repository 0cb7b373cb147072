//! What there is to be: the .env file, the manifest and the policies, together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use env_file::{EnvFile, ReadDialect};
use secrecy::{ExposeSecret as _, SecretString};
use secret_file::{Attrs, FileError};
use vault_client::approle::Role;

use crate::BootstrapError;
use crate::args::{Sources, Stack};
use crate::deliver::Delivery;
use crate::manifest::{GenerateSpec, Manifest, Service, Source, is_service_name, resolve};
use crate::mark::Mark;

/// What a policy file's name ends in, behind the service's name.
pub(crate) const POLICY_FILE: &str = "-policy.hcl";

/// The manifest's name, where none is given.
pub(crate) const MANIFEST_FILE: &str = "vaultcrew.toml";

/// Above these sizes a file is not what it is taken for.
pub(crate) const MAX_ENV_FILE: usize = 64 * 1024 * 1024;
pub(crate) const MAX_TEXT_FILE: usize = 4 * 1024 * 1024;

/// Every service, and what no service claims.
#[derive(Debug)]
pub(crate) struct Desired {
    pub(crate) services: Vec<DesiredService>,
    /// What is made for them carries it.
    pub(crate) mark: Mark,
    /// Keys of the .env file, and their lines.
    unclaimed: Vec<(String, usize)>,
    env_file: PathBuf,
}

/// One service.
#[derive(Debug)]
pub(crate) struct DesiredService {
    pub(crate) name: String,
    /// The policy's text as it is in Vault.
    pub(crate) policy: String,
    pub(crate) role: Role,
    /// The secret's values; `None` for one that is generated.
    pub(crate) secret: BTreeMap<String, Option<SecretString>>,
    /// How, for those.
    pub(crate) generated: BTreeMap<String, GenerateSpec>,
    attrs: Attrs,
}

/// The name of a service's policy.
pub(crate) fn policy_name(service: &str) -> String {
    format!("{service}-policy")
}

impl Desired {
    /// Reads and checks all files. Nothing is asked of Vault before this has succeeded.
    pub(crate) fn load(sources: &Sources) -> Result<Self, BootstrapError> {
        let content =
            secret_file::read_file(&sources.env_file, MAX_ENV_FILE).map_err(BootstrapError::EnvFile)?;
        let mode = fs::metadata(&sources.env_file).ok().map(|found| found.mode());
        if let Some((why, mend)) = mode.and_then(|mode| exposure(&sources.env_file, mode)) {
            tracing::warn!("{}: {why}; {mend}", sources.env_file.display());
        }
        // The argument parser lets no other name through.
        let dialect = sources.dialect.parse().unwrap_or(ReadDialect::Strict);
        let env = env_file::parse(content.expose_secret(), &sources.env_file, dialect)?;
        let manifest = manifest(sources)?;
        let policies = policy_texts(&sources.policies_dir)?;
        Self::from_parts(&manifest, &policies, &env, &sources.env_file)
    }

    fn from_parts(
        manifest: &Manifest,
        policies: &BTreeMap<String, String>,
        env: &EnvFile,
        env_file: &Path,
    ) -> Result<Self, BootstrapError> {
        let names: Vec<String> = policies.keys().cloned().collect();
        let resolved = resolve(manifest, &names, env).map_err(BootstrapError::Manifest)?;
        let mark = Mark { stack: manifest.stack().map(str::to_owned) };
        let services = resolved.services.into_iter().map(|service| {
            let policy = policies
                .get(&service.name)
                .map(|text| mark.on_policy(&service.name, text))
                .unwrap_or_default();
            DesiredService::new(service, policy)
        });
        let services = services.collect();
        Ok(Self { services, mark, unclaimed: resolved.unclaimed, env_file: env_file.to_owned() })
    }

    /// The services' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.name.as_str())
    }

    /// The keys of the .env file whose generated values several services share.
    pub(crate) fn shared_generated(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let keys = self.services.iter().flat_map(|service| service.generated.values());
        keys.map(|spec| spec.env_key.as_str()).filter(|key| !seen.insert(*key)).collect()
    }

    /// A line for each key that no service claims: nothing is dropped in silence.
    pub(crate) fn unclaimed_lines(&self) -> Vec<String> {
        let line = |(key, line): &(String, usize)| {
            format!(
                "! {}:{line}: no service claims {key}; give it to one in vaultcrew.toml, or list it there under ignore",
                self.env_file.display()
            )
        };
        self.unclaimed.iter().map(line).collect()
    }
}

impl DesiredService {
    fn new(service: Service, policy: String) -> Self {
        let role = Role {
            token_policies: vec![policy_name(&service.name)],
            token_ttl: service.ttls.token_ttl,
            token_max_ttl: service.ttls.token_max_ttl,
            secret_id_ttl: service.ttls.secret_id_ttl,
            secret_id_bound_cidrs: service.cidrs.clone(),
            token_bound_cidrs: service.cidrs.clone(),
            ..Role::default()
        };
        let (mut secret, mut generated) = (BTreeMap::new(), BTreeMap::new());
        for (key, source) in service.secret {
            match source {
                Source::Env(value) => secret.insert(key, Some(value)),
                Source::Generate(how) => {
                    generated.insert(key.clone(), how);
                    secret.insert(key, None)
                }
            };
        }
        let attrs =
            Attrs { mode: service.files.mode, owner: service.files.owner, group: service.files.group };
        Self { name: service.name, policy, role, secret, generated, attrs }
    }

    /// Where its credentials go.
    pub(crate) fn delivery(&self, stack: &Stack) -> Delivery {
        Delivery {
            mount: stack.approle_mount.clone(),
            role: self.name.clone(),
            directory: stack.approle_dir.join(&self.name),
            attrs: self.attrs,
            directory_mode: 0o750,
        }
    }
}

/// Why a file of secrets with this mode is everybody's or its group's, and what to run.
pub(crate) fn exposure(path: &Path, mode: u32) -> Option<(String, String)> {
    let others = match (mode & 0o070, mode & 0o007) {
        (0, 0) => return None,
        (_, 0) => "its group",
        _ => "every user of this machine",
    };
    let why = format!("its mode is {:04o}: {others} gets at all the secrets in it", mode & 0o777);
    Some((why, format!("chmod 600 {}", path.display())))
}

fn manifest(sources: &Sources) -> Result<Manifest, BootstrapError> {
    let beside = sources.env_file.with_file_name(MANIFEST_FILE);
    let (path, required) = sources.manifest.as_ref().map_or((&beside, false), |path| (path, true));
    match secret_file::read_text(path, MAX_TEXT_FILE) {
        Ok(text) => Manifest::parse(text.expose_secret(), path).map_err(BootstrapError::Manifest),
        Err(FileError::Empty { .. }) => Ok(Manifest::empty()),
        Err(error) if error.is_not_found() && !required => Ok(Manifest::empty()),
        Err(error) => Err(BootstrapError::ManifestFile(error)),
    }
}

/// The policies by their services, as they stand in the files `<service>-policy.hcl`.
pub(crate) fn policy_texts(directory: &Path) -> Result<BTreeMap<String, String>, BootstrapError> {
    let failed = |cause| BootstrapError::PoliciesDir { path: directory.to_owned(), cause };
    let mut policies = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(service) = name.to_str().and_then(|name| name.strip_suffix(POLICY_FILE)) else { continue };
        let text = secret_file::read_text(&entry.path(), MAX_TEXT_FILE).map_err(BootstrapError::Policy)?;
        policies.insert(service.to_owned(), text.expose_secret().to_owned());
    }
    if policies.is_empty() {
        return Err(BootstrapError::NoPolicies(directory.to_owned()));
    }
    Ok(policies)
}

/// The service whose policy has this name.
pub(crate) fn service_of_policy(policy_name: &str) -> Option<&str> {
    policy_name.strip_suffix("-policy").filter(|name| is_service_name(name))
}
