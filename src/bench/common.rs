//! Arguments that several programs and verbs take.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::harmless;
use crate::measure::{default_threads, Settings, MOST_THREADS};

/// How many threads.
#[derive(clap::Args, Clone, Debug)]
pub struct Threads {
    /// CPU threads of the pool that all strategies share [default: all physical cores, without the efficiency cores of a hybrid processor]
    #[arg(long, value_name = "N", value_parser = threads)]
    threads: Option<usize>,
}

impl Threads {
    /// As given, or one for each physical core.
    pub fn count(&self) -> usize {
        self.threads.unwrap_or_else(default_threads)
    }
}

/// A number of threads.
///
/// # Errors
/// When it is none, or larger than on any machine.
pub fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=MOST_THREADS).contains(n));
    number.ok_or_else(|| format!("a whole number from 1 to {MOST_THREADS} is wanted"))
}

/// Where a run is written.
#[derive(clap::Args, Clone, Debug)]
pub struct Destination {
    /// Folder where run folders are made [default: results]
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Run folder to complete
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// What to call the run, for `decode-bench runs` [default of a run to complete: what it is called]
    #[arg(long, value_parser = line::<MOST_NAME>)]
    name: Option<String>,
    /// What a reader of the run should know, kept with it [default of a run to complete: what it has]
    #[arg(long, value_name = "TEXT", value_parser = line::<MOST_NOTE>)]
    note: Option<String>,
}

/// As many characters of a name as tables show.
const MOST_NAME: usize = 80;
const MOST_NOTE: usize = 1000;

/// A text of some characters, as one line.
fn line<const MOST: usize>(text: &str) -> Result<String, String> {
    let text = harmless::line(text).trim().to_string();
    let fits = (1..=MOST).contains(&text.chars().count());
    fits.then_some(text).ok_or_else(|| format!("a text of 1 to {MOST} characters is wanted"))
}

impl Destination {
    /// The usual settings with this destination.
    ///
    /// # Errors
    /// When the run to complete is not in the folder that is named beside it.
    pub fn settings(&self) -> Result<Settings> {
        let Destination { results, resume, name, note } = self.clone();
        if let (Some(results), Some(run)) = (&results, &resume) {
            let parent = run.canonicalize().map_err(Error::io(run))?;
            if results.canonicalize().ok().as_deref() != parent.parent() {
                let (results, run) = (results.display(), run.display());
                return Err(Error::Input(format!("--resume {run}: it is not in --results {results}")));
            }
        }
        let usual = Settings::default();
        Ok(Settings { results: results.unwrap_or(usual.results), resume, name, note, ..usual })
    }
}

/// What every run is free to choose.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    threads: Threads,
    /// Seed of the random weights
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    destination: Destination,
    /// Empty a GPU's second-level cache before every timed step
    #[arg(long)]
    cold_l2: bool,
    /// Wait for a quiet second before anything is measured, so many seconds at most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    wait_quiet: Option<u64>,
}

impl Common {
    /// The usual settings with these.
    ///
    /// # Errors
    /// See [`Destination::settings`].
    pub fn settings(&self) -> Result<Settings> {
        let Common { threads, seed, cold_l2, wait_quiet, destination } = self;
        let (threads, seed, cold_l2, wait_quiet) = (threads.count(), *seed, *cold_l2, *wait_quiet);
        Ok(Settings { threads, seed, cold_l2, wait_quiet, ..destination.settings()? })
    }
}
