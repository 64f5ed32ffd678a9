//! Llama's architecture (Touvron et al. 2023) and its relatives, with the tensor names of Hugging Face's
//! `LlamaForCausalLM`:
//!
//! ```text
//! x = E[token]
//! per layer:  h = RMS(x);  q, k = rope(h·Wq), rope(h·Wk);  x += (softmax(mask(q·kᵀ/√D))·v)·Wo
//!             h = RMS(x);                                      x += (silu(h·Wgate) ⊙ h·Wup)·Wdown
//! logits = RMS(x)·Wheadᵀ
//! ```
//!
//! Keys and values have `kv_heads` heads, each of which serves several of the queries'; keys are turned
//! before they are kept. Besides sizes the families differ in this (and in what a field means that is absent: `FAMILIES`):
//!
//! | family | |
//! |---|---|
//! | Llama 2 and 3, TinyLlama, SmolLM | biases, if the configuration says so |
//! | Mistral | a sliding window |
//! | Qwen2, Qwen2.5 | biases of q, k and v; a window in some layers |
//! | Qwen3 | each head of q and k is normed before it is turned; windows as Qwen2 |
//! | Phi-3 | Wq, Wk and Wv are one tensor, and so are Wgate and Wup; a window |

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

/// Sizes and variants of Llama and its relatives.
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
    /// Whether the products that give queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether the product of what was attended to has a bias.
    pub out_bias: bool,
    /// Whether the gated unit's products have biases.
    pub mlp_bias: bool,
    /// Whether each head of queries and keys is normed.
    pub head_norms: bool,
    /// Whether files hold the products that have one input as one tensor.
    pub fused: bool,
    /// The latest positions that are seen, where not all are.
    pub window: Option<usize>,
    /// The layers that see all positions where others have a window, in order.
    pub full_layers: Vec<usize>,
}

impl LlamaConfig {
    /// Of the rotary positions, `size / 2` of them.
    pub fn frequencies(&self) -> Vec<f64> {
        self.rope_scaling.frequencies(self.theta, self.size)
    }

    fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| self.full_layers.binary_search(&layer).is_err())
    }

    /// One whose configuration can describe the model.
    fn family(&self) -> &'static Family {
        let model_type = match self {
            LlamaConfig { fused: true, .. } => "phi3",
            LlamaConfig { head_norms: true, .. } => "qwen3",
            LlamaConfig { attention_bias: true, out_bias: false, .. } => "qwen2",
            LlamaConfig { window: Some(_), .. } => "mistral",
            _ => "llama",
        };
        FAMILIES.iter().find(|family| family.model_type == model_type).expect("one of them")
    }
}

/// What the configurations of a family say, and mean by fields that are absent.
struct Family {
    model_type: &'static str,
    /// transformers' class.
    class: &'static str,
    width: usize,
    /// `None`: as many as there are heads.
    kv_heads: Option<usize>,
    /// D; `None`: the width, divided among the heads.
    size: Option<usize>,
    hidden: usize,
    vocab: usize,
    positions: usize,
    eps: f64,
    biases: Biases,
    windows: Windows,
    /// Kinds of rotary positions.
    ropes: &'static [&'static str],
}

/// Which products have biases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Biases {
    None,
    /// As `attention_bias` and `mlp_bias` say.
    Both,
    /// As `attention_bias` says.
    Attention,
    /// Those of queries, keys and values, always.
    Qkv,
}

/// Which layers see the latest positions alone.
#[derive(Clone, Copy)]
enum Windows {
    None,
    /// All, if `sliding_window` says how many; it has this value if it is absent.
    All(Option<usize>),
    /// With `use_sliding_window`, those that `layer_types` or `max_window_layers` say.
    PerLayer,
}

/// Those of every family but Phi-3. Within the positions that a model can tell apart `dynamic` is `default`.
const ROPES: &[&str] = &["default", "linear", "dynamic", "llama3", "yarn"];

const LLAMA: Family = Family {
    model_type: "llama",
    class: "LlamaForCausalLM",
    width: 4096,
    kv_heads: None,
    size: None,
    hidden: 11_008,
    vocab: 32_000,
    positions: 2048,
    eps: 1e-6,
    biases: Biases::Both,
    windows: Windows::None,
    ropes: ROPES,
};

