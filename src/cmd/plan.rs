//! `plan`: a suite dealt out to several machines.

use decode_bench::error::Result;
use decode_bench::shard::{CaseGroup, Place, Plan};
use serde_json::json;

use super::{parse, print};

/// Print the plan: one line of JSON for each group of cases and its shard.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench plan --shards 4 --filter '-toy/.*/cpu/'

`run --shard 1/4` with the same filter measures the first shard. `cost` compares groups; it is no time.")]
pub struct Args {
    /// Number of shards
    #[arg(long, value_name = "N", value_parser = parse::positive)]
    shards: usize,
    /// Regular expression: cases whose id it matches are dealt out [default: the default suite]
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
}

pub fn run(args: Args) -> Result<()> {
    let plan = Plan::new(args.filter.as_deref(), args.shards)?;
    let ids = |cases: &[_]| {
        cases.iter().map(|case: &decode_bench::case::Case| case.to_string()).collect::<Vec<_>>()
    };
    for shard in 1..=plan.shards() {
        for CaseGroup { cases, decodes, cost } in plan.groups(shard) {
            let shard = Place { shard, of: plan.shards() }.to_string();
            let line = json!({ "shard": shard, "cases": ids(cases), "decodes": ids(decodes), "cost": cost });
            print(&format!("{line}\n"))?;
        }
    }
    Ok(())
}
