//! The tables of a run as plain data, for a terminal, Markdown or anything else to print.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{compare, Comparison};
use super::crossing::{crossing, Crossing, LogRatios};
use super::curve::floor_ns;
use super::estimate::Estimate;
use super::figure::Figure;
use super::measurements::{Analysis, Group, Measurements, Series};
use super::prefill::{chunked_prefills, prefills, ChunkedPrefill, Prefill};
use crate::case::Case;
use crate::dtype::Dtype;
use crate::record::{Metric, Protocol, Round};
use crate::strategy::Strategy;

/// One model, shape, backend and batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// That the lines are of.
    pub group: Group,
    /// By position, then strategy.
    pub lines: Vec<SummaryRow>,
    /// Of pairs of strategies, from the curves of whole decodes.
    pub crossings: Vec<CrossingLine>,
    /// Of the lines' positions.
    pub prefills: Vec<Prefill>,
    /// At all positions.
    pub chunked_prefills: Vec<ChunkedPrefill>,
}

/// One case. What was not measured is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    /// The case of the row.
    pub case: Case,
    /// Of one step.
    pub step_ns: Option<Estimate>,
    /// The same with the disturbed rounds that are left out; absent where none is.
    pub with_disturbed_ns: Option<Estimate>,
    /// [`Figure::DecodeTokensPerSecond`]
    pub tokens_per_second: Option<Estimate>,
    /// How its samples were taken.
    pub protocol: Option<Protocol>,
    /// Why there is no time.
    pub error: Option<String>,
    /// Time over the time to read what a step must read at least.
    pub floor_multiple: Option<f64>,
    /// This over naive, in time.
    pub vs_naive: Option<Comparison>,
    /// This over concat, in time.
    pub vs_concat: Option<Comparison>,
    /// This over the same with a cache in f32, in time.
    pub vs_f32_cache: Option<Comparison>,
    /// [`EqualityRow::rounding`](crate::record::EqualityRow::rounding)
    pub rounding: Option<f64>,
    /// Held by the cache after the step.
    pub allocated_bytes: Option<f64>,
    /// The most held during the step.
    pub transient_bytes: Option<f64>,
    /// Requests to the allocator in one step.
    pub step_allocs: Option<f64>,
}

/// Where `first` beats `second`, or stops to, over the positions `from` to `to` that both have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossingLine {
    /// The one that may be faster.
    pub first: Strategy,
    /// The one that it is compared with.
    pub second: Strategy,
    /// Where, and in which direction.
    pub crossing: Crossing,
    /// The first position that both have.
    pub from: usize,
    /// The last position that both have.
    pub to: usize,
}

/// One summary for each group, in the groups' order.
pub fn summary(analysis: &Analysis<'_>) -> Vec<Summary> {
    let Analysis { tables: found, decodes, .. } = analysis;
    let groups = found.groups().into_iter();
    let summaries = groups.map(|group| {
        let positions = headline_positions(&found.tabled(group));
        let strategies = found.strategies(group, Metric::StepNs);
        let cases = positions.iter().flat_map(|&t| strategies.iter().map(move |&s| group.case(s, t)));
        let measured = cases.filter(|case| has_step(found, case));
        Summary {
            group,
            lines: measured.map(|case| line(analysis, case)).collect(),
            crossings: crossings(decodes, group),
            prefills: prefills(&analysis.run.environment, found, group, &positions),
            chunked_prefills: chunked_prefills(found, group),
        }
    });
    summaries.filter(|summary| !summary.lines.is_empty()).collect()
}

fn has_step(found: &Measurements, case: &Case) -> bool {
    found.series(case, Metric::StepNs).is_some() || found.error(case, Metric::StepNs).is_some()
}

/// The positions a table shows: all of them up to five, or else the last and those measured
/// nearest to a quarter, a sixteenth and so on of it.
pub fn headline_positions(measured: &[usize]) -> Vec<usize> {
    let Some(&last) = measured.last() else { return Vec::new() };
    if measured.len() <= 5 {
        return measured.to_vec();
    }
    let nearest = |wanted: usize| measured.iter().copied().min_by_key(|t| t.abs_diff(wanted));
    let wanted = (0..4).map(|i| last >> (2 * i)).filter(|&t| t > 0);
    wanted.filter_map(nearest).collect::<BTreeSet<usize>>().into_iter().collect()
}

