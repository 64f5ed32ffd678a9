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

use super::fields::{activation_name, Fields};
use super::loader::{parameters, Loader};
use super::weights::{Parameter, Spread};
use super::{Model, ModelConfig, Node};
use crate::backend::{Activation, Backend, Call, Linear, Mask, Norm};
use crate::cache::{Cache, EncoderOutput, LayerContext};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::position::{sinusoid, Sinusoid};
use crate::layer::{Attention, CrossAttention, Layer, Mlp, Residual, Sequential};
use crate::strategy::{Slot, Strategy};

/// The sizes and choices of an encoder-decoder transformer.
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

/// GPT-2's, and Marian's.
const SPREAD: Spread = Spread::around_zero(0.02);

impl ModelConfig for EncoderDecoderConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let (layers, width, heads, vocab, positions) = match shape {
            ShapeName::Tiny => (2, 32, 4, 97, 64),
            ShapeName::FlaxToy => (3, 256, 8, 1024, 256),
            ShapeName::Wmt => (6, 1024, 16, 32_000, 256),
            _ => return None,
        };
        Some(EncoderDecoderConfig {
            encoder_layers: layers,
            decoder_layers: layers,
            width,
            encoder_heads: heads,
            decoder_heads: heads,
            encoder_hidden: 4 * width,
            decoder_hidden: 4 * width,
            vocab,
            positions,
            activation: Activation::Relu,
            norm_first: true,
            sinusoid: Sinusoid::Tensor2Tensor,
            scaled: false,
            logits_bias: false,
            start: 0,
        })
    }

    /// Marian's, of which an absent field has the original's value; or a kind of our own, with the norms before
    /// each part, which states all sizes.
    fn parse(json: &Fields) -> Result<Self, String> {
        let is_marian = json.one_of("model_type", &["marian", "encoder-decoder"])? == "marian";
        let size = |field: &str, marians: usize| match is_marian {
            true => json.size_or(field, marians),
            false => json.size(field),
        };
        json.only("share_encoder_decoder_embeddings", json!(true))?;
        json.only("tie_word_embeddings", json!(true))?;
        if is_marian {
            json.only("normalize_before", json!(false))?;
            json.only("normalize_embedding", json!(false))?;
            json.only("add_final_layer_norm", json!(false))?;
            json.only("static_position_embeddings", json!(true))?;
            json.only("position_embedding", json!("paper"))?;
            json.only("final_logits_bias", json!(true))?;
        }
        let d = json.spelling(["hidden_size", "d_model"]);
        let (width, vocab) = (size(d, 1024)?, size("vocab_size", 58_101)?);
        if let Some(other) = json.size_or_none("decoder_vocab_size")?.filter(|other| *other != vocab) {
            return Err(format!(
                "decoder_vocab_size = {other} is not implemented beside vocab_size = {vocab}"
            ));
        }
        if width % 2 != 0 {
            return Err(format!("{d} = {width}: half of a position's numbers are sines, half cosines"));
        }
        let heads = |field: &str| {
            let heads = size(field, 16)?;
            match width % heads {
                0 => Ok(heads),
                _ => Err(format!("{d} = {width} cannot be divided among {field} = {heads}")),
            }
        };
        let start = json.index_or("decoder_start_token_id", if is_marian { 58_100 } else { 0 })?;
        if start >= vocab {
            return Err(format!("decoder_start_token_id = {start} is outside of vocab_size = {vocab}"));
        }
        Ok(EncoderDecoderConfig {
            encoder_layers: size(json.spelling(["num_hidden_layers", "encoder_layers"]), 12)?,
            decoder_layers: size("decoder_layers", 12)?,
            width,
            encoder_heads: heads(json.spelling(["num_attention_heads", "encoder_attention_heads"]))?,
            decoder_heads: heads("decoder_attention_heads")?,
            encoder_hidden: size("encoder_ffn_dim", 4096)?,
            decoder_hidden: size("decoder_ffn_dim", 4096)?,
            vocab,
            positions: size("max_position_embeddings", 1024)?,
            activation: json.activation("activation_function", "gelu", Activation::ALL)?,
            norm_first: json.flag("normalize_before")?,
            sinusoid: match json.has("position_embedding") {
                false => Sinusoid::Paper,
                true => match json.one_of("position_embedding", &["paper", "tensor2tensor"])? {
                    "paper" => Sinusoid::Paper,
                    _ => Sinusoid::Tensor2Tensor,
                },
            },
            scaled: json.flag("scale_embedding")?,
            logits_bias: is_marian || json.flag("final_logits_bias")?,
            start: start as u32,
        })
    }

    fn harmless() -> &'static [&'static str] {
        &[
            // training
            "dropout",
            "attention_dropout",
            "activation_dropout",
            "encoder_layerdrop",
            "decoder_layerdrop",
            "classif_dropout",
            "init_std",
            // BART's, which Marian's code has never read
            "add_bias_logits",
            "extra_pos_embeddings",
        ]
    }

    fn to_json(&self) -> Value {
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
            "activation_function": activation_name(self.activation),
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

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.positions)
    }

    fn start(&self) -> u32 {
        self.start
    }

    fn nodes(&self) -> Vec<Node> {
        let (d, f) = (self.width, self.decoder_hidden);
        let layer = [
            Node::Dense { inner: d, out: 3 * d },
            Node::Attention { width: d, kept: d, kv_heads: self.decoder_heads, window: None },
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

    /// The encoder, and the projections of its result unless they are used again.
    fn untouched(&self, strategy: Strategy, _: usize, _: usize, weights: Dtype) -> usize {
        let projection =
            |name: &str| name.contains("encoder_attn.k_proj") || name.contains("encoder_attn.v_proj");
        let kept = strategy != Strategy::Reprojected;
        let untouched =
            |p: &&Parameter| p.name().starts_with("model.encoder.") || (kept && projection(p.name()));
        parameters(|l| self.load(l)).iter().filter(untouched).map(|p| p.bytes(weights)).sum()
    }

    fn source_width(&self, strategy: Strategy) -> usize {
        match strategy {
            Strategy::Reprojected => self.width,
            _ => 2 * self.width * self.decoder_layers,
        }
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &EncoderDecoderConfig { width: d, vocab, norm_first, .. } = self;
        let config = EncoderDecoderConfig { positions: l.positions(self.positions), ..self.clone() };
        let positions = l.constant([1, config.positions, d], || config.position_table())?;
        let last = |side: &str| match norm_first {
            true => l.norm(&format!("model.{side}.layer_norm"), d, EPS).map(Some),
            false => Ok(None),
        };
        let mut encoder: Vec<Box<dyn Layer<B>>> = Vec::new();
        for layer in 0..self.encoder_layers {
            let name = |part: &str| format!("model.encoder.layers.{layer}.{part}");
            let norm = |part: &str| l.norm(&name(part), d, EPS);
            let self_attention = attention(l, &name("self_attn"), d, self.encoder_heads, Mask::Full)?;
            encoder.push(part(norm_first, norm("self_attn_layer_norm")?, self_attention));
            let mlp = self.mlp(l, &name, self.encoder_hidden)?;
            encoder.push(part(norm_first, norm("final_layer_norm")?, mlp));
        }
        if let Some(norm) = last("encoder")? {
            encoder.push(Box::new(norm));
        }
        let (mut decoder, mut cross_attentions) = (Vec::new(), Vec::new());
        let heads = self.decoder_heads;
        for number in 0..self.decoder_layers {
            let name = |part: &str| format!("model.decoder.layers.{number}.{part}");
            let norm = |part: &str| l.norm(&name(part), d, EPS);
            let remembers = attention(l, &name("self_attn"), d, heads, Mask::Causal)?;
            decoder.push(part(norm_first, norm("self_attn_layer_norm")?, remembers));
            let of = |parts: &[&str]| projections(l, &name("encoder_attn"), parts, d);
            let (q, kv, out) = (of(&["q"])?, of(&["k", "v"])?, of(&["out"])?);
            let cross_attention = Rc::new(CrossAttention { q, kv, out, heads, number });
            decoder.push(part(norm_first, norm("encoder_attn_layer_norm")?, cross_attention.clone()));
            cross_attentions.push(cross_attention);
            let mlp = self.mlp(l, &name, self.decoder_hidden)?;
            decoder.push(part(norm_first, norm("final_layer_norm")?, mlp));
        }
        let bias = match self.logits_bias {
            true => {
                let bias = l.numbers("final_logits_bias", &[1, vocab], Spread::BIAS)?;
                Some(l.upload([1, 1, vocab], bias)?)
            }
            false => None,
        };
        let names = ["shared", "encoder.embed_tokens", "decoder.embed_tokens"];
        let names = names.map(|name| format!("model.{name}.weight"));
        let [shared, encoders, decoders] = names.each_ref().map(String::as_str);
        let weight = l.tied_table(&[shared, encoders, decoders, "lm_head.weight"], [vocab, d], SPREAD)?;
        let norm = last("decoder")?;
        for side in ["encoder", "decoder"] {
            let name = format!("model.{side}.embed_positions.weight");
            l.may_hold_computed(&name, &[self.positions, d], || sinusoid(self.sinusoid, self.positions, d))?;
        }
        Ok(Box::new(EncoderDecoder {
            config,
            positions,
            encoder: Sequential(encoder),
            decoder: Sequential(decoder),
            cross_attentions,
            norm,
            head: Linear { norm: None, weight, bias },
        }))
    }
}

impl EncoderDecoderConfig {
    /// `[positions, width]`, over √d where embeddings are scaled.
    fn position_table(&self) -> Result<Vec<f32>> {
        let mut table = sinusoid(self.sinusoid, self.positions, self.width)?;
        if self.scaled {
            table.iter_mut().for_each(|x| *x /= (self.width as f32).sqrt());
        }
        Ok(table)
    }

    fn mlp<B: Backend>(
        &self,
        l: &Loader<'_, B>,
        name: &impl Fn(&str) -> String,
        hidden: usize,
    ) -> Result<Mlp<B>> {
        let up = l.dense(&name("fc1"), [hidden, self.width], SPREAD)?;
        let down = l.dense(&name("fc2"), [self.width, hidden], SPREAD)?;
        Ok(Mlp { up, activation: self.activation, down })
    }
}

/// Self-attention of width d.
fn attention<B: Backend>(
    l: &Loader<'_, B>,
    name: &str,
    d: usize,
    heads: usize,
    mask: Mask,
) -> Result<Attention<B>> {
    let qkv = projections(l, name, &["q", "k", "v"], d)?;
    let (out, size) = (projections(l, name, &["out"], d)?, d / heads);
    Ok(Attention::multi_head(qkv, out, heads, size, mask))
}

/// Some of an attention's projections, each from d to d numbers, one below the other.
fn projections<B: Backend>(
    l: &Loader<'_, B>,
    name: &str,
    parts: &[&str],
    d: usize,
) -> Result<Linear<B::Tensor>> {
    let parts: Vec<_> = parts.iter().map(|part| (format!("{name}.{part}_proj"), d)).collect();
    l.stacked(&parts, d, SPREAD, true)
}

struct EncoderDecoder<B: Backend> {
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
        true => Box::new(Residual(Sequential(vec![Box::new(norm), Box::new(layer)]))),
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
        let mut last = b.last_row(call, x)?;
        if let Some(norm) = &self.norm {
            last = b.norm(&last, norm)?;
        }
        b.linear(&last, &self.head, Activation::None, None)
    }
}
