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
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let value = middle(&sorted)?;
    let n = sorted.len();
    let (lo, hi, confidence) = interval(&sorted);
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
fn interval(sorted: &[f64]) -> (f64, f64, f64) {
    let n = sorted.len();
    let widest = coverages(n);
    // The narrowest interval, from the d-th smallest to the d-th largest, that still covers.
    let Some(d) = widest.iter().rposition(|&c| c >= CONFIDENCE).map(|i| i + 1) else {
        return (sorted[0], sorted[n - 1], widest.first().copied().unwrap_or(0.0));
    };
    let (outer, inner) = (widest[d - 1], widest.get(d).copied().unwrap_or(0.0));
    let excess = (outer - CONFIDENCE) / (outer - inner);
    let (depth, rest) = (d as f64, (n - d) as f64);
    let inwards = rest * excess / (depth + (rest - depth) * excess);
    let between = |outer: f64, inner: f64| match (outer - inner).is_finite() {
        true => (1.0 - inwards) * outer + inwards * inner,
        false => outer, // an infinite end stays one
    };
    (between(sorted[d - 1], sorted[d]), between(sorted[n - d], sorted[n - d - 1]), CONFIDENCE)
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
