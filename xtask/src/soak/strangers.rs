//! Those who know a `role_id` and try wrong secret IDs, all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::random_token;
use serde_json::json;

use super::stack::Stack;
use crate::error::Result;

/// Between two attempts: five of them lock a role out where that is on.
const EVERY: Duration = Duration::from_millis(50);

/// They are at it until told to stop.
pub(super) struct Strangers {
    stop: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
    locked: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Strangers {
    pub(super) fn start(stack: &Stack) -> Result<Self> {
        let (api, role_ids) = (stack.api(), stack.role_ids()?);
        let (stop, tries, locked) = (Arc::default(), Arc::default(), Arc::default());
        let strangers = Self {
            stop: Arc::clone(&stop),
            tries: Arc::clone(&tries),
            locked: Arc::clone(&locked),
            thread: None,
        };
        let thread = std::thread::spawn(move || {
            for role_id in role_ids.iter().cycle() {
                if harness::wait_until(EVERY, || stop.load(Ordering::Relaxed)) {
                    break;
                }
                let pair = json!({ "role_id": role_id, "secret_id": random_token() });
                // A Vault that is away hears nobody.
                if let Ok((status, _)) = api.send("POST", "/v1/auth/approle/login", "", &pair) {
                    tries.fetch_add(usize::from(status == 400), Ordering::Relaxed);
                    locked.fetch_add(usize::from(status == 403), Ordering::Relaxed);
                }
            }
        });
        Ok(Self { thread: Some(thread), ..strangers })
    }

    /// The same, at rest.
    pub(super) fn stop(mut self) -> Self {
        self.stop.store(true, Ordering::Relaxed);
        // One that panicked has tried less than is said, which is told.
        let _ = self.thread.take().map(JoinHandle::join);
        self
    }

    /// What is broken: a role that is locked answers 403.
    pub(super) fn breach(&self) -> Option<String> {
        let (tries, locked) = (self.tries.load(Ordering::Relaxed), self.locked.load(Ordering::Relaxed));
        if locked > 0 {
            return Some(format!("{locked} wrong logins were denied: a role is locked"));
        }
        (tries == 0).then(|| "no stranger got through to Vault".to_owned())
    }

    pub(super) fn says(&self) -> String {
        format!("{} wrong secret IDs were tried by strangers", self.tries.load(Ordering::Relaxed))
    }
}
