//! What it costs to put beams into another order.

use super::compare::compare;
use super::estimate::Estimate;
use super::measurements::{Group, Measurements};
use crate::case::Case;
use crate::record::Metric;

/// The beams of one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Reordering {
    /// Its batch is the number of beams.
    pub case: Case,
    /// Of one reorder.
    pub reorder_ns: Option<Estimate>,
    /// Of the step that follows.
    pub step_ns: Option<Estimate>,
    /// The first over the second, within rounds.
    pub ratio: Option<Estimate>,
    /// Read and written by one reorder.
    pub bytes: Option<f64>,
    /// Why there is no time.
    pub error: Option<String>,
}

/// Of every case whose beams were reordered, by position, batch and strategy. The beams are hypotheses of one sentence, and
/// stand in the group of that.
pub fn reordering(found: &Measurements) -> Vec<(Group, Vec<Reordering>)> {
    let line = |case: Case| {
        let series = |metric| found.series(&case, metric);
        let pair = series(Metric::ReorderNs).zip(series(Metric::ReorderedStepNs));
        Reordering {
            case,
            reorder_ns: found.median(&case, Metric::ReorderNs),
            step_ns: found.median(&case, Metric::ReorderedStepNs),
            ratio: pair.and_then(|(reorder, step)| Some(compare(reorder, step)?.ratio)),
            bytes: found.median(&case, Metric::ReorderBytes).map(|bytes| bytes.value),
            error: found.error(&case, Metric::ReorderNs).map(String::from),
        }
    };
    let mut cases: Vec<Case> =
        found.cases(Metric::ReorderBytes).chain(found.cases(Metric::ReorderNs)).collect();
    cases.sort_by_key(|c| (c.model_name(), c.backend, c.cache, c.position, c.batch, c.strategy));
    cases.dedup();
    let sentence = |case: &Case| Group { batch: 1, ..Group::of(case) };
    let groups = cases.chunk_by(|a, b| sentence(a) == sentence(b));
    groups.map(|cases| (sentence(&cases[0]), cases.iter().copied().map(line).collect())).collect()
}
