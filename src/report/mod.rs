//! A run in words and tables: for a terminal, and as Markdown for a page. Everything is
//! computed by [`crate::analysis`]; this only says it.

mod action;
pub mod blocks;
mod brief;
pub mod builds;
mod cache_types;
mod cells;
pub mod check;
pub mod cite;
pub mod compare;
mod compiling;
mod headline;
mod html;
mod prefill;
mod reordering;
pub mod runs;

use clap::ValueEnum;

pub use action::github_action_benchmark;
pub use headline::sentence;
pub use html::html;

use cells::TextTable;

use crate::analysis::{
    self, counted, findings, is_headline, provenance, summary, Analysis, Comparison, Crossing, CrossingLine,
    Estimate, Finding, Group, Reordering, Summary, SummaryRow, Verdict,
};
use crate::error::{Error, Result};
use crate::harmless;
use crate::record::{Protocol, Run};
use crate::units::{interval, Quantity};

/// The run's tables as Markdown.
pub fn markdown(run: &Run) -> String {
    format!("{}\n{}", introduction(run), tables(run, Style::Markdown))
}

/// The same for a terminal.
pub fn table(run: &Run) -> String {
    format!("{}\n{}", introduction(run).replace('`', ""), tables(run, Style::Terminal))
}

fn tables(run: &Run, style: Style) -> String {
    let analysis = &Analysis::of(run);
    steps(analysis, style) + &compile_times(analysis, style) + &reorders(analysis, style)
}

/// A part of what a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Naive, concat and padded, at a short and a long position
    Brief,
    /// Findings, and for each model a table of steps and one of prefills
    Steps,
    /// Compile times of every shape
    Compile,
    /// Reorders of a beam search
    Reorders,
}

/// One part as Markdown, with the line that says where its numbers come from.
///
/// # Errors
/// When the run has nothing of it.
pub fn section(run: &Run, section: Section) -> Result<String> {
    let analysis = &Analysis::of(run);
    let text = match section {
        Section::Brief => return brief::brief(analysis),
        Section::Steps => steps(analysis, Style::Markdown),
        Section::Compile => compile_times(analysis, Style::Markdown),
        Section::Reorders => reorders(analysis, Style::Markdown),
    };
    if text.trim().is_empty() {
        return Err(Error::file(&run.path, "the run has no samples of this section"));
    }
    Ok(format!("{}\n{text}", introduction(run)))
}

/// Where a table is shown.
#[derive(Clone, Copy)]
enum Style {
    Markdown,
    Terminal,
}

impl Style {
    /// A table with its title and the notes below it.
    fn table(self, title: &str, cells: &TextTable, notes: impl IntoIterator<Item = String>) -> String {
        let (title, cells, mark) = match self {
            Style::Markdown => (format!("**{title}**"), cells.markdown(), "-"),
            Style::Terminal => (title.to_string(), cells.aligned(), " "),
        };
        let notes: String = notes.into_iter().map(|note| format!("{mark} {note}\n")).collect();
        format!("\n{title}\n\n{cells}\n{notes}")
    }
}

fn steps(analysis: &Analysis<'_>, style: Style) -> String {
    let table = |summary: &Summary| {
        let steps = style.table(&summary.group.to_string(), &cells(summary), notes(analysis.run, summary));
        let prefills = prefill::table(summary)
            .map(|(cells, notes)| style.table(&format!("{}: prefill", summary.group), &cells, notes));
        let chunked = prefill::chunked_table(summary).map(|cells| {
            style.table(&format!("{}: chunked prefill", summary.group), &cells, [prefill::CHUNKED.into()])
        });
        let types = cache_types::table(summary).map(|cells| {
            style.table(
                &format!("{}: against a cache in f32", summary.group),
                &cells,
                [cache_types::NOTE.into()],
            )
        });
        steps + &types.unwrap_or_default() + &prefills.unwrap_or_default() + &chunked.unwrap_or_default()
    };
    headlines(analysis) + &summary(analysis).iter().map(table).collect::<String>()
}

fn compile_times(analysis: &Analysis<'_>, style: Style) -> String {
    let table = |group: Group| {
        let (cells, notes) = compiling::table(&analysis::compiling(&analysis.tables, group))?;
        Some(style.table(&format!("{group}: compiling"), &cells, notes))
    };
    analysis.tables.groups().into_iter().filter_map(table).collect()
}

fn reorders(analysis: &Analysis<'_>, style: Style) -> String {
    let table = |(group, lines): (Group, Vec<Reordering>)| {
        let title = format!("{}: beams", group.without_batch());
        style.table(&title, &reordering::table(&lines), [reordering::WHAT.into()])
    };
    analysis::reordering(&analysis.tables).into_iter().map(table).collect()
}

