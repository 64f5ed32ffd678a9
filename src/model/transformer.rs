//! The decoder-only transformer, in GPT-2's architecture and with its tensor names, so that any
//! checkpoint of that family drops in and other programs can check us (Radford et al. 2019; layout
//! of Hugging Face's `GPT2LMHeadModel`):
//!
//! ```text
//! x = wte[token] + wpe[position]
//! per layer:  h = LN1(x);  [q k v] = h·Wqkv + b;  x += (softmax(mask(q·kᵀ/√D))·v)·Wo + b
//!             h = LN2(x);                         x += gelu(h·Wfc + b)·Wproj + b
//! logits = LNf(x)·wteᵀ          (or an output matrix of its own)
//! ```

use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewMut2};
use serde_json::{json, Value};

use super::decoder::DecoderOnly;
use super::fields::{activation_name, Fields};
use super::loader::Loader;
use super::weights::Spread;
use super::{Model, ModelConfig, Node};
use crate::backend::cpu::zeros;
use crate::backend::{usual_scale, Activation, Backend, Linear, Mask};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::{Attention, Layer, Mlp, Residual, Sequential};
use crate::strategy::Strategy;

/// Sizes and variants of GPT-2's transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    /// N.
    pub layers: usize,
    /// d, of the residual stream.
    pub width: usize,
    /// H, each of `width / heads` numbers.
    pub heads: usize,
    /// F, of the multi-layer perceptron.
    pub hidden: usize,
    /// V, tokens.
    pub vocab: usize,
    /// The most that it can tell apart.
    pub positions: usize,
    /// Of the norms.
    pub eps: f64,
    /// Of the multi-layer perceptron.
    pub activation: Activation,
    /// Whether products of queries and keys are divided by √D.
    pub scaled: bool,
    /// Whether they are divided by the number of their layer, from 1, as well.
    pub scaled_by_layer: bool,
    /// Whether the embedding is multiplied with at the end.
    pub tied: bool,
}

/// The smallest GPT-2.
impl Default for TransformerConfig {
    fn default() -> Self {
        TransformerConfig {
            layers: 12,
            width: 768,
            heads: 12,
            hidden: 4 * 768,
            vocab: 50_257,
            positions: 1024,
            eps: 1e-5,
            activation: Activation::Gelu,
            scaled: true,
            scaled_by_layer: false,
            tied: true,
        }
    }
}

/// The original's.
const SPREAD: Spread = Spread::around_zero(0.02);

