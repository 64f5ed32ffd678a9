//! Llama's architecture (Touvron et al. 2023), and Mistral's, which adds a sliding window (Jiang et al.
//! 2023), with the tensor names of Hugging Face's `LlamaForCausalLM`:
//!
//! ```text
//! x = E[token]
//! per layer:  h = RMS(x);  q, k = rope(h·Wq), rope(h·Wk);  x += (softmax(mask(q·kᵀ/√D))·v)·Wo
//!             h = RMS(x);                                      x += (silu(h·Wgate) ⊙ h·Wup)·Wdown
//! logits = RMS(x)·Wheadᵀ
//! ```
//!
//! Keys and values have `kv_heads` heads, each of which serves several of the queries'; keys are turned
//! before they are kept.

use std::rc::Rc;

use serde_json::{json, Value};

use super::decoder::DecoderOnly;
use super::fields::Fields;
use super::loader::Loader;
use super::weights::Spread;
use super::{Model, ModelConfig, Node};
use crate::backend::{Activation, Backend, Linear, Mask};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::position::{self, RopeScaling};
use crate::layer::{Attention, GatedMlp, Layer, Residual, Sequential};
use crate::strategy::Strategy;

/// Sizes and variants of Llama and Mistral.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// N.
    pub layers: usize,
    /// d, of the residual stream.
    pub width: usize,
    /// Of the queries.
    pub heads: usize,
    /// Of keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    /// D, numbers in a head.
    pub size: usize,
    /// F, of the gated unit.
    pub hidden: usize,
    /// V, tokens.
    pub vocab: usize,
    /// The most that it can tell apart.
    pub positions: usize,
    /// Of the norms.
    pub eps: f64,
    /// The base of the rotary wavelengths.
    pub theta: f64,
    /// How their frequencies are lowered.
    pub rope_scaling: RopeScaling,
    /// Whether the embedding is multiplied with at the end.
    pub tied: bool,
    /// Whether the attention's projections have biases.
    pub attention_bias: bool,
    /// Whether the gated unit's products have biases.
    pub mlp_bias: bool,
    /// The latest positions that are seen, where not all are.
    pub window: Option<usize>,
}

impl LlamaConfig {
    /// Of the rotary positions, `size / 2` of them.
    pub fn frequencies(&self) -> Vec<f64> {
        let frequencies = position::frequencies(self.theta, self.size);
        frequencies.into_iter().map(|frequency| self.rope_scaling.scaled(frequency)).collect()
    }
}

/// GPT-2's, and the original's.
const SPREAD: Spread = Spread::around_zero(0.02);

