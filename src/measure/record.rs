//! A run being written.

use std::path::Path;

use super::watch::Watch;
use super::Settings;
use crate::cost::Step;
use crate::error::{Error, Result};
use crate::record::{Environment, Run, RunWriter, Sample};
use crate::{plot, report};

pub struct Record {
    pub writer: RunWriter,
    /// What it held when this program began.
    pub done: Run,
    watch: Watch,
}

impl Record {
    /// The run that the settings name, or a new one. `here` is where its numbers will come from.
    pub fn open(settings: &Settings, here: Environment) -> Result<Record> {
        if let Some(doubt) = here.doubtful_revision() {
            eprintln!("note: {doubt}; `cite` will refuse this run");
        }
        match &settings.resume {
            Some(path) => Record::resume(path, &here),
            None => Record::of(RunWriter::create(&settings.results, here)?),
        }
    }

    /// # Errors
    /// When the run was begun by another program or on another machine: its numbers would not be
    /// comparable with those it lacks.
    pub fn resume(path: &Path, here: &Environment) -> Result<Record> {
        Record::go_on(path, |run| run.differences(here))
    }

    /// The same, of a run that another program of the same `cargo bench` began.
    pub(super) fn join(path: &Path, here: &Environment) -> Result<Record> {
        Record::go_on(path, |run| run.contradictions(here))
    }

    fn go_on(path: &Path, differences: impl Fn(&Environment) -> Vec<String>) -> Result<Record> {
        let writer = RunWriter::resume(path)?;
        let differences = differences(writer.environment());
        match differences.is_empty() {
            true => Record::of(writer),
            false => Err(Error::file(path, format!("cannot be completed here: {}", differences.join("; ")))),
        }
    }

    fn of(writer: RunWriter) -> Result<Record> {
        let environment = writer.environment();
        let watch = Watch::start(environment.threads, environment.gpu.as_ref());
        Ok(Record { done: Run::open(writer.path())?, watch, writer })
    }

    /// Writes a sample down, with what happened to the machine since the one before.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        let mark = self.watch.look();
        self.writer.sample(&Sample { mark, ..sample.clone() })
    }

    /// Draws the figures and returns the tables, as printed.
    pub fn close(self) -> Result<String> {
        let path = self.writer.path().to_path_buf();
        self.writer.finish()?;
        let run = Run::open(&path)?;
        if let Err(why) = run.refuse_emulated() {
            return Ok(format!("\nwritten to {}\n{why}\n", path.display()));
        }
        plot::draw(&run, &path.join("plots"), &Step::floor_of)?;
        let table = report::table(&run, &Step::floor_of);
        Ok(format!("\n{table}\n{}\nwritten to {}\n", run.cleanliness(), path.display()))
    }
}
