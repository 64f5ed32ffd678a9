//! The table of what was compiled.

use super::TextTable;
use crate::analysis::{compiling, Analysis, Compiling, Group};
use crate::units::Quantity;

/// What the times are of, beside every table and figure of them.
pub const WHAT: &str =
    "A shape's time is the sum over its new kernels, compiled one at a time; a compiler of \
                        whole steps, such as XLA, compiles all of a step again for every shape.";

/// One table for each group that compiled shapes, and what has to be said below it.
pub fn tables(analysis: &Analysis<'_>) -> Vec<(Group, TextTable, Vec<String>)> {
    let found = &analysis.tables;
    let tables = found.groups().into_iter().map(|group| {
        let lines = compiling(found, group);
        (group, cells(&lines), notes(&lines))
    });
    tables.filter(|(_, cells, _)| !cells.rows.is_empty()).collect()
}

fn cells(lines: &[Compiling]) -> TextTable {
    let header = vec!["tokens", "strategy", "all shapes", "rounds", "shapes", "kernels", "median shape"];
    TextTable { header, rows: lines.iter().map(row).collect(), words: &[1, 2] }
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

fn notes(lines: &[Compiling]) -> Vec<String> {
    let fewest = lines.iter().filter_map(|line| line.total_ns).map(|total| total.n).min();
    let range = fewest.filter(|&n| n < 6).map(|n| match n {
        1 => "One round has no interval.".into(),
        n => format!("Intervals of {n} rounds are their whole range."),
    });
    [WHAT.to_string()].into_iter().chain(range).collect()
}
