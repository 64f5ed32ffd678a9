//! Cross-attention: a decoder's queries attend to the encoder's output.

use crate::backend::{whole, Activation, AttentionParams, Backend, Columns, Layout, Linear, Mask, View};
use crate::cache::{EncoderOutput, LayerContext};
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::strategy::Strategy;

/// `out(softmax(q(x)·kᵀ/√D)·v)`, with `[k v]` projected from the encoder's result once for each source, and
/// kept; under [`Strategy::Reprojected`], anew at every call.
pub struct CrossAttention<B: Backend> {
    pub q: Linear<B::Tensor>,
    /// `[1, 2·heads·D, width]`
    pub kv: Linear<B::Tensor>,
    pub out: Linear<B::Tensor>,
    pub heads: usize,
    /// Index of this layer among the model's cross-attention layers.
    pub number: usize,
}

impl<B: Backend> CrossAttention<B> {
    /// Keys and values side by side, `[sentences, rows, 2·heads·D]`.
    pub fn project(&self, b: &B, encoded: &B::Tensor) -> Result<B::Tensor> {
        b.linear(encoded, &self.kv, Activation::None, None)
    }

    fn found(&self, context: &LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, source) = (context.backend(), encoder_output(context)?);
        let anew = match context.strategy() {
            Strategy::Reprojected => Some(self.project(b, &source.encoded[0])?),
            _ => None,
        };
        let kv = anew.as_ref().unwrap_or_else(|| &source.rows[self.number]);
        let q = b.linear(x, &self.q, Activation::None, None)?;
        let [_, _, width] = b.shape(&q);
        let part = |from| View { rows: Columns { tensor: kv, from, width }, layout: Layout::Tail };
        let params =
            AttentionParams { mask: Mask::Full, ..AttentionParams::causal(self.heads, width / self.heads) };
        b.attention(&source.call, whole(b, &q), part(0), part(width), &params)
    }
}

/// The encoder's output of this call.
///
/// # Errors
/// When its session was opened without.
pub(crate) fn encoder_output<'a, B: Backend>(context: &LayerContext<'a, B>) -> Result<&'a EncoderOutput<B>> {
    context
        .encoder_output()
        .ok_or_else(|| Error::Input("this model decodes from a source, and was given none".into()))
}

impl<B: Backend> Layer<B> for CrossAttention<B> {
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(context, x, None)
    }
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        context.backend().linear(&self.found(context, x)?, &self.out, Activation::None, onto)
    }
}
