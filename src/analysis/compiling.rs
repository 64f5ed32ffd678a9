//! What a decode pays a compiler for its shapes.

use std::collections::BTreeMap;

use super::estimate::{median, median_of, Estimate};
use super::measurements::{Group, Measurements};
use crate::case::Case;
use crate::record::{Metric, Round};
use crate::strategy::Strategy;

/// The shapes of a whole decode under one strategy.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiling {
    /// At the last position of the decode.
    pub case: Case,
    /// Distinct shapes of a step.
    pub shapes: usize,
    /// Distinct kernels of all shapes together.
    pub kernels: Option<usize>,
    /// All shapes together, of the rounds that compiled them all.
    pub total_ns: Option<Estimate>,
    /// The median shape.
    pub shape_ns: Option<f64>,
    /// Why a shape has no time.
    pub error: Option<String>,
}

/// Of every strategy of the group whose decode was compiled; the longest decode of each.
pub fn compiling(found: &Measurements, group: Group) -> Vec<Compiling> {
    let strategies = found.strategies(group, Metric::Compiles).into_iter();
    strategies.filter_map(|strategy| of_strategy(found, group, strategy)).collect()
}

fn of_strategy(found: &Measurements, group: Group, strategy: Strategy) -> Option<Compiling> {
    let tokens = *found.positions(group, strategy, Metric::Compiles).last()?;
    let case = group.case(strategy, tokens);
    let count = |metric| Some(found.median(&case, metric)?.value as usize);
    let shapes = count(Metric::Compiles)?;
    let mut positions = found.positions(group, strategy, Metric::CompileNs);
    positions.retain(|&position| position <= tokens);
    let mut rounds: BTreeMap<Round, Vec<f64>> = BTreeMap::new();
    let mut medians = Vec::new();
    for series in positions.iter().filter_map(|&t| found.series(&case.at(t), Metric::CompileNs)) {
        medians.extend(median_of(&series.values()));
        for (round, ns) in series.rounds() {
            rounds.entry(round).or_default().push(ns);
        }
    }
    let whole = rounds.values().filter(|times| times.len() == shapes);
    let totals: Vec<f64> = whole.map(|times| times.iter().sum()).collect();
    let error = positions.iter().find_map(|&t| found.error(&case.at(t), Metric::CompileNs));
    Some(Compiling {
        case,
        shapes,
        kernels: count(Metric::CompiledKernels),
        total_ns: median(&totals),
        shape_ns: median_of(&medians),
        error: error.map(String::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{synthetic, Protocol};

    #[test]
    fn a_decode_costs_the_sum_of_its_shapes_and_a_torn_round_does_not_count() {
        let mut run = synthetic::compiled(3);
        let found = |run: &_| Measurements::of(run, Protocol::Interleaved);
        let group = found(&run).groups()[0];
        let lines = compiling(&found(&run), group);
        let shapes: Vec<(String, usize, Option<usize>)> =
            lines.iter().map(|line| (line.case.strategy.to_string(), line.shapes, line.kernels)).collect();
        let want = [("concat", 512, 1032), ("padded", 1, 10), ("chunked-64", 8, 24)];
        assert_eq!(shapes, want.map(|(name, shapes, kernels)| (name.into(), shapes, Some(kernels))));
        let total = |line: &Compiling| line.total_ns.map(|total| (total.value, total.lo, total.hi, total.n));
        assert_eq!(total(&lines[1]), Some((1.1e9, 1e9, 1.2e9, 3)));
        assert_eq!(total(&lines[2]), Some((8.0 * 1.1e9, 8e9, 8.0 * 1.2e9, 3)));
        run.samples.retain(|s| {
            !(s.round == Round::Interleaved(3)
                && s.case.position == 65
                && s.case.strategy == Strategy::Chunked(64))
        });
        let lines = compiling(&found(&run), group);
        assert_eq!(total(&lines[2]), Some((8.0 * 1.05e9, 8e9, 8.0 * 1.1e9, 2)));
        assert_eq!(total(&lines[1]).unwrap().3, 3);
    }
}
