//! Durable, atomic, private writes of secret files, and checked reads.
//!
//! Everything happens in a [`SecretDir`], relative to its open descriptor, so that nobody who renames or links
//! directories meanwhile can lead a secret elsewhere:
//!
//! - [`replace`](SecretDir::replace) and [`create_new`](SecretDir::create_new) change one file;
//! - [`replace_set`](SecretDir::replace_set) changes several at one instant, and
//!   [`read_set`](SecretDir::read_set) reads them as they belong together, and
//!   [`remove_set`](SecretDir::remove_set) removes them;
//! - [`prove_writable`](SecretDir::prove_writable) and [`prove_room`](SecretDir::prove_room) find out beforehand
//!   whether all that works.
//!
//! What returned `Ok` outlives a power cut. A kill or a failure at any point leaves the old or the new content,
//! never a part of one; what it may leave besides are files whose names begin with `..tmp-` or `..gen-`, which
//! the next write in the directory clears; whoever wrote what nobody can make again looks at the
//! [`strays`](SecretDir::strays) first.
//!
//! Synchronous, one system call an effect: each can be traced and faulted from outside.

mod at;
mod attrs;
mod dir;
mod error;
mod name;
mod prove;
mod read;
mod set;
mod stray;
mod write;

pub use attrs::{Attrs, Changed};
pub use dir::{DirLock, SecretDir};
pub use error::{FileError, Operation};
pub use read::{read_file, read_text};
pub use set::SetFile;
pub use stray::Stray;
