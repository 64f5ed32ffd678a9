//! What is timed, and how. Every function says its timing model; none of them analyses anything.
//!
//! Order is always *sync, clock, work, sync, clock, drop*. Tokens are given, not generated, so that
//! rounding cannot send two strategies different ways. Counting disturbs timing, so it is another
//! pass over another backend ([`exact`]); so is the check of the logits that comes first ([`equality`]).

pub mod bench;
pub mod ceilings;
pub mod compile;
pub mod equality;
pub mod exact;
pub mod interleaved;
mod machines;
mod nvml;
mod record;
mod rig;
pub mod startup;
mod tokens;
pub mod trace;
mod watch;

pub use machines::{Machines, NO_DRIVER_CACHE};
pub use record::Record;
pub use rig::{Rig, Trunk};

use std::path::PathBuf;

/// What a run is free to choose. The same for every strategy in it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Settings {
    pub threads: usize,
    /// Of the weights.
    pub seed: u64,
    /// Where run folders are made.
    pub results: PathBuf,
    /// A run to go on with.
    pub resume: Option<PathBuf>,
    /// Whether a GPU's second-level cache is emptied before every timed step.
    #[serde(default)]
    pub cold_l2: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            threads: default_threads(),
            seed: 1,
            results: "results".into(),
            resume: None,
            cold_l2: false,
        }
    }
}

/// More threads than any machine this runs on has.
pub const MOST_THREADS: usize = 1024;

/// All physical cores: a second thread on one core shares the very units these kernels fill.
pub fn default_threads() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    crate::record::physical_cores().map_or(logical, |cores| cores.min(logical))
}
