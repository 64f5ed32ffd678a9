//! `startup`: the child process of a cold start's measurement.

use std::path::PathBuf;

use decode_bench::case::Case;
use decode_bench::error::Result;
use decode_bench::measure::startup::{end_with_parent, in_this_process};
use decode_bench::measure::Settings;

use super::print;

/// Start once from a checkpoint, take one step, print the time of each phase as JSON.
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    case: Case,
    #[arg(long)]
    checkpoint: PathBuf,
    #[arg(long, value_parser = decode_bench::bench::threads)]
    threads: usize,
}

pub fn run(args: Args) -> Result<()> {
    end_with_parent();
    let settings = Settings { threads: args.threads, ..Settings::default() };
    let phases = in_this_process(&args.case, &args.checkpoint, &settings)?;
    print(&format!("{}\n", serde_json::to_string(&phases).expect("numbers print")))
}
