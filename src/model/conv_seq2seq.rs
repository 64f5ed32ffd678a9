//! fairseq's convolutional encoder-decoder with attention in every layer (`fconv`; Gehring et al. 2017),
//! r = √½:
//!
//! ```text
//! e = E[token] + P[position];  x = fc1(e)                                  each side has its own
//! encoder, per layer:  u = convolution on both sides of each position;  x = (GLU(u) + x)·r
//!   A = fc2(x);  B = (A + e)·r
//! decoder, per layer:  h = GLU(causal convolution);  q = (Win·h + bin + e)·r
//!                      c = (softmax(q·Aᵀ)·B)·√S;     x = ((Wout·c + bout + h)·r + x)·r
//! logits = fc3(fc2(x))
//! ```
//!
//! S is the number of the source's positions. A is looked up as it is and B, times √S, is what is found: nothing is
//! projected, so there is nothing to project anew.

use serde_json::{json, Value};

use crate::backend::{
    whole, Activation, AttentionParams, Backend, Call, Convolution, Layout, Linear, Mask, View,
};
use crate::cache::{Cache, EncoderOutput, LayerContext};
use crate::error::Result;
use crate::layer::{encoder_output, Layer, LinearizedConvolution};
use crate::model::linearized_conv::linearised;
use crate::model::weights::Weights;
use crate::model::Node;
use crate::model::{dense, Model};
use crate::strategy::Slot;
use crate::strategy::Strategy;

/// Sizes of fairseq's `fconv` translator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvSeq2SeqConfig {
    /// Channels, the same in all layers.
    pub channels: usize,
    /// Taps of each layer of the encoder.
    pub encoder_taps: Vec<usize>,
    /// Taps of each layer of the decoder.
    pub decoder_taps: Vec<usize>,
    /// Width of the embeddings.
    pub embed: usize,
    /// Width of what the logits are made of.
    pub out_embed: usize,
    /// Tokens, the same on both sides.
    pub vocab: usize,
    /// Rows of the tables of positions; the first position is the row behind `padding`.
    pub table: usize,
    /// The token that pads sentences, and the row of the tables that stands for it.
    pub padding: usize,
}

/// fairseq's end of a sentence, which its decoders are fed first.
pub(super) const START: u32 = 2;

/// √½
const R: f32 = std::f32::consts::FRAC_1_SQRT_2;

