//! `run`: the cases of a filter, or one shard of a plan.

use std::time::Duration;

use decode_bench::bench::{finish, shard, Common};
use decode_bench::case::{BackendName, Case};
use decode_bench::error::{Error, Result};
use decode_bench::harmless;
use decode_bench::measure::{Machines, Record, Settings, StopRule};
use decode_bench::record::Sharding;
use decode_bench::shard::{CaseGroup, Place, Plan};

use super::parse::positive;
use super::print;

/// Measure the cases of a filter, or one shard of a suite, as `plan` deals it out, into a run of its own.
///
/// The same rounds as `cargo bench`, without criterion's samples, cold starts, and the curve of memory between
/// the cases' positions.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  decode-bench run --filter 'transformer-(toy|base)/(naive|concat|padded|bounded)/cuda'
  decode-bench run --filter 'transformer-toy/padded/cpu/b1' --prefill-chunks 16,64,256
  decode-bench run --shard 2/4 --filter '-toy/.*/cpu/' --results results/parts
  decode-bench merge results/2026-01-31-four-machines results/parts/*")]
pub struct Args {
    /// Shard, as I/N: 1/4 to 4/4 [default: all cases, without a plan]
    #[arg(long, value_name = "I/N")]
    shard: Option<Place>,
    /// Regular expression: cases whose id it matches are measured [default: the default suite]
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Attempt number of this shard [default: SLURM_RESTART_COUNT, or 0]
    #[arg(long, value_name = "K", requires = "shard")]
    attempt: Option<u64>,
    /// Seconds for the rounds of one position; ten times that for whole decodes of a model, and, without a shard, fifty
    /// times for all cases on a GPU together [default: 12]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    budget: Option<u64>,
    /// Also prefill every prompt in calls of so many tokens each, comma-separated: chunked prefill
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = positive)]
    prefill_chunks: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> Result<()> {
    let settings = settings(&args)?;
    let machines = Machines::new(&settings);
    match args.shard {
        Some(place) => run_shard(place, args, &settings, &machines),
        None => run_all(args.filter.as_deref(), &settings, &machines),
    }
}

fn settings(args: &Args) -> Result<Settings> {
    let settings = args.common.settings()?;
    let budget = args.budget.map_or(settings.stop.budget, Duration::from_secs);
    match (&args.shard, &settings.resume) {
        (Some(_), Some(_)) => {
            Err(Error::Input("--resume: a shard is begun again as another --attempt".into()))
        }
        _ => Ok(Settings {
            stop: StopRule { budget, ..settings.stop },
            prefill_chunks: chunks(args)?,
            ..settings
        }),
    }
}

/// Each once.
///
/// # Errors
/// When no prompt is longer than a chunk.
fn chunks(args: &Args) -> Result<Vec<usize>> {
    let mut chunks = args.prefill_chunks.clone();
    chunks.sort();
    chunks.dedup();
    if let Some(largest) = chunks.last() {
        let cases = cases(Plan::new(args.filter.as_deref(), 1)?.groups(1));
        if !cases.iter().any(|case| case.strategy.remembers() && case.position > *largest) {
            return Err(Error::Input(format!(
                "--prefill-chunks {largest}: no case has a cache and a longer prompt"
            )));
        }
    }
    Ok(chunks)
}

/// The cases that can run here, those on a GPU for as long as the budget lasts.
fn run_all(filter: Option<&str>, settings: &Settings, machines: &Machines) -> Result<()> {
    let plan = Plan::new(filter, 1)?;
    let cases = machines.able(cases(plan.groups(1)))?;
    let groups = of_cases(plan.groups(1), &cases);
    let mut record = Record::open(settings, machines.environment(&cases))?;
    shard::measure(&groups, machines, settings, &mut record, Some(settings.gpu_limit()))?;
    finish(record, print)
}

fn run_shard(place: Place, args: Args, settings: &Settings, machines: &Machines) -> Result<()> {
    let plan = Plan::new(args.filter.as_deref(), place.of)?;
    let groups = plan.groups(place.shard);
    let attempt = args.attempt.map_or_else(restarts, Ok)?;
    let cases = cases(groups);
    if cases.iter().any(|case| case.backend != BackendName::Cpu) && machines.gpu().is_err() {
        let what =
            format!("shard {place} has cases on a GPU, and there is none; plan with a filter such as /cpu/");
        return Err(Error::Input(what));
    }
    let groups = of_cases(groups, &machines.able(cases.clone())?);
    let mut environment = machines.environment(&cases);
    environment.sharding =
        Some(Sharding { shard: place.to_string(), attempt, plan: plan.id(), filter: args.filter });
    let mut record = Record::open(settings, environment)?;
    let path = record.writer.path().to_path_buf();
    shard::measure(&groups, machines, settings, &mut record, None)?;
    record.writer.finish()?;
    print(&format!("written to {}\n", harmless::path(&path)))
}

/// Of the groups, what is among these cases.
fn of_cases(groups: &[CaseGroup], able: &[Case]) -> Vec<CaseGroup> {
    let mut groups = groups.to_vec();
    for CaseGroup { cases, decodes, .. } in &mut groups {
        cases.retain(|case| able.contains(case));
        decodes.retain(|decode| able.iter().any(|case| case.at(decode.position) == *decode));
    }
    groups.retain(|group| !group.cases.is_empty());
    groups
}

fn cases(groups: &[CaseGroup]) -> Vec<Case> {
    groups.iter().flat_map(|group| group.cases.clone()).collect()
}

/// Slurm counts how often it began a task again.
fn restarts() -> Result<u64> {
    const COUNT: &str = "SLURM_RESTART_COUNT";
    let Some(count) = std::env::var_os(COUNT) else { return Ok(0) };
    let count = count.to_string_lossy();
    count.parse().map_err(|_| Error::Input(format!("{COUNT} is `{count}`, no number of restarts")))
}
