//! Many runs, a row each: as a table, as Markdown, as CSV, as JSON.

use std::collections::BTreeSet;

use regex::Regex;
use serde::Serialize;

use super::cells::TextTable;
use super::compare::{csv, json, Format};
use crate::analysis::provenance::{date, hardware, revision};
use crate::analysis::tabled;
use crate::case::Case;
use crate::error::Result;
use crate::harmless;
use crate::record::Run;
use crate::units::Quantity;

/// One row a run, in their order.
///
/// # Errors
/// When they cannot be written so.
pub fn listing(runs: &[Run], format: Format) -> Result<String> {
    let rows = || runs.iter().map(Row::of);
    match format {
        Format::Table => Ok(cells(runs).aligned()),
        Format::Markdown => Ok(cells(runs).markdown()),
        Format::Csv => csv(rows().map(Row::harmless)),
        Format::Json => json(rows()),
    }
}

/// Whether the run's name, note, folder, hardware or revision has what is looked for.
pub fn is_found(run: &Run, wanted: &Regex) -> bool {
    let environment = &run.environment;
    let labels = [&environment.name, &environment.note, &environment.git_revision];
    let mut labels = labels.into_iter().flatten();
    let shown = [run.name(), hardware(environment), revision(environment)];
    labels.any(|label| wanted.is_match(label)) || shown.iter().any(|text| wanted.is_match(text))
}

/// What is known of a run, without rounding. Unknown is `null`, an empty cell in CSV.
#[derive(Serialize)]
struct Row {
    run: String,
    name: Option<String>,
    note: Option<String>,
    started_utc: String,
    finished_utc: Option<String>,
    hardware: String,
    emulated: bool,
    revision: String,
    /// `transformer-toy linearized-conv-toy`
    models: String,
    cases: usize,
    /// Samples of rounds that were timed.
    samples: usize,
    /// How many of them are marked.
    marked: Option<usize>,
}

impl Row {
    fn of(run: &Run) -> Row {
        let (environment, cases) = (&run.environment, cases(run));
        let models: BTreeSet<String> = cases.iter().map(|case| case.model_name().to_string()).collect();
        let (marked, samples) = run.marked();
        Row {
            run: harmless::name(&run.name()),
            name: environment.name.as_deref().map(harmless::name),
            note: environment.note.as_deref().map(harmless::words),
            started_utc: harmless::name(&environment.started_utc),
            finished_utc: environment.finished_utc.as_deref().map(harmless::name),
            hardware: hardware(environment),
            emulated: environment.emulated,
            revision: revision(environment),
            models: models.into_iter().collect::<Vec<_>>().join(" "),
            cases: cases.len(),
            samples,
            marked,
        }
    }

    fn harmless(mut self) -> Row {
        let labels = [&mut self.name, &mut self.note].into_iter().flatten();
        let texts =
            labels.chain([&mut self.run, &mut self.started_utc, &mut self.hardware, &mut self.revision]);
        texts.for_each(|text| *text = harmless::spreadsheet_cell(text));
        self
    }

    /// `quiet`, or how much of what was timed is marked.
    fn disturbed(&self) -> String {
        match self.marked {
            None => String::new(),
            Some(0) => "quiet".into(),
            Some(marked) => {
                format!("{} % marked", Quantity::Tokens.show(100.0 * marked as f64 / self.samples as f64))
            }
        }
    }
}

/// Those that tables show steps of; of a run without such a table all that have samples.
fn cases(run: &Run) -> BTreeSet<Case> {
    let tabled = tabled(run);
    match tabled.is_empty() {
        true => run.samples.iter().map(|sample| sample.case).collect(),
        false => tabled,
    }
}

fn cells(runs: &[Run]) -> TextTable {
    let header = vec![
        "started",
        "run",
        "name",
        "models",
        "cases",
        "finished",
        "disturbed",
        "revision",
        "hardware",
        "note",
    ];
    let row = |run: &Run| {
        let row = Row::of(run);
        let finished = if row.finished_utc.is_some() { "yes" } else { "no" };
        let (cases, disturbed) = (row.cases.to_string(), row.disturbed());
        let [name, note] = [row.name, row.note].map(Option::unwrap_or_default);
        vec![
            date(&run.environment),
            row.run,
            name,
            row.models,
            cases,
            finished.into(),
            disturbed,
            row.revision,
            row.hardware,
            note,
        ]
    };
    TextTable { header, rows: runs.iter().map(row).collect(), words: &[0, 1, 2, 3, 5, 6, 7, 8, 9] }
}
