//! The tables of the page: what a cell says, and what it is sorted by.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analysis::{Comparison, Compiling, Reordering, Summary, SummaryRow};
use crate::case::Case;
use crate::record::{EqualityRow, LedgerRow, Metric};
use crate::report::{cache_types, cells, compiling, prefill, reordering, TextTable};

#[derive(Serialize)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Serialize)]
struct Column {
    name: String,
    /// Words, not numbers.
    text: bool,
}

#[derive(Serialize)]
struct Cell {
    text: String,
    /// Absent: sorted by the text.
    key: Option<f64>,
    /// Something to look at: a failure, a difference.
    alarm: bool,
}

impl Column {
    fn new(name: impl ToString, text: bool) -> Column {
        Column { name: name.to_string(), text }
    }
}

impl Cell {
    fn text(text: impl ToString) -> Cell {
        Cell { text: text.to_string(), key: None, alarm: false }
    }

    fn number(text: impl ToString, key: Option<f64>) -> Cell {
        Cell { text: text.to_string(), key, alarm: false }
    }
}

/// The cells of a report's table, each with the number it stands for.
fn table<const N: usize>(cells: TextTable, keys: impl Iterator<Item = [Option<f64>; N]>) -> Table {
    let TextTable { header, rows, words } = cells;
    let columns = header.iter().enumerate().map(|(i, name)| Column::new(name, words.contains(&i)));
    let row = |(texts, keys): (Vec<String>, [Option<f64>; N])| {
        texts.into_iter().zip(keys).map(|(text, key)| Cell::number(text, key)).collect()
    };
    Table { columns: columns.collect(), rows: rows.into_iter().zip(keys).map(row).collect() }
}

impl Table {
    /// Cells of a column are drawn as alarms where something failed.
    fn alarmed(mut self, column: usize, errors: impl Iterator<Item = bool>) -> Table {
        self.rows.iter_mut().zip(errors).for_each(|(row, failed)| row[column].alarm = failed);
        self
    }
}

pub fn steps(summary: &Summary) -> Table {
    let steps = table(cells(summary), summary.lines.iter().map(keys));
    steps.alarmed(2, summary.lines.iter().map(|line| line.error.is_some()))
}

/// A table, and the notes below it.
pub type Noted = (Table, Vec<String>);

pub fn prefills(summary: &Summary) -> Option<Noted> {
    let (cells, notes) = prefill::table(summary)?;
    Some((table(cells, summary.prefills.iter().map(prefill::keys)), notes))
}

pub fn cache_types(summary: &Summary) -> Option<Noted> {
    let cells = cache_types::table(summary)?;
    Some((table(cells, cache_types::keys(summary)), vec![cache_types::NOTE.into()]))
}

pub fn chunked_prefills(summary: &Summary) -> Option<Noted> {
    let cells = prefill::chunked_table(summary)?;
    let chunked = table(cells, summary.chunked_prefills.iter().map(prefill::chunked_keys));
    Some((chunked, vec![prefill::CHUNKED.into()]))
}

pub fn reorders(lines: &[Reordering]) -> Noted {
    let reorders = table(reordering::table(lines), lines.iter().map(reordering::keys));
    let reorders = reorders.alarmed(3, lines.iter().map(|line| line.error.is_some()));
    (reorders, vec![reordering::WHAT.into()])
}

pub fn compile_times(lines: &[Compiling]) -> Option<Noted> {
    let (cells, notes) = compiling::table(lines)?;
    let times = table(cells, lines.iter().map(compiling::keys));
    Some((times.alarmed(2, lines.iter().map(|line| line.error.is_some())), notes))
}

fn keys(line: &SummaryRow) -> [Option<f64>; 11] {
    let ratio = |found: &Option<Comparison>| found.as_ref().map(|found| 1.0 / found.ratio.value); // as fast
    [
        Some(line.case.position as f64),
        None,
        line.step_ns.map(|step| step.value),
        line.step_ns.map(|step| step.n as f64),
        line.tokens_per_second.map(|rate| rate.value),
        line.floor_multiple,
        ratio(&line.vs_naive),
        ratio(&line.vs_concat),
        line.allocated_bytes,
        line.transient_bytes,
        line.step_allocs,
    ]
}

pub fn equality(rows: &[EqualityRow]) -> Table {
    let columns = [
        ("case", true),
        ("largest difference", false),
        ("relative to the largest logit", false),
        ("tolerance", false),
        ("place (batch entry/logit)", true),
        ("verdict", true),
    ];
    let number = |x: Option<f64>| Cell::number(x.map(|x| format!("{x:.1e}")).unwrap_or_default(), x);
    let row = |row: &EqualityRow| {
        let verdict = row.error.as_ref().map_or("within the tolerance".into(), |e| format!("failed: {e}"));
        vec![
            Cell::text(row.case),
            number(row.max_abs),
            number(row.max_rel),
            number(Some(row.tolerance)),
            Cell::text(&row.place),
            Cell { alarm: row.error.is_some(), ..Cell::text(verdict) },
        ]
    };
    Table {
        columns: columns.map(|(name, text)| Column::new(name, text)).into(),
        rows: rows.iter().map(row).collect(),
    }
}

/// One row a case, one column a metric.
pub fn ledger(rows: &[LedgerRow]) -> Table {
    let mut metrics: Vec<Metric> = rows.iter().map(|row| row.metric).collect();
    metrics.sort();
    metrics.dedup();
    let mut cases: BTreeMap<Case, BTreeMap<Metric, &LedgerRow>> = BTreeMap::new();
    for row in rows {
        cases.entry(row.case).or_default().insert(row.metric, row);
    }
    let columns = metrics.iter().map(|metric| Column::new(metric, false));
    let row = |(case, of_case): (Case, BTreeMap<Metric, &LedgerRow>)| {
        let cells = metrics.iter().map(|metric| of_case.get(metric).map_or(Cell::text(""), |row| work(row)));
        [Cell::text(case)].into_iter().chain(cells).collect()
    };
    Table {
        columns: [Column::new("case", true)].into_iter().chain(columns).collect(),
        rows: cases.into_iter().map(row).collect(),
    }
}

/// `1536 =`: counted, and equal to its closed form; without a sign there is none.
fn work(row: &LedgerRow) -> Cell {
    let LedgerRow { counted, predicted, .. } = row;
    let (text, alarm) = match predicted {
        Some(predicted) if predicted == counted => (format!("{counted} ="), false),
        Some(predicted) => (format!("{counted} ≠ {predicted}"), true),
        None => (counted.to_string(), false),
    };
    Cell { alarm, ..Cell::number(text, Some(*counted as f64)) }
}
