//! A run's files out of a folder or an archive. Nothing is unpacked to the disk: of an archive only the
//! known names are read, into memory, and anything in it that would be harmful to unpack refuses it all,
//! for whoever made it meant harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::files::{self, read_from};
use crate::record::environment;
use crate::record::whole::{Files, TABLES};

/// Some ten times what the longest of this repository's runs have.
const MOST_TABLE: u64 = 64 << 20;
const MOST_ENVIRONMENT: u64 = 1 << 20;
/// Of an archive, before and after unpacking.
const MOST_PACKED: u64 = 64 << 20;
const MOST_UNPACKED: u64 = 256 << 20;
const MOST_ENTRIES: usize = 1000;
const MOST_NAME: usize = 100;

pub(super) struct Archive {
    /// What its folder is to be called.
    pub name: String,
    pub files: Files,
}

pub(super) fn read(path: &Path) -> Result<Archive> {
    let source = match path.is_dir() {
        true => folder(path)?,
        false => archive(path, files::open(path)?).map_err(|what| Error::file(path, what))?,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let first = source.name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    match first && source.name.len() <= MOST_NAME && source.name.chars().all(plain) {
        true => Ok(source),
        false => Err(Error::file(
            path,
            format!(
                "`{}` is no name for a run: at most {MOST_NAME} letters, digits, `.`, `_`, `-`, and first a letter or digit",
                source.name.chars().take(MOST_NAME).collect::<String>()
            ),
        )),
    }
}

fn limit(name: &str) -> u64 {
    if name == environment::FILE {
        MOST_ENVIRONMENT
    } else {
        MOST_TABLE
    }
}

/// All of a run's file in an archive.
fn unpacked(entry: impl Read, name: &str) -> Result<Vec<u8>, String> {
    read_from(entry, Path::new(name), limit(name)).map_err(|e| e.to_string())
}

fn known(name: &str) -> Option<&'static str> {
    TABLES.into_iter().chain([environment::FILE]).find(|known| *known == name)
}

fn folder(path: &Path) -> Result<Archive> {
    let mut held = Files::new();
    for name in TABLES.into_iter().chain([environment::FILE]) {
        let file = path.join(name);
        let Ok(found) = fs::symlink_metadata(&file) else { continue };
        if !found.is_file() {
            return Err(Error::file(file, "no regular file; links are not followed"));
        }
        held.insert(name, files::read(&file, limit(name))?);
    }
    if !held.contains_key(environment::FILE) {
        return Err(Error::file(path, NO_ENVIRONMENT));
    }
    let whole = path.canonicalize().map_err(Error::io(path))?;
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Archive { name, files: held })
}

const NO_ENVIRONMENT: &str = "no environment.json in it: a run says where its numbers come from";

fn archive(path: &Path, file: File) -> Result<Archive, String> {
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = |ending: &str| {
        let (stem, rest) = file_name.split_at_checked(file_name.len().checked_sub(ending.len())?)?;
        rest.eq_ignore_ascii_case(ending).then(|| stem.to_string())
    };
    if file.metadata().map_err(|e| e.to_string())?.len() > MOST_PACKED {
        return Err(format!("an archive of more than {} MiB", MOST_PACKED >> 20));
    }
    let mut found = Found::default();
    let name = if let Some(name) = stem(".zip") {
        zip(file, &mut found)?;
        name
    } else if let Some(name) = stem(".tar.gz").or_else(|| stem(".tgz")) {
        tar(MultiGzDecoder::new(file), &mut found).map_err(|e| e.to_string())?;
        name
    } else if let Some(name) = stem(".tar") {
        tar(file, &mut found).map_err(|e| e.to_string())?;
        name
    } else {
        return Err("neither a run's folder nor a .tar, .tar.gz, .tgz or .zip of one".into());
    };
    found.run(name)
}

/// What an archive holds, as far as it concerns us: the known files by the folder they are in.
#[derive(Default)]
struct Found {
    entries: BTreeSet<String>,
    folders: BTreeMap<String, Files>,
}

