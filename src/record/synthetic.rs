//! A run that never happened, for tests of what reads runs: step times near those of a real machine,
//! naive growing with its recomputation, padded constant and overtaking concat, noise, drift.

use super::Round;
use super::{Bandwidth, Environment, EqualityRow, Gpu, LedgerRow, Metric, PeakFlops, Run, Sample};
use crate::case::Case;
use crate::strategy::Strategy;

const STRATEGIES: [Strategy; 6] = [
    Strategy::Naive,
    Strategy::Concat,
    Strategy::Padded,
    Strategy::Chunked(64),
    Strategy::Bounded,
    Strategy::Onehot,
];
const ROW_BYTES: u64 = 3 * 2 * 256 * 4;
const WEIGHT_BYTES: u64 = 10_500_000;
const CAPACITY: u64 = 512;

/// Of transformer-toy at positions 1, 8, 16, 32, .. 512.
pub(crate) fn run(rounds: u32) -> Run {
    run_at(rounds, &[1, 8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512])
}

pub(crate) fn run_at(rounds: u32, positions: &[usize]) -> Run {
    let mut random = 1u64;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        let drift = 1.0 + 0.1 * (f64::from(round) * 0.7).sin();
        for case in cases(positions) {
            let value = step_ns(&case) * drift * noise(&mut random);
            samples.push(Sample::value(case, Metric::StepNs, Round::Interleaved(round), 1, value as u64));
        }
        for case in cases(&[1]) {
            let create = if case.strategy == Strategy::Naive { 300.0 } else { 90_000.0 };
            for (metric, ns) in [
                (Metric::LoadNs, 21e6),
                (Metric::CacheCreateNs, create),
                (Metric::FirstStepNs, step_ns(&case) + 3.1e6),
            ] {
                let value = ns * drift * noise(&mut random);
                samples.push(Sample::value(case, metric, Round::Interleaved(round), 1, value as u64));
            }
        }
        for case in cases(&[512]).into_iter().filter(|case| case.strategy != Strategy::Naive) {
            let whole: f64 = (1..=512).map(|t| step_ns(&case.at(t))).sum();
            samples.push(Sample::value(
                case,
                Metric::DecodeNs,
                Round::Interleaved(round),
                1,
                (whole * drift * noise(&mut random)) as u64,
            ));
        }
    }
    let exact = cases(positions).into_iter().flat_map(memory);
    samples.extend(exact.map(|(case, metric, bytes)| Sample::value(case, metric, Round::Single, 1, bytes)));
    Run {
        path: "results/2026-11-21T12-00-00Z-synthetic-2c".into(),
        environment: environment(),
        samples,
        equality: cases(positions).into_iter().map(equality).collect(),
        ledger: cases(positions).into_iter().flat_map(ledger).collect(),
        extra: Default::default(),
        notes: Vec::new(),
    }
}

/// Whole decodes of 512 tokens, whose tables show three positions. Each decode is by itself some per cent faster or slower.
pub(crate) fn decoded(rounds: u32, seed: u64) -> Run {
    let (mut random, mut samples) = (seed, Vec::new());
    for round in 1..=rounds {
        for start in cases(&[1]) {
            let decode = noise(&mut random);
            samples.extend((1..=512).map(|t| {
                let case = start.at(t);
                let ns = step_ns(&case) * decode * noise(&mut random);
                Sample::value(case, Metric::StepNs, Round::Decode(round), 1, ns as u64)
            }));
        }
    }
    Run { samples, equality: cases(&[64, 256, 512]).into_iter().map(equality).collect(), ..run_at(0, &[]) }
}

/// Decodes of 512 tokens compiled, a second for each shape and a tenth more in each further round.
pub(crate) fn compiled(rounds: u32) -> Run {
    let example: Case = "transformer-toy/padded/nvrtc-sm_90/b1/t512".parse().unwrap();
    let mut samples = Vec::new();
    for (strategy, rows, kernels) in
        [(Strategy::Concat, 1, 1032), (Strategy::Chunked(64), 64, 24), (Strategy::Padded, 512, 10)]
    {
        let case = example.under(strategy);
        for round in 1..=rounds {
            let ns = 1_000_000_000 + 100_000_000 * u64::from(round - 1);
            let first = (1..=512).step_by(rows);
            samples.extend(
                first.map(|t| Sample::value(case.at(t), Metric::CompileNs, Round::Interleaved(round), 1, ns)),
            );
        }
        samples.push(Sample::value(case, Metric::Compiles, Round::Single, 1, 512 / rows as u64));
        samples.push(Sample::value(case, Metric::CompiledKernels, Round::Single, 1, kernels));
    }
    let gpu = Gpu { nvrtc: Some("12.9".into()), ..Gpu::default() };
    Run {
        path: "results/2026-11-21T13-00-00Z-synthetic-2c".into(),
        environment: Environment { gpu: Some(gpu), ..environment() },
        samples,
        equality: Vec::new(),
        ledger: Vec::new(),
        extra: Default::default(),
        notes: Vec::new(),
    }
}

