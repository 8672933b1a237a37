//! `loadtest chaos`: a load that goes on while parts die, and a ledger that is checked at the end.

mod board;
mod debts;
#[allow(dead_code, reason = "scenarios change the list")]
mod gateways;
mod load;
mod member;
mod outside;
mod sends;
#[allow(dead_code, reason = "scenarios may break off")]
mod table;

use shared::exit::Failure;

use crate::config::ChaosArgs;

/// Runs what the flags ask for, and prints what it has shown.
///
/// # Errors
/// [`Failure`] where there are debts, or something could not be run.
pub(crate) async fn chaos(args: &ChaosArgs) -> Result<(), Failure> {
    let rows = vec![outside::run(args).await?];
    table::publish(&rows, args.json.as_deref(), args.markdown.as_deref())
}
