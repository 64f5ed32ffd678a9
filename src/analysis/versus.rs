//! Cases against others: strategies or backends of a run, or the same case in several runs.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{compare, compare_across, Comparison, Pairing, Verdict};
use super::curve::floor_ns;
use super::estimate::Estimate;
use super::measurements::{Measurements, Series};
use crate::case::{BackendName, Case};
use crate::record::{Environment, Metric, Protocol, Run, Unit};
use crate::strategy::Strategy;

/// The base that every case is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The same case of the same run under this strategy.
    Strategy(Strategy),
    /// The same case on this backend, of the same run where it has one, else of the first that does.
    Backend(BackendName),
    /// The same case of the first run.
    FirstRun,
}

/// One case against its base.
#[derive(Clone, Copy, Debug)]
pub struct Versus<'a> {
    /// That both were measured in.
    pub metric: Metric,
    /// The case that is judged.
    pub one: Measured<'a>,
    /// What it is held against.
    pub base: Measured<'a>,
    /// Whether these are steps of whole decodes, as there are at every position.
    pub protocol: Protocol,
    /// Absent where there is no ratio, as over nothing.
    pub comparison: Option<Comparison>,
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// That its rows are in: one, or those that stand for a side.
    pub runs: &'a [Run],
    /// That its rows are of.
    pub case: Case,
    /// One repetition, in the metric's unit; of several runs, the median of their medians.
    pub value: Estimate,
    /// Of a step's time.
    pub floor_multiple: Option<f64>,
}

impl<'a> Versus<'a> {
    /// Each two runs whose conditions should be the same: every other one with the base's first.
    pub fn runs(&self) -> impl Iterator<Item = (&'a Run, &'a Run)> {
        let (new, base) = (self.one.runs, self.base.runs);
        new.iter().chain(&base[1..]).map(move |run| (run, &base[0]))
    }
}

impl<'a> Measured<'a> {
    pub(super) fn new(runs: &'a [Run], case: Case, metric: Metric, value: Estimate) -> Measured<'a> {
        let floor = floor_ns(&runs[0].environment, &case).filter(|_| metric == Metric::StepNs);
        Measured { runs, case, value, floor_multiple: floor.map(|floor| value.value / floor) }
    }
}

/// Of what is sampled in both ways, first the one and then the other: a comparison takes what both sides have.
pub(super) const PREFERRED: [Protocol; 2] = [Protocol::Interleaved, Protocol::Decode];

/// Every case that has this metric, and whose base has it too, by run and case. Steps from copies of a
/// session are only compared with such steps, steps of whole decodes with steps of whole decodes.
pub fn against<'a>(runs: &'a [Run], base: Base, metric: Metric) -> Vec<Versus<'a>> {
    let found: Vec<_> =
        runs.iter().map(|run| PREFERRED.map(|prefer| Measurements::of(run, prefer))).collect();
    let series = |(run, case): (usize, Case), kind: usize| found[run][kind].series(&case, metric);
    let has = |&place: &(usize, Case)| series(place, 0).is_some();
    let measured = |(run, case): (usize, Case), series: &Series| {
        Some(Measured::new(&runs[run..=run], case, metric, series.median()?))
    };
    let one = |place: (usize, Case)| {
        let other = of_base(base, place, runs.len()).into_iter().find(has)?;
        let both = |kind: usize| Some((series(place, kind)?, series(other, kind)?));
        let (a, b) = (0..PREFERRED.len()).filter_map(both).find(|(a, b)| a.protocol() == b.protocol())?;
        Some(Versus {
            metric,
            one: measured(place, a)?,
            base: measured(other, b)?,
            protocol: a.protocol(),
            comparison: compared(a, b, metric, place.0 == other.0),
        })
    };
    let places = (0..runs.len()).flat_map(|run| found[run][0].cases(metric).map(move |case| (run, case)));
    places.filter_map(one).collect()
}

/// Two cases of which there is no comparison, or of which one failed.
#[derive(Clone, Debug)]
pub struct Gap<'a> {
    /// The case that would be judged.
    pub one: Side<'a>,
    /// What it would be held against.
    pub base: Side<'a>,
}

/// One side of a gap.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    /// That its rows are in, or would be.
    pub run: &'a Run,
    /// That is there, or not.
    pub case: Case,
    /// What there is, or why there is nothing to compare.
    pub found: Result<Estimate, Wanting>,
    /// How what there is was taken.
    pub protocol: Option<Protocol>,
}

