//! The two models. A model has one body, [`Model::extend`]; a forward pass, a prefill and a step
//! are three ways to call it, and a [`crate::session::Session`] is the caller.
//!
//! | name | transformer | linearized-conv |
//! |---|---|---|
//! | `tiny` | N=2 d=32 H=4 V=97, 64 positions | N=2 C=24 K=3 e=16 V=97 |
//! | `toy` | N=3 d=256 H=8 V=1024, 512 positions | N=3 C=256 K=4 e=256 V=1024 |
//! | `base` | N=6 d=512 H=8 V=8192, 1024 positions | N=8 C=512 K=4 e=256 V=8192 |
//! | `gpt2` | N=12 d=768 H=12 V=50257, 1024 positions | |
//! | `large` | | N=13 C=1268 K=4 e=128 V=50257 |

mod linearized_conv;
mod transformer;
pub mod weights;

pub use linearized_conv::{ConvConfig, LinearizedConv};
pub use transformer::{Transformer, TransformerConfig};

use crate::backend::{Backend, Linear};
use crate::cache::{Cache, Slot};
use crate::case::{ModelKind, ShapeName};
use crate::error::{Error, Result};
use weights::Weights;

/// A decoder: tokens in, logits of the next token out.
pub trait Model<B: Backend> {
    /// What its call nodes ask to have remembered, in call order. A layer called twice is two.
    fn slots(&self) -> Vec<Slot>;
    fn vocab(&self) -> usize;
    /// The most positions it can tell apart; `None` when it counts none.
    fn max_positions(&self) -> Option<usize>;
    /// Decodes the tokens staged in `cache`, which follow those it holds, and returns the logits
    /// after the wanted one, `[batch, 1, vocab]`.
    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor>;
}

/// Everything that fixes a model but its weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    Transformer(TransformerConfig),
    LinearizedConv(ConvConfig),
}

impl Config {
    /// The configuration that a named shape means.
    pub fn named(model: ModelKind, shape: ShapeName) -> Result<Config> {
        use ShapeName::*;
        let transformer = |layers, width, heads, vocab, positions| {
            let hidden = 4 * width;
            Ok(Config::Transformer(TransformerConfig { layers, width, heads, hidden, vocab, positions }))
        };
        let conv = |layers, channels, taps, embed, vocab| {
            Ok(Config::LinearizedConv(ConvConfig { layers, channels, taps, embed, vocab }))
        };
        match (model, shape) {
            (ModelKind::Transformer, Tiny) => transformer(2, 32, 4, 97, 64),
            (ModelKind::Transformer, Toy) => transformer(3, 256, 8, 1024, 512),
            (ModelKind::Transformer, Base) => transformer(6, 512, 8, 8192, 1024),
            (ModelKind::Transformer, Gpt2) => transformer(12, 768, 12, 50257, 1024),
            (ModelKind::LinearizedConv, Tiny) => conv(2, 24, 3, 16, 97),
            (ModelKind::LinearizedConv, Toy) => conv(3, 256, 4, 256, 1024),
            (ModelKind::LinearizedConv, Base) => conv(8, 512, 4, 256, 8192),
            (ModelKind::LinearizedConv, Large) => conv(13, 1268, 4, 128, 50257),
            (ModelKind::Transformer, Large) | (ModelKind::LinearizedConv, Gpt2) => Err(Error::Unknown {
                kind: "shape",
                name: format!("{model}-{shape}"),
                known: shapes(model).map(|shape| format!("{model}-{shape}")).collect(),
            }),
        }
    }

    pub fn kind(&self) -> ModelKind {
        match self {
            Config::Transformer(_) => ModelKind::Transformer,
            Config::LinearizedConv(_) => ModelKind::LinearizedConv,
        }
    }

    pub fn vocab(&self) -> usize {
        match self {
            Config::Transformer(config) => config.vocab,
            Config::LinearizedConv(config) => config.vocab,
        }
    }

