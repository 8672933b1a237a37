//! SockJS (protocol 0.3.3): for clients that have no WebSocket, or a proxy between that lets none
//! through, the same messages over HTTP.
//!
//! An [`Endpoint`] answers everything below one prefix. Each session is one task that serves the
//! client through a [`Transport`](crate::transport::Transport), as on a WebSocket; the requests
//! that carry its messages only meet it. The session's id is in every path, so that a load balancer
//! can bring all of a session's requests to the process that has it.

mod access;
mod endpoint;
mod envelope;
mod frame;
mod page;
mod polled;
mod receiver;
mod route;
mod session;
mod websocket;

pub use endpoint::{Endpoint, Options};
pub use page::{ClientUrl, ClientUrlError};
pub(crate) use session::KEPT;
