//! A run that is written at once: staged beside its place, and there by one rename or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::rows::{EqualityRow, LedgerRow, Sample};
use super::table::{Row, MOST_BYTES};
use super::writer::csv_line;
use super::{environment, Environment};
use crate::error::{Error, Result};
use crate::files::{folder_of, write_error};
use crate::temporary::{hold_signals, Temporary};

/// The files of a run by name.
pub(super) type Files = BTreeMap<&'static str, Vec<u8>>;

pub(super) const TABLES: [&str; 3] = [Sample::FILE, EqualityRow::FILE, LedgerRow::FILE];

/// Whether a folder has these files of a run, byte for byte, and no other.
pub(super) fn holds(folder: &Path, files: &Files) -> bool {
    let mut all = TABLES.into_iter().chain([environment::FILE]);
    all.all(|name| crate::files::read(&folder.join(name), MOST_BYTES).ok().as_ref() == files.get(name))
}

/// Writes a run to a place where there is none.
pub(super) fn install(files: &Files, target: &Path) -> Result<()> {
    stage(files, target, |staged, _| fs::rename(staged, target))
}

/// `place` gets the staged run, and a path nearby where something can be moved out of the way.
fn stage(
    files: &Files,
    target: &Path,
    place: impl FnOnce(&Path, &Path) -> std::io::Result<()>,
) -> Result<()> {
    let parent = folder_of(target);
    let failed = |e| write_error(parent, e);
    fs::create_dir_all(parent).map_err(failed)?;
    let staging = Temporary::folder_in(parent, ".staged-").map_err(failed)?;
    let run = staging.path().join("new"); // the temporary folder itself is for its owner's eyes only
    fs::create_dir(&run).map_err(failed)?;
    files.iter().try_for_each(|(name, bytes)| crate::files::write_atomically(&run.join(name), bytes))?;
    let _whole = hold_signals(); // for a moment the old run lies where the staged one lay
    place(&run, &staging.path().join("old")).map_err(|e| write_error(target, e))
}

/// A sample of a merged run: from which run, which attempt of its shard.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedSample {
    /// As it was in its run.
    pub sample: Sample,
    /// Name of its run's folder.
    pub run: String,
    /// Of the shard, from 0 on.
    pub attempt: u64,
}

/// Writes a merged run, in place of the one that is there. `false` when that says the same, byte for
/// byte: it is left alone then.
pub fn write_merged(
    target: &Path,
    environment: &Environment,
    samples: &[MergedSample],
    equality: &[EqualityRow],
    ledger: &[LedgerRow],
) -> Result<bool> {
    let json = environment.json().map_err(|e| Error::file(target, e))?;
    let cells = samples.iter().map(|MergedSample { sample, run, attempt }| {
        let mut cells = sample.cells();
        cells.extend([run.clone(), attempt.to_string()]);
        cells
    });
    let files = Files::from([
        (environment::FILE, json),
        (Sample::FILE, table(&[Sample::COLUMNS, &["run", "attempt"]].concat(), cells)?),
        (EqualityRow::FILE, table(EqualityRow::COLUMNS, equality.iter().map(Row::cells))?),
        (LedgerRow::FILE, table(LedgerRow::COLUMNS, ledger.iter().map(Row::cells))?),
    ]);
    if holds(target, &files) {
        return Ok(false);
    }
    stage(&files, target, |staged, aside| {
        if target.exists() {
            fs::rename(target, aside)?;
        }
        fs::rename(staged, target)
    })?;
    Ok(true)
}

fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<Vec<u8>> {
    let header = columns.iter().map(|column| column.to_string()).collect();
    let mut text = Vec::new();
    for row in std::iter::once(header).chain(rows) {
        text.extend(csv_line(&row.into()).map_err(|e| Error::Input(e.to_string()))?);
    }
    Ok(text)
}
