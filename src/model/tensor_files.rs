//! The tensors of a checkpoint: in one safetensors file, or in as many as an index lists.
//!
//! Files are mapped, not read: their pages are the files' own, and are let go of tensor by tensor, so that loading
//! never needs the weights twice.
//!
//! A file may be anything that somebody sent. Nothing in it is believed before it was held against the size
//! of the file, and nothing is allocated in proportion to a number it merely states.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;

use super::index::Index;
use crate::backend::cpu::collect;
use crate::error::{Error, Result};
use crate::files;

/// The longest header of a safetensors file, as the format's own library says.
const HEADER_MOST_BYTES: u64 = 100_000_000;

/// The tensors in the files of a checkpoint.
pub(super) struct TensorFiles {
    /// The one file, or the index: what lacks a tensor that is missing.
    path: PathBuf,
    files: Vec<TensorFile>,
    /// For each name without the prefix, where the tensor is.
    places: BTreeMap<String, Place>,
}

struct Place {
    /// Among the files.
    file: usize,
    /// In the file.
    name: String,
}

impl TensorFiles {
    /// Maps a file, in which each name may begin with `prefix`, and reads its header.
    ///
    /// # Errors
    /// When the header is wrong, or a tensor is there with the prefix and without.
    pub fn single(path: PathBuf, prefix: &str) -> Result<TensorFiles> {
        let file = TensorFile::map(path.clone())?;
        TensorFiles::new(path, vec![file], prefix)
    }

    /// The same of all files that an index lists.
    ///
    /// # Errors
    /// As [`Self::single`]; when a file is not there, a tensor is in two, or a file and the index differ in what is in it.
    pub fn sharded(index: &Index, prefix: &str) -> Result<TensorFiles> {
        let paths = index.files.keys().map(|name| index.path.with_file_name(name));
        let files = paths.map(TensorFile::map).collect::<Result<Vec<_>>>()?;
        let found = TensorFiles::new(index.path.clone(), files, prefix)?;
        let pairs = || found.files.iter().zip(&index.files);
        let lacking = pairs().find_map(|(file, (name, listed))| {
            let tensor = listed.iter().find(|tensor| file.metadata.info(tensor).is_none())?;
            Some(format!("tensor `{tensor}` is listed in {name}, which lacks it"))
        });
        let unlisted = pairs().find_map(|(file, (name, listed))| {
            let held = file.metadata.offset_keys();
            let tensor = held.iter().find(|tensor| !listed.contains(*tensor))?;
            Some(format!("tensor `{tensor}` of {name} is not listed"))
        });
        if let Some(what) = lacking.or(unlisted) {
            return Err(Error::file(&index.path, what));
        }
        Ok(found)
    }

    fn new(path: PathBuf, files: Vec<TensorFile>, prefix: &str) -> Result<TensorFiles> {
        let mut places = BTreeMap::<String, Place>::new();
        for (file, of) in files.iter().enumerate() {
            for name in of.metadata.offset_keys() {
                let plain = name.strip_prefix(prefix).unwrap_or(&name).to_string();
                let Some(other) = places.insert(plain, Place { file, name: name.clone() }) else { continue };
                let beside = match other.file == file {
                    true => String::new(),
                    false => format!(" in {}", files[other.file].path.display()),
                };
                let what =
                    format!("tensor `{name}` is there twice, the other time as `{}`{beside}", other.name);
                return Err(Error::file(&of.path, what));
            }
        }
        Ok(TensorFiles { path, files, places })
    }

