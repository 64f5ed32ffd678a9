//! Two cases against each other, and one against itself.

use super::estimate::{bootstrap_ratio, median, Estimate};
use super::measurements::Series;

/// How the samples of two cases were put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Within each round, so that drift cancels.
    Rounds,
    /// Not at all, because fewer than [`ENOUGH`] rounds are shared: drift is part of the ratio.
    Unpaired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Faster,
    Slower,
    NotDistinguishable,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::NotDistinguishable => "not distinguishable",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Time of the first over time of the second.
    pub ratio: Estimate,
    pub pairing: Pairing,
    /// The factor, at least 1, by which the cases differ from themselves; absent where there are
    /// too few samples to know.
    pub aa_band: Option<f64>,
    /// Of the first.
    pub verdict: Verdict,
}

/// Fewer samples or rounds than this give no verdict: five have 94 % confidence at best.
pub const ENOUGH: usize = 5;

/// Compares `a` with `b`. In rounds, the ratio is the median of the rounds' ratios: unlike the
/// ratio of the medians, it does not see a machine that slows down for half of the run. Where
/// rounds are not shared it is the ratio of the medians, and [`Pairing::Unpaired`] says so.
pub fn compare(a: &Series, b: &Series) -> Option<Comparison> {
    let (ratio, pairing) = ratio(a, b)?;
    let aa_band = aa_band(a).and_then(|of_a| Some(of_a.max(aa_band(b)?)));
    let verdict = verdict(&ratio, aa_band);
    Some(Comparison { ratio, pairing, aa_band, verdict })
}

fn ratio(a: &Series, b: &Series) -> Option<(Estimate, Pairing)> {
    let of_b = b.rounds();
    let shared = a.rounds().into_iter().filter_map(|(round, a)| Some((a / of_b.get(&round)?).ln()));
    let logs: Vec<f64> = shared.filter(|log| log.is_finite()).collect();
    if logs.len() >= ENOUGH {
        return Some((median(&logs)?.map(f64::exp), Pairing::Rounds));
    }
    let ratio = bootstrap_ratio(&a.values(), &b.values())?;
    [ratio.value, ratio.lo, ratio.hi].iter().all(|x| x.is_finite()).then_some((ratio, Pairing::Unpaired))
}

/// Different only if the whole interval is on one side of 1 and the ratio is outside the band.
fn verdict(ratio: &Estimate, aa_band: Option<f64>) -> Verdict {
    match aa_band {
        Some(band) if ratio.n >= ENOUGH && ratio.hi < 1.0 && ratio.value < 1.0 / band => Verdict::Faster,
        Some(band) if ratio.n >= ENOUGH && ratio.lo > 1.0 && ratio.value > band => Verdict::Slower,
        _ => Verdict::NotDistinguishable,
    }
}

/// How far a case is from itself, as a factor of at least 1: the far end of the interval of the
/// ratio of samples that should be equal. Those are the first two of every round where rounds
/// hold two, or else neighbouring rounds, taken up and down in turn so that a trend cancels, or
/// else, in a series without rounds, its first half and its second. `None` where there are too
/// few of them.
pub fn aa_band(series: &Series) -> Option<f64> {
    let rounds: Vec<Vec<f64>> = series.by_round().into_values().collect();
    let twice: Vec<f64> = rounds.iter().filter(|r| r.len() > 1).map(|r| (r[0] / r[1]).ln()).collect();
    let interval = if twice.len() >= ENOUGH {
        median(&twice)?
    } else if rounds.len() >= ENOUGH {
        median(&neighbours(&series.rounds().into_values().collect::<Vec<_>>()))?
    } else {
        let values = series.values();
        if values.len() < 2 * ENOUGH {
            return None;
        }
        let (first, second) = values.split_at(values.len() / 2);
        bootstrap_ratio(first, second)?.map(f64::ln)
    };
    Some(interval.lo.abs().max(interval.hi.abs()).exp()).filter(|band| band.is_finite())
}

fn neighbours(values: &[f64]) -> Vec<f64> {
    let logs = values.windows(2).map(|pair| (pair[0] / pair[1]).ln());
    logs.enumerate().map(|(i, log)| if i % 2 == 0 { log } else { -log }).collect()
}