/// Why there is nothing to compare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanting {
    /// The run does not have the case.
    Missing,
    /// It has a row with this error instead, or besides.
    Failed(String),
    /// The two were sampled by different protocols, which are different quantities.
    Otherwise,
}

/// What [`against`] passes over. Between runs these are all cases that one of them has or failed at; within a run
/// those that failed, and those without their base.
pub fn gaps<'a>(runs: &'a [Run], base: Base, metric: Metric, compared: &[Versus<'a>]) -> Vec<Gap<'a>> {
    let found: Vec<_> = runs.iter().map(|run| Measurements::of(run, Protocol::Interleaved)).collect();
    let known: Vec<BTreeSet<Case>> = found.iter().map(|found| found.known(metric).collect()).collect();
    let side = |(run, case): (usize, Case)| side(&runs[run], &found[run], case, metric);
    let has = |&(run, case): &(usize, Case)| known[run].contains(&case);
    let compared: BTreeSet<(*const Run, Case)> =
        compared.iter().map(|v| (v.one.runs.as_ptr(), v.one.case)).collect();
    let gap = |place: (usize, Case)| {
        let places = of_base(base, place, runs.len());
        let other = places.iter().copied().find(has).or(places.first().copied())?;
        let (one, mut base) = (side(place), side(other));
        if one.found.is_ok() && base.found.is_ok() {
            if compared.contains(&(std::ptr::from_ref(one.run), one.case)) {
                return None;
            }
            base.found = Err(Wanting::Otherwise);
        }
        Some(Gap { one, base })
    };
    let of_first = known.iter().take(1).flatten().filter(|_| base == Base::FirstRun);
    let of_first: BTreeSet<Case> = of_first.copied().collect();
    let places = known.iter().enumerate().flat_map(|(run, cases)| {
        let all: BTreeSet<Case> = cases.union(&of_first).copied().collect();
        all.into_iter().map(move |case| (run, case))
    });
    places.filter_map(gap).collect()
}

/// What a run has of a case.
pub(super) fn side<'a>(run: &'a Run, found: &Measurements, case: Case, metric: Metric) -> Side<'a> {
    let unequal = || run.equality.iter().filter(|row| row.case == case).find_map(|row| row.error.as_deref());
    let other = || run.samples.iter().filter(|s| s.case == case).find_map(|s| s.error.as_deref());
    let series = found.series(&case, metric);
    let value = match found.error(&case, metric).or_else(unequal) {
        Some(error) => Err(Wanting::Failed(error.into())),
        None => series.and_then(Series::median).ok_or_else(|| match other() {
            Some(error) => Wanting::Failed(error.into()),
            None => Wanting::Missing,
        }),
    };
    Side { run, case, found: value, protocol: series.map(Series::protocol) }
}

/// Where the base may be, the best place first; nowhere for a base itself.
fn of_base(base: Base, (run, case): (usize, Case), runs: usize) -> Vec<(usize, Case)> {
    match base {
        Base::Strategy(strategy) if case.strategy != strategy => vec![(run, case.under(strategy))],
        Base::Backend(backend) if case.backend != backend => {
            let case = Case { backend, ..case };
            [run].into_iter().chain(0..runs).map(|run| (run, case)).collect()
        }
        Base::FirstRun if run > 0 => vec![(0, case)],
        _ => Vec::new(),
    }
}

pub(super) fn compared(a: &Series, b: &Series, metric: Metric, same_run: bool) -> Option<Comparison> {
    if let (Some(a), Some(b), true) = (a.constant(), b.constant(), metric.unit() != Unit::Nanoseconds) {
        return counted(a, b);
    }
    if same_run {
        compare(a, b)
    } else {
        compare_across(a, b)
    }
}

/// What is counted and not sampled needs no statistics.
pub(super) fn counted(a: f64, b: f64) -> Option<Comparison> {
    let ratio = if a == b { 1.0 } else { a / b };
    let verdict = match ratio {
        r if r < 1.0 => Verdict::Faster,
        r if r > 1.0 => Verdict::Slower,
        _ => Verdict::NotDistinguishable,
    };
    let ratio = Estimate { value: ratio, lo: ratio, hi: ratio, n: 1, confidence: 1.0 };
    let found = Comparison { ratio, pairing: Pairing::Unpaired, aa_band: Some(1.0), verdict };
    ratio.value.is_finite().then_some(found)
}

