//! `bootstrap plan` and `bootstrap apply`.

use agent_runtime::Exit;
use secrecy::SecretString;
use tokio::time::Instant;
use vault_client::{VaultClient, approle, kv2, mounts, policy};

use crate::BootstrapError;
use crate::args::{Prune, Stack};
use crate::concurrent::for_each;
use crate::desired::{Desired, policy_name};
use crate::manifest::GenerateSpec;
use crate::observed::Observed;
use crate::plan::{How, Lockout, MARK, Mounts, Plan, SecretPlan, ServicePlan};
use crate::{deliver, own, random};

/// The longest token that is read.
const MAX_TOKEN: usize = 4096;

/// `bootstrap plan`.
pub(crate) async fn plan(
    client: VaultClient,
    desired: &Desired,
    stack: &Stack,
    prune: Prune,
) -> Result<Exit, BootstrapError> {
    let root = client.with_token(token(stack)?);
    // What would be generated is not shown: any value stands for it.
    let plan = compute(&root, desired, stack, prune, |_| Ok(SecretString::from(""))).await?;
    let own = own::OwnPlan::ask(&root, &stack.approle_mount, desired.names()).await?;
    let mut lines = plan.lines(mount_names(stack));
    lines.extend(own.lines());
    for service in &desired.services {
        if plan.makes_role(&service.name) {
            lines.push(format!("+ credentials of {}", service.name));
        } else if let Some(due) = service.delivery(stack).look(&root).await?.due {
            lines.push(format!("~ credentials of {}: {due}", service.name));
        }
    }
    let changes = lines.iter().any(|line| !line.starts_with('!'));
    lines.extend(desired.unclaimed_lines());
    if !changes {
        lines.push("nothing to change".to_owned());
    }
    agent_runtime::print(&(lines.join("\n") + "\n"))?;
    Ok(Exit::Done)
}

/// `bootstrap apply`.
pub(crate) async fn command(
    client: VaultClient,
    desired: &Desired,
    stack: &Stack,
    prune: Prune,
) -> Result<Exit, BootstrapError> {
    let root = client.with_token(token(stack)?);
    let changed = make(&root, desired, stack, prune).await?;
    let Delivered { count, failures } = deliver_all(&root, desired, stack).await;
    let mut failures = failures.into_iter();
    if let Some(first) = failures.next() {
        // The first one ends the program, and is told there.
        failures.for_each(|error| tracing::error!("{}", agent_runtime::with_causes(&error)));
        return Err(first);
    }
    let services = desired.services.len();
    agent_runtime::print(&if changed || count > 0 {
        format!("applied: {services} services, {count} new credentials\n")
    } else {
        format!("nothing to change: {services} services\n")
    })?;
    Ok(Exit::Done)
}

/// Makes Vault what is desired; gives whether anything was to be done.
pub(crate) async fn make(
    root: &VaultClient,
    desired: &Desired,
    stack: &Stack,
    prune: Prune,
) -> Result<bool, BootstrapError> {
    let mut plan = compute(root, desired, stack, prune, random::value).await?;
    for line in plan.lines(mount_names(stack)).into_iter().chain(desired.unclaimed_lines()) {
        if line.starts_with('!') {
            tracing::warn!("{line}");
        } else {
            tracing::info!("{line}");
        }
    }
    let own = own::OwnPlan::ask(root, &stack.approle_mount, desired.names()).await?;
    for line in own.lines() {
        tracing::info!("{line}");
    }
    let changed = !plan.is_empty() || !own.is_empty();
    let leftovers = std::mem::take(&mut plan.leftovers);
    carry_out(root, plan, stack).await?;
    own.carry_out(root).await?;
    for leftover in leftovers {
        leftover.remove(root, stack, prune).await?;
    }
    Ok(changed)
}

/// What came of [`deliver_all`].
pub(crate) struct Delivered {
    /// How many got new credentials, bootstrap itself among them.
    count: usize,
    pub(crate) failures: Vec<BootstrapError>,
}

/// Delivers the credentials that are due, bootstrap's own among them. One that fails holds up no other.
pub(crate) async fn deliver_all(root: &VaultClient, desired: &Desired, stack: &Stack) -> Delivered {
    let services = desired.services.iter().map(|service| service.delivery(stack));
    let mut delivered = Delivered { count: 0, failures: Vec::new() };
    for result in deliver::refresh_all(root, services.chain([own::delivery(stack)]).collect()).await {
        match result {
            Ok(due) => delivered.count += usize::from(due.is_some()),
            Err(error) => delivered.failures.push(error),
        }
    }
    delivered
}

