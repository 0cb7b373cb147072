//! Noticing changes of the credentials directory.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::unix::AsyncFd;

/// An inotify watch (`inotify(7)`), where the system has one. It tells nothing of what is done to a network or
/// host file system from elsewhere: looks at intervals stay necessary.
///
/// Not begun before somebody waits: the kernel takes some fifteen milliseconds to end one, which is more than all of
/// a login and a read.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    has_begun: bool,
    inotify: Option<AsyncFd<OwnedFd>>,
    is_set: bool,
}

impl Watch {
    /// Begins, over nothing yet. `false` where that was done before, or cannot be. Must be called on the runtime.
    pub(crate) fn begin(&mut self) -> bool {
        if std::mem::replace(&mut self.has_begun, true) {
            return false;
        }
        let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(std::io::Error::from);
        let inotify = inotify.and_then(boot_clock::register);
        if let Err(error) = &inotify {
            tracing::debug!("changes of the credentials directory are not told but looked for: {error}");
        }
        self.inotify = inotify.ok();
        self.inotify.is_some()
    }

    /// Watches the directory that is at this path now. `false` where that cannot be.
    pub(crate) fn renew(&mut self, directory: &Path) -> bool {
        // What appears by a rename, is complete, or goes: a file is empty when it is made.
        let flags = WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let added = self.inotify.as_ref().is_some_and(|inotify| add_watch(inotify, directory, flags).is_ok());
        self.is_set = added;
        added
    }

    /// Waits for a change; for ever where none can be noticed.
    pub(crate) async fn changed(&mut self) {
        let Some(inotify) = self.inotify.as_ref().filter(|_| self.is_set) else {
            return std::future::pending().await;
        };
        let Ok(mut ready) = inotify.readable().await else { return std::future::pending().await };
        // What has changed is seen by the look that follows; how often is of no interest.
        let mut events = [0; 4096];
        while rustix::io::read(inotify, &mut events).is_ok_and(|count| count > 0) {}
        ready.clear_ready();
    }
}
