//! Two cases against each other, and one against itself.

use super::estimate::{
    bootstrap_ratio, median, median_of, median_with, pooled_ratio, simultaneous, Estimate, MIN_ROUNDS,
};
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
    /// Each run is one value, and what runs of a side differ by is what the sides have to exceed.
    Runs,
}

impl Pairing {
    /// Behind a ratio in a table; [`Pairing::Rounds`] needs none.
    pub fn mark(self) -> &'static str {
        match self {
            Pairing::Rounds => "",
            Pairing::Unpaired => " †",
            Pairing::Runs => " ‡",
        }
    }
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

impl Comparison {
    /// Whether the samples could have shown a difference: enough rounds or runs, or a count, which is exact.
    pub fn is_judged(&self) -> bool {
        self.aa_band.is_some()
            && (self.ratio.n >= MIN_ROUNDS || self.is_exact() || self.pairing == Pairing::Runs)
    }

    /// Whether it is one of counts, which do not scatter.
    pub fn is_exact(&self) -> bool {
        self.ratio.confidence == 1.0
    }
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

/// Compares the medians of some runs with those of others, as one of several comparisons that are judged together: each
/// interval is so much wider that all of them hold the truth in 95 % of cases. `None` for one run a side.
pub(super) fn compare_runs(a: &[f64], b: &[f64], together: usize) -> Option<Comparison> {
    let ratio = pooled_ratio(a, b, simultaneous(together))?;
    let verdict = side_of_one(&ratio);
    Some(Comparison { ratio, pairing: Pairing::Runs, aa_band: Some(ratio.hi / ratio.value), verdict })
}

/// Compares `a` with `b` in the rounds that both have, as one of several comparisons that are judged together. Rounds are
/// independent tries, so the interval alone decides, and equals are called different in 5 % of all such sets at most.
/// `None` where that needs more rounds than there are, as [`rounds_for`] says.
pub fn compare_together(a: &Series, b: &Series, together: usize) -> Option<Comparison> {
    let ratio = median_with(&log_ratios(a, b), simultaneous(together))?.map(f64::exp);
    let verdict = side_of_one(&ratio);
    let found = Comparison { ratio, pairing: Pairing::Rounds, aa_band: Some(1.0), verdict };
    (ratio.n >= rounds_for(together)).then_some(found)
}

/// The fewest rounds in which so many comparisons can be judged together: all of them on one side of 1 must be as
/// improbable as the interval is wrong.
pub fn rounds_for(together: usize) -> usize {
    (2.0 / (1.0 - simultaneous(together))).log2().ceil() as usize
}

fn side_of_one(ratio: &Estimate) -> Verdict {
    match ratio {
        Estimate { hi, .. } if *hi < 1.0 => Verdict::Faster,
        Estimate { lo, .. } if *lo > 1.0 => Verdict::Slower,
        _ => Verdict::NotDistinguishable,
    }
}

fn judged(a: &Series, b: &Series, ratio: Estimate, pairing: Pairing) -> Option<Comparison> {
    let aa_band = aa_band(a).and_then(|of_a| Some(of_a.max(aa_band(b)?)));
    let verdict = verdict(&ratio, aa_band);
    Some(Comparison { ratio, pairing, aa_band, verdict })
}

fn ratio(a: &Series, b: &Series) -> Option<(Estimate, Pairing)> {
    let logs = log_ratios(a, b);
    let all = MIN_ROUNDS.min(a.independent().len()).min(b.independent().len());
    if !logs.is_empty() && logs.len() >= all {
        return Some((median(&logs)?.map(f64::exp), Pairing::Rounds));
    }
    Some((unpaired_ratio(a, b)?, Pairing::Unpaired))
}

/// One for each round that both have.
fn log_ratios(a: &Series, b: &Series) -> Vec<f64> {
    let of_b = b.rounds();
    let shared = a.rounds().into_iter().filter_map(|(round, a)| Some((a / of_b.get(&round)?).ln()));
    shared.filter(|log| log.is_finite()).collect()
}

fn unpaired_ratio(a: &Series, b: &Series) -> Option<Estimate> {
    let ratio = bootstrap_ratio(&a.independent(), &b.independent())?;
    [ratio.value, ratio.lo, ratio.hi].iter().all(|x| x.is_finite()).then_some(ratio)
}

/// Different only if the whole interval is on one side of 1 and the ratio is outside the band.
fn verdict(ratio: &Estimate, aa_band: Option<f64>) -> Verdict {
    let Some(band) = aa_band.filter(|_| ratio.n >= MIN_ROUNDS) else { return Verdict::NotDistinguishable };
    match side_of_one(ratio) {
        Verdict::Faster if ratio.value >= 1.0 / band => Verdict::NotDistinguishable,
        Verdict::Slower if ratio.value <= band => Verdict::NotDistinguishable,
        verdict => verdict,
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
