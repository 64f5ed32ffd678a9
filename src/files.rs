//! Writing files as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::temporary::Temporary;

/// Replaces the file as a whole or not at all: written beside it under another name, flushed to
/// the disk, renamed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = Staged::beside(path).and_then(|mut staged| {
        staged.write_all(bytes)?;
        staged.commit()
    });
    written.map_err(|e| write_error(path, e))
}

/// A file that is written beside its place. Dropped without [`Staged::commit`], it never was.
#[derive(Debug)]
pub struct Staged {
    file: File,
    temporary: Temporary,
    place: PathBuf,
}

impl Staged {
    /// For this place, which may have a file already.
    pub fn beside(path: &Path) -> io::Result<Staged> {
        // what a link points to is replaced, not the link
        let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less what the user's mask takes
        let make = || Ok(builder.prefix(".decode-bench-").tempfile_in(folder)?.keep()?);
        let (file, temporary) = Temporary::make(make)?;
        Ok(Staged { file, temporary, place })
    }

    /// Flushes it to the disk and renames it, with the permissions of the file that it replaces.
    pub fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        if let Ok(old) = fs::metadata(&self.place) {
            self.file.set_permissions(old.permissions())?;
        }
        self.temporary.rename(&self.place)
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
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
