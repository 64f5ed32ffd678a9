//! The rows of the three tables.

use super::metric::Metric;
use super::round::{Protocol, Round};
use super::table::{Bad, CsvCells, Row};
use crate::case::Case;
use crate::harmless::line;

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// That was measured.
    pub case: Case,
    /// What was measured; says the unit of `value`.
    pub metric: Metric,
    /// Protocol, and number of the round.
    pub round: Round,
    /// How often the work was repeated in this sample, at least 1.
    pub iters: u64,
    /// Total over the repetitions, in the metric's unit, so that nothing is rounded away: one
    /// repetition is `value / iters`. Absent where the case failed.
    pub value: Option<u64>,
    /// Why there is no value.
    pub error: Option<String>,
    /// What was wrong with the machine meanwhile, words with spaces between: `preempted`, `stolen`,
    /// `throttled`. Marked samples are counted and said, and not left out.
    pub mark: Option<String>,
}

impl Sample {
    /// A sample that went well.
    pub fn value(case: Case, metric: Metric, round: Round, iters: u64, value: u64) -> Sample {
        Sample { case, metric, round, iters, value: Some(value), error: None, mark: None }
    }

    /// A sample that could not be taken, and why.
    pub fn failed(case: Case, metric: Metric, round: Round, error: impl ToString) -> Sample {
        Sample { case, metric, round, iters: 1, value: None, error: Some(error.to_string()), mark: None }
    }

    /// One repetition, in the metric's unit.
    pub(crate) fn per_iteration(&self) -> Option<f64> {
        self.value.map(|total| total as f64 / self.iters as f64)
    }
}

/// How far a case's logits are from naive's, computed in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct EqualityRow {
    /// That is compared with naive.
    pub case: Case,
    /// Absent where nothing could be compared; a difference that is not finite is an error.
    pub max_abs: Option<f64>,
    /// The largest difference over the largest of naive's logits.
    pub max_rel: Option<f64>,
    /// `batch/logit` of the largest difference.
    pub place: String,
    /// That `max_rel` must not exceed.
    pub tolerance: f64,
    /// Why nothing could be compared, or in what it differs.
    pub error: Option<String>,
    /// The largest difference from the logits of a cache in f32 with the same weights, over the largest of these:
    /// what the type of the case's cache does. Absent where that is f32.
    pub rounding: Option<f64>,
}

impl EqualityRow {
    /// Whether the largest difference is more than it may be.
    pub(crate) fn exceeds(&self) -> bool {
        self.max_rel.is_some_and(|difference| difference > self.tolerance)
    }
}

/// Work of one step: counted, and by the closed form where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct LedgerRow {
    /// That was counted.
    pub case: Case,
    /// What was counted; says the unit.
    pub metric: Metric,
    /// By the backend's meter.
    pub counted: u64,
    /// By the closed form.
    pub predicted: Option<u64>,
}

impl Row for Sample {
    const FILE: &'static str = "samples.csv";
    const COLUMNS: &'static [&'static str] = &[
        "case", "model", "shape", "strategy", "backend", "batch", "position", "metric", "protocol", "round",
        "iters", "value", "error", "mark", "weights", "cache",
    ];
    const ADDED: &'static [&'static str] = &["protocol", "mark", "weights", "cache"];

    fn cells(&self) -> Vec<String> {
        let Case { model, shape, weights, strategy, cache, backend, batch, position } = self.case;
        let Sample { case, metric, round, iters, value, error, mark } = self;
        vec![
            case.to_string(),
            model.to_string(),
            shape.to_string(),
            strategy.to_string(),
            backend.to_string(),
            batch.to_string(),
            position.to_string(),
            metric.to_string(),
            round.protocol().to_string(),
            round.number().to_string(),
            iters.to_string(),
            or_empty(value.as_ref()),
            one_line(error.as_deref()),
            one_line(mark.as_deref()),
            weights.to_string(),
            cache.to_string(),
        ]
    }

    fn from_cells(cells: &CsvCells<'_>) -> Result<Sample, Bad> {
        let case: Case = cells.parse("case")?;
        agrees(cells, &case)?;
        let sample = Sample {
            case,
            metric: cells.parse("metric")?,
            round: round(cells)?,
            iters: cells.integer("iters")?,
            value: cells.optional("value", CsvCells::integer)?,
            error: text(cells, "error"),
            mark: text(cells, "mark"),
        };
        let wrong = |column, what: &str| Err(Bad { column, what: what.into() });
        match sample {
            Sample { iters: 0, .. } => wrong("iters", "a sample repeats its work at least once"),
            Sample { value: None, error: None, .. } => wrong("value", "neither a value nor an error"),
            Sample { value: Some(_), error: Some(_), .. } => wrong("error", "both a value and an error"),
            sample => Ok(sample),
        }
    }
}

