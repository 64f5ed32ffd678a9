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

use std::borrow::Cow;

use serde_json::{json, Value};

use super::fields::Fields;
use super::linearized_conv::{dense, linearised};
use super::loader::{parameters, Loader};
use super::weights::Spread;
use super::{Model, ModelConfig, Node};
use crate::backend::cpu::room;
use crate::backend::{
    whole, Activation, AttentionParams, Backend, Call, Convolution, Layout, Linear, Mask, View,
};
use crate::cache::{Cache, EncoderOutput, LayerContext};
use crate::case::ShapeName;
use crate::dtype::Dtype;
use crate::error::Result;
use crate::layer::{encoder_output, Layer, LinearizedConvolution};
use crate::strategy::{Slot, Strategy};

/// The sizes of fairseq's convolutional translator.
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
const START: u32 = 2;

/// √½
const R: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// fairseq's, of embeddings.
const SPREAD: Spread = Spread::around_zero(0.1);

impl ModelConfig for ConvSeq2SeqConfig {
    fn named(shape: ShapeName) -> Option<Self> {
        let (layers, channels, taps, embed, vocab, positions) = match shape {
            ShapeName::Tiny => (2, 24, 3, 16, 97, 64),
            ShapeName::Toy => (3, 256, 3, 256, 1024, 512),
            ShapeName::Base => (8, 512, 3, 256, 8192, 1024),
            _ => return None,
        };
        Some(ConvSeq2SeqConfig {
            channels,
            encoder_taps: vec![taps; layers],
            decoder_taps: vec![taps; layers],
            embed,
            out_embed: embed,
            vocab,
            table: positions + 2,
            padding: 1,
        })
    }

    fn parse(json: &Fields) -> Result<Self, String> {
        json.one_of("model_type", &["fconv_seq2seq"])?;
        let ((channels, encoder_taps), (other, decoder_taps)) =
            (convolutions(json, "encoder_convolutions")?, convolutions(json, "decoder_convolutions")?);
        let (table, padding) = (json.size("max_positions")?, json.index_or("padding_idx", 1)?);
        if channels != other {
            return Err(format!(
                "{channels} and {other} channels: only one number for both sides is implemented"
            ));
        }
        if padding + 1 >= table {
            return Err(format!("max_positions = {table} leaves none behind padding_idx = {padding}"));
        }
        Ok(ConvSeq2SeqConfig {
            channels,
            encoder_taps,
            decoder_taps,
            embed: json.size("embed_dim")?,
            out_embed: json.size("out_embed_dim")?,
            vocab: json.size("vocab_size")?,
            table,
            padding,
        })
    }

    fn to_json(&self) -> Value {
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

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.table - self.padding - 1)
    }

    fn start(&self) -> u32 {
        START.min(self.vocab as u32 - 1)
    }

    fn nodes(&self) -> Vec<Node> {
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

    /// The encoder, and of the decoder's tables all but the rows looked up.
    fn untouched(&self, _: Strategy, batch: usize, rows: usize, weights: Dtype) -> usize {
        let parameters = parameters(|l| self.load(l));
        let encoder = parameters.iter().filter(|p| p.name().starts_with("encoder."));
        let encoder: usize = encoder.map(|parameter| parameter.bytes(weights)).sum();
        let left_alone = self.vocab.saturating_sub(batch * rows) + self.table.saturating_sub(rows);
        encoder + left_alone * self.embed * weights.bytes()
    }

    /// A and B.
    fn source_width(&self, _: Strategy) -> usize {
        2 * self.embed
    }

    fn load<B: Backend>(&self, l: &Loader<'_, B>) -> Result<Box<dyn Model<B>>> {
        let &ConvSeq2SeqConfig { channels, embed: e, out_embed, vocab, .. } = self;
        let encoder = Side::load(l, self, "encoder", e)?;
        let mut encoder_convolutions = room(self.encoder_taps.len())?;
        for (layer, &taps) in self.encoder_taps.iter().enumerate() {
            let linear = linearised(l, &format!("encoder.convolutions.{layer}"), channels, taps)?;
            encoder_convolutions.push(Convolution { linear, taps, ahead: taps / 2, residual: true });
        }
        let decoder = Side::load(l, self, "decoder", out_embed)?;
        let mut layers = room(self.decoder_taps.len())?;
        for (layer, &taps) in self.decoder_taps.iter().enumerate() {
            let linear = linearised(l, &format!("decoder.convolutions.{layer}"), channels, taps)?;
            let convolution = Convolution { linear, taps, ahead: 0, residual: false };
            let name = |part: &str| format!("decoder.attention.{layer}.{part}_projection");
            layers.push(DecoderLayer {
                convolution: LinearizedConvolution { convolution, channels },
                query: dense(l, &name("in"), [e, channels])?,
                found: dense(l, &name("out"), [channels, e])?,
            });
        }
        let fc3 = dense(l, "decoder.fc3", [vocab, out_embed])?;
        let config = self.clone();
        Ok(Box::new(ConvSeq2Seq { config, encoder, encoder_convolutions, decoder, layers, fc3 }))
    }
}

/// `[[channels, taps], ..]`, with as many channels everywhere.
fn convolutions(json: &Fields, field: &str) -> Result<(usize, Vec<usize>), String> {
    let layers = json.pairs(field, "[channels, taps]")?;
    let [channels, _] = layers[0];
    if layers.iter().any(|layer| layer[0] != channels) {
        return Err(format!("{field}: only layers of one number of channels are implemented"));
    }
    Ok((channels, layers.iter().map(|layer| layer[1]).collect()))
}

struct ConvSeq2Seq<B: Backend> {
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
    fn load(l: &Loader<'_, B>, config: &ConvSeq2SeqConfig, side: &str, out: usize) -> Result<Self> {
        let &ConvSeq2SeqConfig { channels, embed: e, vocab, table, padding, .. } = config;
        let name = |part: &str| format!("{side}.{part}");
        let positions = l.numbers(&name("embed_positions.weight"), &[table, e], SPREAD)?;
        let usable = positions.as_deref().map(|rows| Cow::Borrowed(&rows[(padding + 1) * e..]));
        Ok(Side {
            table: l.table(&name("embed_tokens.weight"), [vocab, e], SPREAD)?,
            positions: l.upload([1, table - padding - 1, e], usable)?,
            fc1: dense(l, &name("fc1"), [channels, e])?,
            fc2: dense(l, &name("fc2"), [out, channels])?,
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
        let last = b.linear(&b.last_row(call, x)?, &self.decoder.fc2, Activation::None, None)?;
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
        self.config.max_positions()
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
