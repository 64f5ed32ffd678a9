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

use super::decoder::DecoderOnly;
use super::fields::Fields;
use super::loader::Loader;
use super::weights::Spread;
use super::{Model, ModelConfig, Node};
use crate::backend::{Backend, Linear};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::{decays, GatedMlp, Layer, Residual, Retention, Sequential};
use crate::strategy::Strategy;

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

/// GPT-2's.
const SPREAD: Spread = Spread::around_zero(0.02);

impl ModelConfig for RetentionConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let (layers, width, heads, hidden, vocab) = match shape {
            ShapeName::Tiny => (2, 32, 4, 44, 97),
            ShapeName::Toy => (3, 256, 8, 688, 1024),
            ShapeName::Base => (6, 512, 8, 1376, 8192),
            _ => return None,
        };
        Some(RetentionConfig { layers, width, heads, hidden, vocab })
    }

    fn parse(json: &Fields) -> Result<Self, String> {
        json.one_of("model_type", &["retention"])?;
        let (width, heads) = (json.size("width")?, json.size("heads")?);
        if width % heads != 0 {
            return Err(format!("width = {width} cannot be divided among heads = {heads}"));
        }
        let (layers, hidden) = (json.size("layers")?, json.size("hidden")?);
        Ok(RetentionConfig { layers, width, heads, hidden, vocab: json.size("vocab_size")? })
    }

    fn to_json(&self) -> Value {
        json!({
            "model_type": "retention",
            "layers": self.layers,
            "width": self.width,
            "heads": self.heads,
            "hidden": self.hidden,
            "vocab_size": self.vocab,
        })
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        None
    }

    fn nodes(&self) -> Vec<Node> {
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

    fn untouched(&self, _: Strategy, _: usize, _: usize, _: Dtype) -> usize {
        0 // the table is read by the last product
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &RetentionConfig { layers, width: d, heads, hidden: f, vocab } = self;
        let mut blocks: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..layers {
            let name = |part: &str| format!("layers.{layer}.{part}");
            let of = |names: &[(&str, usize)], inner| {
                let names: Vec<_> = names.iter().map(|(part, out)| (name(part), *out)).collect();
                l.stacked(&names, inner, SPREAD, false)
            };
            let norm = Some(l.rms_norm(&name("norm_1"), d, EPS)?);
            let qkv = of(&[("retention.q", d), ("retention.k", d), ("retention.v", d)], d)?;
            let qkv = Linear { norm, ..qkv };
            let out = of(&[("retention.out", d)], d)?;
            let decays = l.constant([1, 1, heads], || Ok(decays(heads)))?;
            blocks.push(Box::new(Residual(Retention { qkv, out, decays, heads, size: d / heads })));
            let norm = Some(l.rms_norm(&name("norm_2"), d, EPS)?);
            let gate_up = Linear { norm, ..of(&[("mlp.gate", f), ("mlp.up", f)], d)? };
            blocks.push(Box::new(Residual(GatedMlp { gate_up, down: of(&[("mlp.down", d)], f)? })));
        }
        let norm = Some(l.rms_norm("norm", d, EPS)?);
        let weight = l.table("embed.weight", [vocab, d], SPREAD)?;
        Ok(Box::new(DecoderOnly {
            table: Linear { norm, weight, bias: None },
            positions: None,
            blocks: Sequential(blocks),
            last: None,
            head: None,
            vocab,
            max_positions: None,
        }))
    }
}
