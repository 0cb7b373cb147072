//! Whether the rendered env files are whole at every instant, while what they hold changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::random_token;

use super::outages::Outages;
use super::rule::Rule;
use super::stack::{Stack, first_value, key};
use super::trouble::Chance;
use crate::error::{Error, Result};

/// Between two looks at a file that is about to change, and how many of those come to one look at all files.
const EVERY: Duration = Duration::from_micros(500);
const ALL_EVERY: usize = 20;

/// Long enough that a file that is written in place is seen half done.
const REPEATED: usize = 200;

/// One reader of all files, who knows each content that Vault was ever given.
pub(super) struct EnvFiles {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

/// Changes a secret now and then.
pub(super) struct Changes {
    shared: Arc<Shared>,
    next: Instant,
}

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, File>>,
    breaches: Mutex<Vec<String>>,
    reads: AtomicUsize,
    stop: AtomicBool,
}

struct File {
    path: PathBuf,
    /// What may be in it: what was in it last, and what has been written to Vault since.
    contents: Vec<String>,
    changes: usize,
}

impl EnvFiles {
    /// From now on they are read all the time.
    pub(super) fn watch(stack: &Stack) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let file = |service: &String| {
            let contents = vec![content(service, &first_value(service))];
            (service.clone(), File { path: stack.env_file(service), contents, changes: 0 })
        };
        *shared.files() = stack.services().iter().map(file).collect();
        let reader = std::thread::Builder::new().name("reader".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.read_all_the_time()
        });
        Ok(Self { shared, reader: Some(reader.map_err(Error::io("start a thread"))?) })
    }

    pub(super) fn changes(&self) -> Changes {
        Changes { shared: Arc::clone(&self.shared), next: Instant::now() }
    }
}

impl Changes {
    /// Changes a secret where that is due.
    pub(super) fn go_on(&mut self, stack: &Stack, chance: &mut Chance) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + chance.within(500..4_000);
        let services = stack.services();
        let service = &services[chance.below(services.len())];
        let value = random_token().repeat(REPEATED);
        // Before it is written, for an agent may be quick; and whether or not it comes to that.
        self.shared.files().get_mut(service).expect("each has one").contents.push(content(service, &value));
        // A Vault that is away or sealed is not written to.
        let _ = stack.write_secret(service, &value);
    }
}

impl Shared {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_all_the_time(&self) {
        for round in 0_usize.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::park_timeout(EVERY);
            let reads_all = round.is_multiple_of(ALL_EVERY);
            for (service, file) in self.files().iter_mut() {
                if reads_all || file.contents.len() > 1 {
                    self.reads.fetch_add(1, Ordering::Relaxed);
                    if let Some(breach) = file.look() {
                        let mut breaches = self.breaches.lock().unwrap_or_else(PoisonError::into_inner);
                        breaches.push(format!("{service}: {breach}"));
                    }
                }
            }
        }
    }
}

impl File {
    /// What is wrong with it. What was replaced must not come back.
    fn look(&mut self) -> Option<String> {
        let found = match fs::read_to_string(&self.path) {
            Ok(found) => found,
            Err(error) => return Some(format!("its env file cannot be read: {error}")),
        };
        let Some(index) = self.contents.iter().rposition(|content| *content == found) else {
            return Some(format!("its env file has {} bytes that were never its secret", found.len()));
        };
        self.changes += usize::from(index > 0);
        self.contents.drain(..index);
        None
    }
}

impl Rule for EnvFiles {
    fn look(&mut self, _: &Stack, _: &Outages) -> Vec<String> {
        std::mem::take(&mut *self.shared.breaches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn missed(&self) -> Option<String> {
        let changes: usize = self.shared.files().values().map(|file| file.changes).sum();
        (changes == 0).then(|| "no env file ever changed".to_owned())
    }

    fn says(&self) -> String {
        let changes: usize = self.shared.files().values().map(|file| file.changes).sum();
        let reads = self.shared.reads.load(Ordering::Relaxed);
        format!("{reads} times an env file was read, and was whole; {changes} times it had changed")
    }
}

impl Drop for EnvFiles {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // It panics at nothing.
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

fn content(service: &str, value: &str) -> String {
    format!("{}='{value}'\n", key(service))
}
