//! Where a model's weights come from: a seed, or a checkpoint's files.
//!
//! Seeded weights are those that training would start from, drawn tensor by tensor from a stream
//! named by the seed and the tensor, so that neither order nor other tensors matter and any machine
//! draws the same. A checkpoint is mapped, not read: its pages are the file's own, and are let go of
//! tensor by tensor, so that loading never needs the weights twice.
//!
//! A checkpoint may be anything that somebody sent. Nothing in it is believed before it was held
//! against the size of the file, and nothing is allocated in proportion to a number it merely states.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use ndarray::Array1;
use ndarray_rand::rand_distr::Normal;
use ndarray_rand::RandomExt;
use rand_chacha::rand_core::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::Dtype;
use serde_json::{json, Map, Value};

use crate::backend::Activation;
use crate::case::ModelKind;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::layer::position::Sinusoid;
use crate::model::{
    Config, ConvConfig, ConvSeq2SeqConfig, EncoderDecoderConfig, LlamaConfig, RetentionConfig,
    TransformerConfig,
};

/// The files of a checkpoint.
pub const CONFIG_FILE: &str = "config.json";
/// All tensors, f32.
pub const MODEL_FILE: &str = "model.safetensors";

/// What a `config.json` may have; GPT-2's has less than one.
const CONFIG_MOST_BYTES: u64 = 1 << 20;
/// What the header of a safetensors file may have, as the format's own library says.
const HEADER_MOST_BYTES: u64 = 100_000_000;
/// The largest size a configuration may state: no product of three of them overflows.
const MOST: u64 = 1 << 20;

/// Where tensors are taken from.
pub enum Weights {
    /// Drawn from a seed when they are asked for.
    #[allow(missing_docs, reason = "the fields are explained above")]
    Seeded { seed: u64, model: ModelKind },
    /// Mapped from a checkpoint's files.
    Checkpoint(Box<Checkpoint>),
}

impl Weights {
    /// Nothing is drawn before it is asked for.
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

