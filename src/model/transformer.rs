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

use crate::backend::{Activation, Backend, Columns, Linear};
use crate::cache::{Cache, Slot};
use crate::error::Result;
use crate::model::weights::Weights;
use crate::model::{vector, Model};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformerConfig {
    pub layers: usize,
    /// d, of the residual stream.
    pub width: usize,
    pub heads: usize,
    /// F, of the multi-layer perceptron.
    pub hidden: usize,
    pub vocab: usize,
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

pub struct Transformer<B: Backend> {
    config: TransformerConfig,
    positions: B::Tensor,
    blocks: Vec<Block<B::Tensor>>,
    norm: Norm<B::Tensor>,
    /// The embedding table, `[1, vocab, width]`, tied: looked up first and multiplied last.
    table: Linear<B::Tensor>,
}

struct Block<T> {
    norm_1: Norm<T>,
    qkv: Linear<T>,
    out: Linear<T>,
    norm_2: Norm<T>,
    up: Linear<T>,
    down: Linear<T>,
}

struct Norm<T> {
    gain: T,
    bias: T,
}

impl<B: Backend> Transformer<B> {
    pub fn load(b: &B, config: &TransformerConfig, weights: &Weights) -> Result<Self> {
        let (d, f) = (config.width, config.hidden);
        let positions =
            b.upload([1, config.positions, d], &weights.get("wpe.weight", &[config.positions, d])?)?;
        let block = |layer: usize| -> Result<Block<B::Tensor>> {
            let name = |part: &str| format!("h.{layer}.{part}");
            Ok(Block {
                norm_1: norm(b, weights, &name("ln_1"), d)?,
                qkv: transposed(b, weights, &name("attn.c_attn"), d, 3 * d)?,
                out: transposed(b, weights, &name("attn.c_proj"), d, d)?,
                norm_2: norm(b, weights, &name("ln_2"), d)?,
                up: transposed(b, weights, &name("mlp.c_fc"), d, f)?,
                down: transposed(b, weights, &name("mlp.c_proj"), f, d)?,
            })
        };
        let blocks = (0..config.layers).map(block).collect::<Result<_>>()?;
        let norm = norm(b, weights, "ln_f", d)?;
        let weight = b.upload([1, config.vocab, d], &weights.get("wte.weight", &[config.vocab, d])?)?;
        Ok(Transformer {
            config: config.clone(),
            positions,
            blocks,
            norm,
            table: Linear { weight, bias: None },
        })
    }
}

impl<B: Backend> Model<B> for Transformer<B> {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot { width: self.config.width, window: None }; 2 * self.config.layers]
    }

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.config.positions)
    }

    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        let (call, mut past) = cache.parts();
        let width = self.config.width;
        let mut x = b.embed(call, &self.table.weight, Some(&self.positions))?;
        for block in &self.blocks {
            let qkv = b.linear(
                &b.layer_norm(&x, &block.norm_1.gain, &block.norm_1.bias)?,
                &block.qkv,
                Activation::None,
                None,
            )?;
            let [q, k, v] = [0, 1, 2].map(|part| Columns { tensor: &qkv, from: part * width, width });
            let (k, v) = (past.next_node().append(b, call, k)?, past.next_node().append(b, call, v)?);
            let h = b.attention(call, q, k, v, self.config.heads)?;
            x = b.linear(&h, &block.out, Activation::None, Some(&x))?;
            let h = b.layer_norm(&x, &block.norm_2.gain, &block.norm_2.bias)?;
            let h = b.linear(&h, &block.up, Activation::Gelu, None)?;
            x = b.linear(&h, &block.down, Activation::None, Some(&x))?;
        }
        let last = b.last_row(call, &x)?;
        b.linear(&b.layer_norm(&last, &self.norm.gain, &self.norm.bias)?, &self.table, Activation::None, None)
    }
}

fn norm<B: Backend>(b: &B, weights: &Weights, name: &str, width: usize) -> Result<Norm<B::Tensor>> {
    Ok(Norm {
        gain: vector(b, weights, &format!("{name}.weight"), width)?,
        bias: vector(b, weights, &format!("{name}.bias"), width)?,
    })
}

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
