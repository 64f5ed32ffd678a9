//! `list`: which cases there are.

use decode_bench::error::Result;
use decode_bench::suite;

use super::print;

/// Print the ids of the cases that `cargo bench` measures.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench list --filter 'transformer-toy/(padded|concat)'")]
pub struct Args {
    /// Regular expression: cases whose id it matches are listed
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
}

pub fn run(args: Args) -> Result<()> {
    let cases = suite::select(args.filter.as_deref())?;
    print(&cases.iter().map(|case| format!("{case}\n")).collect::<String>())
}
