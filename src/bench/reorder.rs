//! Beams: what it costs to reorder them, beside the step that follows. Without criterion: its pairs of times
//! are of one copy of a session.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{fixtures, Bench, Record};
use crate::analysis::MIN_ROUNDS;
use crate::backend::{Backend, Metered};
use crate::case::{Case, ShapeName};
use crate::error::Result;
use crate::measure::equality::gate;
use crate::measure::reorder::{self, Beams};
use crate::measure::{exact, say, Budget, Fixture};
use crate::record::{Metric, Round, Sample};
use crate::strategy::Strategy;
use crate::{on_backend, suite};

/// Hypotheses of one sentence.
const WIDTHS: [usize; 3] = [2, 4, 8];
const ROUNDS: u32 = 8;
/// For the rounds of one width, once there are enough for an interval.
const BUDGET: Duration = Duration::from_millis(1500);

/// What a budget calls this.
const REORDERED: &str = "reorders";

/// Times the reorders of beams where the filter selects steps of one sentence, and counts their bytes.
pub(super) fn reorders(bench: &Bench, mut record: Option<&mut Record>) -> Result<()> {
    let budget = bench.budget(10);
    for cases in fixtures(&bench.cases) {
        let (name, backend, beams) = (cases[0].model_name(), cases[0].backend, beams(cases));
        if beams.is_empty() || !budget.admits(&beams, REORDERED) {
            continue;
        }
        say(format_args!("reordering the beams of {name} on {backend}"));
        let timed = on_backend!(bench.machines, backend, |b| {
            let fixture = Fixture::load(b, name, bench.settings.seed);
            fixture.and_then(|fixture| time(&fixture, &beams, record.as_deref_mut(), &budget))
        });
        bench.failed(&beams, Metric::ReorderNs, timed, record.as_deref_mut())?;
        let counted = on_backend!(bench.machines, backend, |b| {
            let fixture = Fixture::load(Metered(b), name, bench.settings.seed);
            fixture.and_then(|fixture| count(&fixture, &beams, record.as_deref_mut()))
        });
        bench.failed(&beams, Metric::ReorderBytes, counted, record.as_deref_mut())?;
    }
    record.map_or(Ok(()), |record| record.left_out(&budget, &[REORDERED]))
}

/// The question's strategies at one or two positions, side by side for each width.
fn beams(cases: &[Case]) -> Vec<Case> {
    let of_one = of_one_sentence(cases).into_iter();
    let mut beams: Vec<Case> = of_one.flat_map(|case| WIDTHS.map(|batch| Case { batch, ..case })).collect();
    beams.sort_by_key(|case| (case.position, case.batch));
    beams
}

/// The cases of one sentence whose beams are reordered.
pub(super) fn of_one_sentence(cases: &[Case]) -> Vec<Case> {
    let reordered = |case: &&Case| {
        let small = matches!(case.shape, ShapeName::Tiny | ShapeName::Toy);
        let position = case.position == 256 || (small && case.position == 64);
        let strategy = match case.strategy {
            Strategy::Concat | Strategy::Padded | Strategy::Bounded => true,
            Strategy::Naive => case.position == 64, // nothing to reorder, and steps that take long
            Strategy::NaivePadded
            | Strategy::Chunked(_)
            | Strategy::Onehot
            | Strategy::Shift
            | Strategy::Reprojected => false,
        };
        case.batch == 1 && position && strategy
    };
    cases.iter().filter(reordered).copied().collect()
}

fn time<B: Backend>(
    fixture: &Fixture<B>,
    beams: &[Case],
    mut record: Option<&mut Record>,
    budget: &Budget,
) -> Result<()> {
    for group in beams.chunk_by(suite::side_by_side) {
        let timed = budget.spend(group, REORDERED, |_| time_group(fixture, group, record.as_deref_mut()));
        timed.unwrap_or(Ok(()))?;
    }
    Ok(())
}

fn time_group<B: Backend>(
    fixture: &Fixture<B>,
    group: &[Case],
    mut record: Option<&mut Record>,
) -> Result<()> {
    let equal = gate(fixture, group, record.as_deref_mut())?;
    let rounds = missing(&equal, record.as_deref());
    if rounds.is_empty() {
        return Ok(());
    }
    let ready = equal.iter().map(|case| Beams::new(fixture, case)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for (begun, round) in rounds.enumerate() {
        if begun >= MIN_ROUNDS && start.elapsed() > BUDGET {
            break;
        }
        reorder::round(&ready, round, |sample| match &mut record {
            Some(record) => record.sample(sample),
            None => Ok(()),
        })?;
    }
    Ok(())
}

/// The rounds that a run lacks, after those it has of all cases; one, where nothing is recorded.
fn missing(cases: &[Case], record: Option<&Record>) -> Range<u32> {
    let Some(record) = record else { return 1..2 };
    let last = |case: &Case| {
        let of_case = record.done.samples.iter().filter(|s| s.case == *case && s.metric == Metric::ReorderNs);
        of_case.map(|sample| sample.round.number()).max().unwrap_or(0)
    };
    let taken = cases.iter().map(last).min().unwrap_or(ROUNDS);
    let enough = taken as usize > MIN_ROUNDS;
    if enough {
        taken..taken
    } else {
        taken + 1..ROUNDS + 1
    }
}

fn count<B: Backend>(
    fixture: &Fixture<Metered<B>>,
    beams: &[Case],
    mut record: Option<&mut Record>,
) -> Result<()> {
    for case in beams {
        if record.as_ref().is_some_and(|record| record.done.done(case, Metric::ReorderBytes) > 0) {
            continue;
        }
        let row = reorder::count(fixture, case)?;
        exact::check(std::slice::from_ref(&row))?;
        if let Some(record) = &mut record {
            record.sample(&Sample::value(*case, Metric::ReorderBytes, Round::Single, 1, row.counted))?;
            record.writer.ledger(&row)?;
        }
    }
    Ok(())
}
