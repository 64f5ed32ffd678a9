//! Steps of copies and prefills, strategies in turn, A B C A B C. A shared machine drifts; what one round takes of it, all
//! strategies of the round take alike, so ratios are formed within rounds.

use std::time::Duration;

use super::equality::same_when_pipelined;
use super::fixture::timed_calls;
use super::{Fixture, Pipeline, Prefilled};
use crate::backend::{Backend, Tokens};
use crate::case::Case;
use crate::error::Result;
use crate::model::Model;
use crate::record::{Metric, Round, Sample};

/// How long one sample of short steps should last, so that the clock and a stray interrupt do not matter.
pub(super) const SAMPLE: Duration = Duration::from_millis(4);

/// One round of steps of `cases`, which differ in nothing but the strategy: all of them in turn, and
/// in turn again, so that each is also compared with itself.
/// elapsed = Σ (feed + synchronize); copies are outside. A device with a clock of its own is asked for the
/// time of as many steps more, and one on which work is queued for steps that do not wait for each other.
pub fn round<B: Backend>(
    arms: &[Arm<'_, B>],
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    for turn in order(arms.len(), round) {
        let Arm { case, prefilled, pipeline, iters } = &arms[turn];
        let elapsed = prefilled.time_steps(*iters)?;
        keep(&Sample::value(
            *case,
            Metric::StepNs,
            Round::Interleaved(round),
            *iters,
            elapsed.as_nanos() as u64,
        ))?;
        if let Some(elapsed) = prefilled.time_steps_on_device(*iters)? {
            keep(&Sample::value(
                *case,
                Metric::StepDeviceNs,
                Round::Interleaved(round),
                *iters,
                elapsed.as_nanos() as u64,
            ))?;
        }
        if let Some(pipeline) = pipeline {
            let (steps, elapsed) = (pipeline.steps(), pipeline.time()?);
            keep(&Sample::value(
                *case,
                Metric::PipelinedStepNs,
                Round::Interleaved(round),
                steps,
                elapsed.as_nanos() as u64,
            ))?;
        }
    }
    Ok(())
}

/// All arms in turn, and in turn again. The first arm changes from round to round, and every second round runs
/// backwards, so that no arm always follows the same one.
pub(super) fn order(arms: usize, round: u32) -> impl Iterator<Item = usize> {
    let turn = move |turn: usize| match round % 2 {
        0 => (turn + round as usize) % arms,
        _ => (2 * arms - 1 - turn + round as usize) % arms,
    };
    (0..2 * arms).map(turn)
}

/// A prompt as long as the case's position, and how it is fed to an empty session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prompt {
    pub case: Case,
    /// Tokens of each call; `None`: all of them in one.
    pub chunk: Option<usize>,
}

impl Prompt {
    /// In one call, and in calls of each of these sizes that are several.
    pub fn of<'a>(case: &'a Case, chunks: &'a [usize]) -> impl Iterator<Item = Prompt> + 'a {
        let several = chunks.iter().filter(|&&chunk| chunk < case.position);
        let chunks = [None].into_iter().chain(several.copied().map(Some));
        chunks.map(|chunk| Prompt { case: *case, chunk })
    }

    pub fn metric(&self) -> Metric {
        self.chunk.map_or(Metric::PrefillNs, Metric::ChunkedPrefillNs)
    }

    fn calls(&self, vocab: usize) -> Vec<Tokens> {
        let Case { batch, position, .. } = self.case;
        let size = self.chunk.unwrap_or(position);
        let call = |at: usize| Tokens::given(batch, at, (at + size).min(position), vocab);
        (0..position).step_by(size).map(call).collect()
    }
}

/// Prefills that are not timed: they grow buffers and compile kernels, at the shapes measured.
pub(crate) fn warm_up_prefills<B: Backend>(fixture: &Fixture<B>, prompts: &[Prompt]) -> Result<()> {
    prompts.iter().try_for_each(|prompt| prefill(fixture, prompt).map(drop))
}

/// One round of prefills, in turn and in turn again.
/// elapsed = Σ feed, synchronize; opening the session is outside.
pub(crate) fn prefill_round<B: Backend>(
    fixture: &Fixture<B>,
    prompts: &[Prompt],
    round: u32,
    mut keep: impl FnMut(&Sample) -> Result<()>,
) -> Result<()> {
    for turn in order(prompts.len(), round) {
        let prompt = &prompts[turn];
        let elapsed = prefill(fixture, prompt)?;
        keep(&Sample::value(
            prompt.case,
            prompt.metric(),
            Round::Interleaved(round),
            1,
            elapsed.as_nanos() as u64,
        ))?;
    }
    Ok(())
}