impl ModelConfig for LlamaConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let (layers, width, heads, hidden, vocab, positions) = match shape {
            ShapeName::Tiny => (2, 32, 4, 44, 97, 64),
            ShapeName::Toy => (3, 256, 8, 688, 1024, 512),
            ShapeName::Base => (6, 512, 8, 1376, 8192, 1024),
            _ => return None,
        };
        Some(LlamaConfig {
            layers,
            width,
            heads,
            kv_heads: 2,
            size: width / heads,
            hidden,
            vocab,
            positions,
            eps: 1e-5,
            theta: 10_000.0,
            rope_scaling: RopeScaling::Default,
            tied: true,
            attention_bias: false,
            mlp_bias: false,
            window: None,
        })
    }

    /// Llama's, or Mistral's; an absent field has the value that it has in their configurations.
    fn parse(json: &Fields) -> Result<Self, String> {
        let is_mistral = json.one_of("model_type", &["llama", "mistral"])? == "mistral";
        json.activation("hidden_act", "silu", &[Activation::Silu])?;
        let (width, heads) = (json.size_or("hidden_size", 4096)?, json.size_or("num_attention_heads", 32)?);
        let kv_heads = match is_mistral && !json.has("num_key_value_heads") {
            true => 8,
            false => json.size_or_none("num_key_value_heads")?.unwrap_or(heads),
        };
        if heads % kv_heads != 0 {
            return Err(format!(
                "num_attention_heads = {heads} cannot share num_key_value_heads = {kv_heads}"
            ));
        }
        let size = match json.size_or_none("head_dim")? {
            Some(size) => size,
            None if is_mistral || width % heads == 0 => width / heads,
            None => {
                return Err(format!(
                    "hidden_size = {width} cannot be divided among num_attention_heads = {heads}"
                ))
            }
        };
        if size == 0 || size % 2 != 0 {
            return Err(format!(
                "head_dim = {size}, from hidden_size = {width} if it is absent: rotary positions turn pairs of numbers"
            ));
        }
        if is_mistral {
            json.only("attention_bias", json!(false))?;
            json.only("mlp_bias", json!(false))?;
        }
        let positions = json.size_or("max_position_embeddings", if is_mistral { 131_072 } else { 2048 })?;
        let (theta, rope_scaling) = rope(json, positions)?;
        Ok(LlamaConfig {
            layers: json.size_or("num_hidden_layers", 32)?,
            width,
            heads,
            kv_heads,
            size,
            hidden: json.size_or("intermediate_size", if is_mistral { 14_336 } else { 11_008 })?,
            vocab: json.size_or("vocab_size", 32_000)?,
            positions,
            eps: json.positive_or("rms_norm_eps", 1e-6)?,
            theta,
            rope_scaling,
            tied: json.flag("tie_word_embeddings")?,
            attention_bias: json.flag("attention_bias")?,
            mlp_bias: json.flag("mlp_bias")?,
            window: window(json, is_mistral)?,
        })
    }

    fn harmless() -> &'static [&'static str] {
        &[
            // training
            "attention_dropout",
            "initializer_range",
            // the order of sums, when one product is cut into several
            "pretraining_tp",
            // windows, where there are none
            "max_window_layers",
            // what scaled positions began with; read where they are
            "original_max_position_embeddings",
            // an older name for the positions of training, which no release reads
            "max_sequence_length",
        ]
    }

    fn to_json(&self) -> Value {
        let (name, kind) = match self.window {
            None => ("LlamaForCausalLM", "llama"),
            Some(_) => ("MistralForCausalLM", "mistral"),
        };
        let scaling = match self.rope_scaling {
            RopeScaling::Default => Value::Null,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low, high, original } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original,
            }),
        };
        json!({
            "architectures": [name],
            "model_type": kind,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.size,
            "intermediate_size": self.hidden,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.positions,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "rope_scaling": scaling,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "sliding_window": self.window,
        })
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.positions)
    }

    fn nodes(&self) -> Vec<Node> {
        let (d, f) = (self.width, self.hidden);
        let (q, kv) = (self.heads * self.size, self.kv_heads * self.size);
        let layer = [
            Node::Dense { inner: d, out: q + 2 * kv },
            Node::Attention { width: q, kept: kv, kv_heads: self.kv_heads, window: self.window },
            Node::Dense { inner: q, out: d },
            Node::Dense { inner: d, out: 2 * f },
            Node::Dense { inner: f, out: d },
        ];
        let mut nodes = layer.repeat(self.layers);
        nodes.push(Node::Last { inner: d, out: self.vocab });
        nodes
    }

    fn untouched(&self, _: Strategy, batch: usize, rows: usize, weights: Dtype) -> usize {
        match self.tied {
            true => 0, // the table is read by the last product
            false => self.vocab.saturating_sub(batch * rows) * self.width * weights.bytes(),
        }
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &LlamaConfig { width: d, heads, kv_heads, size, hidden: f, vocab, .. } = self;
        let positions = l.positions(self.positions);
        let mask = self.window.map_or(Mask::Causal, Mask::SlidingWindow);
        let eps = self.eps as f32;
        let cos_sin = l.constant([1, positions, size], || position::turns(&self.frequencies(), positions))?;
        let cos_sin = Rc::new(cos_sin);
        let mut blocks: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..self.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let of = |names: &[(&str, usize)], inner, bias| {
                let names: Vec<_> = names.iter().map(|(n, out)| (name(&format!("{n}_proj")), *out)).collect();
                l.stacked(&names, inner, SPREAD, bias)
            };
            let norm = Some(l.rms_norm(&name("input_layernorm"), d, eps)?);
            let (q, kv, bias) = (heads * size, kv_heads * size, self.attention_bias);
            let qkv = of(&[("self_attn.q", q), ("self_attn.k", kv), ("self_attn.v", kv)], d, bias)?;
            let qkv = Linear { norm, ..qkv };
            let out = of(&[("self_attn.o", d)], q, bias)?;
            let cos_sin = Some(cos_sin.clone());
            let attention = Attention { qkv, out, heads, kv_heads, size, cos_sin, slopes: None, mask };
            blocks.push(Box::new(Residual(attention)));
            let norm = Some(l.rms_norm(&name("post_attention_layernorm"), d, eps)?);
            let gate_up = Linear { norm, ..of(&[("mlp.gate", f), ("mlp.up", f)], d, self.mlp_bias)? };
            let down = of(&[("mlp.down", d)], f, self.mlp_bias)?;
            blocks.push(Box::new(Residual(GatedMlp { gate_up, down })));
            l.may_hold(&name("self_attn.rotary_emb.inv_freq"));
        }
        let norm = Some(l.rms_norm("model.norm", d, eps)?);
        let table = |norm, names: &[&str]| -> Result<Linear<B::Tensor>> {
            Ok(Linear { norm, weight: l.tied_table(names, [vocab, d], SPREAD)?, bias: None })
        };
        let (embedding, head) = ("model.embed_tokens.weight", "lm_head.weight");
        let (embedding, head) = match self.tied {
            true => (table(norm, &[embedding, head])?, None),
            false => (table(None, &[embedding])?, Some(table(norm, &[head])?)),
        };
        l.may_hold("model.rotary_emb.inv_freq");
        Ok(Box::new(DecoderOnly {
            table: embedding,
            positions: None,
            blocks: Sequential(blocks),
            last: None,
            head,
            vocab,
            max_positions: Some(positions),
        }))
    }
}

