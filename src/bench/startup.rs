//! Cold starts, each in a child process of its own.

use std::path::Path;
use std::time::Duration;

use super::{fixtures, Action, Bench, Keep, Record, Timing};
use crate::case::Case;
use crate::error::{one_line, Error, Result};
use crate::measure::say;
use crate::measure::startup::in_a_child;
use crate::model::{checkpoint, Config, Weights};
use crate::record::Metric;
use crate::strategy::Strategy;
use crate::temporary::{Folder, Temporary};

/// Starts `program` anew for every sample, from a checkpoint written for the purpose. `criterion`
/// takes each case through its statistics: the time of all phases together. Where no checkpoint can be written, the
/// cases get a row that says so, and the run goes on.
pub(super) fn startup(
    bench: &Bench,
    program: &Path,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>) -> Result<()>,
) -> Result<()> {
    let budget = bench.budget(20);
    for cases in fixtures(&bench.starts) {
        let mut cases = cases.to_vec();
        cases.retain(|case| budget.admits(std::slice::from_ref(case), STARTED));
        let Some(first) = cases.first() else { continue };
        say(format_args!("cold starts of {} on {}", first.model_name(), first.backend));
        let folder = match checkpoint(bench, &cases[0]) {
            Ok(folder) => folder,
            Err(why) => {
                failed(&cases, why, record.as_deref_mut())?;
                continue;
            }
        };
        for case in &cases {
            let one = |_| match case.backend.is_cuda() && bench.action == Action::Measure {
                true => start_some(bench, program, folder.path(), case, record.as_deref_mut()),
                false => start(bench, program, folder.path(), *case, record.as_deref_mut(), criterion),
            };
            budget.spend(std::slice::from_ref(case), STARTED, one).unwrap_or(Ok(()))?;
        }
    }
    record.map_or(Ok(()), |record| record.left_out(&budget, &[STARTED]))
}

/// What the cases of a model start from, in the temporary folder.
fn checkpoint(bench: &Bench, case: &Case) -> Result<Folder> {
    let (config, weights) = (Config::named(case.model, case.shape)?, Weights::seeded(bench.settings.seed));
    // without the name that was tried there
    let folder = Temporary::folder().map_err(|e| Error::io(std::env::temp_dir())(e.kind().into()))?;
    checkpoint::write(&config, &weights, folder.path())?;
    Ok(folder)
}

/// Writes down and says why cases were not started. Where nothing is recorded, that is the end.
fn failed(cases: &[Case], why: Error, record: Option<&mut Record>) -> Result<()> {
    let Some(record) = record else { return Err(why) };
    say(format_args!("no cold starts: {}", one_line(&why.to_string())));
    record.failed(cases, Metric::LoadNs, &why)
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
            Err(why) => return failed(std::slice::from_ref(case), why, Some(record)),
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
    criterion: &mut impl FnMut(&mut Timing<'_>) -> Result<()>,
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
    criterion(&mut timing)?;
    match (timing.finish(), record) {
        (Err(why @ Error::Input(_)), record) => failed(&[case], why, record),
        (result, _) => result,
    }
}
