//! The requests of bootstrap, alone, with next to no work on this side: what the server bears.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use harness::wait_until;
use serde_json::{Value, json};

use super::stack::{SERVICES, Stack, policy, service, values};
use super::{side_by_side, timed};
use crate::error::{Error, Result};

/// Everything that a first apply asks for and writes. Gives the accessors of the secret IDs too.
pub(super) fn first(stack: &Stack) -> Result<(Duration, Vec<String>)> {
    let requests: Vec<_> = (0..SERVICES).map(made).collect();
    let mut answers = Vec::new();
    let time = timed(|| {
        let api = stack.api();
        let write = |path: &str, body: &Value| api.expect("POST", path, stack.token(), body);
        write("/v1/sys/mounts/secret", &json!({"type": "kv", "options": {"version": "2"}}))?;
        write("/v1/sys/auth/approle", &json!({"type": "approle"}))?;
        let config = || api.expect("GET", "/v1/secret/config", stack.token(), &Value::Null);
        if !wait_until(Duration::from_secs(10), || config().is_ok()) {
            config()?;
        }
        answers = send(stack, &requests)?;
        Ok(())
    })?;
    let accessor = |answer: &Vec<u8>| {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        answer["data"]["secret_id_accessor"].as_str().unwrap_or_default().to_owned()
    };
    Ok((time, answers.iter().map(accessor).collect()))
}

/// Everything that an apply reads before it can say that nothing differs. What no list of the server tells, each
/// service is asked for: the settings of its role, its `role_id`, and whether its secret ID still lives.
pub(super) fn second(stack: &Stack, accessors: &[String]) -> Result<Duration> {
    let requests: Vec<_> =
        accessors.iter().enumerate().map(|(number, accessor)| read(number, accessor)).collect();
    timed(|| {
        let api = stack.api();
        for list in ["sys/policies/detailed/acl", "secret/detailed-metadata", "auth/approle/role"] {
            api.expect("LIST", &format!("/v1/{list}"), stack.token(), &Value::Null)?;
        }
        send(stack, &requests).map(drop)
    })
}

/// Method, path and body.
type Request = (&'static str, String, String);

fn made(number: usize) -> Vec<Request> {
    let name = service(number);
    let role_path = format!("auth/approle/role/{name}");
    let secret = json!({"data": values(number).collect::<serde_json::Map<_, _>>(), "options": {"cas": 0}});
    let note = json!({"custom_metadata": {"vaultcrew-applied-version": "1"}});
    let role = json!({
        "token_policies": [format!("{name}-policy")], "token_ttl": "1h", "token_max_ttl": "4h", "secret_id_ttl": "1h",
    });
    vec![
        ("POST", format!("secret/data/{name}"), secret.to_string()),
        ("POST", format!("secret/metadata/{name}"), note.to_string()),
        ("POST", format!("sys/policies/acl/{name}-policy"), json!({"policy": policy(number)}).to_string()),
        ("POST", role_path.clone(), role.to_string()),
        ("GET", format!("{role_path}/role-id"), String::new()),
        ("POST", format!("{role_path}/secret-id"), "{}".to_owned()),
    ]
}

fn read(number: usize, accessor: &str) -> Vec<Request> {
    let role = format!("auth/approle/role/{}", service(number));
    let accessor = json!({"secret_id_accessor": accessor}).to_string();
    vec![
        ("GET", role.clone(), String::new()),
        ("GET", format!("{role}/role-id"), String::new()),
        ("POST", format!("{role}/secret-id-accessor/lookup"), accessor),
    ]
}

/// Sends the requests of each service, one behind the other, of many services at once; the last answer of each.
fn send(stack: &Stack, requests: &[Vec<Request>]) -> Result<Vec<Vec<u8>>> {
    side_by_side(
        || Connection::open(stack),
        |connection, number| {
            let mut last = Vec::new();
            for request in &requests[number] {
                last = connection.exchange(stack.token(), request)?;
            }
            Ok(last)
        },
    )
}

/// One connection that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(stack: &Stack) -> Result<Self> {
        let address = stack.address();
        let opening = || Error::io(format!("connect to {address}"));
        let stream = TcpStream::connect(address).map_err(opening())?;
        stream.set_nodelay(true).map_err(opening())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn exchange(&mut self, token: &str, (method, path, body): &Request) -> Result<Vec<u8>> {
        let length = body.len();
        let request = format!(
            "{method} /v1/{path} HTTP/1.1\r\nHost: bench\r\nX-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n\
             {body}"
        );
        let (head, answer) = self.round_trip(&request).map_err(Error::io(format!("{method} {path}")))?;
        if head.starts_with("HTTP/1.1 2") {
            return Ok(answer);
        }
        Err(Error::Failed {
            doing: format!("{method} {path}"),
            said: String::from_utf8_lossy(&answer).into_owned(),
        })
    }

    /// Head and body of the answer.
    fn round_trip(&mut self, request: &str) -> std::io::Result<(String, Vec<u8>)> {
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body)?;
        Ok((head, body))
    }
}