impl ModelConfig for TransformerConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let gpt2 = TransformerConfig::default();
        let (layers, width, heads, vocab, positions) = match shape {
            ShapeName::Tiny => (2, 32, 4, 97, 64),
            ShapeName::Toy => (3, 256, 8, 1024, 512),
            ShapeName::Base => (6, 512, 8, 8192, 1024),
            ShapeName::Gpt2 => return Some(gpt2),
            _ => return None,
        };
        Some(TransformerConfig { layers, width, heads, hidden: 4 * width, vocab, positions, ..gpt2 })
    }

    /// GPT-2's; an absent field has the original's value.
    fn parse(json: &Fields) -> Result<Self, String> {
        json.only("model_type", json!("gpt2"))?;
        let gpt2 = TransformerConfig::default();
        let d = json.spelling(["hidden_size", "n_embd"]);
        let h = json.spelling(["num_attention_heads", "n_head"]);
        let (width, heads) = (json.size_or(d, gpt2.width)?, json.size_or(h, gpt2.heads)?);
        if width % heads != 0 {
            return Err(format!("{d} = {width} cannot be divided among {h} = {heads}"));
        }
        Ok(TransformerConfig {
            layers: json.size_or(json.spelling(["num_hidden_layers", "n_layer"]), gpt2.layers)?,
            width,
            heads,
            hidden: json.size_or_none("n_inner")?.unwrap_or(4 * width),
            vocab: json.size_or("vocab_size", gpt2.vocab)?,
            positions: json
                .size_or(json.spelling(["max_position_embeddings", "n_positions"]), gpt2.positions)?,
            eps: json.positive_or("layer_norm_epsilon", gpt2.eps)?,
            activation: json.activation("activation_function", "gelu_new", Activation::ALL)?,
            scaled: json.flag_or("scale_attn_weights", gpt2.scaled)?,
            scaled_by_layer: json.flag_or("scale_attn_by_inverse_layer_idx", gpt2.scaled_by_layer)?,
            tied: json.flag_or("tie_word_embeddings", gpt2.tied)?,
        })
    }

    fn harmless() -> &'static [&'static str] {
        &[
            // training
            "attn_pdrop",
            "embd_pdrop",
            "resid_pdrop",
            "initializer_range",
            // the rounding of half precision, which there is none of
            "reorder_and_upcast_attn",
            // the side of the mask, which is that of the positions
            "n_ctx",
            // heads for other tasks
            "summary_type",
            "summary_use_proj",
            "summary_activation",
            "summary_proj_to_labels",
            "summary_first_dropout",
        ]
    }

    fn to_json(&self) -> Value {
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_layer": self.layers,
            "n_embd": self.width,
            "n_head": self.heads,
            "n_inner": self.hidden,
            "n_positions": self.positions,
            "vocab_size": self.vocab,
            "activation_function": activation_name(self.activation),
            "layer_norm_epsilon": self.eps,
            "scale_attn_weights": self.scaled,
            "scale_attn_by_inverse_layer_idx": self.scaled_by_layer,
            "tie_word_embeddings": self.tied,
        })
    }

    /// `transformers` saves a language model with it.
    fn prefix(&self) -> &'static str {
        "transformer."
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.positions)
    }

    fn nodes(&self) -> Vec<Node> {
        let (d, f) = (self.width, self.hidden);
        let layer = [
            Node::Dense { inner: d, out: 3 * d },
            Node::Attention { width: d, kept: d, kv_heads: self.heads, window: None },
            Node::Dense { inner: d, out: d },
            Node::Dense { inner: d, out: f },
            Node::Dense { inner: f, out: d },
        ];
        let mut nodes = layer.repeat(self.layers);
        nodes.push(Node::Last { inner: d, out: self.vocab });
        nodes
    }

    /// Of positions one row a new row is looked up; a tied table is read by the last product.
    fn untouched(&self, _: Strategy, batch: usize, rows: usize, weights: Dtype) -> usize {
        let tokens = if self.tied { 0 } else { self.vocab.saturating_sub(batch * rows) };
        (self.positions.saturating_sub(rows) + tokens) * self.width * weights.bytes()
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &TransformerConfig { layers, width: d, heads, hidden: f, vocab, positions: most, .. } = self;
        let (size, eps) = (d / heads, self.eps as f32);
        let positions = l.table("wpe.weight", [most, d], SPREAD)?;
        let mut blocks: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..layers {
            let name = |part: &str| format!("h.{layer}.{part}");
            let norm_1 = l.norm(&name("ln_1"), d, eps)?;
            let qkv = Linear { norm: Some(norm_1), ..transposed(l, &name("attn.c_attn"), [d, 3 * d])? };
            let out = transposed(l, &name("attn.c_proj"), [d, d])?;
            let scale = if self.scaled { usual_scale(size) } else { 1.0 };
            let scale = if self.scaled_by_layer { scale / (layer + 1) as f32 } else { scale };
            let attention = Attention::multi_head(qkv, out, heads, size, Mask::Causal);
            blocks.push(Box::new(Residual(Attention { scale, ..attention })));
            let norm_2 = l.norm(&name("ln_2"), d, eps)?;
            let up = Linear { norm: Some(norm_2), ..transposed(l, &name("mlp.c_fc"), [d, f])? };
            let down = transposed(l, &name("mlp.c_proj"), [f, d])?;
            blocks.push(Box::new(Residual(Mlp { up, activation: self.activation, down })));
            for mask in ["attn.bias", "attn.masked_bias"] {
                l.may_hold(&name(mask));
            }
        }
        let norm = Some(l.norm("ln_f", d, eps)?);
        let table = |norm, names: &[&str]| -> Result<Linear<B::Tensor>> {
            Ok(Linear { norm, weight: l.tied_table(names, [vocab, d], SPREAD)?, bias: None })
        };
        let (table, head) = match self.tied {
            true => (table(norm, &["wte.weight", "lm_head.weight"])?, None),
            false => (table(None, &["wte.weight"])?, Some(table(norm, &["lm_head.weight"])?)),
        };
        Ok(Box::new(DecoderOnly {
            table,
            positions: Some(positions),
            blocks: Sequential(blocks),
            last: None,
            head,
            vocab,
            max_positions: Some(most),
        }))
    }
}

/// A dense layer stored `[in, out]`, as GPT-2's `Conv1D` is, turned once into the order that kernels read.
fn transposed<B: Backend>(
    l: &Loader<'_, B>,
    name: &str,
    [inner, out]: [usize; 2],
) -> Result<Linear<B::Tensor>> {
    let stored = l.numbers(&format!("{name}.weight"), &[inner, out], SPREAD)?;
    let turned = |stored: Cow<'_, [f32]>| {
        let mut turned = zeros(out * inner)?;
        let view = ArrayView2::from_shape((inner, out), &stored).expect("the shape was checked");
        let rows = ArrayViewMut2::from_shape((out, inner), &mut turned);
        rows.expect("as many numbers").assign(&view.t());
        Ok(turned.into())
    };
    Ok(Linear {
        norm: None,
        weight: l.upload([1, out, inner], stored.map(turned).transpose()?)?,
        bias: Some(l.bias(&format!("{name}.bias"), out)?),
    })
}
