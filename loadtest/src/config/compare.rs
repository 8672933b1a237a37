//! Flags of `loadtest compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
Examples:
  Two versions of a server under the same load:
    loadtest compare before.json after.json --html compared.html
  How cost grows with the users:
    loadtest compare 100.json 200.json 400.json 800.json --over users --markdown growth.md";

/// Flags of `loadtest compare`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArgs {
    /// Reports that --json has written; the others are compared with the first, and one alone is shown
    /// again.
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    pub reports: Vec<PathBuf>,

    /// What cost is to be shown over; without it, the first of these that differs in all of three or
    /// more runs.
    #[arg(long, value_name = "PARAMETER", value_enum)]
    pub over: Option<Parameter>,

    /// Write the comparison, with plots, as one page of HTML to this file too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Write the tables as Markdown to this file too.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

/// A parameter of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Parameter {
    /// Gateways.
    Gateways,
    /// Users, each with a connection.
    Users,
    /// Rooms.
    Rooms,
    /// Members of a room, in the mean.
    Members,
    /// Messages a second.
    Rate,
    /// Octets of a body.
    BodyBytes,
}
