//! Two cases against each other, and one against itself.

use super::estimate::{bootstrap_ratio, median, median_of, Estimate, MIN_ROUNDS};
use super::measurements::Series;
use crate::record::Protocol;

/// How the samples of two cases were put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Within each round, so that drift cancels.
    Rounds,
    /// Not at all, because fewer than [`MIN_ROUNDS`] rounds are shared, and there are more samples than
    /// that outside of them: drift is part of the ratio.
    Unpaired,
}

/// What a comparison says of the first of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It surely takes less.
    Faster,
    /// It surely takes more.
    Slower,
    /// The difference is within the scatter, or there are too few rounds to tell.
    NotDistinguishable,
}

impl Verdict {
    /// In words, as tables print it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NotDistinguishable => "not distinguishable",
        }
    }
}

/// A ratio of two cases, and what may be said of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Time of the first over time of the second.
    pub ratio: Estimate,
    /// How the samples were put together for the ratio.
    pub pairing: Pairing,
    /// The factor, at least 1, by which the cases differ from themselves; absent where there are
    /// too few samples to know.
    pub aa_band: Option<f64>,
    /// Of the first.
    pub verdict: Verdict,
}

/// Compares `a` with `b`. In rounds, the ratio is the median of the rounds' ratios: unlike the
/// ratio of the medians, it does not see a machine that slows down for half of the run. Where
/// rounds are not shared it is the ratio of the medians, and [`Pairing::Unpaired`] says so.
pub fn compare(a: &Series, b: &Series) -> Option<Comparison> {
    let (ratio, pairing) = ratio(a, b)?;
    judged(a, b, ratio, pairing)
}

/// Compares `a` with `b` of another run: rounds of the same number have nothing to do with each other,
/// so it is the ratio of the medians, and the wider of the two bands counts.
pub(crate) fn compare_across(a: &Series, b: &Series) -> Option<Comparison> {
    judged(a, b, unpaired_ratio(a, b)?, Pairing::Unpaired)
}

fn judged(a: &Series, b: &Series, ratio: Estimate, pairing: Pairing) -> Option<Comparison> {
    let aa_band = aa_band(a).and_then(|of_a| Some(of_a.max(aa_band(b)?)));
    let verdict = verdict(&ratio, aa_band);
    Some(Comparison { ratio, pairing, aa_band, verdict })
}

fn ratio(a: &Series, b: &Series) -> Option<(Estimate, Pairing)> {
    let of_b = b.rounds();
    let shared = a.rounds().into_iter().filter_map(|(round, a)| Some((a / of_b.get(&round)?).ln()));
    let logs: Vec<f64> = shared.filter(|log| log.is_finite()).collect();
    let all = MIN_ROUNDS.min(a.independent().len()).min(b.independent().len());
    if !logs.is_empty() && logs.len() >= all {
        return Some((median(&logs)?.map(f64::exp), Pairing::Rounds));
    }
    Some((unpaired_ratio(a, b)?, Pairing::Unpaired))
}

fn unpaired_ratio(a: &Series, b: &Series) -> Option<Estimate> {
    let ratio = bootstrap_ratio(&a.independent(), &b.independent())?;
    [ratio.value, ratio.lo, ratio.hi].iter().all(|x| x.is_finite()).then_some(ratio)
}

/// Different only if the whole interval is on one side of 1 and the ratio is outside the band.
fn verdict(ratio: &Estimate, aa_band: Option<f64>) -> Verdict {
    match aa_band {
        Some(band) if ratio.n >= MIN_ROUNDS && ratio.hi < 1.0 && ratio.value < 1.0 / band => Verdict::Faster,
        Some(band) if ratio.n >= MIN_ROUNDS && ratio.lo > 1.0 && ratio.value > band => Verdict::Slower,
        _ => Verdict::NotDistinguishable,
    }
}

/// How far a case is from itself, as a factor of at least 1: the end, farthest from 1, of the
/// interval of the ratio of samples that should be equal. A run that measures every case twice in
/// a round says it best: those two. Else it is what the scatter around the neighbouring rounds
/// lets expect; else, in a series without rounds, the first half is compared with the second.
/// `None` where there are too few samples.
pub fn aa_band(series: &Series) -> Option<f64> {
    let far_end = |interval: Estimate| interval.lo.abs().max(interval.hi.abs());
    let rounds: Vec<Vec<f64>> = series.by_round().into_values().collect();
    // the steps of one decode are no two tries at it
    let tries = rounds.iter().filter(|r| r.len() > 1 && series.protocol() != Protocol::Decode);
    let twice: Vec<f64> = tries.map(|r| (r[0] / r[1]).ln()).collect();
    let log = if twice.len() >= MIN_ROUNDS {
        median(&twice).map(far_end)
    } else if rounds.len() >= MIN_ROUNDS {
        expected_far_end(&series.rounds().into_values().collect::<Vec<_>>())
    } else {
        halves(&series.values()).map(far_end)
    };
    log.map(f64::exp).filter(|band| band.is_finite())
}

/// Half of the interval of the median of ln ratios of such values with others like them, if noise
/// is normal. Its size is taken from how far each value is from the mean of its neighbours, for a
/// steady drift leaves that alone, and from the median of it, for outliers leave that alone.
fn expected_far_end(values: &[f64]) -> Option<f64> {
    let apart = |three: &[f64]| (three[1].ln() - (three[0].ln() + three[2].ln()) / 2.0).abs();
    let apart: Vec<f64> = values.windows(3).map(apart).collect();
    let deviation = 1.4826 * median_of(&apart)? / 1.5f64.sqrt();
    let of_median = 1.2533 * 2f64.sqrt() * deviation / (values.len() as f64).sqrt();
    Some(1.96 * of_median)
}

fn halves(values: &[f64]) -> Option<Estimate> {
    let (first, second) = values.split_at(values.len() / 2);
    (first.len() >= MIN_ROUNDS).then(|| bootstrap_ratio(first, second))?.map(|ratio| ratio.map(f64::ln))
}
