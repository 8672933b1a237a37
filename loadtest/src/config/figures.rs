//! The flags of `loadtest figures`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
Examples:
  Everything, as Markdown, JSON and a page:
    loadtest figures --markdown figures.md --json figures.json --html figures.html
  What there is, and one set of it in a short time:
    loadtest figures --list
    loadtest figures --only speed --quick";

/// Flags of `loadtest figures`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FiguresArgs {
    /// A set of figures to make; may be repeated. Without it all are made.
    #[arg(long, value_name = "NAME", value_enum)]
    pub only: Vec<Set>,

    /// How often each load of `speed`, `persister` and `growth` runs; figures are the median, with the
    /// least and the most beside it [default: 3, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: Option<u32>,

    /// Shorter loads, and fewer of them: for a first look, not for comparisons.
    #[arg(long)]
    pub quick: bool,

    /// Name every set, with what it shows, and end.
    #[arg(long)]
    pub list: bool,

    /// Where `gateway`, `persister` and `roomcast` are [default: the folder of this program].
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Write the figures as Markdown to this file too.
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// Write the figures, with those of each repeat, as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the figures as a page with plots, which needs nothing else, to this file too.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// A set of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Set {
    /// What a delivery costs, and how long it takes.
    Speed,
    /// The most that one process delivers.
    Saturation,
    /// 1:1 rooms through Redis into MongoDB, receipted when stored.
    Stored,
    /// The persister beside a bare loop of inserts.
    Persister,
    /// Memory of up to 19,000 idle connections, and what is given back.
    Memory,
    /// 150,000 idle connections over eight gateways.
    Many,
    /// Cost against connections, rooms, members, gateways and persisters.
    Growth,
}

/// Flags of `loadtest insert`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InsertArgs {
    /// The URL of a database, mongodb://HOST/DB.
    #[arg(long, value_name = "URL")]
    pub store: String,

    /// How many documents.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub documents: usize,

    /// Documents in each insert_many.
    #[arg(long, value_name = "N", default_value_t = 500)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub batch: usize,

    /// How many insert_many are under way at a time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub writers: usize,
}
