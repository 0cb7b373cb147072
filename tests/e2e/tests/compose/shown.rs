//! What Docker shows to everybody who may ask it.

use crate::engine::{docker, secretly_told, told};
use crate::stack::Stack;

/// No secret is in what Docker shows of containers and images, in a log, in what Compose makes of its files, or on any command
/// line of the host.
pub(crate) fn nothing_secret(stack: &Stack) {
    let canary = stack.canary();
    // It would find something: a secret is where it belongs.
    let mount = stack.mounted("vault-keys");
    let kept = secretly_told(&mut stack.as_root(&[&mount], "cat /vault-keys/unseal-key-1*"));
    assert!(canary.scan("the volume", kept.as_bytes()).is_some());

    for container in stack.containers() {
        let service = container.service();
        let history = told(&mut docker(["image", "history", "--no-trunc", container.image()]));
        let image = told(&mut docker(["image", "inspect", container.image()]));
        let shown = [
            ("docker inspect", container.inspected.to_string()),
            ("docker logs", container.log()),
            ("docker image history", history),
            ("docker image inspect", image),
        ];
        for (command, text) in shown {
            assert!(!text.is_empty() || command == "docker logs", "{command} {service}");
            assert_eq!(canary.scan(&format!("{command} {service}"), text.as_bytes()), None);
        }
    }
    let configuration = told(&mut stack.compose(["config"]));
    assert_eq!(canary.scan("docker compose config", configuration.as_bytes()), None);
    assert_eq!(canary.scan_command_lines(), None);
    assert_eq!(canary.scan_runs(), None);
}
