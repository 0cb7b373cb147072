//! Reading and writing .env files, in named dialects.
//!
//! There is no standard for .env files: Docker Compose, python-dotenv and the shells read the same bytes as
//! different values, and each of them silently. This crate reads a file [as its readers agree](ReadDialect::Strict)
//! or refuses it with the way to write it so that they do, and writes files whose one reader sees exactly
//! the bytes that went in.

mod error;
mod parse;
mod write;

pub use error::{Fault, ParseError, ParseErrors, UnknownDialect, WriteError};
pub use parse::{Entry, EnvFile, ReadDialect, parse, parse_past_faults};
pub use write::{Dialect, write};
