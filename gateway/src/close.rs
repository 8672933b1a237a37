//! Why a connection ends: the one table of reasons. Clients match on the code and the close code,
//! operators on the label, people read the message.

/// What a client should do after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Connecting again can help: the fault was ours, or passing.
    Yes,
    /// Connecting again to do the same fails the same way: the client has to change something.
    No,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident: $code:literal, $websocket:literal, $reconnect:ident, $message:literal;)*) => {
        /// Why a connection ends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseReason {
            $($(#[$doc])* $name,)*
        }

        impl CloseReason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The `code` header of the ERROR frame: stable, for programs.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The WebSocket close code (RFC 6455, section 7.4, and IANA's registry).
            pub const fn websocket_code(self) -> u16 {
                match self { $(Self::$name => $websocket,)* }
            }

            /// Whether the client should come back.
            pub const fn reconnect(self) -> Reconnect {
                match self { $(Self::$name => Reconnect::$reconnect,)* }
            }

            /// The `message` header of the ERROR frame, where there is nothing more exact to say.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
        }
    };
}

reasons! {
    /// The client sent DISCONNECT.
    ClientDisconnected: "client-disconnected", 1000, No,
        "The client disconnected.";
    /// The client closed the WebSocket, or vanished.
    ClientClosed: "client-closed", 1000, No,
        "The client closed the connection.";
    /// What arrived is no STOMP frame, or no WebSocket message.
    ProtocolError: "malformed-frame", 1002, No,
        "The frame is malformed.";
    /// Another frame came before CONNECT.
    NotConnected: "not-connected", 1002, No,
        "The first frame must be CONNECT or STOMP.";
    /// A second CONNECT came.
    AlreadyConnected: "already-connected", 1002, No,
        "The connection already had its CONNECT.";
    /// The client and this server have no STOMP version in common.
    VersionUnsupported: "version-unsupported", 1002, No,
        "The supported STOMP versions are 1.0, 1.1 and 1.2.";
    /// A STOMP frame or a WebSocket message is larger than allowed.
    FrameTooLarge: "frame-too-large", 1009, No,
        "The frame is larger than this server allows.";
    /// A destination that this server does not have, or with an impossible room.
    BadDestination: "bad-destination", 1008, No,
        "There is no such destination.";
    /// A header is missing, or its value makes no sense.
    BadHeader: "bad-header", 1002, No,
        "A header is missing or has a value that makes no sense.";
    /// UNSUBSCRIBE names a subscription that does not exist.
    UnknownSubscription: "unknown-subscription", 1002, No,
        "There is no subscription with this id.";
    /// SUBSCRIBE repeats the id of a subscription that exists.
    DuplicateSubscription: "duplicate-subscription", 1002, No,
        "There is already a subscription with this id.";
    /// SUBSCRIBE without a receipt names a message in `after` that is not in the room.
    AfterUnknown: "after-unknown", 1008, No,
        "What came after this message cannot be told: subscribe with `history`, or with a receipt.";
    /// ACK or NACK names a message that no subscription of the connection was sent.
    UnknownMessage: "unknown-message", 1002, No,
        "There is no delivered message with this id.";
    /// A frame names a transaction that has not begun.
    UnknownTransaction: "unknown-transaction", 1002, No,
        "There is no transaction with this name.";
    /// BEGIN repeats the name of a transaction that is open.
    DuplicateTransaction: "duplicate-transaction", 1002, No,
        "There is already a transaction with this name.";
    /// More transactions than one connection may have open.
    TooManyTransactions: "too-many-transactions", 1008, No,
        "The connection has as many transactions as it may have.";
    /// More frames in a transaction, or octets in all of a connection, than allowed.
    TransactionTooLarge: "transaction-too-large", 1009, No,
        "The transaction is larger than this server allows.";
    /// More subscriptions than one connection may have.
    TooManySubscriptions: "too-many-subscriptions", 1008, No,
        "The connection has as many subscriptions as it may have.";
    /// CONNECT did not come in time.
    ConnectTimeout: "connect-timeout", 1008, Yes,
        "CONNECT did not arrive in time.";
    /// A frame was begun and not completed in time.
    FrameTimeout: "frame-timeout", 1008, Yes,
        "A frame was begun and not completed in time.";
    /// The client kept silent for longer than the agreed heart-beat allows.
    HeartBeatTimeout: "heart-beat-timeout", 1008, Yes,
        "Nothing arrived for longer than the agreed heart-beat allows.";
    /// The client's outbox is at its bound: it reads more slowly than its rooms speak.
    SlowConsumer: "slow-consumer", 1013, Yes,
        "The client reads too slowly: what waits for it has reached the limit.";
    /// The client's socket took nothing for too long.
    WriteTimeout: "write-timeout", 1013, Yes,
        "The client has not read anything for too long.";
    /// Who the client is has not been proved.
    Unauthorized: "unauthorized", 3000, No,
        "A valid token is needed.";
    /// What the client proved who it is with has expired.
    TokenExpired: "token-expired", 4001, Yes,
        "The token has expired: connect again with a new one.";
    /// Who the client is cannot be checked.
    AuthUnavailable: "auth-unavailable", 1013, Yes,
        "Tokens cannot be checked at the moment.";
    /// The user may not do this.
    Forbidden: "forbidden", 3003, No,
        "This is not allowed.";
    /// What the user may do cannot be asked.
    AccessUnavailable: "access-unavailable", 1013, Yes,
        "What is allowed cannot be asked at the moment.";
    /// The user, or the address, has as many connections as it may.
    TooManyConnections: "too-many-connections", 1013, Yes,
        "There are as many connections from here as there may be.";
    /// The connection, the user or the address is in as many rooms as it may.
    TooManyRooms: "too-many-rooms", 1008, No,
        "There are as many rooms as there may be.";
    /// The client sent more messages, or more other frames, than it may.
    RateLimited: "rate-limited", 1013, Yes,
        "Frames are sent faster than this server allows.";
    /// The broker did not answer: whether a message was accepted is open.
    BrokerUnavailable: "broker-unavailable", 1013, Yes,
        "Broker not available.";
    /// The journal is at its bound: the store has been away for too long.
    JournalFull: "journal-full", 1013, Yes,
        "Messages are not being stored at the moment, and no more are accepted.";
    /// This gateway has as much in flight as it may.
    Overloaded: "overloaded", 1013, Yes,
        "This server has too much to do.";
    /// Messages were missed and could not be fetched.
    GapUnrepaired: "gap", 1013, Yes,
        "Messages were missed and could not be fetched: subscribe again after the last one seen.";
    /// This process is going away.
    Restart: "restart", 1012, Yes,
        "This server is restarting.";
    /// A fault of this program.
    Internal: "internal", 1011, Yes,
        "This server has failed.";
}

