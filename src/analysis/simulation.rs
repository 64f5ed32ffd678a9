//! The statistics on runs whose truth is known: two cases in turn on a machine that drifts, with
//! heavy tails, and with one sample in twenty several times too slow.
//!
//! Two kinds of drift. In `drifting` runs a walk and a slope of 30 % go through all rounds: ratios must
//! not see them. In `unsteady` runs every round finds the machine at another speed, the same for all of
//! its samples: this is what a median's interval speaks of, the speed at which rounds find the machine.
//!
//! `cargo test --lib simulation -- --nocapture` prints how often each interval held the truth.

use super::compare::{compare_across, compare_runs, Verdict};
use super::estimate::SplitMix;
use super::{
    compare, compare_together, crossing, least, rounds_for, Comparison, Crossing, LogRatios, Series,
};
use crate::record::Round;

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

    /// The machine's speed in each of some rounds, as a factor on times.
    fn drifting(&mut self, rounds: u32) -> Vec<f64> {
        let mut drift = 0.0;
        let mut next = || {
            drift += 0.02 * self.normal() + 0.3 / f64::from(rounds);
            f64::exp(drift)
        };
        (0..rounds).map(|_| next()).collect()
    }

    fn unsteady(&mut self, rounds: u32) -> Vec<f64> {
        (0..rounds).map(|_| f64::exp(0.03 * self.normal())).collect()
    }

    /// In every round, so many samples of each of several cases with these true times.
    fn run(&mut self, machine: &[f64], samples: usize, truth: &[f64]) -> Vec<Series> {
        let mut series = vec![Series::default(); truth.len()];
        for (round, speed) in (1..).zip(machine) {
            for (series, truth) in series.iter_mut().zip(truth) {
                series
                    .samples
                    .extend((0..samples).map(|_| (Round::Interleaved(round), truth * speed * self.noise())));
            }
        }
        series
    }
}

const RUNS: usize = 2000;

/// Rounds, and samples in each: those of a whole decode and of `cargo bench`, fewer and more.
const PLANS: [(u32, usize); 6] = [(6, 1), (6, 2), (12, 1), (12, 2), (24, 2), (51, 1)];

fn comparisons(seed: u64, (rounds, samples): (u32, usize), truth: f64) -> Vec<Comparison> {
    let mut random = SplitMix(seed);
    let one = |_| {
        let machine = random.drifting(rounds);
        let series = random.run(&machine, samples, &[truth * 1e6, 1e6]);
        compare(&series[0], &series[1]).unwrap()
    };
    (0..RUNS).map(one).collect()
}

/// Says how often, and holds it against what is promised.
fn share(what: &str, plan: (u32, usize), count: usize, promised: std::ops::RangeInclusive<f64>) {
    let share = count as f64 / RUNS as f64;
    let (rounds, samples) = plan;
    println!("{what}, {rounds} rounds of {samples}: {:.1} % of {RUNS} runs", share * 100.0);
    assert!(promised.contains(&share), "{what}, {rounds} rounds of {samples}: {share}");
}

#[test]
fn intervals_of_a_paired_ratio_cover_the_truth() {
    for (seed, plan) in (1..).zip(PLANS) {
        let found = comparisons(seed, plan, 1.3);
        let covered = found.iter().filter(|c| c.ratio.lo <= 1.3 && 1.3 <= c.ratio.hi).count();
        share("ratio, paired", plan, covered, 0.93..=0.97);
    }
}

#[test]
fn a_case_is_not_distinguishable_from_itself() {
    for (seed, plan) in (11..).zip(PLANS) {
        let found = comparisons(seed, plan, 1.0);
        let equal = found.iter().filter(|c| c.verdict == Verdict::NotDistinguishable).count();
        share("A/A not distinguishable", plan, equal, 0.95..=1.0);
    }
}

#[test]
fn a_real_difference_is_seen() {
    let found = comparisons(8, (20, 1), 0.8);
    let seen = found.iter().filter(|c| c.verdict == Verdict::Faster).count();
    share("a difference of 20 % seen", (20, 1), seen, 0.95..=1.0);
    assert!(found.iter().all(|c| c.verdict != Verdict::Slower));
}

