//! `trace`: every step of whole decodes.

use decode_bench::analysis::headline_positions;
use decode_bench::bench::{finish, Common};
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::equality::gate;
use decode_bench::measure::{trace, Fixture, Machines, Record};
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
    #[command(flatten)]
    common: Common,
}

pub fn run(args: Args) -> Result<()> {
    let settings = args.common.settings()?;
    let machines = Machines::new(&settings);
    let cases = machines.able(suite::select(Some(&args.filter))?)?;
    for case in &cases {
        let capacity = check_tokens(args.tokens, case.model, case.shape)?;
        check_strategies(&args.strategy, case.model, capacity)?;
    }
    let cases = under(cases, &args.strategy);
    if suite::decoded(&cases).is_empty() {
        return Err(Error::Input(
            "none of these strategies is traced: see `--strategy` and `--filter`".into(),
        ));
    }
    let mut record = Record::open(&settings, machines.environment(&cases))?;
    let shown = headline_positions(&(1..=args.tokens).collect::<Vec<_>>());
    for cases in cases.chunk_by(|a, b| suite::same_fixture(a, b) && a.batch == b.batch) {
        let decoded = suite::decoded(cases);
        let checked = shown.iter().flat_map(|&position| decoded.iter().map(move |case| case.at(position)));
        let checked: Vec<Case> = checked.collect();
        on_backend!(machines, cases[0].backend, |b| {
            let fixture = Fixture::load(b, cases[0].model_name(), settings.seed)?;
            let equal = gate(&fixture, &checked, Some(&mut record))?;
            let sound = decoded.iter().filter(|case| shown.iter().all(|&t| equal.contains(&case.at(t))));
            let decodes: Vec<_> =
                sound.map(|case| trace::Decode::whole(&fixture, case.at(args.tokens))).collect();
            trace::decodes(&decodes, args.rounds, &mut record, |_, _| false)?;
        })
    }
    finish(record, print)
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
