//! A proxy between a program and a real server, which makes the network as bad as a test wants it.

mod link;
mod messages;
mod requests;

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::link::Link;
use crate::error::{Error, Result, or_panic};
use crate::loopback::free_address;
use crate::wait::pause;

/// After how long TCP sends again what nobody acknowledged; from then on after twice as long each time.
const FIRST_AGAIN: Duration = Duration::from_millis(200);

/// What the proxy does to answers, and to the requests that they are for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Trouble {
    /// Nothing: requests and answers are passed on as they come.
    #[default]
    None,
    /// Nobody listens. What is connected stays so until [`Proxy::cut`].
    Refuse,
    /// Every piece of an answer comes this much later.
    Delay(Duration),
    /// What comes is taken, and never passed on: neither requests nor answers.
    Hang,
    /// Nothing comes through, as where every packet is dropped: what was sent meanwhile arrives once that is over, as
    /// late as TCP sends it again.
    BlackHole,
    /// Every byte of an answer is another one.
    Garble,
    /// An answer ends after so many bytes, and the connection with it, in good order.
    Truncate(usize),
    /// An answer ends after so many bytes, and the connection is reset.
    Reset(usize),
    /// These bytes come in the place of an answer, and end the connection.
    Instead(Vec<u8>),
}

/// A point in the life of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The proxy has its head, the server nothing that it could act upon.
    BeforeRequest,
    /// The server has done it and said so, the program does not know yet.
    BeforeAnswer,
}