/// Numbers of scaled positions, which may stand beside a kind that does not read them.
const SCALES: &[&str] = &[
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
];

/// The base of the wavelengths and how frequencies are scaled, from `rope_scaling` or `rope_parameters`, or from
/// beside them. `rope_scaling` is the older of the two and goes before the other, unless it is empty.
fn rope(json: &Fields, positions: usize) -> Result<(f64, RopeScaling), String> {
    json.only_if_set("partial_rotary_factor", json!(1.0))?;
    let beside = json.positive_or("rope_theta", 10_000.0)?;
    let read = |rope: &Fields| {
        rope.only_if_set("partial_rotary_factor", json!(1.0))?;
        let theta = rope.positive_or("rope_theta", beside)?;
        let kind = rope.spelling(["rope_type", "type"]);
        let kind =
            if rope.has(kind) { rope.one_of(kind, &["default", "linear", "llama3"])? } else { "default" };
        let scaling = match kind {
            "linear" => RopeScaling::Linear { factor: rope.positive("factor")? },
            "llama3" => llama3(json, rope, positions)?,
            _ => RopeScaling::Default,
        };
        rope.only_known(SCALES)?; // no kind of layer with positions of its own
        Ok::<_, String>((theta, scaling))
    };
    let (older, newer) = (json.object("rope_scaling")?, json.object("rope_parameters")?);
    let (by_older, by_newer) = (read(&older)?, read(&newer)?);
    Ok(if older.is_empty() { by_newer } else { by_older })
}

/// The positions of the first training count from beside the object before those inside of it.
fn llama3(json: &Fields, rope: &Fields, positions: usize) -> Result<RopeScaling, String> {
    let (low, high) = (rope.positive("low_freq_factor")?, rope.positive("high_freq_factor")?);
    if high <= low {
        return Err(format!("high_freq_factor = {high} must be more than low_freq_factor = {low}"));
    }
    let original = "original_max_position_embeddings";
    let inside = rope.size_or(original, positions)?;
    let original = json.size_or(original, inside)?;
    Ok(RopeScaling::Llama3 { factor: rope.positive("factor")?, low, high, original })
}

/// The latest positions that are seen: all of them in Llama, and not in Mistral unless it says `null`.
fn window(json: &Fields, is_mistral: bool) -> Result<Option<usize>, String> {
    let window = match is_mistral {
        true if !json.has("sliding_window") => Some(4096),
        true => json.size_or_none("sliding_window")?,
        false => {
            json.only("sliding_window", Value::Null)?;
            None
        }
    };
    json.only_if_set("use_sliding_window", json!(window.is_some()))?;
    if window.is_some() {
        json.only("max_window_layers", Value::Null)?;
    }
    let layers = if window.is_some() { "sliding_attention" } else { "full_attention" };
    match json.texts("layer_types")?.iter().find(|kind| *kind != layers) {
        Some(kind) => Err(format!(
            "layer_types has `{kind}`, and only `{layers}` is implemented where sliding_window = {}",
            json!(window)
        )),
        None => Ok(window),
    }
}
