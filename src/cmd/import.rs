//! `import`: a run from someone else.

use std::collections::BTreeSet;
use std::path::PathBuf;

use decode_bench::error::Result;
use decode_bench::harmless;
use decode_bench::record::{self, Imported, Run};

use super::{print, say_notes};

/// Validate a run folder or archive, and copy it into results/.
///
/// Only the four files of a run are copied. One that is there already, byte for byte, is left alone; another
/// one of the same name is refused.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench import 2026-01-31T12-00-00Z-your-machine.tar.gz
  decode-bench plot results/2026-01-31T12-00-00Z-your-machine

Limits: 64 MiB an archive, 256 MiB unpacked, 1000 files; 1 MiB environment.json; 64 MiB and a million
rows a table; 4096 characters a text; a week a sample.")]
pub struct Args {
    /// Run folder, or a .tar, .tar.gz, .tgz or .zip of one
    source: PathBuf,
    /// Folder to copy the run into; it keeps its name
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    let (run, how) = match record::import(&args.source, &args.results)? {
        Imported::New(run) => (run, "imported to"),
        Imported::Known(run) => (run, "already there, identical:"),
    };
    say_notes(&run);
    print(&format!("{how} {}: {}\n", harmless::path(&run.path), described(&run)))
}

fn described(run: &Run) -> String {
    let cases: BTreeSet<_> = run.samples.iter().map(|sample| sample.case).collect();
    let environment = &run.environment;
    let hardware = environment.cpu_model.as_deref().unwrap_or("an unknown processor");
    let emulated = if environment.emulated { "; its GPU was emulated, its times are not shown" } else { "" };
    format!(
        "{} samples of {} cases on {hardware}, decode-bench {}, from {}{emulated}",
        run.samples.len(),
        cases.len(),
        environment.tool_version,
        environment.started_utc
    )
}
