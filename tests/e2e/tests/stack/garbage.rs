//! A server, or what stands in its place, that answers nothing that a server answers: every command of unsealer says
//! so with the right exit code, loses nothing and shows nothing.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Moment, Proxy, Trouble, Vault, free_address, run, wait_until};

use crate::crew::{Crew, SOON, spawn};
use crate::hurt::{Backup, all_there_is};

const FAILED: i32 = 1;
const UNAVAILABLE: i32 = 69;
const CONFIG: i32 = 78;

/// One kind of answer, and the exit code that it deserves.
struct Garbage {
    name: &'static str,
    trouble: Trouble,
    /// Whether the server gets the request that it is the answer to.
    moment: Moment,
    code: i32,
    /// It may pass, and is waited for.
    is_slow: bool,
}

/// Where a redirect leads: nobody may come.
struct Trap {
    address: String,
    visitors: Arc<AtomicUsize>,
}

impl Trap {
    fn set() -> Self {
        let listener = TcpListener::bind(free_address().unwrap()).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let visitors = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&visitors);
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, visitors }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.visitors.load(Ordering::SeqCst), 0, "a redirect was followed");
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Trouble {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n");
    Trouble::Instead((head + body).into_bytes())
}

fn all_garbage(trap: &Trap) -> Vec<Garbage> {
    let instead = |name, trouble, code, is_slow| Garbage {
        name,
        trouble,
        moment: Moment::BeforeRequest,
        code,
        is_slow,
    };
    let cut = |name, trouble| Garbage {
        name,
        trouble,
        moment: Moment::BeforeAnswer,
        code: UNAVAILABLE,
        is_slow: true,
    };
    let wrong_types = r#"{"initialized":"yes","sealed":1,"type":[],"t":"3","n":{},"progress":-1,"nonce":7,
        "complete":"true","ha_enabled":0,"auth":"none","data":{"nonce":[],"otp":1,"required":"3"},"keys_base64":{}}"#;
    let errors = r#"{"errors":["1 error occurred:\n\t* internal error\n\n"]}"#;
    let endless = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_owned() + &" ".repeat(17 << 20);
    let elsewhere = format!("Location: {}/v1/sys/unseal\r\n", trap.address);
    vec![
        instead("half of a JSON", answer("200 OK", "", r#"{"initialized":tr"#), FAILED, false),
        instead("a page", answer("200 OK", "", "<html><title>Log in</title></html>"), FAILED, false),
        instead("wrong types", answer("200 OK", "", wrong_types), FAILED, false),
        instead("null", answer("200 OK", "", "null"), FAILED, false),
        instead("a pit", answer("200 OK", "", &"[".repeat(100_000)), FAILED, false),
        instead("a body without end", Trouble::Instead(endless.into_bytes()), UNAVAILABLE, false),
        instead("an error of the server", answer("500 Oh", "", errors), UNAVAILABLE, true),
        instead("a page of a proxy", answer("502 Oh", "", "<html>bad gateway</html>"), UNAVAILABLE, true),
        instead("a quota", answer("429 Oh", "Retry-After: 1\r\n", errors), UNAVAILABLE, true),
        instead("another host", answer("307 There", &elsewhere, ""), UNAVAILABLE, true),
        instead("another host for good", answer("301 There", &elsewhere, ""), UNAVAILABLE, true),
        instead("silence", Trouble::Hang, UNAVAILABLE, true),
        cut("a reset", Trouble::Reset(0)),
        cut("a reset midway", Trouble::Reset(70)),
        cut("an end midway", Trouble::Truncate(70)),
        cut("noise", Trouble::Garble),
    ]
}

/// Answers each request of `command` in turn, and all after it, by garbage. `prepare` brings the state about that
/// each run begins with.
///
/// Every kind is given to the first request, and to the others those that take no time, and of the rest some.
fn garble(crew: &mut Crew, command: impl Fn(&Crew) -> Command, mut prepare: impl FnMut(&mut Crew)) {
    let trap = Trap::set();
    let garbage = all_garbage(&trap);
    let mut wrong = Vec::new();
    for (index, kind) in garbage.iter().enumerate() {
        for number in 1.. {
            if kind.is_slow && number > 1 && !(index + number).is_multiple_of(8) {
                if number > 20 {
                    break;
                }
                continue;
            }
            prepare(crew);
            let before = all_there_is(crew);
            let proxy = Proxy::start(crew.vault.addresses()[0]);
            proxy.from(kind.moment, number, kind.trouble.clone());
            let mut command = command(crew);
            let outcome = run(command.env("VAULT_ADDR", proxy.addr()).env("VAULT_CLIENT_TIMEOUT", "1s"));
            let requests = proxy.requests();
            if requests.len() < number {
                assert!(number > 1, "it asks nothing");
                break;
            }
            let at = format!("{} at {}", kind.name, requests[number - 1]);
            assert!(!outcome.stderr.contains("panicked"), "{at}: {}", outcome.stderr);
            assert!(all_there_is(crew).is_superset(&before), "{at}: {}", outcome.stderr);
            // What an init was answered is kept, whatever it was.
            let is_kept = kind.code == FAILED && requests[number - 1].ends_with("/sys/init");
            let expected = if is_kept { CONFIG } else { kind.code };
            // A token made for the command ends by itself where it cannot be revoked.
            let is_needless = number > 1 && requests[number - 1].ends_with("revoke-self");
            if outcome.code() != expected && !(outcome.code() == 0 && is_needless) {
                wrong.push(format!("{at}: {} for {expected}: {}", outcome.code(), outcome.stderr));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    prepare(crew);
    run(&mut command(crew)).success();
}

#[test]
fn init_takes_nothing_else_for_an_answer() {
    let prepare = |crew: &mut Crew| {
        if crew.vault.health() != Some(501) {
            crew.begin_anew();
        }
        crew.remove("keys");
        crew.remove("root");
    };
    garble(&mut Crew::new(), |crew| crew.unsealer("init"), prepare);
}

#[test]
fn unseal_takes_nothing_else_for_an_answer() {
    let mut crew = Crew::new();
    crew.initialise();
    let root = crew.root_token();
    let prepare = |crew: &mut Crew| {
        if crew.vault.health() == Some(200) {
            crew.vault.seal(&root);
        }
    };
    garble(&mut crew, |crew| crew.unsealer("unseal"), prepare);
}

#[test]
fn status_and_a_proof_of_the_shares_take_nothing_else_for_an_answer() {
    let mut crew = Crew::with_break_glass(Vault::start());
    garble(&mut crew, |crew| crew.unsealer("status"), |_| {});
    let prove = |crew: &Crew| {
        let mut prove = crew.unsealer("check-keys");
        prove.arg("--prove");
        prove
    };
    garble(&mut crew, prove, |_| {});
}

#[test]
fn rekey_takes_nothing_else_for_an_answer() {
    let mut crew = Crew::with_break_glass(Vault::start());
    // Whatever the one before has left is finished by the next.
    let prepare = |crew: &mut Crew| drop(run(&mut crew.unsealer("rekey")).success());
    garble(&mut crew, |crew| crew.unsealer("rekey"), prepare);
    run(crew.unsealer("check-keys").arg("--prove")).success();
}

#[test]
fn adopt_keys_takes_nothing_else_for_an_answer() {
    let mut crew = Crew::with_break_glass(Vault::start());
    fs::rename(crew.path("keys"), crew.path("backup")).unwrap();
    let other = Crew::with_break_glass(Vault::start());
    Backup::of(&other).restore(&crew);
    let before = Backup::of(&crew);
    let adopt = |crew: &Crew| {
        let mut adopt = crew.unsealer("adopt-keys");
        adopt.arg("backup");
        adopt
    };
    garble(&mut crew, adopt, |crew| before.restore(crew));
}

#[test]
fn generate_root_takes_nothing_else_for_an_answer() {
    let mut crew = Crew::with_break_glass(Vault::start());
    garble(&mut crew, |crew| crew.unsealer("generate-root"), |crew| crew.remove("root"));
}

#[test]
fn revoke_root_takes_nothing_else_for_an_answer() {
    let mut crew = Crew::with_break_glass(Vault::start());
    let root = crew.root_token();
    let before = Backup::of(&crew);
    garble(&mut crew, |crew| crew.unsealer("revoke-root"), |crew| before.restore(crew));
    let (status, _) = crew.vault.api("GET", "/v1/auth/token/lookup-self", &root, &serde_json::Value::Null);
    assert_eq!(status, 403);
}

#[test]
fn run_outlasts_one_half_of_the_answers_that_are_none() {
    run_outlasts(0);
}

#[test]
fn run_outlasts_the_other_half_of_the_answers_that_are_none() {
    run_outlasts(1);
}

/// The one that stays outlasts it all, and unseals once there is a server again.
fn run_outlasts(half: usize) {
    let crew = Crew::new();
    crew.initialise();
    let root = crew.root_token();
    let trap = Trap::set();
    for kind in all_garbage(&trap).into_iter().skip(half).step_by(2) {
        crew.vault.seal(&root);
        let proxy = Proxy::start(crew.vault.addresses()[0]);
        proxy.from(kind.moment, 1, kind.trouble);
        let mut command = crew.unsealer("run");
        command.env("VAULT_ADDR", proxy.addr()).env("VAULT_CLIENT_TIMEOUT", "1s");
        let mut unsealer = spawn(command);
        let asks_on = wait_until(SOON, || proxy.requests().len() > 1);
        assert!(asks_on && unsealer.is_running(), "{}: {}", kind.name, unsealer.log());
        assert_eq!(crew.vault.health(), Some(503), "{}", kind.name);
        proxy.forget();
        assert!(wait_until(SOON, || crew.vault.health() == Some(200)), "{}: {}", kind.name, unsealer.log());
        let ended = unsealer.terminate();
        assert_eq!(ended.code(), 0, "{}: {}", kind.name, ended.stderr);
    }
}
