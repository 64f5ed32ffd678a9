//! `cargo bench`: see `decode_bench::bench`. Here criterion is set up, and what it prints of a case is cut to a line.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use decode_bench::bench::{self, line, Baseline, Output, Statistics, Timing};
use decode_bench::error::Result;
use decode_bench::measure::say;

fn main() -> ExitCode {
    bench::main(Path::new(env!("CARGO_BIN_EXE_decode-bench")), |statistics, profile_time| {
        let mut criterion = criterion(statistics, profile_time);
        let output = statistics.output();
        move |timing: &mut Timing<'_>| match profile_time {
            Some(_) => bench::print(&captured(|| time(&mut criterion, timing)).1),
            None => print(&mut criterion, output, timing),
        }
    })
}

fn criterion(statistics: &Statistics, profile_time: Option<Duration>) -> Criterion {
    let criterion = Criterion::default()
        .sample_size(statistics.sample_size)
        .warm_up_time(Duration::from_nanos(1)) // ours comes before, at the shape and depth measured
        .nresamples(statistics.nresamples)
        .noise_threshold(statistics.noise_threshold)
        .confidence_level(statistics.confidence_level)
        .significance_level(statistics.significance_level)
        .with_output_color(statistics.colored(std::io::stdout().is_terminal()))
        .profile_time(profile_time)
        .without_plots();
    match statistics.baseline() {
        Baseline::Save(name) => criterion.save_baseline(name.into()),
        Baseline::Keep(name) => criterion.retain_baseline(name.into(), false), // where all are needed, they are there
    }
}

/// Takes a case through criterion and prints the result.
fn print(criterion: &mut Criterion, output: Output, timing: &mut Timing<'_>) -> Result<()> {
    let (samples, said) = captured(|| time(criterion, timing));
    let case = timing.case;
    for error in said.lines().filter(|line| line.starts_with("Criterion.rs ERROR")) {
        say(format_args!("{case}: {error}"));
    }
    if timing.failed() {
        return Ok(());
    }
    bench::print(&match output {
        Output::Verbose => format!("{said}{}\n", line::spread(&samples)),
        Output::Bencher => format!("test {case} ... {}\n", line::bencher(&samples)),
        Output::Brief { .. } => format!("{case}  {}\n", line::brief(&said, output)),
    })
}

/// The nanoseconds of a repetition in each sample. All have the same number of repetitions: what is repeated here
/// does not get cheaper.
fn time(criterion: &mut Criterion, timing: &mut Timing<'_>) -> Vec<f64> {
    let (model, rest) = timing.id();
    let mut samples = Vec::new();
    let mut group = criterion.benchmark_group(model);
    group.sampling_mode(SamplingMode::Flat).measurement_time(timing.time);
    group.bench_function(rest, |b| {
        b.iter_custom(|iters| {
            let elapsed = timing.call(iters);
            samples.push(elapsed.as_nanos() as f64 / iters as f64);
            elapsed
        })
    });
    group.finish();
    samples.split_off(1.min(samples.len())) // the first is criterion's warm-up
}

/// Does the work with standard output and standard error turned into a text, which it returns too: criterion has
/// no method that makes it quiet, and panics where nobody reads. The text is never in a file, for the disk may be full.
/// If the work panics, it comes out first, with the reason in it.
#[cfg(unix)]
fn captured<R>(work: impl FnOnce() -> R) -> (R, String) {
    use std::io::{stderr, stdout, Read, Write};
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
    use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

    /// Makes `place` another name of `file`.
    fn put(file: &impl AsRawFd, place: RawFd) {
        // SAFETY: both are open, and what stood there before is kept under another number
        let done = unsafe { libc::dup2(file.as_raw_fd(), place) };
        assert!(done >= 0, "cannot redirect the output: {}", std::io::Error::last_os_error());
    }

    let (mut reader, writer) = std::io::pipe().expect("a pipe can be had");
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = reader.read_to_end(&mut text); // what came until then
        String::from_utf8_lossy(&text).into_owned()
    });
    let kept = |stream: BorrowedFd<'_>| stream.try_clone_to_owned().expect("a stream can be opened twice");
    let _ = stdout().flush();
    let (out, err) = (kept(stdout().as_fd()), kept(stderr().as_fd()));
    put(&writer, libc::STDOUT_FILENO);
    put(&writer, libc::STDERR_FILENO);
    drop(writer);
    let result = catch_unwind(AssertUnwindSafe(work));
    let _ = stdout().flush();
    put(&out, libc::STDOUT_FILENO);
    put(&err, libc::STDERR_FILENO); // nobody writes any more, so the reading ends
    let text = read.join().unwrap_or_default();
    match result {
        Ok(result) => (result, text),
        Err(panic) => {
            say(&text);
            resume_unwind(panic)
        }
    }
}

#[cfg(not(unix))]
fn captured<R>(work: impl FnOnce() -> R) -> (R, String) {
    (work(), String::new())
}
