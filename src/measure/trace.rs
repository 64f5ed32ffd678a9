//! Decodes, every step timed as it comes: nothing is copied before it, nothing is repeated. Strategies
//! decode in turn, and rounds of them are repeated.
//!
//! A step depends on the steps before it: they left its rows in the caches of the processors that will read them, in
//! pages that were touched, with both threads awake. So where a whole decode takes too long, its end is timed after a
//! lead of untimed steps. `selftest --agreement` measures whether that is long enough.

use std::time::Duration;

use super::fixture::timed;
use super::interleaved::order;
use super::{say, Fixture, Record};
use crate::analysis::window;
use crate::backend::{Backend, Tokens};
use crate::case::{BackendName, Case};
use crate::error::Result;
use crate::model::{AnyModel, Model};
use crate::record::{Metric, Round, Run, Sample, STEP_WINDOW};
use crate::session::Session;

/// Steps of the end of a decode that are not timed. Those of a strategy without a cache share nothing but the
/// weights, so one is enough.
const LEAD: usize = 32;

/// A decode to be timed, from the step to position `from` on.
pub struct Decode<'a, B: Backend> {
    fixture: &'a Fixture<B>,
    /// At the last position.
    case: Case,
    from: usize,
    /// What was seen before the lead; `None`: nothing.
    prefilled: Option<Session<'a, B, AnyModel<B>>>,
}

