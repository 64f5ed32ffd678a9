//! Attention over a layer's own rows: multi-head, grouped-query or multi-query, with whatever tells
//! positions apart inside of it.

use std::rc::Rc;

use crate::backend::{whole, Activation, Attend, Backend, Columns, Layout, Linear, Sees, View};
use crate::cache::{Past, Slot};
use crate::error::Result;
use crate::layer::Layer;

/// `out(softmax(mask(q·kᵀ/√D))·v)` with `[q k v] = qkv(x)`.
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
    /// Queries and keys are turned by their positions: [`crate::layer::position::rotary`].
    pub turns: Option<Rc<B::Tensor>>,
    /// Scores fade with the distance: [`crate::layer::position::alibi`].
    pub slopes: Option<Rc<B::Tensor>>,
    /// A window is a ring, in a cache of fixed shape. [`Sees::All`] is an encoder's: all rows are there at
    /// once, nothing is remembered, and so it is not causal.
    pub sees: Sees,
}

impl<B: Backend> Attention<B> {
    fn attended(&self, past: &mut Past<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, call) = (past.backend(), past.call());
        let qkv = b.linear(x, &self.qkv, Activation::None, None)?;
        let (width, kv_width) = (self.heads * self.size, self.kv_heads * self.size);
        let part = |from, width| Columns { tensor: &qkv, from, width };
        let (q, k, v) = (part(0, width), part(width, kv_width), part(width + kv_width, kv_width));
        let turned = match &self.turns {
            Some(turns) => Some((b.rotate(call, q, turns)?, b.rotate(call, k, turns)?)),
            None => None,
        };
        let (q, k) = turned.as_ref().map_or((q, k), |(q, k)| (whole(b, q), whole(b, k)));
        let attend = Attend {
            kv_heads: self.kv_heads,
            sees: self.sees,
            slopes: self.slopes.as_deref(),
            ..Attend::causal(self.heads, self.size)
        };
        let (k, v) = match self.sees {
            Sees::All => (View { rows: k, layout: Layout::Tail }, View { rows: v, layout: Layout::Tail }),
            Sees::Past | Sees::Window(_) => (past.append(k)?, past.append(v)?),
        };
        b.attention(call, q, k, v, &attend)
    }
}

impl<B: Backend> Layer<B> for Attention<B> {
    fn slots(&self) -> Vec<Slot> {
        let width = self.kv_heads * self.size;
        match self.sees {
            Sees::Past => vec![Slot::Rows { width }; 2],
            Sees::Window(rows) => vec![Slot::Window { width, rows }; 2],
            Sees::All => Vec::new(),
        }
    }
    fn call(&self, past: &mut Past<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(past, x, None)
    }
    fn call_onto(
        &self,
        past: &mut Past<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let h = self.attended(past, x)?;
        past.backend().linear(&h, &self.out, Activation::None, onto)
    }
}
