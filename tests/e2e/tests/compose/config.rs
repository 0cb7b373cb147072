//! The files of `compose/`, as each Compose reads them.

use std::process::Command;

use crate::engine::{lines, run, told};
use crate::images;
use crate::stack::{composes, prepare};

const OVERLAYS: [&[&str]; 7] = [
    &[],
    &["ha.yaml"],
    &["tls.yaml"],
    &["ha.yaml", "tls.yaml", "ha-tls.yaml"],
    &["existing-vault.yaml"],
    &["tls.yaml", "existing-vault.yaml"],
    &["dev.yaml"],
];

#[test]
fn every_compose_takes_all_overlays_and_profiles() {
    assert!(!composes().is_empty());
    for compose in composes() {
        for (overlays, hardened) in
            OVERLAYS.iter().flat_map(|&all| [(all, None), (all, Some("hardened.yaml"))])
        {
            let is_elsewhere = overlays.contains(&"existing-vault.yaml");
            // There is no unsealer whose shares could be encrypted.
            if is_elsewhere && hardened.is_some() {
                continue;
            }
            let files: Vec<_> =
                overlays.iter().copied().chain(hardened).flat_map(|file| ["--file", file]).collect();
            let mut command = Command::new(&compose);
            prepare(&mut command).current_dir(images::compose_dir()).env("VAULTCREW_AGE_RECIPIENT", "age1");
            if is_elsewhere {
                command.env("VAULTCREW_VAULT_ADDR", "https://vault.example:8200");
            }
            command.args(["--file", "compose.yaml"]).args(&files).args([
                "--profile",
                "*",
                "config",
                "--quiet",
            ]);
            let outcome = run(&mut command).success();
            assert_eq!(outcome.stdout + &outcome.stderr, "", "{} {files:?}", compose.display());
        }
    }
}

#[test]
fn scripts_are_clean() {
    let mut list = Command::new("git");
    let scripts = told(list.current_dir(images::repository()).args(["ls-files", "*.sh", ".ci/run"]));
    let scripts = lines(&scripts);
    assert!(scripts.len() > 5, "{scripts:?}");
    let mut check = Command::new("shellcheck");
    run(check.current_dir(images::repository()).args(scripts)).success();
}

#[test]
fn dockerfiles_are_clean() {
    let mut list = Command::new("git");
    let files = told(list.current_dir(images::repository()).args(["ls-files", "*Dockerfile"]));
    let files = lines(&files);
    assert!(files.len() > 3, "{files:?}");
    // What stands in for others is made of the packages of the day.
    let of_the_day = "--ignore=DL3008";
    let mut check = Command::new(harness::hadolint().unwrap());
    let own = files.iter().filter(|file| file.starts_with("compose/"));
    run(check.current_dir(images::repository()).args(own)).success();
    let mut check = Command::new(harness::hadolint().unwrap());
    run(check.current_dir(images::repository()).arg(of_the_day).args(files)).success();
}
