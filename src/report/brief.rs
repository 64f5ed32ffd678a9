//! The answer in six rows: concat and padded against recomputing, where the sequence is short and where it is long.

use std::fmt::Write;

use super::cells::TextTable;
use super::headline::sentence;
use super::{comparison, introduction};
use crate::analysis::{findings, summary, Analysis, Comparison, Question, Summary, SummaryRow};
use crate::error::{Error, Result};
use crate::strategy::Strategy;
use crate::units::Quantity;

/// The strategies that the question names.
const ASKED: [Strategy; 3] = [Strategy::Naive, Strategy::Concat, Strategy::Padded];

pub(super) fn brief(analysis: &Analysis<'_>) -> Result<String> {
    let (run, findings) = (analysis.run, findings(analysis));
    let mut text = String::new();
    for summary in summary(analysis) {
        let rows = rows(&summary);
        if rows.is_empty() {
            continue;
        }
        let asked = Question::BeatsFrom { first: Strategy::Padded, second: Strategy::Concat };
        let answer = findings.iter().find(|found| found.group == summary.group && found.question == asked);
        let answer = answer.map(|found| format!(": {}", sentence(found))).unwrap_or_default();
        let header = vec!["position", "strategy", "step", "against naive", "against concat"];
        let table = TextTable { header, rows: rows.into_iter().map(cells).collect(), words: &[1, 2, 3, 4] };
        let _ = write!(text, "**{}**{answer}\n\n{}\n", summary.group, table.markdown());
    }
    match text.is_empty() {
        true => Err(Error::file(&run.path, "no position has steps of naive, concat and padded")),
        false => Ok(text + &introduction(run) + "\n"),
    }
}

/// At the first and the last position of the table that all three have.
fn rows(summary: &Summary) -> Vec<&SummaryRow> {
    let of = |position: usize| -> Vec<&SummaryRow> {
        let row = |strategy| {
            let mut rows = summary.lines.iter();
            rows.find(|row| {
                row.case.position == position && row.case.strategy == strategy && row.step_ns.is_some()
            })
        };
        ASKED.into_iter().filter_map(row).collect()
    };
    let mut positions: Vec<usize> = summary.lines.iter().map(|row| row.case.position).collect();
    positions.dedup();
    positions.retain(|&position| of(position).len() == ASKED.len());
    let (first, last) = (positions.first().copied(), positions.last().copied());
    let ends = first.into_iter().chain(last.filter(|_| first != last));
    ends.flat_map(of).collect()
}

fn cells(row: &SummaryRow) -> Vec<String> {
    let against = |found: &Option<Comparison>| found.as_ref().map(comparison).unwrap_or_default();
    vec![
        row.case.position.to_string(),
        row.case.strategy.to_string(),
        row.step_ns.map(|step| Quantity::Nanoseconds.show_estimate(step)).unwrap_or_default(),
        against(&row.vs_naive),
        against(&row.vs_concat),
    ]
}