fn prefill<B: Backend>(fixture: &Fixture<B>, prompt: &Prompt) -> Result<Duration> {
    let calls = prompt.calls(fixture.model.vocab());
    timed_calls(&fixture.backend, &mut fixture.session(&prompt.case)?, &calls)
}

/// A case ready to be timed in turn with others.
pub struct Arm<'a, B: Backend> {
    case: Case,
    prefilled: Prefilled<'a, B>,
    /// Where steps are queued, and there are several up to the case's position.
    pipeline: Option<Pipeline<'a, B>>,
    /// Steps in a sample.
    iters: u64,
}

impl<'a, B: Backend> Arm<'a, B> {
    /// The steps that find out how many make a sample are the warm-up, at the shape and depth measured.
    pub fn new(fixture: &'a Fixture<B>, case: &Case) -> Result<Arm<'a, B>> {
        let prefilled = fixture.prefilled(case)?;
        prefilled.warm_up()?;
        let one = (prefilled.time_steps(2)? / 2).as_nanos().max(1);
        let in_samples = |samples: u128| samples * SAMPLE.as_nanos() / one;
        let steps = (in_samples(8).clamp(2, 32) as usize).min(case.position);
        let pipeline =
            (fixture.backend.pipelines() && steps > 1).then(|| pipeline(fixture, case, &prefilled, steps));
        let iters = in_samples(1).clamp(1, 1000) as u64;
        Ok(Arm { case: *case, prefilled, pipeline: pipeline.transpose()?, iters })
    }
}

/// Run twice before it is timed: buffers grow and a step is recorded in the first.
///
/// # Errors
/// When its last logits are not those of the single step.
pub fn pipeline<'a, B: Backend>(
    fixture: &'a Fixture<B>,
    case: &Case,
    single: &Prefilled<'_, B>,
    steps: usize,
) -> Result<Pipeline<'a, B>> {
    let pipeline = fixture.pipeline(case, steps)?;
    pipeline.time()?;
    same_when_pipelined(case, &pipeline.logits()?, &single.logits()?)?;
    Ok(pipeline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::backend::cuda::{Cuda, Device, Mode};
    use crate::backend::tests::{device, told};
    use crate::case::{BackendName, ModelKind, ModelName, ShapeName};
    use crate::measure::equality::TOLERANCE;
    use crate::record::Sample;
    use crate::strategy::Strategy;

    fn samples<B: Backend>(b: B, cases: &[&str]) -> Vec<Sample> {
        let cases: Vec<Case> = cases.iter().map(|case| case.parse().unwrap()).collect();
        let fixture = Fixture::load(b, cases[0].model_name(), 1).unwrap();
        let arms: Vec<_> = cases.iter().map(|case| Arm::new(&fixture, case).unwrap()).collect();
        let mut samples = Vec::new();
        round(&arms, 1, |sample| {
            samples.push(sample.clone());
            Ok(())
        })
        .unwrap();
        samples
    }

    fn of(samples: &[Sample], metric: Metric) -> impl Iterator<Item = &Sample> {
        samples.iter().filter(move |sample| sample.metric == metric)
    }

    #[test]
    fn a_cpu_s_steps_are_not_queued() {
        let samples = samples(Cpu::new(1).unwrap(), &["transformer-tiny/padded/cpu/b1/t16"]);
        assert!(samples.len() == 2 && of(&samples, Metric::StepNs).count() == 2, "{samples:?}");
    }

    /// Calls of one token and of several, the last shorter: each way a row of the round, twice.
    #[test]
    fn a_prompt_is_fed_in_one_call_and_in_chunks_in_turn() {
        let fixture =
            Fixture::load(Cpu::new(1).unwrap(), ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1)
                .unwrap();
        let case: Case = "transformer-tiny/padded/cpu/b3/t16".parse().unwrap();
        let prompts: Vec<Prompt> = Prompt::of(&case, &[1, 5, 16, 99]).collect();
        let sizes = |prompt: &Prompt| -> Vec<usize> {
            prompt.calls(97).iter().map(|call| call.0.iter().map(Vec::len).max().unwrap()).collect()
        };
        let sizes: Vec<Vec<usize>> = prompts.iter().map(sizes).collect();
        assert_eq!(sizes, [vec![16], vec![1; 16], vec![5, 5, 5, 1]]);
        let mut metrics = Vec::new();
        prefill_round(&fixture, &prompts, 1, |sample| {
            metrics.push(sample.metric);
            Ok(())
        })
        .unwrap();
        metrics.sort();
        let [whole, one, five] =
            [Metric::PrefillNs, Metric::ChunkedPrefillNs(1), Metric::ChunkedPrefillNs(5)];
        assert_eq!(metrics, [whole, whole, one, one, five, five]);
    }

    /// The logits of the last call are those of a single one, for every model and strategy.
    #[test]
    fn a_prompt_in_chunks_ends_at_the_logits_of_one_call() {
        for &kind in ModelKind::ALL {
            let name = ModelName::f32(kind, ShapeName::Tiny);
            let fixture = Fixture::load(Cpu::new(1).unwrap(), name, 1).unwrap();
            for &strategy in Strategy::examples().iter().filter(|&&strategy| kind.supports(strategy)) {
                let case = name.case(strategy, BackendName::Cpu, 2, 17);
                let logits = |prompt: Prompt| {
                    let mut session = fixture.session(&case).unwrap();
                    let calls = prompt.calls(fixture.model.vocab());
                    let logits = calls.iter().map(|tokens| session.feed(tokens).unwrap()).last().unwrap();
                    fixture.backend.download(&logits).unwrap()
                };
                let all: Vec<Vec<f32>> = Prompt::of(&case, &[1, 4, 16]).map(logits).collect();
                let largest = all[0].iter().fold(0f32, |most, x| most.max(x.abs()));
                for chunked in &all[1..] {
                    let differs =
                        chunked.iter().zip(&all[0]).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                    assert!(f64::from(differs) <= TOLERANCE * f64::from(largest), "{case}: {differs}");
                }
            }
        }
    }

    /// Interactive, by the device's clock, and pipelined: each strategy twice a round.
    #[test]
    fn steps_on_cuda_are_timed_in_three_ways() {
        let Some(device) = device() else { return };
        for (mode, name) in [(Mode::Stream, "cuda"), (Mode::Graph, "cuda-graph")] {
            let cases =
                ["concat", "padded"].map(|strategy| format!("transformer-tiny/{strategy}/{name}/b1/t5"));
            let cases: Vec<&str> =
                cases.iter().map(String::as_str).skip(if mode == Mode::Graph { 1 } else { 0 }).collect();
            let timed = [Metric::StepNs, Metric::StepDeviceNs, Metric::PipelinedStepNs];
            let taken = || samples(Cuda::new(&device, mode).unwrap(), &cases);
            let is_whole =
                |taken: &Vec<Sample>| timed.iter().all(|&m| of(taken, m).count() == 2 * cases.len());
            let samples = told(|| Ok(Some(taken()).filter(is_whole))).unwrap_or_else(taken);
            for metric in timed {
                assert_eq!(of(&samples, metric).count(), 2 * cases.len(), "{name} {metric}");
            }
            assert!(of(&samples, Metric::PipelinedStepNs).all(|s| (2..=5).contains(&s.iters)));
        }
    }

    /// The logits of the last of them are held against those of the step by itself, also where chunks grow on the
    /// way.
    #[test]
    fn steps_on_cuda_that_do_not_wait_end_at_the_same_logits() {
        let Some(device) = device() else { return };
        for mode in [Mode::Stream, Mode::Graph] {
            let b = Cuda::new(&device, mode).unwrap();
            let name = b.name();
            let fixture =
                Fixture::load(b, ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1).unwrap();
            for strategy in ["padded", "chunked-4", "concat", "naive"] {
                let case: Case = format!("transformer-tiny/{strategy}/{name}/b2/t7").parse().unwrap();
                if case.backend.runs(case.strategy) {
                    let prefilled = fixture.prefilled(&case).unwrap();
                    let pipeline = pipeline(&fixture, &case, &prefilled, 7).unwrap();
                    assert!(pipeline.steps() == 7 && pipeline.time().unwrap() > Duration::ZERO, "{case}");
                }
            }
        }
    }

    #[test]
    fn prefills_on_cuda_are_warm_when_they_are_timed() {
        let Some(_) = device() else { return };
        let cold = Device::open(0).unwrap(); // with nothing compiled
        let b = Cuda::new(&cold, Mode::Stream).unwrap();
        let fixture = Fixture::load(b, ModelName::f32(ModelKind::Transformer, ShapeName::Tiny), 1).unwrap();
        let case = "transformer-tiny/padded/cuda/b1/t16".parse().unwrap();
        let prompts: Vec<Prompt> = Prompt::of(&case, &[5]).collect();
        warm_up_prefills(&fixture, &prompts).unwrap();
        let compiled = fixture.backend.compiled().len();
        prefill_round(&fixture, &prompts, 1, |_| Ok(())).unwrap();
        assert!(compiled > 0 && fixture.backend.compiled().len() == compiled);
    }
}