impl ConvSeq2SeqConfig {
    /// The most that it can tell apart.
    pub fn positions(&self) -> usize {
        self.table - self.padding - 1
    }

    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let &ConvSeq2SeqConfig { channels: c, embed: e, out_embed, vocab, table, .. } = self;
        let mut tensors = Vec::new();
        for (side, taps, out) in
            [("encoder", &self.encoder_taps, e), ("decoder", &self.decoder_taps, out_embed)]
        {
            let mut push = |name: &str, shape| tensors.push((format!("{side}.{name}"), shape));
            push("embed_tokens.weight", vec![vocab, e]);
            push("embed_positions.weight", vec![table, e]);
            push("fc1.weight", vec![c, e]);
            push("fc1.bias", vec![c]);
            for (layer, &taps) in taps.iter().enumerate() {
                push(&format!("convolutions.{layer}.weight"), vec![taps, c, 2 * c]);
                push(&format!("convolutions.{layer}.bias"), vec![2 * c]);
                if side == "decoder" {
                    push(&format!("attention.{layer}.in_projection.weight"), vec![e, c]);
                    push(&format!("attention.{layer}.in_projection.bias"), vec![e]);
                    push(&format!("attention.{layer}.out_projection.weight"), vec![c, e]);
                    push(&format!("attention.{layer}.out_projection.bias"), vec![c]);
                }
            }
            push("fc2.weight", vec![out, c]);
            push("fc2.bias", vec![out]);
        }
        tensors.push(("decoder.fc3.weight".into(), vec![vocab, out_embed]));
        tensors.push(("decoder.fc3.bias".into(), vec![vocab]));
        tensors
    }

    pub(super) fn nodes(&self) -> Vec<Node> {
        let &ConvSeq2SeqConfig { channels, embed: e, out_embed, vocab, .. } = self;
        let mut nodes = vec![Node::Dense { inner: e, out: channels }];
        for &taps in &self.decoder_taps {
            nodes.extend([
                Node::Convolution { channels, taps },
                Node::Dense { inner: channels, out: e },
                Node::CrossAttention { width: e, kept: e, inner: None },
                Node::Dense { inner: e, out: channels },
            ]);
        }
        nodes.extend([
            Node::Last { inner: channels, out: out_embed },
            Node::Last { inner: out_embed, out: vocab },
        ]);
        nodes
    }

    /// Numbers of the encoder's weights, and of the decoder's tables all but the rows looked up.
    pub(super) fn untouched(&self, batch: usize, rows: usize) -> usize {
        let tensors = self.tensors();
        let encoder = tensors.iter().filter(|(name, _)| name.starts_with("encoder."));
        let encoder: usize = encoder.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        encoder + self.embed * (self.vocab.saturating_sub(batch * rows) + self.table.saturating_sub(rows))
    }

    /// Numbers kept of each row of the source: A and B.
    pub(super) fn source_width(&self) -> usize {
        2 * self.embed
    }

    pub(super) fn to_json(&self) -> Value {
        let layers = |taps: &[usize]| taps.iter().map(|&taps| [self.channels, taps]).collect::<Vec<_>>();
        json!({
            "model_type": "fconv_seq2seq",
            "vocab_size": self.vocab,
            "embed_dim": self.embed,
            "out_embed_dim": self.out_embed,
            "max_positions": self.table,
            "padding_idx": self.padding,
            "encoder_convolutions": layers(&self.encoder_taps),
            "decoder_convolutions": layers(&self.decoder_taps),
        })
    }
}

/// fairseq's convolutional translator, with its weights on a backend.
pub struct ConvSeq2Seq<B: Backend> {
    config: ConvSeq2SeqConfig,
    encoder: Side<B>,
    encoder_convolutions: Vec<Convolution<B::Tensor>>,
    decoder: Side<B>,
    layers: Vec<DecoderLayer<B>>,
    fc3: Linear<B::Tensor>,
}

/// What both sides have.
struct Side<B: Backend> {
    table: B::Tensor,
    positions: B::Tensor,
    fc1: Linear<B::Tensor>,
    fc2: Linear<B::Tensor>,
}

struct DecoderLayer<B: Backend> {
    convolution: LinearizedConvolution<B>,
    query: Linear<B::Tensor>,
    found: Linear<B::Tensor>,
}

impl<B: Backend> Side<B> {
    fn load(b: &B, config: &ConvSeq2SeqConfig, weights: &Weights, side: &str, out: usize) -> Result<Self> {
        let &ConvSeq2SeqConfig { channels, embed: e, vocab, table, padding, .. } = config;
        let get = |name: &str, rows| weights.get(&format!("{side}.{name}.weight"), &[rows, e]);
        let positions = get("embed_positions", table)?;
        Ok(Side {
            table: b.upload([1, vocab, e], &get("embed_tokens", vocab)?)?,
            positions: b.upload([1, config.positions(), e], &positions[(padding + 1) * e..])?,
            fc1: dense(b, weights, &format!("{side}.fc1"), channels, e)?,
            fc2: dense(b, weights, &format!("{side}.fc2"), out, channels)?,
        })
    }

    /// The embedding, and what the first layer sees of it.
    fn begin(&self, b: &B, call: &Call<B::Input>) -> Result<(B::Tensor, B::Tensor)> {
        let e = b.embed(call, &self.table, Some(&self.positions))?;
        let x = b.linear(&e, &self.fc1, Activation::None, None)?;
        Ok((e, x))
    }
}

