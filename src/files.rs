//! Reading files that have an end, and writing them as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::temporary::Temporary;

/// Opens a file that can be read to its end: a device would have none, and a pipe would be waited for.
///
/// # Errors
/// When it is no regular file, or cannot be opened.
pub fn open(path: &Path) -> Result<File> {
    let found = fs::metadata(path).map_err(Error::io(path))?;
    match found.is_file() {
        true => File::open(path).map_err(Error::io(path)),
        false if found.is_dir() => Err(Error::file(path, "a directory, where a file is wanted")),
        false => Err(Error::file(path, "no regular file")),
    }
}

/// All of a regular file of at most `most` bytes.
///
/// # Errors
/// When it is no regular file, is longer, or cannot be read.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = open(path)?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    match size > most {
        true => {
            Err(Error::file(path, format!("has {size} bytes, and at most {most} are read of such a file")))
        }
        false => read_from(file, path, most),
    }
}

/// The same of a text, without a byte order mark.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String> {
    utf8(path, without_mark(&read(path, most)?)).map(String::from)
}

/// The bytes of `name` as a text.
///
/// # Errors
/// When they are no UTF-8, naming the first that is not.
pub fn utf8<'a>(name: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let place =
        |e: std::str::Utf8Error| format!("is not UTF-8 text: byte {} begins no character", e.valid_up_to());
    std::str::from_utf8(bytes).map_err(|e| Error::file(name, place(e)))
}

/// All that a reader gives, which messages call `name`, up to `most` bytes.
///
/// # Errors
/// When it gives more, or cannot be read.
pub fn read_from(reader: impl Read, name: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(name))?;
    match bytes.len() as u64 > most {
        true => {
            Err(Error::file(name, format!("has more than the {most} bytes that are read of such a file")))
        }
        false => Ok(bytes),
    }
}

/// Without the byte order mark that some editors write before a text.
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Where a path's last part lies: a path of one part is in the current folder.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

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
        let folder = folder_of(&place);
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
            "the disk is full; all that was written before is kept, so free some space and resume",
        ),
        _ => Error::io(path)(error),
    }
}
