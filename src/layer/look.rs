//! Attention over a source: what a decoder looks up in the sentence it translates.

use crate::backend::{whole, Activation, Attend, Backend, Columns, Layout, Linear, Sees, View};
use crate::cache::{Past, Source, Strategy};
use crate::error::{Error, Result};
use crate::layer::Layer;

/// `out(softmax(q(x)·kᵀ/√D)·v)`, with `[k v]` projected from the encoder's result once for each source, and
/// kept; under [`Strategy::Reprojected`], anew at every call.
pub struct Look<B: Backend> {
    /// `[1, heads·D, width]`
    pub q: Linear<B::Tensor>,
    /// `[1, 2·heads·D, width]`
    pub kv: Linear<B::Tensor>,
    /// `[1, width, heads·D]`
    pub out: Linear<B::Tensor>,
    /// Of queries, keys and values alike.
    pub heads: usize,
    /// Which of the source's rows are this look's.
    pub number: usize,
}

impl<B: Backend> Look<B> {
    /// Keys and values side by side, `[sentences, rows, 2·heads·D]`.
    pub fn project(&self, b: &B, encoded: &B::Tensor) -> Result<B::Tensor> {
        b.linear(encoded, &self.kv, Activation::None, None)
    }

    fn found(&self, past: &Past<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, source) = (past.backend(), source(past)?);
        let anew = match past.strategy() {
            Strategy::Reprojected => Some(self.project(b, &source.encoded[0])?),
            _ => None,
        };
        let kv = anew.as_ref().unwrap_or_else(|| &source.rows[self.number]);
        let q = b.linear(x, &self.q, Activation::None, None)?;
        let [_, _, width] = b.shape(&q);
        let part = |from| View { rows: Columns { tensor: kv, from, width }, layout: Layout::Tail };
        let attend = Attend { sees: Sees::All, ..Attend::causal(self.heads, width / self.heads) };
        b.attention(&source.call, whole(b, &q), part(0), part(width), &attend)
    }
}

/// What a decoder is to look at.
///
/// # Errors
/// When its session was opened without.
pub(crate) fn source<'a, B: Backend>(past: &Past<'a, B>) -> Result<&'a Source<B>> {
    past.source().ok_or_else(|| Error::Input("this model decodes from a source, and was given none".into()))
}

impl<B: Backend> Layer<B> for Look<B> {
    fn call(&self, past: &mut Past<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(past, x, None)
    }
    fn call_onto(
        &self,
        past: &mut Past<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        past.backend().linear(&self.found(past, x)?, &self.out, Activation::None, onto)
    }
}
