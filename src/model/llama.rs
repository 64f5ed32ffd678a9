//! Llama's architecture (Touvron et al. 2023), and Mistral's, which adds a sliding window (Jiang et al.
//! 2023), with the tensor names of Hugging Face's `LlamaForCausalLM`:
//!
//! ```text
//! x = E[token]
//! per layer:  h = RMS(x);  q, k = rope(h·Wq), rope(h·Wk);  x += (softmax(mask(q·kᵀ/√D))·v)·Wo
//!             h = RMS(x);                                      x += (silu(h·Wgate) ⊙ h·Wup)·Wdown
//! logits = RMS(x)·Wheadᵀ
//! ```
//!
//! Keys and values have `kv_heads` heads, each of which serves several of the queries'; keys are turned
//! before they are kept.

use std::rc::Rc;

use serde_json::{json, Value};

use crate::backend::{Backend, Linear, Mask};
use crate::error::Result;
use crate::layer::{position, Attention, GatedMlp, Sequential};
use crate::model::decoder::{normed, DecoderOnly};
use crate::model::weights::Weights;
use crate::model::Node;
use crate::model::{rms_norm, stacked};

/// Sizes and variants of Llama and Mistral.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// N.
    pub layers: usize,
    /// d, of the residual stream.
    pub width: usize,
    /// Of the queries.
    pub heads: usize,
    /// Of keys and values, a divisor of `heads`.
    pub kv_heads: usize,
    /// D, numbers in a head.
    pub size: usize,
    /// F, of the gated unit.
    pub hidden: usize,
    /// V, tokens.
    pub vocab: usize,
    /// The most that it can tell apart.
    pub positions: usize,
    /// Of the norms.
    pub eps: f64,
    /// The base of the rotary wavelengths.
    pub theta: f64,
    /// Whether the embedding is multiplied with at the end.
    pub tied: bool,
    /// Whether the attention's projections have biases.
    pub attention_bias: bool,
    /// Whether the gated unit's products have biases.
    pub mlp_bias: bool,
    /// The latest positions that are seen, where not all are.
    pub window: Option<usize>,
}

impl LlamaConfig {
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let &LlamaConfig { width: d, hidden: f, vocab, .. } = self;
        let (q, kv) = (self.heads * self.size, self.kv_heads * self.size);
        let mut tensors = vec![("model.embed_tokens.weight".to_string(), vec![vocab, d])];
        for layer in 0..self.layers {
            let mut push = |name: &str, shape| tensors.push((format!("model.layers.{layer}.{name}"), shape));
            push("input_layernorm.weight", vec![d]);
            for (name, out, inner) in [("q", q, d), ("k", kv, d), ("v", kv, d), ("o", d, q)] {
                push(&format!("self_attn.{name}_proj.weight"), vec![out, inner]);
                if self.attention_bias {
                    push(&format!("self_attn.{name}_proj.bias"), vec![out]);
                }
            }
            push("post_attention_layernorm.weight", vec![d]);
            for (name, out, inner) in [("gate", f, d), ("up", f, d), ("down", d, f)] {
                push(&format!("mlp.{name}_proj.weight"), vec![out, inner]);
                if self.mlp_bias {
                    push(&format!("mlp.{name}_proj.bias"), vec![out]);
                }
            }
        }
        tensors.push(("model.norm.weight".into(), vec![d]));
        if !self.tied {
            tensors.push(("lm_head.weight".into(), vec![vocab, d]));
        }
        tensors
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let (d, f) = (self.width, self.hidden);
        let (q, kv) = (self.heads * self.size, self.kv_heads * self.size);
        let layer = [
            Node::Dense { inner: d, out: q + 2 * kv },
            Node::Attention { width: q, kept: kv, window: self.window },
            Node::Dense { inner: q, out: d },
            Node::Dense { inner: d, out: 2 * f },
            Node::Dense { inner: f, out: d },
        ];
        let mut nodes = layer.repeat(self.layers);
        nodes.push(Node::Last { inner: d, out: self.vocab });
        nodes
    }

    pub(super) fn to_json(&self) -> Value {
        let (name, kind) = match self.window {
            None => ("LlamaForCausalLM", "llama"),
            Some(_) => ("MistralForCausalLM", "mistral"),
        };
        json!({
            "architectures": [name],
            "model_type": kind,
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.size,
            "intermediate_size": self.hidden,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.positions,
            "rms_norm_eps": self.eps,
            "rope_theta": self.theta,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "sliding_window": self.window,
        })
    }
}

pub(super) fn load<B: Backend>(b: &B, config: &LlamaConfig, weights: &Weights) -> Result<DecoderOnly<B>> {
    let &LlamaConfig { width: d, heads, kv_heads, size, hidden: f, vocab, positions, .. } = config;
    let mask = config.window.map_or(Mask::Causal, Mask::SlidingWindow);
    let eps = config.eps as f32;
    let cos_sin = b.upload([1, positions, size], &position::rotary(config.theta, positions, size))?;
    let cos_sin = Rc::new(cos_sin);
    let mut blocks = Vec::with_capacity(2 * config.layers);
    for layer in 0..config.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let of = |names: &[(&str, usize)], inner, bias| {
            let names: Vec<_> = names.iter().map(|(n, out)| (name(&format!("{n}_proj")), *out)).collect();
            stacked(b, weights, &names, inner, bias)
        };
        let norm = rms_norm(b, weights, &name("input_layernorm"), d, eps)?;
        let (q, kv, bias) = (heads * size, kv_heads * size, config.attention_bias);
        let qkv = of(&[("self_attn.q", q), ("self_attn.k", kv), ("self_attn.v", kv)], d, bias)?;
        let out = of(&[("self_attn.o", d)], q, bias)?;
        let cos_sin = Some(cos_sin.clone());
        blocks.push(normed(norm, Attention { qkv, out, heads, kv_heads, size, cos_sin, slopes: None, mask }));
        let norm = rms_norm(b, weights, &name("post_attention_layernorm"), d, eps)?;
        let gate_up = of(&[("mlp.gate", f), ("mlp.up", f)], d, config.mlp_bias)?;
        let down = of(&[("mlp.down", d)], f, config.mlp_bias)?;
        blocks.push(normed(norm, GatedMlp { gate_up, down }));
    }
    let last = rms_norm(b, weights, "model.norm", d, eps)?;
    let table = |name: &str| -> Result<Linear<B::Tensor>> {
        Ok(Linear { weight: b.upload([1, vocab, d], &weights.get(name, &[vocab, d])?)?, bias: None })
    };
    Ok(DecoderOnly {
        table: table("model.embed_tokens.weight")?,
        positions: None,
        blocks: Sequential(blocks),
        last: Sequential(vec![Box::new(last)]),
        head: if config.tied { None } else { Some(table("lm_head.weight")?) },
        vocab,
        max_positions: Some(positions),
    })
}
