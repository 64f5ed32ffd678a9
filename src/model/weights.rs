//! The numbers of tensors: drawn from a seed, or read from a safetensors file.
//!
//! A seeded tensor is drawn from a stream of its own, named by the seed and the tensor, so that neither
//! order nor other tensors matter and any machine draws the same. A file is mapped, not read: its pages are
//! the file's own, and are let go of tensor by tensor, so that loading never needs the weights twice.
//!
//! A file may be anything that somebody sent. Nothing in it is believed before it was held against the size
//! of the file, and nothing is allocated in proportion to a number it merely states.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use ndarray_rand::rand_distr::{Distribution, Normal};
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;

use crate::backend::cpu::collect;
use crate::dtype;
use crate::error::{Error, Result};

/// The longest header of a safetensors file, as the format's own library says.
const HEADER_MOST_BYTES: u64 = 100_000_000;

/// Numbers for the tensors of a model, f32, and how its matrices and tables are to be kept.
pub struct Weights {
    source: Source,
    dtype: dtype::Dtype,
}

enum Source {
    Seed(u64),
    File(Box<TensorFile>),
}

/// A tensor that a model asks for.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    /// Its name; and, where it has several uses, the others that a file may hold it by.
    pub names: Vec<String>,
    /// As in the files.
    pub shape: Vec<usize>,
    /// Of a seeded one.
    pub spread: Spread,
}

/// The normal distribution that the numbers of a seeded tensor are drawn from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spread {
    mean: f32,
    deviation: f32,
}

/// The tensors that the file of a model must hold, and may hold.
#[derive(Default)]
pub(super) struct Contents {
    pub parameters: Vec<Parameter>,
    /// Numbers that are not in the file, but computed.
    pub computed: usize,
    /// Tensors that a file may hold as well, and that are no weights.
    pub ignored: Vec<String>,
}

impl Weights {
    /// Random numbers; nothing is drawn before it is asked for.
    pub fn seeded(seed: u64) -> Weights {
        Weights { source: Source::Seed(seed), dtype: dtype::Dtype::F32 }
    }

    /// Maps a safetensors file, in which each name may begin with `prefix`, and reads its header.
    ///
    /// # Errors
    /// When the header is wrong, or a tensor is there with the prefix and without.
    pub(super) fn map(file: &File, path: PathBuf, prefix: &str) -> Result<Weights> {
        let source = Source::File(Box::new(TensorFile::map(file, path, prefix)?));
        Ok(Weights { source, dtype: dtype::Dtype::F32 })
    }

    /// The same numbers, to be rounded to another precision where they are kept.
    pub fn kept_as(self, dtype: dtype::Dtype) -> Weights {
        Weights { dtype, ..self }
    }

    /// Of the matrices and tables of a model that is loaded from it.
    pub(super) fn dtype(&self) -> dtype::Dtype {
        self.dtype
    }

    /// The numbers of a tensor, row-major.
    ///
    /// # Errors
    /// As [`Self::check`], and when one of the numbers is a NaN.
    pub(super) fn get(&self, parameter: &Parameter) -> Result<Cow<'_, [f32]>> {
        match &self.source {
            Source::Seed(seed) => parameter.draw(*seed).map(Cow::Owned),
            Source::File(file) => file.get(file.name(parameter), &parameter.shape),
        }
    }

    /// # Errors
    /// When a file lacks the tensor or has it in another shape or type.
    pub(super) fn check(&self, parameter: &Parameter) -> Result<()> {
        match &self.source {
            Source::Seed(_) => Ok(()),
            Source::File(file) => file.info(file.name(parameter), &parameter.shape).map(drop),
        }
    }

    /// # Errors
    /// When a file holds other numbers than these by the name, apart from rounding, in half precision too.
    pub(super) fn check_computed(
        &self,
        name: &str,
        shape: &[usize],
        numbers: impl FnOnce() -> Result<Vec<f32>>,
    ) -> Result<()> {
        match &self.source {
            Source::File(file) if file.names.contains_key(name) => {
                let stored = file.get(name, shape)?;
                match stored.iter().zip(numbers()?).all(|(x, y)| (x - y).abs() < 1e-3) {
                    true => Ok(()),
                    false => file.wrong(format!("tensor `{name}` is another than config.json describes")),
                }
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When a file holds a tensor that is not among these, or one of these twice with different numbers.
    pub(super) fn check_others(&self, contents: &Contents) -> Result<()> {
        match &self.source {
            Source::Seed(_) => Ok(()),
            Source::File(file) => {
                file.check_copies(contents)?;
                file.check_names(contents)
            }
        }
    }

    /// Writes a safetensors file, one tensor in memory at a time. The file is replaced as a whole or left as it
    /// was.
    pub(super) fn write(&self, parameters: &[Parameter], path: &Path) -> Result<()> {
        let views = parameters.iter().map(|p| (p.name(), Stored { weights: self, parameter: p }));
        safetensors::serialize_to_file(views, None, path).map_err(|e| Error::file(path, e))
    }
}

impl Spread {
    /// Of gains, which training would start from as ones: a kernel that forgot one must show.
    pub(crate) const GAIN: Spread = Spread { mean: 1.0, deviation: 0.1 };
    /// Of biases, which training would start from as zeros.
    pub(crate) const BIAS: Spread = Spread::around_zero(0.02);

    pub(crate) const fn around_zero(deviation: f32) -> Spread {
        Spread { mean: 0.0, deviation }
    }
}

impl Parameter {
    /// The first of its names, which it is drawn and written by.
    pub fn name(&self) -> &str {
        &self.names[0]
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in memory: those of a matrix or table in some precision, and those of a vector in f32.
    pub fn bytes(&self, dtype: dtype::Dtype) -> usize {
        let rows: usize = self.shape.iter().rev().skip(1).product();
        self.len() * if rows > 1 { dtype.bytes() } else { dtype::Dtype::F32.bytes() }
    }

    fn draw(&self, seed: u64) -> Result<Vec<f32>> {
        let Spread { mean, deviation } = self.spread;
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ fnv1a(self.name()));
        let normal = Normal::new(mean, deviation).expect("a finite spread");
        collect(self.len(), normal.sample_iter(&mut rng))
    }
}

/// FNV-1a: a stable hash, which the standard library's is not.
fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One tensor on its way into a file, made when the writer gets to it.
struct Stored<'a> {
    weights: &'a Weights,
    parameter: &'a Parameter,
}

impl safetensors::View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.parameter.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let numbers = self.weights.get(self.parameter).expect("read before, when the model was loaded");
        let mut bytes = Vec::with_capacity(4 * numbers.len());
        numbers.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        Cow::Owned(bytes)
    }
    fn data_len(&self) -> usize {
        4 * self.parameter.len()
    }
}

