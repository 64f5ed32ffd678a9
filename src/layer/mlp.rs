//! Layers that see one row at a time and remember nothing.

use crate::backend::{Activation, Backend, Linear};
use crate::cache::LayerContext;
use crate::error::Result;
use crate::layer::Layer;

/// `activation(x·Wᵀ + b)`.
pub struct Dense<B: Backend> {
    /// `[1, out, in]`
    pub linear: Linear<B::Tensor>,
    /// Of the sum.
    pub activation: Activation,
}

impl<B: Backend> Layer<B> for Dense<B> {
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(context, x, None)
    }
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        context.backend().linear(x, &self.linear, self.activation, onto)
    }
}

/// `down(activation(up(x)))`.
pub struct Mlp<B: Backend> {
    /// `[1, F, width]`
    pub up: Linear<B::Tensor>,
    /// Between the two products.
    pub activation: Activation,
    /// `[1, width, F]`
    pub down: Linear<B::Tensor>,
}

impl<B: Backend> Layer<B> for Mlp<B> {
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(context, x, None)
    }
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let h = context.backend().linear(x, &self.up, self.activation, None)?;
        context.backend().linear(&h, &self.down, Activation::None, onto)
    }
}

/// SwiGLU (Shazeer 2020): `down(silu(gate(x)) ⊙ up(x))`.
pub struct GatedMlp<B: Backend> {
    /// `[1, 2F, width]`: the gate's F outputs, then the others.
    pub gate_up: Linear<B::Tensor>,
    /// `[1, width, F]`
    pub down: Linear<B::Tensor>,
}

impl<B: Backend> Layer<B> for GatedMlp<B> {
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        self.call_onto(context, x, None)
    }
    fn call_onto(
        &self,
        context: &mut LayerContext<'_, B>,
        x: &B::Tensor,
        onto: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let b = context.backend();
        let h = b.swiglu(&b.linear(x, &self.gate_up, Activation::None, None)?)?;
        b.linear(&h, &self.down, Activation::None, onto)
    }
}