/// The median of one sample, to within a ten-thousandth: of half a million.
fn true_median(mut sample: impl FnMut() -> f64) -> f64 {
    let mut many: Vec<f64> = (0..500_001).map(|_| sample()).collect();
    *many.select_nth_unstable_by(250_000, f64::total_cmp).1
}

#[test]
fn intervals_of_a_median_cover_the_truth() {
    let mut random = SplitMix(20);
    let truth = true_median(|| random.unsteady(1)[0] * random.noise());
    for plan in PLANS {
        let mut covers = |_: &usize| {
            let machine = random.unsteady(plan.0);
            let found = random.run(&machine, plan.1, &[1.0])[0].median().unwrap();
            found.lo <= truth && truth <= found.hi
        };
        let covered = (0..RUNS).filter(&mut covers).count();
        share("median", plan, covered, 0.93..=0.97);
    }
}

/// On a machine that slows down all the while, a median speaks of this run's middle, and its interval is
/// wider than it need be, never narrower: the slope is in the scatter of the rounds.
#[test]
fn intervals_of_a_median_cover_a_drifting_run() {
    let mut random = SplitMix(22);
    let mut noise: Vec<f64> = (0..100_001).map(|_| random.noise()).collect();
    noise.sort_by(f64::total_cmp);
    let below = |time: f64, machine: &[f64]| -> usize {
        machine.iter().map(|speed| noise.partition_point(|&noise| noise * speed < time)).sum()
    };
    let middle = |machine: &[f64]| {
        let half = noise.len() * machine.len() / 2;
        let halve = |(lo, hi): (f64, f64)| {
            let time = (lo + hi) / 2.0;
            if below(time, machine) < half {
                (time, hi)
            } else {
                (lo, time)
            }
        };
        (0..20).fold((0.1, 10.0), |ends, _| halve(ends)).0
    };
    for plan in PLANS {
        let mut covers = |_: &usize| {
            let machine = random.drifting(plan.0);
            let found = random.run(&machine, plan.1, &[1.0])[0].median().unwrap();
            let truth = middle(&machine);
            found.lo <= truth && truth <= found.hi
        };
        let covered = (0..RUNS).filter(&mut covers).count();
        share("median of a drifting run", plan, covered, 0.95..=1.0);
    }
}

/// Two runs on machines as unsteady: what `cmp` says of the same case in two runs. See [`super::bootstrap_ratio`]
/// for why this is a little more than promised.
#[test]
fn intervals_of_a_ratio_across_runs_cover_the_truth() {
    let mut random = SplitMix(21);
    for plan in [(6, 2), (12, 2), (24, 2)] {
        let found: Vec<Comparison> = (0..RUNS)
            .map(|_| {
                let [a, b] = [1.3, 1.0].map(|truth| {
                    let machine = random.unsteady(plan.0);
                    random.run(&machine, plan.1, &[truth]).remove(0)
                });
                compare_across(&a, &b).unwrap()
            })
            .collect();
        let covered = found.iter().filter(|c| c.ratio.lo <= 1.3 && 1.3 <= c.ratio.hi).count();
        share("ratio across runs", plan, covered, 0.93..=0.98);
    }
}

#[test]
fn series_without_rounds_are_compared_and_say_so() {
    let mut random = SplitMix(10);
    let mut series =
        |truth: f64| Series { samples: (0..40).map(|_| (Round::Single, truth * random.noise())).collect() };
    let found = compare(&series(1.2), &series(1.0)).unwrap();
    assert_eq!((found.pairing, found.verdict), (super::Pairing::Unpaired, Verdict::Slower));
}

/// Whole decodes of two strategies in turn: each decode is as a whole some per cent off, its steps wander
/// together (neighbouring positions are not independent), and every step has noise and outliers of its own.
fn decodes(random: &mut SplitMix, rounds: usize, ratio: impl Fn(usize) -> f64) -> Vec<LogRatios> {
    let one = |random: &mut SplitMix| {
        let (whole, mut wander) = (0.02 * random.normal(), 0.0);
        let mut step = |_| {
            wander = 0.95 * wander + 0.005 * random.normal();
            whole + wander + random.noise().ln()
        };
        (1..=POSITIONS).map(&mut step).collect::<Vec<f64>>()
    };
    let round = |_| {
        let (first, second) = (one(random), one(random));
        (1..=POSITIONS).map(|t| (t, ratio(t).ln() + first[t - 1] - second[t - 1])).collect()
    };
    (0..rounds).map(round).collect()
}

