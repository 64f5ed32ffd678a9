//! Causal layers with explicit state. A layer has one body, [`Layer::call`]; a forward pass, a prefill
//! and a step are three ways to call it. It says what it remembers ([`Layer::slots`]), and every
//! [`Strategy`] of the crate keeps that for it: a layer never names one.
//!
//! The smallest layer that remembers anything stands on [the crate's front page](crate), composed,
//! checked and timed. [`laws::hold`] checks a layer of one's own on any backend, a GPU among them.
//!
//! | layer | |
//! |---|---|
//! | [`Attention`] | multi-head, grouped-query or multi-query; rotary positions, ALiBi, a sliding window |
//! | [`CrossAttention`] | attention over a source |
//! | [`LinearizedConvolution`] | with its gated linear unit |
//! | [`Retention`] | a state in place of a past |
//! | [`Mlp`], [`GatedMlp`], [`Dense`] | GELU, ReLU, SiLU; SwiGLU |
//! | [`Norm`] | of layers, or by root mean squares |
//! | [`Sequential`], [`Residual`], [`Parallel`] | compositions, whose caches need no word |
//!
//! Positions are tables: [`position`].

mod attention;
mod conv;
mod cross_attention;
pub mod laws;
mod mlp;
pub mod position;
mod retention;

use std::rc::Rc;

pub use attention::Attention;
pub use conv::LinearizedConvolution;
pub(crate) use cross_attention::encoder_output;
pub use cross_attention::CrossAttention;
pub use mlp::{Dense, GatedMlp, Mlp};
pub use retention::{decays, Retention};

use crate::backend::{Backend, Norm};
use crate::cache::{Cache, LayerContext};
use crate::error::{Error, Result};
use crate::strategy::{Slot, Strategy};

/// Rows in, as many rows out, `[batch, n, width]`; a row depends on itself and those before it.
pub trait Layer<B: Backend> {
    /// What it asks to have remembered, in the order in which [`Self::call`] asks for it.
    fn slots(&self) -> Vec<Slot> {
        Vec::new()
    }

    /// The layer's one body: the new rows, with whatever it needs of those before them from `context`.
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor>;

    /// `call(x)`, plus `onto` if there is something. Layers that end in a product add while they multiply,
    /// and have their body here.
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let y = self.call(context, x)?;
        match onto {
            Some(onto) => context.backend().add(onto, &y, 1.0),
            None => Ok(y),
        }
    }

    /// An empty cache for `batch` sequences of at most `capacity` rows.
    ///
    /// # Errors
    /// When the strategy has no form for what the layer remembers.
    fn cache(&self, b: &B, strategy: Strategy, batch: usize, capacity: usize) -> Result<Cache<B>> {
        Cache::new(b, strategy, &self.slots(), batch, capacity)
    }

    /// The rows that follow those in the cache, as many as there are: a prefill, or a step.
    ///
    /// # Errors
    /// When they do not fit, in capacity or batch; the cache is then as it was.
    fn extend(&self, b: &B, cache: &mut Cache<B>, x: &B::Tensor) -> Result<B::Tensor> {
        let [batch, rows, _] = b.shape(x);
        if batch != cache.batch() || rows == 0 {
            let held = cache.batch();
            return Err(Error::Input(format!("{rows} rows of {batch} sequences, for a cache of {held}")));
        }
        cache.stage(b, rows, rows - 1, |_, _| 0)?; // no tokens, but as many
        let y = self.call(&mut cache.context(b), x)?;
        cache.advance();
        Ok(y)
    }

    /// All rows at once, nothing remembered.
    fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        let [batch, rows, _] = b.shape(x);
        self.extend(b, &mut self.cache(b, Strategy::Naive, batch, rows)?, x)
    }
}

/// The same layer in several places of a model: each place has a state of its own.
impl<B: Backend, L: Layer<B> + ?Sized> Layer<B> for Rc<L> {
    fn slots(&self) -> Vec<Slot> {
        (**self).slots()
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        (**self).call(context, x)
    }
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        (**self).call_onto(context, x, onto)
    }
}

/// One after the other; at least one.
pub struct Sequential<B: Backend>(pub Vec<Box<dyn Layer<B>>>);

impl<B: Backend> Layer<B> for Sequential<B> {
    fn slots(&self) -> Vec<Slot> {
        self.0.iter().flat_map(|layer| layer.slots()).collect()
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
        let (last, before) = self.0.split_last().expect("a sequence has at least one layer");
        let mut y = None;
        for layer in before {
            y = Some(layer.call(context, y.as_ref().unwrap_or(x))?);
        }
        last.call_onto(context, y.as_ref().unwrap_or(x), onto)
    }
}

/// `x + layer(x)`.
pub struct Residual<L>(pub L);

impl<B: Backend, L: Layer<B>> Layer<B> for Residual<L> {
    fn slots(&self) -> Vec<Slot> {
        self.0.slots()
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.0.call_onto(context, x, Some(x))
    }
}

/// The sum of what several layers make of the same rows; at least one.
pub struct Parallel<B: Backend>(pub Vec<Box<dyn Layer<B>>>);

impl<B: Backend> Layer<B> for Parallel<B> {
    fn slots(&self) -> Vec<Slot> {
        self.0.iter().flat_map(|branch| branch.slots()).collect()
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (first, others) = self.0.split_first().expect("at least one branch");
        let first = first.call(context, x)?;
        others.iter().try_fold(first, |sum, branch| branch.call_onto(context, x, Some(&sum)))
    }
}

impl<B: Backend> Layer<B> for Norm<B::Tensor> {
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        context.backend().norm(x, self)
    }
}

#[cfg(test)]
mod tests;
