//! `report`: a run's tables as Markdown.

use std::path::PathBuf;

use decode_bench::error::Result;
use decode_bench::report;

use super::{floor_bytes, open_run, print};

/// Print a run's tables as Markdown, or put them into a page.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench report results/2026-01-31T12-00-00Z-my-machine --splice README.md

The page holds the lines <!-- decode-bench:begin --> and <!-- decode-bench:end -->;
what is between them is replaced.")]
pub struct Args {
    /// A folder under results/
    run: PathBuf,
    /// Replace what is between the markers of this page, and print nothing
    #[arg(long, value_name = "PAGE")]
    splice: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let run = open_run(&args.run)?;
    let section = report::markdown(&run, &floor_bytes);
    match args.splice {
        Some(page) => report::splice_file(&page, &section),
        None => print(&section),
    }
}