fn line(analysis: &Analysis<'_>, case: Case) -> SummaryRow {
    let found = &analysis.tables;
    let median = |metric| found.median(&case, metric);
    let exact = |metric| median(metric).map(|estimate| estimate.value);
    let step_ns = median(Metric::StepNs);
    let with = analysis.with_disturbed.as_ref().and_then(|with| with.median(&case, Metric::StepNs));
    let floor = floor_ns(&analysis.run.environment, &case);
    let f32_cache = Case { cache: Dtype::F32, ..case };
    let versus = |other: Case| (case != other).then(|| versus(found, &case, &other)).flatten();
    let equality = analysis.run.equality.iter().find(|row| row.case == case);
    SummaryRow {
        case,
        step_ns,
        with_disturbed_ns: with.filter(|with| step_ns.is_some_and(|step| step.n < with.n)),
        tokens_per_second: step_ns.map(|step| Figure::DecodeTokensPerSecond.of(&case, step)),
        protocol: found.series(&case, Metric::StepNs).map(Series::protocol),
        error: found.error(&case, Metric::StepNs).map(String::from),
        floor_multiple: step_ns.zip(floor).map(|(step, floor)| step.value / floor),
        vs_naive: versus(case.under(Strategy::Naive)),
        vs_concat: versus(case.under(Strategy::Concat)),
        vs_f32_cache: versus(f32_cache),
        rounding: equality.and_then(|row| row.rounding),
        allocated_bytes: exact(Metric::CacheAllocatedBytes),
        transient_bytes: exact(Metric::TransientPeakBytes),
        step_allocs: exact(Metric::StepAllocs),
    }
}

/// A case against another of its place, by the time of a step.
pub fn versus(found: &Measurements, case: &Case, other: &Case) -> Option<Comparison> {
    let series = |case: &Case| found.series(case, Metric::StepNs);
    compare(series(case)?, series(other)?)
}

/// Every strategy against naive, and those with a cache against concat.
fn crossings(found: &Measurements, group: Group) -> Vec<CrossingLine> {
    let strategies = found.strategies(group, Metric::StepNs);
    let against = |second: Strategy| {
        let first = strategies.iter().copied().filter(move |first| *first != second);
        first.map(move |first| (first, second))
    };
    let caches = against(Strategy::Concat).filter(|(first, _)| first.remembers());
    let pairs = against(Strategy::Naive).chain(caches);
    pairs.filter_map(|(first, second)| crossing_line(found, group, first, second)).collect()
}

pub(super) fn crossing_line(
    found: &Measurements,
    group: Group,
    first: Strategy,
    second: Strategy,
) -> Option<CrossingLine> {
    let mut positions = found.positions(group, first, Metric::StepNs);
    let decoded = |&t: &usize| [first, second].iter().all(|&s| found.is_decoded(&group.case(s, t)));
    if positions.iter().any(decoded) {
        positions.retain(decoded); // steps from copies, at further positions, are another quantity
    }
    let curves = curves(found, group, first, second, &positions);
    let ends = curves.iter().flat_map(|curve| [curve.first(), curve.last()]).flatten().map(|point| point.0);
    let (from, to) = ends.fold((usize::MAX, 0), |(from, to), t| (from.min(t), to.max(t)));
    (from < to).then(|| CrossingLine { first, second, crossing: crossing(&curves), from, to })
}

/// Of every round that has both strategies: ln of the ratio of their times, along the positions.
fn curves(
    found: &Measurements,
    group: Group,
    first: Strategy,
    second: Strategy,
    positions: &[usize],
) -> Vec<LogRatios> {
    let mut curves: BTreeMap<Round, LogRatios> = BTreeMap::new();
    for &t in positions {
        let rounds = |strategy| found.series(&group.case(strategy, t), Metric::StepNs).map(Series::rounds);
        let (Some(of_first), Some(of_second)) = (rounds(first), rounds(second)) else { continue };
        for (round, time) in of_first {
            let ratio = of_second.get(&round).map(|other| (time / other).ln());
            if let Some(ratio) = ratio.filter(|ratio| ratio.is_finite()) {
                curves.entry(round).or_default().push((t, ratio));
            }
        }
    }
    // a decode that was cut off says nothing of the positions that it did not reach
    let longest = curves.values().map(Vec::len).max().unwrap_or(0);
    curves.into_values().filter(|curve| curve.len() == longest).collect()
}

