//! Retention (Sun et al. 2023): attention whose weights fade with the distance and are not normalised, so
//! that the past is one matrix a head, whatever its length. All at once it is `(q·kᵀ ⊙ D)·v` with
//! `D[i, j] = decay^(i-j)`, row by row `S = decay·S + kᵀ·v` and `q·S`; the two are one.

use crate::backend::{Activation, Backend, Columns, Linear};
use crate::cache::LayerContext;
use crate::error::Result;
use crate::layer::Layer;
use crate::strategy::Slot;

/// `out(retain(q, k, v))` with `[q k v] = qkv(x)`, each of `heads` heads of `size` numbers.
pub struct Retention<B: Backend> {
    /// `[1, 3·heads·size, width]`; what scales k is in its weights.
    pub qkv: Linear<B::Tensor>,
    /// `[1, width, heads·size]`
    pub out: Linear<B::Tensor>,
    /// `[1, 1, heads]`: [`decays`].
    pub decays: B::Tensor,
    /// Each keeps one matrix, `[size, size]`.
    pub heads: usize,
    /// Numbers in a head.
    pub size: usize,
}

/// The decay of each head, from fast to slow: `1 - 2^(-5-h)`, the paper's.
pub fn decays(heads: usize) -> Vec<f32> {
    (0..heads).map(|head| 1.0 - 2f32.powi(-5 - head as i32)).collect()
}

impl<B: Backend> Retention<B> {
    fn retained(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, call) = (context.backend(), context.call());
        let qkv = b.linear(x, &self.qkv, Activation::None, None)?;
        let width = self.heads * self.size;
        let parts = [0, 1, 2].map(|part| Columns { tensor: &qkv, from: part * width, width });
        b.retain(call, parts, context.state(), &self.decays)
    }
}

impl<B: Backend> Layer<B> for Retention<B> {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::State { rows: self.heads * self.size, width: self.size }]
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(context, x, None)
    }
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let h = self.retained(context, x)?;
        context.backend().linear(&h, &self.out, Activation::None, onto)
    }
}
