//! A run as it is on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::rows::{EqualityRow, LedgerRow, Sample};
use super::table::{self, Extra, Row};
use super::Round;
use super::{environment, Environment, Metric, Unit};
use crate::case::Case;
use crate::error::{Error, Result};
use crate::harmless;

/// All that a run's files say.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its folder.
    pub path: PathBuf,
    /// Of `environment.json`.
    pub environment: Environment,
    /// Of `samples.csv`, in the order written.
    pub samples: Vec<Sample>,
    /// Of `equality.csv`.
    pub equality: Vec<EqualityRow>,
    /// Of `ledger.csv`.
    pub ledger: Vec<LedgerRow>,
    /// Columns of `samples.csv` that this version does not know, row for row.
    pub extra: Extra,
    /// What a reader should know: which lines a killed process left unfinished, what was added.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads the files of a run's folder.
    pub fn open(path: &Path) -> Result<Run> {
        let mut notes = Vec::new();
        let environment = Environment::read(path)?;
        let samples = noted(table::read::<Sample>(path)?, &mut notes);
        Ok(Run {
            path: path.into(),
            environment,
            samples: samples.rows,
            extra: samples.extra,
            equality: noted(table::read(path)?, &mut notes).rows,
            ledger: noted(table::read(path)?, &mut notes).rows,
            notes,
        })
    }

    /// A run that is not on the disk yet: the bytes of its files by name, none of them with a torn line.
    pub(super) fn of_files(path: &Path, files: &BTreeMap<&str, Vec<u8>>) -> Result<Run> {
        let bytes = |name: &str| files.get(name).map_or(&[][..], Vec::as_slice);
        let environment = Environment::parse(bytes(environment::FILE))
            .map_err(|what| Error::file(path.join(environment::FILE), what))?;
        let samples = table::parse::<Sample>(&path.join(Sample::FILE), bytes(Sample::FILE))?;
        let equality = table::parse(&path.join(EqualityRow::FILE), bytes(EqualityRow::FILE))?;
        let ledger = table::parse(&path.join(LedgerRow::FILE), bytes(LedgerRow::FILE))?;
        Ok(Run {
            path: path.into(),
            environment,
            samples: samples.rows,
            extra: samples.extra,
            equality: equality.rows,
            ledger: ledger.rows,
            notes: Vec::new(),
        })
    }

    /// The folder's name, as one line.
    pub fn name(&self) -> String {
        let folder = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        folder.file_name().map(|name| harmless::line(&name.to_string_lossy())).unwrap_or_default()
    }

    /// # Errors
    /// When the run's device was an emulator in software. Everything that shows or compares times asks.
    pub fn refuse_emulated(&self) -> Result<()> {
        match self.environment.emulated {
            false => Ok(()),
            true => Err(Error::file(
                &self.path,
                "the run's GPU was emulated in software: its times say nothing about a GPU, and are not shown",
            )),
        }
    }

    /// The samples of rounds that were timed.
    fn timed(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|s| s.metric.unit() == Unit::Nanoseconds && s.round != Round::Single)
    }

    /// How many of the samples of rounds that were timed are marked, and how many there are. `None`: the run may be from
    /// before there were marks. Such runs do not say how they sampled.
    pub(crate) fn marked(&self) -> (Option<usize>, usize) {
        let marked = self.timed().filter(|sample| sample.mark.is_some()).count();
        let all = self.timed().count();
        let known = all > 0 && (marked > 0 || self.environment.sampling.is_some());
        (known.then_some(marked), all)
    }

    /// The same in words, with what they were marked with: how clean the run was.
    pub(crate) fn noise_summary(&self) -> String {
        let mut marks: BTreeMap<&str, usize> = BTreeMap::new();
        for word in self.timed().filter_map(|sample| sample.mark.as_deref()).flat_map(str::split_whitespace) {
            *marks.entry(word).or_default() += 1;
        }
        let (marked, all) = self.marked();
        let marked = marked.unwrap_or_default();
        let words: Vec<String> = marks.iter().map(|(word, n)| format!("{n} {word}")).collect();
        let clocks = self.clocks().map(|clocks| format!("; {clocks}")).unwrap_or_default();
        match words.is_empty() {
            true => format!("none of {all} samples of rounds is marked{clocks}"),
            false => format!("{marked} of {all} samples of rounds are marked: {}{clocks}", words.join(", ")),
        }
    }

    /// Between what a GPU's clock was right after rounds, and what it drew at most, as far as it is known.
    fn clocks(&self) -> Option<String> {
        let of = |metric| self.samples.iter().filter(move |s| s.metric == metric).filter_map(|s| s.value);
        let (least, most) = (of(Metric::SmClockMhz).min()?, of(Metric::SmClockMhz).max()?);
        let power = of(Metric::PowerMw).max().map(|mw| format!(" and at most {} W", mw / 1000));
        Some(format!("the GPU under load: {least} to {most} MHz{}", power.unwrap_or_default()))
    }

    /// How many samples there already are, failed ones included.
    pub fn done(&self, case: &Case, metric: Metric) -> usize {
        self.samples.iter().filter(|s| s.case == *case && s.metric == metric).count()
    }
}

fn noted<R: Row>(table: table::Table<R>, notes: &mut Vec<String>) -> table::Table<R> {
    if let Some(line) = table.unfinished_line {
        notes.push(format!("{}: line {line} is unfinished and left out", R::FILE));
    }
    table
}
