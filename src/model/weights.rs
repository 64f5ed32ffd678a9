//! Where a model's weights come from: a seed, or a checkpoint's files.
//!
//! Seeded weights are those that training would start from, drawn tensor by tensor from a stream
//! named by the seed and the tensor, so that neither order nor other tensors matter and any machine
//! draws the same. A checkpoint is mapped, not read: its pages are the file's own.

use std::borrow::Cow;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use ndarray::Array1;
use ndarray_rand::rand_distr::Normal;
use ndarray_rand::RandomExt;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::case::ModelKind;
use crate::error::{Error, Result};
use crate::model::{Config, ConvConfig, TransformerConfig};

pub enum Weights {
    Seeded { seed: u64, model: ModelKind },
    Checkpoint(Box<Checkpoint>),
}

impl Weights {
    pub fn seeded(model: ModelKind, seed: u64) -> Weights {
        Weights::Seeded { seed, model }
    }

    /// The tensor of that name, row-major.
    ///
    /// # Errors
    /// When a checkpoint lacks it or has it in another shape or type.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        match self {
            Weights::Seeded { seed, model } => Ok(Cow::Owned(draw(*model, *seed, name, shape))),
            Weights::Checkpoint(checkpoint) => checkpoint.get(name, shape),
        }
    }

    /// Writes `config.json` and `model.safetensors`, one tensor in memory at a time.
    pub fn write(&self, config: &Config, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let tensors = config.tensors();
        let views =
            tensors.iter().map(|(name, shape)| (name.as_str(), Stored { weights: self, name, shape }));
        let path = directory.join("model.safetensors");
        safetensors::serialize_to_file(views, None, &path).map_err(|e| Error::file(&path, e))?;
        let path = directory.join("config.json");
        let json = serde_json::to_string_pretty(&config.to_json()).expect("a JSON value prints") + "\n";
        fs::write(&path, json).map_err(Error::io(&path))
    }
}

/// Draws one tensor. The spreads are those of the original initialisations: GPT-2's 0.02, and for
/// the convolutional model fairseq's, which keep the variance of a layer's output that of its input.
/// Gains and biases, constant there, are spread a little here: a kernel that forgot one must show.
fn draw(model: ModelKind, seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    let is_gain = shape.len() == 1 && name.ends_with("weight");
    let (mean, spread) = match (model, shape) {
        _ if is_gain => (1.0, 0.1),
        (_, [_]) => (0.0, 0.02),
        (ModelKind::Transformer, _) => (0.0, 0.02),
        (ModelKind::LinearizedConv, [taps, channels, _]) => (0.0, 2.0 / ((taps * channels) as f32).sqrt()),
        (ModelKind::LinearizedConv, [_, inner]) if name != "embed_tokens.weight" => {
            (0.0, 1.0 / (*inner as f32).sqrt())
        }
        (ModelKind::LinearizedConv, _) => (0.0, 1.0),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ fnv1a(name));
    let normal = Normal::new(mean, spread).expect("a finite spread");
    Array1::random_using(shape.iter().product::<usize>(), normal, &mut rng).into_raw_vec_and_offset().0
}

/// FNV-1a: a stable hash, which the standard library's is not.
fn fnv1a(name: &str) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// One tensor on its way into a file, made when the writer gets to it.
struct Stored<'a> {
    weights: &'a Weights,
    name: &'a str,
    shape: &'a [usize],
}

