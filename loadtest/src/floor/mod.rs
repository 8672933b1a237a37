//! `loadtest floor`: the least that a server can do which hands each message on to a room.
//!
//! One thread waits for its sockets (`server`), takes STOMP out of what a `client` sends, builds the
//! frame of a message once (`room`), and offers it to each member's socket once. There is no queue, no
//! broker and no check, so that what other servers cost above it is what their promises cost.

mod client;
mod request;
mod room;
mod server;

use std::process;

use shared::exit::Failure;

use self::server::Server;
use crate::config::FloorArgs;

/// Serves until the process is ended.
///
/// # Errors
/// [`Failure::Unavailable`] where it cannot listen; [`Failure::Other`] where the system no longer says
/// which sockets are ready.
pub(crate) fn floor(args: &FloorArgs) -> Result<(), Failure> {
    let failed = |error| Failure::Unavailable(format!("--listen {}: {error}", args.listen));
    let mut server = Server::bind(args.listen).map_err(failed)?;
    let address = server.address().map_err(failed)?;
    println!(
        "floor is ready at http://{address}/ as process {}",
        process::id()
    );
    let ended = server.serve();
    Err(Failure::Other(format!("the floor ended: {ended}")))
}
