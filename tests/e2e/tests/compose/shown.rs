//! What Docker shows to everybody who may ask it.

use std::collections::BTreeSet;

use crate::engine::{docker, secretly_told, told};
use crate::stack::Stack;

/// No secret is in what Docker shows of containers and images, in a log, in what Compose makes of its files, or on any command
/// line of the host.
pub(crate) fn nothing_secret(stack: &Stack) {
    let canary = stack.canary();
    // It would find something: a secret is where it belongs.
    let mount = stack.mounted("vault-root");
    let kept = secretly_told(&mut stack.as_root(&[&mount], "cat /vault-root/root-token"));
    assert!(canary.scan("the volume", kept.as_bytes()).is_some());

    let look = |place: &str, text: &str| assert_eq!(canary.scan(place, text.as_bytes()), None);
    let mut images = BTreeSet::new();
    for container in stack.containers() {
        look(&format!("docker inspect {}", container.service()), &container.inspected.to_string());
        look(&format!("docker logs {}", container.service()), &container.log());
        images.insert(container.image().to_owned());
    }
    for image in &images {
        let history = told(&mut docker(["image", "history", "--no-trunc", image]));
        assert!(history.lines().count() > 1, "{history}");
        look(&format!("docker image history {image}"), &history);
        look(&format!("docker image inspect {image}"), &told(&mut docker(["image", "inspect", image])));
    }
    let configuration = told(&mut stack.compose(["config"]));
    assert_eq!(canary.scan("docker compose config", configuration.as_bytes()), None);
    assert_eq!(canary.scan_command_lines(), None);
    assert_eq!(canary.scan_runs(), None);
}
