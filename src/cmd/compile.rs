//! `compile`: what a decode pays a compiler, on a machine without a GPU.

use decode_bench::backend::cuda::compile::Compiler;
use decode_bench::bench::{finish, Destination};
use decode_bench::case::{ModelKind, ModelName, ShapeName};
use decode_bench::error::Result;
use decode_bench::measure::compile::{decodes, environment, CompilePlan};
use decode_bench::measure::{say, Record};
use decode_bench::model::Config;
use decode_bench::strategy::Strategy;

use super::parse::{self, Named};
use super::print;

/// Compile every shape that a whole decode needs, for a GPU that need not be there, into a run.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench compile --arch sm_90 --strategy concat,chunked-16,chunked-64,padded --tokens 512

It needs NVRTC, and neither a driver nor a GPU: `decode-bench devices` says whether one is found.
Nothing is run. With lengths compiled in, concat needs a new shape at every token, chunked-N at
every N-th, padded once. A shape's time is the sum over its new kernels, compiled one at a time;
a compiler of whole steps, such as XLA, compiles all of a step again for every shape.

A kernel takes about a tenth of a second on a core of its own: concat over 512 tokens of the toy
shape, 1047 kernels, two minutes a round; the default list, 1537 kernels, three.")]
pub struct Args {
    /// GPU architecture, such as sm_80 or sm_90; an unknown one is answered with a list
    #[arg(long, value_name = "ARCH")]
    arch: String,
    /// Strategies, comma-separated; chunked-N for any N [default: concat, chunks of 8 to 256, padded]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Named::<Strategy>::parser())]
    strategy: Vec<Strategy>,
    /// Tokens to decode
    #[arg(long, value_name = "N")]
    tokens: usize,
    #[arg(long, default_value_t = ModelKind::Transformer, value_parser = Named::<ModelKind>::parser())]
    model: ModelKind,
    #[arg(long, default_value_t = ShapeName::Toy, value_parser = Named::<ShapeName>::parser())]
    shape: ShapeName,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Rounds: how often each shape is compiled
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    #[command(flatten)]
    destination: Destination,
}

/// Both ends and the powers of two between them.
const USUAL: [Strategy; 8] = [
    Strategy::Concat,
    Strategy::Chunked(8),
    Strategy::Chunked(16),
    Strategy::Chunked(32),
    Strategy::Chunked(64),
    Strategy::Chunked(128),
    Strategy::Chunked(256),
    Strategy::Padded,
];

pub fn run(args: Args) -> Result<()> {
    let (strategies, settings) = (strategies(&args)?, args.destination.settings()?);
    let compiler = Compiler::find(&args.arch)?;
    let name = ModelName::f32(args.model, args.shape);
    let case = |strategy: Strategy| name.case(strategy, compiler.backend, args.batch as usize, args.tokens);
    let plans: Vec<CompilePlan> =
        strategies.into_iter().map(|s| CompilePlan::of(case(s))).collect::<Result<_>>()?;
    if let Some(shape) = plans.first().and_then(|plan| plan.shapes.first()) {
        compiler.warm_up(shape)?; // and a compiler that makes nothing is found out before a folder is made
    }
    for plan in &plans {
        let (shapes, kernels) = (plan.shapes.len(), plan.kernels());
        say(format_args!("{}: shapes {shapes}, kernels {kernels}", plan.case));
    }
    let mut record = Record::open(&settings, environment(&compiler, settings.seed))?;
    decodes(&compiler, &plans, args.rounds, &mut record)?;
    finish(record, print)
}

fn strategies(args: &Args) -> Result<Vec<Strategy>> {
    Config::named(args.model, args.shape)?;
    let capacity = parse::check_tokens(args.tokens, args.model, args.shape)?;
    if args.strategy.is_empty() {
        return Ok(USUAL.into_iter().filter(|&strategy| args.model.supports(strategy)).collect());
    }
    parse::check_strategies(&args.strategy, args.model, capacity)?;
    Ok(args.strategy.clone())
}
