//! The transformer encoder-decoder (Vaswani et al. 2017), with the tensor names of Hugging Face's
//! `MarianMTModel`: norms before each part, as in Flax's translation example and `torch.nn.Transformer`
//! with `norm_first`, or after it, as in Marian.
//!
//! ```text
//! encoder, once:  x = E[token]·s + P[position];  per layer:  x += SA(LN(x));  x += MLP(LN(x))
//! decoder:        x likewise;  per layer:  x += causal SA(LN(x));  x += Look(LN(x), encoder's x);  x += MLP(LN(x))
//! logits = LN(x)·Eᵀ + b              norms after:  x = LN(x + SA(x)), .., and none at the end
//! ```
//!
//! s is 1, or √d. The decoder's self-attention is cached by a strategy; keys and values of the encoder's
//! result are projected once and kept (fairseq's `static_kv`), or, to see what that saves, at every step:
//! [`Strategy::Reprojected`].

use std::rc::Rc;

use serde_json::{json, Value};

use crate::backend::{Activation, Backend, Call, Linear, Mask, Norm};
use crate::cache::{Cache, EncoderOutput, LayerContext};
use crate::error::Result;
use crate::layer::position::{sinusoid, Sinusoid};
use crate::layer::{Attention, CrossAttention, Layer, Mlp, Residual, Sequential};
use crate::model::weights::Weights;
use crate::model::Node;
use crate::model::{norm, stacked, Model};
use crate::strategy::Slot;
use crate::strategy::Strategy;

/// Sizes and variants of a transformer with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderDecoderConfig {
    /// N, of the encoder.
    pub encoder_layers: usize,
    /// N, of the decoder.
    pub decoder_layers: usize,
    /// d, of the residual stream.
    pub width: usize,
    /// H, of the encoder.
    pub encoder_heads: usize,
    /// H, of the decoder, in both of its attentions.
    pub decoder_heads: usize,
    /// F, of the multi-layer perceptrons.
    pub encoder_hidden: usize,
    /// F, of the decoder.
    pub decoder_hidden: usize,
    /// Tokens, the same on both sides.
    pub vocab: usize,
    /// The most that it can tell apart, on either side.
    pub positions: usize,
    /// Inside of the perceptrons.
    pub activation: Activation,
    /// Norms before each part, and one at the end; or after each part.
    pub norm_first: bool,
    /// Whose order of the position's sines and cosines.
    pub sinusoid: Sinusoid,
    /// Whether embeddings are scaled by √d.
    pub scaled: bool,
    /// Whether there is a bias of the logits.
    pub logits_bias: bool,
    /// What a decode begins with.
    pub start: u32,
}

const EPS: f32 = 1e-5;

/// `prefix` of an attention's four projections.
fn attention_tensors(prefix: &str, d: usize) -> Vec<(String, Vec<usize>)> {
    let part = |part: &str| {
        let name = format!("{prefix}.{part}_proj");
        [(format!("{name}.weight"), vec![d, d]), (format!("{name}.bias"), vec![d])]
    };
    ["q", "k", "v", "out"].iter().flat_map(|p| part(p)).collect()
}

fn norm_tensors(name: &str, d: usize) -> [(String, Vec<usize>); 2] {
    [(format!("{name}.weight"), vec![d]), (format!("{name}.bias"), vec![d])]
}

