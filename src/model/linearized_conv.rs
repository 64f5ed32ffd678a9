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

use crate::backend::{Activation, Backend, Columns, Linear};
use crate::cache::{Cache, Slot};
use crate::error::Result;
use crate::model::weights::Weights;
use crate::model::{dense, vector, Model};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvConfig {
    pub layers: usize,
    /// C.
    pub channels: usize,
    /// K.
    pub taps: usize,
    /// e, width of the embedding.
    pub embed: usize,
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

pub struct LinearizedConv<B: Backend> {
    config: ConvConfig,
    table: B::Tensor,
    fc1: Linear<B::Tensor>,
    /// `[1, 2C, K·C]` each, the tap the slower index.
    convolutions: Vec<Linear<B::Tensor>>,
    fc2: Linear<B::Tensor>,
    fc3: Linear<B::Tensor>,
}

impl<B: Backend> LinearizedConv<B> {
    pub fn load(b: &B, config: &ConvConfig, weights: &Weights) -> Result<Self> {
        let &ConvConfig { layers, channels: c, embed: e, vocab, .. } = config;
        let table = b.upload([1, vocab, e], &weights.get("embed_tokens.weight", &[vocab, e])?)?;
        let fc1 = dense(b, weights, "fc1", c, e)?;
        let convolutions =
            (0..layers).map(|layer| linearised(b, weights, layer, config)).collect::<Result<_>>()?;
        let (fc2, fc3) = (dense(b, weights, "fc2", e, c)?, dense(b, weights, "fc3", vocab, e)?);
        Ok(LinearizedConv { config: config.clone(), table, fc1, convolutions, fc2, fc3 })
    }
}

impl<B: Backend> Model<B> for LinearizedConv<B> {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot { width: self.config.channels, window: Some(self.config.taps) }; self.config.layers]
    }

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        None
    }

    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        let (call, mut past) = cache.parts();
        let mut x = b.linear(&b.embed(call, &self.table, None)?, &self.fc1, Activation::None, None)?;
        for convolution in &self.convolutions {
            let new = Columns { tensor: &x, from: 0, width: self.config.channels };
            let rows = past.next_node().append(b, call, new)?;
            x = b.conv_glu(call, rows, convolution, self.config.taps)?;
        }
        let h = b.linear(&b.last_row(call, &x)?, &self.fc2, Activation::None, None)?;
        b.linear(&h, &self.fc3, Activation::None, None)
    }
}

/// `[K, C, 2C]` as stored → `[2C, K·C]` as read.
fn linearised<B: Backend>(
    b: &B,
    weights: &Weights,
    layer: usize,
    config: &ConvConfig,
) -> Result<Linear<B::Tensor>> {
    let (c, taps) = (config.channels, config.taps);
    let name = format!("convolutions.{layer}");
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
