use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::time::Instant;

use super::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const REQUEST: &str = "GET /v1/sys/health HTTP/1.1\r\n\r\n";
const SHORT: Duration = Duration::from_millis(200);

/// A server that answers the same to everything, on as many connections as come; what it was sent comes out.
fn server() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, requests) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let seen = seen.clone();
            thread::spawn(move || converse(stream.unwrap(), &seen));
        }
    });
    (address, requests)
}

fn converse(mut stream: TcpStream, seen: &mpsc::Sender<String>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let _ = seen.send(String::from_utf8_lossy(&buffer[..length]).into_owned());
        if stream.write_all(ANSWER.as_bytes()).is_err() {
            return;
        }
    }
}

/// What comes until there is as much as the answer is long, until the end, an error, or for a while.
fn exchange(client: &mut TcpStream) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    client.set_read_timeout(Some(SHORT)).unwrap();
    client.write_all(REQUEST.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return (answer, None),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) => return (answer, Some(error.kind())),
        }
    }
}

fn through(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).unwrap()
}

const WAITED: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::WouldBlock);
const RESET: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::ConnectionReset);

#[test]
fn what_goes_into_a_black_hole_comes_late() {
    let (address, seen) = server();
    let proxy = Proxy::start(address);
    let mut client = through(&proxy);
    proxy.set(Trouble::BlackHole);
    assert_eq!(exchange(&mut client), (Vec::new(), WAITED));
    assert!(seen.try_recv().is_err());
    proxy.set(Trouble::None);
    let mut answer = [0; ANSWER.len()];
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, ANSWER.as_bytes());
}

#[test]
fn without_trouble_everything_passes_and_requests_are_counted_over_all_connections() {
    let (address, seen) = server();
    let proxy = Proxy::start(address);
    let mut client = through(&proxy);
    for _ in 0..2 {
        assert_eq!(exchange(&mut client), (ANSWER.into(), WAITED));
        assert_eq!(seen.recv().unwrap(), REQUEST);
    }
    assert_eq!(exchange(&mut through(&proxy)).0, ANSWER.as_bytes());
    assert_eq!(proxy.requests(), ["GET /v1/sys/health"; 3]);
}

#[test]
fn answers_suffer_what_was_set() {
    let (address, _seen) = server();
    let proxy = Proxy::start(address);
    let garbled: Vec<u8> = ANSWER.bytes().map(|byte| !byte).collect();
    for (trouble, expected) in [
        (Trouble::Hang, (Vec::new(), WAITED)),
        (Trouble::Garble, (garbled, WAITED)),
        (Trouble::Truncate(20), (ANSWER.as_bytes()[..20].to_vec(), None)),
        (Trouble::Truncate(0), (Vec::new(), None)),
        (Trouble::Reset(20), (ANSWER.as_bytes()[..20].to_vec(), RESET)),
        (Trouble::Instead(b"<html>".to_vec()), (b"<html>".to_vec(), None)),
        (Trouble::None, (ANSWER.into(), WAITED)),
    ] {
        proxy.set(trouble.clone());
        assert_eq!(exchange(&mut through(&proxy)), expected, "{trouble:?}");
    }
    proxy.set(Trouble::Delay(SHORT / 2));
    let begin = Instant::now();
    assert_eq!(exchange(&mut through(&proxy)).0, ANSWER.as_bytes());
    assert!(begin.elapsed() >= SHORT / 2);
}

#[test]
fn a_refusal_leaves_what_is_connected_until_the_cut() {
    let (address, _seen) = server();
    let proxy = Proxy::start(address);
    let mut client = through(&proxy);
    assert_eq!(exchange(&mut client).0, ANSWER.as_bytes());
    proxy.set(Trouble::Refuse);
    let refused = TcpStream::connect(proxy.address()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(exchange(&mut client).0, ANSWER.as_bytes());
    proxy.cut();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(client.read(&mut [0; 8]).map_err(|error| Some(error.kind())), Err(RESET));
    proxy.set(Trouble::None);
    assert_eq!(exchange(&mut through(&proxy)).0, ANSWER.as_bytes());
    // Neither while it refuses nor else does it stay when its owner goes.
    proxy.set(Trouble::Refuse);
    drop(proxy);
}

#[test]
fn before_its_answer_the_server_has_a_request_and_before_the_request_it_has_not() {
    for (moment, has_it) in [(Moment::BeforeRequest, 0), (Moment::BeforeAnswer, 1)] {
        for trouble in [Trouble::Reset(0), Trouble::Truncate(3), Trouble::Instead(b"no".to_vec())] {
            let (address, seen) = server();
            let proxy = Proxy::start(address);
            let (tell, told) = mpsc::channel();
            let (mut first, mut second) = (through(&proxy), through(&proxy));
            proxy.at(moment, 2, {
                let trouble = trouble.clone();
                move || {
                    tell.send(()).unwrap();
                    trouble
                }
            });
            assert_eq!(exchange(&mut first).0, ANSWER.as_bytes());
            assert!(told.try_recv().is_err());
            let (answer, _) = exchange(&mut second);
            assert!(answer.len() <= 3, "{moment:?} {trouble:?}");
            told.recv().unwrap();
            assert_eq!(seen.try_iter().count(), 1 + has_it, "{moment:?} {trouble:?}");
            assert_eq!(exchange(&mut through(&proxy)).0, ANSWER.as_bytes());
        }
    }
}

#[test]
fn trouble_from_a_request_on_stays_until_it_is_taken_back() {
    let (address, _seen) = server();
    let proxy = Proxy::start(address);
    proxy.from(Moment::BeforeRequest, 2, Trouble::Truncate(0));
    let mut client = through(&proxy);
    assert_eq!(exchange(&mut client).0, ANSWER.as_bytes());
    assert_eq!(exchange(&mut client), (Vec::new(), None));
    assert_eq!(exchange(&mut through(&proxy)), (Vec::new(), None));
    proxy.forget();
    assert_eq!(exchange(&mut through(&proxy)).0, ANSWER.as_bytes());
}

#[test]
fn a_server_that_is_away_resets_the_client() {
    let (address, _seen) = server();
    let proxy = Proxy::start(free_address().unwrap());
    let mut client = through(&proxy);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(client.read(&mut [0; 8]).map_err(|error| Some(error.kind())), Err(RESET));
    assert_ne!(proxy.address(), address);
}

#[test]
fn a_path_can_be_answered_in_the_place_of_the_server() {
    let (upstream, seen) = server();
    let proxy = Proxy::start(upstream);
    proxy.at_path("/v1/sys/he", Trouble::Instead(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()));
    let mut client = TcpStream::connect(proxy.address()).unwrap();
    let (answer, _) = exchange(&mut client);
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{answer:?}");
    assert!(seen.try_recv().is_err());
    assert_eq!(proxy.requests(), ["GET /v1/sys/health"]);
}
