//! Two builds beside each other, as a table, as Markdown, as CSV, as JSON.

use serde::Serialize;

use super::cells::TextTable;
use super::compare::{csv, json, Format};
use crate::analysis::{compare_together, Comparison, Estimate, Series, Verdict};
use crate::case::Case;
use crate::error::Result;
use crate::units::Quantity;

/// The steps of two builds at one case, a value a round.
pub struct TwoBuilds {
    /// That both were asked for.
    pub case: Case,
    /// Nanoseconds of a step of the old build.
    pub old: Series,
    /// The same of the new one, in the same rounds.
    pub new: Series,
}

impl TwoBuilds {
    /// The new build's time over the old one's, as one of several cases that are judged together.
    pub fn comparison(&self, together: usize) -> Option<Comparison> {
        compare_together(&self.new, &self.old, together)
    }
}

/// One case without rounding.
#[derive(Serialize)]
struct Row {
    case: String,
    old_ns: Option<f64>,
    old_lo: Option<f64>,
    old_hi: Option<f64>,
    new_ns: Option<f64>,
    new_lo: Option<f64>,
    new_hi: Option<f64>,
    /// New over old.
    ratio: Option<f64>,
    ratio_lo: Option<f64>,
    ratio_hi: Option<f64>,
    rounds: usize,
    /// Of the ratio's interval: all cases together have 95 %.
    confidence: Option<f64>,
    verdict: Option<&'static str>,
}

/// One row a case.
///
/// # Errors
/// When it cannot be written as CSV or JSON.
pub fn builds(cases: &[TwoBuilds], format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(table(cases).aligned()),
        Format::Markdown => Ok(table(cases).markdown()),
        Format::Csv => csv(cases.iter().map(|case| row(case, cases.len()))),
        Format::Json => json(cases.iter().map(|case| row(case, cases.len()))),
    }
}

fn row(case: &TwoBuilds, together: usize) -> Row {
    let (old, new) = (case.old.median(), case.new.median());
    let found = case.comparison(together);
    let ratio = found.map(|found| found.ratio);
    Row {
        case: case.case.to_string(),
        old_ns: old.map(|old| old.value),
        old_lo: old.map(|old| old.lo),
        old_hi: old.map(|old| old.hi),
        new_ns: new.map(|new| new.value),
        new_lo: new.map(|new| new.lo),
        new_hi: new.map(|new| new.hi),
        ratio: ratio.map(|ratio| ratio.value),
        ratio_lo: ratio.map(|ratio| ratio.lo),
        ratio_hi: ratio.map(|ratio| ratio.hi),
        rounds: case.new.independent().len(),
        confidence: ratio.map(|ratio| ratio.confidence),
        verdict: found.map(|found| found.verdict.name()),
    }
}

fn table(cases: &[TwoBuilds]) -> TextTable {
    let time =
        |series: &Series| series.median().map(|m| Quantity::Nanoseconds.show_estimate(m)).unwrap_or_default();
    let ratio = |ratio: Estimate| format!("{:.3} [{:.3}, {:.3}]", ratio.value, ratio.lo, ratio.hi);
    let cells = |case: &TwoBuilds| {
        let found = case.comparison(cases.len());
        vec![
            case.case.to_string(),
            time(&case.old),
            time(&case.new),
            case.new.independent().len().to_string(),
            found.map(|found| ratio(found.ratio)).unwrap_or_default(),
            found.map_or("", |found: Comparison| Verdict::name(found.verdict)).into(),
        ]
    };
    TextTable {
        header: vec!["case", "old", "new", "rounds", "new / old", "verdict"],
        rows: cases.iter().map(cells).collect(),
        words: &[0, 1, 2, 4, 5],
    }
}