/// A proxy; its connections end when it is dropped.
///
/// Without TLS between program and server it sees the requests, of HTTP or of PostgreSQL, and counts them over all
/// connections.
pub struct Proxy {
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy before this server, on a free loopback address.
    #[track_caller]
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        or_panic(Self::before(upstream))
    }

    /// The same, as a result.
    pub fn before(upstream: SocketAddr) -> Result<Self> {
        let address = free_address()?;
        let listener = bind(address)?;
        let state = State { listens: true, ..State::default() };
        let shared =
            Arc::new(Shared { address, upstream, state: Mutex::new(state), changed: Condvar::new() });
        let listening = thread::spawn({
            let shared = Arc::clone(&shared);
            move || listen(&shared, listener)
        });
        Ok(Self { shared, listening: Some(listening) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Its address as programs take it for Vault: `http://127.a.b.c:port`.
    #[must_use]
    pub fn addr(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// The server behind it.
    #[must_use]
    pub fn upstream(&self) -> SocketAddr {
        self.shared.upstream
    }

    /// Makes this trouble from now on, for new and for standing connections.
    pub fn set(&self, trouble: Trouble) {
        let refuses = trouble == Trouble::Refuse;
        let mut state = self.shared.state();
        state.trouble = trouble;
        self.shared.changed.notify_all();
        if refuses && state.listens {
            drop(state);
            self.wake();
            state = self.shared.state();
        }
        let done = self.shared.changed.wait_while(state, |state| state.listens == refuses);
        drop(done.unwrap_or_else(PoisonError::into_inner));
    }

    /// Resets all connections that stand now.
    pub fn cut(&self) {
        let links: Vec<_> = self.shared.state().links.drain(..).collect();
        links.iter().filter_map(Weak::upgrade).for_each(|link| link.reset());
    }

    /// The requests seen so far, in order: `PUT /v1/sys/init`; of PostgreSQL the SQL, and `(login)` and the like.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.iter().map(|(_, request)| request.clone()).collect()
    }

    /// When each request came, from the one with this index on.
    #[must_use]
    pub fn arrivals(&self, from: usize) -> Vec<Instant> {
        self.shared.state().requests.iter().skip(from).map(|(when, _)| *when).collect()
    }

    /// Does this once, at that moment of the `number`th request, the first being 1; everything else goes on.
    ///
    /// It returns what becomes of that one request: with [`Trouble::None`] it is passed on. At
    /// [`Moment::BeforeRequest`] the server sees it only with that one or after a [`Trouble::Delay`]; else the
    /// trouble is all the answer there is.
    pub fn at(&self, moment: Moment, number: usize, act: impl FnOnce() -> Trouble + Send + 'static) {
        self.shared.state().acts.push((moment, number, Box::new(act)));
    }

    /// Gives every request whose path begins so this trouble in the place of an answer: the server does not see it.
    pub fn at_path(&self, prefix: &str, trouble: Trouble) {
        self.shared.state().paths.push((prefix.to_owned(), trouble));
    }

    /// Makes this trouble for each request from the `number`th on, as [`at`](Self::at) does for one.
    pub fn from(&self, moment: Moment, number: usize, trouble: Trouble) {
        self.shared.state().from = Some((moment, number, trouble));
    }

    /// Takes back all that was ordered by [`at`](Self::at) and [`from`](Self::from) and has not happened.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.acts.clear();
        state.from = None;
    }

    /// Makes a connection that wakes the listener.
    fn wake(&self) {
        // Where it fails nobody listens, and nobody has to be woken.
        let _ = TcpStream::connect(self.shared.address);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().ends = true;
        self.shared.changed.notify_all();
        self.cut();
        self.wake();
        if let Some(listening) = self.listening.take() {
            // It panics at nothing, and a panic on the way out would hide the test's own.
            let _ = listening.join();
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({} for {})", self.shared.address, self.shared.upstream)
    }
}

type Act = Box<dyn FnOnce() -> Trouble + Send>;

/// What the proxy and the threads of its connections share.
struct Shared {
    address: SocketAddr,
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    trouble: Trouble,
    listens: bool,
    ends: bool,
    links: Vec<Weak<Link>>,
    requests: Vec<(Instant, String)>,
    acts: Vec<(Moment, usize, Act)>,
    paths: Vec<(String, Trouble)>,
    from: Option<(Moment, usize, Trouble)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request into the record: its number.
    fn note(&self, request: String) -> usize {
        let mut state = self.state();
        state.requests.push((Instant::now(), request));
        state.requests.len()
    }

    /// What is to be done at this moment, once done; `None` where nothing was ordered for it.
    fn act(&self, moment: Moment, number: usize) -> Option<Trouble> {
        let mut state = self.state();
        if let Some(index) =
            state.acts.iter().position(|(when, which, _)| (*when, *which) == (moment, number))
        {
            let (.., act) = state.acts.swap_remove(index);
            drop(state);
            return Some(act());
        }
        state
            .from
            .as_ref()
            .filter(|(when, from, _)| *when == moment && number >= *from)
            .map(|(.., it)| it.clone())
    }

    /// What is ordered for this request by its path.
    fn at_path(&self, request: &str) -> Option<Trouble> {
        let (_, path) = request.split_once(' ')?;
        let state = self.state();
        let ordered = state.paths.iter().find(|(prefix, _)| path.starts_with(prefix.as_str()));
        ordered.map(|(_, trouble)| trouble.clone())
    }

    /// Holds what was sent just now while the network is a black hole, and until TCP sends it again after that.
    fn hold(&self) {
        let sent = Instant::now();
        let is_hole = |state: &mut State| state.trouble == Trouble::BlackHole && !state.ends;
        while is_hole(&mut self.state()) {
            drop(self.changed.wait_while(self.state(), is_hole).unwrap_or_else(PoisonError::into_inner));
            let (mut due, mut after) = (sent + FIRST_AGAIN, FIRST_AGAIN);
            while due < Instant::now() {
                after *= 2;
                due += after;
            }
            pause(due.saturating_duration_since(Instant::now()));
        }
    }

    fn trouble(&self) -> Trouble {
        self.state().trouble.clone()
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(Error::io(format!("listen on {address}")))
}

/// Takes connections until the proxy ends, save while it is to refuse them.
fn listen(shared: &Arc<Shared>, mut listener: TcpListener) {
    loop {
        let accepted = listener.accept();
        let mut state = shared.state();
        if state.ends {
            return;
        }
        if state.trouble == Trouble::Refuse {
            drop(listener);
            state.listens = false;
            shared.changed.notify_all();
            let refuses = |state: &mut State| state.trouble == Trouble::Refuse && !state.ends;
            state = shared.changed.wait_while(state, refuses).unwrap_or_else(PoisonError::into_inner);
            if state.ends {
                return;
            }
            // Nobody else knows this address.
            let Ok(again) = bind(shared.address) else { return };
            listener = again;
            state.listens = true;
            shared.changed.notify_all();
        } else if let Ok((client, _)) = accepted
            && let Some(link) = Link::connect(client, shared.upstream)
        {
            state.links.retain(|link| link.strong_count() > 0);
            state.links.push(Arc::downgrade(&link));
            link::serve(&link, shared);
        }
    }
}

#[cfg(test)]
mod tests;
