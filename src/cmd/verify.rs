//! `verify`: is every case what it says it is?

use decode_bench::bench::Threads;
use decode_bench::error::{Error, Result};
use decode_bench::measure::exact::{self, Counter};
use decode_bench::measure::{Machines, Settings};
use decode_bench::record::EqualityRow;
use decode_bench::{on_backend, suite};

use super::print;

/// Check every case's logits against the naive strategy, and its counted work against the closed form.
///
/// Prints a line for each case; exits with 1 if one differs, saying where and by how much.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench verify --filter 'linearized-conv-toy'")]
pub struct Args {
    /// Regular expression: cases whose id it matches are verified
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    filter: Option<String>,
    #[command(flatten)]
    threads: Threads,
    /// Seed of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let threads = args.threads.count();
    let settings = Settings { threads, seed: args.seed, ..Settings::default() };
    let machines = Machines::new(&settings);
    let cases = machines.able(suite::select(args.filter.as_deref())?)?;
    let mut differing = Vec::new();
    for cases in cases.chunk_by(suite::same_fixture) {
        on_backend!(machines, cases[0].backend, |b| {
            let counter = Counter::new(b, &cases[0], &machines, args.seed)?;
            let mut checker = counter.checker();
            for case in cases {
                let found = verify(checker(case), || counter.count(case))?;
                print(&format!("{case}: {}\n", found.as_ref().unwrap_or_else(|difference| difference)))?;
                differing.extend(found.err().map(|difference| format!("{case}: {difference}")));
            }
        })
    }
    match &differing[..] {
        [] => print(&format!(
            "{} cases: all logits are naive's, all work is as the closed forms say\n",
            cases.len()
        )),
        [first, ..] => Err(Error::Differs(format!(
            "{} of {} cases differ; the first: {first}",
            differing.len(),
            cases.len()
        ))),
    }
}

/// In words, what was found equal, or what was not.
fn verify(
    equality: EqualityRow,
    count: impl FnOnce() -> Result<exact::Exact>,
) -> Result<Result<String, String>> {
    if let Some(difference) = equality.error {
        return Ok(Err(difference));
    }
    if let Err(difference) = exact::check(&count()?.ledger) {
        return Ok(Err(difference.to_string()));
    }
    let rel = equality.max_rel.unwrap_or_default();
    Ok(Ok(format!("equal, largest difference {rel:.1e} of the largest logit at {}", equality.place)))
}