const MISTRAL: Family = Family {
    model_type: "mistral",
    class: "MistralForCausalLM",
    kv_heads: Some(8),
    hidden: 14_336,
    positions: 131_072,
    biases: Biases::None,
    windows: Windows::All(Some(4096)),
    ..LLAMA
};

const QWEN2: Family = Family {
    model_type: "qwen2",
    class: "Qwen2ForCausalLM",
    kv_heads: Some(32),
    hidden: 22_016,
    vocab: 151_936,
    positions: 32_768,
    biases: Biases::Qkv,
    windows: Windows::PerLayer,
    ..LLAMA
};

const QWEN3: Family = Family {
    model_type: "qwen3",
    class: "Qwen3ForCausalLM",
    size: Some(128),
    biases: Biases::Attention,
    ..QWEN2
};

const PHI3: Family = Family {
    model_type: "phi3",
    class: "Phi3ForCausalLM",
    width: 3072,
    hidden: 8192,
    vocab: 32_064,
    positions: 4096,
    eps: 1e-5,
    biases: Biases::None,
    windows: Windows::All(None),
    ropes: &["default"],
    ..LLAMA
};

static FAMILIES: [Family; 5] = [LLAMA, MISTRAL, QWEN2, QWEN3, PHI3];

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
            out_bias: false,
            mlp_bias: false,
            head_norms: false,
            fused: false,
            window: None,
            full_layers: Vec::new(),
        })
    }

    /// One of the families'; an absent field has the value that it has in their configurations.
    fn parse(json: &Fields) -> Result<Self, String> {
        let model_type = json.one_of("model_type", &FAMILIES.each_ref().map(|family| family.model_type))?;
        let family = FAMILIES.iter().find(|family| family.model_type == model_type).expect("one of them");
        json.activation("hidden_act", "silu", &[Activation::Silu])?;
        let (width, heads) =
            (json.size_or("hidden_size", family.width)?, json.size_or("num_attention_heads", 32)?);
        let kv_heads = match family.kv_heads {
            Some(absent) if !json.has("num_key_value_heads") => absent,
            _ => json.size_or_none("num_key_value_heads")?.unwrap_or(heads),
        };
        if heads % kv_heads != 0 {
            return Err(format!(
                "num_attention_heads = {heads} cannot share num_key_value_heads = {kv_heads}"
            ));
        }
        let size = match (json.size_or_none("head_dim")?, family.size) {
            (Some(size), _) => size,
            (None, Some(absent)) => absent,
            (None, None) if model_type == "mistral" || width % heads == 0 => width / heads,
            (None, None) => {
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
        let stated = |field: &str, is_read: bool, value: bool| match is_read {
            true => json.flag(field),
            false => json.only(field, json!(value)).map(|()| value),
        };
        let attention_bias = stated(
            "attention_bias",
            matches!(family.biases, Biases::Both | Biases::Attention),
            family.biases == Biases::Qkv,
        )?;
        let positions = json.size_or("max_position_embeddings", family.positions)?;
        let (theta, rope_scaling) = rope(json, positions, family.ropes)?;
        json.only_if_set("use_mrope", json!(false))?;
        let layers = json.size_or("num_hidden_layers", 32)?;
        let (window, full_layers) = windows(json, family.windows, layers)?;
        Ok(LlamaConfig {
            layers,
            width,
            heads,
            kv_heads,
            size,
            hidden: json.size_or("intermediate_size", family.hidden)?,
            vocab: json.size_or("vocab_size", family.vocab)?,
            positions,
            eps: json.positive_or("rms_norm_eps", family.eps)?,
            theta,
            rope_scaling,
            tied: json.flag("tie_word_embeddings")?,
            attention_bias,
            out_bias: attention_bias && family.biases != Biases::Qkv,
            mlp_bias: stated("mlp_bias", family.biases == Biases::Both, false)?,
            head_norms: model_type == "qwen3",
            fused: model_type == "phi3",
            window,
            full_layers,
        })
    }

    fn harmless() -> &'static [&'static str] {
        &[
            // training
            "attention_dropout",
            "embd_pdrop",
            "resid_pdrop",
            "initializer_range",
            // the order of sums, when one product is cut into several
            "pretraining_tp",
            // windows, where there are none
            "max_window_layers",
            // what scaled positions began with; read where they are
            "original_max_position_embeddings",
            // what no release reads: an older name for the positions of training, and SmolLM's
            "max_sequence_length",
            "is_llama_config",
            "rope_interleaved",
        ]
    }

    fn to_json(&self) -> Value {
        let family = self.family();
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
            RopeScaling::Yarn { factor, fast, slow, original, truncate, magnitude } => json!({
                "rope_type": "yarn",
                "factor": factor,
                "beta_fast": fast,
                "beta_slow": slow,
                "original_max_position_embeddings": original,
                "truncate": truncate,
                "attention_factor": magnitude,
            }),
        };
        let mut json = json!({
            "architectures": [family.class],
            "model_type": family.model_type,
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
        });
        if let Windows::PerLayer = family.windows {
            let kind = |layer| self.window_of(layer).map_or("full_attention", |_| "sliding_attention");
            json["use_sliding_window"] = json!(self.window.is_some());
            json["layer_types"] = (0..self.layers).map(kind).collect();
        }
        json
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
        let layer = |layer| {
            [
                Node::Dense { inner: d, out: q + 2 * kv },
                Node::Attention {
                    width: q,
                    kept: kv,
                    kv_heads: self.kv_heads,
                    window: self.window_of(layer),
                },
                Node::Dense { inner: q, out: d },
                Node::Dense { inner: d, out: 2 * f },
                Node::Dense { inner: f, out: d },
            ]
        };
        let mut nodes: Vec<Node> = (0..self.layers).flat_map(layer).collect();
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
        let eps = self.eps as f32;
        let turns = || position::turns(&self.frequencies(), self.rope_scaling.magnitude(), positions);
        let cos_sin = l.constant([1, positions, size], turns)?;
        let cos_sin = Rc::new(cos_sin);
        let mut blocks: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..self.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let of = |names: &[(&str, usize)], inner, bias| {
                let names: Vec<_> = names.iter().map(|(n, out)| (name(&format!("{n}_proj")), *out)).collect();
                l.stacked(&names, inner, SPREAD, bias)
            };
            let head_norm = |part: &str| l.rms_norm(&name(part), size, eps);
            let norm = Some(l.rms_norm(&name("input_layernorm"), d, eps)?);
            let (q, kv) = (heads * size, kv_heads * size);
            let qkv = match self.fused {
                false => &[("self_attn.q", q), ("self_attn.k", kv), ("self_attn.v", kv)][..],
                true => &[("self_attn.qkv", q + 2 * kv)],
            };
            let qkv = Linear { norm, ..of(qkv, d, self.attention_bias)? };
            let head_norms = match self.head_norms {
                true => Some([head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?]),
                false => None,
            };
            let out = of(&[("self_attn.o", d)], q, self.out_bias)?;
            let mask = self.window_of(layer).map_or(Mask::Causal, Mask::SlidingWindow);
            let attention = Attention::multi_head(qkv, out, heads, size, mask);
            let cos_sin = Some(cos_sin.clone());
            blocks.push(Box::new(Residual(Attention { kv_heads, head_norms, cos_sin, ..attention })));
            let norm = Some(l.rms_norm(&name("post_attention_layernorm"), d, eps)?);
            let gate_up = match self.fused {
                false => &[("mlp.gate", f), ("mlp.up", f)][..],
                true => &[("mlp.gate_up", 2 * f)],
            };
            let gate_up = Linear { norm, ..of(gate_up, d, self.mlp_bias)? };
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
fn rope(json: &Fields, positions: usize, kinds: &[&'static str]) -> Result<(f64, RopeScaling), String> {
    json.only_if_set("partial_rotary_factor", json!(1.0))?;
    let beside = json.positive_or("rope_theta", 10_000.0)?;
    let read = |rope: &Fields| {
        rope.only_if_set("partial_rotary_factor", json!(1.0))?;
        let theta = rope.positive_or("rope_theta", beside)?;
        let kind = rope.spelling(["rope_type", "type"]);
        let scaling = match if rope.has(kind) { rope.one_of(kind, kinds)? } else { "default" } {
            "linear" => RopeScaling::Linear { factor: rope.positive("factor")? },
            "llama3" => llama3(json, rope, positions)?,
            "yarn" => yarn(json, rope, positions, theta)?,
            // its base grows with a sequence beyond the positions, and there is none
            "dynamic" => rope.positive("factor").map(|_| RopeScaling::Default)?,
            _ => RopeScaling::Default,
        };
        rope.only_known(SCALES)?; // no kind of layer with positions of its own
        Ok::<_, String>((theta, scaling))
    };
    let (older, newer) = (json.object("rope_scaling")?, json.object("rope_parameters")?);
    let (by_older, by_newer) = (read(&older)?, read(&newer)?);
    Ok(if older.is_empty() { by_newer } else { by_older })
}

fn llama3(json: &Fields, rope: &Fields, positions: usize) -> Result<RopeScaling, String> {
    let (low, high) = (rope.positive("low_freq_factor")?, rope.positive("high_freq_factor")?);
    if high <= low {
        return Err(format!("high_freq_factor = {high} must be more than low_freq_factor = {low}"));
    }
    let original = original_positions(json, rope, positions)?;
    Ok(RopeScaling::Llama3 { factor: rope.positive("factor")?, low, high, original })
}

fn yarn(json: &Fields, rope: &Fields, positions: usize, theta: f64) -> Result<RopeScaling, String> {
    if theta == 1.0 {
        return Err("rope_theta = 1 has no waves for `yarn` to tell apart".into());
    }
    let factor = rope.positive("factor")?;
    let grown = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
    let by_scales = match (rope.positive_or_none("mscale")?, rope.positive_or_none("mscale_all_dim")?) {
        (Some(scale), Some(all)) => grown(scale) / grown(all),
        _ => grown(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        fast: rope.positive_or_none("beta_fast")?.unwrap_or(32.0),
        slow: rope.positive_or_none("beta_slow")?.unwrap_or(1.0),
        original: original_positions(json, rope, positions)?,
        truncate: rope.flag_or("truncate", true)?,
        magnitude: rope.positive_or_none("attention_factor")?.unwrap_or(by_scales),
    })
}

/// The positions of the first training count from beside the object before those inside of it.
fn original_positions(json: &Fields, rope: &Fields, positions: usize) -> Result<usize, String> {
    let original = "original_max_position_embeddings";
    let inside = rope.size_or(original, positions)?;
    json.size_or(original, inside)
}

/// The latest positions that are seen, and the layers that see all of them all the same.
fn windows(json: &Fields, windows: Windows, layers: usize) -> Result<(Option<usize>, Vec<usize>), String> {
    let stated = |absent| match json.has("sliding_window") {
        true => json.size_or_none("sliding_window"),
        false => Ok(absent),
    };
    let per_layer = matches!(windows, Windows::PerLayer);
    let window = match windows {
        Windows::None => json.only("sliding_window", Value::Null).map(|()| None)?,
        Windows::All(absent) => stated(absent)?,
        Windows::PerLayer => {
            let is_used = json.flag("use_sliding_window")?;
            stated(Some(4096))?.filter(|_| is_used)
        }
    };
    if !per_layer {
        json.only_if_set("use_sliding_window", json!(window.is_some()))?;
    }
    let first = match per_layer {
        true => json.index_or("max_window_layers", 28)?,
        false if window.is_some() => json.only("max_window_layers", Value::Null).map(|()| 0)?,
        false => 0,
    };
    let known: &[&str] = match window {
        None => &["full_attention"],
        Some(_) if per_layer => &["full_attention", "sliding_attention"],
        Some(_) => &["sliding_attention"],
    };
    let kinds = json.texts("layer_types")?;
    if let Some(kind) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
        return Err(format!(
            "layer_types has `{kind}`, and only {known:?} is implemented where sliding_window = {}",
            json!(window)
        ));
    }
    if per_layer && !kinds.is_empty() && kinds.len() != layers {
        return Err(format!("layer_types has {} kinds, for num_hidden_layers = {layers}", kinds.len()));
    }
    let Some(rows) = window else { return Ok((None, Vec::new())) };
    let is_full = |layer: &usize| kinds.get(*layer).map_or(*layer < first, |kind| kind == "full_attention");
    let full: Vec<usize> = (0..layers).filter(is_full).collect();
    Ok(if full.len() < layers { (Some(rows), full) } else { (None, Vec::new()) })
}
