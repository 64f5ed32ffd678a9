//! Files that a verb writes: found possible before the work, there as a whole after it, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use decode_bench::error::{Error, Result};
use decode_bench::files::{folder_of, Staged};

/// A file to be. Dropped without [`OutputFile::commit`], it never was.
pub struct OutputFile {
    path: PathBuf,
    to: To,
}

enum To {
    /// Beside the file, to be renamed.
    Staged(Staged),
    /// A device or a pipe cannot be replaced, only written to.
    Device(File),
}

impl OutputFile {
    pub fn create(path: &Path) -> Result<OutputFile> {
        let to = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::file(path, "a directory, where a file is to be written"))
            }
            Ok(found) if !found.is_file() => {
                OpenOptions::new().write(true).open(path).map(To::Device).map_err(Error::io(path))?
            }
            _ => staged(path)?,
        };
        Ok(OutputFile { path: path.into(), to })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match &mut self.to {
            To::Staged(file) => file.write_all(bytes),
            To::Device(file) => file.write_all(bytes),
        };
        written.map_err(|e| failed(&self.path, e))
    }

    pub fn commit(self) -> Result<()> {
        let OutputFile { path, to } = self;
        match to {
            To::Device(_) => Ok(()),
            To::Staged(file) => file.commit().map_err(|e| failed(&path, e)),
        }
    }
}

fn staged(path: &Path) -> Result<To> {
    if path.file_name().is_none() {
        return Err(Error::file(path, "no name for a file"));
    }
    let place = path.canonicalize().unwrap_or_else(|_| path.into()); // a link's target is replaced
    Staged::beside(path).map(To::Staged).map_err(|e| cannot_write(folder_of(&place), e))
}

/// Whether files can be made in a folder, which need not exist yet.
pub fn check_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut there = folder;
    while fs::symlink_metadata(there).is_err() {
        there = folder_of(there);
    }
    if !there.is_dir() {
        return Err(Error::file(there, "no directory"));
    }
    tempfile::tempfile_in(there).map(drop).map_err(|e| cannot_write(there, e))
}

/// Where a path leads, whether or not there is something.
pub fn place(path: &Path) -> Option<PathBuf> {
    let beside = || Some(folder_of(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(beside)
}

fn cannot_write(folder: &Path, e: io::Error) -> Error {
    match e.kind() {
        ErrorKind::StorageFull => failed(folder, e),
        _ => {
            // the temporary file that was tried is of no interest to anybody
            let plain = e.raw_os_error().map(io::Error::from_raw_os_error).unwrap_or_else(|| e.kind().into());
            Error::file(folder, format!("no file can be made there: {plain}"))
        }
    }
}

/// Names a full disk as what it is.
pub fn failed(path: &Path, e: io::Error) -> Error {
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::file(path, "the disk is full"),
        _ => Error::io(path)(e),
    }
}

/// One f32 tensor `logits [rows, vocab]` as a safetensors file, written row by row: all of them
/// may be more than fits in memory.
pub struct LogitsFile(OutputFile);

impl LogitsFile {
    pub fn create(path: &Path, rows: usize, vocab: usize) -> Result<LogitsFile> {
        let bytes = rows.checked_mul(vocab).and_then(|n| n.checked_mul(4));
        let bytes = bytes.ok_or_else(|| Error::file(path, "more logits than any file holds"))?;
        let header =
            format!(r#"{{"logits":{{"dtype":"F32","shape":[{rows},{vocab}],"data_offsets":[0,{bytes}]}}}}"#);
        let length = header.len().next_multiple_of(8); // the numbers are then aligned
        let mut file = OutputFile::create(path)?;
        file.write(&(length as u64).to_le_bytes())?;
        file.write(format!("{header:<length$}").as_bytes())?;
        Ok(LogitsFile(file))
    }

    pub fn push(&mut self, row: &[f32]) -> Result<()> {
        self.0.write(&row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub fn commit(self) -> Result<()> {
        self.0.commit()
    }
}
