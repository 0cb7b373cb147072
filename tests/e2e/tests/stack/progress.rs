//! How far a long work has come: on a terminal, and nowhere else.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use harness::run;

use crate::crew::{Crew, own_secret_policy};

#[test]
fn a_terminal_shows_how_far_an_apply_has_come() {
    let crew = Crew::new();
    let mut env = String::new();
    for number in 0..40 {
        let service = format!("s{number}");
        crew.write_policy(&service, &own_secret_policy(&service));
        writeln!(env, "S{number}_KEY=canary-of-{number}").unwrap();
    }
    crew.write_env(&(crew.read(".env") + &env));
    crew.initialise();
    let on_a_terminal = |apply: &Command, flags: &str| {
        let words = [apply.get_program()].into_iter().chain(apply.get_args());
        let line = words.map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command"]).arg(line + flags).arg("/dev/null");
        script.env("VAULT_ADDR", crew.vault.addr()).current_dir(crew.path(""));
        run(&mut script).success().stdout
    };
    let shown = on_a_terminal(&crew.bootstrap("apply"), "");
    for doing in ["asking Vault about services", "writing services", "looking at credentials"] {
        assert!(shown.contains(&format!("\r\u{1b}[K{doing}: ")), "{doing} in {shown:?}");
    }
    // What is logged begins a line of its own, and what was done last stands in a clean one.
    for line in shown.lines().filter(|line| line.contains("delivered credentials")) {
        let behind_the_line = line.rsplit("\u{1b}[K").next().unwrap();
        assert!(behind_the_line.starts_with("20"), "{line:?}");
    }
    assert!(shown.trim_end().ends_with("\u{1b}[Kapplied: 43 services, 44 new credentials"), "{shown:?}");

    let for_programs = on_a_terminal(&crew.bootstrap("apply"), " --log-format json");
    assert!(!for_programs.contains('\u{1b}'), "{for_programs:?}");
    // So that there is something to be done again.
    fs::remove_dir_all(crew.path("approle")).unwrap();
    let piped = crew.apply().success();
    assert!(piped.stderr.contains("delivered credentials") && !piped.stderr.contains(['\r', '\u{1b}']));
}
