//! The models. A model has one body, [`Model::extend`]; a forward pass, a prefill and a step
//! are three ways to call it, and a [`crate::session::Session`] is the caller.
//!
//! | name | transformer | linearized-conv | llama | retention |
//! |---|---|---|---|---|
//! | `tiny` | N=2 d=32 H=4 V=97, 64 positions | N=2 C=24 K=3 e=16 V=97 | N=2 d=32 H=4/2 F=44 V=97, 64 | N=2 d=32 H=4 F=44 V=97 |
//! | `toy` | N=3 d=256 H=8 V=1024, 512 positions | N=3 C=256 K=4 e=256 V=1024 | N=3 d=256 H=8/2 F=688 V=1024, 512 | N=3 d=256 H=8 F=688 V=1024 |
//! | `base` | N=6 d=512 H=8 V=8192, 1024 positions | N=8 C=512 K=4 e=256 V=8192 | N=6 d=512 H=8/2 F=1376 V=8192, 1024 | N=6 d=512 H=8 F=1376 V=8192 |
//! | `gpt2` | N=12 d=768 H=12 V=50257, 1024 positions | | | |
//! | `large` | | N=13 C=1268 K=4 e=128 V=50257 | | |
//!
//! | name | encoder-decoder | conv-seq2seq |
//! |---|---|---|
//! | `tiny` | N=2+2 d=32 H=4 V=97, 64 positions | N=2+2 C=24 K=3 e=16 V=97, 64 positions |
//! | `toy` | | N=3+3 C=256 K=3 e=256 V=1024, 512 positions |
//! | `base` | | N=8+8 C=512 K=3 e=256 V=8192, 1024 positions |
//! | `flax-toy` | N=3+3 d=256 H=8 V=1024, 256 positions | |
//! | `wmt` | N=6+6 d=1024 H=16 V=32000, 256 positions | |
//!
//! H=8/2 are eight heads of queries and two of keys and values. F is 4d where it is not said. Sources have 64
//! rows, those of `tiny` 16.

mod conv_seq2seq;
mod decoder;
mod encoder_decoder;
mod linearized_conv;
mod llama;
mod node;
mod retention;
mod transformer;
pub mod weights;

pub use conv_seq2seq::{ConvSeq2Seq, ConvSeq2SeqConfig};
pub use decoder::DecoderOnly;
pub use encoder_decoder::{EncoderDecoder, EncoderDecoderConfig};
pub use linearized_conv::ConvConfig;
pub use llama::LlamaConfig;
pub use node::Node;
pub use retention::RetentionConfig;
pub use transformer::TransformerConfig;

use crate::backend::{Activation, Backend, Call, Linear, Norm};
use crate::cache::{Cache, EncoderOutput};
use crate::case::{ModelKind, ShapeName};
use crate::error::{Error, Result};
use crate::layer::position::Sinusoid;
use crate::strategy::Slot;
use crate::strategy::Strategy;
use weights::Weights;

/// A decoder: tokens in, logits of the next token out.
pub trait Model<B: Backend> {
    /// What its call nodes ask to have remembered, in call order. A layer called twice is two.
    fn slots(&self) -> Vec<Slot>;
    /// V, tokens: as many logits.
    fn vocab(&self) -> usize;
    /// The most positions it can tell apart; `None` when it counts none.
    fn max_positions(&self) -> Option<usize>;
    /// What is to be looked at, made of the source that is staged in `call`, as the strategy keeps it.
    ///
    /// # Errors
    /// When it decodes from a prompt alone.
    fn encode(&self, _: &B, _: Strategy, _: Call<B::Input>) -> Result<EncoderOutput<B>> {
        Err(Error::Input("this model decodes from a prompt alone, and has no use for a source".into()))
    }
    /// Decodes the tokens staged in `cache`, which follow those it holds, and returns the logits
    /// after the wanted one, `[batch, 1, vocab]`.
    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor>;
}