/// The run's findings, group by group, as a nested list that a terminal shows as well as Markdown.
fn headlines(analysis: &Analysis<'_>) -> String {
    let findings = findings(analysis);
    let group = |found: &[Finding]| {
        let lines = found.iter().map(|finding| format!("  - {}\n", sentence(finding)));
        format!("\n- {}:\n{}", found[0].group, lines.collect::<String>())
    };
    findings.chunk_by(|a, b| a.group == b.group).map(group).collect()
}

fn introduction(run: &Run) -> String {
    let [on, with] = &provenance(&run.environment)[..] else { return String::new() };
    let unfinished = if run.environment.finished_utc.is_none() { " The run is unfinished." } else { "" };
    let noise = run.marked().0.map(|_| harmless::words(&run.noise_summary()));
    let notes: String =
        noise.into_iter().chain(run.notes.iter().cloned()).map(|note| format!(" {note}.")).collect();
    let called = run.environment.name.as_ref().map(|name| format!(" ({})", harmless::name(name)));
    let called = called.unwrap_or_default();
    format!(
        "Run `{}`{called}: {on}; {with}. Medians with their 95 % intervals; n is the number of rounds, or of samples where there are no rounds; \
         † a ratio of two cases that do not share rounds.{unfinished}{notes}",
        harmless::name(&run.name())
    )
}

fn cells(summary: &Summary) -> TextTable {
    let header = vec![
        "position",
        "strategy",
        "step",
        "n",
        "decode tokens/s",
        "× floor",
        "against naive",
        "against concat",
        "cache",
        "peak",
        "allocations",
    ];
    TextTable { header, rows: summary.lines.iter().map(row).collect(), words: &[1, 2, 4, 6, 7] }
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
        line.tokens_per_second.map(|rate| Quantity::Tokens.show_estimate(rate)).unwrap_or_default(),
        line.floor_multiple.map(plain).unwrap_or_default(),
        line.vs_naive.as_ref().map(comparison).unwrap_or_default(),
        line.vs_concat.as_ref().map(comparison).unwrap_or_default(),
        bytes(line.allocated_bytes),
        bytes(line.transient_bytes),
        line.step_allocs.map(|n| n.to_string()).unwrap_or_default(),
    ]
}

/// `12.3 × faster [11.2, 13.8]`: how many of these steps the other's step lasts, or the other way round.
pub(crate) fn comparison(found: &Comparison) -> String {
    let mark = found.pairing.mark();
    let inverse = found.ratio.inverse();
    let said = |word: &str, ratio: Estimate| {
        let [value, lo, hi] = [ratio.value, ratio.lo, ratio.hi].map(plain);
        format!("{value} × {word} [{lo}, {hi}]{mark}")
    };
    match found.verdict {
        Verdict::Faster => said("faster", inverse),
        Verdict::Slower => said("slower", found.ratio),
        Verdict::NotDistinguishable => said("as fast", inverse) + ", not distinguishable",
    }
}

fn plain(x: f64) -> String {
    Quantity::Tokens.show(x)
}

/// What the run's headlines leave out.
fn notes<'a>(run: &'a Run, summary: &'a Summary) -> impl Iterator<Item = String> + 'a {
    let crossings = summary.crossings.iter().filter(|line| !is_headline(line.first, line.second));
    let short = summary.lines.iter().filter_map(|line| near_the_clock(run, line));
    let steps = of_decodes(run, summary).into_iter();
    let disturbed = summary.lines.iter().filter_map(without_disturbed);
    steps.chain(disturbed).chain(crossings.map(crossing)).chain(short)
}

/// Of a row that differs for the disturbed rounds that it leaves out.
fn without_disturbed(line: &SummaryRow) -> Option<String> {
    let (without, with) = (line.step_ns?, line.with_disturbed_ns?);
    let shown = |step: Estimate| Quantity::Nanoseconds.show_estimate(step);
    (shown(without) != shown(with)).then(|| {
        let left_out = counted((with.n - without.n) as u64, "disturbed round");
        format!("{}: without {left_out}; with them {}, n = {}.", line.case, shown(with), with.n)
    })
}

/// How the steps of a table were sampled, in a run whose steps may be those of decodes.
fn of_decodes(run: &Run, summary: &Summary) -> Option<String> {
    let most = run.environment.step_window?;
    let sampled = summary.lines.iter().filter(|line| line.protocol.is_some());
    let (decoded, others): (Vec<_>, Vec<_>) = sampled.partition(|l| l.protocol == Some(Protocol::Decode));
    let others: Vec<String> = others.iter().map(|line| line.case.to_string()).collect();
    let except = match others.len() {
        0 => String::new(),
        _ => format!("; not {}, whose steps are of copies", others.join(", ")),
    };
    (!decoded.is_empty()).then(|| {
        format!(
            "Steps of decodes: the median of at most {most} that end at the position, in each round{except}."
        )
    })
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