/// The token that may do all this.
pub(crate) fn token(stack: &Stack) -> Result<SecretString, BootstrapError> {
    let path = &stack.token_file;
    secret_file::read_text(path, MAX_TOKEN)
        .map_err(|cause| BootstrapError::NoToken { path: path.clone(), cause })
}

async fn compute(
    root: &VaultClient,
    desired: &Desired,
    stack: &Stack,
    prune: Prune,
    random: impl Fn(&GenerateSpec) -> Result<SecretString, getrandom::Error>,
) -> Result<Plan, BootstrapError> {
    let by = Instant::now() + stack.wait;
    let observed = Observed::ask(root, mount_names(stack), desired, prune, by)
        .await
        .map_err(BootstrapError::vault("asking Vault what there is"))?;
    let how = How { overwrite: stack.overwrite, prune };
    let mut plan = Plan::compute(desired, &observed, mount_names(stack), how, random)?;
    plan.leftovers.iter_mut().for_each(|leftover| leftover.look(&stack.approle_dir));
    Ok(plan)
}

fn mount_names(stack: &Stack) -> Mounts<'_> {
    Mounts { kv: &stack.kv_mount, approle: &stack.approle_mount }
}

async fn carry_out(root: &VaultClient, plan: Plan, stack: &Stack) -> Result<(), BootstrapError> {
    let (kv, approle) = (&stack.kv_mount, &stack.approle_mount);
    if plan.enable_kv {
        mounts::enable_kv2(root, kv, &format!("{MARK}: secrets of the services"), root.soon())
            .await
            .map_err(BootstrapError::vault(format!("enabling the secrets engine {kv}/")))?;
    }
    if plan.enable_approle {
        mounts::enable_approle(root, approle, &format!("{MARK}: logins of the services"), root.soon())
            .await
            .map_err(BootstrapError::vault(format!("enabling the auth method auth/{approle}/")))?;
    }
    if plan.lockout == Lockout::Disable {
        mounts::disable_lockout(root, approle, root.soon())
            .await
            .map_err(BootstrapError::vault(format!("switching the user lockout of auth/{approle}/ off")))?;
    }
    let services: Vec<_> = plan.services.into_iter().filter(|service| !service.is_empty()).collect();
    for_each(services, |service| {
        let (root, kv, approle) = (root.clone(), kv.clone(), approle.clone());
        async move { apply_service(&root, &kv, &approle, service).await }
    })
    .await
    .map(drop)
}

async fn apply_service(
    root: &VaultClient,
    kv: &str,
    approle: &str,
    plan: ServicePlan,
) -> Result<(), BootstrapError> {
    let ServicePlan { name, policy, role, secret, foreign: _ } = plan;
    if let Some((text, _)) = policy {
        let policy_name = policy_name(&name);
        policy::write(root, &policy_name, &text, root.soon())
            .await
            .map_err(BootstrapError::vault(format!("writing the policy {policy_name}")))?;
    }
    apply_secret(root, kv, &name, secret).await?;
    if let Some((role, _)) = role {
        approle::write_role(root, approle, &name, &role, root.soon())
            .await
            .map_err(BootstrapError::vault(format!("writing the role {name}")))?;
    }
    Ok(())
}

/// Writes a version by check-and-set, then the note of it.
///
/// After a kill in between, the next apply finds the values as they are wanted, and notes them. Those that the
/// files have changed once more by then count as changed in Vault: they are kept and reported, not lost.
async fn apply_secret(
    root: &VaultClient,
    kv: &str,
    name: &str,
    plan: SecretPlan,
) -> Result<(), BootstrapError> {
    let path = format!("{kv}/{name}");
    let doing = || BootstrapError::vault(format!("writing the secret {path}"));
    if let Some(current) = plan.write_on {
        kv2::write(root, kv, name, &plan.values, current, root.soon()).await.map_err(doing())?;
    }
    if let Some(note) = plan.note {
        let custom = note.write(&plan.custom_metadata);
        kv2::set_custom_metadata(root, kv, name, &custom, root.soon()).await.map_err(doing())?;
    }
    Ok(())
}
