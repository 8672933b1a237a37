//! How a process is told to end.

use std::io::{self, IsTerminal};
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

use crate::reload::Reload;

/// A token that SIGTERM or SIGINT cancels, and the end of the terminal that the process writes to. A
/// second signal ends the process at once, with 128 and the signal's number as a shell shows it. Any
/// other SIGHUP ends nothing: see [`Reload`]. To be called once, inside the runtime.
pub fn signal() -> CancellationToken {
    let mut terminate = handler(SignalKind::terminate());
    let mut interrupt = handler(SignalKind::interrupt());
    let mut hangup = Reload::listen();
    let had_terminal = io::stderr().is_terminal();
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
                () = async {
                    // A terminal that has been closed is none any more.
                    while { hangup.asked().await; !had_terminal || io::stderr().is_terminal() } {}
                } => SignalKind::hangup(),
            }
        };
        next().await;
        tracing::info!("stopping; a second signal ends the process at once");
        stop.cancel();
        let kind = next().await;
        tracing::warn!("told to stop a second time: ending without finishing");
        process::exit(128 + kind.as_raw_value());
    });
    token
}

fn handler(kind: SignalKind) -> Signal {
    listen(kind).expect("every Unix lets a process handle SIGTERM and SIGINT")
}