    /// The one file; or the index, and then those that it lists.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = self.files.iter().map(|file| &file.path).filter(|path| **path != self.path);
        std::iter::once(&self.path).chain(files).map(PathBuf::as_path)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.map.len() - file.start).sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The first of the names that the files hold a tensor by, or the first of all if they do not.
    pub fn name<'a>(&self, names: &'a [String]) -> &'a str {
        self.held(names).next().unwrap_or(&names[0])
    }

    /// The names that the files hold a tensor by.
    fn held<'a>(&self, names: &'a [String]) -> impl Iterator<Item = &'a str> + use<'_, 'a> {
        names.iter().map(String::as_str).filter(|name| self.has(name))
    }

    /// # Errors
    /// When the files lack the tensor or have it in another shape, or in a type that is not read.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.find(name, shape).map(drop)
    }

    /// Copies are the same bits: a NaN is no difference.
    ///
    /// # Errors
    /// When the files hold a tensor by two of the names, with different bits.
    pub fn check_copies(&self, names: &[String], shape: &[usize]) -> Result<()> {
        let of = self.name(names);
        for copy in self.held(names).skip(1) {
            if self.read(copy, shape)? != self.read(of, shape)? {
                let what = format!("`{copy}` is not `{of}`, and config.json says that they are one table");
                return self.wrong(copy, what);
            }
        }
        Ok(())
    }

    /// # Errors
    /// When the files hold a tensor by another name than these.
    pub fn check_names(&self, known: &HashSet<&str>) -> Result<()> {
        match self.places.iter().find(|(name, _)| !known.contains(name.as_str())) {
            Some((name, Place { name: stored, .. })) => self.wrong(
                name,
                format!("tensor `{stored}` is not part of the model that config.json describes"),
            ),
            None => Ok(()),
        }
    }

    /// The numbers of a tensor, row-major. f32 has all those of the smaller types, so that tensors of several
    /// types may stand side by side.
    ///
    /// # Errors
    /// As [`Self::check`], and when one of the numbers is a NaN or infinite.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        let (dtype, bytes) = self.read(name, shape)?;
        let numbers = match dtype {
            Dtype::BF16 => Cow::Owned(converted(bytes, |two| bf16::from_le_bytes(two).to_f32())?),
            Dtype::F16 => Cow::Owned(converted(bytes, |two| f16::from_le_bytes(two).to_f32())?),
            _ => as_f32(bytes)?,
        };
        match not_finite(&numbers) {
            Some(number) if number.is_nan() => {
                self.wrong(name, format!("tensor `{name}` holds NaN, which is no number"))
            }
            Some(_) => self.wrong(name, format!("tensor `{name}` holds an infinite number")),
            None => Ok(numbers),
        }
    }

    /// What is wrong with a tensor, in the file that has it.
    pub fn wrong<T>(&self, name: &str, what: String) -> Result<T> {
        let path = self.places.get(name).map_or(&self.path, |place| &self.files[place.file].path);
        Err(Error::file(path, what))
    }

    fn find(&self, name: &str, shape: &[usize]) -> Result<(&TensorFile, &TensorInfo)> {
        let place = self.places.get(name).map(|place| (&self.files[place.file], &place.name));
        let Some((file, info)) = place.and_then(|(file, name)| Some((file, file.metadata.info(name)?)))
        else {
            let what = format!("tensor `{name}` is missing; config.json calls for it with shape {shape:?}");
            return self.wrong(name, what);
        };
        if info.shape != shape {
            let what =
                format!("tensor `{name}` has shape {:?}, and config.json calls for {shape:?}", info.shape);
            return self.wrong(name, what);
        }
        if ![Dtype::F32, Dtype::BF16, Dtype::F16].contains(&info.dtype) {
            let what =
                format!("tensor `{name}` holds {:?}; convert the checkpoint to F32, BF16 or F16", info.dtype);
            return self.wrong(name, what);
        }
        Ok((file, info))
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<(Dtype, &[u8])> {
        self.files.iter().for_each(TensorFile::let_go);
        let (file, info) = self.find(name, shape)?;
        let (from, to) = info.data_offsets;
        Ok((info.dtype, &file.map[file.start + from..file.start + to]))
    }
}

/// One safetensors file.
struct TensorFile {
    path: PathBuf,
    map: Mmap,
    /// Where the numbers begin in the file, in bytes.
    start: usize,
    metadata: Metadata,
}

impl TensorFile {
    fn map(path: PathBuf) -> Result<TensorFile> {
        let file = files::open(&path)?;
        // SAFETY: the map is read-only and private to this process; the bytes are only ever read as
        // numbers, of which every pattern is valid. A file cut short by another program while we
        // run ends this process with SIGBUS, as for every program that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
        let (start, metadata) = read_header(&map)
            .map_err(|what| Error::file(&path, format!("no valid safetensors file: {what}")))?;
        Ok(TensorFile { path, map, start, metadata })
    }

    /// Gives back the pages of the tensors read before: they stay in the system's cache, and are
    /// no longer this process's. A later read gets them again.
    fn let_go(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: the map is of a file and never written to, so that dropping its pages loses
        // nothing: the next access maps the same bytes of the file again.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

fn as_f32(bytes: &[u8]) -> Result<Cow<'_, [f32]>> {
    // SAFETY: every bit pattern is an f32, and the middle part is aligned by construction.
    let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
    Ok(match cfg!(target_endian = "little") && before.is_empty() && after.is_empty() {
        true => Cow::Borrowed(numbers),
        false => Cow::Owned(converted(bytes, f32::from_le_bytes)?),
    })
}

/// Of numbers of so many bytes each.
fn converted<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Result<Vec<f32>> {
    let number = |bytes: &[u8]| number(bytes.try_into().expect("as many bytes"));
    collect(bytes.len() / N, bytes.chunks_exact(N).map(number))
}

/// One that is a NaN or infinite. Piece by piece without a branch, so that a pass over the weights costs little
/// beside reading them.
fn not_finite(numbers: &[f32]) -> Option<f32> {
    let has_one = |piece: &&[f32]| piece.iter().fold(false, |found, x| found | !x.is_finite());
    numbers.chunks(4096).find(has_one)?.iter().copied().find(|x| !x.is_finite())
}

/// The byte at which the numbers begin, and what the header says of them. The format's own library adds up
/// the lengths that a header states without asking whether the sum can be; so that is done here.
fn read_header(file: &[u8]) -> Result<(usize, Metadata), String> {
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(format!(
            "it has {} bytes, and its first 8 should say how long the header is",
            file.len()
        ));
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_MOST_BYTES || length > rest.len() as u64 {
        let (least, most) = (rest.len(), HEADER_MOST_BYTES);
        return Err(format!(
            "its header should have {length} bytes, and {least} are left in the file (at most {most} may be)"
        ));
    }
    let (header, numbers) = rest.split_at(length as usize);
    let header = std::str::from_utf8(header).map_err(|e| format!("its header is no text: {e}"))?;
    let metadata: Metadata = serde_json::from_str(header).map_err(|e| format!("its header: {e}"))?;
    let end = metadata.tensors().values().map(|info| info.data_offsets.1).max().unwrap_or(0);
    if end != numbers.len() {
        return Err(format!("its header describes {end} bytes of tensors, and it has {}", numbers.len()));
    }
    Ok((8 + header.len(), metadata))
}
