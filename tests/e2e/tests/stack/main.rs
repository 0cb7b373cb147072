//! The real programs against real servers, told as stories.
//!
//! One test binary: linking is what these tests cost most. Each module is one story or one kind of trouble.

mod crew;

mod agent;
mod audit;
mod check;
mod cluster;
mod database;
mod delivery;
mod disk;
mod durable;
mod env_files;
mod freshness;
mod garbage;
mod help;
mod hurt;
mod interrupted;
mod keys;
mod kills;
mod limits;
mod many;
mod older;
mod plan;
mod progress;
mod prune;
mod reapply;
mod refusals;
mod restart;
mod root;
mod secrets;
mod tls;
mod verify;
mod wall;
mod workflow;
