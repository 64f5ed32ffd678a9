//! `plot`: figures from a run's files alone.

use std::path::PathBuf;

use decode_bench::error::Result;
use decode_bench::harmless;
use decode_bench::plot;

use super::{open_run, print};

/// Draw a run's figures again, as SVG and PNG, and print their names.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench plot results/2026-01-31T12-00-00Z-my-machine --out figures
  decode-bench plot results/<a run of `compile`> --with results/<a run of `trace --strategy LIST`>")]
pub struct Args {
    /// Run folder
    run: PathBuf,
    /// Run of `trace`, whose decodes are drawn beside the compile times of the first
    #[arg(long, value_name = "RUN")]
    with: Option<PathBuf>,
    /// Output folder [default: the run's plots/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let run = open_run(&args.run)?;
    let steps = args.with.as_deref().map(open_run).transpose()?;
    let folder = args.out.unwrap_or_else(|| args.run.join("plots"));
    let files = plot::draw_with(&run, steps.as_ref(), &folder)?;
    print(&files.iter().map(|file| format!("{}\n", harmless::path(file))).collect::<String>())
}
