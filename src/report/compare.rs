//! Comparisons as a table, as Markdown, as CSV, as JSON: the same rows each time, rounded in the first two.

use clap::ValueEnum;
use serde::Serialize;

use super::cells::TextTable;
use crate::analysis::provenance::{hardware, revision};
use crate::analysis::{Measured, Pairing, Verdict, Versus};
use crate::error::{Error, Result};
use crate::harmless;
use crate::record::{Metric, Unit};
use crate::units::Quantity;

/// What a comparison is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned, for a terminal
    Table,
    /// For a page
    Markdown,
    /// Without rounding, for a spreadsheet
    Csv,
    /// Without rounding, for a program
    Json,
}

/// One row per comparison.
pub fn comparisons(found: &[Versus<'_>], format: Format) -> Result<String> {
    match format {
        Format::Table => Ok(cells(found).aligned()),
        Format::Markdown => Ok(cells(found).markdown()),
        Format::Csv => csv(found),
        Format::Json => {
            let rows: Vec<Row> = found.iter().map(row).collect();
            let json = serde_json::to_string_pretty(&rows).map_err(|e| Error::Input(e.to_string()))?;
            Ok(json + "\n")
        }
    }
}

/// The word for what came out: times are faster or slower, bytes and counts less or more.
pub fn verdict(metric: Metric, verdict: Verdict) -> &'static str {
    match (metric.unit(), verdict) {
        (Unit::Nanoseconds, verdict) => verdict.name(),
        (_, Verdict::Faster) => "less",
        (_, Verdict::Slower) => "more",
        (_, Verdict::NotDistinguishable) => "not different",
    }
}

/// One comparison without rounding, in the metric's unit. The base's columns begin with `base_`.
#[derive(Serialize)]
struct Row {
    case: String,
    metric: &'static str,
    run: String,
    hardware: String,
    threads: u64,
    revision: String,
    value: f64,
    lo: f64,
    hi: f64,
    n: usize,
    floor_multiple: Option<f64>,
    base_case: String,
    base_run: String,
    base_hardware: String,
    base_threads: u64,
    base_revision: String,
    base_value: f64,
    base_lo: f64,
    base_hi: f64,
    base_n: usize,
    base_floor_multiple: Option<f64>,
    ratio: Option<f64>,
    ratio_lo: Option<f64>,
    ratio_hi: Option<f64>,
    ratio_n: Option<usize>,
    /// Whether the ratio is formed within rounds.
    paired: Option<bool>,
    aa_band: Option<f64>,
    verdict: Option<&'static str>,
}

fn row(found: &Versus<'_>) -> Row {
    let Versus { metric, one, base, comparison, .. } = found;
    let ratio = comparison.map(|c| c.ratio);
    Row {
        case: one.case.to_string(),
        metric: metric.name(),
        run: name(one),
        hardware: hardware(&one.run.environment),
        threads: one.run.environment.threads,
        revision: revision(&one.run.environment),
        value: one.value.value,
        lo: one.value.lo,
        hi: one.value.hi,
        n: one.value.n,
        floor_multiple: one.floor_multiple,
        base_case: base.case.to_string(),
        base_run: name(base),
        base_hardware: hardware(&base.run.environment),
        base_threads: base.run.environment.threads,
        base_revision: revision(&base.run.environment),
        base_value: base.value.value,
        base_lo: base.value.lo,
        base_hi: base.value.hi,
        base_n: base.value.n,
        base_floor_multiple: base.floor_multiple,
        ratio: ratio.map(|ratio| ratio.value),
        ratio_lo: ratio.map(|ratio| ratio.lo),
        ratio_hi: ratio.map(|ratio| ratio.hi),
        ratio_n: ratio.map(|ratio| ratio.n),
        paired: comparison.map(|c| c.pairing == Pairing::Rounds),
        aa_band: comparison.and_then(|c| c.aa_band),
        verdict: comparison.map(|c| verdict(*metric, c.verdict)),
    }
}

fn name(measured: &Measured<'_>) -> String {
    harmless::name(&measured.run.name())
}

fn csv(found: &[Versus<'_>]) -> Result<String> {
    let failed = |e: String| Error::Input(format!("the comparison cannot be written as CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for found in found {
        let mut row = row(found);
        let texts = [
            &mut row.run,
            &mut row.hardware,
            &mut row.revision,
            &mut row.base_run,
            &mut row.base_hardware,
            &mut row.base_revision,
        ];
        texts.into_iter().for_each(|text| *text = harmless::spreadsheet_cell(text));
        writer.serialize(row).map_err(|e| failed(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
}

fn cells(found: &[Versus<'_>]) -> TextTable {
    let header = vec![
        "case",
        "value",
        "n",
        "× floor",
        "against",
        "value",
        "n",
        "× floor",
        "ratio",
        "verdict",
        "run",
        "hardware",
        "revision",
        "its run",
        "its hardware",
        "its revision",
    ];
    let across = found.iter().any(|v| !std::ptr::eq(v.one.run, v.base.run));
    let shown = if across { header.len() } else { header.len() - 3 };
    let rows = found.iter().map(|v| human(v)[..shown].to_vec()).collect();
    TextTable { header: header[..shown].to_vec(), rows, words: &[0, 1, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15] }
}

fn human(found: &Versus<'_>) -> Vec<String> {
    let Versus { metric, one, base, comparison, .. } = found;
    let value = |m: &Measured<'_>| Quantity::of(metric.unit()).show_estimate(m.value);
    let floor = |m: &Measured<'_>| m.floor_multiple.map(|x| Quantity::Tokens.show(x)).unwrap_or_default();
    let ratio = comparison.map(|c| {
        let mark = if c.pairing == Pairing::Unpaired { " †" } else { "" };
        format!("{}{mark}", Quantity::Tokens.show_estimate(c.ratio))
    });
    let origin = |m: &Measured<'_>| [name(m), hardware(&m.run.environment), revision(&m.run.environment)];
    let mut cells = vec![
        one.case.to_string(),
        value(one),
        one.value.n.to_string(),
        floor(one),
        base.case.to_string(),
        value(base),
        base.value.n.to_string(),
        floor(base),
        ratio.unwrap_or_default(),
        comparison.map(|c| verdict(*metric, c.verdict).to_string()).unwrap_or_default(),
    ];
    cells.extend(origin(one));
    cells.extend(origin(base));
    cells
}
