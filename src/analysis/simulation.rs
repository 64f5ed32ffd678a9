//! The statistics on runs whose truth is known: two cases in turn on a machine that drifts, with
//! heavy tails, and with one sample in twenty several times too slow.

use super::compare::Verdict;
use super::estimate::SplitMix;
use super::{compare, crossing, median, Comparison, Crossing, Series};

impl SplitMix {
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Student's t with three degrees of freedom.
    fn heavy(&mut self) -> f64 {
        let squares: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / (squares / 3.0).sqrt()
    }

    /// Factor on a time.
    fn noise(&mut self) -> f64 {
        let outlier = if self.uniform() < 0.05 { 1.0 + 4.0 * self.uniform() } else { 1.0 };
        (0.03 * self.heavy()).exp() * outlier
    }

    /// `rounds` samples of each of several cases with these true times.
    fn run(&mut self, rounds: u32, truth: &[f64]) -> Vec<Series> {
        let mut series = vec![Series::default(); truth.len()];
        let mut drift = 0.0;
        for round in 1..=rounds {
            drift += 0.02 * self.normal() + 0.3 / f64::from(rounds);
            for (series, truth) in series.iter_mut().zip(truth) {
                series.samples.push((round, truth * f64::exp(drift) * self.noise()));
            }
        }
        series
    }
}

const RUNS: usize = 400;

fn comparisons(seed: u64, rounds: u32, truth: f64) -> Vec<Comparison> {
    let mut random = SplitMix(seed);
    let one = |_| {
        let series = random.run(rounds, &[truth * 1e6, 1e6]);
        compare(&series[0], &series[1]).unwrap()
    };
    (0..RUNS).map(one).collect()
}

#[test]
fn intervals_of_a_ratio_cover_the_truth() {
    for (seed, rounds) in [(1, 6), (2, 10), (3, 20), (4, 51)] {
        let found = comparisons(seed, rounds, 1.3);
        let covered = found.iter().filter(|c| c.ratio.lo <= 1.3 && 1.3 <= c.ratio.hi).count();
        let share = covered as f64 / RUNS as f64;
        assert!((0.90..=0.99).contains(&share), "{rounds} rounds: {share}");
    }
}

#[test]
fn a_case_is_not_distinguishable_from_itself() {
    for (seed, rounds) in [(5, 6), (6, 10), (7, 30)] {
        let found = comparisons(seed, rounds, 1.0);
        let equal = found.iter().filter(|c| c.verdict == Verdict::NotDistinguishable).count();
        assert!(equal as f64 >= 0.95 * RUNS as f64, "{rounds} rounds: {equal} of {RUNS}");
    }
}

#[test]
fn a_real_difference_is_seen() {
    let found = comparisons(8, 20, 0.8);
    let seen = found.iter().filter(|c| c.verdict == Verdict::Faster).count();
    assert!(seen as f64 >= 0.95 * RUNS as f64, "{seen} of {RUNS}");
    assert!(found.iter().all(|c| c.verdict != Verdict::Slower));
}

#[test]
fn intervals_of_a_median_cover_the_truth() {
    let mut random = SplitMix(9);
    for n in [7, 12, 40] {
        let mut covers = || {
            let values: Vec<f64> = (0..n).map(|_| 5.0 + random.heavy()).collect();
            let found = median(&values).unwrap();
            found.lo <= 5.0 && 5.0 <= found.hi
        };
        let share = (0..RUNS).filter(|_| covers()).count() as f64 / RUNS as f64;
        assert!((0.90..=0.99).contains(&share), "{n} samples: {share}");
    }
}

#[test]
fn series_without_rounds_are_compared_and_say_so() {
    let mut random = SplitMix(10);
    let mut series = |truth: f64| Series { samples: (0..40).map(|_| (0, truth * random.noise())).collect() };
    let found = compare(&series(1.2), &series(1.0)).unwrap();
    assert_eq!((found.pairing, found.verdict), (super::Pairing::Unpaired, Verdict::Slower));
}

/// 1000 + t against 1300: they cross at 300.
#[test]
fn the_crossing_is_inside_its_interval() {
    let mut random = SplitMix(11);
    for positions in [vec![16, 64, 128, 256, 384, 512, 1024], (8..=1024).step_by(8).collect()] {
        let mut point = |t: usize| {
            let series = random.run(12, &[1000.0 + t as f64, 1300.0]);
            (t, compare(&series[0], &series[1]).unwrap())
        };
        let points: Vec<_> = positions.iter().map(|&t| point(t)).collect();
        let found = crossing(&points);
        let Crossing::At { position, lo, hi, before, after } = found else { panic!("{found:?}") };
        assert_eq!((before, after), (Verdict::Faster, Verdict::Slower));
        assert!(lo < 310 && 290 < hi && (position / 300.0).ln().abs() < 0.2, "{found:?}");
    }
}
