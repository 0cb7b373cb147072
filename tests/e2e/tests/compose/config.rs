//! The files of `compose/`, as each Compose reads them.

use std::process::Command;

use crate::engine::run;
use crate::images;
use crate::stack::{composes, prepare};

const OVERLAYS: [&[&str]; 4] =
    [&["ha.yaml"], &["tls.yaml"], &["ha.yaml", "tls.yaml", "ha-tls.yaml"], &["hardened.yaml"]];

#[test]
fn every_compose_takes_all_overlays_and_profiles() {
    assert!(!composes().is_empty());
    for compose in composes() {
        for chosen in 0..1 << OVERLAYS.len() {
            let overlays = OVERLAYS.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            let files: Vec<_> =
                overlays.flat_map(|(_, files)| *files).flat_map(|file| ["--file", file]).collect();
            let mut command = Command::new(&compose);
            prepare(&mut command).current_dir(images::compose_dir()).env("VAULTCREW_AGE_RECIPIENT", "age1");
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
