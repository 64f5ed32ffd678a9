//! Whole decodes, every step timed as it comes: no fork before it, nothing repeated. Strategies
//! decode in turn, and whole rounds of them are repeated.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::rig::timed;
use super::{Record, Rig};
use crate::backend::Backend;
use crate::cache::Strategy;
use crate::case::{BackendName, Case, ShapeName};
use crate::error::Result;
use crate::record::{Metric, Sample, FIRST_DECODE_ROUND};

/// The rounds that `cargo bench` decodes in.
pub const ROUNDS: Range<u32> = FIRST_DECODE_ROUND..FIRST_DECODE_ROUND + 6;

/// The strategies that the cases have, each once. Recomputing a whole capacity costs the same at
/// every step: it is left out, one position says it all.
pub fn strategies(cases: &[Case]) -> Vec<Case> {
    let mut cases: Vec<Case> = cases.iter().map(|case| case.at(1)).collect();
    cases.retain(|case| case.strategy != Strategy::NaivePadded);
    cases.sort();
    cases.dedup();
    cases
}

/// How far `cargo bench` decodes: to the capacity of `toy`, less where recomputing, or compiling every
/// length, takes minutes.
pub fn usual_length(shape: ShapeName, backend: BackendName) -> Option<usize> {
    match (shape, backend) {
        (ShapeName::Gpt2 | ShapeName::Large, _) => None,
        (_, BackendName::CudaSpecialised) => Some(32),
        (ShapeName::Tiny, _) => Some(64),
        (ShapeName::Toy, _) => Some(512),
        (ShapeName::Base | ShapeName::FlaxToy | ShapeName::Wmt, _) => Some(128),
    }
}

/// Decodes `tokens` tokens under each case's strategy in turn, once in each round that the run does
/// not have yet. After the first, no round is begun once the budget is spent.
pub fn decodes<B: Backend>(
    rig: &Rig<B>,
    cases: &[Case],
    tokens: usize,
    rounds: Range<u32>,
    budget: Option<Duration>,
    record: &mut Record,
) -> Result<()> {
    let start = Instant::now();
    let all = rounds.len();
    for (begun, round) in rounds.enumerate() {
        let missing: Vec<Case> =
            cases.iter().copied().filter(|case| !ended(record, &case.at(tokens), round)).collect();
        if begun > 0 && budget.is_some_and(|budget| start.elapsed() > budget) {
            break;
        }
        if !missing.is_empty() {
            eprintln!(
                "    decoding {tokens} tokens under {} strategies, round {} of {all}",
                missing.len(),
                begun + 1
            );
        }
        for turn in 0..missing.len() {
            let case = missing[(turn + round as usize) % missing.len()];
            decode(rig, &case, tokens, round, |sample| record.sample(sample))?;
        }
    }
    Ok(())
}

/// The decode's own row comes last, so where it is the steps are too.
fn ended(record: &Record, case: &Case, round: u32) -> bool {
    let mut rows = record.done.samples.iter();
    rows.any(|s| s.case == *case && s.metric == Metric::DecodeNs && s.round == round)
}

/// Feeds the given tokens one by one. elapsed = feed + synchronize, for each; the decode's time is
/// the sum. Where lengths are compiled in, the decode begins with nothing compiled: its steps contain
/// what they had to compile, which is also written down by itself.
fn decode<B: Backend>(
    rig: &Rig<B>,
    case: &Case,
    tokens: usize,
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    let b = &rig.backend;
    b.forget_compiled();
    let mut session = rig.session(case)?;
    let (mut total, mut shapes) = (Duration::ZERO, 0);
    for position in 1..=tokens {
        let compiled = b.prepared().compile_ns.len();
        let elapsed = timed(b, &mut session, &rig.token(case.batch, position))?;
        total += elapsed;
        keep(&Sample::value(case.at(position), Metric::StepNs, round, 1, elapsed.as_nanos() as u64))?;
        let compile_ns: u64 = b.prepared().compile_ns[compiled..].iter().sum();
        if compile_ns > 0 {
            shapes += 1;
            keep(&Sample::value(case.at(position), Metric::CompileNs, round, 1, compile_ns))?;
        }
    }
    if case.backend == BackendName::CudaSpecialised {
        keep(&Sample::value(case.at(tokens), Metric::Compiles, round, 1, shapes))?;
    }
    keep(&Sample::value(case.at(tokens), Metric::DecodeNs, round, 1, total.as_nanos() as u64))
}
