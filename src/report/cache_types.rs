//! The table of what a cache in another type than f32 buys, and what it costs.

use super::{comparison, TextTable};
use crate::analysis::{Summary, SummaryRow};
use crate::dtype::Dtype;
use crate::units::Quantity;

/// What the columns are, beside every such table.
pub const NOTE: &str = "Each step against the same with a cache in f32 and the same weights; rounding is the largest difference between \
     the logits of the two, over the largest logit.";

/// Of a group whose cache is of another type: one row for each step.
pub fn table(summary: &Summary) -> Option<TextTable> {
    let header = vec!["position", "strategy", "step", "against an f32 cache", "cache", "rounding"];
    let rows: Vec<_> = lines(summary).map(row).collect();
    (!rows.is_empty()).then_some(TextTable { header, rows, words: &[1, 2, 3] })
}

/// The lines that it has.
fn lines(summary: &Summary) -> impl Iterator<Item = &SummaryRow> {
    let other_type = summary.group.cache != Dtype::F32;
    summary.lines.iter().filter(move |line| other_type && line.step_ns.is_some())
}

fn row(line: &SummaryRow) -> Vec<String> {
    vec![
        line.case.position.to_string(),
        line.case.strategy.to_string(),
        line.step_ns.map(|step| Quantity::Nanoseconds.show_estimate(step)).unwrap_or_default(),
        line.vs_f32_cache.as_ref().map(comparison).unwrap_or_default(),
        line.allocated_bytes.map(|bytes| Quantity::Bytes.show(bytes)).unwrap_or_default(),
        line.rounding.map(|rounding| format!("{rounding:.1e}")).unwrap_or_default(),
    ]
}

/// Of each row, what its columns are sorted by.
pub fn keys(summary: &Summary) -> impl Iterator<Item = [Option<f64>; 6]> + '_ {
    lines(summary).map(|line| {
        let faster = line.vs_f32_cache.as_ref().map(|found| 1.0 / found.ratio.value);
        let step = line.step_ns.map(|step| step.value);
        [Some(line.case.position as f64), None, step, faster, line.allocated_bytes, line.rounding]
    })
}
