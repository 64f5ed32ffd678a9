//! The decoder-only transformer, in GPT-2's architecture and with its tensor names, so that any
//! checkpoint of that family drops in and other programs can check us (Radford et al. 2019; layout
//! of Hugging Face's `GPT2LMHeadModel`):
//!
//! ```text
//! x = wte[token] + wpe[position]
//! per layer:  h = LN1(x);  [q k v] = h·Wqkv + b;  x += (softmax(mask(q·kᵀ/√D))·v)·Wo + b
//!             h = LN2(x);                         x += gelu(h·Wfc + b)·Wproj + b
//! logits = LNf(x)·wteᵀ
//! ```

use std::borrow::Cow;

use ndarray::{ArrayView2, ArrayViewMut2};
use serde_json::{json, Value};

use super::decoder::DecoderOnly;
use super::fields::Fields;
use super::loader::Loader;
use super::weights::Spread;
use super::{Model, ModelConfig, Node};
use crate::backend::cpu::zeros;
use crate::backend::{Activation, Backend, Linear, Mask};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::{Attention, Layer, Mlp, Residual, Sequential};
use crate::strategy::Strategy;

/// Sizes of GPT-2's transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

const EPS: f32 = 1e-5;

/// The original's.
const SPREAD: Spread = Spread::around_zero(0.02);

impl ModelConfig for TransformerConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let (layers, width, heads, vocab, positions) = match shape {
            ShapeName::Tiny => (2, 32, 4, 97, 64),
            ShapeName::Toy => (3, 256, 8, 1024, 512),
            ShapeName::Base => (6, 512, 8, 8192, 1024),
            ShapeName::Gpt2 => (12, 768, 12, 50_257, 1024),
            _ => return None,
        };
        Some(TransformerConfig { layers, width, heads, hidden: 4 * width, vocab, positions })
    }

    /// GPT-2's; an absent field has the original's value.
    fn parse(json: &Fields) -> Result<Self, String> {
        json.only("model_type", json!("gpt2"))?;
        json.activation("activation_function", "gelu_new", &[Activation::Gelu])?;
        json.only("layer_norm_epsilon", json!(1e-5))?;
        json.only("tie_word_embeddings", json!(true))?;
        json.only("scale_attn_weights", json!(true))?;
        json.only("scale_attn_by_inverse_layer_idx", json!(false))?;
        let d = json.spelling(["hidden_size", "n_embd"]);
        let h = json.spelling(["num_attention_heads", "n_head"]);
        let (width, heads) = (json.size_or(d, 768)?, json.size_or(h, 12)?);
        if width % heads != 0 {
            return Err(format!("{d} = {width} cannot be divided among {h} = {heads}"));
        }
        Ok(TransformerConfig {
            layers: json.size_or(json.spelling(["num_hidden_layers", "n_layer"]), 12)?,
            width,
            heads,
            hidden: json.size_or_none("n_inner")?.unwrap_or(4 * width),
            vocab: json.size_or("vocab_size", 50_257)?,
            positions: json.size_or(json.spelling(["max_position_embeddings", "n_positions"]), 1024)?,
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
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": true,
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

    /// Of positions one row a new row is looked up; the tied table is read by the last product.
    fn untouched(&self, _: Strategy, _: usize, rows: usize, weights: Dtype) -> usize {
        self.positions.saturating_sub(rows) * self.width * weights.bytes()
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &TransformerConfig { layers, width: d, heads, hidden: f, vocab, positions: most } = self;
        let positions = l.table("wpe.weight", [most, d], SPREAD)?;
        let mut blocks: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..layers {
            let name = |part: &str| format!("h.{layer}.{part}");
            let norm_1 = l.norm(&name("ln_1"), d, EPS)?;
            let (kv_heads, size, mask) = (heads, d / heads, Mask::Causal);
            let qkv = Linear { norm: Some(norm_1), ..transposed(l, &name("attn.c_attn"), [d, 3 * d])? };
            let out = transposed(l, &name("attn.c_proj"), [d, d])?;
            let attention = Attention { qkv, out, heads, kv_heads, size, cos_sin: None, slopes: None, mask };
            blocks.push(Box::new(Residual(attention)));
            let norm_2 = l.norm(&name("ln_2"), d, EPS)?;
            let up = Linear { norm: Some(norm_2), ..transposed(l, &name("mlp.c_fc"), [d, f])? };
            let down = transposed(l, &name("mlp.c_proj"), [f, d])?;
            blocks.push(Box::new(Residual(Mlp { up, activation: Activation::Gelu, down })));
            for mask in ["attn.bias", "attn.masked_bias"] {
                l.may_hold(&name(mask));
            }
        }
        let norm = Some(l.norm("ln_f", d, EPS)?);
        let weight = l.tied_table(&["wte.weight", "lm_head.weight"], [vocab, d], SPREAD)?;
        Ok(Box::new(DecoderOnly {
            table: Linear { norm, weight, bias: None },
            positions: Some(positions),
            blocks: Sequential(blocks),
            last: None,
            head: None,
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
