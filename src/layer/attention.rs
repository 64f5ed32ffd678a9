//! Attention over a layer's own rows: multi-head, grouped-query or multi-query, with whatever tells
//! positions apart inside of it.

use std::rc::Rc;

use crate::backend::{
    usual_scale, whole, Activation, AttentionParams, Backend, Columns, Layout, Linear, Mask, Norm, View,
};
use crate::cache::LayerContext;
use crate::error::Result;
use crate::layer::Layer;
use crate::strategy::Slot;

/// `out(softmax(mask(scale·q·kᵀ))·v)` with `[q k v] = qkv(x)`.
pub struct Attention<B: Backend> {
    /// `[1, (heads + 2·kv_heads)·D, width]`
    pub qkv: Linear<B::Tensor>,
    /// `[1, width, heads·D]`
    pub out: Linear<B::Tensor>,
    /// Of the queries.
    pub heads: usize,
    /// As many as `heads`, a divisor of them (grouped queries) or one (multi-query).
    pub kv_heads: usize,
    /// D, numbers in a head.
    pub size: usize,
    /// What products of queries and keys are multiplied with; usually `1/√D`.
    pub scale: f32,
    /// Of each head of the queries, and of each of the keys, before they are turned; gains `[1, 1, D]`.
    pub head_norms: Option<[Norm<B::Tensor>; 2]>,
    /// Rotary position embedding of queries and keys: [`crate::layer::position::rotary`].
    pub cos_sin: Option<Rc<B::Tensor>>,
    /// Scores fade with the distance: [`crate::layer::position::alibi`].
    pub slopes: Option<Rc<B::Tensor>>,
    /// A window is a ring under `padded`. [`Mask::Full`] is an encoder's: all rows are there at
    /// once, nothing is remembered, and so it is not causal.
    pub mask: Mask,
}

impl<B: Backend> Attention<B> {
    /// Of as many heads of keys as of queries, without anything that tells positions apart.
    pub fn multi_head(
        qkv: Linear<B::Tensor>,
        out: Linear<B::Tensor>,
        heads: usize,
        size: usize,
        mask: Mask,
    ) -> Self {
        Attention {
            qkv,
            out,
            heads,
            kv_heads: heads,
            size,
            scale: usual_scale(size),
            head_norms: None,
            cos_sin: None,
            slopes: None,
            mask,
        }
    }

    fn attended(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, call) = (context.backend(), context.call());
        let qkv = b.linear(x, &self.qkv, Activation::None, None)?;
        let (width, kv_width) = (self.heads * self.size, self.kv_heads * self.size);
        let part = |from, width| Columns { tensor: &qkv, from, width };
        let (q, k, v) = (part(0, width), part(width, kv_width), part(width + kv_width, kv_width));
        let normed = match &self.head_norms {
            Some([queries, keys]) => {
                // contiguous, as norms want them
                let rows = |rows| b.lag(call, View { rows, layout: Layout::Tail }, 0);
                Some((b.norm(&rows(q)?, queries)?, b.norm(&rows(k)?, keys)?))
            }
            None => None,
        };
        let (q, k) = normed.as_ref().map_or((q, k), |(q, k)| (whole(b, q), whole(b, k)));
        let turned = match &self.cos_sin {
            Some(cos_sin) => Some((b.rope(call, q, cos_sin)?, b.rope(call, k, cos_sin)?)),
            None => None,
        };
        let (q, k) = turned.as_ref().map_or((q, k), |(q, k)| (whole(b, q), whole(b, k)));
        let params = AttentionParams {
            kv_heads: self.kv_heads,
            scale: self.scale,
            mask: self.mask,
            slopes: self.slopes.as_deref(),
            ..AttentionParams::causal(self.heads, self.size)
        };
        let (k, v) = match self.mask {
            Mask::Full => (View { rows: k, layout: Layout::Tail }, View { rows: v, layout: Layout::Tail }),
            Mask::Causal | Mask::SlidingWindow(_) => (context.append(k)?, context.append(v)?),
        };
        b.attention(call, q, k, v, &params)
    }
}

impl<B: Backend> Layer<B> for Attention<B> {
    fn slots(&self) -> Vec<Slot> {
        let (width, heads) = (self.kv_heads * self.size, self.kv_heads);
        match self.mask {
            Mask::Causal => vec![Slot::Rows { width, heads }; 2],
            Mask::SlidingWindow(rows) => vec![Slot::Sliding { width, heads, rows }; 2],
            Mask::Full => Vec::new(),
        }
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
        let h = self.attended(context, x)?;
        context.backend().linear(&h, &self.out, Activation::None, onto)
    }
}
