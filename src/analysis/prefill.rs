//! How soon a prompt gives its first token, and at what rate its tokens are read.

use std::collections::BTreeSet;

use super::compare::{compare, Comparison};
use super::estimate::Estimate;
use super::figure::Figure;
use super::measurements::{Group, Measurements};
use crate::case::Case;
use crate::cost::Step;
use crate::record::{Environment, Metric};
use crate::strategy::Strategy;

/// Work on many rows at once, which the machine's arithmetic bounds and not its memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prefill {
    /// Its position is the length of the prompt.
    pub case: Case,
    /// [`Figure::Ttft`]
    pub ttft_ns: Estimate,
    /// [`Figure::PrefillTokensPerSecond`]
    pub tokens_per_second: Estimate,
    /// By the closed form of a forward pass; `None` where no peak was measured to compare it with.
    pub flops_per_second: Option<f64>,
    /// The same over that of the best matrix product measured in the run.
    pub of_peak: Option<f64>,
}

/// The same prompt in calls of so many tokens each, which servers do lest a long prompt hold up others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkedPrefill {
    /// Its position is the length of the prompt.
    pub case: Case,
    /// Tokens of a call.
    pub chunk: usize,
    /// Until the last call's logits.
    pub ttft_ns: Estimate,
    /// Over the time in one call, within rounds.
    pub vs_whole: Option<Comparison>,
}

/// Of a group, by position, strategy and chunk.
pub(super) fn chunked_prefills(found: &Measurements, group: Group) -> Vec<ChunkedPrefill> {
    let line = |(case, metric): (Case, Metric)| {
        let Metric::ChunkedPrefillNs(chunk) = metric else { return None };
        let series = found.series(&case, metric)?;
        let whole = found.series(&case, Metric::PrefillNs);
        let vs_whole = whole.and_then(|whole| compare(series, whole));
        Some(ChunkedPrefill { case, chunk, ttft_ns: series.median()?, vs_whole })
    };
    let of_group = found.measured().filter(|(case, _)| Group::of(case) == group);
    let mut lines: Vec<ChunkedPrefill> = of_group.filter_map(line).collect();
    lines.sort_by_key(|line| (line.case.position, line.case.strategy, line.chunk));
    lines
}

/// Of a group's cases at these positions, by position, then strategy.
pub(super) fn prefills(
    environment: &Environment,
    found: &Measurements,
    group: Group,
    positions: &[usize],
) -> Vec<Prefill> {
    let peak = environment.peak_flops_of(group.backend).map(|peak| peak as f64);
    let metrics = [Metric::StepNs, Metric::PrefillNs].into_iter();
    let strategies: BTreeSet<Strategy> = metrics.flat_map(|metric| found.strategies(group, metric)).collect();
    let cases = positions.iter().flat_map(|&t| strategies.iter().map(move |&s| group.case(s, t)));
    let prefill = |case: Case| {
        let ttft_ns = found.median(&case, Figure::Ttft.metric(case.strategy))?;
        let tokens_per_second = Figure::PrefillTokensPerSecond.of(&case, ttft_ns);
        let pass = if case.strategy.remembers() { case.under(Strategy::Naive) } else { case };
        let flops = Step::of(&pass).ok().filter(|_| peak.is_some()).map(|step| step.flops() as f64);
        let flops_per_second = flops.map(|flops| flops * 1e9 / ttft_ns.value);
        let of_peak = flops_per_second.zip(peak).map(|(rate, peak)| rate / peak);
        Some(Prefill { case, ttft_ns, tokens_per_second, flops_per_second, of_peak })
    };
    cases.filter_map(prefill).collect()
}
