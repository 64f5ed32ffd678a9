//! Cold starts, each in a child process of its own.

use std::path::Path;
use std::time::Duration;

use super::{Bench, Keep, Mode, Record, Timing};
use crate::cache::Strategy;
use crate::case::{BackendName, Case, ModelKind, ShapeName};
use crate::error::{Error, Result};
use crate::measure::startup::in_a_child;
use crate::model::weights::Weights;
use crate::model::Config;
use crate::record::{Metric, Sample};

/// Starts `program` anew for every sample, from a checkpoint written for the purpose. `criterion`
/// takes each case through its statistics: the time of all phases together.
pub fn startup(bench: &Bench, program: &Path, mut criterion: impl FnMut(&mut Timing<'_>)) -> Result<()> {
    let mut record = bench.open()?;
    let folder = std::env::temp_dir().join(format!("decode-bench-checkpoint-{}", std::process::id()));
    let result = bench.models().into_iter().try_for_each(|model| {
        let cases = cases(bench, model);
        if !cases.is_empty() && bench.mode != Mode::List {
            eprintln!("cold starts of {}-{}", model.0, model.1);
            let config = Config::named(model.0, model.1)?;
            Weights::seeded(model.0, bench.settings.seed).write(&config, &folder)?;
        }
        cases
            .iter()
            .try_for_each(|case| start(bench, program, &folder, *case, record.as_mut(), &mut criterion))
    });
    let _ = std::fs::remove_dir_all(&folder); // a leftover in the temporary folder harms nobody
    result
}

/// A cold start ends with the first token, so position and most strategies make no difference:
/// those of the question, at position 1.
fn cases(bench: &Bench, (model, shape): (ModelKind, ShapeName)) -> Vec<Case> {
    let wanted = |strategy: &Strategy| {
        bench
            .cases
            .iter()
            .any(|case| (case.model, case.shape, case.strategy, case.batch) == (model, shape, *strategy, 1))
    };
    let strategies = [Strategy::Naive, Strategy::Concat, Strategy::Padded].into_iter().filter(wanted);
    let backend = BackendName::Cpu;
    strategies.map(|strategy| Case { model, shape, strategy, backend, batch: 1, position: 1 }).collect()
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
    let mut timing = Timing::new(case, Duration::ZERO, |iters, keep| {
        let mut total = Duration::ZERO;
        for _ in 0..iters {
            let phases = in_a_child(program, &case, checkpoint, &bench.settings)?;
            total += Duration::from_nanos(phases.total_ns());
            if let (Keep::Sample, Some(record)) = (keep, &mut record) {
                phases.samples(&case).iter().try_for_each(|sample| record.writer.sample(sample))?;
            }
        }
        Ok(total)
    });
    criterion(&mut timing);
    match (timing.finish(), record) {
        (Err(error @ Error::Input(_)), Some(record)) => {
            record.writer.sample(&Sample::failed(case, Metric::LoadNs, 0, error))
        }
        (result, _) => result,
    }
}
