//! Criterion, set up the way the harness needs it.

use std::process::ExitCode;
use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use decode_bench::bench::{self, Bench, Timing};
use decode_bench::error::Result;

/// Runs a bench target whose samples last `sample_time` together, and prints criterion's line for
/// every case it takes through.
pub fn main(
    sample_time: Duration,
    run: impl FnOnce(&Bench, &mut dyn FnMut(&mut Timing<'_>)) -> Result<()>,
) -> ExitCode {
    bench::main(|bench| {
        let mut criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_nanos(1)) // ours comes before, at the shape and depth measured
            .measurement_time(sample_time)
            .nresamples(2_000)
            .without_plots()
            .configure_from_args();
        run(bench, &mut |timing| time(&mut criterion, sample_time, timing))?;
        criterion.final_summary();
        Ok(())
    })
}

/// Same number of repetitions in every sample: what is repeated here does not get cheaper.
fn time(criterion: &mut Criterion, sample_time: Duration, timing: &mut Timing<'_>) {
    let id = timing.case.to_string();
    let (model, rest) = id.split_once('/').expect("an id has parts");
    let mut group = criterion.benchmark_group(model);
    group.sampling_mode(SamplingMode::Flat);
    if 20 * timing.one > sample_time {
        group.measurement_time(20 * timing.one);
    }
    group.bench_function(rest, |b| b.iter_custom(|iters| timing.call(iters)));
    group.finish();
}
