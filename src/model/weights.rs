//! The numbers of tensors: drawn from a seed, or read from files.
//!
//! A seeded tensor is drawn from a stream of its own, named by the seed and the tensor, so that neither
//! order nor other tensors matter and any machine draws the same.

use std::borrow::Cow;
use std::path::Path;

use ndarray_rand::rand_distr::{Distribution, Normal};
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::tensor_files::TensorFiles;
use crate::backend::cpu::collect;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// Numbers for the tensors of a model, f32, and how its matrices and tables are to be kept.
pub struct Weights {
    source: Source,
    dtype: Dtype,
}

enum Source {
    Seed(u64),
    Files(Box<TensorFiles>),
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
        Weights { source: Source::Seed(seed), dtype: Dtype::F32 }
    }

    pub(super) fn stored(files: TensorFiles) -> Weights {
        Weights { source: Source::Files(Box::new(files)), dtype: Dtype::F32 }
    }

    /// The same numbers, to be rounded to another type where they are kept.
    pub fn kept_as(self, dtype: Dtype) -> Weights {
        Weights { dtype, ..self }
    }

    /// Of the matrices and tables of a model that is loaded from it.
    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// What they are read from; nothing for seeded ones.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = match &self.source {
            Source::Seed(_) => None,
            Source::Files(files) => Some(files.paths()),
        };
        files.into_iter().flatten()
    }

    /// The numbers of a tensor, row-major.
    ///
    /// # Errors
    /// As [`Self::check`], and when one of the numbers is a NaN or infinite.
    pub(super) fn get(&self, parameter: &Parameter) -> Result<Cow<'_, [f32]>> {
        match &self.source {
            Source::Seed(seed) => parameter.draw(*seed).map(Cow::Owned),
            Source::Files(files) => files.get(files.name(&parameter.names), &parameter.shape),
        }
    }

    /// # Errors
    /// When a file lacks the tensor or has it in another shape or type.
    pub(super) fn check(&self, parameter: &Parameter) -> Result<()> {
        match &self.source {
            Source::Seed(_) => Ok(()),
            Source::Files(files) => files.check(files.name(&parameter.names), &parameter.shape),
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
            Source::Files(files) if files.has(name) => {
                let stored = files.get(name, shape)?;
                match stored.iter().zip(numbers()?).all(|(x, y)| (x - y).abs() < 1e-3) {
                    true => Ok(()),
                    false => {
                        files.wrong(name, format!("tensor `{name}` is another than config.json describes"))
                    }
                }
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When a file holds a tensor that is not among these, or one of these by two names with different numbers.
    pub(super) fn check_others(&self, contents: &Contents) -> Result<()> {
        match &self.source {
            Source::Seed(_) => Ok(()),
            Source::Files(files) => {
                for parameter in &contents.parameters {
                    files.check_copies(&parameter.names, &parameter.shape)?;
                }
                let asked = contents.parameters.iter().flat_map(|parameter| &parameter.names);
                files.check_names(&asked.chain(&contents.ignored).map(String::as_str).collect())
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

    /// Bytes in memory: those of a matrix or table in some type, and those of a vector in f32.
    pub fn bytes(&self, dtype: Dtype) -> usize {
        let rows: usize = self.shape.iter().rev().skip(1).product();
        self.len() * if rows > 1 { dtype.bytes() } else { Dtype::F32.bytes() }
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
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
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
