//! What we read, beside what the readers of .env files that people run make of it; and what we write, read back by
//! the readers that it is written for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod docs;
mod oracle;
mod random;
mod rules;
mod shapes;
mod written;