/// Everything that fixes a model but its weights.
#[derive(Clone, Debug, PartialEq)]
pub enum Config {
    /// GPT-2's.
    Transformer(TransformerConfig),
    /// fairseq's convolutional language model.
    LinearizedConv(ConvConfig),
    /// Llama's or Mistral's.
    Llama(LlamaConfig),
    /// Llama's blocks with retention.
    Retention(RetentionConfig),
    /// A transformer with a source.
    /// A transformer with an encoder.
    EncoderDecoder(EncoderDecoderConfig),
    /// fairseq's convolutional translator.
    ConvSeq2Seq(ConvSeq2SeqConfig),
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
        let llama = |layers, width, heads, hidden, vocab, positions| {
            Ok(Config::Llama(LlamaConfig {
                layers,
                width,
                heads,
                kv_heads: 2,
                size: width / heads,
                hidden,
                vocab,
                positions,
                eps: 1e-5,
                theta: 10_000.0,
                tied: true,
                attention_bias: false,
                mlp_bias: false,
                window: None,
            }))
        };
        let retention = |layers, width, heads, hidden, vocab| {
            Ok(Config::Retention(RetentionConfig { layers, width, heads, hidden, vocab }))
        };
        let encoder_decoder = |layers, width, heads, vocab, positions| {
            Ok(Config::EncoderDecoder(EncoderDecoderConfig {
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
            }))
        };
        let conv_seq2seq = |layers, channels, taps, embed, vocab, positions: usize| {
            Ok(Config::ConvSeq2Seq(ConvSeq2SeqConfig {
                channels,
                encoder_taps: vec![taps; layers],
                decoder_taps: vec![taps; layers],
                embed,
                out_embed: embed,
                vocab,
                table: positions + 2,
                padding: 1,
            }))
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
            (ModelKind::Llama, Tiny) => llama(2, 32, 4, 44, 97, 64),
            (ModelKind::Llama, Toy) => llama(3, 256, 8, 688, 1024, 512),
            (ModelKind::Llama, Base) => llama(6, 512, 8, 1376, 8192, 1024),
            (ModelKind::Retention, Tiny) => retention(2, 32, 4, 44, 97),
            (ModelKind::Retention, Toy) => retention(3, 256, 8, 688, 1024),
            (ModelKind::Retention, Base) => retention(6, 512, 8, 1376, 8192),
            (ModelKind::EncoderDecoder, Tiny) => encoder_decoder(2, 32, 4, 97, 64),
            (ModelKind::EncoderDecoder, FlaxToy) => encoder_decoder(3, 256, 8, 1024, 256),
            (ModelKind::EncoderDecoder, Wmt) => encoder_decoder(6, 1024, 16, 32_000, 256),
            (ModelKind::ConvSeq2Seq, Tiny) => conv_seq2seq(2, 24, 3, 16, 97, 64),
            (ModelKind::ConvSeq2Seq, Toy) => conv_seq2seq(3, 256, 3, 256, 1024, 512),
            (ModelKind::ConvSeq2Seq, Base) => conv_seq2seq(8, 512, 3, 256, 8192, 1024),
            _ => Err(Error::Unknown {
                kind: "shape",
                name: format!("{model}-{shape}"),
                known: shapes(model).map(|shape| format!("{model}-{shape}")).collect(),
            }),
        }
    }

    /// Which kind of model it is of.
    pub fn kind(&self) -> ModelKind {
        match self {
            Config::Transformer(_) => ModelKind::Transformer,
            Config::LinearizedConv(_) => ModelKind::LinearizedConv,
            Config::Llama(_) => ModelKind::Llama,
            Config::Retention(_) => ModelKind::Retention,
            Config::EncoderDecoder(_) => ModelKind::EncoderDecoder,
            Config::ConvSeq2Seq(_) => ModelKind::ConvSeq2Seq,
        }
    }

    /// V, tokens.
    pub fn vocab(&self) -> usize {
        match self {
            Config::Transformer(config) => config.vocab,
            Config::LinearizedConv(config) => config.vocab,
            Config::Llama(config) => config.vocab,
            Config::Retention(config) => config.vocab,
            Config::EncoderDecoder(config) => config.vocab,
            Config::ConvSeq2Seq(config) => config.vocab,
        }
    }

    /// The most positions it can tell apart; `None` when it counts none.
    pub fn max_positions(&self) -> Option<usize> {
        match self {
            Config::Transformer(config) => Some(config.positions),
            Config::Llama(config) => Some(config.positions),
            Config::EncoderDecoder(config) => Some(config.positions),
            Config::ConvSeq2Seq(config) => Some(config.positions()),
            Config::LinearizedConv(_) | Config::Retention(_) => None,
        }
    }

    /// The token that a decode from a source begins with: the configuration's, or fairseq's end of a sentence.
    pub fn start(&self) -> u32 {
        match self {
            Config::EncoderDecoder(config) => config.start,
            Config::ConvSeq2Seq(config) => conv_seq2seq::START.min(config.vocab as u32 - 1),
            _ => 0,
        }
    }

    /// The same model with at most so many layers.
    fn with_layers_at_most(&self, most: usize) -> Config {
        let mut config = self.clone();
        match &mut config {
            Config::Transformer(TransformerConfig { layers, .. })
            | Config::LinearizedConv(ConvConfig { layers, .. })
            | Config::Llama(LlamaConfig { layers, .. })
            | Config::Retention(RetentionConfig { layers, .. }) => *layers = most.min(*layers),
            Config::EncoderDecoder(EncoderDecoderConfig { encoder_layers, decoder_layers, .. }) => {
                *encoder_layers = most.min(*encoder_layers);
                *decoder_layers = most.min(*decoder_layers);
            }
            Config::ConvSeq2Seq(ConvSeq2SeqConfig { encoder_taps, decoder_taps, .. }) => {
                encoder_taps.truncate(most);
                decoder_taps.truncate(most);
            }
        }
        config
    }

    /// The tensors of a checkpoint, named, shaped and ordered as in the files.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Config::Transformer(config) => config.tensors(),
            Config::LinearizedConv(config) => config.tensors(),
            Config::Llama(config) => config.tensors(),
            Config::Retention(config) => config.tensors(),
            Config::EncoderDecoder(config) => config.tensors(),
            Config::ConvSeq2Seq(config) => config.tensors(),
        }
    }

    /// Tensors that a checkpoint may hold a second time under another name, and which they are.
    fn tied(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Config::Transformer(_) => vec![("lm_head.weight", "wte.weight")],
            Config::Llama(LlamaConfig { tied: true, .. }) => {
                vec![("lm_head.weight", "model.embed_tokens.weight")]
            }
            Config::EncoderDecoder(_) => vec![
                ("model.encoder.embed_tokens.weight", "model.shared.weight"),
                ("model.decoder.embed_tokens.weight", "model.shared.weight"),
                ("lm_head.weight", "model.shared.weight"),
            ],
            Config::LinearizedConv(_) | Config::Llama(_) | Config::Retention(_) | Config::ConvSeq2Seq(_) => {
                Vec::new()
            }
        }
    }

    /// What it does in a call, in order: what its costs are sums over.
    pub fn nodes(&self) -> Vec<Node> {
        match self {
            Config::Transformer(config) => config.nodes(),
            Config::LinearizedConv(config) => config.nodes(),
            Config::Llama(config) => config.nodes(),
            Config::Retention(config) => config.nodes(),
            Config::EncoderDecoder(config) => config.nodes(),
            Config::ConvSeq2Seq(config) => config.nodes(),
        }
    }

    /// Numbers of its weights that a call of `rows` new rows a sentence leaves alone: of tables that are
    /// only looked up, all but the rows that are; an encoder, which has done its work before.
    pub fn untouched(&self, strategy: Strategy, batch: usize, rows: usize) -> usize {
        match self {
            // of positions one row an entry is looked up; the tied table is read by the last product
            Config::Transformer(c) => c.positions.saturating_sub(rows) * c.width,
            Config::LinearizedConv(c) => c.vocab.saturating_sub(batch * rows) * c.embed,
            Config::Llama(c) if !c.tied => c.vocab.saturating_sub(batch * rows) * c.width,
            Config::Llama(_) | Config::Retention(_) => 0,
            Config::EncoderDecoder(c) => c.untouched(strategy),
            Config::ConvSeq2Seq(c) => c.untouched(batch, rows),
        }
    }

    /// Numbers kept of each row of the source, where there is one.
    pub fn source_width(&self, strategy: Strategy) -> usize {
        match self {
            Config::EncoderDecoder(c) => c.source_width(strategy),
            Config::ConvSeq2Seq(c) => c.source_width(),
            _ => 0,
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
            Config::Llama(config) => config.to_json(),
            Config::Retention(config) => config.to_json(),
            Config::EncoderDecoder(config) => config.to_json(),
            Config::ConvSeq2Seq(config) => config.to_json(),
        }
    }
}

