//! A figure to paste into somebody else's text, with everything that is needed to find and to repeat it:
//! as a sentence, as the row of a table, as BibTeX. [`super::check`] makes all three again.

use super::cells::TextTable;
use super::compare::verdict;
use crate::analysis::provenance::{hardware, revision};
use crate::analysis::{tabled, Citation, Figure};
use crate::case::Case;
use crate::harmless::{name, words};
use crate::record::{Metric, Protocol};
use crate::suite;
use crate::units::Quantity;

/// One sentence on one line.
pub fn sentence(citation: &Citation<'_>) -> String {
    let Citation { run, case, figure, value, .. } = citation;
    let confidence = match value.n {
        1 => "a single value".to_string(),
        _ => format!("median with its {:.0} % interval", value.confidence * 100.0),
    };
    let ratio =
        citation.other.as_ref().map(|other| format!(", {} that of `{}`", ratio(citation), other.case));
    let on = hardware(&run.environment);
    format!(
        "decode-bench {}: `{case}` {} {}, {confidence}{}, on {on}; {}, {}, weights from seed {}; run `{}`; \
         again by `{}`; rows {}.",
        name(&run.environment.tool_version),
        does(*figure),
        measured(citation),
        ratio.unwrap_or_default(),
        revision(&run.environment),
        date(citation),
        run.environment.seed,
        name(&run.name()),
        command(citation),
        hash(citation)
    )
}

/// The same as a table, one row for each.
pub fn table(citations: &[Citation<'_>]) -> String {
    let header = vec!["case", "value", "ratio", "to", "hardware", "revision", "date", "again by", "rows"];
    let row = |citation: &Citation<'_>| {
        let other = citation.other.as_ref();
        vec![
            citation.case.to_string(),
            measured(citation),
            other.map(|_| ratio(citation)).unwrap_or_default(),
            other.map(|other| other.case.to_string()).unwrap_or_default(),
            hardware(&citation.run.environment),
            revision(&citation.run.environment),
            date(citation),
            command(citation),
            hash(citation),
        ]
    };
    let words = &[0, 1, 2, 3, 4, 5, 6, 7, 8];
    TextTable { header, rows: citations.iter().map(row).collect(), words }.markdown()
}

/// The citation as an entry for BibTeX.
pub fn bibtex(citation: &Citation<'_>) -> String {
    let date = day(citation);
    let mut parts = date.split('-');
    let (year, month) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!(
        "@misc{{decode-bench-{},\n  title = {{decode-bench: {}}},\n  year = {{{}}},\n  month = {{{}}},\n  note = {{{}}},\n}}\n",
        citation.hash,
        latex(&citation.case.to_string()),
        latex(year),
        latex(month),
        latex(&sentence(citation).replace('`', ""))
    )
}

fn does(figure: Figure) -> &'static str {
    match figure {
        Figure::Metric(_) | Figure::Ttft => "takes",
        Figure::DecodeTokensPerSecond => "decodes",
        Figure::PrefillTokensPerSecond => "prefills",
    }
}

/// `406 [380, 498] µs (step_ns, n = 12)`
fn measured(citation: &Citation<'_>) -> String {
    let Citation { figure, value, .. } = citation;
    format!("{} ({figure}, n = {})", Quantity::of_figure(*figure).show_estimate(*value), value.n)
}

/// `0.741 [0.630, 0.872] × (faster, n = 12)`, or nothing.
fn ratio(citation: &Citation<'_>) -> String {
    let ratio = citation.other.as_ref().map(|other| {
        let found = &other.comparison;
        let word = verdict(metric(citation), found.verdict);
        format!("{} ({word}, n = {})", Quantity::Multiple.show_estimate(found.ratio), found.ratio.n)
    });
    ratio.unwrap_or_default()
}

/// That the cited rows are of.
fn metric(citation: &Citation<'_>) -> Metric {
    citation.figure.metric(citation.case.strategy)
}

/// `2026-11-22`; rows may follow in a run that is unfinished.
fn date(citation: &Citation<'_>) -> String {
    let environment = &citation.run.environment;
    let unfinished = if environment.finished_utc.is_none() { " (unfinished run)" } else { "" };
    format!("{}{unfinished}", day(citation))
}

fn day(citation: &Citation<'_>) -> String {
    name(&citation.run.environment.started_utc).chars().take(10).collect()
}

fn hash(citation: &Citation<'_>) -> String {
    let other = citation.other.as_ref().map(|other| format!("+{}", other.hash));
    format!("sha256:{}{}", citation.hash, other.unwrap_or_default())
}

/// What measures the same again; of a case that this program cannot run, what its run was called with.
fn command(citation: &Citation<'_>) -> String {
    let environment = &citation.run.environment;
    let cases: Vec<Case> =
        [citation.case].into_iter().chain(citation.other.as_ref().map(|o| o.case)).collect();
    let known = suite::all();
    let like = |case: &Case| known.iter().any(|k| k.at(1) == case.at(1));
    let tabled = tabled(citation.run);
    let of_tables = metric(citation) == Metric::StepNs && environment.step_window.is_some();
    let of_tables = of_tables && cases.iter().all(|case| tabled.contains(case));
    let traced = citation.protocol == Protocol::Decode && !of_tables;
    let measured = match () {
        () if traced && cases.iter().all(like) => trace(citation, &cases),
        () if cases.iter().all(|case| known.contains(case)) => {
            let ids: Vec<String> = cases.iter().map(Case::to_string).collect();
            format!("cargo bench -- '^({})$'", ids.join("|"))
        }
        () => return words(&environment.command_line.join(" ")),
    };
    let revision = environment.git_revision.as_deref().map(name);
    let checkout = revision.map(|r| format!("git checkout {} && ", r.chars().take(12).collect::<String>()));
    let (threads, seed) = (environment.threads, environment.seed);
    format!("{}{measured} --threads {threads} --seed {seed}", checkout.unwrap_or_default())
}

fn trace(citation: &Citation<'_>, cases: &[Case]) -> String {
    let decoded = citation.run.samples.iter().filter(|s| s.round.is_decode());
    let alike = decoded.filter(|s| s.case.at(1) == citation.case.at(1)).map(|s| s.case.position);
    let tokens = alike.max().unwrap_or(citation.case.position);
    let stem = |case: &Case| {
        let id = case.to_string();
        id[..=id.rfind('/').unwrap_or(0)].to_string()
    };
    let stems: Vec<String> = cases.iter().map(stem).collect();
    format!("cargo run --release -- trace --filter '^({})' --tokens {tokens}", stems.join("|"))
}

fn latex(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '%' | '_' | '&' | '#' | '$' | '{' | '}' => escaped.extend(['\\', c]),
            '\\' | '~' => escaped.push(' '),
            '^' => escaped.push_str("\\^{}"),
            c => escaped.push(c),
        }
    }
    escaped
}
