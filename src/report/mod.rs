//! A run in words and tables: for a terminal, and as Markdown to splice into a page. Everything is
//! computed by [`crate::analysis`]; this only says it.

mod cells;
pub mod check;
pub mod cite;
pub mod compare;
mod compiling;
mod headline;
mod html;
mod reordering;

use std::fmt::Write;
use std::path::Path;

pub use headline::sentence;
pub use html::html;

use crate::units::{interval, Quantity};
use cells::TextTable;

use crate::analysis::{
    findings, is_headline, provenance, summary, Arithmetic, Comparison, Crossing, CrossingLine, Finding,
    Pairing, Summary, SummaryRow,
};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::record::{Metric, Run};

pub const BEGIN: &str = "<!-- decode-bench:begin -->";
pub const END: &str = "<!-- decode-bench:end -->";

/// The run's tables as Markdown.
pub fn markdown(run: &Run) -> String {
    let mut text = format!("{}\n{}", introduction(run), headlines(run));
    for summary in summary(run) {
        let _ = write!(text, "\n**{}**\n\n{}", summary.group, cells(&summary).markdown());
        let notes = notes(run, &summary).map(|line| format!("- {line}\n"));
        let _ = write!(text, "\n{}", notes.collect::<String>());
    }
    for (group, cells, notes) in compiling::tables(run) {
        let notes: String = notes.iter().map(|note| format!("- {note}\n")).collect();
        let _ = write!(text, "\n**{group}: compiling**\n\n{}\n{notes}", cells.markdown());
    }
    for (title, cells, note) in reordering::tables(run) {
        let _ = write!(text, "\n**{title}**\n\n{}\n- {note}\n", cells.markdown());
    }
    text
}

/// The same for a terminal.
pub fn table(run: &Run) -> String {
    let mut text = format!("{}\n{}", introduction(run).replace('`', ""), headlines(run));
    for summary in summary(run) {
        let _ = write!(text, "\n{}\n\n{}", summary.group, cells(&summary).aligned());
        let notes = notes(run, &summary).map(|line| format!("  {line}\n"));
        let _ = write!(text, "\n{}", notes.collect::<String>());
    }
    for (group, cells, notes) in compiling::tables(run) {
        let notes: String = notes.iter().map(|note| format!("  {note}\n")).collect();
        let _ = write!(text, "\n{group}: compiling\n\n{}\n{notes}", cells.aligned());
    }
    text + &reordering(run)
}

/// The tables of reorders alone, for a terminal.
fn reordering(run: &Run) -> String {
    let tables = reordering::tables(run).into_iter();
    tables.map(|(title, cells, note)| format!("\n{title}\n\n{}\n  {note}\n", cells.aligned())).collect()
}

/// The run's findings, group by group, as a nested list that a terminal shows as well as Markdown.
fn headlines(run: &Run) -> String {
    let findings = findings(run);
    let group = |found: &[Finding]| {
        let lines = found.iter().map(|finding| format!("  - {}\n", sentence(finding)));
        format!("\n- {}:\n{}", found[0].group, lines.collect::<String>())
    };
    findings.chunk_by(|a, b| a.group == b.group).map(group).collect()
}

/// `page` with `section` between its markers in place of what was there.
pub fn splice(page: &str, section: &str) -> Result<String> {
    let missing =
        |marker: &str| Error::Input(format!("nowhere to splice to: the line `{marker}` is missing"));
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    if after.contains(BEGIN) || after.contains(END) {
        return Err(Error::Input(format!("`{BEGIN}` and `{END}` must each be there once")));
    }
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", section.trim_end()))
}

/// [`splice`] for a file, which is replaced as a whole or left as it was.
pub fn splice_file(path: &Path, section: &str) -> Result<()> {
    let page = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let page = splice(&page, section).map_err(|e| Error::file(path, e))?;
    write_atomically(path, page.as_bytes())
}

fn introduction(run: &Run) -> String {
    let [on, with] = &provenance(&run.environment)[..] else { return String::new() };
    let unfinished = if run.environment.finished_utc.is_none() { " The run is unfinished." } else { "" };
    // runs before there were marks do not say how they sampled
    let clean = run.environment.sampling.iter().map(|_| run.noise_summary());
    let notes: String = clean.chain(run.notes.iter().cloned()).map(|note| format!(" {note}.")).collect();
    format!(
        "Run `{}`: {on}; {with}. Medians with their 95 % intervals; n is the number of rounds, or of samples where there are no rounds; \
         ratios are times over naive's or concat's, † where they are not from the same rounds.{unfinished}{notes}",
        run.name()
    )
}

