//! A service's AppRole login, and keeping it alive.
//!
//! [`Session`] decides and does nothing: from what happened and from the time it computes what to do next
//! and when. [`AppRole`] does it: reads the credentials directory, logs in, renews, revokes. The states are
//! drawn in `docs/session.md`.

mod approle;
mod args;
mod credentials;
mod error;
mod session;
mod sink;
mod waiting;
mod watch;

pub use approle::{AppRole, Progress, Tally};
pub use args::LoginArgs;
pub use credentials::{Credentials, CredentialsError, Fingerprint};
pub use error::LoginError;
pub use session::{Action, Event, Lease, Reason, Session, Step, Timing};
pub use sink::Sink;
