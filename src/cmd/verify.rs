//! `verify`: is every case what it says it is?

use decode_bench::backend::cpu::Cpu;
use decode_bench::backend::Metered;
use decode_bench::case::Case;
use decode_bench::error::{Error, Result};
use decode_bench::measure::{default_threads, equality, exact, Rig, Settings};
use decode_bench::suite;

use super::print;

/// Hold every case's logits against naive's, and its counted work against the closed form.
///
/// Prints a line for each case; exits with 1 if one differs, saying where and by how much.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench verify --filter 'linearized-conv-toy'")]
pub struct Args {
    /// A regular expression; cases whose id it matches anywhere are verified
    #[arg(long, value_name = "RE")]
    filter: Option<String>,
    /// Threads of the pool [default: all physical cores]
    #[arg(long, value_parser = super::parse::threads)]
    threads: Option<usize>,
    /// Of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let cases = suite::select(args.filter.as_deref())?;
    let threads = args.threads.unwrap_or_else(default_threads);
    let settings = Settings { threads, seed: args.seed, ..Settings::default() };
    let mut differing = Vec::new();
    for model in cases.chunk_by(|a, b| (a.model, a.shape) == (b.model, b.shape)) {
        let rig = Rig::metered(model[0].model, model[0].shape, &settings)?;
        let mut checker = equality::Checker::new(&rig);
        for case in model {
            let found = verify(&mut checker, &rig, case)?;
            print(&format!(
                "{case}: {}\n",
                found.as_ref().map_or_else(|difference| difference.clone(), String::clone)
            ))?;
            differing.extend(found.err().map(|difference| format!("{case}: {difference}")));
        }
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
    checker: &mut equality::Checker<'_, Metered<Cpu>>,
    rig: &Rig<Metered<Cpu>>,
    case: &Case,
) -> Result<Result<String, String>> {
    let equality = checker.check(case);
    if let Some(difference) = equality.error {
        return Ok(Err(difference));
    }
    let ledger = exact::count(rig, case)?.ledger;
    if let Err(difference) = exact::check(&ledger) {
        return Ok(Err(difference.to_string()));
    }
    let rel = equality.max_rel.unwrap_or_default();
    Ok(Ok(format!("equal, largest difference {rel:.1e} of the largest logit at {}", equality.place)))
}
