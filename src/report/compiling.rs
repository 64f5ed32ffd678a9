//! The table of what was compiled.

use super::TextTable;
use crate::analysis::Compiling;
use crate::units::Quantity;

/// What the times are of, beside every table of them.
const WHAT: &str = "A shape's time is the sum over its new kernels, compiled one at a time; a compiler of \
                        whole steps, such as XLA, compiles all of a step again for every shape.";

/// With what has to be said below it; `None` where nothing was compiled.
pub fn table(lines: &[Compiling]) -> Option<(TextTable, Vec<String>)> {
    let header = vec!["tokens", "strategy", "all shapes", "rounds", "shapes", "kernels", "median shape"];
    let cells = TextTable { header, rows: lines.iter().map(row).collect(), words: &[1, 2] };
    (!lines.is_empty()).then(|| (cells, notes(lines)))
}

fn row(line: &Compiling) -> Vec<String> {
    let total = line.total_ns.map(|total| Quantity::Nanoseconds.show_estimate(total));
    let failed = line.error.as_ref().map(|error| format!("failed: {error}"));
    vec![
        line.case.position.to_string(),
        line.case.strategy.to_string(),
        [total, failed].into_iter().flatten().collect::<Vec<_>>().join("; "),
        line.total_ns.map(|total| total.n.to_string()).unwrap_or_default(),
        line.shapes.to_string(),
        line.kernels.map(|kernels| kernels.to_string()).unwrap_or_default(),
        line.shape_ns.map(|ns| Quantity::Nanoseconds.show(ns)).unwrap_or_default(),
    ]
}

/// What each cell is sorted by.
pub fn keys(line: &Compiling) -> [Option<f64>; 7] {
    [
        Some(line.case.position as f64),
        None,
        line.total_ns.map(|total| total.value),
        line.total_ns.map(|total| total.n as f64),
        Some(line.shapes as f64),
        line.kernels.map(|kernels| kernels as f64),
        line.shape_ns,
    ]
}

fn notes(lines: &[Compiling]) -> Vec<String> {
    let fewest = lines.iter().filter_map(|line| line.total_ns).map(|total| total.n).min();
    let range = fewest.filter(|&n| n < 6).map(|n| match n {
        1 => "One round has no interval.".into(),
        n => format!("Intervals of {n} rounds are their whole range."),
    });
    [WHAT.to_string()].into_iter().chain(range).collect()
}
