//! What is timed, and how. Every function says its timing model; none of them analyses anything.
//!
//! Order is always *sync, clock, work, sync, clock, drop*. Tokens are given, not generated, so that
//! rounding cannot send two strategies different ways. Counting disturbs timing, so it is another
//! pass over another backend ([`exact`]); so is the check of the logits that comes first ([`equality`]).

mod budget;
pub mod builds;
pub mod ceilings;
mod clocks;
pub mod compile;
pub mod equality;
pub mod exact;
mod fixture;
pub mod interleaved;
pub mod layers;
mod machines;
mod nvml;
mod progress;
mod record;
pub mod reorder;
pub mod selftest;
pub mod startup;
pub mod trace;
mod watch;
mod weather;

pub use budget::Budget;
pub use fixture::{Fixture, Pipeline, Prefilled};
pub use machines::{Machines, NO_DRIVER_CACHE};
pub use progress::{say, Progress};
pub use record::Record;

use std::path::PathBuf;
use std::time::Duration;

/// What a run is free to choose. The same for every strategy in it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the pool that all strategies share.
    pub threads: usize,
    /// Of the weights.
    pub seed: u64,
    /// Where run folders are made.
    pub results: PathBuf,
    /// A run to go on with.
    pub resume: Option<PathBuf>,
    /// What the run is called; one to go on with keeps the name that it has, unless there is another here.
    pub name: Option<String>,
    /// What its reader should know, kept in the same way.
    pub note: Option<String>,
    /// For how many seconds a quiet one is waited for before anything is measured.
    pub wait_quiet: Option<u64>,
    /// Whether a GPU's second-level cache is emptied before every timed step.
    pub cold_l2: bool,
    /// Prompts are also fed in calls of so many tokens.
    pub prefill_chunks: Vec<usize>,
    /// When a position's rounds in turn are enough.
    pub stop: StopRule,
}

/// When to stop sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StopRule {
    /// Half of every interval over its median that is narrow enough; without one, twelve rounds are.
    pub precision: Option<f64>,
    /// What the rounds of one position may take before no more are begun. See also [`Settings::gpu_limit`].
    pub budget: Duration,
}

impl StopRule {
    /// The same, with no more time than is left.
    pub(crate) fn within(self, left: Option<Duration>) -> StopRule {
        StopRule { budget: left.map_or(self.budget, |left| left.min(self.budget)), ..self }
    }
}

impl Default for StopRule {
    fn default() -> StopRule {
        StopRule { precision: None, budget: Duration::from_secs(12) }
    }
}

/// `2 %` and budget in words, for the run's environment.
impl std::fmt::Display for StopRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let budget = self.budget.as_secs_f64();
        match self.precision {
            None => write!(f, "12 rounds, or {budget} s a position"),
            Some(p) => {
                write!(f, "intervals within {} % of their medians, or {budget} s a position", p * 100.0)
            }
        }
    }
}

impl Settings {
    /// What all cases on a GPU may take together: fifty times what the rounds of one position may, ten minutes
    /// unless something else was asked for.
    pub fn gpu_limit(&self) -> Duration {
        50 * self.stop.budget
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            threads: default_threads(),
            seed: 1,
            results: "results".into(),
            resume: None,
            name: None,
            note: None,
            wait_quiet: None,
            cold_l2: false,
            prefill_chunks: Vec::new(),
            stop: StopRule::default(),
        }
    }
}

/// More threads than any machine this runs on has.
pub const MOST_THREADS: usize = 1024;

/// All physical cores but those made for little power: a second thread on one core shares the very units these kernels
/// fill.
pub fn default_threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    crate::record::performance_cores().map_or(logical, |cores| cores.min(logical))
}
