//! Steps: each case through criterion, then the strategies of a position in turn, then whole decodes.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Bench, Keep, Mode, Record, Timing};
use crate::analysis;
use crate::backend::cpu::Cpu;
use crate::case::{Case, ModelKind, ShapeName};
use crate::error::{Error, Result};
use crate::measure::equality::gate;
use crate::measure::interleaved::{self, Arm};
use crate::measure::{ceilings, trace, Rig, Settings, Trunk};
use crate::record::{Metric, Sample};

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
    for (model, shape) in bench.models() {
        let groups = bench.groups((model, shape));
        if bench.mode == Mode::List {
            let name =
                |case: &Case| criterion(&mut Timing::new(*case, Duration::ZERO, |_, _| Ok(Duration::ZERO)));
            groups.iter().flatten().for_each(name);
            continue;
        }
        if let Some(record) = &mut record {
            measure_ceilings(record, model, shape, &bench.settings)?;
        }
        let rig = Rig::cpu(model, shape, &bench.settings)?;
        for group in &groups {
            progress.say(group);
            let equal = gate(&rig, group, record.as_mut())?;
            for case in &equal {
                alone(&rig, *case, record.as_mut(), &mut criterion)?;
            }
            if let Some(record) = &mut record {
                in_turn(&rig, &equal, record)?;
                prefills(&rig, &equal, record)?;
            }
        }
        if let Some(record) = &mut record {
            whole_decodes(&rig, &groups, record)?;
            measure_ceilings(record, model, shape, &bench.settings)?; // and after: the machine changes
        }
    }
    if let Some(record) = record {
        print!("{}", record.close()?);
    }
    Ok(())
}

fn measure_ceilings(
    record: &mut Record,
    model: ModelKind,
    shape: ShapeName,
    settings: &Settings,
) -> Result<()> {
    if record.writer.environment().peak_flops.is_none() {
        let peak = ceilings::peak_flops(settings);
        record.writer.update_environment(|environment| environment.peak_flops = Some(peak))?;
    }
    let bandwidth = ceilings::bandwidth(model, shape, settings)?;
    record.writer.update_environment(|environment| environment.read_bandwidth.push(bandwidth))
}

/// One case through criterion. If it fails, the run goes on with a row that says why; if the row
/// cannot be written, it does not.
fn alone(
    rig: &Rig<Cpu>,
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
            record.writer.sample(&Sample::value(
                case,
                Metric::StepNs,
                0,
                iters,
                elapsed.as_nanos() as u64,
            ))?;
        }
        Ok(elapsed)
    });
    criterion(&mut timing);
    match (timing.finish(), record) {
        (Err(error @ Error::Device { .. }), Some(record)) => {
            record.writer.sample(&Sample::failed(case, Metric::StepNs, 0, error))
        }
        (result, _) => result,
    }
}

/// Some steps until the clock frequency, the caches and the scratch pool are what they will be;
/// the time of the last, with its fork.
fn warm_up(trunk: &Trunk<'_, Cpu>) -> Result<Duration> {
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
fn prefills(rig: &Rig<Cpu>, cases: &[Case], record: &mut Record) -> Result<()> {
    let long = |case: &&Case| case.batch == 1 && case.position >= 512 && case.strategy.remembers();
    let cases: Vec<Case> = cases.iter().filter(long).copied().collect();
    for round in 1..=PREFILL_ROUNDS {
        let taken = |case: &Case| has_rounds(record, case, Metric::PrefillNs, round..round + 1);
        if !cases.iter().all(taken) {
            interleaved::prefill_round(rig, &cases, round, |sample| record.writer.sample(sample))?;
        }
    }
    Ok(())
}

fn in_turn(rig: &Rig<Cpu>, cases: &[Case], record: &mut Record) -> Result<()> {
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
        interleaved::round(&arms, round, |sample| record.writer.sample(sample))?;
    }
    Ok(())
}

/// Every step of a whole decode, of one sentence under each strategy.
fn whole_decodes(rig: &Rig<Cpu>, groups: &[Vec<Case>], record: &mut Record) -> Result<()> {
    let one_sentence = groups.iter().flatten().filter(|case| case.batch == 1);
    let cases: Vec<Case> = one_sentence.copied().collect();
    match trace::usual_length(rig.shape) {
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
        let groups = bench.models().into_iter().map(|model| bench.groups(model).len()).sum();
        Progress { start: Instant::now(), groups, begun: 0.into() }
    }

    fn say(&self, group: &[Case]) {
        let (Case { model, shape, batch, position, .. }, begun) = (group[0], self.begun.get());
        self.begun.set(begun + 1);
        let left = self.start.elapsed().mul_f64((self.groups - begun) as f64 / begun.max(1) as f64);
        let left = if begun == 0 { String::new() } else { format!(", about {} s left", left.as_secs()) };
        let (this, all, strategies) = (begun + 1, self.groups, group.len());
        eprintln!(
            "[{this}/{all}] {model}-{shape} batch {batch} position {position}: {strategies} strategies{left}"
        );
    }
}
