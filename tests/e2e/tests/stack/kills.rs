//! unsealer hurt at every file effect and request of what it does with keys: the next start finishes, and no share
//! or token is lost or open to others.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::{Call, Fault, Moment, Proxy, Trouble, Vault, run, run_killed_at};
use serde_json::Value;

use crate::crew::Crew;
use crate::hurt::{Backup, Faults, Point, all_there_is, everywhere};

fn shares(crew: &Crew) -> BTreeSet<String> {
    (1..=5).map(|share| crew.read(&format!("keys/unseal-key-{share}"))).collect()
}

/// All five shares and the token are there, nothing else is, and they are this Vault's.
fn assert_whole(crew: &Crew, why: &str) {
    let unsealed = run(&mut crew.unsealer("unseal"));
    assert_eq!(unsealed.code(), 0, "{}\n{why}", unsealed.stderr);
    crew.vault.wait_for_health(200).unwrap();
    let token = crew.root_token();
    let (status, _) = crew.vault.api("GET", "/v1/auth/token/lookup-self", &token, &Value::Null);
    assert_eq!(status, 200, "the root token does not work\n{why}");
    let names: Vec<_> = fs::read_dir(crew.path("keys")).expect("the keys").flatten().collect();
    assert_eq!(names.len(), 5, "{names:?}\n{why}");
    assert_eq!(crew.canary().scan_runs(), None, "{why}");
}

/// What the server answers, byte for byte, to be given again by a proxy.
fn answer_to(crew: &Crew, method: &str, path: &str, body: &str) -> Trouble {
    let address = crew.vault.addresses()[0];
    let mut connection = TcpStream::connect(address).expect("the server");
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).expect("the server");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("the server");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}");
    Trouble::Instead(answer)
}

/// One Vault is initialised, and what it said before and then is said to every run again.
fn init(faults: Faults) {
    let mut crew = Crew::new();
    let before = answer_to(&crew, "GET", "/v1/sys/seal-status", "");
    let body = r#"{"secret_shares":5,"secret_threshold":3}"#;
    let made = answer_to(&crew, "POST", "/v1/sys/init", body);
    let proxy = Proxy::start(crew.vault.addresses()[0]);
    let say_again = || {
        proxy.forget();
        for (number, answer) in [(1, before.clone()), (2, made.clone())] {
            proxy.at(Moment::BeforeRequest, proxy.requests().len() + number, || answer);
        }
    };
    let through_proxy = |crew: &Crew| {
        let mut init = crew.unsealer("init");
        init.env("VAULT_ADDR", proxy.addr());
        init
    };
    let prepare = |crew: &mut Crew| {
        crew.remove("keys");
        crew.remove("root");
        say_again();
    };
    let finish = |crew: &mut Crew, point: &Point<'_>| {
        let asked = point.effects.iter().rposition(Call::is_request).expect("sys/init");
        let is_unasked = point.index < asked || point.fault == Fault::KillBefore;
        if is_unasked && point.outcome.code() != 0 {
            say_again();
            run(&mut through_proxy(crew)).success();
        } else if run(&mut crew.unsealer("init")).code() != 0 {
            // The one window that no client can close: the server has committed, and its answer was not written.
            assert!(point.index < asked + 2, "the answer was here, and is lost: {point}");
            let lost = run(&mut crew.unsealer("init")).expect_code(78);
            assert!(lost.stderr.contains("its keys were never received"), "{}\n{point}", lost.stderr);
            return;
        }
        assert_whole(crew, &point.to_string());
    };
    everywhere(&mut crew, faults, (0, 1), through_proxy, prepare, finish);
}

#[test]
fn an_init_killed_anywhere_is_finished_or_recognised() {
    init(Faults::Kills);
}

#[test]
fn an_init_that_the_system_refuses_any_effect_loses_nothing() {
    init(Faults::Refusals);
}

/// On a fresh Vault each: whether it has done what it was asked is seen by what it says afterwards.
#[test]
fn an_init_killed_between_request_and_answer_is_recognised_and_can_be_begun_anew() {
    for (moment, number, is_lost) in
        [(Moment::BeforeAnswer, 1, false), (Moment::BeforeRequest, 2, false), (Moment::BeforeAnswer, 2, true)]
    {
        let mut crew = Crew::new();
        let proxy = Proxy::start(crew.vault.addresses()[0]);
        let mut init = crew.unsealer("init");
        init.env("VAULT_ADDR", proxy.addr());
        let killed = run_killed_at(&mut init, &proxy, moment, number);
        assert_eq!(killed.code(), 137, "{}", killed.stderr);
        assert_eq!(proxy.requests(), ["GET /v1/sys/seal-status", "POST /v1/sys/init"][..number]);
        if is_lost {
            // Both those who only initialise and those who stay say so, again and again.
            for subcommand in ["init", "run", "init"] {
                let lost = run(&mut crew.unsealer(subcommand)).expect_code(78);
                assert!(lost.stderr.contains("its keys were never received"), "{}", lost.stderr);
            }
            crew.begin_anew();
            fs::remove_file(crew.path("keys/init-requested")).unwrap();
        }
        run(&mut crew.unsealer("init")).success();
        assert_whole(&crew, "after the kill");
    }
}