fn cells(summary: &Summary) -> TextTable {
    let header = vec![
        "position",
        "strategy",
        "step",
        "n",
        "× floor",
        "/ naive",
        "/ concat",
        "cache",
        "peak",
        "allocations",
    ];
    TextTable { header, rows: summary.lines.iter().map(row).collect(), words: &[1, 2, 5, 6] }
}

fn row(line: &SummaryRow) -> Vec<String> {
    let bytes = |value: Option<f64>| value.map(|bytes| Quantity::Bytes.show(bytes)).unwrap_or_default();
    let step = line.step_ns.map(|step| Quantity::Nanoseconds.show_estimate(step));
    let failed = line.error.as_ref().map(|error| format!("failed: {error}"));
    vec![
        line.case.position.to_string(),
        line.case.strategy.to_string(),
        [step, failed].into_iter().flatten().collect::<Vec<_>>().join("; "),
        line.step_ns.map(|e| e.n.to_string()).unwrap_or_default(),
        line.floor_multiple.map(plain).unwrap_or_default(),
        line.vs_naive.as_ref().map(comparison).unwrap_or_default(),
        line.vs_concat.as_ref().map(comparison).unwrap_or_default(),
        bytes(line.allocated_bytes),
        bytes(line.transient_bytes),
        line.step_allocs.map(|n| n.to_string()).unwrap_or_default(),
    ]
}

/// `0.118 [0.115, 0.121] faster`
fn comparison(found: &Comparison) -> String {
    let mark = if found.pairing == Pairing::Unpaired { " †" } else { "" };
    format!("{} {}{mark}", Quantity::Tokens.show_estimate(found.ratio), found.verdict.name())
}

fn plain(x: f64) -> String {
    Quantity::Tokens.show(x)
}

/// What the run's headlines leave out.
fn notes<'a>(run: &'a Run, summary: &'a Summary) -> impl Iterator<Item = String> + 'a {
    let crossings = summary.crossings.iter().filter(|line| !is_headline(line.first, line.second));
    let short = summary.lines.iter().filter_map(|line| near_the_clock(run, line));
    crossings.map(crossing).chain(summary.arithmetic.iter().map(rate)).chain(short)
}

/// A step that takes less than this many times what reading the clock costs is marked; nothing is subtracted.
const MANY: f64 = 100.0;

fn near_the_clock(run: &Run, line: &SummaryRow) -> Option<String> {
    let (clock, step) = (run.environment.timer_overhead_ns?, line.step_ns?.value);
    (step < MANY * clock as f64).then(|| {
        format!(
            "{}: its step is less than {MANY} times the {clock} ns that reading the clock costs.",
            line.case
        )
    })
}

/// `prefill of 512 tokens, padded: 45.1 [44.9, 46.0] ms, 121 GFLOP/s, 78 % of the best product's.`
fn rate(found: &Arithmetic) -> String {
    let Arithmetic { case, metric, time_ns, flops_per_second, of_peak } = found;
    let what = match metric {
        Metric::PrefillNs => format!("prefill of {} tokens, {}", case.position, case.strategy),
        _ => format!("{} at position {}", case.strategy, case.position),
    };
    let (time, rate) = (Quantity::Nanoseconds.show_estimate(*time_ns), flops_per_second / 1e9);
    format!("{what}: {time}, {rate:.0} GFLOP/s, {:.0} % of the best product's.", of_peak * 100.0)
}

fn crossing(line: &CrossingLine) -> String {
    let CrossingLine { first, second, crossing, from, to } = line;
    match *crossing {
        Crossing::At { position, lo, hi, before, after } => format!(
            "{first} is {} than {second} from position {position} [{}] on, and {} before.",
            after.name(),
            interval(lo, hi),
            before.name()
        ),
        Crossing::Everywhere(verdict) => format!(
            "{first} is {} than {second} from the first position measured to the last ({from} to {to}).",
            verdict.name()
        ),
        Crossing::Overall(verdict) => format!(
            "{first} is {} than {second} over positions {from} to {to} together; from which on, the rounds do not tell.",
            verdict.name()
        ),
        Crossing::Undecided => {
            format!("{first} against {second}: the rounds do not tell them apart ({from} to {to}).")
        }
    }
}

#[cfg(test)]
mod tests;
