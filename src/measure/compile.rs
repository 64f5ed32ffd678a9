//! What a decode pays a compiler that has every length compiled in: each shape compiled once in each
//! round, and never run. No driver and no GPU take part.
//!
//! A shape's time is the sum over the kernels that its step asks for and no step before it did,
//! compiled one at a time on one thread. A compiler of whole steps, as XLA is, compiles all of a step
//! again for every shape: there a shape costs more.

use std::collections::HashSet;
use std::time::Duration;

use super::{Progress, Record};
use crate::backend::cpu::keep_freed_memory;
use crate::backend::cuda::compile::{Compiler, NewKernels};
use crate::backend::cuda::{Cuda, Variant};
use crate::backend::Tokens;
use crate::case::Case;
use crate::error::Result;
use crate::model::{capacity, source_rows, AnyModel, Config, Weights};
use crate::record::{Environment, Gpu, Metric, Round, Sample};
use crate::session::Session;
use crate::strategy::Strategy;

/// Between two lines of progress.
const PAUSE: Duration = Duration::from_secs(10);

/// What a decode under one strategy compiles.
pub struct CompilePlan {
    /// At the last position of the decode.
    pub case: Case,
    /// In the order that the decode needs them.
    pub shapes: Vec<NewKernels>,
}

impl CompilePlan {
    /// Follows from the case alone: nothing is compiled.
    pub fn of(case: Case) -> Result<CompilePlan> {
        let Case { model, shape, strategy, batch, position, .. } = case;
        let config = Config::named(model, shape)?;
        Ok(CompilePlan {
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

    /// Of all shapes together.
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
    let model = AnyModel::load(&b, config, &Weights::seeded(0))?;
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
    Environment { gpu: Some(gpu), allocator: Some(keep_freed_memory()), ..Environment::collect(1, seed) }
}

/// Compiles every shape of every plan once in each round, strategies in turn, but for those that the
/// run has. elapsed = Σ nvrtcCompileProgram over the shape's kernels.
pub fn decodes(compiler: &Compiler, plans: &[CompilePlan], rounds: u32, record: &mut Record) -> Result<()> {
    let done: HashSet<(Case, Round)> = of_metric(record, Metric::CompileNs).collect();
    let counted: HashSet<(Case, Round)> = of_metric(record, Metric::Compiles).collect();
    let missing = |plan: &CompilePlan, shape: &NewKernels, round: u32| {
        !done.contains(&(plan.case.at(shape.position), Round::Interleaved(round)))
    };
    let left = |plan: &CompilePlan, round: u32| -> usize {
        let shapes = plan.shapes.iter().filter(|shape| missing(plan, shape, round));
        shapes.map(|shape| shape.kernels.len()).sum()
    };
    let all = (1..=rounds).flat_map(|round| plans.iter().map(move |plan| left(plan, round))).sum();
    let progress = Progress::with_pause(all, PAUSE);
    for round in 1..=rounds {
        for turn in 0..plans.len() {
            let plan = &plans[(turn + round as usize - 1) % plans.len()];
            for shape in plan.shapes.iter().filter(|shape| missing(plan, shape, round)) {
                let (strategy, position) = (plan.case.strategy, plan.case.position);
                let what = format!(
                    "kernels: round {round} of {rounds}, {strategy}, position {} of {position}",
                    shape.position
                );
                progress.begin(shape.kernels.len(), what);
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
