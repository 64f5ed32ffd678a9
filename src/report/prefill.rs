//! The table of prefills: how soon a prompt gives its first token.

use super::{comparison, TextTable};
use crate::analysis::{ChunkedPrefill, Figure, Prefill, Summary};
use crate::units::Quantity;

/// What the times are of, below every table of them.
const WHAT: &str =
    "A prompt fed in one call to an empty session; the logits of its last token give the first one.";
const STEPS: &str = "Without a cache every step feeds the whole sequence: it is such a prefill.";
/// The same of prompts in chunks.
pub const CHUNKED: &str =
    "The same prompts fed in calls of so many tokens, each way in turn with one call for all; every call computes the \
     logits of its last token.";
const SOURCE: &str = "The source is encoded before, outside of the time.";

/// With what has to be said below it; `None` where nothing was prefilled.
pub fn table(summary: &Summary) -> Option<(TextTable, Vec<String>)> {
    let lines = &summary.prefills;
    let first = lines.first()?;
    let steps = lines.iter().any(|line| !line.case.strategy.remembers()).then_some(STEPS);
    let source = (!Figure::Ttft.applies_to(&first.case)).then_some(SOURCE);
    let notes = [Some(WHAT), steps, source].into_iter().flatten().map(String::from);
    Some((cells(lines), notes.collect()))
}

fn cells(lines: &[Prefill]) -> TextTable {
    let header =
        vec!["prompt", "strategy", "time to first token", "n", "prefill tokens/s", "GFLOP/s", "of peak"];
    TextTable { header, rows: lines.iter().map(row).collect(), words: &[1, 2, 4] }
}

fn row(line: &Prefill) -> Vec<String> {
    vec![
        line.case.position.to_string(),
        line.case.strategy.to_string(),
        Quantity::Nanoseconds.show_estimate(line.ttft_ns),
        line.ttft_ns.n.to_string(),
        Quantity::Tokens.show_estimate(line.tokens_per_second),
        line.flops_per_second.map(|rate| format!("{:.0}", rate / 1e9)).unwrap_or_default(),
        line.of_peak.map(|part| format!("{:.0} %", part * 100.0)).unwrap_or_default(),
    ]
}

/// What each cell is sorted by.
pub fn keys(line: &Prefill) -> [Option<f64>; 7] {
    [
        Some(line.case.position as f64),
        None,
        Some(line.ttft_ns.value),
        Some(line.ttft_ns.n as f64),
        Some(line.tokens_per_second.value),
        line.flops_per_second,
        line.of_peak,
    ]
}

/// `None` where no prompt was fed in chunks.
pub fn chunked_table(summary: &Summary) -> Option<TextTable> {
    let header = vec!["prompt", "strategy", "tokens a call", "time to first token", "n", "against one call"];
    let rows: Vec<Vec<String>> = summary.chunked_prefills.iter().map(chunked_row).collect();
    (!rows.is_empty()).then_some(TextTable { header, rows, words: &[1, 3, 5] })
}

fn chunked_row(line: &ChunkedPrefill) -> Vec<String> {
    vec![
        line.case.position.to_string(),
        line.case.strategy.to_string(),
        line.chunk.to_string(),
        Quantity::Nanoseconds.show_estimate(line.ttft_ns),
        line.ttft_ns.n.to_string(),
        line.vs_whole.as_ref().map(comparison).unwrap_or_default(),
    ]
}

/// What each cell is sorted by.
pub fn chunked_keys(line: &ChunkedPrefill) -> [Option<f64>; 6] {
    [
        Some(line.case.position as f64),
        None,
        Some(line.chunk as f64),
        Some(line.ttft_ns.value),
        Some(line.ttft_ns.n as f64),
        line.vs_whole.as_ref().map(|found| 1.0 / found.ratio.value), // as fast
    ]
}