const POSITIONS: usize = 128;
const DECODES: [usize; 4] = [6, 12, 20, 40];

/// How often the interval holds the true crossing: early, in the middle, late, of a steep and of a flat ratio.
#[test]
fn intervals_of_a_crossing_cover_the_truth() {
    const RUNS: usize = 100;
    for (seed, rounds) in (31..).zip(DECODES) {
        let mut random = SplitMix(seed);
        let (mut all, mut covered) = (0, 0);
        for crosses in [8, 40, 64, 110] {
            for slope in [0.02, 0.004] {
                let ratio = |t: usize| (-slope * (t as f64 - crosses as f64 + 0.5)).exp();
                let held = |_: &usize| match crossing(&decodes(&mut random, rounds, ratio)) {
                    Crossing::At { lo, hi, .. } => {
                        lo.is_none_or(|lo| lo <= crosses) && hi.is_none_or(|hi| crosses <= hi)
                    }
                    Crossing::Everywhere(_) => false,
                    Crossing::Overall(_) | Crossing::Undecided => true, // claims no place
                };
                let here = (0..RUNS).filter(held).count();
                (all, covered) = (all + RUNS, covered + here);
            }
        }
        let share = covered as f64 / all as f64;
        println!("crossing held, {rounds} decodes: {:.1} % of {all} runs", share * 100.0);
        assert!((0.93..=0.998).contains(&share), "{rounds} decodes: {share}");
    }
}

/// Totals that fall as 1/size and grow as the size, each noisy and with outliers, all of a round as fast as its machine:
/// how often the interval holds the size at which they are least, and how often one is claimed of equal totals.
#[test]
fn intervals_of_the_least_size_cover_the_truth() {
    const RUNS: usize = 400;
    let sizes: Vec<usize> = (3..=9).map(|i| 1 << i).collect();
    for (seed, rounds) in (61..).zip(DECODES) {
        let mut random = SplitMix(seed);
        let mut found = |total: &dyn Fn(f64) -> f64| {
            let machine = random.drifting(rounds as u32);
            let round = |speed: &f64| {
                let value = |&size: &usize| (size, total(size as f64) * speed * random.noise());
                sizes.iter().map(value).collect::<Vec<_>>()
            };
            least(&machine.iter().map(round).collect::<Vec<_>>())
        };
        let (mut all, mut covered) = (0, 0);
        for truth in [12.0, 64.0, 90.0, 400.0] {
            let total = |size: f64| truth / size + size / truth;
            let held = |_: &usize| match found(&total) {
                Crossing::At { lo, hi, .. } => {
                    lo.is_none_or(|lo| lo as f64 <= truth + 1.0) && hi.is_none_or(|hi| truth <= hi as f64)
                }
                // beyond the ratio of the last two sizes, or of the first two
                Crossing::Everywhere(Verdict::Faster) => truth >= 362.0,
                Crossing::Everywhere(_) => truth <= 11.4,
                Crossing::Overall(_) | Crossing::Undecided => true, // claims no place
            };
            (all, covered) = (all + RUNS, covered + (0..RUNS).filter(held).count());
        }
        let share = covered as f64 / all as f64;
        let claims = (0..RUNS).filter(|_| matches!(found(&|_| 1.0), Crossing::At { .. })).count() as f64;
        let claimed = claims / RUNS as f64;
        println!(
            "least size held, {rounds} rounds: {:.1} % of {all} runs; of equals one is claimed in {:.1} %",
            share * 100.0,
            claimed * 100.0
        );
        assert!((0.93..=1.0).contains(&share), "{rounds} rounds: {share}");
        assert!(claimed <= 0.05 + 2.0 * (0.05f64 * 0.95 / RUNS as f64).sqrt(), "{rounds} rounds: {claimed}");
    }
}