impl<'a, B: Backend> Decode<'a, B> {
    /// From an empty cache to the case's position, all of it timed.
    pub fn whole(fixture: &'a Fixture<B>, case: Case) -> Decode<'a, B> {
        Decode { fixture, case, from: 1, prefilled: None }
    }

    /// The steps that are the case's [figure](window).
    pub fn end(fixture: &'a Fixture<B>, case: Case) -> Result<Decode<'a, B>> {
        let from = *window(&case, STEP_WINDOW).start();
        let lead = if case.strategy.remembers() { LEAD } else { 1 };
        let before = from.saturating_sub(lead + 1);
        let prefilled = (before > 0).then(|| -> Result<_> {
            let mut session = fixture.session(&case)?;
            session.prefill(&Tokens::given(case.batch, 0, before, fixture.model.vocab()))?;
            Ok(session)
        });
        Ok(Decode { fixture, case, from, prefilled: prefilled.transpose()? })
    }

    fn begin(&self) -> Result<Session<'a, B, AnyModel<B>>> {
        match &self.prefilled {
            Some(prefilled) => prefilled.fork(),
            None => self.fixture.session(&self.case),
        }
    }

    /// Feeds the given tokens one by one, and hands on each position from `from` on with the time of its step.
    /// elapsed = feed + synchronize.
    fn go_on(
        &self,
        mut session: Session<'a, B, AnyModel<B>>,
        mut each: impl FnMut(usize, Duration) -> Result<()>,
    ) -> Result<()> {
        let Decode { fixture, case, from, .. } = self;
        for position in session.len() + 1..=case.position {
            let elapsed = timed(&fixture.backend, &mut session, &fixture.token(case.batch, position))?;
            if position >= *from {
                each(position, elapsed)?;
            }
        }
        Ok(())
    }

    /// One such decode: the time of each of its steps, with the position.
    pub fn steps(&self) -> Result<Vec<(usize, Duration)>> {
        let mut steps = Vec::with_capacity(self.case.position);
        self.go_on(self.begin()?, |position, elapsed| {
            steps.push((position, elapsed));
            Ok(())
        })?;
        Ok(steps)
    }

    fn is_whole(&self) -> bool {
        self.from == 1
    }

    /// Whether the run has this round of it. The decode's own row comes last, so where it is the steps are too.
    fn is_in(&self, run: &Run, round: u32) -> bool {
        let last = if self.is_whole() { Metric::DecodeNs } else { Metric::StepNs };
        let mut rows = run.samples.iter();
        rows.any(|s| s.case == self.case && s.metric == last && s.round == Round::Decode(round))
    }
}

/// Decodes in turn, in each round from 1 to `most` that the run does not have yet, and one more for each that something else
/// disturbed, but for no more than as many again. `enough` is told how many rounds were
/// taken and what the last one gave, nothing of a disturbed one, and ends it. On a GPU each decodes once before, untimed, for a step early in the
/// first decode would else wait for a compiler: not where that is the subject.
pub fn decodes<B: Backend>(
    decodes: &[Decode<'_, B>],
    most: u32,
    record: &mut Record,
    mut enough: impl FnMut(u32, &[Sample]) -> bool,
) -> Result<()> {
    let (mut begun, mut disturbed, mut taken) = (0, 0, Vec::new());
    for round in 1..=2 * most {
        if round > most + disturbed {
            break;
        }
        let missing: Vec<_> = decodes.iter().filter(|decode| !decode.is_in(&record.done, round)).collect();
        if missing.is_empty() {
            let was = |decode: &Decode<'_, B>| record.was_disturbed(&decode.case, Round::Decode(round));
            disturbed += u32::from(decodes.iter().any(was));
            continue;
        }
        if begun == 0 && enough(0, &[]) {
            break;
        }
        if let Some(whole) = missing.iter().find(|decode| decode.is_whole()) {
            let (tokens, strategies) = (whole.case.position, missing.len());
            say(format_args!(
                "    decoding {tokens} tokens under {strategies} strategies, round {round} of {}",
                most + disturbed
            ));
        }
        if begun == 0 {
            missing.iter().try_for_each(|decode| warm_up(decode))?;
        }
        begun += 1;
        taken.clear();
        let moment = record.begin_round();
        for turn in order(missing.len(), round).take(missing.len()) {
            let decode = missing[turn];
            take(decode, round, |sample| {
                record.sample(&sample)?;
                taken.push(sample);
                Ok(())
            })?;
            record.clocks(&decode.case, Round::Decode(round))?;
        }
        let cases = missing.iter().map(|decode| decode.case);
        if record.end_round(moment, cases, Round::Decode(round))? {
            disturbed += 1;
            taken.clear();
        }
        if enough(begun, &taken) {
            break;
        }
    }
    Ok(())
}

fn warm_up<B: Backend>(decode: &Decode<'_, B>) -> Result<()> {
    match decode.case.backend {
        BackendName::Cuda | BackendName::CudaGraph => decode.steps().map(drop),
        BackendName::Cpu | BackendName::CudaSpecialised | BackendName::Outside(_) => Ok(()),
    }
}

/// The samples of one round. The time of a whole decode is the sum of its steps. Where steps are replayed, one of the
/// first contains its recording: every decode has its own. Where lengths are compiled in, the decode begins with
/// nothing compiled: its steps contain what they had to compile, which is also written down by itself.
fn take<B: Backend>(
    decode: &Decode<'_, B>,
    round: u32,
    mut keep: impl FnMut(Sample) -> Result<()>,
) -> Result<()> {
    let (b, case) = (&decode.fixture.backend, decode.case);
    let sample =
        |position, metric, value| Sample::value(case.at(position), metric, Round::Decode(round), 1, value);
    b.forget_compiled();
    let session = decode.begin()?;
    let (mut total, mut shapes, mut compiled) = (Duration::ZERO, 0, b.prepared().compile_ns.len());
    decode.go_on(session, |position, elapsed| {
        total += elapsed;
        keep(sample(position, Metric::StepNs, elapsed.as_nanos() as u64))?;
        let all = b.prepared().compile_ns;
        let compile_ns: u64 = all[compiled..].iter().sum();
        compiled = all.len();
        if compile_ns > 0 {
            shapes += 1;
            keep(sample(position, Metric::CompileNs, compile_ns))?;
        }
        Ok(())
    })?;
    if case.backend == BackendName::CudaSpecialised {
        keep(sample(case.position, Metric::Compiles, shapes))?;
    }
    match decode.is_whole() {
        true => keep(sample(case.position, Metric::DecodeNs, total.as_nanos() as u64)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::weather::Moment;
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::cuda::{Cuda, Device, Mode};
    use crate::backend::tests::device;
    use crate::case::{ModelKind, ModelName, ShapeName};
    use crate::measure::Settings;
    use crate::record::Environment;
    use crate::strategy::Strategy;

    #[test]
    fn the_end_of_a_decode_has_the_steps_of_its_table() {
        let b = Cpu::new(1).unwrap();
        let fixture = Fixture::load(b, ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1).unwrap();
        let positions = |id: &str| -> Vec<usize> {
            let end = Decode::end(&fixture, id.parse().unwrap()).unwrap();
            end.steps().unwrap().into_iter().map(|(position, _)| position).collect()
        };
        assert_eq!(positions("transformer-tiny/concat/cpu/b3/t64"), (57..=64).collect::<Vec<_>>());
        assert_eq!(positions("transformer-tiny/padded/cpu/b1/t16"), [15, 16]);
        assert_eq!(positions("transformer-tiny/padded/cpu/b1/t1"), [1]);
        assert_eq!(positions("transformer-tiny/naive/cpu/b1/t64"), [64]);
    }

    /// Ends and whole decodes in one run: rounds that it has are not taken again.
    #[test]
    fn a_round_is_taken_once() {
        let b = Cpu::new(1).unwrap();
        let fixture = Fixture::load(b, ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1).unwrap();
        let case: Case = "transformer-tiny/padded/cpu/b1/t16".parse().unwrap();
        let whole = Decode::whole(&fixture, case.under(Strategy::Concat));
        let all = [whole, Decode::end(&fixture, case).unwrap()];
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { results: folder.path().into(), ..Settings::default() };
        let mut record = Record::open(&settings, Environment::collect(1, 1)).unwrap();
        let mut told = Vec::new();
        let mut two = |begun, samples: &[Sample]| {
            told.push((begun, samples.len()));
            begun == 2
        };
        decodes(&all, 9, &mut record, &mut two).unwrap();
        let mut record = record.look_again().unwrap();
        decodes(&all, 3, &mut record, &mut two).unwrap();
        let a_round = 16 + 1 + 2; // every step, the decode, and two steps of an end
        assert_eq!(told, [(0, 0), (1, a_round), (2, a_round), (0, 0), (1, a_round)]);
    }

    /// The rounds that a run has after `most` were asked for, and how often it was told of none. A second passes in each;
    /// in those up to `busy` others use half a processor.
    fn rounds_taken(most: u32, busy: u64, resumed_after: Option<u32>) -> (Vec<u32>, Vec<usize>) {
        thread_local!(static LOOKS: Cell<(u64, u64)> = const { Cell::new((0, 0)) });
        fn moment() -> Option<Moment> {
            let (looks, busy) = LOOKS.get();
            LOOKS.set((looks + 1, busy));
            let ended = looks.div_ceil(2); // rounds, each begun by one look and ended by another
            Some(Moment::invented(ended, 5 * ended.min(busy)))
        }
        LOOKS.set((0, busy));
        let b = Cpu::new(1).unwrap();
        let fixture = Fixture::load(b, ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1).unwrap();
        let case: Case = "transformer-tiny/padded/cpu/b1/t4".parse().unwrap();
        let all = [Decode::whole(&fixture, case), Decode::whole(&fixture, case.under(Strategy::Concat))];
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { results: folder.path().into(), ..Settings::default() };
        let mut environment = Environment::collect(1, 1);
        environment.logical_cores = Some(2);
        let mut record = Record::open(&settings, environment).unwrap().with_moments(moment);
        let mut told = Vec::new();
        let mut go_on = |record: &mut Record, until: Option<u32>| {
            decodes(&all, most, record, |begun, samples| {
                told.extend((begun > 0).then_some(samples.len()));
                begun > 0 && Some(begun) == until
            })
        };
        if resumed_after.is_some() {
            go_on(&mut record, resumed_after).unwrap();
            record = record.look_again().unwrap().with_moments(moment);
        }
        go_on(&mut record, None).unwrap();
        let run = record.finish().unwrap();
        let taken = run.samples.iter().filter(|s| s.metric == Metric::DecodeNs && s.case == case);
        (taken.map(|sample| sample.round.number()).collect(), told)
    }

    /// Two strategies of four steps and their decodes are ten samples.
    #[test]
    fn a_disturbed_round_is_kept_and_one_more_is_taken() {
        assert_eq!(rounds_taken(3, 0, None), (vec![1, 2, 3], vec![10; 3]));
        assert_eq!(rounds_taken(3, 2, None), (vec![1, 2, 3, 4, 5], vec![0, 0, 10, 10, 10]));
        assert_eq!(
            rounds_taken(3, 99, None),
            (vec![1, 2, 3, 4, 5, 6], vec![0; 6]),
            "no more than as many again"
        );
        let resumed = rounds_taken(3, 2, Some(2));
        assert_eq!(
            resumed,
            (vec![1, 2, 3, 4, 5], vec![0, 0, 10, 10, 10]),
            "the rounds before are remembered"
        );
    }

    /// What a decode compiled within its time is a row of its own: there must be none.
    #[test]
    fn the_first_decode_on_cuda_does_not_wait_for_a_compiler() {
        let Some(_) = device() else { return };
        let cold = Device::open(0).unwrap(); // with nothing compiled
        let b = Cuda::new(&cold, Mode::Stream).unwrap();
        let fixture = Fixture::load(b, ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1).unwrap();
        let case: Case = "transformer-tiny/naive/cuda/b1/t1".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { results: folder.path().into(), ..Settings::default() };
        let mut record = Record::open(&settings, Environment::collect(1, 1)).unwrap();
        let path = record.writer.path().to_path_buf();
        decodes(&[Decode::whole(&fixture, case.at(10))], 1, &mut record, |_, _| false).unwrap();
        let run = crate::record::Run::open(&path).unwrap();
        let of = |metric| run.samples.iter().filter(|sample| sample.metric == metric).count();
        assert!(!fixture.backend.compiled().is_empty());
        assert_eq!((of(Metric::StepNs), of(Metric::DecodeNs), of(Metric::CompileNs)), (10, 1, 0));
    }
}
