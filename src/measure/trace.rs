//! Whole decodes, every step timed as it comes: no fork before it, nothing repeated. Strategies
//! decode in turn, and whole rounds of them are repeated.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::fixture::timed;
use super::{say, Fixture, Record};
use crate::backend::Backend;
use crate::case::{BackendName, Case};
use crate::error::Result;
use crate::record::{Metric, Round, Sample};

/// The rounds that `cargo bench` decodes in.
pub const ROUNDS: RangeInclusive<u32> = 1..=6;

/// Decodes `tokens` tokens under each case's strategy in turn, once in each round that the run does
/// not have yet. After the first, no round is begun once the budget is spent. On a GPU each decodes once before,
/// untimed, for a step early in the first decode would else wait for a compiler: not where that is the subject.
pub fn decodes<B: Backend>(
    fixture: &Fixture<B>,
    cases: &[Case],
    tokens: usize,
    rounds: RangeInclusive<u32>,
    budget: Option<Duration>,
    record: &mut Record,
) -> Result<()> {
    let start = Instant::now();
    let (all, mut warm) = (rounds.clone().count(), false);
    for (begun, round) in rounds.enumerate() {
        let missing: Vec<Case> =
            cases.iter().copied().filter(|case| !ended(record, &case.at(tokens), round)).collect();
        if begun > 0 && budget.is_some_and(|budget| start.elapsed() > budget) {
            break;
        }
        if !missing.is_empty() {
            let (strategies, round) = (missing.len(), begun + 1);
            say(format_args!(
                "    decoding {tokens} tokens under {strategies} strategies, round {round} of {all}"
            ));
        }
        if !missing.is_empty() && !std::mem::replace(&mut warm, true) {
            missing.iter().try_for_each(|case| warm_up(fixture, case, tokens))?;
        }
        for turn in 0..missing.len() {
            let case = missing[(turn + round as usize) % missing.len()];
            decode(fixture, &case, tokens, round, |sample| record.sample(sample))?;
            record.clocks(&case.at(tokens), Round::Decode(round))?;
        }
    }
    Ok(())
}

fn warm_up<B: Backend>(fixture: &Fixture<B>, case: &Case, tokens: usize) -> Result<()> {
    match case.backend {
        BackendName::Cuda | BackendName::CudaGraph => decode(fixture, case, tokens, 0, |_| Ok(())),
        BackendName::Cpu | BackendName::CudaSpecialised | BackendName::Outside(_) => Ok(()),
    }
}

/// The decode's own row comes last, so where it is the steps are too.
fn ended(record: &Record, case: &Case, round: u32) -> bool {
    let mut rows = record.done.samples.iter();
    rows.any(|s| s.case == *case && s.metric == Metric::DecodeNs && s.round == Round::Decode(round))
}

/// Feeds the given tokens one by one. elapsed = feed + synchronize, for each; the decode's time is
/// the sum. Where steps are replayed, one of the first contains its recording: every decode has its own. Where lengths are compiled in, the decode begins with nothing compiled: its steps contain
/// what they had to compile, which is also written down by itself.
fn decode<B: Backend>(
    fixture: &Fixture<B>,
    case: &Case,
    tokens: usize,
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    let b = &fixture.backend;
    b.forget_compiled();
    let mut session = fixture.session(case)?;
    let (mut total, mut shapes) = (Duration::ZERO, 0);
    for position in 1..=tokens {
        let compiled = b.prepared().compile_ns.len();
        let elapsed = timed(b, &mut session, &fixture.token(case.batch, position))?;
        total += elapsed;
        keep(&Sample::value(
            case.at(position),
            Metric::StepNs,
            Round::Decode(round),
            1,
            elapsed.as_nanos() as u64,
        ))?;
        let compile_ns: u64 = b.prepared().compile_ns[compiled..].iter().sum();
        if compile_ns > 0 {
            shapes += 1;
            keep(&Sample::value(case.at(position), Metric::CompileNs, Round::Decode(round), 1, compile_ns))?;
        }
    }
    if case.backend == BackendName::CudaSpecialised {
        keep(&Sample::value(case.at(tokens), Metric::Compiles, Round::Decode(round), 1, shapes))?;
    }
    keep(&Sample::value(case.at(tokens), Metric::DecodeNs, Round::Decode(round), 1, total.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::{Cuda, Device, Mode};
    use crate::backend::tests::device;
    use crate::case::{ModelKind, ShapeName};
    use crate::measure::Settings;
    use crate::record::Environment;

    /// What a decode compiled within its time is a row of its own: there must be none.
    #[test]
    fn the_first_decode_on_cuda_does_not_wait_for_a_compiler() {
        let Some(_) = device() else { return };
        let cold = Device::open(0).unwrap(); // with nothing compiled
        let b = Cuda::new(&cold, Mode::Stream).unwrap();
        let fixture = Fixture::load(b, ModelKind::Transformer, ShapeName::Tiny, 1).unwrap();
        let case: Case = "transformer-tiny/naive/cuda/b1/t1".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { results: folder.path().into(), ..Settings::default() };
        let mut record = Record::open(&settings, Environment::collect(1, 1)).unwrap();
        let path = record.writer.path().to_path_buf();
        decodes(&fixture, &[case], 10, 1..=1, None, &mut record).unwrap();
        let run = crate::record::Run::open(&path).unwrap();
        let of = |metric| run.samples.iter().filter(|sample| sample.metric == metric).count();
        assert!(!fixture.backend.compiled().is_empty());
        assert_eq!((of(Metric::StepNs), of(Metric::DecodeNs), of(Metric::CompileNs)), (10, 1, 0));
    }
}