impl<B: Backend> ConvSeq2Seq<B> {
    /// Puts the weights on the backend, in the order a step reads them.
    pub fn load(b: &B, config: &ConvSeq2SeqConfig, weights: &Weights) -> Result<Self> {
        let &ConvSeq2SeqConfig { channels, embed: e, out_embed, vocab, .. } = config;
        let encoder = Side::load(b, config, weights, "encoder", e)?;
        let mut encoder_convolutions = Vec::new();
        for (layer, &taps) in config.encoder_taps.iter().enumerate() {
            let linear = linearised(b, weights, &format!("encoder.convolutions.{layer}"), channels, taps)?;
            encoder_convolutions.push(Convolution { linear, taps, ahead: taps / 2, residual: true });
        }
        let decoder = Side::load(b, config, weights, "decoder", out_embed)?;
        let mut layers = Vec::new();
        for (layer, &taps) in config.decoder_taps.iter().enumerate() {
            let linear = linearised(b, weights, &format!("decoder.convolutions.{layer}"), channels, taps)?;
            let convolution = Convolution { linear, taps, ahead: 0, residual: false };
            let name = |part: &str| format!("decoder.attention.{layer}.{part}_projection");
            layers.push(DecoderLayer {
                convolution: LinearizedConvolution { convolution, channels },
                query: dense(b, weights, &name("in"), e, channels)?,
                found: dense(b, weights, &name("out"), channels, e)?,
            });
        }
        let fc3 = dense(b, weights, "decoder.fc3", vocab, out_embed)?;
        Ok(ConvSeq2Seq { config: config.clone(), encoder, encoder_convolutions, decoder, layers, fc3 })
    }

    fn attend(&self, b: &B, source: &EncoderOutput<B>, q: &B::Tensor) -> Result<B::Tensor> {
        let [a, found] = [0, 1].map(|i| View { rows: whole(b, &source.rows[i]), layout: Layout::Tail });
        let params =
            AttentionParams { scale: 1.0, mask: Mask::Full, ..AttentionParams::causal(1, self.config.embed) };
        b.attention(&source.call, whole(b, q), a, found, &params)
    }

    fn decoded(&self, context: &mut LayerContext<'_, B>) -> Result<B::Tensor> {
        let (b, call, source) = (context.backend(), context.call(), encoder_output(context)?);
        let (e, mut x) = self.decoder.begin(b, call)?;
        for layer in &self.layers {
            let h = layer.convolution.call(context, &x)?;
            let q = b.add(&b.linear(&h, &layer.query, Activation::None, None)?, &e, R)?;
            let c = self.attend(b, source, &q)?;
            let c = b.add(&b.linear(&c, &layer.found, Activation::None, None)?, &h, R)?;
            x = b.add(&c, &x, R)?;
        }
        let last = b.linear(&b.last_row(call, &x)?, &self.decoder.fc2, Activation::None, None)?;
        b.linear(&last, &self.fc3, Activation::None, None)
    }
}

impl<B: Backend> Model<B> for ConvSeq2Seq<B> {
    fn slots(&self) -> Vec<Slot> {
        self.layers.iter().flat_map(|layer| layer.convolution.slots()).collect()
    }

    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.config.positions())
    }

    fn encode(&self, b: &B, _: Strategy, call: Call<B::Input>) -> Result<EncoderOutput<B>> {
        let (e, mut x) = self.encoder.begin(b, &call)?;
        for convolution in &self.encoder_convolutions {
            x = b.conv_glu(&call, View { rows: whole(b, &x), layout: Layout::Tail }, convolution)?;
        }
        let a = b.linear(&x, &self.encoder.fc2, Activation::None, None)?;
        // √S is a sentence's own, so it is put into B here, once, and not multiplied with at every step
        let (rows, e_width) = (call.rows(), self.config.embed);
        let mut found = b.download(&b.add(&a, &e, R)?)?;
        for (sentence, start) in found.chunks_mut(rows * e_width).zip(&call.left_padding) {
            let root = ((rows - start) as f32).sqrt();
            sentence.iter_mut().for_each(|x| *x *= root);
        }
        let found = b.upload([call.batch, rows, e_width], &found)?;
        let rows = vec![b.duplicate(&a)?, b.duplicate(&found)?];
        let sentences = (0..call.batch).collect();
        Ok(EncoderOutput { call, sentences, encoded: Vec::new(), rows })
    }

    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        self.decoded(&mut cache.context(b))
    }
}
