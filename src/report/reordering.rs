//! The table of what was reordered.

use super::TextTable;
use crate::analysis::{reordering, Analysis, Estimate, Reordering};
use crate::suite;
use crate::units::Quantity;

/// What the times are of, beside every table of them.
const WHAT: &str =
    "Reordering the entries of a batch, as a beam search does before each step, and the step that follows; bytes are \
     read and written.";

/// One table for each model on each backend that reordered beams, with its title, and what has to be said
/// below it.
pub fn tables(analysis: &Analysis<'_>) -> Vec<(String, TextTable, &'static str)> {
    let lines = reordering(&analysis.tables);
    let table = |lines: &[Reordering]| {
        let case = lines[0].case;
        (format!("{}, {}: beams", case.model_name(), case.backend), cells(lines), WHAT)
    };
    lines.chunk_by(|a, b| suite::same_fixture(&a.case, &b.case)).map(table).collect()
}

fn cells(lines: &[Reordering]) -> TextTable {
    let header = vec!["position", "beams", "strategy", "reorder", "step", "n", "reorder / step", "bytes"];
    TextTable { header, rows: lines.iter().map(row).collect(), words: &[2, 3, 4, 6] }
}

fn row(line: &Reordering) -> Vec<String> {
    let time = |estimate: Option<Estimate>| estimate.map(|e| Quantity::Nanoseconds.show_estimate(e));
    let failed = line.error.as_ref().map(|error| format!("failed: {error}"));
    vec![
        line.case.position.to_string(),
        line.case.batch.to_string(),
        line.case.cache_config().to_string(),
        [time(line.reorder_ns), failed].into_iter().flatten().collect::<Vec<_>>().join("; "),
        time(line.step_ns).unwrap_or_default(),
        line.reorder_ns.map(|time| time.n.to_string()).unwrap_or_default(),
        line.ratio.map(|ratio| Quantity::Tokens.show_estimate(ratio)).unwrap_or_default(),
        line.bytes.map(|bytes| Quantity::Bytes.show(bytes)).unwrap_or_default(),
    ]
}