impl safetensors::View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let numbers =
            self.weights.get(self.name, self.shape).expect("read before, when the model was loaded");
        Cow::Owned(numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

/// A directory with `config.json` and `model.safetensors`.
pub struct Checkpoint {
    path: PathBuf,
    map: Mmap,
    /// Where the numbers begin in the file.
    start: usize,
    metadata: Metadata,
}

impl Checkpoint {
    /// Reads the configuration and the header, and holds them against each other.
    pub fn open(model: ModelKind, directory: &Path) -> Result<(Config, Checkpoint)> {
        let config = read_config(model, &directory.join("config.json"))?;
        let path = directory.join("model.safetensors");
        if !path.exists() && directory.join("model.safetensors.index.json").exists() {
            return Err(Error::file(path, "the checkpoint is split over several files; merge them into one"));
        }
        let file = File::open(&path).map_err(Error::io(&path))?;
        // SAFETY: the map is read-only and private to this process; the bytes are only ever read as
        // numbers, of which every pattern is valid. A file cut short by another program while we
        // run ends this process with SIGBUS, as for every program that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
        let broken =
            |e: safetensors::SafeTensorError| Error::file(&path, format!("no valid safetensors file: {e}"));
        SafeTensors::deserialize(&map).map_err(broken)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(broken)?;
        let checkpoint = Checkpoint { path, map, start: header + 8, metadata };
        checkpoint.agrees_with(&config)?;
        Ok((config, checkpoint))
    }

    /// Every tensor the configuration calls for is there, and none that it does not account for.
    fn agrees_with(&self, config: &Config) -> Result<()> {
        let expected = config.tensors();
        for (name, shape) in &expected {
            self.info(name, shape)?;
        }
        for stored in self.metadata.tensors().keys() {
            let name = stored.strip_prefix("transformer.").unwrap_or(stored);
            let ignored = name == "lm_head.weight"
                || name.ends_with(".attn.bias")
                || name.ends_with(".attn.masked_bias");
            if !ignored && !expected.iter().any(|(known, _)| known == name) {
                let what = format!("tensor `{stored}` is not part of the model that config.json describes");
                return Err(Error::file(&self.path, what));
            }
        }
        Ok(())
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let wrong = |what: String| Err(Error::file(&self.path, what));
        let prefixed = format!("transformer.{name}");
        let Some(info) = self.metadata.info(name).or_else(|| self.metadata.info(&prefixed)) else {
            return wrong(format!(
                "tensor `{name}` is missing; config.json calls for it with shape {shape:?}"
            ));
        };
        if info.shape != shape {
            return wrong(format!(
                "tensor `{name}` has shape {:?}, and config.json calls for {shape:?}",
                info.shape
            ));
        }
        if info.dtype != Dtype::F32 {
            return wrong(format!("tensor `{name}` holds {:?}; convert the checkpoint to F32", info.dtype));
        }
        Ok(info)
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        let (from, to) = self.info(name, shape)?.data_offsets;
        let bytes = &self.map[self.start + from..self.start + to];
        // SAFETY: every bit pattern is an f32, and the middle part is aligned by construction.
        let (before, numbers, after) = unsafe { bytes.align_to::<f32>() };
        if cfg!(target_endian = "little") && before.is_empty() && after.is_empty() {
            return Ok(Cow::Borrowed(numbers));
        }
        let number = |four: &[u8]| f32::from_le_bytes(four.try_into().expect("four bytes"));
        Ok(Cow::Owned(bytes.chunks_exact(4).map(number).collect()))
    }
}

/// GPT-2's `config.json`; what is absent has the original's value.
#[derive(Deserialize)]
struct Gpt2Json {
    model_type: Option<String>,
    n_layer: usize,
    n_embd: usize,
    n_head: usize,
    n_inner: Option<usize>,
    n_positions: usize,
    vocab_size: usize,
    activation_function: Option<String>,
    layer_norm_epsilon: Option<f64>,
    tie_word_embeddings: Option<bool>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
}

#[derive(Deserialize)]
struct ConvJson {
    model_type: Option<String>,
    vocab_size: usize,
    embed_dim: usize,
    channels: usize,
    kernel: usize,
    layers: usize,
}

fn read_config(model: ModelKind, path: &Path) -> Result<Config> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let config = match model {
        ModelKind::Transformer => {
            serde_json::from_str::<Gpt2Json>(&text).map_err(|e| e.to_string()).and_then(gpt2)
        }
        ModelKind::LinearizedConv => {
            serde_json::from_str::<ConvJson>(&text).map_err(|e| e.to_string()).and_then(conv)
        }
    };
    config.map_err(|what| Error::file(path, what))
}

fn gpt2(json: Gpt2Json) -> Result<Config, String> {
    expect("model_type", json.model_type, "gpt2".to_string())?;
    expect("activation_function", json.activation_function, "gelu_new".to_string())?;
    expect("layer_norm_epsilon", json.layer_norm_epsilon, 1e-5)?;
    expect("tie_word_embeddings", json.tie_word_embeddings, true)?;
    expect("scale_attn_weights", json.scale_attn_weights, true)?;
    expect("scale_attn_by_inverse_layer_idx", json.scale_attn_by_inverse_layer_idx, false)?;
    let Gpt2Json {
        n_layer: layers,
        n_embd: width,
        n_head: heads,
        n_positions: positions,
        vocab_size: vocab,
        ..
    } = json;
    let hidden = json.n_inner.unwrap_or(width.saturating_mul(4));
    sizes(&[
        ("n_layer", layers),
        ("n_embd", width),
        ("n_head", heads),
        ("n_inner", hidden),
        ("n_positions", positions),
        ("vocab_size", vocab),
    ])?;
    if width % heads != 0 {
        return Err(format!("n_embd = {width} cannot be divided among n_head = {heads}"));
    }
    Ok(Config::Transformer(TransformerConfig { layers, width, heads, hidden, vocab, positions }))
}

fn conv(json: ConvJson) -> Result<Config, String> {
    expect("model_type", json.model_type, "fconv_lm".to_string())?;
    let ConvJson { vocab_size: vocab, embed_dim: embed, channels, kernel: taps, layers, .. } = json;
    sizes(&[
        ("vocab_size", vocab),
        ("embed_dim", embed),
        ("channels", channels),
        ("kernel", taps),
        ("layers", layers),
    ])?;
    Ok(Config::LinearizedConv(ConvConfig { layers, channels, taps, embed, vocab }))
}

/// A field that only one value is implemented of.
fn expect<T: PartialEq + std::fmt::Debug>(
    field: &str,
    found: Option<T>,
    implemented: T,
) -> Result<(), String> {
    match found {
        Some(found) if found != implemented => {
            Err(format!("{field} = {found:?} is not implemented, only {implemented:?} is"))
        }
        _ => Ok(()),
    }
}

/// Sizes are positive, and small enough that no product of three of them overflows.
fn sizes(fields: &[(&str, usize)]) -> Result<(), String> {
    match fields.iter().find(|(_, size)| *size == 0 || *size > 1 << 20) {
        Some((field, size)) => Err(format!("{field} = {size}; it must be between 1 and {}", 1 << 20)),
        None => Ok(()),
    }
}
