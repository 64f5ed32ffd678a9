//! What a decode pays a compiler that has every length compiled in: each shape compiled once in each
//! round, and never run. No driver and no GPU take part.
//!
//! A shape's time is the sum over the kernels that its step asks for and no step before it did,
//! compiled one at a time on one thread. A compiler of whole steps, as XLA is, compiles all of a step
//! again for every shape: there a shape costs more.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Record;
use crate::backend::cpu::keep_freed_memory;
use crate::backend::cuda::compile::{Compiler, NewKernels};
use crate::backend::cuda::{Cuda, Variant};
use crate::backend::Tokens;
use crate::case::Case;
use crate::error::Result;
use crate::model::weights::Weights;
use crate::model::{capacity, source_rows, AnyModel, Config};
use crate::record::{Environment, Gpu, Metric, Round, Sample};
use crate::session::Session;
use crate::strategy::Strategy;

/// What a decode under one strategy compiles.
pub struct Plan {
    /// At the last position of the decode.
    pub case: Case,
    pub shapes: Vec<NewKernels>,
}

impl Plan {
    pub fn of(case: Case) -> Result<Plan> {
        let Case { model, shape, strategy, batch, position, .. } = case;
        let config = Config::named(model, shape)?;
        Ok(Plan {
            case,
            shapes: shapes(
                &config,
                strategy,
                batch,
                position,
                capacity(model, shape),
                source_rows(model, shape),
            )?,
        })
    }

    pub fn kernels(&self) -> usize {
        self.shapes.iter().map(|shape| shape.kernels.len()).sum()
    }
}

/// The shapes that a decode of `tokens` tokens, one at a time, has to compile, in order; from a source of
/// so many rows, or none.
pub fn shapes(
    config: &Config,
    strategy: Strategy,
    batch: usize,
    tokens: usize,
    capacity: usize,
    source: usize,
) -> Result<Vec<NewKernels>> {
    let b = Cuda::plan();
    let model = AnyModel::load(&b, config, &Weights::seeded(config.kind(), 0))?;
    let mut session = Session::open_case(&b, &model, strategy, [batch; 2], capacity, source)?;
    let mut known = HashSet::new();
    let mut shapes = Vec::new();
    for position in 1..=tokens {
        session.feed(&Tokens(vec![vec![0]; batch]))?;
        let mut kernels: Vec<Variant> = b.kernels_asked_for();
        kernels.retain(|&variant| known.insert(variant));
        kernels.sort();
        if !kernels.is_empty() {
            shapes.push(NewKernels { position, kernels });
        }
    }
    Ok(shapes)
}

/// Where the times will come from. The GPU has no name: there is none.
pub fn environment(compiler: &Compiler, seed: u64) -> Environment {
    let gpu = Gpu {
        driver: Some("none took part: kernels were compiled, not loaded".into()),
        nvrtc: Some(compiler.nvrtc.version.to_string()),
        nvrtc_place: Some(compiler.nvrtc.place.clone()),
        nvrtc_options: compiler.options(),
        nvrtc_cache_disabled: Some(compiler.nvrtc.has_cache_option()),
        ..Gpu::default()
    };
    Environment { gpu: Some(gpu), allocator: keep_freed_memory(), ..Environment::collect(1, seed) }
}

/// Compiles every shape of every plan once in each round, strategies in turn, but for those that the
/// run has. elapsed = Σ nvrtcCompileProgram over the shape's kernels.
pub fn decodes(compiler: &Compiler, plans: &[Plan], rounds: u32, record: &mut Record) -> Result<()> {
    let done: HashSet<(Case, Round)> = of_metric(record, Metric::CompileNs).collect();
    let counted: HashSet<(Case, Round)> = of_metric(record, Metric::Compiles).collect();
    let missing = |plan: &Plan, shape: &NewKernels, round: u32| {
        !done.contains(&(plan.case.at(shape.position), Round::Interleaved(round)))
    };
    let left = |plan: &Plan, round: u32| -> usize {
        let shapes = plan.shapes.iter().filter(|shape| missing(plan, shape, round));
        shapes.map(|shape| shape.kernels.len()).sum()
    };
    let all = (1..=rounds).flat_map(|round| plans.iter().map(move |plan| left(plan, round))).sum();
    let mut progress = Progress::of(all);
    for round in 1..=rounds {
        for turn in 0..plans.len() {
            let plan = &plans[(turn + round as usize - 1) % plans.len()];
            for shape in plan.shapes.iter().filter(|shape| missing(plan, shape, round)) {
                progress.say(round, rounds, plan, shape);
                let case = plan.case.at(shape.position);
                let sample = match shape.compile(&compiler.nvrtc, &compiler.arch) {
                    Ok(compiled) => Sample::value(
                        case,
                        Metric::CompileNs,
                        Round::Interleaved(round),
                        1,
                        compiled.compile_ns,
                    ),
                    Err(error) => Sample::failed(case, Metric::CompileNs, Round::Interleaved(round), error),
                };
                record.sample(&sample)?;
                progress.done += shape.kernels.len();
            }
            if round == 1 && !counted.contains(&(plan.case, Round::Single)) {
                let counts =
                    [(Metric::Compiles, plan.shapes.len()), (Metric::CompiledKernels, plan.kernels())];
                for (metric, count) in counts {
                    record.sample(&Sample::value(plan.case, metric, Round::Single, 1, count as u64))?;
                }
            }
        }
    }
    Ok(())
}

fn of_metric(record: &Record, metric: Metric) -> impl Iterator<Item = (Case, Round)> + '_ {
    let samples = record.done.samples.iter().filter(move |sample| sample.metric == metric);
    samples.map(|sample| (sample.case, sample.round))
}

/// Kernels compiled, and a line about it on standard error now and then.
struct Progress {
    start: Instant,
    said: Option<Instant>,
    done: usize,
    all: usize,
}

impl Progress {
    fn of(all: usize) -> Progress {
        Progress { start: Instant::now(), said: None, done: 0, all }
    }

    fn say(&mut self, round: u32, rounds: u32, plan: &Plan, shape: &NewKernels) {
        const PAUSE: Duration = Duration::from_secs(10);
        if self.said.is_some_and(|said| said.elapsed() < PAUSE) {
            return;
        }
        self.said = Some(Instant::now());
        let Case { strategy, position, .. } = plan.case;
        let left = remaining(self.start.elapsed(), self.done, self.all);
        let left = left.map(|left| format!(", about {} s left", left.as_secs())).unwrap_or_default();
        eprintln!(
            "    round {round} of {rounds}, {strategy}: position {} of {position}, {} of {} kernels{left}",
            shape.position, self.done, self.all
        );
    }
}

/// As long for every kernel as those that are done took.
fn remaining(elapsed: Duration, done: usize, all: usize) -> Option<Duration> {
    (done > 0).then(|| elapsed.mul_f64((all - done) as f64 / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_was_done() {
        assert_eq!(remaining(Duration::from_secs(30), 10, 40), Some(Duration::from_secs(90)));
        assert_eq!(remaining(Duration::ZERO, 0, 40), None);
    }
}