impl EncoderDecoderConfig {
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let d = self.width;
        let mut tensors = vec![("model.shared.weight".to_string(), vec![self.vocab, d])];
        for (side, layers, f) in [
            ("encoder", self.encoder_layers, self.encoder_hidden),
            ("decoder", self.decoder_layers, self.decoder_hidden),
        ] {
            for layer in 0..layers {
                let name = |part: &str| format!("model.{side}.layers.{layer}.{part}");
                tensors.extend(attention_tensors(&name("self_attn"), d));
                tensors.extend(norm_tensors(&name("self_attn_layer_norm"), d));
                if side == "decoder" {
                    tensors.extend(attention_tensors(&name("encoder_attn"), d));
                    tensors.extend(norm_tensors(&name("encoder_attn_layer_norm"), d));
                }
                tensors.extend([
                    (name("fc1.weight"), vec![f, d]),
                    (name("fc1.bias"), vec![f]),
                    (name("fc2.weight"), vec![d, f]),
                    (name("fc2.bias"), vec![d]),
                ]);
                tensors.extend(norm_tensors(&name("final_layer_norm"), d));
            }
            if self.norm_first {
                tensors.extend(norm_tensors(&format!("model.{side}.layer_norm"), d));
            }
        }
        if self.logits_bias {
            tensors.push(("final_logits_bias".into(), vec![1, self.vocab]));
        }
        tensors
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let (d, f) = (self.width, self.decoder_hidden);
        let layer = [
            Node::Dense { inner: d, out: 3 * d },
            Node::Attention { width: d, kept: d, window: None },
            Node::Dense { inner: d, out: d },
            Node::Dense { inner: d, out: d },
            Node::CrossAttention { width: d, kept: d, inner: Some(d) },
            Node::Dense { inner: d, out: d },
            Node::Dense { inner: d, out: f },
            Node::Dense { inner: f, out: d },
        ];
        let mut nodes = layer.repeat(self.decoder_layers);
        nodes.push(Node::Last { inner: d, out: self.vocab });
        nodes
    }

    /// Numbers of the encoder's weights, and of the projections of its result unless they are used again.
    pub(super) fn untouched(&self, strategy: Strategy) -> usize {
        let encoder = |name: &str| name.starts_with("model.encoder.");
        let projection =
            |name: &str| name.contains("encoder_attn.k_proj") || name.contains("encoder_attn.v_proj");
        let kept = strategy != Strategy::Reprojected;
        let untouched = |name: &str| encoder(name) || (kept && projection(name));
        let tensors = self.tensors();
        tensors
            .iter()
            .filter(|(name, _)| untouched(name))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Numbers kept of each row of the source.
    pub(super) fn source_width(&self, strategy: Strategy) -> usize {
        match strategy {
            Strategy::Reprojected => self.width,
            _ => 2 * self.width * self.decoder_layers,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "model_type": "encoder-decoder",
            "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers,
            "d_model": self.width,
            "encoder_attention_heads": self.encoder_heads,
            "decoder_attention_heads": self.decoder_heads,
            "encoder_ffn_dim": self.encoder_hidden,
            "decoder_ffn_dim": self.decoder_hidden,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.positions,
            "activation_function": match self.activation {
                Activation::None => "linear",
                Activation::Gelu => "gelu_new",
                Activation::Relu => "relu",
                Activation::Silu => "swish",
            },
            "normalize_before": self.norm_first,
            "position_embedding": match self.sinusoid {
                Sinusoid::Paper => "paper",
                Sinusoid::Tensor2Tensor => "tensor2tensor",
            },
            "scale_embedding": self.scaled,
            "final_logits_bias": self.logits_bias,
            "decoder_start_token_id": self.start,
        })
    }
}

/// A transformer with a source, with its weights on a backend.
pub struct EncoderDecoder<B: Backend> {
    config: EncoderDecoderConfig,
    /// Over √d where embeddings are scaled, so that one factor serves for both.
    positions: B::Tensor,
    encoder: Sequential<B>,
    decoder: Sequential<B>,
    /// The same that the decoder consists of, to project the source for them.
    cross_attentions: Vec<Rc<CrossAttention<B>>>,
    norm: Option<Norm<B::Tensor>>,
    /// The table, `[1, vocab, d]`, with the bias of the logits.
    head: Linear<B::Tensor>,
}

/// `norm(x + layer(x))`
struct NormedAfter<B: Backend, L> {
    layer: Residual<L>,
    norm: Norm<B::Tensor>,
}

impl<B: Backend, L: Layer<B>> Layer<B> for NormedAfter<B, L> {
    fn slots(&self) -> Vec<Slot> {
        self.layer.slots()
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let x = self.layer.call(context, x)?;
        context.backend().norm(&x, &self.norm)
    }
}

