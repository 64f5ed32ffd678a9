//! Steps: each case through criterion, then whole decodes of all strategies in turn, whose steps are those of the tables;
//! at positions that these do not reach, and of several sentences, the ends of decodes.

use std::time::{Duration, Instant};

use super::{fixtures, Bench, Keep, Record, Timing};
use crate::analysis::Series;
use crate::backend::Backend;
use crate::case::Case;
use crate::error::{Error, Result};
use crate::measure::equality::gate;
use crate::measure::interleaved::{self, Arm, Prompt};
use crate::measure::trace::{self, Decode};
use crate::measure::{ceilings, say, Budget, Fixture, Prefilled, Progress, StopRule};
use crate::record::{Metric, Round, Run, Sample, STEP_WINDOW};
use crate::{analysis, on_backend, suite};

/// Rounds in which the strategies are timed in turn.
const ROUNDS: u32 = 12;
/// With a precision to reach.
const MOST_ROUNDS: u32 = 100;
const PREFILL_ROUNDS: u32 = 6;
/// Of whole decodes on a GPU, whose tables show steps of copies.
const GPU_DECODES: u32 = 6;
const GPU_DECODES_TIME: Duration = Duration::from_secs(60);
/// Of all that criterion takes of a case.
const SAMPLE_TIME: Duration = Duration::from_millis(200);

/// Times every case whose logits are naive's. `criterion` takes one case's step through its statistics.
pub(super) fn steps(
    bench: &Bench,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>) -> Result<()>,
) -> Result<()> {
    let budget = bench.budget(60);
    let progress = Progress::of(bench.cases.chunk_by(suite::side_by_side).count());
    for cases in fixtures(&bench.cases).filter(|cases| budget.admits(cases, STEPS)) {
        let timed = on_backend!(bench.machines, cases[0].backend, |b| {
            let fixture = Fixture::load(b, cases[0].model_name(), bench.settings.seed);
            fixture.and_then(|fixture| {
                steps_of(&fixture, bench, cases, record.as_deref_mut(), (&progress, &budget), criterion)
            })
        });
        bench.failed(cases, Metric::StepNs, timed, record.as_deref_mut())?;
    }
    record.map_or(Ok(()), |record| record.left_out(&budget, &[STEPS, DECODES]))
}

/// What a budget calls them.
pub(super) const STEPS: &str = "steps";
pub(super) const DECODES: &str = "whole decodes";

const CEILINGS: &str = "ceilings";

/// The steps of one model on one backend, between two measurements of what bounds them: the machine
/// changes meanwhile.
fn steps_of<B: Backend>(
    fixture: &Fixture<B>,
    bench: &Bench,
    cases: &[Case],
    mut record: Option<&mut Record>,
    (progress, budget): (&Progress, &Budget),
    criterion: &mut impl FnMut(&mut Timing<'_>) -> Result<()>,
) -> Result<()> {
    if let Some(record) = record.as_deref_mut() {
        bench.spent.on(CEILINGS, || ceilings::measure(record, &cases[0], &bench.machines))?;
    }
    let mut sound = cases.to_vec();
    for group in cases.chunk_by(suite::side_by_side) {
        let Case { model, shape, backend, batch, position, .. } = group[0];
        let strategies: Vec<String> = group.iter().map(|case| case.strategy.to_string()).collect();
        progress.begin(
            1,
            format!(
                "{model}-{shape} on {backend}, batch {batch}, position {position}: {}",
                strategies.join(", ")
            ),
        );
        let timed = budget.spend(group, STEPS, |left| {
            let stop = bench.settings.stop.within(left);
            let equal = steps_of_group(fixture, bench, group, &stop, record.as_deref_mut(), criterion)?;
            leave_out_unequal(&mut sound, group, &equal);
            Ok(())
        });
        bench.failed(group, Metric::StepNs, timed.unwrap_or(Ok(())), record.as_deref_mut())?;
    }
    if let Some(record) = record {
        bench
            .spent
            .on("decodes in turn", || whole_decodes(fixture, &sound, &bench.settings.stop, record, budget))?;
        bench.spent.on(CEILINGS, || ceilings::measure(record, &cases[0], &bench.machines))?;
    }
    Ok(())
}

fn steps_of_group<B: Backend>(
    fixture: &Fixture<B>,
    bench: &Bench,
    group: &[Case],
    stop: &StopRule,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>) -> Result<()>,
) -> Result<Vec<Case>> {
    let equal = bench.spent.on("equality", || gate(fixture, group, record.as_deref_mut()))?;
    for case in &equal {
        bench
            .spent
            .on("criterion's samples", || alone(fixture, bench, *case, record.as_deref_mut(), criterion))?;
    }
    if let Some(record) = record {
        bench.spent.on("decodes in turn", || in_turn(fixture, &equal, stop, record))?;
        let chunks = &bench.settings.prefill_chunks;
        bench.spent.on("prefills", || prefills(fixture, &equal, chunks, record))?;
    }
    Ok(equal)
}

