//! What CMD inherits, and what the agent leaves behind.

use std::fs;
use std::process::Command;
use std::time::Duration;

use harness::{run, spawn, wait_until};

use super::{inside, running, tokens};
use crate::crew::{Crew, SOON};

/// Everything that a process is given besides its arguments and environment.
const SELF: &str = "grep -E '^(Sig(Pnd|Blk|Ign)|Umask|Uid|Gid|Groups|NoNewPrivs):' /proc/self/status; pwd; umask; \
                    ulimit -S -c; ls /proc/self/fd; nice";

#[test]
fn the_command_finds_itself_as_if_the_agent_were_not_there() {
    let crew = Crew::applied();
    let strange = |command: &Command| {
        let mut outer = Command::new("sh");
        outer.args(["-c", "umask 027; ulimit -S -c 7; trap '' USR1; exec nice -n 3 \"$@\"", "sh"]);
        inside(&mut outer, command);
        outer
    };
    let mut plain = Command::new("sh");
    plain.args(["-c", SELF]).env("PATH", "/usr/bin:/bin").current_dir(crew.path(""));
    let expected = run(&mut strange(&plain)).success().stdout;
    let mut exec = crew.agent("exec", "chat");
    exec.args(["--secret", "chat", "--", "sh", "-c", SELF]);
    assert_eq!(run(&mut strange(&exec)).success().stdout, expected);
    assert_eq!(run(&mut strange(&running(&crew, &[], SELF))).success().stdout, expected);
}

#[test]
fn exec_leaves_nothing_of_the_agent() {
    let crew = Crew::applied();
    let before = tokens(&crew);
    let mut exec = crew.agent("exec", "chat");
    let script = "echo $$ > pid; ls /proc/$$/task | wc -l > tasks; ls -l /proc/$$/fd > fds; cat /proc/$$/maps > maps; \
                  tr '\\0' '\\n' < /proc/$$/environ > environ; grep CoreDumping /proc/$$/status > done; sleep 1000";
    exec.args(["--secret", "chat", "--no-env", "--", "sh", "-c", script]);
    let became = spawn(&mut exec);
    assert!(wait_until(SOON, || crew.path("done").exists()), "{}", became.log());
    assert_eq!(crew.read("pid").trim(), became.pid().to_string());
    assert_eq!(crew.read("tasks").trim(), "1");
    assert!(!crew.read("maps").contains("approle-agent"), "{}", crew.read("maps"));
    let fds = crew.read("fds");
    assert!(!fds.contains("socket:") && !fds.contains("anon_inode:"), "{fds}");
    let environ = crew.read("environ");
    assert!(!environ.contains("VAULT") && !environ.contains("s."), "{environ}");
    assert_eq!(crew.canary().scan("the environment", environ.as_bytes()), None);
    assert_eq!(tokens(&crew), before, "the token was not revoked");
    became.kill();
}

#[test]
fn a_token_is_passed_on_where_that_is_asked_for() {
    let crew = Crew::applied();
    crew.prints_secrets();
    let mut exec = crew.agent("exec", "chat");
    exec.args([
        "--secret",
        "chat",
        "--no-env",
        "--pass-token",
        "--",
        "sh",
        "-c",
        "echo $VAULT_ADDR $VAULT_TOKEN",
    ]);
    let out = run(exec.env("VAULT_TOKEN", "another")).success().stdout;
    let (addr, token) = out.trim().split_once(' ').unwrap();
    assert_eq!(addr, crew.vault.addr());
    let (status, _) = crew.vault.api("GET", "/v1/secret/data/chat", token, &serde_json::Value::Null);
    assert_eq!(status, 200);
}

#[test]
fn the_command_has_the_terminal() {
    let crew = Crew::applied();
    // The fifth field is the process's group, the eighth the one in the terminal's foreground.
    let script =
        "set -- $(cat /proc/$$/stat); [ -t 0 ] && [ \"$5\" = \"$8\" ] && [ \"$5\" = \"$$\" ] && exit 42";
    let command = running(&crew, &[], script);
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', "'\\''"));
    let line: Vec<String> =
        [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]).env_clear();
    terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = run(terminal.env("SHELL", "/bin/sh").current_dir(crew.path("")));
    assert_eq!(ran.code(), 42, "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn nothing_wakes_an_agent_that_has_nothing_to_do() {
    let crew = Crew::applied();
    let mut command = crew.agent("run", "chat");
    command.args(["--secret", "chat", "--env-file", "out/chat.env"]);
    let mut agent = crate::crew::spawn(command);
    agent.wait_for_log("rendered the secrets", SOON);
    // What its start still has to do is done once it has not run for a second.
    let status = || fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let runs =
        || status().lines().find(|line| line.starts_with("voluntary_ctxt_switches")).map(str::to_owned);
    let rests = || {
        let before = runs();
        !wait_until(Duration::from_secs(1), || runs() != before)
    };
    assert!(wait_until(SOON, rests), "{}", agent.log());
    let resident = status()
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse().ok());
    let resident: u64 = resident.unwrap();
    println!("{resident} kB resident");
    let is_shipped =
        crew.programs.path("approle-agent").components().any(|part| part.as_os_str() == "release");
    assert!(!is_shipped || resident <= 8_000, "{resident} kB resident");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o"]).arg(crew.path("trace")).args(["-p", &agent.pid().to_string()]);
    let strace = spawn(&mut strace);
    // Eight seconds of nothing; looks at the directory would be five apart.
    assert!(!wait_until(Duration::from_secs(8), || !agent.is_running()));
    strace.terminate();
    let trace = fs::read_to_string(crew.path("trace")).unwrap_or_default();
    let calls = trace.lines().filter(|line| !line.contains("exited") && !line.contains("---")).count();
    assert!(calls <= 2, "{trace}");
    assert!(
        trace.contains("epoll_wait") || trace.contains("restart_syscall"),
        "nothing was traced: {trace:?}"
    );
    agent.terminate().success();
}
