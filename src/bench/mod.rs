//! `cargo bench`: four programs, one after the other, that write one run together.
//!
//! | target | measures | with |
//! |---|---|---|
//! | `memory` | bytes, allocations, FLOPs of a step, exactly | the meter |
//! | `reorder` | beams put into another order, and the step that follows | rounds of our own |
//! | `startup` | phases of a cold start | criterion, around fresh child processes |
//! | `step` | steps at the suite's positions, strategies in turn, whole decodes | criterion, and rounds of our own |
//!
//! The cases on a GPU have a budget of their own, [`Settings::gpu_limit`], of which each program has a share:
//! a tenth for each of the first two, a fifth for cold starts, the rest for steps. Criterion's repetitions,
//! the loading of models and all that compiles count.
//!
//! Criterion itself is a dependency of the benches alone: they hand in a function that takes a
//! [`Timing`] through it.

mod args;
mod finish;
mod memory;
mod reorder;
pub mod shard;
mod startup;
mod step;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use args::Args;
pub use args::Mode;
pub use finish::finish;
pub use memory::memory;
pub use reorder::reorders;
pub use startup::startup;
pub use step::steps;

use crate::case::Case;
use crate::error::{Error, Result};
use crate::measure::{Budget, Machines, Record, Settings, MOST_THREADS};
use crate::record::{Metric, Round, Sample};
use crate::suite;

/// What one of the four programs is asked to do.
pub struct Bench {
    /// Of the run.
    pub settings: Settings,
    machines: Machines,
    /// Those of the filter that can run here.
    pub cases: Vec<Case>,
    /// Whether anything is timed.
    pub mode: Mode,
    session: String,
}

/// The body of a bench target: `run` on what the command line asks for.
pub fn main(run: impl FnOnce(&Bench) -> Result<()>) -> ExitCode {
    match Bench::from_args().and_then(|bench| run(&bench)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

impl Bench {
    fn from_args() -> Result<Bench> {
        let Args { settings, session, filter, mode } = Args::of_this_program()?;
        if !(1..=MOST_THREADS).contains(&settings.threads) {
            return Err(Error::Input(format!(
                "--threads {}: it takes 1 to {MOST_THREADS}",
                settings.threads
            )));
        }
        let machines = Machines::new(&settings);
        let mut cases = suite::select(filter.as_deref())?;
        if mode != Mode::List {
            cases = machines.able(cases)?;
        }
        Ok(Bench { settings, machines, cases, mode, session })
    }

    /// The cases that share a model on a backend, for each.
    fn fixtures(&self) -> impl Iterator<Item = &[Case]> {
        self.cases.chunk_by(suite::same_fixture)
    }

    /// So many hundredths of what the cases on a GPU may take; no limit where nothing is measured.
    fn budget(&self, share: u32) -> Budget {
        let limit = self.settings.gpu_limit() * share / 100;
        Budget::of(Some(limit).filter(|_| self.mode == Mode::Measure))
    }

    /// Where to write, and what is there already; `None` when nothing is measured. The four
    /// programs of one `cargo bench` write one run.
    fn open(&self) -> Result<Option<Record>> {
        if self.mode != Mode::Measure {
            return Ok(None);
        }
        let (marker, here) = (self.marker(), self.machines.environment(&self.cases));
        if let (None, Ok(path)) = (&self.settings.resume, std::fs::read_to_string(&marker)) {
            return Record::join(Path::new(&path), &here).map(Some);
        }
        let record = Record::open(&self.settings, here)?;
        std::fs::write(&marker, record.writer.path().display().to_string()).map_err(Error::io(&marker))?;
        Ok(Some(record))
    }

    /// Lets a run go on after the device failed some of its cases, each with a row that says why. Where
    /// nothing is recorded, and for all other errors, that is the end.
    fn failed(
        &self,
        cases: &[Case],
        metric: Metric,
        result: Result<()>,
        record: Option<&mut Record>,
    ) -> Result<()> {
        let (Err(Error::Device { backend, what }), Some(record)) = (&result, record) else { return result };
        eprintln!("{backend}: {what}; the run goes on without these cases");
        let error = result.as_ref().expect_err("matched above").to_string();
        let mut rows = cases.iter().map(|case| Sample::failed(*case, metric, Round::Single, &error));
        rows.try_for_each(|sample| record.sample(&sample))
    }

    fn marker(&self) -> PathBuf {
        std::env::temp_dir().join(format!("decode-bench-run-{}", self.session))
    }
}

/// One case on its way through criterion. The first call is criterion's warm-up, which is over at
/// once for the warm-up time it is given (ours, at the shape and depth measured, comes before);
/// every later call is a sample, and is on the disk before the next begins.
pub struct Timing<'a> {
    /// That is timed.
    pub case: Case,
    /// Times so many repetitions, and writes the sample down if it is one.
    sample: Box<dyn FnMut(u64, Keep) -> Result<Duration> + 'a>,
    /// How long one repetition takes, from the warm-up: criterion complains of cases for which the
    /// time it is given is too short.
    pub one: Duration,
    calls: u64,
    error: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    WarmUp,
    Sample,
}

impl<'a> Timing<'a> {
    fn new(case: Case, one: Duration, sample: impl FnMut(u64, Keep) -> Result<Duration> + 'a) -> Timing<'a> {
        Timing { case, sample: Box::new(sample), one, calls: 0, error: None }
    }

    /// For criterion's `iter_custom`: the time that `iters` repetitions took. After an error it is a
    /// nanosecond, for criterion divides by it and a failed case must not stop the others.
    pub fn call(&mut self, iters: u64) -> Duration {
        let keep = if self.calls == 0 { Keep::WarmUp } else { Keep::Sample };
        self.calls += 1;
        let elapsed = match self.error {
            None => (self.sample)(iters, keep).map_err(|e| self.error = Some(e)).unwrap_or_default(),
            Some(_) => Duration::ZERO,
        };
        elapsed.max(Duration::from_nanos(1))
    }

    /// The error that stopped it, if one did.
    fn finish(self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests;
