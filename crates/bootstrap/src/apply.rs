//! `bootstrap plan` and `bootstrap apply`.

use agent_runtime::Exit;
use secrecy::SecretString;
use tokio::time::Instant;
use vault_client::VaultClient;

use crate::BootstrapError;
use crate::args::{Prune, Stack};
use crate::carry_out::carry_out;
use crate::concurrent::for_each;
use crate::desired::Desired;
use crate::ledger::Ledger;
use crate::lock;
use crate::manifest::GenerateSpec;
use crate::observed::Observed;
use crate::own::{self, Hands};
use crate::plan::{How, Mounts, Plan};
use crate::{deliver, random};

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
    let ledger = Ledger::open(&stack.state_dir).map_err(BootstrapError::Random)?;
    let plan = compute(&root, desired, stack, &ledger, prune, |_| Ok(SecretString::from(""))).await?;
    let own = own::OwnPlan::ask(&root, stack, desired).await?;
    let mut lines = plan.lines(mount_names(stack));
    lines.extend(own.lines());
    let new = plan.new_roles();
    let looks = desired
        .services
        .iter()
        .map(|service| (service.name.clone(), service.delivery(stack), new.contains(service.name.as_str())));
    let due = for_each("looking at credentials", looks.collect(), |(name, delivery, is_new)| {
        let root = root.clone();
        async move {
            if is_new {
                return Ok(Some(format!("+ credentials of {name}")));
            }
            let due = delivery.look(&root).await?.due;
            Ok::<_, BootstrapError>(due.map(|due| format!("~ credentials of {name}: {due}")))
        }
    });
    lines.extend(due.await?.into_iter().flatten());
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
    let _lock = lock::take(stack).await?;
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
///
/// Where somebody else was faster with a secret or a mount, everything is looked at once more, and what they wrote is
/// theirs.
pub(crate) async fn make(
    root: &VaultClient,
    desired: &Desired,
    stack: &Stack,
    prune: Prune,
) -> Result<bool, BootstrapError> {
    let mut ledger = Ledger::open(&stack.state_dir).map_err(BootstrapError::Random)?;
    match make_once(root, desired, stack, &mut ledger, prune).await {
        Err(BootstrapError::Overtaken { what, .. }) => {
            tracing::warn!("{what} was changed by somebody else meanwhile: planning once more");
            make_once(root, desired, stack, &mut ledger, prune).await
        }
        made => made,
    }
}

async fn make_once(
    root: &VaultClient,
    desired: &Desired,
    stack: &Stack,
    ledger: &mut Ledger,
    prune: Prune,
) -> Result<bool, BootstrapError> {
    let mut plan = compute(root, desired, stack, ledger, prune, random::value).await?;
    for line in plan.lines(mount_names(stack)).into_iter().chain(desired.unclaimed_lines()) {
        if line.starts_with('!') {
            tracing::warn!("{line}");
        } else {
            tracing::info!("{line}");
        }
    }
    let own = own::OwnPlan::ask(root, stack, desired).await?;
    for line in own.lines() {
        tracing::info!("{line}");
    }
    let changed = !plan.is_empty() || !own.is_empty();
    let leftovers = std::mem::take(&mut plan.leftovers);
    carry_out(root, plan, stack, ledger).await?;
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
    let deliveries = services.chain([own::delivery(stack, &desired.mark)]).collect();
    let mut delivered = Delivered { count: 0, failures: Vec::new() };
    for result in deliver::refresh_all(&Hands::one(root.clone()), deliveries).await {
        match result {
            Ok(refreshed) => delivered.count += usize::from(refreshed.is_new()),
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
    ledger: &Ledger,
    prune: Prune,
    random: impl Fn(&GenerateSpec) -> Result<SecretString, getrandom::Error>,
) -> Result<Plan, BootstrapError> {
    let by = Instant::now() + stack.wait;
    let observed = Observed::ask(root, mount_names(stack), desired, ledger, prune, by)
        .await
        .map_err(BootstrapError::vault("asking Vault what there is"))?;
    let audit_file = stack.enable_audit_file.as_deref();
    let how = How { overwrite: stack.overwrite, prune, audit_file };
    let mut plan = Plan::compute(desired, &observed, mount_names(stack), how, random)?;
    plan.leftovers.iter_mut().for_each(|leftover| leftover.look(&stack.approle_dir));
    Ok(plan)
}

fn mount_names(stack: &Stack) -> Mounts<'_> {
    Mounts { kv: &stack.kv_mount, approle: &stack.approle_mount }
}