/// Rows of earlier versions have one number for protocol and round.
fn round(cells: &CsvCells<'_>) -> Result<Round, Bad> {
    let number = cells.integer("round")?;
    let bad = |what: String| Bad { column: "round", what };
    let number = u32::try_from(number).map_err(|_| bad(format!("{number} is too large")))?;
    if !cells.has("protocol") {
        return Ok(Round::of_code(number));
    }
    let protocol: Protocol = cells.parse("protocol")?;
    Round::new(protocol, number).ok_or_else(|| bad(format!("no round of protocol {protocol} is {number}")))
}

/// The columns for spreadsheets say the same as the case id.
fn agrees(cells: &CsvCells<'_>, case: &Case) -> Result<(), Bad> {
    let parts = [
        ("model", case.model.to_string()),
        ("shape", case.shape.to_string()),
        ("strategy", case.strategy.to_string()),
        ("backend", case.backend.to_string()),
        ("batch", case.batch.to_string()),
        ("position", case.position.to_string()),
    ];
    let types = [("weights", case.weights), ("cache", case.cache)].into_iter();
    let types =
        types.filter(|(column, _)| cells.has(column)).map(|(column, dtype)| (column, dtype.to_string()));
    match parts.into_iter().chain(types).find(|(column, part)| cells.text(column) != part) {
        None => Ok(()),
        Some((column, part)) => {
            let what = format!("`{}` is not the {column} of the case, `{part}`", cells.text(column));
            Err(Bad { column, what })
        }
    }
}

impl Row for EqualityRow {
    const FILE: &'static str = "equality.csv";
    const COLUMNS: &'static [&'static str] =
        &["case", "max_abs", "max_rel", "place", "tolerance", "error", "rounding"];
    const ADDED: &'static [&'static str] = &["rounding"];

    fn cells(&self) -> Vec<String> {
        let finite = |x: Option<f64>| x.filter(|x| x.is_finite()).map(|x| format!("{x:e}"));
        vec![
            self.case.to_string(),
            or_empty(finite(self.max_abs)),
            or_empty(finite(self.max_rel)),
            one_line(Some(&self.place)),
            format!("{:e}", self.tolerance),
            one_line(self.error.as_deref()),
            or_empty(finite(self.rounding)),
        ]
    }

    fn from_cells(cells: &CsvCells<'_>) -> Result<EqualityRow, Bad> {
        Ok(EqualityRow {
            case: cells.parse("case")?,
            max_abs: cells.optional("max_abs", CsvCells::number)?,
            max_rel: cells.optional("max_rel", CsvCells::number)?,
            place: line(cells.text("place")),
            tolerance: cells.number("tolerance")?,
            error: text(cells, "error"),
            rounding: cells.optional("rounding", CsvCells::number)?,
        })
    }
}

impl Row for LedgerRow {
    const FILE: &'static str = "ledger.csv";
    const COLUMNS: &'static [&'static str] = &["case", "metric", "counted", "predicted"];

    fn cells(&self) -> Vec<String> {
        let LedgerRow { case, metric, counted, predicted } = self;
        vec![case.to_string(), metric.to_string(), counted.to_string(), or_empty(predicted.as_ref())]
    }

    fn from_cells(cells: &CsvCells<'_>) -> Result<LedgerRow, Bad> {
        Ok(LedgerRow {
            case: cells.parse("case")?,
            metric: cells.parse("metric")?,
            counted: cells.integer("counted")?,
            predicted: cells.optional("predicted", CsvCells::integer)?,
        })
    }
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

/// A row is one line whatever an error says.
fn one_line(text: Option<&str>) -> String {
    line(text.unwrap_or_default())
}

fn text(cells: &CsvCells<'_>, column: &'static str) -> Option<String> {
    Some(cells.text(column)).filter(|t| !t.is_empty()).map(line)
}