/// Held, and with the shares from before a rekey, which go once the new ones have unsealed.
fn unseal(faults: Faults) {
    let mut crew = Crew::with_break_glass(Vault::start());
    run(&mut crew.unsealer("rekey")).success();
    run(crew.unsealer("hold").arg("on")).success();
    let (root, current, before) = (crew.root_token(), shares(&crew), Backup::of(&crew));
    let prepare = |crew: &mut Crew| {
        before.restore(crew);
        if crew.vault.health() == Some(200) {
            crew.vault.seal(&root);
        }
    };
    let finish = |crew: &mut Crew, point: &Point<'_>| {
        assert_eq!(shares(crew), current, "{point}");
        let again = run(&mut crew.unsealer("unseal"));
        assert_eq!(again.code(), 0, "{}\n{point}", again.stderr);
        assert!(!crew.path("keys/hold").exists(), "{point}");
        // Those from before the rekey go now, or when the new ones unseal the next time.
        crew.vault.wait_for_health(200).unwrap();
        crew.vault.seal(&root);
        run(&mut crew.unsealer("unseal")).success();
        assert!(!crew.path("keys/before-rekey").exists(), "{point}");
        assert_eq!(shares(crew), current, "{point}");
        crew.vault.wait_for_health(200).unwrap();
    };
    everywhere(&mut crew, faults, (0, 1), |crew| crew.unsealer("unseal"), prepare, finish);
}

#[test]
fn an_unseal_killed_anywhere_is_finished() {
    unseal(Faults::Kills);
}

#[test]
fn an_unseal_that_the_system_refuses_any_effect_loses_nothing() {
    unseal(Faults::Refusals);
}

/// With the shares from before another rekey. After every second fault Vault is sealed and forgets the rekey.
fn rekey(faults: Faults, parts: (usize, usize)) {
    let mut crew = Crew::with_break_glass(Vault::start());
    run(&mut crew.unsealer("rekey")).success();
    let root = crew.root_token();
    let prepare = |crew: &mut Crew| {
        if ["rekeyed", "rekey-requested", "rekey-response.json"]
            .iter()
            .any(|name| crew.path("keys").join(name).exists())
        {
            run(&mut crew.unsealer("rekey")).success();
        }
    };
    let finish = |crew: &mut Crew, point: &Point<'_>| {
        if point.index.is_multiple_of(2) {
            crew.vault.seal(&root);
            let unsealed = run(&mut crew.unsealer("unseal"));
            assert_eq!(unsealed.code(), 0, "{}\n{point}", unsealed.stderr);
            crew.vault.wait_for_health(200).unwrap();
        }
        let again = run(&mut crew.unsealer("rekey"));
        assert_eq!(again.code(), 0, "{}\n{point}", again.stderr);
        for name in ["rekeyed", "rekey-requested", "rekey-response.json"] {
            assert!(!crew.path("keys").join(name).exists(), "{name} is left: {point}");
        }
        assert!(crew.path("keys/before-rekey/unseal-key-5").exists(), "{point}");
        let proven = run(crew.unsealer("check-keys").arg("--prove"));
        assert_eq!(proven.code(), 0, "{}{}\n{point}", proven.stdout, proven.stderr);
    };
    everywhere(&mut crew, faults, parts, |crew| crew.unsealer("rekey"), prepare, finish);
}

#[test]
fn a_rekey_killed_anywhere_is_finished_first_half() {
    rekey(Faults::Kills, (0, 2));
}

#[test]
fn a_rekey_killed_anywhere_is_finished_second_half() {
    rekey(Faults::Kills, (1, 2));
}

#[test]
fn a_rekey_that_the_system_refuses_any_effect_loses_nothing_first_half() {
    rekey(Faults::Refusals, (0, 2));
}

#[test]
fn a_rekey_that_the_system_refuses_any_effect_loses_nothing_second_half() {
    rekey(Faults::Refusals, (1, 2));
}

/// The keys of another Vault are here, in the middle of a rekey of theirs, and this one's are adopted.
fn adopt(faults: Faults, parts: (usize, usize)) {
    let mut crew = Crew::with_break_glass(Vault::start());
    fs::rename(crew.path("keys"), crew.path("backup")).unwrap();
    let other = Crew::with_break_glass(Vault::start());
    run(&mut other.unsealer("rekey")).success();
    let theirs = all_there_is(&other);
    Backup::of(&other).restore(&crew);
    let before = Backup::of(&crew);
    let ours: BTreeSet<String> =
        (1..=5).map(|share| crew.read(&format!("backup/unseal-key-{share}"))).collect();
    let adopt_keys = |crew: &Crew| {
        let mut adopt = crew.unsealer("adopt-keys");
        adopt.arg("backup");
        adopt
    };
    let prepare = |crew: &mut Crew| before.restore(crew);
    let finish = |crew: &mut Crew, point: &Point<'_>| {
        assert!(all_there_is(crew).is_superset(&theirs), "what was here is lost: {point}");
        let again = run(&mut adopt_keys(crew));
        assert_eq!(again.code(), 0, "{}\n{point}", again.stderr);
        assert!(all_there_is(crew).is_superset(&theirs), "what was here is lost: {point}");
        assert_eq!(shares(crew), ours, "{point}");
        for file in ["role_id", "secret_id"] {
            let file = format!("break-glass/{file}");
            assert_eq!(crew.read(&format!("keys/{file}")), crew.read(&format!("backup/{file}")), "{point}");
        }
        assert!(!crew.path("keys/before-rekey").exists(), "{point}");
        assert_eq!(crew.canary().scan_runs(), None, "{point}");
    };
    everywhere(&mut crew, faults, parts, adopt_keys, prepare, finish);
}

#[test]
fn an_adoption_killed_anywhere_is_finished_first_half() {
    adopt(Faults::Kills, (0, 2));
}

#[test]
fn an_adoption_killed_anywhere_is_finished_second_half() {
    adopt(Faults::Kills, (1, 2));
}

#[test]
fn an_adoption_that_the_system_refuses_any_effect_loses_nothing_first_half() {
    adopt(Faults::Refusals, (0, 2));
}

#[test]
fn an_adoption_that_the_system_refuses_any_effect_loses_nothing_second_half() {
    adopt(Faults::Refusals, (1, 2));
}
