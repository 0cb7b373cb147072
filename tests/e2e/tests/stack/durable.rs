//! What would outlive a power cut anywhere: everything that the program relies on next.

use std::fs;

use harness::{Step, Vault, run, trace};

use crate::crew::Crew;

fn steps(crew: &Crew, command: &std::process::Command) -> Vec<Step> {
    let (outcome, trace) = trace(command);
    outcome.success();
    trace.durable_steps(&crew.path("")).unwrap_or_else(|why| panic!("{why}"))
}

fn appears(name: &str) -> Step {
    Step::Appears(name.into())
}

fn goes(name: &str) -> Step {
    Step::Goes(name.into())
}

fn asks(line: &str) -> Step {
    Step::Asks(line.to_owned())
}

/// Panics unless these are among the steps in this order.
fn assert_order(steps: &[Step], expected: &[Step]) {
    let mut rest = steps.iter();
    for step in expected {
        assert!(rest.any(|found| found == step), "no {step:?} where it belongs in {steps:#?}");
    }
}

#[test]
fn whatever_an_init_relies_on_is_durable_before_it_goes_on() {
    let crew = Crew::new();
    let steps = steps(&crew, &crew.unsealer("init"));
    let mut expected = vec![
        appears("keys"),
        appears("root"),
        asks("GET /v1/sys/seal-status"),
        appears("keys/init-requested"),
        asks("POST /v1/sys/init"),
        appears("keys/init-response.json"),
    ];
    expected.extend((1..=5).map(|share| appears(&format!("keys/unseal-key-{share}"))));
    expected.push(appears("root/root-token"));
    expected.extend([goes("keys/init-response.json"), goes("keys/init-requested"), Step::Tells]);
    assert_eq!(steps, expected);
}

#[test]
fn whatever_a_rekey_and_the_next_unseal_rely_on_is_durable_before_they_go_on() {
    let mut crew = Crew::with_break_glass(Vault::start());
    let rekey = steps(&crew, &crew.unsealer("rekey"));
    let give_back = rekey.iter().find(|step| matches!(step, Step::Asks(line) if line.contains("/verify")));
    let expected = [
        appears("keys/rekey-requested"),
        appears("keys/rekey-response.json"),
        appears("keys/rekeyed/unseal-key-5"),
        goes("keys/rekey-response.json"),
        // Only now the server is asked about them, and given them back.
        give_back.expect("the new shares are given back").clone(),
        appears("keys/before-rekey/unseal-key-5"),
        appears("keys/unseal-key-1"),
        appears("keys/unseal-key-5"),
        goes("keys/rekeyed/unseal-key-1"),
        goes("keys/rekey-requested"),
        Step::Tells,
    ];
    assert_order(&rekey, &expected);

    crew.vault.restart();
    let unseal = steps(&crew, &crew.unsealer("unseal"));
    assert_order(&unseal, &[asks("PUT /v1/sys/unseal"), goes("keys/before-rekey/unseal-key-1"), Step::Tells]);
}

#[test]
fn whatever_an_adoption_relies_on_is_durable_before_it_goes_on() {
    let crew = Crew::with_break_glass(Vault::start());
    fs::rename(crew.path("keys"), crew.path("backup")).unwrap();
    let other = Crew::with_break_glass(Vault::start());
    fs::rename(other.path("keys"), crew.path("keys")).unwrap();
    let mut adopt = crew.unsealer("adopt-keys");
    let steps = steps(&crew, adopt.arg("backup"));
    let expected = [
        appears("keys/earlier-1/unseal-key-5"),
        appears("keys/earlier-1/break-glass/..data"),
        appears("keys/break-glass/..data"),
        appears("keys/unseal-key-1"),
        appears("keys/unseal-key-5"),
        Step::Tells,
    ];
    assert_order(&steps, &expected);
    run(&mut crew.unsealer("unseal")).success();
}