/// Four beams reordered: concat in a tenth of its step, padded in half of its own, both slowing down from round to
/// round alike.
pub(crate) fn reordered(rounds: u32) -> Run {
    let example: Case = "transformer-toy/padded/cpu/b4/t256".parse().unwrap();
    let mut samples = Vec::new();
    for (strategy, reorder, step, bytes) in
        [(Strategy::Concat, 100_000, 1_000_000, 12_533_760), (Strategy::Padded, 450_000, 900_000, 25_165_824)]
    {
        let case = example.under(strategy);
        for (round, metric, ns) in (1..=rounds)
            .flat_map(|round| [(round, Metric::ReorderNs, reorder), (round, Metric::ReorderedStepNs, step)])
        {
            samples.push(Sample::value(case, metric, Round::Interleaved(round), 1, ns * u64::from(round)));
        }
        samples.push(Sample::value(case, Metric::ReorderBytes, Round::Single, 1, bytes));
    }
    Run { samples, ..compiled(0) }
}

fn cases(positions: &[usize]) -> Vec<Case> {
    let case: Case = "transformer-toy/naive/cpu/b1/t1".parse().unwrap();
    positions.iter().flat_map(|&t| STRATEGIES.map(|s| case.at(t).under(s))).collect()
}

fn environment() -> Environment {
    let ceiling = Bandwidth {
        model_shape: "transformer-toy".into(),
        bytes: WEIGHT_BYTES,
        threads: 2,
        bytes_per_second: 39_000_000_000,
        pattern: "four streams".into(),
        ..Bandwidth::default()
    };
    let peak = PeakFlops { flops_per_second: 159_000_000_000, how: "512³ by gemm".into() };
    Environment {
        cpu_model: Some("Synthetic(R) Processor @ 2.30GHz".into()),
        git_revision: Some("0123456789abcdef0123456789abcdef01234567".into()),
        git_dirty: Some(false),
        checkout: None,
        profile: Some("release, opt-level 3".into()),
        started_utc: "2026-11-21T12:00:00Z".into(),
        finished_utc: Some("2026-11-21T12:09:00Z".into()),
        physical_cores: Some(2),
        virtualised: Some(true),
        read_bandwidth: vec![ceiling],
        peak_flops: Some(peak),
        ..Environment::collect(2, 42)
    }
}

fn step_ns(case: &Case) -> f64 {
    let t = case.position as f64;
    let cached = 290_000.0;
    match case.strategy {
        Strategy::Naive | Strategy::NaivePadded => cached + t * 40_000.0 + t * t * 60.0,
        Strategy::Concat => cached + 900.0 * t,
        Strategy::Padded | Strategy::Reprojected => cached + 170_000.0,
        Strategy::Chunked(c) => cached + 400.0 * (case.position.next_multiple_of(c)) as f64,
        Strategy::Bounded => cached + 320.0 * t,
        Strategy::Onehot | Strategy::Shift => cached + 430_000.0,
    }
}

fn memory(case: Case) -> Vec<(Case, Metric, u64)> {
    let t = case.position as u64;
    let (live, allocated, moment) = match case.strategy {
        Strategy::Naive | Strategy::NaivePadded => (0, 0, 0),
        Strategy::Concat => (t, t, 2 * t - 1),
        Strategy::Chunked(c) => {
            let rows = case.position.next_multiple_of(c) as u64;
            (t, rows, if (t - 1).is_multiple_of(c as u64) { 2 * rows - c as u64 } else { rows })
        }
        _ => (t, CAPACITY, CAPACITY),
    };
    let allocations = if case.strategy == Strategy::Concat { 6 } else { 0 };
    vec![
        (case, Metric::CacheLiveBytes, live * ROW_BYTES),
        (case, Metric::CacheAllocatedBytes, allocated * ROW_BYTES),
        (case, Metric::TransientPeakBytes, moment * ROW_BYTES),
        (case, Metric::StepAllocs, allocations),
    ]
}

fn equality(case: Case) -> EqualityRow {
    EqualityRow {
        case,
        max_abs: Some(2e-6),
        max_rel: Some(1e-6),
        place: "0/17".into(),
        tolerance: 1e-4,
        error: None,
        rounding: None,
    }
}

fn ledger(case: Case) -> Vec<LedgerRow> {
    let (t, dense) = (case.position as u64, 3 * (8 * 256 * 256 + 4 * 256 * 1024));
    let flops = match case.strategy {
        Strategy::Naive => t * dense + 3 * 4 * 256 * t * t,
        _ => dense + 3 * 4 * 256 * t,
    };
    vec![LedgerRow { case, metric: Metric::StepFlops, counted: flops, predicted: Some(flops) }]
}

/// A factor around 1: a sum of twelve uniform numbers is nearly normal; one in thirty is slow.
fn noise(random: &mut u64) -> f64 {
    let mut uniform = || {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) as f64 / (1u64 << 31) as f64
    };
    let normal: f64 = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let slow = if uniform() < 0.03 { 1.5 } else { 1.0 };
    (1.0 + 0.02 * normal) * slow
}