impl Found {
    /// Takes a file's name in. Where it is one of ours: the folder and the name.
    fn file(&mut self, name: &[u8]) -> Result<Option<(String, &'static str)>, String> {
        let path = plain(name)?;
        if !self.entries.insert(path.clone()) {
            return Err(format!("it holds {path} twice"));
        }
        if self.entries.len() > MOST_ENTRIES {
            return Err(format!("it holds more than {MOST_ENTRIES} files"));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        Ok(known(name).map(|name| (folder.to_string(), name)))
    }

    fn keep(&mut self, (folder, name): (String, &'static str), bytes: Vec<u8>) {
        self.folders.entry(folder).or_default().insert(name, bytes);
    }

    /// The one run in it, whose folder's name is its own; else it is called as the archive is.
    fn run(self, archive: String) -> Result<Archive, String> {
        let mut runs: Vec<(String, Files)> =
            self.folders.into_iter().filter(|(_, files)| files.contains_key(environment::FILE)).collect();
        match runs.len() {
            0 => Err(NO_ENVIRONMENT.into()),
            1 => {
                let (folder, files) = runs.remove(0);
                let name = folder.rsplit('/').next().filter(|name| !name.is_empty());
                Ok(Archive { name: name.map(String::from).unwrap_or(archive), files })
            }
            n => Err(format!("it holds {n} runs; import them one by one")),
        }
    }
}

/// An entry's path, which must lead nowhere but down; some programs of Windows write `\` for `/`.
fn plain(name: &[u8]) -> Result<String, String> {
    let shown = || String::from_utf8_lossy(name).chars().take(200).collect::<String>();
    let text = std::str::from_utf8(name).map_err(|_| format!("`{}` in it is no UTF-8 name", shown()))?;
    let text = text.replace('\\', "/");
    let is_drive = |part: &str| part.len() == 2 && part.ends_with(':');
    let outside = text.starts_with('/') || text.split('/').any(|part| part == ".." || is_drive(part));
    if outside || text.chars().any(char::is_control) {
        return Err(format!("`{}` in it leads out of the archive's folder, or is no plain name", shown()));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.join("/"))
}

fn unusual(name: &[u8], what: &str) -> String {
    format!("`{}` in it is {what}; a run is plain files", String::from_utf8_lossy(name))
}

fn tar(reader: impl Read, found: &mut Found) -> io::Result<()> {
    let mut archive = tar::Archive::new(Bounded { reader, left: MOST_UNPACKED });
    for entry in archive.entries()? {
        let entry = entry?;
        let name = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            continue; // a comment on the whole archive, as `git archive` writes
        }
        if !kind.is_file() && !kind.is_dir() {
            return Err(io::Error::other(unusual(&name, "a link, a device or a sparse file")));
        }
        if kind.is_dir() {
            plain(&name).map_err(io::Error::other)?;
        } else if let Some(place) = found.file(&name).map_err(io::Error::other)? {
            let bytes = unpacked(entry, place.1).map_err(io::Error::other)?;
            found.keep(place, bytes);
        }
    }
    Ok(())
}

fn zip(file: File, found: &mut Found) -> Result<(), String> {
    let mut archive = zip::ZipArchive::new(file).map_err(|e| e.to_string())?;
    if archive.has_duplicate_names() {
        return Err("it holds a file twice".into());
    }
    let mut left = MOST_UNPACKED;
    for i in 0..archive.len() {
        let entry = archive.by_index(i).map_err(|e| e.to_string())?;
        let name = entry.name_raw().to_vec();
        const KIND: u32 = 0o170_000; // of a Unix mode: what kind of file it is
        let kind = entry.unix_mode().map_or(0, |mode| mode & KIND);
        if ![0, 0o040_000, 0o100_000].contains(&kind) {
            return Err(unusual(&name, "a link or a device"));
        }
        if entry.is_dir() {
            plain(&name)?;
        } else if let Some(place) = found.file(&name)? {
            let bytes = unpacked(Bounded { reader: entry, left }, place.1)?;
            left -= bytes.len() as u64;
            found.keep(place, bytes);
        }
    }
    Ok(())
}

/// A stream that fails where it should have ended: what is packed small may unpack to any size.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {} MiB", MOST_UNPACKED >> 20))
        })?;
        Ok(read)
    }
}