/// In what the weights of two runs differ beside their seed, which is one of [`crate::record::CONDITIONS`]: the bytes of
/// a named shape's weights are those of its sizes and of its number format. Empty where they may be the same.
pub fn weights_differ(a: &Run, b: &Run) -> Vec<String> {
    let mut differences = Vec::new();
    let (a, b) = (&a.environment, &b.environment);
    let bytes = |e: &Environment| -> BTreeMap<String, u64> {
        let of_gpu = e.gpu.iter().flat_map(|gpu| &gpu.read_bandwidth);
        e.read_bandwidth
            .iter()
            .chain(of_gpu)
            .map(|ceiling| (ceiling.model_shape.clone(), ceiling.bytes))
            .collect()
    };
    let of_b = bytes(b);
    for (shape, a) in bytes(a) {
        if let Some(b) = of_b.get(&shape).filter(|b| **b != a) {
            differences
                .push(format!("the shape or the number format of {shape}: {a} and {b} bytes of weights"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{synthetic, Round, Sample};

    #[test]
    fn strategies_of_a_run_are_paired_and_runs_are_not() {
        let runs = [synthetic::run(12), synthetic::run(12)];
        let found = against(&runs[..1], Base::Strategy(Strategy::Concat), Metric::StepNs);
        assert_eq!(found.len(), 12 * 5);
        let padded = found.iter().find(|v| v.one.case.to_string() == "transformer-toy/padded/cpu/b1/t512");
        let Versus { comparison: Some(comparison), one, base, .. } = padded.unwrap() else { panic!() };
        assert_eq!((comparison.verdict, comparison.pairing), (Verdict::Faster, Pairing::Rounds));
        assert!(one.floor_multiple.unwrap() < base.floor_multiple.unwrap());
        let found = against(&runs, Base::FirstRun, Metric::StepNs);
        assert_eq!(found.len(), 12 * 6);
        for Versus { comparison, .. } in found {
            let comparison = comparison.unwrap();
            assert_eq!(comparison.pairing, Pairing::Unpaired);
            assert_eq!(comparison.verdict, Verdict::NotDistinguishable);
        }
    }

    #[test]
    fn counted_bytes_are_compared_exactly() {
        let runs = [synthetic::run(1)];
        let base = Base::Strategy(Strategy::Concat);
        let found = against(&runs, base, Metric::CacheAllocatedBytes);
        let ratio = |id: &str| {
            let found = found.iter().find(|v| v.one.case.to_string() == id).unwrap().comparison.unwrap();
            (found.ratio.value, found.verdict)
        };
        assert_eq!(ratio("transformer-toy/padded/cpu/b1/t256"), (2.0, Verdict::Slower));
        assert_eq!(ratio("transformer-toy/padded/cpu/b1/t512"), (1.0, Verdict::NotDistinguishable));
        assert_eq!(ratio("transformer-toy/naive/cpu/b1/t512"), (0.0, Verdict::Faster));
    }

    /// A step of a decode finds its rows warm, a step of a copy does not.
    #[test]
    fn steps_of_decodes_are_not_compared_with_steps_of_copies() {
        let mut runs = [synthetic::run_at(6, &[64]), synthetic::run_at(6, &[64])];
        for sample in &mut runs[1].samples {
            if let Round::Interleaved(round) = sample.round {
                sample.round = Round::Decode(round);
            }
        }
        let steps = |runs: &[Run]| against(runs, Base::FirstRun, Metric::StepNs).len();
        assert_eq!(steps(&runs), 0);
        let case = "transformer-toy/concat/cpu/b1/t64".parse().unwrap();
        runs[0].samples.extend(
            (1..=6).map(|round| Sample::value(case, Metric::StepNs, Round::Decode(round), 1, 400_000)),
        );
        assert_eq!(steps(&runs), 1);
    }

    #[test]
    fn other_weights_are_named() {
        let (a, mut b) = (synthetic::run(1), synthetic::run(1));
        assert!(weights_differ(&a, &b).is_empty());
        b.environment.read_bandwidth[0].bytes /= 2;
        let said = weights_differ(&a, &b);
        assert!(said[0].contains("transformer-toy: 10500000 and 5250000 bytes"), "{said:?}");
    }
}
