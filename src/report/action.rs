//! The steps of a run for `github-action-benchmark`, which draws them over commits and warns of one that grew.

use serde::Serialize;

use super::compare::json;
use crate::analysis::{provenance, summary, Analysis, SummaryRow};
use crate::error::{Error, Result};
use crate::harmless;
use crate::record::Run;

/// One value, by the action's names.
#[derive(Serialize)]
struct Entry {
    /// By which the action finds the value of an earlier commit.
    name: String,
    /// The same for all: the action compares numbers, whatever their units.
    unit: &'static str,
    value: f64,
    /// The interval of the median.
    range: String,
    /// What a chart shows of the value besides.
    extra: String,
}

/// The steps that the run's tables show, as the JSON of the action's tool `customSmallerIsBetter`. A case that failed
/// is not among them.
///
/// # Errors
/// When no table has a step.
pub fn github_action_benchmark(run: &Run) -> Result<String> {
    let origin =
        [provenance(&run.environment), vec![format!("run {}", harmless::name(&run.name()))]].concat();
    let entry = |line: &SummaryRow| {
        let step = line.step_ns?;
        Some(Entry {
            name: line.case.to_string(),
            unit: "ns",
            value: step.value,
            range: format!("[{:.0}, {:.0}]", step.lo, step.hi),
            extra: format!("n = {}\n{}", step.n, origin.join("\n")),
        })
    };
    let summaries = summary(&Analysis::of(run));
    let entries: Vec<Entry> = summaries.iter().flat_map(|summary| &summary.lines).filter_map(entry).collect();
    if entries.is_empty() {
        return Err(Error::file(&run.path, "no table of the run has a step"));
    }
    json(entries.into_iter())
}