    /// The same model with at most so many layers.
    fn with_layers_at_most(&self, most: usize) -> Config {
        let mut config = self.clone();
        match &mut config {
            Config::Transformer(TransformerConfig { layers, .. })
            | Config::LinearizedConv(ConvConfig { layers, .. }) => *layers = most.min(*layers),
        }
        config
    }

    /// The tensors of a checkpoint, named, shaped and ordered as in the files.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Config::Transformer(config) => config.tensors(),
            Config::LinearizedConv(config) => config.tensors(),
        }
    }

    /// Bytes of all weights, f32.
    pub fn weight_bytes(&self) -> usize {
        4 * self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum::<usize>()
    }

    /// `config.json`, as the readers of checkpoints know it.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Config::Transformer(config) => config.to_json(),
            Config::LinearizedConv(config) => config.to_json(),
        }
    }
}

/// The named shapes that a model has.
pub fn shapes(model: ModelKind) -> impl Iterator<Item = ShapeName> {
    ShapeName::ALL.iter().copied().filter(move |&shape| match shape {
        ShapeName::Gpt2 => model == ModelKind::Transformer,
        ShapeName::Large => model == ModelKind::LinearizedConv,
        ShapeName::Tiny | ShapeName::Toy | ShapeName::Base => true,
    })
}

/// The positions a named shape's sequences may have: its fixed-shape buffers have so many rows.
pub fn capacity(model: ModelKind, shape: ShapeName) -> usize {
    match shape {
        ShapeName::Tiny => 64,
        ShapeName::Toy => 512,
        ShapeName::Base | ShapeName::Gpt2 | ShapeName::Large => {
            debug_assert!(shapes(model).any(|s| s == shape));
            1024
        }
    }
}

/// Either model, chosen at run time.
pub enum AnyModel<B: Backend> {
    Transformer(Transformer<B>),
    LinearizedConv(LinearizedConv<B>),
}

impl<B: Backend> AnyModel<B> {
    /// Puts the weights on the backend, in the order a step reads them.
    pub fn load(b: &B, config: &Config, weights: &Weights) -> Result<Self> {
        Ok(match config {
            Config::Transformer(config) => AnyModel::Transformer(Transformer::load(b, config, weights)?),
            Config::LinearizedConv(config) => {
                AnyModel::LinearizedConv(LinearizedConv::load(b, config, weights)?)
            }
        })
    }
}

impl<B: Backend> Model<B> for AnyModel<B> {
    fn slots(&self) -> Vec<Slot> {
        match self {
            AnyModel::Transformer(model) => Model::<B>::slots(model),
            AnyModel::LinearizedConv(model) => Model::<B>::slots(model),
        }
    }
    fn vocab(&self) -> usize {
        match self {
            AnyModel::Transformer(model) => Model::<B>::vocab(model),
            AnyModel::LinearizedConv(model) => Model::<B>::vocab(model),
        }
    }
    fn max_positions(&self) -> Option<usize> {
        match self {
            AnyModel::Transformer(model) => Model::<B>::max_positions(model),
            AnyModel::LinearizedConv(model) => Model::<B>::max_positions(model),
        }
    }
    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        match self {
            AnyModel::Transformer(model) => model.extend(b, cache),
            AnyModel::LinearizedConv(model) => model.extend(b, cache),
        }
    }
}

/// A vector of parameters.
fn vector<B: Backend>(b: &B, weights: &Weights, name: &str, len: usize) -> Result<B::Tensor> {
    b.upload([1, 1, len], &weights.get(name, &[len])?)
}

/// A dense layer stored `[out, in]`, as PyTorch's `Linear` is: the order the kernels read.
fn dense<B: Backend>(
    b: &B,
    weights: &Weights,
    name: &str,
    out: usize,
    inner: usize,
) -> Result<Linear<B::Tensor>> {
    Ok(Linear {
        weight: b.upload([1, out, inner], &weights.get(&format!("{name}.weight"), &[out, inner])?)?,
        bias: Some(vector(b, weights, &format!("{name}.bias"), out)?),
    })
}

#[cfg(test)]
mod tests;
