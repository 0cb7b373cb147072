//! The log: stderr, as text or JSON, of the crew's own events alone.

use std::io;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::progress::AboveTheLine;

/// Whose events are shown. Dependencies' are not: theirs repeat expected answers as errors, and may quote
/// what was sent.
const SHOWN: &[&str] = &[
    "agent_runtime",
    "approle_agent",
    "approle_session",
    "bootstrap",
    "db_init",
    "secret_file",
    "unsealer",
    "vault_client",
];

/// How the log is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// Form of the log lines on stderr
    #[arg(long, env = "VAULTCREW_LOG_FORMAT", value_name = "FORMAT", global = true, hide_env_values = true)]
    #[arg(value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// The least severe events that are logged
    #[arg(long, env = "VAULTCREW_LOG_LEVEL", value_name = "LEVEL", global = true, hide_env_values = true)]
    #[arg(value_enum, default_value_t = LogLevel::Info)]
    log_level: LogLevel,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
        }
    }
}

pub(crate) fn start(args: &LogArgs) {
    let level = LevelFilter::from(args.log_level);
    let shown: Targets = SHOWN.iter().map(|target| (*target, level)).collect();
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    let registry = tracing_subscriber::registry();
    match args.log_format {
        LogFormat::Text => {
            let stderr = AboveTheLine::begin();
            registry.with(lines.with_ansi(false).with_writer(move || stderr).with_filter(shown)).init();
        }
        LogFormat::Json => {
            let lines = lines.with_writer(io::stderr).json().flatten_event(true);
            registry.with(lines.with_filter(shown)).init();
        }
    }
}