/// The named shapes that a model has.
pub fn shapes(model: ModelKind) -> impl Iterator<Item = ShapeName> {
    ShapeName::ALL.iter().copied().filter(move |&shape| match shape {
        ShapeName::Gpt2 => model == ModelKind::Transformer,
        ShapeName::Large => model == ModelKind::LinearizedConv,
        ShapeName::FlaxToy | ShapeName::Wmt => model == ModelKind::EncoderDecoder,
        ShapeName::Toy | ShapeName::Base => model != ModelKind::EncoderDecoder,
        ShapeName::Tiny => true,
    })
}

/// The positions a named shape's sequences may have: its fixed-shape buffers have so many rows.
pub fn capacity(model: ModelKind, shape: ShapeName) -> usize {
    match shape {
        ShapeName::Tiny => 64,
        ShapeName::Toy => 512,
        ShapeName::FlaxToy | ShapeName::Wmt => 256,
        ShapeName::Base | ShapeName::Gpt2 | ShapeName::Large => {
            debug_assert!(shapes(model).any(|s| s == shape));
            1024
        }
    }
}

/// The rows of the source that a named shape's sentences are decoded from; 0 where there is none.
pub fn source_rows(model: ModelKind, shape: ShapeName) -> usize {
    match (model.has_source(), shape) {
        (false, _) => 0,
        (true, ShapeName::Tiny) => 16,
        (true, _) => 64,
    }
}

