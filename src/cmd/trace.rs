//! `trace`: every step of whole decodes.

use std::path::PathBuf;

use decode_bench::bench::finish;
use decode_bench::case::Case;
use decode_bench::error::Result;
use decode_bench::measure::equality::gate;
use decode_bench::measure::{default_threads, trace, Fixture, Machines, Record, Settings};
use decode_bench::strategy::Strategy;
use decode_bench::{on_backend, suite};

use super::parse::{check_strategies, check_tokens, Named};
use super::print;

/// Time every step of whole decodes, one strategy after another in each round, into a run of its own.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench trace --filter 'transformer-toy/(naive|concat|padded)/cpu/b1' --tokens 256 --rounds 5
  decode-bench trace --filter 'transformer-toy/concat/cpu/b1' --strategy concat,chunked-8,chunked-32 --tokens 256")]
pub struct Args {
    /// Regular expression: every strategy of the cases whose id it matches is decoded
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: String,
    /// Strategies to decode instead, comma-separated; chunked-N for any N
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Named::<Strategy>::parser())]
    strategy: Vec<Strategy>,
    /// Tokens to decode
    #[arg(long)]
    tokens: usize,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// CPU threads [default: all physical cores]
    #[arg(long, value_parser = super::parse::threads)]
    threads: Option<usize>,
    /// Seed of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder that run folders are made in
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Run folder to complete
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Empty a GPU's second-level cache before every step
    #[arg(long)]
    cold_l2: bool,
}

pub fn run(args: Args) -> Result<()> {
    let threads = args.threads.unwrap_or_else(default_threads);
    let settings = Settings { threads, seed: args.seed, results: args.results, ..Settings::default() };
    let settings = Settings { resume: args.resume, cold_l2: args.cold_l2, ..settings };
    let machines = Machines::new(&settings);
    let cases = machines.able(suite::select(Some(&args.filter))?)?;
    for case in &cases {
        let capacity = check_tokens(args.tokens, case.model, case.shape)?;
        check_strategies(&args.strategy, case.model, capacity)?;
    }
    let cases = under(cases, &args.strategy);
    let mut record = Record::open(&settings, machines.environment(&cases))?;
    let rounds = 1..=args.rounds;
    for cases in cases.chunk_by(|a, b| suite::same_fixture(a, b) && a.batch == b.batch) {
        let Case { model, shape, backend, .. } = cases[0];
        let last: Vec<Case> = suite::decoded(cases).iter().map(|case| case.at(args.tokens)).collect();
        on_backend!(machines, backend, |b| {
            let fixture = Fixture::load(b, model, shape, args.seed)?;
            let equal = gate(&fixture, &last, Some(&mut record))?;
            trace::decodes(&fixture, &equal, args.tokens, rounds.clone(), None, &mut record)?;
        })
    }
    print(&finish(record)?)
}

/// The cases under these strategies instead, where there are any.
fn under(cases: Vec<Case>, strategies: &[Strategy]) -> Vec<Case> {
    if strategies.is_empty() {
        return cases;
    }
    let mut others: Vec<Case> =
        cases.iter().flat_map(|case| strategies.iter().map(|&strategy| case.under(strategy))).collect();
    others.retain(|case| case.backend.runs(case.strategy));
    others.sort_by_key(|case| (case.model, case.shape, case.backend, case.batch));
    others
}
