//! What is told of a metric's samples: the metric itself, or what follows from it under the name that the field has
//! for it. Nothing derived is stored.

use std::fmt;
use std::str::FromStr;

use super::estimate::Estimate;
use crate::case::Case;
use crate::error::{Error, Result};
use crate::model::source_rows;
use crate::record::Metric;
use crate::strategy::Strategy;

/// A number that a case has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// As it was measured.
    Metric(Metric),
    /// The sentences of the batch over the time of a step.
    DecodeTokensPerSecond,
    /// Time to first token: of a prompt as long as the case's position, fed in one call to an empty session. The logits
    /// of its last token give the first one.
    Ttft,
    /// The tokens of the batch's prompts over the time to first token.
    PrefillTokensPerSecond,
}

impl Figure {
    const DERIVED: [Figure; 3] =
        [Figure::DecodeTokensPerSecond, Figure::Ttft, Figure::PrefillTokensPerSecond];

    /// All of them, without those that have a parameter.
    pub fn all() -> impl Iterator<Item = Figure> {
        Metric::ALL.iter().map(|&metric| Figure::Metric(metric)).chain(Figure::DERIVED)
    }

    /// What is told of a case's samples of this metric.
    pub fn told_of(case: Case, metric: Metric) -> impl Iterator<Item = Figure> {
        let derived = Figure::DERIVED.into_iter();
        let derived = derived.filter(move |f| f.applies_to(&case) && f.metric(case.strategy) == metric);
        [Figure::Metric(metric)].into_iter().chain(derived)
    }

    /// Without a parameter, as `--metric` takes it and as citations have it, with the unit.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Metric(metric) => metric.name(),
            Figure::DecodeTokensPerSecond => "decode_tokens_per_second",
            Figure::Ttft => "ttft_ns",
            Figure::PrefillTokensPerSecond => "prefill_tokens_per_second",
        }
    }

    /// That its samples are of. Without a cache a step feeds the whole sequence: it is a prefill.
    pub fn metric(self, strategy: Strategy) -> Metric {
        match self {
            Figure::Metric(metric) => metric,
            Figure::Ttft | Figure::PrefillTokensPerSecond if strategy.remembers() => Metric::PrefillNs,
            Figure::DecodeTokensPerSecond | Figure::Ttft | Figure::PrefillTokensPerSecond => Metric::StepNs,
        }
    }

    /// Whether a case has it. A source is encoded before the first token, outside of a prefill's time.
    pub fn applies_to(self, case: &Case) -> bool {
        self != Figure::Ttft || source_rows(case.model, case.shape) == 0
    }

    /// Whether more of it is less time.
    pub fn is_rate(self) -> bool {
        matches!(self, Figure::DecodeTokensPerSecond | Figure::PrefillTokensPerSecond)
    }

    /// From an estimate of its metric.
    pub fn of(self, case: &Case, estimate: Estimate) -> Estimate {
        match self.tokens(case) {
            Some(tokens) => estimate.inverse().map(|per_ns| per_ns * 1e9 * tokens),
            None => estimate,
        }
    }

    /// Of a rate, the tokens that its metric is the time of.
    pub(super) fn tokens(self, case: &Case) -> Option<f64> {
        match self {
            Figure::Metric(_) | Figure::Ttft => None,
            Figure::DecodeTokensPerSecond => Some(case.batch as f64),
            Figure::PrefillTokensPerSecond => Some((case.batch * case.position) as f64),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Figure::Metric(metric) => metric.fmt(f),
            derived => f.pad(derived.name()),
        }
    }
}

impl FromStr for Figure {
    type Err = Error;
    fn from_str(name: &str) -> Result<Figure> {
        let derived = || Figure::DERIVED.into_iter().find(|figure| figure.name() == name);
        name.parse().ok().map(Figure::Metric).or_else(derived).ok_or_else(|| Error::Unknown {
            kind: "metric",
            name: name.into(),
            known: Figure::all().map(|figure| figure.name().to_string()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 sentences, 250 µs a step, 2 ms a prefill of 100 tokens; the ends of an interval change places.
    #[test]
    fn a_rate_is_tokens_over_time() {
        let case: Case = "transformer-toy/padded/cpu/b4/t100".parse().unwrap();
        let time = |value: f64| Estimate { value, lo: value / 2.0, hi: value * 2.0, n: 7, confidence: 0.95 };
        let rate = Figure::DecodeTokensPerSecond.of(&case, time(250e3));
        assert_eq!([rate.value, rate.lo, rate.hi].map(f64::round), [16e3, 8e3, 32e3]);
        assert_eq!((rate.n, rate.confidence), (7, 0.95));
        assert_eq!(Figure::PrefillTokensPerSecond.of(&case, time(2e6)).value.round(), 200e3);
        assert_eq!(Figure::Ttft.of(&case, time(2e6)), time(2e6));
    }

    #[test]
    fn a_name_is_read_back_and_names_one_figure() {
        for figure in Figure::all() {
            assert_eq!(figure.name().parse::<Figure>().unwrap(), figure);
        }
        let error = "tokens".parse::<Figure>().unwrap_err().to_string();
        assert!(error.starts_with("unknown metric `tokens`"), "{error}");
    }

    #[test]
    fn a_step_without_a_cache_is_a_prefill() {
        let of = |strategy| Figure::Ttft.metric(strategy);
        assert_eq!([of(Strategy::Padded), of(Strategy::Naive)], [Metric::PrefillNs, Metric::StepNs]);
        assert_eq!(Figure::DecodeTokensPerSecond.metric(Strategy::Padded), Metric::StepNs);
        let applies = |id: &str| Figure::Ttft.applies_to(&id.parse().unwrap());
        assert!(applies("llama-toy/padded/cpu/b1/t64") && !applies("conv-seq2seq-toy/padded/cpu/b1/t64"));
    }
}
