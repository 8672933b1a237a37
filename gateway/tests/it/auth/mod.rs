//! Who gets in, and who does not, over real sockets.

mod forged;
mod http;
mod keys;
mod places;
mod sessions;

use gateway::close::CloseReason;
use harness::{StompClient, StompFailure, StompOptions};
use shared::stomp::Command;

use crate::running::Running;

/// What a client connects with that has this token.
pub(crate) fn bearer(token: &str) -> StompOptions {
    StompOptions {
        headers: vec![("Authorization".into(), format!("Bearer {token}"))],
        ..StompOptions::default()
    }
}

impl Running {
    /// The user that this token makes of a client, or the `code` of the ERROR, which closes the
    /// connection with its own code.
    pub(crate) async fn user_of(&self, token: &str) -> Result<String, String> {
        let mut client = StompClient::upgrade(&self.url(), &StompOptions::default())
            .await
            .unwrap();
        let connect = harness::stomp::connect_frame(&bearer(token));
        client.send_frame(connect).await.unwrap();
        match client.next_frame(harness::stomp::DEADLINE).await {
            Ok(frame) if frame.command == Command::Connected => {
                Ok(frame.header("user-name").unwrap().to_owned())
            }
            Ok(frame) => {
                assert_eq!(frame.command, Command::Error, "{frame:?}");
                let code = frame.header("code").unwrap();
                let reasons = CloseReason::ALL;
                let reason = reasons.iter().find(|reason| reason.code() == code).unwrap();
                let closed = client.close_code().await.unwrap();
                assert_eq!(closed, Some(reason.websocket_code()));
                Err(code.to_owned())
            }
            Err(failure) => panic!("{failure}"),
        }
    }

    /// A client that this token makes somebody.
    pub(crate) async fn known(&self, token: &str) -> Result<StompClient, StompFailure> {
        StompClient::connect(&self.url(), bearer(token)).await
    }
}
