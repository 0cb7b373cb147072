//! One connection through the proxy.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::requests::Requests;
use super::{Moment, Shared, Trouble};
use crate::wait::pause;

/// Both ends. They are closed when the threads of both directions are done.
pub(super) struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The number of the request under way, 0 before the first.
    number: AtomicUsize,
    /// How much of its answer was passed on.
    answered: AtomicUsize,
    /// The client gets no farewell.
    is_reset: AtomicBool,
}

/// Passes on what comes, each way in a thread of its own.
pub(super) fn serve(link: &Arc<Link>, shared: &Arc<Shared>) {
    for direction in [Link::pass_requests, Link::pass_answers] {
        let (link, shared) = (Arc::clone(link), Arc::clone(shared));
        thread::spawn(move || direction(&link, &shared));
    }
}

impl Link {
    /// `None` where the server is away: then the client's connection is reset.
    pub(super) fn connect(client: TcpStream, upstream: SocketAddr) -> Option<Arc<Self>> {
        let Ok(server) = TcpStream::connect(upstream) else {
            reset_at_close(&client);
            return None;
        };
        for stream in [&client, &server] {
            // What is passed on late proves nothing, it only takes longer.
            let _ = stream.set_nodelay(true);
        }
        let (number, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Some(Arc::new(Self { client, server, number, answered, is_reset: AtomicBool::new(false) }))
    }

    /// Ends it without a farewell to the client.
    pub(super) fn reset(&self) {
        self.is_reset.store(true, Ordering::SeqCst);
        reset_at_close(&self.client);
        // Both threads wake up and close it. To shut its other half down would be the farewell.
        let _ = self.client.shutdown(Shutdown::Read);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    /// Ends it in good order.
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }

    fn pass_requests(&self, shared: &Shared) {
        let mut requests = Requests::default();
        let mut buffer = [0; 16 * 1024];
        let mut passes = true;
        while let Ok(length @ 1..) = (&self.client).read(&mut buffer) {
            for request in requests.feed(&buffer[..length]) {
                let at_path = shared.at_path(&request);
                let number = shared.note(request);
                self.number.store(number, Ordering::SeqCst);
                self.answered.store(0, Ordering::SeqCst);
                let ordered = shared.act(Moment::BeforeRequest, number).or(at_path);
                passes = self.let_through(&ordered.unwrap_or_default());
            }
            if self.number.load(Ordering::SeqCst) == 0 {
                // Another protocol: whatever the client says is what the next bytes answer.
                self.answered.store(0, Ordering::SeqCst);
            }
            shared.hold();
            let passes = passes && shared.trouble() != Trouble::Hang;
            if passes && (&self.server).write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        // The server may still answer to what it has.
        let _ = self.server.shutdown(Shutdown::Write);
    }

    /// Whether the server gets a request with this trouble; where not, all the answer there is was given.
    fn let_through(&self, trouble: &Trouble) -> bool {
        match trouble {
            Trouble::None | Trouble::Refuse | Trouble::BlackHole => return true,
            Trouble::Delay(time) => {
                pause(*time);
                return true;
            }
            Trouble::Hang | Trouble::Garble => {}
            Trouble::Truncate(_) => self.close(),
            Trouble::Reset(_) => self.reset(),
            Trouble::Instead(_) => {
                self.answer(&[], trouble);
            }
        }
        false
    }

    fn pass_answers(&self, shared: &Shared) {
        let mut buffer = [0; 16 * 1024];
        // What was ordered for one answer holds for all its pieces.
        let mut ordered = (0, Trouble::None);
        while let Ok(length @ 1..) = (&self.server).read(&mut buffer) {
            shared.hold();
            let number = self.number.load(Ordering::SeqCst);
            if let Some(trouble) = shared.act(Moment::BeforeAnswer, number) {
                ordered = (number, trouble);
            }
            let trouble = match &ordered {
                (of, trouble) if *of == number && *trouble != Trouble::None => trouble.clone(),
                _ => shared.trouble(),
            };
            if !self.answer(&buffer[..length], &trouble) {
                return;
            }
        }
        if !self.is_reset.load(Ordering::SeqCst) {
            let _ = self.client.shutdown(Shutdown::Write);
        }
    }

    /// Gives the client a piece of an answer, or what comes in its place; `false` where that ends the connection.
    fn answer(&self, piece: &[u8], trouble: &Trouble) -> bool {
        match trouble {
            Trouble::None | Trouble::Refuse | Trouble::BlackHole => self.send(piece),
            Trouble::Delay(time) => {
                pause(*time);
                self.send(piece)
            }
            Trouble::Hang => true,
            Trouble::Garble => self.send(&piece.iter().map(|byte| !byte).collect::<Vec<_>>()),
            Trouble::Truncate(length) => {
                self.send_up_to(*length, piece) || {
                    self.close();
                    false
                }
            }
            Trouble::Reset(length) => {
                self.send_up_to(*length, piece) || {
                    self.reset();
                    false
                }
            }
            Trouble::Instead(bytes) => {
                self.send(bytes);
                self.close();
                false
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> bool {
        self.answered.fetch_add(bytes.len(), Ordering::SeqCst);
        (&self.client).write_all(bytes).is_ok()
    }

    /// `false` once the answer has this length.
    fn send_up_to(&self, length: usize, piece: &[u8]) -> bool {
        let rest = length.saturating_sub(self.answered.load(Ordering::SeqCst));
        self.send(&piece[..rest.min(piece.len())]) && piece.len() < rest
    }
}

/// The kernel resets the connection at its close, instead of ending it.
fn reset_at_close(stream: &TcpStream) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    // Where it fails the connection is closed in good order, and a test that wanted otherwise says so.
    let _ = setsockopt(stream, sockopt::Linger, &at_once);
}
