//! Steps: each case through criterion, then the strategies of a position in turn, then whole decodes.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Bench, Keep, Mode, Record, Timing};
use crate::backend::Backend;
use crate::case::Case;
use crate::error::{Error, Result};
use crate::measure::equality::gate;
use crate::measure::interleaved::{self, Arm};
use crate::measure::{ceilings, trace, Rig, Trunk};
use crate::record::{Metric, Sample};
use crate::{analysis, on_backend, suite};

/// Rounds in which the strategies of a position are timed in turn.
const ROUNDS: u32 = 12;
const PREFILL_ROUNDS: u32 = 6;
/// Once this is spent, and there are enough rounds for an interval, no more are begun.
const GROUP_BUDGET: Duration = Duration::from_secs(12);
const TRACE_BUDGET: Duration = Duration::from_secs(60);

/// Times every case whose logits are naive's. `criterion` takes one case's step through its statistics.
pub fn steps(bench: &Bench, mut criterion: impl FnMut(&mut Timing<'_>)) -> Result<()> {
    let mut record = bench.open()?;
    let progress = Progress::new(bench);
    for cases in bench.rigs() {
        let Case { model, shape, backend, .. } = cases[0];
        if bench.mode == Mode::List {
            let name =
                |case: &Case| criterion(&mut Timing::new(*case, Duration::ZERO, |_, _| Ok(Duration::ZERO)));
            cases.iter().for_each(name);
            continue;
        }
        let timed = on_backend!(bench.machines, backend, |b| {
            let rig = Rig::load(b, model, shape, bench.settings.seed);
            rig.and_then(|rig| steps_of(&rig, bench, cases, record.as_mut(), &progress, &mut criterion))
        });
        bench.failed(cases, Metric::StepNs, timed, record.as_mut())?;
    }
    if let Some(record) = record {
        print!("{}", record.close()?);
    }
    Ok(())
}

/// The steps of one model on one backend, between two measurements of what bounds them: the machine
/// changes meanwhile.
fn steps_of<B: Backend>(
    rig: &Rig<B>,
    bench: &Bench,
    cases: &[Case],
    mut record: Option<&mut Record>,
    progress: &Progress,
    criterion: &mut impl FnMut(&mut Timing<'_>),
) -> Result<()> {
    if let Some(record) = record.as_deref_mut() {
        ceilings::measure(record, &cases[0], &bench.machines)?;
    }
    for group in cases.chunk_by(suite::side_by_side) {
        progress.say(group);
        let timed = steps_of_group(rig, group, record.as_deref_mut(), criterion);
        bench.failed(group, Metric::StepNs, timed, record.as_deref_mut())?;
    }
    if let Some(record) = record {
        whole_decodes(rig, cases, record)?;
        ceilings::measure(record, &cases[0], &bench.machines)?;
    }
    Ok(())
}

fn steps_of_group<B: Backend>(
    rig: &Rig<B>,
    group: &[Case],
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>),
) -> Result<()> {
    let equal = gate(rig, group, record.as_deref_mut())?;
    for case in &equal {
        alone(rig, *case, record.as_deref_mut(), criterion)?;
    }
    if let Some(record) = record {
        in_turn(rig, &equal, record)?;
        prefills(rig, &equal, record)?;
    }
    Ok(())
}

/// One case through criterion. If it fails, the run goes on with a row that says why; if the row
/// cannot be written, it does not.
fn alone<B: Backend>(
    rig: &Rig<B>,
    case: Case,
    mut record: Option<&mut Record>,
    criterion: &mut impl FnMut(&mut Timing<'_>),
) -> Result<()> {
    if record.as_ref().is_some_and(|record| has_rounds(record, &case, Metric::StepNs, 0..1)) {
        return Ok(());
    }
    let trunk = rig.trunk(&case)?;
    let one = if record.is_some() { warm_up(&trunk)? } else { Duration::ZERO };
    let mut timing = Timing::new(case, one, |iters, keep| {
        let elapsed = trunk.time_steps(iters)?;
        if let (Keep::Sample, Some(record)) = (keep, &mut record) {
            record.sample(&Sample::value(case, Metric::StepNs, 0, iters, elapsed.as_nanos() as u64))?;
        }
        Ok(elapsed)
    });
    criterion(&mut timing);
    match (timing.finish(), record) {
        (Err(error @ Error::Device { .. }), Some(record)) => {
            record.sample(&Sample::failed(case, Metric::StepNs, 0, error))
        }
        (result, _) => result,
    }
}

/// Some steps until the clock frequency, the caches and the scratch pool are what they will be;
/// the time of the last, with its fork.
fn warm_up<B: Backend>(trunk: &Trunk<'_, B>) -> Result<Duration> {
    trunk.settle()?;
    let start = Instant::now();
    loop {
        let last = Instant::now();
        trunk.time_steps(1)?;
        if start.elapsed() >= Duration::from_millis(100) {
            return Ok(last.elapsed());
        }
    }
}

/// Prompts long enough for the arithmetic to count. Those who remember nothing have no prefill: all
/// their steps are one.
fn prefills<B: Backend>(rig: &Rig<B>, cases: &[Case], record: &mut Record) -> Result<()> {
    let long = |case: &&Case| case.batch == 1 && case.position >= 512 && case.strategy.remembers();
    let cases: Vec<Case> = cases.iter().filter(long).copied().collect();
    for round in 1..=PREFILL_ROUNDS {
        let taken = |case: &Case| has_rounds(record, case, Metric::PrefillNs, round..round + 1);
        if !cases.iter().all(taken) {
            interleaved::prefill_round(rig, &cases, round, |sample| record.sample(sample))?;
        }
    }
    Ok(())
}

fn in_turn<B: Backend>(rig: &Rig<B>, cases: &[Case], record: &mut Record) -> Result<()> {
    let taken =
        |round: u32| cases.iter().all(|case| has_rounds(record, case, Metric::StepNs, round..round + 1));
    let missing: Vec<u32> = (1..=ROUNDS).filter(|&round| !taken(round)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let arms = cases.iter().map(|case| Arm::new(rig, case)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    for (begun, round) in missing.into_iter().enumerate() {
        if begun >= analysis::ENOUGH && start.elapsed() > GROUP_BUDGET {
            break;
        }
        interleaved::round(&arms, round, |sample| record.sample(sample))?;
    }
    Ok(())
}

/// Every step of a whole decode, of one sentence under each strategy.
fn whole_decodes<B: Backend>(rig: &Rig<B>, cases: &[Case], record: &mut Record) -> Result<()> {
    let cases: Vec<Case> = cases.iter().copied().filter(|case| case.batch == 1).collect();
    match cases.first().and_then(|case| trace::usual_length(case.shape, case.backend)) {
        Some(tokens) => {
            trace::decodes(rig, &trace::strategies(&cases), tokens, trace::ROUNDS, Some(TRACE_BUDGET), record)
        }
        None => Ok(()),
    }
}

fn has_rounds(record: &Record, case: &Case, metric: Metric, rounds: Range<u32>) -> bool {
    let mut rows = record.done.samples.iter();
    rows.any(|s| s.case == *case && s.metric == metric && rounds.contains(&s.round))
}

/// What is being timed and about how long the rest will take, a line for each group of cases.
struct Progress {
    start: Instant,
    groups: usize,
    begun: std::cell::Cell<usize>,
}

impl Progress {
    fn new(bench: &Bench) -> Progress {
        let groups = bench.cases.chunk_by(suite::side_by_side).count();
        Progress { start: Instant::now(), groups, begun: 0.into() }
    }

    fn say(&self, group: &[Case]) {
        let (Case { model, shape, backend, batch, position, .. }, begun) = (group[0], self.begun.get());
        self.begun.set(begun + 1);
        let left = self.start.elapsed().mul_f64((self.groups - begun) as f64 / begun.max(1) as f64);
        let left = if begun == 0 { String::new() } else { format!(", about {} s left", left.as_secs()) };
        let (this, all, strategies) = (begun + 1, self.groups, group.len());
        eprintln!(
            "[{this}/{all}] {model}-{shape} on {backend}, batch {batch}, position {position}: {strategies} strategies{left}"
        );
    }
}
