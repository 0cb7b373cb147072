//! One service's database: looked at, made and mended, proven.

use backoff::Jitter;
use boot_clock::{BootTime, sleep_until};

use crate::DbInitError;
use crate::args::ObjectArgs;
use crate::grants::{self, Statement};
use crate::inside::{self, Inside};
use crate::observed::Observed;
use crate::prove::{self, Proof};
use crate::report::Answer;
use crate::server::{Admin, RETRY_DELAYS, Server};
use crate::target::Target;

/// Makes what is missing and mends what differs, and proves it.
///
/// A connection or a server that goes away in the midst is no end: what is done is seen, and the rest is done.
pub(crate) async fn make(
    server: &Server,
    target: &Target,
    objects: &ObjectArgs,
    give_up: BootTime,
) -> Result<Answer, DbInitError> {
    let (mut changes, mut attempt, mut said) = (Vec::new(), 0, String::new());
    let (proof, acting) = loop {
        let error = match converge(server, target, objects, give_up, &mut changes).await {
            Ok(done) => break done,
            Err(error) => error,
        };
        let wake_up = BootTime::now() + RETRY_DELAYS.delay(attempt, Jitter::draw());
        if !error.passes() || wake_up >= give_up {
            return Err(error);
        }
        let why = error.to_string();
        if why == said {
            tracing::debug!("beginning again: {why}");
        } else {
            tracing::warn!("beginning again: {why}");
            said = why;
        }
        sleep_until(wake_up).await;
        attempt += 1;
    };
    let (outcome, change) =
        if changes.is_empty() { ("unchanged", "nothing to change") } else { ("changed", "done") };
    let place = server.place();
    let owner = objects.db_owner.as_ref().unwrap_or(&acting);
    let owner = Some(owner).filter(|owner| **owner != target.user);
    let relation = owner.map_or("owns".to_owned(), |owner| format!("may use {owner}'s"));
    let text =
        format!("{change}: role {} {relation} database {} on {place}, {proof}", target.user, target.database);
    let (role, database) = (target.user.clone(), target.database.clone());
    Ok(Answer { outcome, text, server: place, role, database, changes })
}

/// One pass over all there is to see; what it changes is added to `changes`. Gives the role whose rights the user
/// has, too.
async fn converge(
    server: &Server,
    target: &Target,
    objects: &ObjectArgs,
    give_up: BootTime,
    changes: &mut Vec<String>,
) -> Result<(Proof, String), DbInitError> {
    let admin = server.wait(give_up).await?;
    admin.be_silent().await;
    admin.lock(target).await?;
    let observed = Observed::look(&admin, server, target, objects).await?;
    carry_out(&admin, &grants::statements(target, objects, &observed)?, changes).await?;
    let acting = acting(target, &observed);
    if let Some(inner) = enter(server, target, objects).await? {
        inner.be_silent().await;
        let inside = Inside::look(&inner, &acting, objects).await?;
        carry_out(&inner, &inside::statements(&acting, objects, &inside), changes).await?;
    }
    Ok((prove::prove(server, target).await?, acting.user))
}

/// The target as the role has it whose rights the user has.
fn acting(target: &Target, observed: &Observed) -> Target {
    Target { user: observed.acting(target).to_owned(), ..target.clone() }
}

async fn carry_out(
    admin: &Admin,
    statements: &[Statement],
    changes: &mut Vec<String>,
) -> Result<(), DbInitError> {
    for statement in statements {
        admin.execute(statement).await?;
        tracing::info!("{}", statement.done);
        changes.push(statement.done.clone());
    }
    Ok(())
}

/// The administrator's session in the database; none where it may not connect and nothing there was asked for.
async fn enter(server: &Server, target: &Target, objects: &ObjectArgs) -> Result<Option<Admin>, DbInitError> {
    match server.admin(&target.database).await {
        Ok(admin) => Ok(Some(admin)),
        Err(error)
            if error.is_refusal() && objects.extensions.is_empty() && objects.read_only_role.is_none() =>
        {
            tracing::debug!("not looking into {}: {}", target.database, error.reason());
            Ok(None)
        }
        Err(error) => Err(server.admin_refused_at(&target.database, &error)),
    }
}

/// The SQL that [`make`] would run.
pub(crate) async fn plan(
    server: &Server,
    target: &Target,
    objects: &ObjectArgs,
    give_up: BootTime,
) -> Result<Answer, DbInitError> {
    let admin = server.wait(give_up).await?;
    let observed = Observed::look(&admin, server, target, objects).await?;
    let mut statements = grants::statements(target, objects, &observed)?;
    let acting = acting(target, &observed);
    let inside = match &observed.database {
        None => Some(Inside::new()),
        Some(_) => match enter(server, target, objects).await? {
            Some(inner) => Some(Inside::look(&inner, &acting, objects).await?),
            None => None,
        },
    };
    statements.extend(inside.iter().flat_map(|inside| inside::statements(&acting, objects, inside)));
    let changes: Vec<_> = statements.iter().map(|statement| format!("{};", statement.shown)).collect();
    let text = if changes.is_empty() { "-- nothing to change".to_owned() } else { changes.join("\n") };
    let (role, database) = (target.user.clone(), target.database.clone());
    Ok(Answer { outcome: "planned", text, server: server.place(), role, database, changes })
}
