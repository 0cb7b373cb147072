//! A server that cannot show who it is learns nothing from any command of unsealer.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use harness::{VaultOptions, free_address, run};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::crew::{Crew, SOON, audit_stanza, spawn};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A listener with a certificate for `name`, besides the one that every test has.
fn listener(dir: &Path, address: SocketAddr, name: &str, authority: &CertifiedIssuer<'_, KeyPair>) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    let (certificate_file, key_file) = (dir.join("server.pem"), dir.join("server-key.pem"));
    fs::write(&certificate_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    format!(
        "listener \"tcp\" {{\n  address = \"{address}\"\n  tls_cert_file = \"{}\"\n  \
         tls_key_file = \"{}\"\n}}\n",
        certificate_file.display(),
        key_file.display()
    )
}

#[test]
fn no_command_trusts_another_name_or_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let address = free_address().unwrap();
    let configuration =
        audit_stanza("discard") + &listener(dir.path(), address, "vault.example.internal", &ours);
    let vault = VaultOptions { configuration, ..VaultOptions::default() }.start().unwrap();
    let crew = Crew::with_break_glass(vault);
    crew.write("ours.pem", &ours.pem());
    crew.write("theirs.pem", &theirs.pem());
    crew.write("backup/unseal-key-1", &crew.read("keys/unseal-key-1"));
    let over_tls = |mut command: Command, authority: &str, name: &str| {
        command.env("VAULT_ADDR", format!("https://{address}")).env("VAULT_CACERT", authority);
        command.env("VAULT_TLS_SERVER_NAME", name).env("VAULT_CLIENT_TIMEOUT", "2s");
        command
    };
    let wrong = [
        ("theirs.pem", "vault.example.internal", "invalid peer certificate"),
        ("ours.pem", "", "not valid for name"),
        ("ours.pem", "vault.example.org", "not valid for name"),
    ];
    for subcommand in
        ["init", "unseal", "status", "rekey", "adopt-keys", "check-keys", "revoke-root", "generate-root"]
    {
        if subcommand == "generate-root" {
            crew.remove("root");
        }
        for (authority, name, why) in wrong {
            let mut command = crew.unsealer(subcommand);
            match subcommand {
                // Otherwise there is nothing to be asked.
                "adopt-keys" => command.arg("backup"),
                "check-keys" => command.arg("--prove"),
                _ => &mut command,
            };
            let refused = run(&mut over_tls(command, authority, name)).expect_code(69);
            let told = refused.stdout + &refused.stderr;
            assert!(told.contains("certificate") && told.contains(why), "{subcommand}: {told}");
        }
    }
    let mut unsealer = spawn(over_tls(crew.unsealer("run"), "theirs.pem", "vault.example.internal"));
    unsealer.wait_for_log("invalid peer certificate", SOON);
    assert_eq!(unsealer.terminate().code(), 0);

    // A real server's own words to who speaks no TLS to it.
    let plain = run(crew.unsealer("status").env("VAULT_ADDR", format!("http://{address}"))).expect_code(69);
    assert!((plain.stdout + &plain.stderr).contains("begin with https://"));

    let right =
        |subcommand| run(&mut over_tls(crew.unsealer(subcommand), "ours.pem", "vault.example.internal"));
    right("status").success();
    right("rekey").success();
}
