//! Nothing secret is seen where it does not belong.

use harness::{run, wait_until};

use crate::crew::{Crew, SOON, spawn};

#[test]
fn no_output_log_or_command_line_holds_a_secret() {
    let crew = Crew::new();
    let mut unsealer = spawn(crew.unsealer("run"));
    unsealer.wait_for_log("the break-glass credential is in", SOON);
    run(crew.bootstrap("plan").args(["--log-level", "debug"])).success();
    run(crew.bootstrap("apply").args(["--log-level", "debug", "--log-format", "json"])).success();

    let mut agent = crew.agent("run", "user_db");
    agent.args(["--secret", "user_db", "--env-file", "out/user.env"]);
    let mut agent = spawn(agent);
    agent.wait_for_log("rendered the secrets", SOON);
    // Trouble of every kind, which is where messages quote what they should not.
    for secret in ["chat", "nowhere"] {
        run(crew.agent("exec", "user").args(["--log-level", "debug", "--secret", secret, "--", "true"]));
    }
    crew.write("bad/role_id", &crew.read("approle/user/role_id"));
    crew.write("bad/secret_id", &crew.read("approle/chat/secret_id"));
    let mut exec = crew.agent("exec", "user");
    run(exec.args([
        "--credentials-dir",
        "bad",
        "--wait",
        "1s",
        "--log-level",
        "debug",
        "--secret",
        "user",
        "--",
        "true",
    ]));

    let canary = crew.canary();
    assert_eq!(canary.scan_command_lines(), None);
    assert!(wait_until(SOON, || crew.path("run/user_db.json").exists()));
    for status in ["run/user_db.json", "run/unsealer.json"] {
        assert_eq!(canary.scan(status, crew.read(status).as_bytes()), None);
    }
    agent.terminate();
    unsealer.terminate();
    assert_eq!(canary.scan_runs(), None);
    assert_eq!(canary.scan("Vault's log", crew.vault.log().as_bytes()), None);
}