/// A safetensors file.
struct TensorFile {
    path: PathBuf,
    map: Mmap,
    /// Where the numbers begin in the file, in bytes.
    start: usize,
    metadata: Metadata,
    /// For each name without the prefix, the name in the file.
    names: BTreeMap<String, String>,
}

impl TensorFile {
    fn map(file: &File, path: PathBuf, prefix: &str) -> Result<TensorFile> {
        // SAFETY: the map is read-only and private to this process; the bytes are only ever read as
        // numbers, of which every pattern is valid. A file cut short by another program while we
        // run ends this process with SIGBUS, as for every program that maps files.
        let map = unsafe { Mmap::map(file) }.map_err(Error::io(&path))?;
        let (start, metadata) = read_header(&map)
            .map_err(|what| Error::file(&path, format!("no valid safetensors file: {what}")))?;
        let names = plain_names(&metadata, prefix).map_err(|what| Error::file(&path, what))?;
        Ok(TensorFile { path, map, start, metadata, names })
    }

    fn wrong<T>(&self, what: String) -> Result<T> {
        Err(Error::file(&self.path, what))
    }

    /// The name that the file holds a tensor by, or its first if it does not.
    fn name<'a>(&'a self, parameter: &'a Parameter) -> &'a str {
        self.held(parameter).next().unwrap_or(parameter.name())
    }

    /// The names that the file holds a tensor by.
    fn held<'a>(&'a self, parameter: &'a Parameter) -> impl Iterator<Item = &'a str> + 'a {
        parameter.names.iter().map(String::as_str).filter(|name| self.names.contains_key(*name))
    }

    /// Copies are the same bits: a NaN is no difference.
    fn check_copies(&self, contents: &Contents) -> Result<()> {
        for parameter in &contents.parameters {
            let (of, shape) = (self.name(parameter), &parameter.shape);
            for copy in self.held(parameter).skip(1) {
                if self.bytes(copy, shape)? != self.bytes(of, shape)? {
                    return self.wrong(format!(
                        "`{copy}` is not `{of}`: an output layer of its own is not implemented"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_names(&self, contents: &Contents) -> Result<()> {
        let asked = contents.parameters.iter().flat_map(|parameter| &parameter.names);
        let known: HashSet<&String> = asked.chain(&contents.ignored).collect();
        match self.names.iter().find(|(name, _)| !known.contains(name)) {
            Some((_, stored)) => {
                self.wrong(format!("tensor `{stored}` is not part of the model that config.json describes"))
            }
            None => Ok(()),
        }
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let Some(info) = self.names.get(name).and_then(|stored| self.metadata.info(stored)) else {
            return self
                .wrong(format!("tensor `{name}` is missing; config.json calls for it with shape {shape:?}"));
        };
        if info.shape != shape {
            return self.wrong(format!(
                "tensor `{name}` has shape {:?}, and config.json calls for {shape:?}",
                info.shape
            ));
        }
        if info.dtype != Dtype::F32 {
            return self
                .wrong(format!("tensor `{name}` holds {:?}; convert the checkpoint to F32", info.dtype));
        }
        Ok(info)
    }

    fn bytes(&self, name: &str, shape: &[usize]) -> Result<&[u8]> {
        self.let_go();
        let (from, to) = self.info(name, shape)?.data_offsets;
        Ok(&self.map[self.start + from..self.start + to])
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        let bytes = self.bytes(name, shape)?;
        // SAFETY: every bit pattern is an f32, and the middle part is aligned by construction.
        let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
        let number = |four: &[u8]| f32::from_le_bytes(four.try_into().expect("four bytes"));
        let numbers = match cfg!(target_endian = "little") && before.is_empty() && after.is_empty() {
            true => Cow::Borrowed(numbers),
            false => Cow::Owned(collect(bytes.len() / 4, bytes.chunks_exact(4).map(number))?),
        };
        match has_nan(&numbers) {
            true => self.wrong(format!("tensor `{name}` holds NaN, which is no number")),
            false => Ok(numbers),
        }
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

/// Piece by piece without a branch, so that a pass over the weights costs little beside reading them.
fn has_nan(numbers: &[f32]) -> bool {
    numbers.chunks(4096).any(|piece| piece.iter().fold(false, |found, x| found | x.is_nan()))
}

/// The name in the file for each name without the prefix.
fn plain_names(metadata: &Metadata, prefix: &str) -> Result<BTreeMap<String, String>, String> {
    let mut names = BTreeMap::new();
    for stored in metadata.offset_keys() {
        let plain = stored.strip_prefix(prefix).unwrap_or(&stored).to_string();
        if let Some(other) = names.insert(plain, stored.clone()) {
            return Err(format!("tensor `{stored}` is there twice, the other time as `{other}`"));
        }
    }
    Ok(names)
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