/// Equal strategies have no crossing, and neither have those of which one is faster all along.
#[test]
fn a_crossing_that_is_not_there_is_seldom_claimed() {
    const RUNS: usize = 400;
    for (seed, rounds) in (41..).zip(DECODES) {
        let mut random = SplitMix(seed);
        for (what, ratio, promised) in
            [("equal", 1.0, 0.05), ("30 % slower", 1.3, 0.01), ("30 % faster", 0.7, 0.01)]
        {
            let claims = (0..RUNS)
                .filter(|_| matches!(crossing(&decodes(&mut random, rounds, |_| ratio)), Crossing::At { .. }))
                .count();
            let share = claims as f64 / RUNS as f64;
            println!("{what}, {rounds} decodes: a crossing is claimed in {:.1} %", share * 100.0);
            // two standard deviations of what chance adds to the promise
            assert!(share <= promised + 2.0 * (promised / RUNS as f64).sqrt(), "{what}, {rounds}: {share}");
        }
    }
}

/// One value a run of each of several cases: the machine is at another speed in each run, the same for all of its cases,
/// and each case finds another place in memory.
fn medians_of_runs(random: &mut SplitMix, runs: usize, truth: &[f64]) -> Vec<Vec<f64>> {
    let mut cases = vec![Vec::new(); truth.len()];
    for _ in 0..runs {
        let machine = 0.01 * random.heavy();
        for (case, truth) in cases.iter_mut().zip(truth) {
            case.push(truth * (machine + 0.01 * random.normal()).exp());
        }
    }
    cases
}

/// `cmp --base A,B,C --new D,E,F --fail-if-slower 0%` on runs of one build, and on a build that is slower in one case.
#[test]
fn a_gate_on_several_runs_neither_cries_wolf_nor_sleeps() {
    let mut random = SplitMix(51);
    for (runs, cases) in [(2, 1), (2, 12), (3, 1), (3, 12), (3, 60), (6, 12)] {
        let mut failed = |truth: &[f64]| {
            let [new, base] =
                [truth, &vec![1.0; cases]].map(|truth| medians_of_runs(&mut random, runs, truth));
            let verdicts = new.iter().zip(&base).map(|(a, b)| compare_runs(a, b, cases).unwrap().verdict);
            verdicts.filter(|verdict| *verdict == Verdict::Slower).count() > 0
        };
        let mut share = |truth: &[f64]| (0..RUNS).filter(|_| failed(truth)).count() as f64 / RUNS as f64;
        let equal = share(&vec![1.0; cases]);
        let slower = share(&[vec![1.3], vec![1.0; cases - 1]].concat());
        println!(
            "{cases} cases, {runs} runs a side: equals fail in {:.1} %, 30 % in one case is seen in {:.1} %",
            equal * 100.0,
            slower * 100.0
        );
        assert!(equal <= 0.05, "{cases} cases, {runs} runs: {equal}");
        assert!(slower >= 0.9 || runs == 2, "{cases} cases, {runs} runs: {slower}");
    }
}

/// `bench-ab`: two builds in turn, every round in processes of its own, which are some per cent apart as a whole.
#[test]
fn two_builds_in_turn_are_told_apart() {
    let mut random = SplitMix(52);
    for cases in [1, 6, 24] {
        let rounds = rounds_for(cases).max(12) as u32;
        let mut share = |truth: f64, wanted: Verdict| {
            let mut seen = |_: &usize| {
                let machine = random.drifting(rounds);
                let mut one = |_| {
                    let mut process = |truth: f64| {
                        let ns = |(round, speed): (u32, &f64)| {
                            let apart = (0.01 * random.normal()).exp();
                            (Round::Interleaved(round), truth * speed * apart * 1e6)
                        };
                        Series { samples: (1..).zip(&machine).map(ns).collect() }
                    };
                    let [new, base] = [truth, 1.0].map(&mut process);
                    compare_together(&new, &base, cases).unwrap().verdict
                };
                let verdicts: Vec<Verdict> = (0..cases).map(&mut one).collect();
                match wanted {
                    Verdict::NotDistinguishable => verdicts.iter().any(|&verdict| verdict != wanted),
                    _ => verdicts[0] == wanted,
                }
            };
            (0..RUNS).filter(&mut seen).count() as f64 / RUNS as f64
        };
        let equal = share(1.0, Verdict::NotDistinguishable);
        let slower = share(1.05, Verdict::Slower);
        println!(
            "{cases} cases in {rounds} rounds: equals differ in {:.1} %, 5 % is seen in {:.1} %",
            equal * 100.0,
            slower * 100.0
        );
        assert!(equal <= 0.05 + 0.01 && slower >= 0.9, "{cases} cases: {equal} {slower}");
    }
}
