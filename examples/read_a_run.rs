//! Reads the files of a run and compares its strategies at one position.
//!
//! ```text
//! cargo run --release --example read_a_run -- results/<run> 256
//! ```
//!
//! Without arguments it reads a run of this repository, and prints
//!
//! ```text
//! 2026-11-22T08-27-53Z-intel-xeon-2c, 2526 samples
//!
//! encoder-decoder-flax-toy, cpu, batch 1, the step to position 256:
//!       concat  506 [484, 543] µs
//!       padded  426 [409, 433] µs         0.848 [0.779, 0.871] × that of concat: faster
//!  reprojected  970 [921, 996] µs         1.87 [1.80, 1.96] × that of concat: slower
//! ```

use std::path::PathBuf;

use clap::Parser;
use decode_bench::analysis::{compare, Measurements};
use decode_bench::error::Result;
use decode_bench::record::{Metric, Protocol, Run};
use decode_bench::strategy::Strategy;
use decode_bench::units::Quantity;

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/2026-11-22T08-27-53Z-intel-xeon-2c");

/// Compare the strategies of a run at one position
#[derive(Parser)]
struct Args {
    /// Folder of the run
    #[arg(default_value = RUN)]
    run: PathBuf,
    /// Position of the step
    #[arg(default_value_t = 256)]
    position: usize,
}

fn main() -> Result<()> {
    let Args { run, position } = Args::parse();
    let run = Run::open(&run)?;
    println!("{}, {} samples", run.name(), run.samples.len());

    // as tables show them: interleaved steps where there are any, or else those of decodes
    let found = Measurements::of(&run, Protocol::Interleaved);
    for group in found.groups() {
        let of = |strategy| found.series(&group.case(strategy, position), Metric::StepNs);
        let Some(concat) = of(Strategy::Concat) else { continue };
        println!("\n{group}, the step to position {position}:");
        for strategy in found.strategies(group, Metric::StepNs) {
            let Some(series) = of(strategy) else { continue };
            let Some(time) = series.median() else { continue };
            let time = Quantity::Nanoseconds.show_estimate(time);
            match compare(series, concat).filter(|_| strategy != Strategy::Concat) {
                Some(found) => {
                    let ratio = Quantity::Multiple.show_estimate(found.ratio);
                    println!("{strategy:>12}  {time:<24}  {ratio} that of concat: {}", found.verdict.name());
                }
                None => println!("{strategy:>12}  {time}"),
            }
        }
    }
    Ok(())
}
