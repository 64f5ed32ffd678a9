//! A decoder-only model, made of [`crate::layer`]s: what all of them have in common.

use super::Model;
use crate::backend::{Activation, Backend, Linear};
use crate::cache::Cache;
use crate::error::Result;
use crate::layer::{Layer, Sequential};
use crate::strategy::Slot;

/// `logits = head(last(blocks(table[token] + positions[position])))`, the two products of the last row alone.
pub(super) struct DecoderOnly<B: Backend> {
    /// `[1, vocab, width]`, and no bias; the norm is that of a product with it.
    pub(super) table: Linear<B::Tensor>,
    /// `[1, max_positions, width]`
    pub(super) positions: Option<B::Tensor>,
    pub(super) blocks: Sequential<B>,
    pub(super) last: Option<Linear<B::Tensor>>,
    /// `None`: the table is multiplied with as well.
    pub(super) head: Option<Linear<B::Tensor>>,
    pub(super) vocab: usize,
    pub(super) max_positions: Option<usize>,
}

impl<B: Backend> Model<B> for DecoderOnly<B> {
    fn slots(&self) -> Vec<Slot> {
        self.blocks.slots()
    }

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        self.max_positions
    }

    fn extend(&self, b: &B, cache: &mut Cache<B>) -> Result<B::Tensor> {
        let mut context = cache.context(b);
        let call = context.call();
        let x = b.embed(call, &self.table.weight, self.positions.as_ref())?;
        let x = self.blocks.call(&mut context, &x)?;
        let product = |x: &B::Tensor, layer| b.linear(x, layer, Activation::None, None);
        let mut x = b.last_row(call, x)?;
        if let Some(last) = &self.last {
            x = product(&x, last)?;
        }
        product(&x, self.head.as_ref().unwrap_or(&self.table))
    }
}
