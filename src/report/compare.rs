//! Comparisons as a table, as Markdown, as CSV, as JSON: the same rows each time, rounded in the first two.

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde::Serialize;

use super::cells::TextTable;
use crate::analysis::provenance::{differing, hardware, revision};
use crate::analysis::{Estimate, Figure, Gap, Measured, Pairing, Side, Verdict, Versus, Wanting};
use crate::case::Case;
use crate::error::{Error, Result};
use crate::harmless;
use crate::record::{Metric, Run, Unit};
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

/// One row per comparison and per gap, told as a figure that follows from their metric, and in what runs differ that are
/// compared.
pub fn comparisons(found: &[Versus<'_>], gaps: &[Gap<'_>], figure: Figure, format: Format) -> Result<String> {
    let pairs = pairs(found, gaps);
    let rows =
        || found.iter().map(|v| row(v, figure, &pairs)).chain(gaps.iter().map(|g| gap(g, figure, &pairs)));
    match format {
        Format::Table => Ok(cells(found, gaps, figure, &pairs).aligned() + &differences(&pairs, "  ", "")),
        Format::Markdown => {
            Ok(cells(found, gaps, figure, &pairs).markdown() + &differences(&pairs, "\n", "`"))
        }
        Format::Csv => csv(rows().map(Row::harmless)),
        Format::Json => json(rows()),
    }
}

/// Two runs that are held against each other.
struct Pair<'a> {
    run: &'a Run,
    base: &'a Run,
    /// In what conditions.
    differing: String,
}

impl Pair<'_> {
    fn is(&self, run: &Run, base: &Run) -> bool {
        std::ptr::eq(self.run, run) && std::ptr::eq(self.base, base)
    }
}

/// Each two runs once, for all samples of both are looked at. Of several a side, each with the base's first.
fn pairs<'a>(found: &[Versus<'a>], gaps: &[Gap<'a>]) -> Vec<Pair<'a>> {
    let all = found.iter().flat_map(Versus::runs).chain(gaps.iter().map(|gap| (gap.one.run, gap.base.run)));
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    for (run, base) in all.filter(|(run, base)| !std::ptr::eq(*run, *base)) {
        if !pairs.iter().any(|pair| pair.is(run, base)) {
            pairs.push(Pair { run, base, differing: differing(base, run) });
        }
    }
    pairs
}

/// A line for each two runs.
fn differences(pairs: &[Pair<'_>], before: &str, quote: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for Pair { run, base, differing } in pairs.iter().filter(|pair| !pair.differing.is_empty()) {
        let [run, base] = [run, base].map(|run| format!("{quote}{}{quote}", harmless::name(&run.name())));
        let line = format!("{before}{run} differs from {base} in {differing}\n");
        lines.extend(Some(line).filter(|line| !lines.contains(line)));
    }
    lines.concat()
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

/// One comparison without rounding, in the metric's unit; of a gap, what there is. The base's columns begin with
/// `base_`.
#[derive(Default, Serialize)]
struct Row {
    case: String,
    metric: String,
    run: String,
    hardware: String,
    threads: u64,
    revision: String,
    value: Option<f64>,
    lo: Option<f64>,
    hi: Option<f64>,
    n: Option<usize>,
    floor_multiple: Option<f64>,
    base_case: String,
    base_run: String,
    base_hardware: String,
    base_threads: u64,
    base_revision: String,
    base_value: Option<f64>,
    base_lo: Option<f64>,
    base_hi: Option<f64>,
    base_n: Option<usize>,
    base_floor_multiple: Option<f64>,
    ratio: Option<f64>,
    ratio_lo: Option<f64>,
    ratio_hi: Option<f64>,
    ratio_n: Option<usize>,
    /// Whether the ratio is formed within rounds.
    paired: Option<bool>,
    aa_band: Option<f64>,
    verdict: Option<&'static str>,
    /// Why the case has no value, and why its base has none.
    wanting: String,
    base_wanting: String,
    /// Conditions in which the two runs differ.
    differences: String,
}

fn row(found: &Versus<'_>, figure: Figure, pairs: &[Pair<'_>]) -> Row {
    let Versus { metric, one, base, comparison, .. } = found;
    let ratio = comparison.map(|c| told(figure, c.ratio));
    let side = |side: &Measured<'_>| {
        (origin(side.runs), side.runs[0].environment.threads, side.case, Some(side.value))
    };
    let differences = found.runs().filter_map(|(run, base)| differing_of(pairs, run, base));
    Row {
        differences: differences.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; "),
        floor_multiple: one.floor_multiple,
        base_floor_multiple: base.floor_multiple,
        ratio: ratio.map(|ratio| ratio.value),
        ratio_lo: ratio.map(|ratio| ratio.lo),
        ratio_hi: ratio.map(|ratio| ratio.hi),
        ratio_n: ratio.map(|ratio| ratio.n),
        paired: comparison.map(|c| c.pairing == Pairing::Rounds),
        aa_band: comparison.and_then(|c| c.aa_band),
        verdict: comparison.map(|c| verdict(*metric, c.verdict)),
        ..sides(figure, side(one), side(base))
    }
}

fn gap(Gap { one, base }: &Gap<'_>, figure: Figure, pairs: &[Pair<'_>]) -> Row {
    let value = |side: &Side<'_>| side.found.as_ref().ok().copied();
    let wanting = |side: &Side<'_>| side.found.as_ref().err().map(wanting).unwrap_or_default();
    let known = |side: &Side<'_>| {
        (origin(std::slice::from_ref(side.run)), side.run.environment.threads, side.case, value(side))
    };
    Row {
        wanting: wanting(one),
        base_wanting: wanting(base),
        differences: differing_of(pairs, one.run, base.run).unwrap_or_default().into(),
        ..sides(figure, known(one), known(base))
    }
}

