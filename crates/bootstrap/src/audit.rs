//! Whether anything records who reads what: the server's audit devices.
//!
//! That a device writes is told by the very answer: a server that can write to none of its devices answers every
//! request with 500, the question for its devices too. That what is written is kept, its options tell.

use vault_client::audit::Device;
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
    /// There is none that keeps anything, and the API can enable one.
    Missing,
    /// There is none that keeps anything, and only the server's own configuration can bring one: OpenBao.
    MissingInConfiguration,
}

impl Audit {
    /// Asks for the devices. `is_openbao` is known by the lists that it alone has.
    pub(crate) async fn ask(client: &VaultClient, is_openbao: bool) -> Result<Self, VaultError> {
        let devices = audit::devices(client, client.soon()).await?;
        Ok(Self::by(devices.as_ref().map(|devices| devices.values()), is_openbao))
    }

    fn by<'a>(devices: Option<impl IntoIterator<Item = &'a Device>>, is_openbao: bool) -> Self {
        match devices.is_none_or(|devices| devices.into_iter().any(Device::keeps)) {
            true => Self::Fine,
            false if is_openbao => Self::MissingInConfiguration,
            false => Self::Missing,
        }
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
                "! no audit device keeps a record: nothing tells who read what; --enable-audit-file PATH enables one"
                    .to_owned(),
            ),
            (Self::MissingInConfiguration, _) => Some(format!(
                "! no audit device keeps a record: nothing tells who read what; add to the server's configuration and \
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
    fn a_device_that_keeps_nothing_is_none() {
        let device = |device_type: &str, path: &str| Device {
            device_type: device_type.to_owned(),
            options: [("file_path".to_owned(), path.to_owned())].into(),
        };
        for (devices, audit) in [
            (vec![], Audit::Missing),
            (vec![device("file", "discard"), device("file", "/dev/null")], Audit::Missing),
            (vec![device("file", "discard"), device("file", "/vault/logs/audit.log")], Audit::Fine),
            (vec![device("file", "stdout")], Audit::Fine),
            (vec![device("syslog", "")], Audit::Fine),
        ] {
            assert_eq!(Audit::by(Some(&devices), false), audit, "{devices:?}");
        }
        assert_eq!(Audit::by(None::<&Vec<Device>>, true), Audit::Fine);
        assert_eq!(Audit::by(Some(&Vec::new()), true), Audit::MissingInConfiguration);
    }

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
