//! A median and how well it is known.

/// Fewer samples or rounds than this give no verdict: five have 94 % confidence at best.
pub const MIN_ROUNDS: usize = 5;

/// A figure with its interval. `n` samples (or pairs of samples, or rounds) are behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median.
    pub value: f64,
    /// Lower end of its interval.
    pub lo: f64,
    /// Upper end of its interval.
    pub hi: f64,
    /// Independent values behind it.
    pub n: usize,
    /// How often such an interval holds the true median: 0.95, or less with fewer than six samples.
    pub confidence: f64,
}

impl Estimate {
    /// The same in another unit or on another scale; `f` must not change the order of its values.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Estimate {
        Estimate { value: f(self.value), lo: f(self.lo), hi: f(self.hi), ..self }
    }

    /// Of a ratio, the ratio the other way round.
    pub(crate) fn inverse(self) -> Estimate {
        Estimate { value: 1.0 / self.value, lo: 1.0 / self.hi, hi: 1.0 / self.lo, ..self }
    }
}

pub(super) const CONFIDENCE: f64 = 0.95;

/// The median with the interval of Hettmansperger and Sheather: between order statistics, so that
/// nothing is assumed of the distribution and one outlier moves nothing, interpolated, so that
/// the confidence is 95 % for every n from six on. With fewer the interval is the whole range,
/// and says what that is worth. Values may be infinite. `None` for no values.
pub fn median(values: &[f64]) -> Option<Estimate> {
    median_with(values, CONFIDENCE)
}

/// The same with another confidence, which so many values may be too few for.
pub(super) fn median_with(values: &[f64], confidence: f64) -> Option<Estimate> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let value = middle(&sorted)?;
    let n = sorted.len();
    let (lo, hi, confidence) = interval(&sorted, confidence);
    Some(Estimate { value, lo, hi, n, confidence })
}

/// The median alone.
pub(crate) fn median_of(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    middle(&sorted)
}

/// The same in whatever order, faster.
fn median_of_drawn(mut values: Vec<f64>) -> Option<f64> {
    let half = values.len().checked_sub(1)? / 2;
    let even = values.len().is_multiple_of(2);
    let (_, &mut low, above) = values.select_nth_unstable_by(half, f64::total_cmp);
    let high = above.iter().copied().min_by(f64::total_cmp).filter(|_| even).unwrap_or(low);
    Some((low + high) / 2.0)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0)
}

/// Ends of the interval and its confidence, for at least one value.
fn interval(sorted: &[f64], confidence: f64) -> (f64, f64, f64) {
    let n = sorted.len();
    let widest = coverages(n);
    // The narrowest interval, from the d-th smallest to the d-th largest, that still covers.
    let Some(d) = widest.iter().rposition(|&c| c >= confidence).map(|i| i + 1) else {
        return (sorted[0], sorted[n - 1], widest.first().copied().unwrap_or(0.0));
    };
    let (outer, inner) = (widest[d - 1], widest.get(d).copied().unwrap_or(0.0));
    let excess = (outer - confidence) / (outer - inner);
    let (depth, rest) = (d as f64, (n - d) as f64);
    let inwards = rest * excess / (depth + (rest - depth) * excess);
    let between = |outer: f64, inner: f64| match (outer - inner).is_finite() {
        true => (1.0 - inwards) * outer + inwards * inner,
        false => outer, // an infinite end stays one
    };
    (between(sorted[d - 1], sorted[d]), between(sorted[n - d], sorted[n - d - 1]), confidence)
}

/// How often the median of n values is between the d-th smallest and the d-th largest, for
/// d = 1 .. n/2: 1 - 2 P(fewer than d of n are below it).
fn coverages(n: usize) -> Vec<f64> {
    let mut ln_probability = -(n as f64) * std::f64::consts::LN_2; // of exactly d-1 below
    let mut tail = 0.0;
    let mut all = Vec::new();
    for d in 1..=n / 2 {
        tail += ln_probability.exp();
        all.push(1.0 - 2.0 * tail);
        ln_probability += ((n + 1 - d) as f64 / d as f64).ln();
    }
    all
}

/// How confident each of so many intervals must be for all of them to hold together in 95 % of cases (Bonferroni).
pub(super) fn simultaneous(intervals: usize) -> f64 {
    1.0 - (1.0 - CONFIDENCE) / intervals.max(1) as f64
}

/// Mean of `a` over mean of `b`, geometric, if what scatters them is the same and its logarithm is normal: Student's
/// interval of the difference of two means with one pooled variance. `None` where one side is empty or nothing scatters.
pub(super) fn pooled_ratio(a: &[f64], b: &[f64], confidence: f64) -> Option<Estimate> {
    let mean = |values: &[f64]| values.iter().map(|x| x.ln()).sum::<f64>() / values.len() as f64;
    let squares = |values: &[f64]| values.iter().map(|x| (x.ln() - mean(values)).powi(2)).sum::<f64>();
    let freedom = (a.len() + b.len()).checked_sub(2).filter(|&n| n > 0 && !a.is_empty() && !b.is_empty())?;
    let variance = (squares(a) + squares(b)) / freedom as f64;
    let error = (variance * (1.0 / a.len() as f64 + 1.0 / b.len() as f64)).sqrt();
    let (value, half) = (mean(a) - mean(b), error * student_quantile(confidence, freedom));
    let ratio = Estimate { value, lo: value - half, hi: value + half, n: a.len().min(b.len()), confidence };
    Some(ratio.map(f64::exp)).filter(|ratio| [ratio.value, ratio.lo, ratio.hi].iter().all(|x| x.is_finite()))
}