impl<B: Backend> EncoderDecoder<B> {
    /// Puts the weights on the backend, in the order a step reads them.
    pub fn load(b: &B, config: &EncoderDecoderConfig, weights: &Weights) -> Result<Self> {
        let &EncoderDecoderConfig { width: d, vocab, positions: most, norm_first, activation, .. } = config;
        let mut positions = sinusoid(config.sinusoid, most, d);
        if config.scaled {
            positions.iter_mut().for_each(|x| *x /= (d as f32).sqrt());
        }
        let positions = b.upload([1, most, d], &positions)?;
        let of = |name: &str, parts: &[&str], out: usize, inner: usize| {
            let parts: Vec<_> = parts.iter().map(|part| (format!("{name}{part}"), out)).collect();
            stacked(b, weights, &parts, inner, true)
        };
        let last = |side: &str| match norm_first {
            true => norm(b, weights, &format!("model.{side}.layer_norm"), d, EPS).map(Some),
            false => Ok(None),
        };
        let attention = |name: &str, heads: usize, mask: Mask| -> Result<Attention<B>> {
            let qkv = of(name, &["q_proj", "k_proj", "v_proj"], d, d)?;
            let (out, size) = (of(name, &["out_proj"], d, d)?, d / heads);
            Ok(Attention { qkv, out, heads, kv_heads: heads, size, cos_sin: None, slopes: None, mask })
        };
        let mlp = |name: &str, hidden| -> Result<Mlp<B>> {
            let (up, down) = (of(name, &["fc1"], hidden, d)?, of(name, &["fc2"], d, hidden)?);
            Ok(Mlp { up, activation, down })
        };
        let mut encoder: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..config.encoder_layers {
            let name = |part: &str| format!("model.encoder.layers.{layer}.{part}");
            let norm = |part: &str| norm(b, weights, &name(part), d, EPS);
            let self_attention = attention(&name("self_attn."), config.encoder_heads, Mask::Full)?;
            encoder.push(part(norm_first, norm("self_attn_layer_norm")?, self_attention));
            encoder.push(part(norm_first, norm("final_layer_norm")?, mlp(&name(""), config.encoder_hidden)?));
        }
        if let Some(norm) = last("encoder")? {
            encoder.push(Box::new(norm));
        }
        let (mut decoder, mut cross_attentions) = (Vec::new(), Vec::new());
        let heads = config.decoder_heads;
        for number in 0..config.decoder_layers {
            let name = |part: &str| format!("model.decoder.layers.{number}.{part}");
            let norm = |part: &str| norm(b, weights, &name(part), d, EPS);
            let remembers = attention(&name("self_attn."), heads, Mask::Causal)?;
            decoder.push(part(norm_first, norm("self_attn_layer_norm")?, remembers));
            let cross_attention = Rc::new(CrossAttention {
                q: of(&name("encoder_attn."), &["q_proj"], d, d)?,
                kv: of(&name("encoder_attn."), &["k_proj", "v_proj"], d, d)?,
                out: of(&name("encoder_attn."), &["out_proj"], d, d)?,
                heads,
                number,
            });
            decoder.push(part(norm_first, norm("encoder_attn_layer_norm")?, cross_attention.clone()));
            cross_attentions.push(cross_attention);
            decoder.push(part(norm_first, norm("final_layer_norm")?, mlp(&name(""), config.decoder_hidden)?));
        }
        let bias = match config.logits_bias {
            true => Some(b.upload([1, 1, vocab], &weights.get("final_logits_bias", &[1, vocab])?)?),
            false => None,
        };
        let weight = b.upload([1, vocab, d], &weights.get("model.shared.weight", &[vocab, d])?)?;
        Ok(EncoderDecoder {
            config: config.clone(),
            positions,
            encoder: Sequential(encoder),
            decoder: Sequential(decoder),
            cross_attentions,
            norm: last("decoder")?,
            head: Linear { weight, bias },
        })
    }

    fn embed(&self, b: &B, call: &Call<B::Input>) -> Result<B::Tensor> {
        let x = b.embed(call, &self.head.weight, Some(&self.positions))?;
        match self.config.scaled {
            true => b.add(&x, &x, (self.config.width as f32).sqrt() / 2.0),
            false => Ok(x),
        }
    }
}

/// `x + layer(norm(x))`, or `norm(x + layer(x))`.
fn part<B: Backend>(
    norm_first: bool,
    norm: Norm<B::Tensor>,
    layer: impl Layer<B> + 'static,
) -> Box<dyn Layer<B>> {
    match norm_first {
        true => super::decoder::normed(norm, layer),
        false => Box::new(NormedAfter { layer: Residual(layer), norm }),
    }
}

impl<B: Backend> Model<B> for EncoderDecoder<B> {
    fn slots(&self) -> Vec<Slot> {
        self.decoder.slots()
    }

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.config.positions)
    }

    fn encode(&self, b: &B, strategy: Strategy, call: Call<B::Input>) -> Result<EncoderOutput<B>> {
        let encoded = self.encoder.call(&mut LayerContext::none(b, &call), &self.embed(b, &call)?)?;
        let (mut kept, mut rows) = (Vec::new(), Vec::new());
        match strategy {
            Strategy::Reprojected => kept.push(b.duplicate(&encoded)?),
            _ => {
                for cross_attention in &self.cross_attentions {
                    rows.push(b.duplicate(&cross_attention.project(b, &encoded)?)?);
                }
            }
        }
        let sentences = (0..call.batch).collect();
        Ok(EncoderOutput { call, sentences, encoded: kept, rows })
    }

    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        let mut context = cache.context(b);
        let call = context.call();
        let x = self.decoder.call(&mut context, &self.embed(b, call)?)?;
        let mut last = b.last_row(call, &x)?;
        if let Some(norm) = &self.norm {
            last = b.norm(&last, norm)?;
        }
        b.linear(&last, &self.head, Activation::None, None)
    }
}