/// Any of the models, chosen at run time.
pub enum AnyModel<B: Backend> {
    /// A model that continues a prompt, without an encoder.
    DecoderOnly(DecoderOnly<B>),
    /// The transformer with an encoder.
    EncoderDecoder(EncoderDecoder<B>),
    /// fairseq's convolutional translator.
    ConvSeq2Seq(ConvSeq2Seq<B>),
}

/// The same for each of them.
macro_rules! any {
    ($any:expr, $model:ident => $body:expr) => {
        match $any {
            AnyModel::DecoderOnly($model) => $body,
            AnyModel::EncoderDecoder($model) => $body,
            AnyModel::ConvSeq2Seq($model) => $body,
        }
    };
}

impl<B: Backend> AnyModel<B> {
    /// Puts the weights on the backend, in the order a step reads them.
    pub fn load(b: &B, config: &Config, weights: &Weights) -> Result<Self> {
        Ok(match config {
            Config::Transformer(config) => AnyModel::DecoderOnly(transformer::load(b, config, weights)?),
            Config::LinearizedConv(config) => {
                AnyModel::DecoderOnly(linearized_conv::load(b, config, weights)?)
            }
            Config::Llama(config) => AnyModel::DecoderOnly(llama::load(b, config, weights)?),
            Config::Retention(config) => AnyModel::DecoderOnly(retention::load(b, config, weights)?),
            Config::EncoderDecoder(config) => {
                AnyModel::EncoderDecoder(EncoderDecoder::load(b, config, weights)?)
            }
            Config::ConvSeq2Seq(config) => AnyModel::ConvSeq2Seq(ConvSeq2Seq::load(b, config, weights)?),
        })
    }
}

impl<B: Backend> Model<B> for AnyModel<B> {
    fn slots(&self) -> Vec<Slot> {
        any!(self, model => model.slots())
    }
    fn vocab(&self) -> usize {
        any!(self, model => model.vocab())
    }
    fn max_positions(&self) -> Option<usize> {
        any!(self, model => model.max_positions())
    }
    fn encode(&self, b: &B, strategy: Strategy, call: Call<B::Input>) -> Result<EncoderOutput<B>> {
        any!(self, model => model.encode(b, strategy, call))
    }
    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        any!(self, model => model.extend(b, cache))
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

/// Several dense layers stored `[out, in]` each, one below the other, as one.
fn stacked<B: Backend>(
    b: &B,
    weights: &Weights,
    parts: &[(String, usize)],
    inner: usize,
    bias: bool,
) -> Result<Linear<B::Tensor>> {
    let (mut rows, mut biases) = (Vec::new(), Vec::new());
    for (name, out) in parts {
        rows.extend_from_slice(&weights.get(&format!("{name}.weight"), &[*out, inner])?);
        if bias {
            biases.extend_from_slice(&weights.get(&format!("{name}.bias"), &[*out])?);
        }
    }
    let outs = parts.iter().map(|(_, out)| out).sum();
    let weight = b.upload([1, outs, inner], &rows)?;
    Ok(Linear { weight, bias: if bias { Some(b.upload([1, 1, outs], &biases)?) } else { None } })
}

fn norm<B: Backend>(b: &B, weights: &Weights, name: &str, width: usize, eps: f32) -> Result<Norm<B::Tensor>> {
    let bias = Some(vector(b, weights, &format!("{name}.bias"), width)?);
    Ok(Norm { bias, ..rms_norm(b, weights, name, width, eps)? })
}

fn rms_norm<B: Backend>(
    b: &B,
    weights: &Weights,
    name: &str,
    width: usize,
    eps: f32,
) -> Result<Norm<B::Tensor>> {
    Ok(Norm { gain: vector(b, weights, &format!("{name}.weight"), width)?, bias: None, eps })
}

#[cfg(test)]
pub(crate) mod tests;
