//! The plan in lines for people: `+` makes, `~` changes, `-` removes, `!` wants attention. Names alone, never a value.

use std::fmt::Write as _;

use super::{Differing, Lockout, Mounts, Plan, ServicePlan};
use crate::desired::policy_name;
use crate::merge::KeyChange;
use crate::observed::path;

impl Plan {
    /// Every line, in the order in which it is carried out.
    pub(crate) fn lines(&self, mounts: Mounts<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |condition: bool, text: String| {
            if condition {
                lines.push(text);
            }
        };
        line(self.enable_kv, format!("+ secrets engine {}/ (kv version 2)", mounts.kv));
        line(self.enable_approle, format!("+ auth method auth/{}/ (approle)", mounts.approle));
        line(
            self.lockout == Lockout::Disable,
            format!("~ auth method auth/{}/: user lockout off", mounts.approle),
        );
        line(
            self.lockout == Lockout::Ask,
            format!(
                "! auth method auth/{0}/: user lockout is on, so that whoever knows a role_id can lock its service \
                 out; it is not bootstrap's mount and stays as it is. To switch it off: vault write \
                 sys/auth/{0}/tune user_lockout_config='{{\"lockout_disable\": true}}'",
                mounts.approle
            ),
        );
        lines.extend(self.audit.line(self.audit_file.as_deref()));
        for service in &self.services {
            service.lines(mounts, &mut lines);
        }
        for Differing { service, key, first } in &self.differing {
            let (path, first) = (path(mounts.kv, service), path(mounts.kv, first));
            lines.push(format!(
                "! {path} {key}: generated, and not the same as in {first}, which shares it; both stay. Take it out of \
                 the one that is wrong, and the next apply puts the other's there"
            ));
        }
        lines.extend(self.leftovers.iter().flat_map(|leftover| leftover.lines(self.prune, mounts)));
        lines
    }
}

impl ServicePlan {
    fn lines(&self, mounts: Mounts<'_>, lines: &mut Vec<String>) {
        let name = &self.name;
        if let Some((_, existed)) = &self.policy {
            lines.push(format!("{} policy {}", if *existed { "~" } else { "+" }, policy_name(name)));
        }
        if let Some((_, differences)) = &self.role {
            let mut line = format!(
                "{} role auth/{}/role/{name}",
                if differences.is_empty() { "+" } else { "~" },
                mounts.approle
            );
            if !differences.is_empty() {
                let _ = write!(line, ": {}", differences.join(", "));
            }
            lines.push(line);
        }
        for what in &self.foreign {
            lines.push(format!(
                "! {what}: exists, is not bootstrap's, and stays as it is; --overwrite makes it what the files say"
            ));
        }
        for (key, change) in &self.secret.changes {
            let path = format!("{}/{name}", mounts.kv);
            lines.push(match change {
                KeyChange::Added => format!("+ {path} {key}"),
                KeyChange::Generated => format!("+ {path} {key} (generated)"),
                KeyChange::Changed => format!("~ {path} {key}"),
                KeyChange::Removed => format!("- {path} {key}"),
                KeyChange::Kept => {
                    format!(
                        "! {path} {key}: differs in Vault and stays as it is there; --overwrite changes it"
                    )
                }
            });
        }
        if self.secret.is_to_be_noted && self.secret.write_on.is_none() {
            lines.push(format!("~ {}/{name}: noted as applied", mounts.kv));
        }
    }
}
