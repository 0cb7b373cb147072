//! The endpoints of the older generation, which HashiCorp Vault has and newer servers keep for who asks for them.

use harness::{Proxy, Trouble, Vault, VaultOptions, free_address, run};
use serde_json::{Value, json};

use crate::crew::{Crew, SOON, spawn};

/// What a server says of a path that it does not have.
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\
    Connection: close\r\n\r\n{\"errors\":[\"no such path\"]}\n";

/// A Vault whose older endpoints are on, and a way to it on which the newer ones do not exist.
fn with_older_endpoints_alone() -> (Vault, Proxy) {
    let address = free_address().unwrap();
    let configuration = format!(
        "listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n  \
         disable_unauthed_generate_root_endpoints = false\n  disable_unauthed_rekey_endpoints = false\n}}\n"
    );
    let vault = VaultOptions { configuration, ..VaultOptions::default() }.start().unwrap();
    let proxy = Proxy::start(address);
    for newer in ["/v1/sys/rotate/root/", "/v1/sys/generate-root-token/"] {
        proxy.at_path(newer, Trouble::Instead(UNKNOWN.to_vec()));
    }
    (vault, proxy)
}

#[test]
fn root_is_regained_and_shares_are_replaced_by_the_older_endpoints_too() {
    let (vault, proxy) = with_older_endpoints_alone();
    let mut crew = Crew::with(vault);
    let unsealer = |crew: &Crew, command: &str| {
        let mut unsealer = crew.unsealer(command);
        unsealer.env("VAULT_ADDR", proxy.addr());
        unsealer
    };
    let mut daemon = spawn(unsealer(&crew, "run"));
    daemon.wait_for_log("the break-glass credential is in", SOON);
    assert_eq!(daemon.terminate().code(), 0);

    run(&mut unsealer(&crew, "revoke-root")).success();
    run(&mut unsealer(&crew, "generate-root")).success();
    let (status, _) = crew.vault.api("GET", "/v1/auth/token/lookup-self", &crew.root_token(), &Value::Null);
    assert_eq!(status, 200);

    let old = crew.read("keys/unseal-key-1");
    run(&mut unsealer(&crew, "rekey")).success();
    assert_ne!(crew.read("keys/unseal-key-1"), old);
    run(unsealer(&crew, "check-keys").arg("--prove")).success();
    crew.vault.restart();
    run(&mut unsealer(&crew, "unseal")).success();
    for older in ["/v1/sys/generate-root/update", "/v1/sys/rekey/update", "/v1/sys/rekey/verify"] {
        assert!(proxy.requests().iter().any(|request| request.ends_with(older)), "{older} was never asked");
    }
}

/// A rekey that was killed between the new shares and their verification is finished by the older endpoints too.
#[test]
fn a_rekey_that_was_cut_off_is_finished_by_the_older_endpoints_too() {
    let (vault, proxy) = with_older_endpoints_alone();
    let crew = Crew::with(vault);
    let unsealer = |command: &str| {
        let mut unsealer = crew.unsealer(command);
        unsealer.env("VAULT_ADDR", proxy.addr());
        unsealer
    };
    let mut daemon = spawn(unsealer("run"));
    daemon.wait_for_log("the break-glass credential is in", SOON);
    assert_eq!(daemon.terminate().code(), 0);
    let root = crew.root_token();
    let verify = "/v1/sys/rekey/verify";
    proxy.at_path(verify, Trouble::Reset(0));
    let cut = run(&mut unsealer("rekey"));
    assert_ne!(cut.code(), 0, "{}", cut.stdout);
    assert!(crew.path("keys/rekeyed/unseal-key-5").exists(), "{}", cut.stderr);

    // On another way, where nothing is cut.
    let again = Proxy::start(proxy.upstream());
    for newer in ["/v1/sys/rotate/root/", "/v1/sys/generate-root-token/"] {
        again.at_path(newer, Trouble::Instead(UNKNOWN.to_vec()));
    }
    let mut rekey = crew.unsealer("rekey");
    rekey.env("VAULT_ADDR", again.addr());
    run(&mut rekey).success();
    assert!(!crew.path("keys/rekeyed").exists());
    let (_, progress) = crew.vault.api("GET", "/v1/sys/rotate/root/init", &root, &Value::Null);
    assert_eq!(progress["data"]["started"], json!(false), "{progress}");
}
