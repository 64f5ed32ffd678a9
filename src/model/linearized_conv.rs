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

use ndarray::{Array2, ArrayView3, Axis};
use serde_json::{json, Value};

use crate::backend::{Activation, Backend, Convolution, Linear};
use crate::error::Result;
use crate::layer::{Dense, Layer, LinearizedConvolution, Sequential};
use crate::model::decoder::DecoderOnly;
use crate::model::weights::Weights;
use crate::model::Node;
use crate::model::{dense, vector};

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

impl ConvConfig {
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let &ConvConfig { layers, channels: c, taps, embed: e, vocab } = self;
        let mut tensors = vec![
            ("embed_tokens.weight".into(), vec![vocab, e]),
            ("fc1.weight".into(), vec![c, e]),
            ("fc1.bias".into(), vec![c]),
        ];
        for layer in 0..layers {
            tensors.push((format!("convolutions.{layer}.weight"), vec![taps, c, 2 * c]));
            tensors.push((format!("convolutions.{layer}.bias"), vec![2 * c]));
        }
        tensors.extend([
            ("fc2.weight".into(), vec![e, c]),
            ("fc2.bias".into(), vec![e]),
            ("fc3.weight".into(), vec![vocab, e]),
            ("fc3.bias".into(), vec![vocab]),
        ]);
        tensors
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let &ConvConfig { layers, channels, taps, embed: e, vocab } = self;
        let mut nodes = vec![Node::Dense { inner: e, out: channels }];
        nodes.extend(vec![Node::Convolution { channels, taps }; layers]);
        nodes.extend([Node::Last { inner: channels, out: e }, Node::Last { inner: e, out: vocab }]);
        nodes
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "model_type": "fconv_lm",
            "vocab_size": self.vocab,
            "embed_dim": self.embed,
            "channels": self.channels,
            "kernel": self.taps,
            "layers": self.layers,
        })
    }
}

pub(super) fn load<B: Backend>(b: &B, config: &ConvConfig, weights: &Weights) -> Result<DecoderOnly<B>> {
    let &ConvConfig { layers, channels, taps, embed: e, vocab } = config;
    let table = b.upload([1, vocab, e], &weights.get("embed_tokens.weight", &[vocab, e])?)?;
    let dense = |name: &str, out, inner| -> Result<Dense<B>> {
        Ok(Dense { linear: dense(b, weights, name, out, inner)?, activation: Activation::None })
    };
    let mut blocks: Vec<Box<dyn Layer<B>>> = vec![Box::new(dense("fc1", channels, e)?)];
    for layer in 0..layers {
        let linear = linearised(b, weights, &format!("convolutions.{layer}"), channels, taps)?;
        let convolution = Convolution { linear, taps, ahead: 0, residual: true };
        blocks.push(Box::new(LinearizedConvolution { convolution, channels }));
    }
    Ok(DecoderOnly {
        table: Linear { weight: table, bias: None },
        positions: None,
        blocks: Sequential(blocks),
        last: Sequential(vec![Box::new(dense("fc2", e, channels)?)]),
        head: Some(dense("fc3", vocab, e)?.linear),
        vocab,
        max_positions: None,
    })
}

/// `[K, C, 2C]` as stored → `[2C, K·C]` as read.
pub(super) fn linearised<B: Backend>(
    b: &B,
    weights: &Weights,
    name: &str,
    c: usize,
    taps: usize,
) -> Result<Linear<B::Tensor>> {
    let stored = weights.get(&format!("{name}.weight"), &[taps, c, 2 * c])?;
    let stored = ArrayView3::from_shape((taps, c, 2 * c), &stored).expect("the shape was checked");
    let mut rows = Array2::zeros((2 * c, taps * c));
    for (mut columns, tap) in rows.axis_chunks_iter_mut(Axis(1), c).zip(stored.outer_iter()) {
        columns.assign(&tap.t());
    }
    Ok(Linear {
        weight: b.upload([1, 2 * c, taps * c], rows.as_slice().expect("standard layout"))?,
        bias: Some(vector(b, weights, &format!("{name}.bias"), 2 * c)?),
    })
}