/// One case through criterion. If it fails, the run goes on with a row that says why; if the row
/// cannot be written, it does not.
fn alone<B: Backend>(
    fixture: &Fixture<B>,
    bench: &Bench,
    case: Case,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>) -> Result<()>,
) -> Result<()> {
    if record.as_ref().is_some_and(|record| has(record, &case, Metric::StepNs, Round::Single)) {
        return Ok(());
    }
    let prefilled = fixture.prefilled(&case)?;
    let one = if record.is_some() { warm_up(&prefilled, bench.warm_up)? } else { Duration::ZERO };
    let time = bench.measurement.unwrap_or(SAMPLE_TIME.max(20 * one));
    let mut timing = Timing::new(case, time, |iters, keep| {
        let elapsed = prefilled.time_steps(iters)?;
        if let (Keep::Sample, Some(record)) = (keep, &mut record) {
            record.sample(&Sample::value(
                case,
                Metric::StepNs,
                Round::Single,
                iters,
                elapsed.as_nanos() as u64,
            ))?;
        }
        Ok(elapsed)
    });
    criterion(&mut timing)?;
    match (timing.finish(), record) {
        (Err(error @ Error::Device { .. }), Some(record)) => {
            record.sample(&Sample::failed(case, Metric::StepNs, Round::Single, error))
        }
        (result, _) => result,
    }
}

/// Some steps until the clock frequency, the caches and the scratch pool are what they will be;
/// the time of the last, with its fork.
fn warm_up<B: Backend>(prefilled: &Prefilled<'_, B>, time: Duration) -> Result<Duration> {
    prefilled.warm_up()?;
    let start = Instant::now();
    loop {
        let last = Instant::now();
        prefilled.time_steps(1)?;
        if start.elapsed() >= time {
            return Ok(last.elapsed());
        }
    }
}

/// Prompts as long as the cases' positions, in one call and in chunks. A strategy without a cache has no prefill of its
/// own: each of its steps is one.
pub(super) fn prefills<B: Backend>(
    fixture: &Fixture<B>,
    cases: &[Case],
    chunks: &[usize],
    record: &mut Record,
) -> Result<()> {
    let cached = cases.iter().filter(|case| case.strategy.remembers());
    let prompts: Vec<Prompt> = cached.flat_map(|case| Prompt::of(case, chunks)).collect();
    let taken =
        |prompt: &Prompt, round| has(record, &prompt.case, prompt.metric(), Round::Interleaved(round));
    let missing = |round: &u32| !prompts.iter().all(|prompt| taken(prompt, *round));
    let missing: Vec<u32> = (1..=PREFILL_ROUNDS).filter(missing).collect();
    if !missing.is_empty() {
        interleaved::warm_up_prefills(fixture, &prompts)?;
    }
    for round in missing {
        interleaved::prefill_round(fixture, &prompts, round, |sample| record.sample(sample))?;
        prompts.first().map_or(Ok(()), |prompt| record.clocks(&prompt.case, Round::Interleaved(round)))?;
    }
    Ok(())
}

/// Rounds of what whole decodes do not pass. On a GPU these are steps of copies at every position, for the device's time
/// of a step and the time of steps in a queue are taken beside them.
pub(super) fn in_turn<B: Backend>(
    fixture: &Fixture<B>,
    cases: &[Case],
    stop: &StopRule,
    record: &mut Record,
) -> Result<()> {
    if cases.iter().any(|case| case.backend.is_cuda()) {
        return copies(fixture, cases, stop, record);
    }
    let cases: Vec<Case> = cases.iter().filter(|case| !suite::is_passed(case)).copied().collect();
    let decodes: Vec<_> = cases.iter().map(|&case| Decode::end(fixture, case)).collect::<Result<_>>()?;
    decode_rounds(&decodes, &cases, stop, record)
}

