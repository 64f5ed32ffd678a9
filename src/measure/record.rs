//! A run being written.

use std::path::Path;

use super::clocks::Clocks;
use super::watch::Watch;
use super::weather::{look_around, Moment};
use super::{say, Budget, Settings};
use crate::analysis::is_disturbed;
use crate::case::Case;
use crate::error::{Error, Result};
use crate::record::{differences, refused_and_said, Environment, Metric, Round, Run, RunWriter, Sample, Use};

/// A run that is being written, beside what disturbs the machine meanwhile.
pub struct Record {
    /// Of its files.
    pub writer: RunWriter,
    /// What it held when this program, or this part of it, began.
    pub done: Run,
    watch: Watch,
    clocks: Option<Clocks>,
    /// Looks at the counters of the machine.
    moment: fn() -> Option<Moment>,
}

impl Record {
    /// The run that the settings name, or a new one. `here` is where its numbers will come from.
    pub fn open(settings: &Settings, mut here: Environment) -> Result<Record> {
        if let Some(doubt) = here.doubtful_revision() {
            say(format_args!("note: {doubt}; `cite` will refuse this run"));
        }
        let writer = match &settings.resume {
            Some(path) => {
                let mut writer = Record::resume(path, &here)?;
                writer.update_environment(|begun| label(begun, settings))?;
                writer
            }
            None => {
                label(&mut here, settings);
                RunWriter::create(&settings.results, here)?
            }
        };
        look_around(settings.wait_quiet);
        Record::of(writer)
    }

    /// # Errors
    /// When the run was begun by another program or on another machine: its numbers would not be
    /// comparable with those it lacks.
    fn resume(path: &Path, here: &Environment) -> Result<RunWriter> {
        let begun = Environment::read(path)?;
        let [refused, said] = refused_and_said(&differences(Use::Resume, &begun, here));
        if !refused.is_empty() {
            return Err(Error::file(path, format!("cannot be completed here: {}", refused.join("; "))));
        }
        for what in said {
            say(format_args!("note: {}: {what}", path.display()));
        }
        RunWriter::resume(path)
    }

    fn of(writer: RunWriter) -> Result<Record> {
        let environment = writer.environment();
        let watch = Watch::start(environment.threads, environment.gpu.as_ref());
        let clocks = Clocks::of(environment.gpu.as_ref().filter(|_| !environment.emulated));
        Ok(Record { done: Run::open(writer.path())?, watch, clocks, moment: Moment::now, writer })
    }

    /// The same, with what was written so far as done, and the machine watched from now on.
    pub(crate) fn look_again(self) -> Result<Record> {
        Record::of(self.writer)
    }

    /// Writes a sample down, with what happened to the machine since the one before.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        let mark = self.watch.look();
        self.writer.sample(&Sample { mark, ..sample.clone() })
    }

    /// Writes down how fast a GPU's clocks are right after the round of a case, and those beside it.
    pub fn clocks(&mut self, case: &Case, round: Round) -> Result<()> {
        match &self.clocks {
            Some(clocks) if case.backend.is_cuda() => {
                clocks.now().samples(*case, round).try_for_each(|sample| self.writer.sample(&sample))
            }
            _ => Ok(()),
        }
    }

    /// The counters of the machine when a round begins; `None` where the system has none.
    pub(super) fn begin_round(&self) -> Option<Moment> {
        (self.moment)()
    }

    /// Writes down what others took of the processors in a round of decodes. Whether it was [disturbed](is_disturbed).
    pub(super) fn end_round(
        &mut self,
        begun: Option<Moment>,
        decodes: impl Iterator<Item = Case>,
        round: Round,
    ) -> Result<bool> {
        let others = begun.zip((self.moment)()).and_then(|(begun, now)| begun.others_permille(now));
        let Some(others) = others else { return Ok(false) };
        for case in decodes {
            self.writer.sample(&Sample::value(case, Metric::OthersPermille, round, 1, others))?;
        }
        Ok(is_disturbed(self.writer.environment(), others))
    }

    /// Whether the run has this round of a decode, and it was disturbed.
    pub(super) fn was_disturbed(&self, decode: &Case, round: Round) -> bool {
        let of_round =
            |s: &&Sample| s.metric == Metric::OthersPermille && s.case == *decode && s.round == round;
        let others = self.done.samples.iter().rfind(of_round).and_then(|sample| sample.value);
        others.is_some_and(|others| is_disturbed(&self.done.environment, others))
    }

    #[cfg(test)]
    pub(super) fn with_moments(self, moment: fn() -> Option<Moment>) -> Record {
        Record { moment, ..self }
    }

    /// Writes down why cases have no value of a metric.
    pub(crate) fn failed(&mut self, cases: &[Case], metric: Metric, why: &Error) -> Result<()> {
        let mut rows = cases.iter().map(|case| Sample::failed(*case, metric, Round::Single, why));
        rows.try_for_each(|sample| self.sample(&sample))
    }

    /// Writes down and says what a budget had no time for, in place of what was said of these `kinds` of work before.
    pub(crate) fn left_out(&mut self, budget: &Budget, kinds: &[&str]) -> Result<()> {
        if let Some(said) = budget.said() {
            say(said);
        }
        let known = self.writer.environment().gpu.as_ref().map_or(&[][..], |gpu| &gpu.left_out);
        let of_these = |named: &str| kinds.iter().any(|kind| named.ends_with(&format!(": {kind}")));
        let others = known.iter().filter(|named| !of_these(named)).cloned();
        let now: Vec<String> = others.chain(budget.left_out()).collect();
        if now == known {
            return Ok(());
        }
        self.writer.update_environment(|environment| environment.gpu.get_or_insert_default().left_out = now)
    }

    /// The run, finished and opened again.
    pub fn finish(self) -> Result<Run> {
        let path = self.writer.path().to_path_buf();
        self.writer.finish()?;
        Run::open(&path)
    }
}

/// Gives the run its name and its note. What is not given stays as it is.
fn label(environment: &mut Environment, Settings { name, note, .. }: &Settings) {
    for (kept, given) in [(&mut environment.name, name), (&mut environment.note, note)] {
        if given.is_some() {
            kept.clone_from(given);
        }
    }
}
