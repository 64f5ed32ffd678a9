//! fairseq's `LinearizedConvolution`: trained as one convolution over all positions, stepped as one
//! linear layer over the last K inputs.

use crate::backend::{whole, Backend, Convolution};
use crate::cache::LayerContext;
use crate::error::Result;
use crate::layer::Layer;
use crate::strategy::Slot;

/// With its gated linear unit, and as [`Convolution::residual`] says.
pub struct LinearizedConvolution<B: Backend> {
    /// Of K taps and C channels.
    pub convolution: Convolution<B::Tensor>,
    /// C.
    pub channels: usize,
}

impl<B: Backend> Layer<B> for LinearizedConvolution<B> {
    fn slots(&self) -> Vec<Slot> {
        vec![Slot::Window { width: self.channels, heads: 1, rows: self.convolution.taps }]
    }
    fn call(&self, context: &mut LayerContext<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let (b, call) = (context.backend(), context.call());
        let rows = context.append(whole(b, x))?;
        b.conv_glu(call, rows, &self.convolution)
    }
}
