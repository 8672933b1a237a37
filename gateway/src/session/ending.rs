//! How a session ends.

use shared::stomp::{Command, Frame};

use super::output::Output;
use super::{Session, State};
use crate::close::CloseReason;

impl Session {
    pub(super) fn is_ending(&self) -> bool {
        !matches!(
            self.state,
            State::Opening { .. } | State::Authenticating { .. } | State::Open
        )
    }

    pub(super) fn finish_if_idle(&mut self) {
        if !self.in_flight.is_empty() {
            return;
        }
        match &mut self.state {
            State::Leaving { receipt } => {
                if let Some(receipt) = receipt.take() {
                    self.write(&Frame::new(Command::Receipt).with("receipt-id", &receipt));
                }
                self.close(CloseReason::ClientDisconnected);
            }
            State::Draining => self.close(CloseReason::Restart),
            State::Opening { .. }
            | State::Authenticating { .. }
            | State::Open
            | State::Closed(_) => {}
        }
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        self.outputs.push_back(Output::Close(reason));
        self.state = State::Closed(reason);
    }

    /// ERROR, then the close (STOMP 1.2, section "ERROR"): nothing is written after it.
    pub(super) fn fail(&mut self, reason: CloseReason, detail: &str, receipt: Option<&str>) {
        let mut frame = Frame::new(Command::Error)
            .with("message", reason.message())
            .with("code", reason.code())
            .with("content-type", "text/plain");
        if let Some(receipt) = receipt {
            frame = frame.with("receipt-id", receipt);
        }
        if reason == CloseReason::VersionUnsupported {
            frame = frame.with("version", "1.0,1.1,1.2");
        }
        self.write(&frame.with_body(detail.to_owned()));
        self.close(reason);
    }
}
