//! `step-time`: this program's arm in a comparison with other engines.

use decode_bench::backend::cpu::Cpu;
use decode_bench::cache::Strategy;
use decode_bench::case::{BackendName, Case, ModelKind, ShapeName};
use decode_bench::error::{Error, Result};
use decode_bench::measure::Rig;
use serde_json::json;

use super::print;

/// Time one step at one position, and print every sample as a line of JSON.
///
/// Nothing is recorded: `notebooks/other_engines.py` runs it in turn with other engines.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  decode-bench step-time --shape toy --strategy concat --position 64 --threads 1")]
pub struct Args {
    #[arg(long, default_value = "transformer")]
    model: ModelKind,
    #[arg(long)]
    shape: ShapeName,
    #[arg(long)]
    strategy: Strategy,
    #[arg(long)]
    position: usize,
    #[arg(long, value_parser = super::parse::threads)]
    threads: usize,
    /// How many steps to time, after a tenth as many to warm up
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    samples: u64,
    /// Then read numbers of samples, one a line, and answer each with another line of JSON: steps in turn with
    /// programs that live as long
    #[arg(long)]
    turns: bool,
}

pub fn run(args: Args) -> Result<()> {
    let Args { model, shape, strategy, position, .. } = args;
    let case = Case { model, shape, strategy, backend: BackendName::Cpu, batch: 1, position };
    case.check_position()?;
    let rig = Rig::load(Cpu::new(args.threads), model, shape, 1)?;
    let trunk = rig.trunk(&case)?;
    let turn = |samples: u64| {
        trunk.time_steps(samples.div_ceil(10))?;
        let sample = |_| Ok(trunk.time_steps(1)?.as_nanos() as u64);
        let step_ns = (0..samples).map(sample).collect::<Result<Vec<u64>>>()?;
        print(&format!("{}\n", json!({ "case": case.to_string(), "step_ns": step_ns })))
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
