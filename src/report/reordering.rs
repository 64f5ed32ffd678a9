//! The table of what was reordered.

use super::TextTable;
use crate::analysis::{Estimate, Reordering};
use crate::units::Quantity;

/// What the times are of, beside every table of them.
pub const WHAT: &str =
    "Reordering the entries of a batch, as a beam search does before each step, and the step that follows; bytes are \
     read and written.";

pub fn table(lines: &[Reordering]) -> TextTable {
    let header = vec!["position", "beams", "strategy", "reorder", "step", "n", "reorder / step", "bytes"];
    TextTable { header, rows: lines.iter().map(row).collect(), words: &[2, 3, 4, 6] }
}

fn row(line: &Reordering) -> Vec<String> {
    let time = |estimate: Option<Estimate>| estimate.map(|e| Quantity::Nanoseconds.show_estimate(e));
    let failed = line.error.as_ref().map(|error| format!("failed: {error}"));
    vec![
        line.case.position.to_string(),
        line.case.batch.to_string(),
        line.case.strategy.to_string(),
        [time(line.reorder_ns), failed].into_iter().flatten().collect::<Vec<_>>().join("; "),
        time(line.step_ns).unwrap_or_default(),
        line.reorder_ns.map(|time| time.n.to_string()).unwrap_or_default(),
        line.ratio.map(|ratio| Quantity::Tokens.show_estimate(ratio)).unwrap_or_default(),
        line.bytes.map(|bytes| Quantity::Bytes.show(bytes)).unwrap_or_default(),
    ]
}

/// What each cell is sorted by.
pub fn keys(line: &Reordering) -> [Option<f64>; 8] {
    let value = |estimate: Option<Estimate>| estimate.map(|e| e.value);
    [
        Some(line.case.position as f64),
        Some(line.case.batch as f64),
        None,
        value(line.reorder_ns),
        value(line.step_ns),
        line.reorder_ns.map(|time| time.n as f64),
        value(line.ratio),
        line.bytes,
    ]
}
