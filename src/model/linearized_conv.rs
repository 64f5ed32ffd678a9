//! fairseq's convolutional language model (`fconv_lm`; Dauphin et al. 2017, Gehring et al. 2017),
//! whose `LinearizedConvolution` gives the layer its name: trained as one convolution over all
//! positions, stepped as one linear layer over the last K inputs.
//!
//! ```text
//! x = fc1(E[token])
//! per layer:  u[t] = bias + Σ_{k<K} x[t-K+1+k]·W[k]      W[k] is C → 2C, x[negative] = 0
//!             x = (u[..C] ⊙ sigmoid(u[C..]) + x)·√½
//! logits = fc3(fc2(x))
//! ```
//!
//! The weight is linearised once, when the model is built: `Wlin[o, k·C + i] = W[k, i, o]`.
//! fairseq has turned it anew at every step since 2021 (its issue 3838): a defect, not the algorithm.

use std::borrow::Cow;

use ndarray::{ArrayView3, ArrayViewMut2, Axis};
use serde_json::{json, Value};

use super::decoder::DecoderOnly;
use super::fields::Fields;
use super::loader::Loader;
use super::weights::Spread;
use super::{Model, ModelConfig, Node};
use crate::backend::cpu::zeros;
use crate::backend::{Activation, Backend, Convolution, Linear};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::{Dense, Layer, LinearizedConvolution, Sequential};
use crate::strategy::Strategy;

/// Sizes of fairseq's convolutional language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvConfig {
    /// N.
    pub layers: usize,
    /// C.
    pub channels: usize,
    /// K.
    pub taps: usize,
    /// e, width of the embedding.
    pub embed: usize,
    /// V, tokens.
    pub vocab: usize,
}

impl ModelConfig for ConvConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let (layers, channels, taps, embed, vocab) = match shape {
            ShapeName::Tiny => (2, 24, 3, 16, 97),
            ShapeName::Toy => (3, 256, 4, 256, 1024),
            ShapeName::Base => (8, 512, 4, 256, 8192),
            ShapeName::Large => (13, 1268, 4, 128, 50_257),
            _ => return None,
        };
        Some(ConvConfig { layers, channels, taps, embed, vocab })
    }

    fn parse(json: &Fields) -> Result<Self, String> {
        json.only("model_type", json!("fconv_lm"))?;
        Ok(ConvConfig {
            layers: json.size("layers")?,
            channels: json.size("channels")?,
            taps: json.size("kernel")?,
            embed: json.size("embed_dim")?,
            vocab: json.size("vocab_size")?,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "model_type": "fconv_lm",
            "vocab_size": self.vocab,
            "embed_dim": self.embed,
            "channels": self.channels,
            "kernel": self.taps,
            "layers": self.layers,
        })
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        None
    }

    fn nodes(&self) -> Vec<Node> {
        let &ConvConfig { layers, channels, taps, embed: e, vocab } = self;
        let mut nodes = vec![Node::Dense { inner: e, out: channels }];
        nodes.extend(vec![Node::Convolution { channels, taps }; layers]);
        nodes.extend([Node::Last { inner: channels, out: e }, Node::Last { inner: e, out: vocab }]);
        nodes
    }

    fn untouched(&self, _: Strategy, batch: usize, rows: usize, weights: Dtype) -> usize {
        self.vocab.saturating_sub(batch * rows) * self.embed * weights.bytes()
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &ConvConfig { layers, channels, taps, embed: e, vocab } = self;
        let table = l.table("embed_tokens.weight", [vocab, e], Spread::around_zero(1.0))?;
        let dense = |name: &str, sizes| -> Result<Dense<B>> {
            Ok(Dense { linear: dense(l, name, sizes)?, activation: Activation::None })
        };
        let mut blocks: Vec<Box<dyn Layer<B>>> = vec![Box::new(dense("fc1", [channels, e])?)];
        for layer in 0..layers {
            let linear = linearised(l, &format!("convolutions.{layer}"), channels, taps)?;
            let convolution = Convolution { linear, taps, ahead: 0, residual: true };
            blocks.push(Box::new(LinearizedConvolution { convolution, channels }));
        }
        Ok(Box::new(DecoderOnly {
            table: Linear { norm: None, weight: table, bias: None },
            positions: None,
            blocks: Sequential(blocks),
            last: Some(dense("fc2", [e, channels])?.linear),
            head: Some(dense("fc3", [vocab, e])?.linear),
            vocab,
            max_positions: None,
        }))
    }
}

/// A dense layer whose seeded weights keep the variance of its input, as fairseq's do.
pub(super) fn dense<B: Backend>(
    l: &Loader<'_, B>,
    name: &str,
    [out, inner]: [usize; 2],
) -> Result<Linear<B::Tensor>> {
    l.dense(name, [out, inner], Spread::around_zero(1.0 / (inner as f32).sqrt()))
}

/// `[K, C, 2C]` as stored → `[2C, K·C]` as read. Seeded weights keep the variance of the layer's input, half of
/// which the gate takes away.
pub(super) fn linearised<B: Backend>(
    l: &Loader<'_, B>,
    name: &str,
    c: usize,
    taps: usize,
) -> Result<Linear<B::Tensor>> {
    let spread = Spread::around_zero(2.0 / ((taps * c) as f32).sqrt());
    let stored = l.numbers(&format!("{name}.weight"), &[taps, c, 2 * c], spread)?;
    let rows = |stored: Cow<'_, [f32]>| {
        let mut numbers = zeros(2 * c * taps * c)?;
        let stored = ArrayView3::from_shape((taps, c, 2 * c), &stored).expect("the shape was checked");
        let rows = ArrayViewMut2::from_shape((2 * c, taps * c), &mut numbers);
        let mut rows = rows.expect("as many numbers");
        for (mut columns, tap) in rows.axis_chunks_iter_mut(Axis(1), c).zip(stored.outer_iter()) {
            columns.assign(&tap.t());
        }
        Ok(numbers.into())
    };
    Ok(Linear {
        norm: None,
        weight: l.upload([1, 2 * c, taps * c], stored.map(rows).transpose()?)?,
        bias: Some(l.bias(&format!("{name}.bias"), 2 * c)?),
    })
}
