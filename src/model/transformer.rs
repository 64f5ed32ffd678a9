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

use ndarray::{Array2, ArrayView2};
use serde_json::{json, Value};

use crate::backend::{Activation, Backend, Linear, Mask};
use crate::error::Result;
use crate::layer::{Attention, Mlp, Sequential};
use crate::model::decoder::{normed, DecoderOnly};
use crate::model::weights::Weights;
use crate::model::Node;
use crate::model::{norm, vector};

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

impl TransformerConfig {
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (d, f) = (self.width, self.hidden);
        let mut tensors =
            vec![("wte.weight".into(), vec![self.vocab, d]), ("wpe.weight".into(), vec![self.positions, d])];
        for layer in 0..self.layers {
            for (name, shape) in [
                ("ln_1.weight", vec![d]),
                ("ln_1.bias", vec![d]),
                ("attn.c_attn.weight", vec![d, 3 * d]),
                ("attn.c_attn.bias", vec![3 * d]),
                ("attn.c_proj.weight", vec![d, d]),
                ("attn.c_proj.bias", vec![d]),
                ("ln_2.weight", vec![d]),
                ("ln_2.bias", vec![d]),
                ("mlp.c_fc.weight", vec![d, f]),
                ("mlp.c_fc.bias", vec![f]),
                ("mlp.c_proj.weight", vec![f, d]),
                ("mlp.c_proj.bias", vec![d]),
            ] {
                tensors.push((format!("h.{layer}.{name}"), shape));
            }
        }
        tensors.extend([("ln_f.weight".into(), vec![d]), ("ln_f.bias".into(), vec![d])]);
        tensors
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let (d, f) = (self.width, self.hidden);
        let layer = [
            Node::Dense { inner: d, out: 3 * d },
            Node::Attention { width: d, kept: d, window: None },
            Node::Dense { inner: d, out: d },
            Node::Dense { inner: d, out: f },
            Node::Dense { inner: f, out: d },
        ];
        let mut nodes = layer.repeat(self.layers);
        nodes.push(Node::Last { inner: d, out: self.vocab });
        nodes
    }

    pub(super) fn to_json(&self) -> Value {
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
}

pub(super) fn load<B: Backend>(
    b: &B,
    config: &TransformerConfig,
    weights: &Weights,
) -> Result<DecoderOnly<B>> {
    let &TransformerConfig { layers, width: d, heads, hidden: f, vocab, positions: most } = config;
    let positions = b.upload([1, most, d], &weights.get("wpe.weight", &[most, d])?)?;
    let mut blocks = Vec::with_capacity(2 * layers);
    for layer in 0..layers {
        let name = |part: &str| format!("h.{layer}.{part}");
        let norm_1 = norm(b, weights, &name("ln_1"), d, EPS)?;
        let qkv = transposed(b, weights, &name("attn.c_attn"), d, 3 * d)?;
        let out = transposed(b, weights, &name("attn.c_proj"), d, d)?;
        let (kv_heads, size) = (heads, d / heads);
        let attention =
            Attention { qkv, out, heads, kv_heads, size, cos_sin: None, slopes: None, mask: Mask::Causal };
        blocks.push(normed(norm_1, attention));
        let norm_2 = norm(b, weights, &name("ln_2"), d, EPS)?;
        let up = transposed(b, weights, &name("mlp.c_fc"), d, f)?;
        let down = transposed(b, weights, &name("mlp.c_proj"), f, d)?;
        blocks.push(normed(norm_2, Mlp { up, activation: Activation::Gelu, down }));
    }
    let last = norm(b, weights, "ln_f", d, EPS)?;
    let weight = b.upload([1, vocab, d], &weights.get("wte.weight", &[vocab, d])?)?;
    Ok(DecoderOnly {
        table: Linear { weight, bias: None },
        positions: Some(positions),
        blocks: Sequential(blocks),
        last: Sequential(vec![Box::new(last)]),
        head: None,
        vocab,
        max_positions: Some(most),
    })
}

const EPS: f32 = 1e-5;

/// A dense layer stored `[in, out]`, as GPT-2's `Conv1D` is, turned once into what kernels read.
fn transposed<B: Backend>(
    b: &B,
    weights: &Weights,
    name: &str,
    inner: usize,
    out: usize,
) -> Result<Linear<B::Tensor>> {
    let stored = weights.get(&format!("{name}.weight"), &[inner, out])?;
    let view = ArrayView2::from_shape((inner, out), &stored).expect("the shape was checked");
    let mut turned = Array2::zeros((out, inner));
    turned.assign(&view.t());
    Ok(Linear {
        weight: b.upload([1, out, inner], turned.as_slice().expect("standard layout"))?,
        bias: Some(vector(b, weights, &format!("{name}.bias"), out)?),
    })
}
