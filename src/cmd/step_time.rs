//! `step-time`: this program's arm in a comparison with other engines.

use decode_bench::backend::Backend;
use decode_bench::bench::Threads;
use decode_bench::case::{BackendName, Case, ModelKind, ModelName, ShapeName};
use decode_bench::dtype::Dtype;
use decode_bench::error::{Error, Result};
use decode_bench::measure::trace::Decode;
use decode_bench::measure::{equality, interleaved, Fixture, Machines, Settings};
use decode_bench::on_backend;
use decode_bench::strategy::{CacheConfig, Strategy};
use decode_bench::suite::check_position;
use serde_json::json;

use super::parse::Named;
use super::print;

/// Time one step at one position, and print every sample as a line of JSON.
///
/// On the CPU these are the last steps of decodes that end at the position, a lead of untimed ones before them; on a GPU
/// each is taken from a copy. Its logits are compared with the naive strategy's first. Nothing is recorded: `notebooks/other_engines.py` runs it in turn
/// with other engines. On a device that is emulated in software the line says `"emulated": true`.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench step-time --shape toy --strategy concat --position 64 --threads 1
  decode-bench step-time --shape toy --strategy padded --position 64 --backend cuda-graph --pipelined")]
pub struct Args {
    #[arg(long, default_value = "transformer")]
    model: ModelKind,
    #[arg(long)]
    shape: ShapeName,
    /// How the model's matrices and tables are kept in memory
    #[arg(long = "dtype", default_value_t, value_parser = Named::<Dtype>::parser())]
    weights: Dtype,
    #[arg(long)]
    strategy: Strategy,
    /// How the cache is kept in memory
    #[arg(long = "cache-dtype", default_value_t, value_parser = Named::<Dtype>::parser())]
    cache: Dtype,
    #[arg(long)]
    position: usize,
    #[arg(long, default_value_t = BackendName::Cpu, value_parser = Named::<BackendName>::parser())]
    backend: BackendName,
    /// Queue up to 32 steps that end at the position, wait for the last, and print the mean of each such row as
    /// `pipelined_step_ns`
    #[arg(long)]
    pipelined: bool,
    #[command(flatten)]
    threads: Threads,
    /// Samples to take, after a tenth as many to warm up
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    samples: u64,
    /// Read sample counts from standard input, one a line, and answer each with a line of JSON: steps that take turns
    /// with those of other programs
    #[arg(long)]
    turns: bool,
}

/// Steps that are queued together.
const PIPELINED: usize = 32;

pub fn run(args: Args) -> Result<()> {
    let &Args { model, shape, weights, strategy, cache, backend, position, .. } = &args;
    let config = CacheConfig { strategy, dtype: cache };
    let case = ModelName { kind: model, shape, weights }.case(config, backend, 1, position);
    check_position(&case)?;
    if let Some(unread) = [weights, cache].into_iter().find(|&dtype| !backend.reads(dtype)) {
        return Err(Error::Input(format!("`{case}` cannot be run: {backend} reads no {unread}")));
    }
    config.check(&[model.slot()])?;
    if !model.supports(config) || !backend.runs(strategy) {
        return Err(Error::Input(format!("`{case}` cannot be run: {model} has no {strategy} on {backend}")));
    }
    let threads = args.threads.count();
    let machines = Machines::new(&Settings { threads, ..Settings::default() });
    machines.able(vec![case])?;
    let emulated = machines.emulated(backend);
    on_backend!(machines, backend, |b| {
        if args.pipelined && !b.pipelines() {
            return Err(Error::Input(format!("--pipelined: steps on {backend} are not queued")));
        }
        time(&Fixture::load(b, case.model_name(), 1)?, &case, &args, emulated)
    })
}

fn time<B: Backend>(fixture: &Fixture<B>, case: &Case, args: &Args, emulated: bool) -> Result<()> {
    equality::gate(fixture, &[*case], None)?;
    let prefilled = fixture.prefilled(case)?;
    prefilled.warm_up()?;
    let steps = PIPELINED.min(case.position);
    let pipeline =
        args.pipelined.then(|| interleaved::pipeline(fixture, case, &prefilled, steps)).transpose()?;
    let end = (!case.backend.is_cuda()).then(|| Decode::end(fixture, *case)).transpose()?;
    let step = || match (&pipeline, &end) {
        (Some(pipeline), _) => Ok(vec![pipeline.time()?.as_nanos() as u64 / pipeline.steps()]),
        (None, Some(end)) => Ok(end.steps()?.iter().map(|(_, step)| step.as_nanos() as u64).collect()),
        (None, None) => Ok(vec![prefilled.time_steps(1)?.as_nanos() as u64]),
    };
    let turn = |count: u64| {
        let mut line = json!({ "case": case.to_string() });
        match &pipeline {
            Some(pipeline) => {
                line["steps"] = pipeline.steps().into();
                line["pipelined_step_ns"] = samples(count, step)?.into();
            }
            None => line["step_ns"] = samples(count, step)?.into(),
        }
        if emulated {
            line["emulated"] = true.into();
        }
        print(&format!("{line}\n"))
    };
    turn(args.samples)?;
    if args.turns {
        asked_turns(turn)?;
    }
    Ok(())
}

/// One for each line of standard input, until it ends.
fn asked_turns(turn: impl Fn(u64) -> Result<()>) -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| Error::Input(format!("standard input: {e}")))?;
        match line.trim().parse() {
            Ok(samples @ 1..=1_000_000) => turn(samples)?,
            _ => return Err(Error::Input(format!("`{line}` is no number of samples, 1 to 1000000"))),
        }
    }
    Ok(())
}

/// After a tenth as many for nothing. `some` gives one or several; of the first, those nearest to the position count.
fn samples(count: u64, some: impl Fn() -> Result<Vec<u64>>) -> Result<Vec<u64>> {
    let take = |count: u64| -> Result<Vec<u64>> {
        let mut all = Vec::new();
        while (all.len() as u64) < count {
            all.extend(some()?);
        }
        Ok(all.split_off(all.len() - count as usize))
    };
    take(count.div_ceil(10))?;
    take(count)
}
