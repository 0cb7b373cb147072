//! Carrying a plan out, in an order in which what is killed anywhere is finished by the next apply.

use std::collections::HashSet;

use vault_client::kv2::Written;
use vault_client::{VaultClient, VaultError, approle, kv2, mounts, policy};

use crate::BootstrapError;
use crate::args::Stack;
use crate::audit;
use crate::concurrent::for_each;
use crate::desired::policy_name;
use crate::ledger::Ledger;
use crate::mark::MARK;
use crate::observed::path;
use crate::plan::{Lockout, Plan, SecretPlan, ServicePlan};

/// Does all that the plan says, save the removal of what the files dropped.
pub(crate) async fn carry_out(
    root: &VaultClient,
    plan: Plan,
    stack: &Stack,
    ledger: &mut Ledger,
) -> Result<(), BootstrapError> {
    make_mounts(root, &plan, stack).await?;
    record(&plan, stack, ledger)?;
    let services = plan.services.into_iter().filter(|service| !service.is_empty());
    // A value that is generated for several services is written to the first of them before the others: who is
    // overtaken there takes the value that was faster, and all hold the same.
    let (followers, leaders): (Vec<_>, Vec<_>) = services.partition(|service| service.follows);
    let (kv, approle) = (stack.kv_mount.as_str(), stack.approle_mount.as_str());
    let written = for_each("writing services", leaders, |service| {
        let (root, kv, approle) = (root.clone(), kv.to_owned(), approle.to_owned());
        async move { apply_service(&root, &kv, &approle, service).await }
    });
    for (name, written) in written.await?.into_iter().flatten() {
        ledger.written(&path(kv, &name), &written);
    }
    for service in followers {
        if let Some((name, written)) = apply_service(root, kv, approle, service).await? {
            ledger.written(&path(kv, &name), &written);
        }
    }
    ledger.save(&stack.state_dir).map_err(BootstrapError::StateDir)
}

async fn make_mounts(root: &VaultClient, plan: &Plan, stack: &Stack) -> Result<(), BootstrapError> {
    let (kv, approle) = (&stack.kv_mount, &stack.approle_mount);
    if plan.enable_kv {
        mounts::enable_kv2(root, kv, &format!("{MARK}: secrets of the services"), root.soon())
            .await
            .map_err(enabling(format!("the secrets engine {kv}/")))?;
    }
    if plan.enable_approle {
        mounts::enable_approle(root, approle, &format!("{MARK}: logins of the services"), root.soon())
            .await
            .map_err(enabling(format!("the auth method auth/{approle}/")))?;
    }
    if let Some(file) = plan.audit.enables(plan.audit_file.as_deref()) {
        audit::enable(root, file).await;
    }
    if plan.lockout == Lockout::Disable {
        mounts::disable_lockout(root, approle, root.soon())
            .await
            .map_err(BootstrapError::vault(format!("switching the user lockout of auth/{approle}/ off")))?;
    }
    Ok(())
}

/// The error of a mount that could not be made; another may have made it just now.
pub(crate) fn enabling(what: String) -> impl FnOnce(VaultError) -> BootstrapError {
    move |cause| match cause {
        cause if mounts::is_taken(&cause) => BootstrapError::Overtaken { what, cause },
        cause => BootstrapError::Vault { doing: format!("enabling {what}"), cause },
    }
}

/// Notes on disk what is about to be written, before it is: nobody else can tell after a kill.
fn record(plan: &Plan, stack: &Stack, ledger: &mut Ledger) -> Result<(), BootstrapError> {
    let kv = &stack.kv_mount;
    let paths: HashSet<String> = plan.services.iter().map(|service| path(kv, &service.name)).collect();
    ledger.keep_only(|kept| paths.contains(kept));
    for service in plan.services.iter().filter(|service| !service.secret.is_settled) {
        let SecretPlan { values, applied, found, .. } = &service.secret;
        ledger.record(&path(kv, &service.name), found.as_ref(), values, applied);
    }
    ledger.save(&stack.state_dir).map_err(BootstrapError::StateDir)
}

/// Secret and note, then the policy, then the role: a role that was there before is noted as such before a policy of
/// ours would make it pass for ours.
async fn apply_service(
    root: &VaultClient,
    kv: &str,
    approle: &str,
    plan: ServicePlan,
) -> Result<Option<(String, Written)>, BootstrapError> {
    let ServicePlan { name, policy, role, secret, .. } = plan;
    let written = apply_secret(root, kv, &name, secret).await?;
    if let Some((text, _)) = policy {
        let policy_name = policy_name(&name);
        policy::write(root, &policy_name, &text, root.soon())
            .await
            .map_err(BootstrapError::vault(format!("writing the policy {policy_name}")))?;
    }
    if let Some((role, _)) = role {
        approle::write_role(root, approle, &name, &role, root.soon())
            .await
            .map_err(BootstrapError::vault(format!("writing the role {name}")))?;
    }
    Ok(written.map(|written| (name, written)))
}

/// Writes a version by check-and-set, then the note of it. After a kill in between, the record on disk tells the
/// next apply whose version that is.
async fn apply_secret(
    root: &VaultClient,
    kv: &str,
    name: &str,
    plan: SecretPlan,
) -> Result<Option<Written>, BootstrapError> {
    let path = path(kv, name);
    let doing = || BootstrapError::vault(format!("writing the secret {path}"));
    let mut written = None;
    if let Some(current) = plan.write_on {
        let write = kv2::write(root, kv, name, &plan.values, current, root.soon()).await;
        written = Some(match write {
            Err(cause) if kv2::is_overtaken(&cause) => {
                return Err(BootstrapError::Overtaken { what: format!("the secret {path}"), cause });
            }
            write => write.map_err(doing())?,
        });
    }
    if plan.is_to_be_noted {
        let custom = plan.applied.write(&plan.custom_metadata);
        kv2::set_custom_metadata(root, kv, name, &custom, root.soon()).await.map_err(doing())?;
    }
    Ok(written)
}
