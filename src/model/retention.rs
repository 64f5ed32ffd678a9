//! A language model whose attention is [retention](crate::layer::Retention): Llama's blocks with a state
//! of fixed size in place of keys and values.
//!
//! ```text
//! x = E[token]
//! per layer:  h = RMS(x);  S = γ·S + (h·Wk)ᵀ(h·Wv);  x += ((h·Wq)·S)·Wo       γ = 1 - 2^(-5-head)
//!             h = RMS(x);                            x += (silu(h·Wgate) ⊙ h·Wup)·Wdown
//! logits = RMS(x)·Eᵀ
//! ```
//!
//! The original (Sun et al. 2023) also turns q and k by their positions, normalises each head's result and
//! gates it: none of these remembers anything, and the question here is what is remembered.

use serde_json::{json, Value};

use crate::backend::{Backend, Linear};
use crate::error::Result;
use crate::layer::{decays, GatedMlp, Retention, Sequential};
use crate::model::decoder::{normed, DecoderOnly};
use crate::model::weights::Weights;
use crate::model::Node;
use crate::model::{rms_norm, stacked};

/// Sizes of Llama's blocks with retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionConfig {
    /// N.
    pub layers: usize,
    /// d, of the residual stream.
    pub width: usize,
    /// Each keeps one matrix.
    pub heads: usize,
    /// F, of the gated unit.
    pub hidden: usize,
    /// V, tokens.
    pub vocab: usize,
}

const EPS: f32 = 1e-6;

impl RetentionConfig {
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let &RetentionConfig { layers, width: d, hidden: f, vocab, .. } = self;
        let mut tensors = vec![("embed.weight".to_string(), vec![vocab, d])];
        for layer in 0..layers {
            for (name, shape) in [
                ("norm_1.weight", vec![d]),
                ("retention.q.weight", vec![d, d]),
                ("retention.k.weight", vec![d, d]),
                ("retention.v.weight", vec![d, d]),
                ("retention.out.weight", vec![d, d]),
                ("norm_2.weight", vec![d]),
                ("mlp.gate.weight", vec![f, d]),
                ("mlp.up.weight", vec![f, d]),
                ("mlp.down.weight", vec![d, f]),
            ] {
                tensors.push((format!("layers.{layer}.{name}"), shape));
            }
        }
        tensors.push(("norm.weight".into(), vec![d]));
        tensors
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let &RetentionConfig { layers, width: d, heads, hidden: f, vocab } = self;
        let layer = [
            Node::Dense { inner: d, out: 3 * d },
            Node::Retention { heads, size: d / heads },
            Node::Dense { inner: d, out: d },
            Node::Dense { inner: d, out: 2 * f },
            Node::Dense { inner: f, out: d },
        ];
        let mut nodes = layer.repeat(layers);
        nodes.push(Node::Last { inner: d, out: vocab });
        nodes
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "model_type": "retention",
            "layers": self.layers,
            "width": self.width,
            "heads": self.heads,
            "hidden": self.hidden,
            "vocab_size": self.vocab,
        })
    }
}

pub(super) fn load<B: Backend>(b: &B, config: &RetentionConfig, weights: &Weights) -> Result<DecoderOnly<B>> {
    let &RetentionConfig { layers, width: d, heads, hidden: f, vocab } = config;
    let mut blocks = Vec::with_capacity(2 * layers);
    for layer in 0..layers {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let of = |names: &[(&str, usize)], inner| {
            let names: Vec<_> = names.iter().map(|(part, out)| (name(part), *out)).collect();
            stacked(b, weights, &names, inner, false)
        };
        let norm = rms_norm(b, weights, &name("norm_1"), d, EPS)?;
        let qkv = of(&[("retention.q", d), ("retention.k", d), ("retention.v", d)], d)?;
        let out = of(&[("retention.out", d)], d)?;
        let decays = b.upload([1, 1, heads], &decays(heads))?;
        blocks.push(normed(norm, Retention { qkv, out, decays, heads, size: d / heads }));
        let norm = rms_norm(b, weights, &name("norm_2"), d, EPS)?;
        let gate_up = of(&[("mlp.gate", f), ("mlp.up", f)], d)?;
        blocks.push(normed(norm, GatedMlp { gate_up, down: of(&[("mlp.down", d)], f)? }));
    }
    let last = rms_norm(b, weights, "norm", d, EPS)?;
    let weight = b.upload([1, vocab, d], &weights.get("embed.weight", &[vocab, d])?)?;
    Ok(DecoderOnly {
        table: Linear { weight, bias: None },
        positions: None,
        blocks: Sequential(blocks),
        last: Sequential(vec![Box::new(last)]),
        head: None,
        vocab,
        max_positions: None,
    })
}