/// How many standard errors around a mean hold it with this confidence, with so many degrees of freedom (at least
/// one). The probability is a finite sum: Abramowitz and Stegun, 26.7.3 and 26.7.4.
fn student_quantile(confidence: f64, freedom: usize) -> f64 {
    let within = |angle: f64| {
        let (sin, cos) = angle.sin_cos();
        let (mut term, mut sum) = (if freedom % 2 == 1 { cos } else { 1.0 }, 0.0);
        for k in (2 + freedom % 2..=freedom).step_by(2) {
            sum += term;
            term *= cos * cos * (k - 1) as f64 / k as f64;
        }
        if freedom % 2 == 1 {
            std::f64::consts::FRAC_2_PI * (angle + sin * sum)
        } else {
            sin * sum
        }
    };
    let (mut low, mut high) = (0.0, std::f64::consts::FRAC_PI_2);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        *(if within(middle) < confidence { &mut low } else { &mut high }) = middle;
    }
    low.tan() * (freedom as f64).sqrt()
}

/// Median of `a` over median of `b` where their samples have nothing to do with each other: both
/// are drawn again with replacement, 1000 times, always with the same seed. What is drawn must be
/// independent: rounds, not the samples of a round. With a dozen of them the interval is a little wide, for
/// it jumps from one to the next: in simulation it holds the truth in 95.7 to 97.2 % of runs.
pub(crate) fn bootstrap_ratio(a: &[f64], b: &[f64]) -> Option<Estimate> {
    const DRAWS: usize = 1000;
    let value = median_of(a)? / median_of(b)?;
    let mut random = SplitMix(0x5eed);
    let draw = |random: &mut SplitMix| {
        Some(median_of_drawn(random.resample(a))? / median_of_drawn(random.resample(b))?)
    };
    let mut ratios: Vec<f64> = (0..DRAWS).filter_map(|_| draw(&mut random)).collect();
    ratios.sort_by(f64::total_cmp);
    let quantile = |q: f64| ratios[(q * (DRAWS - 1) as f64).round() as usize];
    let n = a.len().min(b.len());
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Estimate { value, lo: quantile(tail), hi: quantile(1.0 - tail), n, confidence: CONFIDENCE })
}

/// Sebastiano Vigna's generator: ten lines, and the same numbers for ever.
pub(super) struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn resample(&mut self, values: &[f64]) -> Vec<f64> {
        (0..values.len()).map(|_| values[(self.next() % values.len() as u64) as usize]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median_of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median_of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        for n in 0..9 {
            let values: Vec<f64> = (0..n).map(|i| f64::from((i * 5 + 3) % 9)).collect();
            assert_eq!(median_of_drawn(values.clone()), median_of(&values));
        }
    }

    /// Against tables of Student's distribution, two-sided.
    #[test]
    fn student_s_quantiles_are_those_of_the_tables() {
        for (confidence, freedom, table) in [
            (0.95, 1, 12.706),
            (0.95, 2, 4.303),
            (0.95, 3, 3.182),
            (0.95, 4, 2.776),
            (0.95, 10, 2.228),
            (0.99, 3, 5.841),
            (0.99, 4, 4.604),
            (0.999, 5, 6.869),
            (0.95, 61, 1.9996),
        ] {
            let found = student_quantile(confidence, freedom);
            assert!((found - table).abs() < 6e-4, "{confidence} {freedom}: {found}");
        }
    }

    #[test]
    fn means_differ_by_what_they_scatter() {
        let (a, b) = ([1.1, 1.21, 1.331], [1.0, 1.1, 1.21]);
        let ratio = pooled_ratio(&a, &b, 0.95).unwrap();
        // by hand: steps of ln 1.1, a variance of that squared, 2 / 3 of it for the difference, 4 degrees
        let half = 1.1f64.ln() * (2.0f64 / 3.0).sqrt() * 2.776_445;
        assert!((ratio.value - 1.1).abs() < 1e-12 && (ratio.hi - 1.1 * half.exp()).abs() < 1e-6, "{ratio:?}");
        assert!((ratio.lo * ratio.hi - 1.21).abs() < 1e-9 && ratio.n == 3);
        assert!(pooled_ratio(&a[..1], &b[..1], 0.95).is_none(), "two values scatter around nothing");
        assert!(pooled_ratio(&a[..2], &[], 0.95).is_none());
        assert_eq!(pooled_ratio(&a[..1], &b, 0.95).unwrap().n, 1);
    }

    #[test]
    fn few_samples_say_what_their_range_is_worth() {
        let one = median(&[7.0]).unwrap();
        assert_eq!((one.lo, one.hi, one.n, one.confidence), (7.0, 7.0, 1, 0.0));
        let five = median(&[1.0, 2.0, 3.0, 4.0, 50.0]).unwrap();
        assert_eq!((five.lo, five.hi, five.confidence), (1.0, 50.0, 0.9375));
    }

    /// n = 10 lies between the second and the third smallest: 97.9 % and 89.1 %.
    #[test]
    fn the_interval_is_between_order_statistics() {
        let ten: Vec<f64> = (1..=10).map(f64::from).collect();
        let found = median(&ten).unwrap();
        assert!(2.0 < found.lo && found.lo < 3.0 && 8.0 < found.hi && found.hi < 9.0, "{found:?}");
        assert!((found.lo + found.hi - 11.0).abs() < 1e-12);
        let many: Vec<f64> = (0..5001).map(f64::from).collect();
        let half = 1.96 * 5001f64.sqrt() / 2.0;
        assert!((median(&many).unwrap().hi - 2500.0 - half).abs() < 2.0);
    }
}
