//! A server that is away, slow, or back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};
use vault_client::{Settings, VaultClient, sys};

const SOON: Duration = Duration::from_secs(30);

/// A server that says it is well, save where it swallows what it is asked.
struct Server {
    address: String,
    swallows: Arc<AtomicBool>,
    /// In milliseconds.
    takes: Arc<AtomicU64>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { address, swallows: Arc::default(), takes: Arc::default(), asked: Arc::default() };
        let (swallows, takes, asked) =
            (Arc::clone(&server.swallows), Arc::clone(&server.takes), Arc::clone(&server.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (swallows, takes, asked) =
                    (Arc::clone(&swallows), Arc::clone(&takes), Arc::clone(&asked));
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while let Ok(1..) = stream.read(&mut request).await {
                        asked.fetch_add(1, Ordering::SeqCst);
                        if !swallows.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(takes.load(Ordering::SeqCst))).await;
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                            stream.write_all(answer).await.unwrap();
                        }
                    }
                });
            }
        });
        server
    }

    fn client(&self) -> VaultClient {
        client(&self.address)
    }
}

fn client(address: &str) -> VaultClient {
    let settings = Settings {
        addresses: vec![address.parse().unwrap()],
        ca_certificates: None,
        client_identity: None,
        tls_server_name: None,
        namespace: None,
        timeout: Duration::from_mins(10),
    };
    VaultClient::new(&settings).unwrap()
}

#[tokio::test]
async fn one_that_was_away_and_is_back_is_told_from_one_that_is_there() {
    let server = Server::start().await;
    let client = server.client();
    for takes in [0, 1_300] {
        server.takes.store(takes, Ordering::SeqCst);
        let there = timeout(Duration::from_millis(4_500), sys::came_back(&client)).await;
        assert!(there.is_err(), "a server that answers within {takes} ms was taken for one that was away");
    }
    let asked = server.asked.load(Ordering::SeqCst);
    assert!((4..=8).contains(&asked), "asked {asked} times in nine seconds, and not in the first");

    server.takes.store(0, Ordering::SeqCst);
    server.swallows.store(true, Ordering::SeqCst);
    let back = Arc::clone(&server.swallows);
    let begin = Instant::now();
    let returns = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        back.store(false, Ordering::SeqCst);
    });
    timeout(SOON, sys::came_back(&client)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(3_500), "it was not back yet");
    returns.await.unwrap();
}

#[tokio::test]
async fn a_connection_that_never_comes_about_is_told_as_that() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    // Nobody takes these two, and there is no room for more: the kernel drops what comes.
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let client = client(&format!("http://{address}"));
    let error = sys::is_leader(&client, 0, client.soon()).await.unwrap_err();
    assert!(error.to_string().contains("no answer: no connection came about in time"), "{error}");
}
