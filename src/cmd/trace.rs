//! `trace`: every step of whole decodes.

use std::path::PathBuf;

use decode_bench::cache::Strategy;
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::equality::gate;
use decode_bench::measure::{default_threads, trace, Record, Rig, Settings};
use decode_bench::{model, suite};

use super::parse::{check_strategies, Named};
use super::print;

/// Time every step of whole decodes, strategies in turn, into a run of its own.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench trace --filter 'transformer-toy/(naive|concat|padded)/cpu/b1' --tokens 256 --rounds 5
  decode-bench trace --filter 'transformer-toy/concat/cpu/b1' --strategy concat,chunked-8,chunked-32 --tokens 256")]
pub struct Args {
    /// A regular expression; of the cases whose id it matches anywhere, every strategy is decoded
    #[arg(long, value_name = "RE")]
    filter: String,
    /// Decode under these strategies instead; comma-separated, chunked-N for any N
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Named::<Strategy>::parser())]
    strategy: Vec<Strategy>,
    /// How far to decode
    #[arg(long)]
    tokens: usize,
    /// How often
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Threads of the pool [default: all physical cores]
    #[arg(long, value_parser = super::parse::threads)]
    threads: Option<usize>,
    /// Of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where run folders are made
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// A run to complete
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<()> {
    let cases = suite::select(Some(&args.filter))?;
    for case in &cases {
        let capacity = model::capacity(case.model, case.shape);
        if args.tokens == 0 || args.tokens > capacity {
            let what =
                format!("--tokens {}: {}-{} decodes 1 to {capacity}", args.tokens, case.model, case.shape);
            return Err(Error::Input(what));
        }
        check_strategies(&args.strategy, case.model, capacity)?;
    }
    let threads = args.threads.unwrap_or_else(default_threads);
    let settings = Settings { threads, seed: args.seed, results: args.results, resume: args.resume };
    let mut record = Record::open(&settings)?;
    for model in cases.chunk_by(|a, b| (a.model, a.shape, a.batch) == (b.model, b.shape, b.batch)) {
        let rig = Rig::cpu(model[0].model, model[0].shape, &settings)?;
        let cases = match args.strategy.as_slice() {
            [] => model.to_vec(),
            instead => instead.iter().map(|&strategy| model[0].under(strategy)).collect(),
        };
        let last: Vec<Case> = trace::strategies(&cases).iter().map(|case| case.at(args.tokens)).collect();
        let equal = gate(&rig, &last, Some(&mut record))?;
        let rounds = trace::ROUNDS.start..trace::ROUNDS.start + args.rounds;
        trace::decodes(&rig, &equal, args.tokens, rounds, None, &mut record)?;
    }
    print(&record.close()?)
}
