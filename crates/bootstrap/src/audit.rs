//! Whether anything records who reads what: the server's audit devices.
//!
//! A server that cannot write to any of its devices answers no request, so that one which answers writes.

use vault_client::{VaultClient, VaultError, audit};

use crate::mark::MARK;

/// The device's name, below `sys/audit/`.
const DEVICE: &str = "vaultcrew";

/// What is known of the audit devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Audit {
    /// There is one, or the token may not see them.
    #[default]
    Fine,
    /// There is none, and the API can enable one.
    Missing,
    /// There is none, and only the server's own configuration can bring one: OpenBao.
    MissingInConfiguration,
}

impl Audit {
    /// Asks for the devices. `is_openbao` is known by the lists that it alone has.
    pub(crate) async fn ask(client: &VaultClient, is_openbao: bool) -> Result<Self, VaultError> {
        let devices = audit::devices(client, client.soon()).await?;
        Ok(match devices {
            Some(devices) if devices.is_empty() && is_openbao => Self::MissingInConfiguration,
            Some(devices) if devices.is_empty() => Self::Missing,
            _ => Self::Fine,
        })
    }

    /// Whether `file` is to be enabled.
    pub(crate) fn enables(self, file: Option<&str>) -> Option<&str> {
        file.filter(|_| self == Self::Missing)
    }

    /// The plan in a line for people.
    pub(crate) fn line(self, file: Option<&str>) -> Option<String> {
        match (self, file) {
            (Self::Fine, _) => None,
            (Self::Missing, Some(file)) => Some(format!("+ audit device {DEVICE}/ (file {file})")),
            (Self::Missing, None) => Some(
                "! no audit device is enabled: nothing records who reads what; --enable-audit-file PATH enables one"
                    .to_owned(),
            ),
            (Self::MissingInConfiguration, _) => Some(format!(
                "! no audit device is enabled: nothing records who reads what; add to the server's configuration and \
                 send it a SIGHUP: {}",
                stanza(file.unwrap_or("/vault/logs/audit.log"))
            )),
        }
    }
}

/// Enables the device. What the server makes of that is told and holds nothing up.
pub(crate) async fn enable(client: &VaultClient, file: &str) {
    let description = format!("{MARK}: every request to the secrets");
    match audit::enable_file(client, DEVICE, file, &description, client.soon()).await {
        Ok(()) => tracing::info!("every request is recorded in {file} on the server's side from now on"),
        Err(error) => tracing::warn!("! no audit device could be enabled: {error}"),
    }
}

fn stanza(file: &str) -> String {
    format!("audit \"file\" \"{DEVICE}\" {{ options {{ file_path = \"{file}\" }} }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_the_way_to_bring_it() {
        assert_eq!(Audit::Fine.line(Some("/a")), None);
        assert_eq!(Audit::Missing.line(Some("/a.log")).unwrap(), "+ audit device vaultcrew/ (file /a.log)");
        assert!(Audit::Missing.line(None).unwrap().ends_with("--enable-audit-file PATH enables one"));
        assert!(
            Audit::MissingInConfiguration.line(None).unwrap().ends_with(
                "audit \"file\" \"vaultcrew\" { options { file_path = \"/vault/logs/audit.log\" } }"
            )
        );
        assert_eq!(Audit::MissingInConfiguration.enables(Some("/a")), None);
        assert_eq!(Audit::Missing.enables(Some("/a")), Some("/a"));
    }
}
