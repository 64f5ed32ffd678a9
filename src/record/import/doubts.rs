//! What a reader of results takes on trust, checked where trust is not due: cells that a spreadsheet
//! would run, text that a terminal would obey, times that nothing takes.

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::without_mark;
use crate::harmless::acts;
use crate::record::table::{self, Row};
use crate::record::whole::{Files, TABLES};
use crate::record::{environment, time, Environment, EqualityRow, LedgerRow, Metric, Run, Sample, Unit};

const MOST_ROWS: u64 = 1_000_000;
const MOST_COLUMNS: usize = 100;
/// Characters of a cell, or of a text in the environment.
const MOST_TEXT: usize = 4096;
/// Whole numbers up to here are the same in every notebook and spreadsheet.
const MOST_VALUE: u64 = 1 << 53;
const WEEK_NS: u64 = 7 * 24 * 3600 * 1_000_000_000;

/// `source` is how the files are called in messages.
pub(super) fn check(source: &Path, files: &Files) -> Result<()> {
    let of_file = |name: &'static str| move |what: String| Error::file(source.join(name), what);
    for (name, bytes) in files.iter().filter(|(name, _)| TABLES.contains(name)) {
        cells(&source.join(name), bytes)?;
    }
    let run = Run::of_files(source, files)?;
    if run.samples.is_empty() {
        return Err(Error::file(source, "the run has no samples"));
    }
    let json = files.get(environment::FILE).map_or(&[][..], |bytes| without_mark(bytes)); // not made harmless yet
    let json: Value = serde_json::from_slice(json).expect("it was read from JSON");
    texts("", &json).and_then(|()| provenance(&run.environment)).map_err(of_file(environment::FILE))?;
    run.samples.iter().try_for_each(sample).map_err(of_file(Sample::FILE))?;
    run.equality.iter().try_for_each(equality).map_err(of_file(EqualityRow::FILE))?;
    run.ledger.iter().try_for_each(ledger).map_err(of_file(LedgerRow::FILE))
}

/// Every cell of a table, whatever its column is called.
fn cells(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|e| table::malformed(path, &e))?;
        let line = record.position().map_or(0, |at| at.line());
        let wrong = |what: String| Error::Row { path: path.into(), line, column: None, what };
        if row as u64 > MOST_ROWS {
            return Err(wrong(format!("more than {MOST_ROWS} rows")));
        }
        if record.len() > MOST_COLUMNS {
            return Err(wrong(format!("more than {MOST_COLUMNS} columns")));
        }
        for cell in &record {
            text(cell).and_then(|()| formula(cell)).map_err(wrong)?;
        }
    }
    Ok(())
}

fn text(text: &str) -> Result<(), String> {
    if text.chars().count() > MOST_TEXT {
        return Err(format!("a text of more than {MOST_TEXT} characters"));
    }
    match text.chars().find(|&c| acts(c)) {
        Some(c) => Err(format!("the control character {} in `{}`", c.escape_unicode(), text.escape_debug())),
        None => Ok(()),
    }
}

/// Spreadsheets run a cell that begins so, unless it is a number.
fn formula(cell: &str) -> Result<(), String> {
    let begins = cell.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let number = cell.parse::<f64>().is_ok_and(f64::is_finite);
    match begins && !number {
        true => Err(format!("a spreadsheet would run the cell `{cell}`")),
        false => Ok(()),
    }
}

/// Every text of the environment, and every name in it.
fn texts(name: &str, json: &Value) -> Result<(), String> {
    text(name)?;
    match json {
        Value::String(said) => text(said).map_err(|what| format!("`{name}`: {what}")),
        Value::Array(all) => all.iter().try_for_each(|one| texts(name, one)),
        Value::Object(fields) => fields.iter().try_for_each(|(field, one)| texts(field, one)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn provenance(environment: &Environment) -> Result<(), String> {
    let Environment { started_utc, finished_utc, threads, .. } = environment;
    for moment in [Some(started_utc), finished_utc.as_ref()].into_iter().flatten() {
        if !time::is_utc(moment) {
            return Err(format!("`{moment}` is no moment; one looks like 2026-11-21T23:31:49Z"));
        }
    }
    if finished_utc.as_ref().is_some_and(|finished| finished < started_utc) {
        return Err("it ends before it starts".into());
    }
    match threads {
        0 => Err("it ran on no thread".into()),
        _ => Ok(()),
    }
}

fn sample(sample: &Sample) -> Result<(), String> {
    let Sample { case, metric, iters, value: Some(value), .. } = *sample else { return Ok(()) };
    if value.max(iters) > MOST_VALUE {
        return Err(format!(
            "{case}: {metric} is {value} in {iters} repetitions, and {MOST_VALUE} is the most"
        ));
    }
    let timed = metric.unit() == Unit::Nanoseconds;
    if timed && value > WEEK_NS {
        return Err(format!("{case}: {metric} is {value}, more than a week"));
    }
    // to create nothing can take less than the clock's step
    if timed && value < iters && metric != Metric::CacheCreateNs {
        return Err(format!(
            "{case}: {metric} is {value} in {iters} repetitions, less than a nanosecond each"
        ));
    }
    Ok(())
}

fn equality(row: &EqualityRow) -> Result<(), String> {
    let EqualityRow { case, max_abs, max_rel, tolerance, error, rounding, .. } = row;
    if [*max_abs, *max_rel, Some(*tolerance), *rounding].into_iter().flatten().any(f64::is_sign_negative) {
        return Err(format!("{case}: a difference below zero"));
    }
    match (max_rel, error) {
        (Some(rel), None) if row.exceeds() => Err(format!(
            "{case}: it differs by {rel:e}, beyond its tolerance of {tolerance:e}, and is called equal"
        )),
        _ => Ok(()),
    }
}

fn ledger(row: &LedgerRow) -> Result<(), String> {
    let LedgerRow { case, metric, counted, predicted } = row;
    match predicted {
        Some(predicted) if predicted != counted => {
            Err(format!("{case}: {metric} is {counted}, and the closed form says {predicted}"))
        }
        _ => Ok(()),
    }
}