/// Conditions in which two runs differ.
fn differing_of<'a>(pairs: &'a [Pair<'_>], run: &Run, base: &Run) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.is(run, base)).map(|pair| pair.differing.as_str()).filter(|d| !d.is_empty())
}

/// Origin, threads, case and value.
type Known = ([String; 3], u64, Case, Option<Estimate>);

/// What is known of both sides without comparing them.
fn sides(figure: Figure, one: Known, base: Known) -> Row {
    let ([run, hardware, revision], threads, case, value) = one;
    let ([base_run, base_hardware, base_revision], base_threads, base_case, base) = base;
    let value = value.map(|value| figure.of(&case, value));
    let base = base.map(|base| figure.of(&base_case, base));
    Row {
        case: case.to_string(),
        metric: figure.to_string(),
        run,
        hardware,
        threads,
        revision,
        value: value.map(|value| value.value),
        lo: value.map(|value| value.lo),
        hi: value.map(|value| value.hi),
        n: value.map(|value| value.n),
        base_case: base_case.to_string(),
        base_run,
        base_hardware,
        base_threads,
        base_revision,
        base_value: base.map(|base| base.value),
        base_lo: base.map(|base| base.lo),
        base_hi: base.map(|base| base.hi),
        base_n: base.map(|base| base.n),
        ..Row::default()
    }
}

/// `missing`, `failed: out of memory`
fn wanting(wanting: &Wanting) -> String {
    match wanting {
        Wanting::Missing => "missing".into(),
        Wanting::Failed(error) => format!("failed: {}", harmless::name(error)),
        Wanting::Otherwise => "of another protocol".into(),
    }
}

impl Row {
    fn harmless(mut self) -> Row {
        let texts = [
            &mut self.run,
            &mut self.hardware,
            &mut self.revision,
            &mut self.base_run,
            &mut self.base_hardware,
            &mut self.base_revision,
            &mut self.wanting,
            &mut self.base_wanting,
            &mut self.differences,
        ];
        texts.into_iter().for_each(|text| *text = harmless::spreadsheet_cell(text));
        self
    }
}

pub(super) fn csv(rows: impl Iterator<Item = impl Serialize>) -> Result<String> {
    let failed = |e: String| Error::Input(format!("the rows cannot be written as CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|e| failed(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| failed(e.to_string()))
}

pub(super) fn json(rows: impl Iterator<Item = impl Serialize>) -> Result<String> {
    let rows: Vec<_> = rows.collect();
    let json = serde_json::to_string_pretty(&rows).map_err(|e| Error::Input(e.to_string()))?;
    Ok(json + "\n")
}

fn cells(found: &[Versus<'_>], gaps: &[Gap<'_>], figure: Figure, pairs: &[Pair<'_>]) -> TextTable {
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
    let shown = if pairs.is_empty() { header.len() - 3 } else { header.len() };
    let rows = found.iter().map(|v| human(v, figure)).chain(gaps.iter().map(|gap| human_gap(gap, figure)));
    let rows = rows.map(|row| row[..shown].to_vec()).collect();
    TextTable { header: header[..shown].to_vec(), rows, words: &[0, 1, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15] }
}

fn human(found: &Versus<'_>, figure: Figure) -> Vec<String> {
    let Versus { metric, one, base, comparison, .. } = found;
    let side = |m: &Measured<'_>| {
        let floor = m.floor_multiple.map(|x| Quantity::Tokens.show(x)).unwrap_or_default();
        [m.case.to_string(), shown(figure, &m.case, m.value), m.value.n.to_string(), floor]
    };
    let ratio = comparison
        .map(|c| format!("{}{}", Quantity::Tokens.show_estimate(told(figure, c.ratio)), c.pairing.mark()));
    let verdict = comparison.map(|c| verdict(*metric, c.verdict).to_string());
    let judged = [ratio.unwrap_or_default(), verdict.unwrap_or_default()];
    [&side(one)[..], &side(base), &judged, &origin(one.runs), &origin(base.runs)].concat()
}

fn human_gap(Gap { one, base }: &Gap<'_>, figure: Figure) -> Vec<String> {
    let side = |side: &Side<'_>| {
        let (value, n) = match &side.found {
            Ok(value) => (shown(figure, &side.case, *value), value.n.to_string()),
            Err(why) => (wanting(why), String::new()),
        };
        [side.case.to_string(), value, n, String::new()]
    };
    let judged = [String::new(), "not compared".into()];
    let origin = |side: &Side<'_>| origin(std::slice::from_ref(side.run));
    [&side(one)[..], &side(base), &judged, &origin(one), &origin(base)].concat()
}

fn shown(figure: Figure, case: &Case, value: Estimate) -> String {
    Quantity::of_figure(figure).show_estimate(figure.of(case, value))
}

/// A ratio of times as one of rates, where those are told.
fn told(figure: Figure, ratio: Estimate) -> Estimate {
    match figure.is_rate() {
        true => ratio.inverse(),
        false => ratio,
    }
}

/// Name, hardware and revision; of several runs all that there are.
fn origin(runs: &[Run]) -> [String; 3] {
    let joined = |of: &dyn Fn(&Run) -> String, between: &str| {
        let mut all: Vec<String> = Vec::new();
        runs.iter().map(of).for_each(|text| all.extend(Some(text).filter(|text| !all.contains(text))));
        all.join(between)
    };
    [
        joined(&|run| harmless::name(&run.name()), ", "),
        joined(&|run| hardware(&run.environment), " and "),
        joined(&|run| revision(&run.environment), " and "),
    ]
}