/// Rounds until there are enough, which the settings say of the cases; those that the run already has count. Without a
/// case to know precisely, as many as without a precision.
fn decode_rounds<B: Backend>(
    decodes: &[Decode<'_, B>],
    cases: &[Case],
    stop: &StopRule,
    record: &mut Record,
) -> Result<()> {
    let mut series: Vec<Series> = cases.iter().map(|case| rounds_of(&record.done, case)).collect();
    let stop = &StopRule { precision: stop.precision.filter(|_| !cases.is_empty()), ..*stop };
    let start = Instant::now();
    trace::decodes(decodes, most_rounds(stop), record, |begun, samples| {
        for (case, series) in cases.iter().zip(&mut series) {
            series.samples.extend(samples.iter().filter(|sample| is_of(sample, case)).filter_map(timed));
        }
        let spent = begun as usize >= analysis::MIN_ROUNDS && start.elapsed() > stop.budget;
        spent || narrow(&series, stop)
    })?;
    if let Some(precision) = stop.precision {
        say(format_args!("    {}", how_it_ended(cases, &series, precision, stop)));
    }
    Ok(())
}

fn most_rounds(stop: &StopRule) -> u32 {
    match stop.precision {
        None => ROUNDS,
        Some(_) => MOST_ROUNDS,
    }
}

/// Rounds of steps of copies in turn.
fn copies<B: Backend>(
    fixture: &Fixture<B>,
    cases: &[Case],
    stop: &StopRule,
    record: &mut Record,
) -> Result<()> {
    let taken =
        |round: u32| cases.iter().all(|case| has(record, case, Metric::StepNs, Round::Interleaved(round)));
    let missing: Vec<u32> = (1..=most_rounds(stop)).filter(|&round| !taken(round)).collect();
    let mut series: Vec<Series> = cases.iter().map(|case| rounds_of(&record.done, case)).collect();
    if missing.is_empty() || narrow(&series, stop) {
        return Ok(());
    }
    let arms = cases.iter().map(|case| Arm::new(fixture, case)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for (begun, round) in missing.into_iter().enumerate() {
        if begun >= analysis::MIN_ROUNDS && start.elapsed() > stop.budget {
            break;
        }
        interleaved::round(&arms, round, |sample| {
            if let (Some(i), Metric::StepNs) = (cases.iter().position(|c| *c == sample.case), sample.metric) {
                series[i].samples.extend(timed(sample));
            }
            record.sample(sample)
        })?;
        record.clocks(&cases[0], Round::Interleaved(round))?;
        if narrow(&series, stop) {
            break;
        }
    }
    if let Some(precision) = stop.precision {
        say(format_args!("    {}", how_it_ended(cases, &series, precision, stop)));
    }
    Ok(())
}

/// Which of the two ended it: the precision, or the budget.
fn how_it_ended(cases: &[Case], series: &[Series], precision: f64, stop: &StopRule) -> String {
    let widths = cases.iter().zip(series).filter_map(|(case, series)| Some((width(series)?, case)));
    let widest = widths.max_by(|a, b| a.0.total_cmp(&b.0));
    let rounds = series.iter().map(|series| series.rounds().len()).max().unwrap_or(0);
    match widest {
        None => format!("{rounds} rounds give no interval yet"),
        Some((width, _)) if width <= precision => {
            format!("after {rounds} rounds every interval is within {:.1} % of its median", width * 100.0)
        }
        Some((width, case)) => format!(
            "the budget of {} s and {rounds} rounds end with {:.1} % at {case}, where {:.1} % was asked for",
            stop.budget.as_secs(),
            width * 100.0,
            precision * 100.0
        ),
    }
}

/// Whether every interval is as narrow as was asked for; never, when nothing was.
fn narrow(series: &[Series], stop: &StopRule) -> bool {
    let narrow =
        |precision: f64| series.iter().all(|series| width(series).is_some_and(|width| width <= precision));
    stop.precision.is_some_and(narrow)
}

/// Half of the interval of the median over the median; `None` before there are enough rounds for one.
fn width(series: &Series) -> Option<f64> {
    let enough = series.rounds().len() > analysis::MIN_ROUNDS; // below, an interval is the whole range
    let median = series.median().filter(|_| enough)?;
    Some((median.hi - median.lo) / 2.0 / median.value)
}

/// What a run already has of a case's rounds.
fn rounds_of(run: &Run, case: &Case) -> Series {
    Series { samples: run.samples.iter().filter(|sample| is_of(sample, case)).filter_map(timed).collect() }
}

/// Whether the sample is one of those behind the case's figure in the tables.
fn is_of(sample: &Sample, case: &Case) -> bool {
    let Sample { case: at, metric, round, .. } = sample;
    let window = match case.backend.is_cuda() {
        true => case.position..=case.position,
        false => analysis::window(case, STEP_WINDOW),
    };
    *metric == Metric::StepNs
        && round.is_decode() != case.backend.is_cuda()
        && *round != Round::Single
        && at.at(1) == case.at(1)
        && window.contains(&at.position)
}

fn timed(sample: &Sample) -> Option<(Round, f64)> {
    Some((sample.round, sample.per_iteration()?))
}

/// Takes out of what is decoded the strategies whose logits differ at a position of the group.
pub(super) fn leave_out_unequal(decodes: &mut Vec<Case>, group: &[Case], equal: &[Case]) {
    let differs = |case: &Case| group.iter().any(|c| c.at(1) == case.at(1) && !equal.contains(c));
    decodes.retain(|case| !differs(case));
}

/// Every step of a whole decode, of one sentence under each strategy.
pub(super) fn whole_decodes<B: Backend>(
    fixture: &Fixture<B>,
    cases: &[Case],
    stop: &StopRule,
    record: &mut Record,
    budget: &Budget,
) -> Result<()> {
    let (whole, ends) = suite::decodes(cases);
    let all = [whole.as_slice(), &ends].concat();
    let decoded = budget.spend(&all, DECODES, |left| {
        let mut decodes: Vec<_> = whole.iter().map(|&case| Decode::whole(fixture, case)).collect();
        for &case in &ends {
            decodes.push(Decode::end(fixture, case)?);
        }
        if all.iter().any(|case| case.backend.is_cuda()) {
            let (start, most) =
                (Instant::now(), left.map_or(GPU_DECODES_TIME, |left| left.min(GPU_DECODES_TIME)));
            let enough = |begun: u32, _: &[Sample]| begun > 0 && start.elapsed() > most;
            return trace::decodes(&decodes, GPU_DECODES, record, enough);
        }
        let passed: Vec<Case> = cases.iter().filter(|case| suite::is_passed(case)).copied().collect();
        decode_rounds(&decodes, &passed, &StopRule { budget: 10 * stop.budget, ..*stop }, record)
    });
    decoded.unwrap_or(Ok(()))
}

fn has(record: &Record, case: &Case, metric: Metric, round: Round) -> bool {
    let mut rows = record.done.samples.iter();
    rows.any(|s| s.case == *case && s.metric == metric && s.round == round)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rounds: u32, spread: f64) -> Series {
        let sample = |i: u32| (Round::Interleaved(i / 2 + 1), 100.0 + spread * f64::from(i / 2 % 5));
        Series { samples: (0..2 * rounds).map(sample).collect() }
    }

    fn stop(precision: Option<f64>) -> StopRule {
        StopRule { precision, ..StopRule::default() }
    }

    #[test]
    fn rounds_end_when_every_interval_is_narrow() {
        assert!(narrow(&[series(12, 0.1), series(12, 0.2)], &stop(Some(0.02))));
        assert!(!narrow(&[series(12, 0.1), series(12, 20.0)], &stop(Some(0.02))));
        assert!(!narrow(&[series(3, 0.0)], &stop(Some(0.02))), "three rounds are no interval");
        assert!(!narrow(&[series(12, 0.0)], &stop(None)), "nothing was asked for");
    }

    #[test]
    fn what_ended_the_rounds_is_said() {
        let cases: Vec<Case> = ["concat", "padded"]
            .map(|strategy| format!("transformer-toy/{strategy}/cpu/b1/t64").parse().unwrap())
            .into();
        let say = |series: [Series; 2]| how_it_ended(&cases, &series, 0.02, &stop(Some(0.02)));
        assert_eq!(
            say([series(12, 0.0), series(12, 0.0)]),
            "after 12 rounds every interval is within 0.0 % of its median"
        );
        let spent = say([series(12, 0.0), series(12, 20.0)]);
        assert!(spent.starts_with("the budget of 12 s and 12 rounds end with ") && spent.contains("padded"));
    }
}
