//! The files of `compose/`, as each Compose reads them.

use std::process::Command;

use crate::engine::run;
use crate::images;
use crate::stack::{composes, prepare};

const OVERLAYS: [&str; 3] = ["ha.yaml", "tls.yaml", "hardened.yaml"];

#[test]
fn every_compose_takes_all_overlays_and_profiles() {
    assert!(!composes().is_empty());
    for compose in composes() {
        for chosen in 0..1 << OVERLAYS.len() {
            let overlays = OVERLAYS.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1);
            let files: Vec<_> = overlays.flat_map(|(_, file)| ["--file", file]).collect();
            for profiles in [&[][..], &["--profile", "monitoring"]] {
                let mut command = Command::new(&compose);
                prepare(&mut command).current_dir(images::compose_dir());
                command
                    .args(["--file", "compose.yaml"])
                    .args(&files)
                    .args(profiles)
                    .args(["config", "--quiet"]);
                let outcome = run(&mut command).success();
                assert_eq!(
                    outcome.stdout + &outcome.stderr,
                    "",
                    "{} {files:?} {profiles:?}",
                    compose.display()
                );
            }
        }
    }
}
