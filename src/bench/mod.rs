//! `cargo bench`: one program, four parts, one run folder.
//!
//! | part | measures | with |
//! |---|---|---|
//! | `memory` | bytes, allocations, FLOPs of a step, exactly | the meter |
//! | `reorder` | beams put into another order, and the step that follows | rounds of our own |
//! | `startup` | phases of a cold start | criterion, around fresh child processes |
//! | `step` | steps at the suite's positions, strategies in turn, whole decodes | criterion, and rounds of our own |
//!
//! The cases on a GPU have a budget of their own, [`Settings::gpu_limit`], of which each part has a share:
//! a tenth for each of the first two, a fifth for cold starts, the rest for steps. Criterion's repetitions,
//! the loading of models and all that compiles count.
//!
//! Criterion itself is a dependency of the bench program alone, which hands in a function that takes a
//! [`Timing`] through it.

mod args;
mod common;
mod finish;
pub mod line;
mod memory;
mod reorder;
pub mod shard;
mod spent;
mod startup;
mod step;

use std::io::{stdout, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use args::{Action, Args, Refusal};
pub use args::{Baseline, Output, Part, Statistics};
pub use common::{threads, Common, Destination, Threads};
pub use finish::finish;
use memory::memory;
use reorder::reorders;
use spent::Spent;
use startup::startup;
use step::steps;

use crate::case::Case;
use crate::error::{one_line, Error, Result};
use crate::files::write_error;
use crate::measure::{say, Budget, Machines, Record, Settings, NO_DRIVER_CACHE};
use crate::record::Metric;
use crate::suite;
use crate::temporary::{hold_signals, remove_on_signals};

/// What the bench program is asked to do.
struct Bench {
    settings: Settings,
    machines: Machines,
    action: Action,
    parts: Vec<Part>,
    /// Those of the filter that can run here.
    cases: Vec<Case>,
    /// Cold starts of the filter that can run here.
    starts: Vec<Case>,
    /// How long a case is warmed up.
    warm_up: Duration,
    /// How long the samples of a case last together, if the harness is not to decide.
    measurement: Option<Duration>,
    spent: Spent,
}

/// The whole bench program. `start` is the program that cold starts start. `criterion` makes criterion ready, to
/// measure or to repeat every case for so long; the function that it returns takes one case through it.
pub fn main<C>(start: &Path, criterion: impl FnOnce(&Statistics, Option<Duration>) -> C) -> ExitCode
where
    C: FnMut(&mut Timing<'_>) -> Result<()>,
{
    remove_on_signals();
    let home = args::criterion_home(start);
    // now, while there is no other thread and CUDA is not loaded; the processes of cold starts inherit both
    std::env::set_var(NO_DRIVER_CACHE.0, NO_DRIVER_CACHE.1);
    std::env::set_var(args::HOME, &home);
    let outcome = match Args::parse_from(std::env::args_os()) {
        Ok(args) => run(args, start, &home, criterion),
        Err(Refusal::Asked(text)) => print(&text),
        Err(Refusal::Wrong(error)) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _held = hold_signals();
            say(format_args!("error: {}", one_line(&error.to_string())));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Prints a result. Where nobody reads any more the program ends, as others do, and what was measured is kept.
///
/// # Errors
/// When standard output does not take it.
pub fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        #[cfg(unix)]
        Err(e) if e.kind() == ErrorKind::BrokenPipe => crate::temporary::end_by(libc::SIGPIPE),
        written => written.map_err(|e| write_error(Path::new("standard output"), e)),
    }
}

fn run<C>(
    args: Args,
    start: &Path,
    home: &Path,
    criterion: impl FnOnce(&Statistics, Option<Duration>) -> C,
) -> Result<()>
where
    C: FnMut(&mut Timing<'_>) -> Result<()>,
{
    if args.ignored() {
        return Ok(());
    }
    let (statistics, action) = (args.statistics(), args.action());
    let bench = Bench::new(&args)?;
    match action {
        Action::List => {
            let ids: String = bench.asked().iter().map(|case| format!("{case}: benchmark\n")).collect();
            print(&ids)?;
        }
        Action::Try => bench.run(start, try_once)?,
        Action::Profile(time) => bench.run(start, criterion(statistics, Some(time)))?,
        Action::Measure => {
            statistics.check_baseline(home, &bench.through_criterion())?;
            bench.run(start, criterion(statistics, None))?;
        }
    }
    Ok(())
}

/// One repetition, in place of criterion.
fn try_once(timing: &mut Timing<'_>) -> Result<()> {
    timing.call(1);
    match timing.failed() {
        true => Ok(()),
        false => print(&format!("test {} ... ok\n", timing.case)),
    }
}

impl Bench {
    fn new(args: &Args) -> Result<Bench> {
        let (settings, action, parts) = (args.settings()?, args.action(), args.parts());
        let offered = suite::offered(args.filter());
        let first = startup::first_tokens(&offered);
        let (mut cases, mut starts) = (args.select(offered.clone())?, args.select(first.clone())?);
        if asked(&parts, &cases, &starts).is_empty() {
            let known = asked(&parts, &offered, &first).iter().map(Case::to_string).collect();
            return Err(Error::NoMatch { filter: args.filter().unwrap_or_default().into(), known });
        }
        let machines = Machines::new(&settings);
        if action != Action::List {
            let able = machines.able([cases.as_slice(), &starts].concat())?;
            cases.retain(|case| able.contains(case));
            starts.retain(|case| able.contains(case));
        }
        let (warm_up, measurement) = (args.warm_up_time(), args.measurement_time());
        let spent = Spent::default();
        Ok(Bench { settings, machines, action, parts, cases, starts, warm_up, measurement, spent })
    }

    /// All parts in their order, into one run.
    fn run(&self, start: &Path, mut criterion: impl FnMut(&mut Timing<'_>) -> Result<()>) -> Result<()> {
        let mut record = self.open()?;
        let selected = |part: &&Part| !asked(&[**part], &self.cases, &self.starts).is_empty();
        let (parts, empty): (Vec<&Part>, Vec<&Part>) = self.parts.iter().partition(selected);
        for part in empty {
            say(format_args!("{}", part.left_out()));
        }
        for part in parts {
            record = record.map(Record::look_again).transpose()?;
            let record = record.as_mut();
            match part {
                Part::Memory => self.spent.on("work and memory", || memory(self, record)),
                Part::Reorder => self.spent.on("reorders", || reorders(self, record)),
                Part::Startup => {
                    self.spent.on("cold starts", || startup(self, start, record, &mut criterion))
                }
                Part::Step => steps(self, record, &mut criterion),
            }?;
        }
        let Some(record) = record else { return Ok(()) };
        say(&self.spent);
        finish(record, print)
    }

    /// The ids of what is to be done.
    fn asked(&self) -> Vec<Case> {
        asked(&self.parts, &self.cases, &self.starts)
    }

    /// Those that criterion will have samples of. On a GPU, cold starts are too few for it.
    fn through_criterion(&self) -> Vec<Case> {
        let starts = self.starts.iter().filter(|case| !case.backend.is_cuda());
        let starts = starts.filter(|_| self.parts.contains(&Part::Startup));
        let steps = self.cases.iter().filter(|_| self.parts.contains(&Part::Step));
        starts.chain(steps).copied().collect()
    }

    /// So many hundredths of what the cases on a GPU may take; no limit where nothing is measured.
    fn budget(&self, share: u32) -> Budget {
        let limit = self.settings.gpu_limit() * share / 100;
        Budget::of(Some(limit).filter(|_| self.action == Action::Measure))
    }

    /// Where to write, and what is there already; `None` when nothing is measured.
    fn open(&self) -> Result<Option<Record>> {
        if self.action != Action::Measure {
            return Ok(None);
        }
        Record::open(&self.settings, self.machines.environment(&self.asked())).map(Some)
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
        let (Err(error @ Error::Device { backend, what }), Some(record)) = (&result, record) else {
            return result;
        };
        say(format_args!("{backend}: {what}; the run goes on without these cases"));
        record.failed(cases, metric, error)
    }
}

/// The ids of what these parts do, each once.
fn asked(parts: &[Part], cases: &[Case], starts: &[Case]) -> Vec<Case> {
    let mut asked = Vec::new();
    for part in parts {
        let of_part = match part {
            Part::Memory | Part::Step => cases.to_vec(),
            Part::Reorder => reorder::of_one_sentence(cases),
            Part::Startup => starts.to_vec(),
        };
        asked.extend(of_part.into_iter().filter(|case| !asked.contains(case)).collect::<Vec<_>>());
    }
    asked
}

/// The cases that share a model on a backend, for each.
fn fixtures(cases: &[Case]) -> impl Iterator<Item = &[Case]> {
    cases.chunk_by(suite::same_fixture)
}

/// One case on its way through criterion. The first call is criterion's warm-up, which is over at
/// once for the warm-up time it is given (ours, at the shape and depth measured, comes before);
/// every later call is a sample, and is on the disk before the next begins.
pub struct Timing<'a> {
    /// That is timed.
    pub case: Case,
    /// Times so many repetitions, and writes the sample down if it is one.
    sample: Box<dyn FnMut(u64, Keep) -> Result<Duration> + 'a>,
    /// How long all samples are to last together: criterion complains of cases for which that is too short.
    pub time: Duration,
    calls: u64,
    error: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    WarmUp,
    Sample,
}

impl<'a> Timing<'a> {
    fn new(case: Case, time: Duration, sample: impl FnMut(u64, Keep) -> Result<Duration> + 'a) -> Timing<'a> {
        Timing { case, sample: Box::new(sample), time, calls: 0, error: None }
    }

    /// The two parts of the id, for criterion's group and function.
    pub fn id(&self) -> (String, String) {
        args::parts(&self.case)
    }

    /// Whether an error stopped it.
    pub fn failed(&self) -> bool {
        self.error.is_some()
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
