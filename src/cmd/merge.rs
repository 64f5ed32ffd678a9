//! `merge`: one run out of a plan's shards.

use std::path::PathBuf;

use decode_bench::error::{Error, Result};
use decode_bench::harmless;
use decode_bench::record::{write_merged, Run};
use decode_bench::shard::merge::{merge, Merge};

use super::{note, print, say_notes};

/// Make one run out of the runs of a plan's shards.
///
/// Of a shard that was begun again, the last finished attempt counts. Rows that a merged run holds already are kept,
/// and merging the same again changes nothing. Where something planned is missing it is listed, nothing is
/// written, and the exit code is 1.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench merge results/2026-01-31-four-machines results/parts/*")]
pub struct Args {
    /// Folder of the merged run, new or merged before
    out: PathBuf,
    /// Runs of shards, finished or not, or merged runs
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Write the merged run even if something is missing
    #[arg(long)]
    partial: bool,
}

pub fn run(args: Args) -> Result<()> {
    let before = args.out.exists().then_some(&args.out);
    let runs = before.into_iter().chain(&args.runs).map(|run| Run::open(run)).collect::<Result<Vec<_>>>()?;
    runs.iter().for_each(say_notes);
    if before.is_some() && runs[0].environment.merged.is_none() {
        return Err(Error::file(&args.out, "a run that was not merged is there; nothing was written"));
    }
    let Merge { environment, samples, equality, ledger, missing, notes } = merge(&runs)?;
    notes.iter().for_each(|what| note(what));
    print(&missing.iter().map(|what| format!("missing: {what}\n")).collect::<String>())?;
    if let (Some(first), false) = (missing.first(), args.partial) {
        return Err(Error::Differs(format!(
            "{} of what was planned is missing, the first {first}; nothing was written (--partial writes what there is)",
            missing.len()
        )));
    }
    let written = write_merged(&args.out, &environment, &samples, &equality, &ledger)?;
    let how = if written { "written to" } else { "unchanged:" };
    let parts = environment.merged.map_or(0, |merged| merged.parts.len());
    print(&format!(
        "{how} {}: {} samples, {parts} runs of shards\n",
        harmless::path(&args.out),
        samples.len()
    ))
}