impl CloseReason {
    /// The value of the metric label `reason`: the code, so that a client's report leads to the
    /// graph.
    pub const fn label(self) -> &'static str {
        self.code()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::CloseReason;

    #[test]
    fn a_code_names_one_reason() {
        let codes: HashSet<_> = CloseReason::ALL
            .iter()
            .map(|reason| reason.code())
            .collect();
        let labels: HashSet<_> = CloseReason::ALL
            .iter()
            .map(|reason| reason.label())
            .collect();
        assert_eq!(codes.len(), CloseReason::ALL.len());
        assert_eq!(labels.len(), CloseReason::ALL.len());
    }

    #[test]
    fn a_code_is_kebab_case_and_a_message_a_short_sentence() {
        for reason in CloseReason::ALL {
            let code = reason.code();
            assert!(
                code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{code}"
            );
            let message = reason.message();
            assert!(
                message.ends_with('.') && !message.contains('\n'),
                "{message}"
            );
        }
    }

    #[test]
    fn a_close_code_may_be_sent_on_the_wire() {
        // RFC 6455, section 7.4: 1004 to 1006 and 1015 never are; 3000 to 3999 are registered with
        // IANA, and from 4000 on an application's own.
        for reason in CloseReason::ALL {
            assert!(
                matches!(reason.websocket_code(), 1000..=1003 | 1007..=1014 | 3000 | 3003 | 4000..=4999),
                "{reason:?}"
            );
        }
    }
}