#[cfg(test)]
mod tests {
    use ndarray_rand::rand::Rng;
    use rand_chacha::rand_core::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::compare::Verdict;
    use super::*;

    /// Decodes under two strategies, every step 3 % noisy, one in twenty an outlier, every decode as
    /// a whole 2 % off; the first is `ratio(position)` times as slow.
    fn simulated(seed: u64, rounds: u32, ratio: impl Fn(usize) -> f64) -> Crossing {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut found = Measurements::default();
        let example: Case = "transformer-toy/padded/cpu/b1/t1".parse().unwrap();
        let mut noise = move |size: f64| 1.0 + size * (rng.random::<f64>() + rng.random::<f64>() - 1.0) * 2.5;
        let mut outlier = ChaCha8Rng::seed_from_u64(seed + 1);
        for strategy in [Strategy::Padded, Strategy::Concat] {
            let decodes: Vec<f64> = (0..rounds).map(|_| noise(0.02)).collect();
            for position in 1..=512 {
                let slower = if strategy == Strategy::Padded { ratio(position) } else { 1.0 };
                let step = |(round, decode): (u32, &f64)| {
                    let strange = if outlier.random::<f64>() < 0.05 { 3.0 } else { 1.0 };
                    (Round::Decode(round + 1), 1e5 * slower * decode * noise(0.03) * strange)
                };
                let samples = (0..rounds).zip(&decodes).map(step).collect();
                found.insert(example.under(strategy).at(position), samples);
            }
        }
        let line = crossing_line(&found, Group::of(&example), Strategy::Padded, Strategy::Concat);
        line.expect("there are steps of both").crossing
    }

    /// Two names for one thing have no crossing: among 512 positions some verdicts are chance, and
    /// nothing may be made of them.
    #[test]
    fn equal_strategies_cross_by_chance_only() {
        let crosses = |seed: &u64| matches!(simulated(*seed, 6, |_| 1.0), Crossing::At { .. });
        let claims = (0..200).filter(crosses).count();
        assert!(claims <= 10, "{claims} of 200 runs of equals have a crossing");
    }

    /// Steps of decodes say one thing up to 64, steps from copies the opposite beyond.
    #[test]
    fn a_crossing_never_mixes_decodes_with_copies() {
        let mut found = Measurements::default();
        let example: Case = "transformer-toy/padded/cpu/b1/t1".parse().unwrap();
        for position in (1..=64).chain([256, 384, 512]) {
            let decoded = position <= 64;
            let round = |i| if decoded { Round::Decode(i) } else { Round::Interleaved(i) };
            for (strategy, ns) in
                [(Strategy::Concat, 1000.0), (Strategy::Padded, if decoded { 1500.0 } else { 500.0 })]
            {
                let samples = (1..=12).map(|i| (round(i), ns + f64::from(i % 3))).collect();
                found.insert(example.under(strategy).at(position), samples);
            }
        }
        let line = crossing_line(&found, Group::of(&example), Strategy::Padded, Strategy::Concat).unwrap();
        assert!(line.to <= 64, "{line:?}");
        assert_eq!(line.crossing, Crossing::Everywhere(Verdict::Slower));
    }

    #[test]
    fn a_crossing_is_found_where_it_is() {
        let found = |seed| match simulated(seed, 6, |t| 1.4 - 0.4 * t as f64 / 171.0) {
            Crossing::At { lo, hi, before: Verdict::Slower, after: Verdict::Faster, .. } => {
                lo.is_none_or(|lo| lo <= 171) && hi.is_none_or(|hi| 171 <= hi)
            }
            _ => false,
        };
        let right = (0..50).filter(|&seed| found(seed)).count();
        assert!(right >= 45, "the crossing at 171 was found in {right} of 50 runs");
    }
}
