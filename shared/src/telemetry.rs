//! Logs.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends logs to stderr from here on, at the levels of `RUST_LOG`, else `info`. A second call
/// changes nothing.
pub fn init(format: LogFormat) {
    let levels = env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let (filter, wrong) = match filter().parse(&levels) {
        Ok(filter) => (filter, None),
        Err(reason) => (filter().parse_lossy(""), Some(reason)),
    };
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would say on stderr that stderr cannot be written to, and panic of it.
        .log_internal_errors(false)
        .with_writer(io::stderr);
    // An error means that logs go somewhere already.
    let _already = match format {
        LogFormat::Text => logs.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    if let Some(reason) = wrong {
        tracing::warn!(%reason, "RUST_LOG is not understood; using info");
    }
}
