//! Appends to a run, one process at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rows::{EqualityRow, LedgerRow, Sample};
use super::table::{self, Row};
use super::{time, Environment};
use crate::error::{Error, Result};
use crate::files::write_error;
use crate::temporary::Temporary;

/// A run that this process writes, and no other until it is dropped.
#[derive(Debug)]
pub struct RunWriter {
    path: PathBuf,
    environment: Environment,
    samples: Appender<Sample>,
    equality: Appender<EqualityRow>,
    ledger: Appender<LedgerRow>,
    /// The folder that was made for it, as long as it has no sample.
    empty: Option<Temporary>,
}

impl RunWriter {
    /// Makes `parent/<UTC date-time>-<hardware>/`, and `parent` where it is missing. The
    /// environment is written first: no provenance, no number. A folder that gets no sample is removed
    /// again, unless the run is [finished](RunWriter::finish).
    pub fn create(parent: &Path, environment: Environment) -> Result<RunWriter> {
        let path = parent.join(environment.folder_name());
        fs::create_dir_all(parent).map_err(|e| write_error(parent, e))?;
        let ((), empty) =
            Temporary::make(|| Ok((fs::create_dir(&path)?, path.clone()))).map_err(|e| match e.kind() {
                ErrorKind::AlreadyExists => {
                    Error::file(&path, "another run started in the same second; try again")
                }
                _ => write_error(&path, e),
            })?;
        environment.write(&path)?;
        Ok(RunWriter { empty: Some(empty), ..RunWriter::open(&path, environment)? })
    }

    /// Goes on with a run. A last line that a killed process left unfinished is cut off.
    pub fn resume(path: &Path) -> Result<RunWriter> {
        let environment = Environment::read(path)?;
        super::Run::open(path)?; // a bad row is found now, not after an hour
        let mut writer = RunWriter::open(path, environment)?;
        writer.update_environment(|environment| environment.finished_utc = None)?;
        Ok(writer)
    }

    fn open(path: &Path, environment: Environment) -> Result<RunWriter> {
        Ok(RunWriter {
            path: path.into(),
            environment,
            samples: Appender::open(path)?,
            equality: Appender::open(path)?,
            ledger: Appender::open(path)?,
            empty: None,
        })
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As it was last written.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Adds what was found out after the start, such as a ceiling. On an error nothing is changed.
    pub(crate) fn update_environment(&mut self, change: impl FnOnce(&mut Environment)) -> Result<()> {
        let mut environment = self.environment.clone();
        change(&mut environment);
        environment.write(&self.path)?;
        self.environment = environment;
        Ok(())
    }

    /// Appends one line.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        self.samples.append(sample)?;
        self.keep();
        Ok(())
    }

    fn keep(&mut self) {
        self.empty.take().into_iter().for_each(Temporary::keep);
    }

    /// Appends one line.
    pub fn equality(&mut self, row: &EqualityRow) -> Result<()> {
        self.equality.append(row)
    }

    /// Appends one line.
    pub fn ledger(&mut self, row: &LedgerRow) -> Result<()> {
        self.ledger.append(row)
    }

    /// Records the end time.
    pub fn finish(mut self) -> Result<()> {
        self.update_environment(|environment| environment.finished_utc = Some(time::utc_now()))?;
        self.keep();
        Ok(())
    }
}

/// One table's file, locked, and whole up to its end.
#[derive(Debug)]
pub(super) struct Appender<R> {
    path: PathBuf,
    file: File,
    /// The file's own header, which may have further columns.
    columns: csv::StringRecord,
    /// Bytes up to the end of the last whole row.
    whole: u64,
    rows: PhantomData<fn(&R)>,
}

impl<R: Row> Appender<R> {
    pub fn open(folder: &Path) -> Result<Appender<R>> {
        let path = folder.join(R::FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| write_error(&path, e))?;
        lock(&file, folder)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(Error::io(&path))?;
        let whole = table::finished(&text);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(Error::io(&path))?;
        }
        let columns = csv::StringRecord::from(R::COLUMNS.to_vec());
        let mut appender = Appender { path, file, columns, whole: whole as u64, rows: PhantomData };
        match whole {
            0 => appender.write(&appender.columns.clone())?,
            _ => appender.columns = header(&text[..whole], &appender.path)?,
        }
        let places = table::places::<R>(&appender.path, &appender.columns)?;
        if let Some(absent) = places.iter().position(Option::is_none) {
            let what = format!(
                "an earlier version began it, without the column `{}`; begin a new run",
                R::COLUMNS[absent]
            );
            return Err(Error::file(&appender.path, what));
        }
        Ok(appender)
    }

    pub fn append(&mut self, row: &R) -> Result<()> {
        let cells = row.cells();
        let cell = |column| R::COLUMNS.iter().position(|c| *c == column).map_or("", |at| cells[at].as_str());
        let record = self.columns.iter().map(cell).collect();
        self.write(&record)
    }

    /// One line by one write. What a full disk took of it is taken back, so that the file ends
    /// with a whole row.
    fn write(&mut self, record: &csv::StringRecord) -> Result<()> {
        let line = csv_line(record).map_err(|e| Error::file(&self.path, e))?;
        if let Err(error) = self.file.write_all(&line) {
            let _ = self.file.set_len(self.whole); // best effort: a reader leaves a torn line out
            return Err(write_error(&self.path, error));
        }
        self.whole += line.len() as u64;
        Ok(())
    }
}

pub(super) fn csv_line(record: &csv::StringRecord) -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(record)?;
    writer.into_inner().map_err(|e| e.into_error().into())
}

fn header(text: &[u8], path: &Path) -> Result<csv::StringRecord> {
    csv::Reader::from_reader(text).headers().cloned().map_err(|e| Error::file(path, e))
}

/// A lock that was just given up may still be held for some milliseconds by a child process on its way
/// from fork to exec, so it is asked for more than once.
fn lock(file: &File, folder: &Path) -> Result<()> {
    let mut tries = 0..100;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if tries.next().is_some() => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::file(folder, "another process is writing to this run"))
            }
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => return Ok(()), // some network disks
            Err(TryLockError::Error(e)) => return Err(Error::io(folder)(e)),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_one_clear_error() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let columns = csv::StringRecord::from(LedgerRow::COLUMNS.to_vec());
        let mut full: Appender<LedgerRow> =
            Appender { path: "results/x/ledger.csv".into(), file, columns, whole: 0, rows: PhantomData };
        let error = full.write(&full.columns.clone()).unwrap_err().to_string();
        assert!(error.starts_with("results/x/ledger.csv: the disk is full; "), "{error}");
    }
}
