//! How a process ends when it cannot go on: one line on stderr, and an exit code of `sysexits.h`.

use std::env;
use std::error::Error as _;
use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ErrorKind};
use tokio::runtime::Builder;

use crate::broker::BrokerError;
use crate::config::ConfigError;
use crate::store::StoreError;

/// Why a process ends other than by being told to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Flags or a backend's set-up that a person has to change. Exit code 64.
    #[error("{0}")]
    Config(String),
    /// A backend that could not be reached in time. Exit code 69.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else. Exit code 1.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code: `EX_USAGE`, `EX_UNAVAILABLE` or 1.
    pub fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Other(_) => 1,
        }
    }
}

/// Reads the command line and the environment. `--help` and `--version` print and end the process
/// with 0; anything wrong prints one line, which shows no URL, and ends it with 64.
pub fn parse_or_exit<T: clap::Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        if matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        ) {
            error.exit();
        }
        let failure = Failure::Config(line(&error));
        print(&failure);
        std::process::exit(failure.code().into());
    })
}

/// Makes a runtime of so many threads, as many as there are processors where none is given, and
/// [runs](run) a process on it. For a `main` that is not asynchronous.
pub fn run_on(threads: Option<u16>, process: impl Future<Output = Result<(), Failure>>) -> ! {
    let runtime = match threads {
        // Without a thread beside it none has to be woken, and nothing to be guarded.
        Some(1) => Builder::new_current_thread().enable_all().build(),
        Some(threads) => Builder::new_multi_thread()
            .worker_threads(threads.into())
            .enable_all()
            .build(),
        None => Builder::new_multi_thread().enable_all().build(),
    };
    match runtime {
        Ok(runtime) => runtime.block_on(run(process)),
        Err(error) => {
            let failure = Failure::Other(format!("threads cannot be started: {error}"));
            print(&failure);
            std::process::exit(failure.code().into())
        }
    }
}

/// Runs a process to its end; a failure prints one line. For `main`.
///
/// What is left on the runtime is not waited for: a name that DNS does not answer for would hold
/// the process, and the farewell that the MongoDB driver leaves there panics when it is cut off.
pub async fn run(process: impl Future<Output = Result<(), Failure>>) -> ! {
    let code = match process.await {
        Ok(()) => 0,
        Err(failure) => {
            print(&failure);
            failure.code()
        }
    };
    std::process::exit(code.into())
}

fn print(failure: &Failure) {
    let program = env::args_os()
        .next()
        .unwrap_or_else(|| OsString::from("roomcast"));
    let name = Path::new(&program)
        .file_name()
        .unwrap_or(&program)
        .to_string_lossy();
    let message = failure
        .to_string()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    eprintln!("{name}: {message}");
}

/// Says in one line what is wrong with the flags.
fn line(error: &clap::Error) -> String {
    // clap would quote the value, which may hold a password.
    if let (ErrorKind::ValueValidation, Some(flag), Some(reason)) = (
        error.kind(),
        error.get(ContextKind::InvalidArg),
        error.source(),
    ) {
        return format!("{flag}: {reason}; try --help");
    }
    let text = error.to_string();
    if text.contains("://") {
        return "a URL was not expected there: it follows --broker or --store; try --help".into();
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\nUsage:").next().unwrap_or(text);
    let text = text
        .split("\n\nFor more information")
        .next()
        .unwrap_or(text);
    format!("{}; try --help", text.trim_end())
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.0)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Misconfigured(reason) => Self::Config(reason),
            BrokerError::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Misconfigured(reason) => Self::Config(reason),
            StoreError::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::CommonArgs;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        _common: CommonArgs,
    }

    fn wrong(args: &[&str]) -> String {
        line(&Cli::try_parse_from([&["test"], args].concat()).unwrap_err())
    }

    #[test]
    fn a_bad_flag_is_named_with_what_is_right() {
        assert_eq!(
            wrong(&["--store", "mongodb://s3cret"]),
            "--store <URL>: mongodb://HOST/DB: the database name is missing after the host, such \
             as mongodb://HOST/roomcast; try --help"
        );
        assert_eq!(
            wrong(&["--shards", "0"]),
            "--shards <COUNT>: 0 is not in 1..=1024; try --help"
        );
        assert!(!wrong(&["redis://:s3cret@host"]).contains("s3cret"));
        assert!(!wrong(&["--store", "s3cret://host"]).contains("s3cret"));
        assert!(wrong(&["--recent-ttl", "10"]).contains("500ms, 30s, 10m"));
        assert!(wrong(&["--delivery", "maybe"]).contains("at-least-once"));
        assert!(wrong(&["--brokr", "x"]).contains("--broker"));
    }

    #[test]
    fn what_a_person_must_change_differs_from_what_may_come_back() {
        let code = |failure: Failure| failure.code();
        assert_eq!(code(BrokerError::Misconfigured("m".into()).into()), 64);
        assert_eq!(code(StoreError::Misconfigured("m".into()).into()), 64);
        assert_eq!(code(BrokerError::Unavailable("u".into()).into()), 69);
        assert_eq!(code(StoreError::Unavailable("u".into()).into()), 69);
    }
}
