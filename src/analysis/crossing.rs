//! From which position on one strategy beats another.

use super::compare::{Comparison, Verdict, ENOUGH};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// The first strategy is `before` up to `lo`, `after` from `hi` on, and cannot be told from
    /// the second in between. `position` is where the ratio passes 1.
    At { position: f64, lo: usize, hi: usize, before: Verdict, after: Verdict },
    /// The first strategy is `verdict` from position `from` on, and before that, if there are
    /// positions before, it cannot be told from the second.
    From { from: usize, verdict: Verdict },
    /// The first strategy is `verdict` up to position `to`, and after that cannot be told.
    Until { to: usize, verdict: Verdict },
    /// No stretch of positions tells them apart.
    Undecided,
}

/// Finds the crossing in comparisons of one strategy with another, by ascending position. Those
/// that have too few rounds for a verdict say nothing and are left out.
///
/// Some verdicts are chance. So the crossing is the split of the positions that the fewest
/// verdicts contradict, and a side counts only if at least half of its positions carry its
/// verdict, and these are at least a sixth of all there are.
pub fn crossing(points: &[(usize, Comparison)]) -> Crossing {
    let told = |(_, c): &&(usize, Comparison)| c.ratio.n >= ENOUGH && c.aa_band.is_some();
    let points: Vec<(usize, Comparison)> = points.iter().filter(told).cloned().collect();
    let sides: Vec<i64> = points.iter().map(|(_, c)| side(c.verdict)).collect();
    let total: i64 = sides.iter().sum();
    let agreement = |k: &usize| (total - 2 * sides[..*k].iter().sum::<i64>()).abs();
    // No split, if it agrees as well: the first of equals is taken below.
    let best = (0..sides.len()).rev().max_by_key(agreement).unwrap_or(0);
    let best = if best == 0 { first_stretch(&sides) } else { best };
    let (least, before, after) = (sides.len().div_ceil(6), &sides[..best], &sides[best..]);
    match (majority(before, least), majority(after, least)) {
        (Some(before), Some(after)) if before != after => at(&points, best, before, after),
        (Some(both), Some(_)) => Crossing::From { from: points[0].0, verdict: both },
        (None, Some(verdict)) => Crossing::From { from: points[best].0, verdict },
        (Some(verdict), None) => Crossing::Until { to: points[best - 1].0, verdict },
        (None, None) => Crossing::Undecided,
    }
}

/// Where there is no change of sides, the split is where the verdicts begin or end.
fn first_stretch(sides: &[i64]) -> usize {
    let (Some(first), Some(last)) = (sides.iter().position(|s| *s != 0), sides.iter().rposition(|s| *s != 0))
    else {
        return 0;
    };
    if first >= sides.len() - 1 - last {
        first
    } else {
        last + 1
    }
}

fn side(verdict: Verdict) -> i64 {
    match verdict {
        Verdict::Faster => -1,
        Verdict::Slower => 1,
        Verdict::NotDistinguishable => 0,
    }
}

fn majority(sides: &[i64], least: usize) -> Option<Verdict> {
    let carries = |wanted| {
        let count = sides.iter().filter(|side| **side == wanted).count();
        count >= least && count > 0 && 2 * count >= sides.len()
    };
    match (carries(-1), carries(1)) {
        (true, false) => Some(Verdict::Faster),
        (false, true) => Some(Verdict::Slower),
        _ => None,
    }
}

fn at(points: &[(usize, Comparison)], split: usize, before: Verdict, after: Verdict) -> Crossing {
    let lo = points[..split].iter().rposition(|(_, c)| c.verdict == before).unwrap_or(0);
    let hi = split + points[split..].iter().position(|(_, c)| c.verdict == after).unwrap_or(0);
    let position = passes_one(&points[lo..=hi]);
    Crossing::At { position, lo: points[lo].0, hi: points[hi].0, before, after }
}

/// Where the straight line through ln ratio over ln position, by least squares, is zero; within
/// the points, of which the first and the last are on different sides of 1.
fn passes_one(points: &[(usize, Comparison)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(t, c)| ((*t as f64).ln(), c.ratio.value.ln())).collect();
    let n = logs.len() as f64;
    let mean_x = logs.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = logs.iter().map(|p| p.1).sum::<f64>() / n;
    let covariance: f64 = logs.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let variance: f64 = logs.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    let zero = mean_x - mean_y * variance / covariance;
    let (first, last) = (logs[0].0, logs[logs.len() - 1].0);
    if zero.is_finite() {
        zero.clamp(first, last).exp()
    } else {
        ((first + last) / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::Pairing;
    use super::super::estimate::Estimate;
    use super::*;

    fn points(ratios: &[(usize, f64, Verdict)]) -> Vec<(usize, Comparison)> {
        let point = |&(t, value, verdict): &(usize, f64, Verdict)| {
            let ratio = Estimate { value, lo: value, hi: value, n: 9, confidence: 0.95 };
            (t, Comparison { ratio, pairing: Pairing::Rounds, aa_band: Some(1.0), verdict })
        };
        ratios.iter().map(point).collect()
    }

    use Verdict::{Faster as F, NotDistinguishable as N, Slower as S};

    #[test]
    fn the_crossing_is_where_the_ratio_passes_one() {
        let found = crossing(&points(&[
            (16, 2.0, S),
            (32, 1.5, S),
            (64, 1.0, N),
            (128, 1.0 / 1.5, F),
            (256, 0.5, F),
        ]));
        let Crossing::At { position, lo, hi, before, after } = found else { panic!("{found:?}") };
        assert_eq!((lo, hi, before, after), (32, 128, S, F));
        assert!((position - 64.0).abs() < 1e-9, "{position}");
    }

    #[test]
    fn one_wrong_verdict_is_chance() {
        let mut all: Vec<_> =
            (1..=100).map(|t| (t, 0.5, F)).chain((101..=200).map(|t| (t, 2.0, S))).collect();
        all[20].2 = S;
        all[150].2 = F;
        let found = crossing(&points(&all));
        assert!(matches!(found, Crossing::At { lo: 100, hi: 101, .. }), "{found:?}");
    }

    #[test]
    fn sides_that_never_change_are_no_crossing() {
        let always = crossing(&points(&[(1, 0.5, F), (2, 0.5, F)]));
        assert_eq!(always, Crossing::From { from: 1, verdict: F });
        let later = crossing(&points(&[(1, 1.0, N), (2, 1.0, N), (4, 0.5, F), (8, 0.2, F)]));
        assert_eq!(later, Crossing::From { from: 4, verdict: F });
        assert_eq!(crossing(&points(&[(1, 1.0, N)])), Crossing::Undecided);
        assert_eq!(crossing(&[]), Crossing::Undecided);
    }
}
