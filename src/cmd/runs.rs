//! `runs`: which runs there are.

use std::path::PathBuf;

use decode_bench::error::{Error, Result};
use decode_bench::report::compare::Format;
use decode_bench::report::runs::{is_found, listing};
use decode_bench::suite;

use super::{print, runs_under};

/// List the runs of a folder, the newest first.
///
/// A run is `quiet` if none of its timed samples is marked as disturbed. What cannot be read is named on standard
/// error.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench runs
  decode-bench runs results --filter 'H200|before' --format json")]
pub struct Args {
    /// Folder of the runs
    #[arg(value_name = "FOLDER", default_value = "results")]
    folder: PathBuf,
    /// Regular expression: runs are listed that have it in their name, note, folder, hardware or revision
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub fn run(args: Args) -> Result<()> {
    let mut runs = runs_under(&args.folder)?;
    if runs.is_empty() {
        return Err(Error::file(args.folder, "no run is in it"));
    }
    if let Some(filter) = &args.filter {
        let wanted = suite::pattern(filter)?;
        runs.retain(|run| is_found(run, &wanted));
        if runs.is_empty() {
            let what = format!("no run has `{filter}` in its name, note, folder, hardware or revision");
            return Err(Error::file(args.folder, what));
        }
    }
    print(&listing(&runs, args.format)?)
}
