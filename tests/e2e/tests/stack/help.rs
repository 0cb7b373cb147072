//! The command line as its users see it, kept as files. After a wanted change: `TRYCMD=overwrite`.

use harness::Programs;

#[test]
fn help_and_usage_are_as_recorded() {
    let programs = Programs::locate();
    let cases = trycmd::TestCases::new();
    for program in ["unsealer", "bootstrap", "approle-agent", "db-init"] {
        cases.register_bin(program, programs.path(program));
    }
    cases.case("tests/cli/*.trycmd");
}