    /// Writes `config.json` and `model.safetensors`, one tensor in memory at a time. Each file is
    /// replaced as a whole or left as it was.
    pub fn write(&self, config: &Config, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).map_err(Error::io(directory))?;
        let tensors = config.tensors();
        let views =
            tensors.iter().map(|(name, shape)| (name.as_str(), Stored { weights: self, name, shape }));
        let model = directory.join(MODEL_FILE);
        safetensors::serialize_to_file(views, None, &model).map_err(|e| Error::file(&model, e))?;
        let path = directory.join(CONFIG_FILE);
        let json = serde_json::to_string_pretty(&config.to_json()).expect("a JSON value prints") + "\n";
        write_atomically(&path, json.as_bytes())?;
        // The tensors were written to a private temporary file; others may read them like the rest.
        let access = fs::metadata(&path).map_err(Error::io(&path))?.permissions();
        fs::set_permissions(&model, access).map_err(Error::io(&model))
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
        (ModelKind::LinearizedConv | ModelKind::ConvSeq2Seq, [taps, channels, _]) => {
            (0.0, 2.0 / ((taps * channels) as f32).sqrt())
        }
        (ModelKind::LinearizedConv | ModelKind::ConvSeq2Seq, [_, inner]) if !name.contains("embed_") => {
            (0.0, 1.0 / (*inner as f32).sqrt())
        }
        (ModelKind::ConvSeq2Seq, _) => (0.0, 0.1),
        (ModelKind::LinearizedConv, _) => (0.0, 1.0),
        _ => (0.0, 0.02),
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
        let mut bytes = Vec::with_capacity(4 * numbers.len());
        numbers.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        Cow::Owned(bytes)
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
        let config = read_config(model, &directory.join(CONFIG_FILE))?;
        let path = directory.join(MODEL_FILE);
        if !path.exists() && directory.join("model.safetensors.index.json").exists() {
            return Err(Error::file(path, "the checkpoint is split over several files; merge them into one"));
        }
        let file = open_file(&path)?;
        // SAFETY: the map is read-only and private to this process; the bytes are only ever read as
        // numbers, of which every pattern is valid. A file cut short by another program while we
        // run ends this process with SIGBUS, as for every program that maps files.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(&path))?;
        let (start, metadata) = read_header(&map)
            .map_err(|what| Error::file(&path, format!("no valid safetensors file: {what}")))?;
        let checkpoint = Checkpoint { path, map, start, metadata };
        checkpoint.agrees_with(&config)?;
        Ok((config, checkpoint))
    }

    /// Every tensor the configuration calls for is there, and none that it does not account for.
    fn agrees_with(&self, config: &Config) -> Result<()> {
        let wrong = |what: String| Err(Error::file(&self.path, what));
        let stored = self.metadata.tensors();
        // One layer more than there are tensors is already one that is missing: a configuration of
        // a million layers is answered as soon as one of two.
        let expected = config.with_layers_at_most(stored.len() + 1).tensors();
        for (name, shape) in &expected {
            self.info(name, shape)?;
        }
        self.ties_hold(config)?;
        let expected: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let mut names: Vec<&String> = stored.keys().collect();
        names.sort_unstable();
        for stored in names {
            let name = plain(stored);
            if name != stored && self.metadata.info(name).is_some() {
                return wrong(format!("tensor `{name}` is there twice, the other time as `{stored}`"));
            }
            let again = config.tied().iter().any(|(again, _)| *again == name);
            if !expected.contains(name) && !again && !is_ignored(config, name) {
                return wrong(format!(
                    "tensor `{stored}` is not part of the model that {CONFIG_FILE} describes"
                ));
            }
        }
        Ok(())
    }

    /// A tensor that is there a second time is left out because it is the same; so it must be.
    fn ties_hold(&self, config: &Config) -> Result<()> {
        for (again, name) in config.tied() {
            let tensors = config.tensors();
            let (_, shape) = tensors.iter().find(|(n, _)| n == name).expect("a tensor of the model");
            if self.metadata.info(again).is_some() && self.get(again, shape)? != self.get(name, shape)? {
                let what =
                    format!("`{again}` is not `{name}`: an output layer of its own is not implemented");
                return Err(Error::file(&self.path, what));
            }
        }
        Ok(())
    }

    fn info(&self, name: &str, shape: &[usize]) -> Result<&TensorInfo> {
        let wrong = |what: String| Err(Error::file(&self.path, what));
        let prefixed = format!("{PREFIX}{name}");
        let Some(info) = self.metadata.info(name).or_else(|| self.metadata.info(&prefixed)) else {
            return wrong(format!(
                "tensor `{name}` is missing; {CONFIG_FILE} calls for it with shape {shape:?}"
            ));
        };
        if info.shape != shape {
            return wrong(format!(
                "tensor `{name}` has shape {:?}, and {CONFIG_FILE} calls for {shape:?}",
                info.shape
            ));
        }
        if info.dtype != Dtype::F32 {
            return wrong(format!("tensor `{name}` holds {:?}; convert the checkpoint to F32", info.dtype));
        }
        Ok(info)
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Cow<'_, [f32]>> {
        self.let_go();
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

    /// Gives back the pages of the tensors read before: they stay in the system's cache, and are
    /// no longer this process's. Whoever still reads them gets them again.
    fn let_go(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: the map is of a file and never written to, so that dropping its pages loses
        // nothing: the next access maps the same bytes of the file again.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
}

/// With which `transformers` saves the weights of a language model.
const PREFIX: &str = "transformer.";

fn plain(stored: &str) -> &str {
    stored.strip_prefix(PREFIX).unwrap_or(stored)
}

/// A mask, not a weight; or sinusoids, which are known.
fn is_ignored(config: &Config, name: &str) -> bool {
    match config {
        Config::Transformer(_) => name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
        Config::EncoderDecoder(_) => name.ends_with("coder.embed_positions.weight"),
        _ => false,
    }
}

/// A file that can be read to its end: no directory, device or pipe.
fn open_file(path: &Path) -> Result<File> {
    let metadata = fs::metadata(path).map_err(Error::io(path))?;
    match metadata.is_file() {
        true => File::open(path).map_err(Error::io(path)),
        false if metadata.is_dir() => Err(Error::file(path, "a directory, where a file is wanted")),
        false => Err(Error::file(path, "no regular file")),
    }
}

/// Where the numbers begin, and what the header says of them. The format's own library adds up the
/// lengths that a header states without asking whether the sum can be; so that is done here.
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

/// Reads a checkpoint's `config.json` by itself.
///
/// # Errors
/// When it is no configuration of this model, or asks for what is not implemented.
pub fn read_config(model: ModelKind, path: &Path) -> Result<Config> {
    let mut text = String::new();
    let file = open_file(path)?;
    let read = file.take(CONFIG_MOST_BYTES + 1).read_to_string(&mut text).map_err(Error::io(path))?;
    if read as u64 > CONFIG_MOST_BYTES {
        return Err(Error::file(path, format!("longer than {CONFIG_MOST_BYTES} bytes: no configuration")));
    }
    let json: Map<String, Value> = serde_json::from_str(&text).map_err(|e| Error::file(path, e))?;
    let config = match model {
        ModelKind::Transformer => gpt2(&Fields(json)),
        ModelKind::LinearizedConv => conv(&Fields(json)),
        ModelKind::Llama => llama(&Fields(json)),
        ModelKind::Retention => retention(&Fields(json)),
        ModelKind::EncoderDecoder => encoder_decoder(&Fields(json)),
        ModelKind::ConvSeq2Seq => conv_seq2seq(&Fields(json)),
    };
    config.map_err(|what| Error::file(path, what))
}

/// GPT-2's `config.json`; what is absent has the original's value.
fn gpt2(json: &Fields) -> Result<Config, String> {
    json.only("model_type", json!("gpt2"))?;
    json.only("activation_function", json!("gelu_new"))?;
    json.only("layer_norm_epsilon", json!(1e-5))?;
    json.only("tie_word_embeddings", json!(true))?;
    json.only("scale_attn_weights", json!(true))?;
    json.only("scale_attn_by_inverse_layer_idx", json!(false))?;
    json.only("add_cross_attention", json!(false))?;
    let (width, heads) = (json.size("n_embd")?, json.size("n_head")?);
    if width % heads != 0 {
        return Err(format!("n_embd = {width} cannot be divided among n_head = {heads}"));
    }
    Ok(Config::Transformer(TransformerConfig {
        layers: json.size("n_layer")?,
        width,
        heads,
        hidden: if json.has("n_inner") { json.size("n_inner")? } else { 4 * width },
        vocab: json.size("vocab_size")?,
        positions: json.size("n_positions")?,
    }))
}

fn conv(json: &Fields) -> Result<Config, String> {
    json.only("model_type", json!("fconv_lm"))?;
    Ok(Config::LinearizedConv(ConvConfig {
        layers: json.size("layers")?,
        channels: json.size("channels")?,
        taps: json.size("kernel")?,
        embed: json.size("embed_dim")?,
        vocab: json.size("vocab_size")?,
    }))
}

/// Llama's `config.json`, or Mistral's; what is absent has the original's value.
fn llama(json: &Fields) -> Result<Config, String> {
    json.one_of("model_type", &["llama", "mistral"])?;
    json.only("hidden_act", json!("silu"))?;
    json.only("rope_scaling", Value::Null)?;
    let (width, heads) = (json.size("hidden_size")?, json.size("num_attention_heads")?);
    let kv_heads = json.size_or("num_key_value_heads", heads)?;
    if heads % kv_heads != 0 {
        return Err(format!("num_attention_heads = {heads} cannot share num_key_value_heads = {kv_heads}"));
    }
    if !json.has("head_dim") && width % heads != 0 {
        return Err(format!("hidden_size = {width} cannot be divided among num_attention_heads = {heads}"));
    }
    let size = json.size_or("head_dim", width / heads)?;
    if size % 2 != 0 {
        return Err(format!("head_dim = {size}: rotary positions turn pairs of numbers"));
    }
    let rope = json.object("rope_parameters")?;
    rope.only("rope_type", json!("default"))?;
    let theta = rope.positive_or("rope_theta", json.positive_or("rope_theta", 10_000.0)?)?;
    Ok(Config::Llama(LlamaConfig {
        layers: json.size("num_hidden_layers")?,
        width,
        heads,
        kv_heads,
        size,
        hidden: json.size("intermediate_size")?,
        vocab: json.size("vocab_size")?,
        positions: json.size("max_position_embeddings")?,
        eps: json.positive_or("rms_norm_eps", 1e-6)?,
        theta,
        tied: json.flag("tie_word_embeddings")?,
        attention_bias: json.flag("attention_bias")?,
        mlp_bias: json.flag("mlp_bias")?,
        window: if json.has("sliding_window") { Some(json.size("sliding_window")?) } else { None },
    }))
}

fn retention(json: &Fields) -> Result<Config, String> {
    json.one_of("model_type", &["retention"])?;
    let (width, heads) = (json.size("width")?, json.size("heads")?);
    if width % heads != 0 {
        return Err(format!("width = {width} cannot be divided among heads = {heads}"));
    }
    let (layers, hidden, vocab) = (json.size("layers")?, json.size("hidden")?, json.size("vocab_size")?);
    Ok(Config::Retention(RetentionConfig { layers, width, heads, hidden, vocab }))
}

/// Marian's `config.json`, or with the norms before each part.
fn encoder_decoder(json: &Fields) -> Result<Config, String> {
    json.one_of("model_type", &["marian", "encoder-decoder"])?;
    json.only("share_encoder_decoder_embeddings", json!(true))?;
    json.only("tie_word_embeddings", json!(true))?;
    let (width, vocab) = (json.size("d_model")?, json.size("vocab_size")?);
    if json.size_or("decoder_vocab_size", vocab)? != vocab || width % 2 != 0 {
        return Err("one vocabulary for both sides and an even d_model is what is implemented".into());
    }
    let heads = |side: &str| {
        let field = format!("{side}_attention_heads");
        let heads = json.size(&field)?;
        match width % heads {
            0 => Ok(heads),
            _ => Err(format!("d_model = {width} cannot be divided among {field} = {heads}")),
        }
    };
    let start = json.index_or("decoder_start_token_id", 0)?;
    if start >= vocab {
        return Err(format!("decoder_start_token_id = {start} is outside the vocabulary of {vocab}"));
    }
    let is_marian = json.0["model_type"] == "marian";
    Ok(Config::EncoderDecoder(EncoderDecoderConfig {
        encoder_layers: json.size("encoder_layers")?,
        decoder_layers: json.size("decoder_layers")?,
        width,
        encoder_heads: heads("encoder")?,
        decoder_heads: heads("decoder")?,
        encoder_hidden: json.size("encoder_ffn_dim")?,
        decoder_hidden: json.size("decoder_ffn_dim")?,
        vocab,
        positions: json.size("max_position_embeddings")?,
        activation: match json.one_of("activation_function", &["relu", "swish", "silu", "gelu_new"])? {
            "relu" => Activation::Relu,
            "gelu_new" => Activation::Gelu,
            _ => Activation::Silu,
        },
        norm_first: json.flag("normalize_before")?,
        sinusoid: match json.has("position_embedding") {
            false => Sinusoid::Paper,
            true => match json.one_of("position_embedding", &["paper", "tensor2tensor"])? {
                "paper" => Sinusoid::Paper,
                _ => Sinusoid::Tensor2Tensor,
            },
        },
        scaled: json.flag("scale_embedding")?,
        logits_bias: is_marian || json.flag("final_logits_bias")?,
        start: start as u32,
    }))
}

fn conv_seq2seq(json: &Fields) -> Result<Config, String> {
    json.one_of("model_type", &["fconv_seq2seq"])?;
    let ((channels, encoder_taps), (other, decoder_taps)) =
        (json.convolutions("encoder_convolutions")?, json.convolutions("decoder_convolutions")?);
    let (table, padding) = (json.size("max_positions")?, json.index_or("padding_idx", 1)?);
    if channels != other {
        return Err(format!(
            "{channels} and {other} channels: only one number for both sides is implemented"
        ));
    }
    if padding + 1 >= table {
        return Err(format!("max_positions = {table} leaves none behind padding_idx = {padding}"));
    }
    Ok(Config::ConvSeq2Seq(ConvSeq2SeqConfig {
        channels,
        encoder_taps,
        decoder_taps,
        embed: json.size("embed_dim")?,
        out_embed: json.size("out_embed_dim")?,
        vocab: json.size("vocab_size")?,
        table,
        padding,
    }))
}

/// What `config.json` says.
struct Fields(Map<String, Value>);

impl Fields {
    /// `null` says nothing.
    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    fn size(&self, field: &str) -> Result<usize, String> {
        let value = self.get(field).ok_or_else(|| format!("`{field}` is missing"))?;
        let size = value.as_u64().filter(|size| (1..=MOST).contains(size));
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| format!("{field} = {value}; it must be a whole number from 1 to {MOST}"))
    }

    fn size_or(&self, field: &str, absent: usize) -> Result<usize, String> {
        if self.has(field) {
            self.size(field)
        } else {
            Ok(absent)
        }
    }

    fn positive_or(&self, field: &str, absent: f64) -> Result<f64, String> {
        let Some(value) = self.get(field) else { return Ok(absent) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| format!("{field} = {value}; it must be a number above zero"))
    }

    /// What is absent is false.
    fn flag(&self, field: &str) -> Result<bool, String> {
        let Some(value) = self.get(field) else { return Ok(false) };
        value.as_bool().ok_or_else(|| format!("{field} = {value}; it must be true or false"))
    }

    /// What is absent is empty.
    fn object(&self, field: &str) -> Result<Fields, String> {
        match self.get(field) {
            None => Ok(Fields(Map::new())),
            Some(Value::Object(fields)) => Ok(Fields(fields.clone())),
            Some(other) => Err(format!("{field} = {other}; it must be an object")),
        }
    }

    fn index_or(&self, field: &str, absent: usize) -> Result<usize, String> {
        let Some(value) = self.get(field) else { return Ok(absent) };
        let index = value.as_u64().filter(|&index| index <= MOST);
        index.map(|index| index as usize).ok_or_else(|| format!("{field} = {value}; it must be an index"))
    }

    /// `[[channels, taps], ..]`, with as many channels everywhere.
    fn convolutions(&self, field: &str) -> Result<(usize, Vec<usize>), String> {
        let layers: Option<Vec<[usize; 2]>> =
            self.get(field).and_then(|layers| serde_json::from_value(layers.clone()).ok());
        let layers =
            layers.filter(|l| !l.is_empty() && l.iter().flatten().all(|&n| n > 0 && n as u64 <= MOST));
        let layers = layers.ok_or_else(|| format!("`{field}` must be a list of [channels, taps]"))?;
        let channels = layers[0][0];
        if layers.iter().any(|layer| layer[0] != channels) {
            return Err(format!("{field}: only layers of one number of channels are implemented"));
        }
        Ok((channels, layers.iter().map(|layer| layer[1]).collect()))
    }

    fn one_of<'a>(&self, field: &str, implemented: &[&'a str]) -> Result<&'a str, String> {
        let named = |found: &String| implemented.iter().copied().find(|name| name == found);
        match self.get(field) {
            Some(Value::String(found)) if named(found).is_some() => Ok(named(found).expect("found")),
            Some(found) => Err(format!("{field} = {found}; only {implemented:?} can be read here")),
            None => Err(format!("`{field}` is missing")),
        }
    }

    /// A field that only one value is implemented of.
    fn only(&self, field: &str, implemented: Value) -> Result<(), String> {
        match self.get(field) {
            Some(found) if *found != implemented => {
                Err(format!("{field} = {found} is not implemented, only {implemented} is"))
            }
            _ => Ok(()),
        }
    }
}
