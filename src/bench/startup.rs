//! Cold starts, each in a child process of its own.

use std::path::Path;
use std::time::Duration;

use super::{fixtures, Action, Bench, Keep, Record, Timing};
use crate::case::Case;
use crate::error::{Error, Result};
use crate::measure::startup::in_a_child;
use crate::model::{checkpoint, Config, Weights};
use crate::record::{Metric, Round, Sample};
use crate::strategy::Strategy;

/// Starts `program` anew for every sample, from a checkpoint written for the purpose. `criterion`
/// takes each case through its statistics: the time of all phases together.
pub(super) fn startup(
    bench: &Bench,
    program: &Path,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>),
) -> Result<()> {
    let budget = bench.budget(20);
    let folder = std::env::temp_dir().join(format!("decode-bench-checkpoint-{}", std::process::id()));
    let result = fixtures(&bench.starts).try_for_each(|cases| {
        let Case { model, shape, backend, .. } = cases[0];
        let mut cases = cases.to_vec();
        cases.retain(|case| budget.admits(std::slice::from_ref(case), STARTED));
        if !cases.is_empty() {
            eprintln!("cold starts of {model}-{shape} on {backend}");
            let (config, weights) = (Config::named(model, shape)?, Weights::seeded(bench.settings.seed));
            checkpoint::write(&config, &weights, &folder)?;
        }
        cases.iter().try_for_each(|case| {
            let one = |_| match case.backend.is_cuda() && bench.action == Action::Measure {
                true => start_some(bench, program, &folder, case, record.as_deref_mut()),
                false => start(bench, program, &folder, *case, record.as_deref_mut(), criterion),
            };
            budget.spend(std::slice::from_ref(case), STARTED, one).unwrap_or(Ok(()))
        })
    });
    let _ = std::fs::remove_dir_all(&folder); // a leftover in the temporary folder harms nobody
    result?;
    record.map_or(Ok(()), |record| record.left_out(&budget, &[STARTED]))
}

/// What a budget calls this.
const STARTED: &str = "cold starts";

/// Of one case on a GPU, which take seconds each: fewer than criterion wants for its statistics.
const STARTS: u32 = 3;

/// So many as the run lacks, and no criterion.
fn start_some(
    bench: &Bench,
    program: &Path,
    checkpoint: &Path,
    case: &Case,
    record: Option<&mut Record>,
) -> Result<()> {
    let Some(record) = record else { return Ok(()) };
    for _ in record.done.done(case, Metric::LoadNs)..STARTS as usize {
        match in_a_child(program, case, checkpoint, &bench.settings) {
            Ok(phases) => phases.samples(case).iter().try_for_each(|sample| record.sample(sample))?,
            Err(error @ Error::Input(_)) => {
                return record.sample(&Sample::failed(*case, Metric::LoadNs, Round::Single, error))
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A cold start ends with the first token, so position and most strategies make no difference:
/// those of the question, at position 1. In the order of the cases' models and backends.
pub(super) fn first_tokens(cases: &[Case]) -> Vec<Case> {
    let asked = [Strategy::Naive, Strategy::Concat, Strategy::Padded];
    let first = |cases: &[Case]| {
        let wanted = cases.iter().filter(|case| case.batch == 1 && asked.contains(&case.strategy));
        let mut first: Vec<Case> = wanted.map(|case| case.at(1)).collect();
        first.sort();
        first.dedup();
        first
    };
    fixtures(cases).flat_map(first).collect()
}

fn start(
    bench: &Bench,
    program: &Path,
    checkpoint: &Path,
    case: Case,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>),
) -> Result<()> {
    if record.as_ref().is_some_and(|record| record.done.done(&case, Metric::LoadNs) > 0) {
        return Ok(());
    }
    let time = bench.measurement.unwrap_or(Duration::from_nanos(1)); // one start is a sample
    let mut timing = Timing::new(case, time, |iters, keep| {
        let mut total = Duration::ZERO;
        for _ in 0..iters {
            let phases = in_a_child(program, &case, checkpoint, &bench.settings)?;
            total += Duration::from_nanos(phases.total_ns());
            if let (Keep::Sample, Some(record)) = (keep, &mut record) {
                phases.samples(&case).iter().try_for_each(|sample| record.sample(sample))?;
            }
        }
        Ok(total)
    });
    criterion(&mut timing);
    match (timing.finish(), record) {
        (Err(error @ Error::Input(_)), Some(record)) => {
            record.sample(&Sample::failed(case, Metric::LoadNs, Round::Single, error))
        }
        (result, _) => result,
    }
}
