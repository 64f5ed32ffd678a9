//! Runs from someone else. A folder or an archive is read into memory within limits, doubted as a whole,
//! and only then written: the four files of a run and nothing else, under the name it came with, by one
//! rename. What is refused leaves no trace.
//!
//! | file | question |
//! |---|---|
//! | `archive` | which bytes are a run's files, and is the archive one that could do harm? |
//! | `doubts` | can what they say be true, and be shown in a terminal, a page and a spreadsheet? |

mod archive;
mod doubts;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use archive::Archive;

use super::table;
use super::whole::{holds, install, Files, TABLES};
use super::Run;
use crate::error::{Error, Result};

/// A run that is under `results` now.
#[derive(Debug)]
pub enum Imported {
    /// It was copied.
    New(Run),
    /// It was there before, byte for byte.
    Known(Run),
}

/// Copies a run, a folder or a `.tar`, `.tar.gz`, `.tgz` or `.zip` of one, to `results/<its name>`.
///
/// # Errors
/// When the run is not to be trusted, or another one has its name. Nothing is written then.
pub fn import(source: &Path, results: &Path) -> Result<Imported> {
    let Archive { name, mut files } = archive::read(source)?;
    let notes = cut_torn_lines(&mut files);
    doubts::check(source, &files)?;
    let target = results.join(&name);
    let known = fs::symlink_metadata(&target).is_ok();
    if known && !holds(&target, &files) {
        return Err(Error::file(
            &target,
            "another run has this name; rename one of them, nothing was written",
        ));
    }
    if !known {
        install(&files, &target)?;
    }
    let mut run = Run::open(&target)?;
    run.notes.extend(notes);
    Ok(if known { Imported::Known(run) } else { Imported::New(run) })
}

/// A killed run's last lines are no rows; in words, which.
fn cut_torn_lines(files: &mut Files) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, bytes) in files.iter_mut().filter(|(name, _)| TABLES.contains(name)) {
        let whole = table::finished(bytes);
        if whole < bytes.len() {
            bytes.truncate(whole);
            notes.push(format!("{name}: the last line is unfinished and left out"));
        }
    }
    notes
}
