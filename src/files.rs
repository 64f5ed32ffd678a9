//! Writing files as a whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::error::{Error, Result};

/// Replaces the file as a whole or not at all: written beside it under another name, flushed to
/// the disk, renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    // what a link points to is replaced, not the link
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(name);
    let keep_mode =
        || fs::metadata(path).map_or(Ok(()), |old| fs::set_permissions(&beside, old.permissions()));
    let written =
        write_synced(&beside, bytes).and_then(|()| keep_mode()).and_then(|()| fs::rename(&beside, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&beside); // best effort: the error to report is the one above
        write_error(path, e)
    })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Names a full disk as what it is.
pub(crate) fn write_error(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::file(
            path,
            "the disk is full; what was written before is kept, so free some space and resume",
        ),
        _ => Error::io(path)(error),
    }
}
