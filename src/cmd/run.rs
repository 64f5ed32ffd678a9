//! `run`: one shard of a plan.

use std::path::PathBuf;

use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::{default_threads, shard, Machines, Record, Settings};
use decode_bench::record::Sharding;
use decode_bench::shard::{Place, Plan};

use super::print;

/// Measure one shard of a suite, as `plan` deals it out, into a run of its own.
///
/// The same rounds as `cargo bench`, without criterion's samples, cold starts, and the curve of memory between
/// the cases' positions.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench run --shard 2/4 --filter '-toy/.*/cpu/' --results results/parts
  decode-bench merge results/2026-01-31-four-machines results/parts/*")]
pub struct Args {
    /// Which, of how many: 1/4 to 4/4
    #[arg(long, value_name = "I/N")]
    shard: Place,
    /// The plan's filter
    #[arg(long, value_name = "RE")]
    filter: Option<String>,
    /// How often this shard was begun before [default: SLURM_RESTART_COUNT, or 0]
    #[arg(long, value_name = "K")]
    attempt: Option<u64>,
    /// Threads of the pool [default: all physical cores]
    #[arg(long, value_parser = super::parse::threads)]
    threads: Option<usize>,
    /// Of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where run folders are made
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    let plan = Plan::new(args.filter.as_deref(), args.shard.of)?;
    let groups = plan.groups(args.shard.shard);
    let attempt = args.attempt.map_or_else(restarts, Ok)?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let settings = Settings { threads, seed: args.seed, results: args.results, ..Settings::default() };
    let machines = Machines::new(&settings);
    let cases: Vec<Case> = groups.iter().flat_map(|group| group.cases.clone()).collect();
    let able = machines.able(cases.clone())?;
    if able.len() < cases.len() {
        let what = format!(
            "shard {} has cases on a GPU, and there is none; plan with a filter such as /cpu/",
            args.shard
        );
        return Err(Error::Input(what));
    }
    let mut environment = machines.environment(&cases);
    environment.sharding =
        Some(Sharding { shard: args.shard.to_string(), attempt, plan: plan.id(), filter: args.filter });
    let mut record = Record::open(&settings, environment)?;
    let path = record.writer.path().to_path_buf();
    shard::measure(groups, &machines, &settings, &mut record)?;
    record.writer.finish()?;
    print(&format!("written to {}\n", path.display()))
}

/// Slurm counts how often it began a task again.
fn restarts() -> Result<u64> {
    const COUNT: &str = "SLURM_RESTART_COUNT";
    match std::env::var(COUNT) {
        Err(_) => Ok(0),
        Ok(count) => {
            count.parse().map_err(|_| Error::Input(format!("{COUNT} is `{count}`, no number of restarts")))
        }
    }
}
