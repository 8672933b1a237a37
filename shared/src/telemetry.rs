//! Logs.

use std::env;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};

use tracing::field::Field;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
///
/// An event is one line whatever is in it: what clients, servers and libraries say is escaped where
/// it would end the line or steer a terminal. At no level is there what passes through a WebSocket.
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
    let discreet = filter_fn(is_discreet);
    // An error means that logs go somewhere already.
    let _already = match format {
        LogFormat::Text => logs
            .with_ansi(io::stderr().is_terminal())
            .fmt_fields(debug_fn(write_field))
            .finish()
            .with(discreet)
            .try_init(),
        LogFormat::Json => {
            let logs = logs.json().flatten_event(true).finish();
            logs.with(discreet).try_init()
        }
    };
    if let Some(reason) = wrong {
        tracing::warn!(%reason, "RUST_LOG is not understood; using info");
    }
}

/// Below `debug`, tungstenite writes out each frame: tokens, messages and all.
fn is_discreet(event: &Metadata<'_>) -> bool {
    !event.target().starts_with("tungstenite") || *event.level() <= Level::DEBUG
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(OneLine(writer), "{value:?}"),
        // Where a line of the `log` crate comes from, which stands before it.
        name if name.starts_with("log.") => Ok(()),
        name => write!(OneLine(writer), " {name}={value:?}"),
    }
}

/// Escapes what would end the line, steer a terminal, or turn the direction of its text.
struct OneLine<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for OneLine<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let steers = |c: char| {
            c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        let mut rest = text;
        while let Some(at) = rest.find(steers) {
            let (plain, from) = rest.split_at(at);
            let mut characters = from.chars();
            self.0.write_str(plain)?;
            for escaped in characters.next().into_iter().flat_map(char::escape_default) {
                self.0.write_char(escaped)?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::OneLine;

    #[test]
    fn what_is_logged_stays_on_its_line_and_steers_no_terminal() {
        let mut line = String::new();
        let strange = "a\nb\r\u{1b}[31mc\u{9b}d\u{2028}e\u{202e}f\0g\u{7f} 김👋\\";
        write!(OneLine(&mut line), "{strange}").unwrap();
        let expected = "a\\nb\\r\\u{1b}[31mc\\u{9b}d\\u{2028}e\\u{202e}f\\u{0}g\\u{7f} 김👋\\";
        assert_eq!(line, expected);
    }
}
