//! The seam between models and machines: [`Backend`], a trait of about twenty fused operations.
//!
//! An operation is what one would write by hand as one kernel: not a primitive (a GPU step would
//! be launch overhead and this trait a framework), not a whole model (two copies that drift).
//! Each is one method here, one in [`cpu`], one in [`cuda`], one file of `kernels/`, and one oracle in
//! the tests, in the same order.
//!
//! Everything is f32 and three-dimensional, `[batch, rows, width]`, row-major. Weights are stored
//! `[1, out, in]`: one-row products then read them in order, and the tied embedding table of the
//! transformer is looked up and multiplied without a second copy.

pub mod cpu;
pub mod cuda;
mod meter;

pub use meter::{Meter, Metered, Work};

use crate::error::Result;

/// `[batch, rows, width]`.
pub type Shape = [usize; 3];

/// Bytes of a tensor of this shape.
pub fn bytes(shape: Shape) -> usize {
    shape.iter().product::<usize>() * size_of::<f32>()
}

/// Columns `from .. from + width` of every row of a tensor: the queries of a fused
/// query-key-value product are read where they lie.
pub struct Columns<'a, T> {
    pub tensor: &'a T,
    pub from: usize,
    pub width: usize,
}

impl<T> Clone for Columns<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Columns<'_, T> {}

/// The rows a layer may read, as its history hands them out.
pub struct View<'a, T> {
    pub rows: Columns<'a, T>,
    pub layout: Layout,
}

/// How positions lie in the rows of a [`View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The newest rows are the last rows. Attention reads no row that it may not see.
    Tail,
    /// Row r holds position r. Attention stops at the newest position.
    Bounded,
    /// Row r holds position r. Attention reads every row and masks with a select.
    Masked,
    /// Row r holds the latest position that is r modulo the number of rows. For windows only.
    Ring,
}

/// What [`Backend::linear`] does to a sum before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    /// GPT-2's tanh approximation of the Gaussian error linear unit.
    Gelu,
}

/// A dense layer's parameters: `weight [1, out, in]`, `bias [1, 1, out]`.
pub struct Linear<T> {
    pub weight: T,
    pub bias: Option<T>,
}

/// Token ids, one equally long sequence per batch entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(pub Vec<Vec<u32>>);

/// What changes from one call of a model to the next while every shape stays the same. It is
/// staged once per call, before the first kernel, and is data of the device from then on, so
/// that one compiled or captured step serves every position.
#[derive(Clone, Debug, Default)]
pub struct Call<Input> {
    /// Ids of the new rows, `[batch, n]` row-major.
    pub tokens: Vec<u32>,
    pub batch: usize,
    /// Position of the first new row. The only position counter there is: the embedding, the
    /// write index and the mask all read this one.
    pub at: usize,
    /// Which of the new rows the logits are wanted of.
    pub last: usize,
    /// The same where the backend's kernels can read it.
    pub input: Input,
}

impl<Input> Call<Input> {
    /// New rows of each batch entry.
    pub fn rows(&self) -> usize {
        self.tokens.len() / self.batch
    }
}

/// Bytes of a device's memory, as its driver counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The most that the pool all tensors come from lent at once: weights, scratch, what strategies keep.
    pub pool_peak_bytes: u64,
    /// In use on the whole device, by everybody.
    pub used_bytes: u64,
}

/// What a backend makes ready before it can run a step of some shape, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Kernels compiled and loaded, nanoseconds of each.
    pub compile_ns: Vec<u64>,
    /// Steps recorded.
    pub captures: Vec<CaptureTimes>,
}

/// What a recording costs once, before the first replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureTimes {
    /// Asking for every operation, none of which runs.
    pub capture_ns: u64,
    /// Making what was recorded ready to launch.
    pub instantiate_ns: u64,
}

/// A machine that can run the models. See the module's documentation.
///
/// A method that returns a tensor takes it from the backend's scratch pool, unless it says
/// *allocates*: the memory that a strategy keeps is asked of the allocator, for every strategy
/// the same one, and what a layer computes in passing is recycled, for every strategy alike.
pub trait Backend {
    type Tensor;
    /// A [`Call`]'s numbers where the kernels can read them. Made once, restaged at every call.
    /// A clone is another handle to the same.
    type Input: Default + Clone;

    /// As in a case id: `cpu`.
    fn name(&self) -> &'static str;
    /// What was allocated and counted so far.
    fn meter(&self) -> &Meter;
    /// Returns when everything asked for is done.
    fn synchronize(&self) -> Result<()>;

    // ---- memory

    /// Constants of a model. Not counted as memory of a strategy.
    fn upload(&self, shape: Shape, data: &[f32]) -> Result<Self::Tensor>;
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    fn shape(&self, x: &Self::Tensor) -> Shape;
    /// Allocates rows of zeros for a strategy to keep.
    fn zeros(&self, shape: Shape) -> Result<Self::Tensor>;
    /// Allocates a copy, for an untimed fork.
    fn duplicate(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Copies a tensor over another of its shape, for an untimed restore.
    fn overwrite(&self, x: &mut Self::Tensor, by: &Self::Tensor) -> Result<()>;
    /// Makes the call's numbers visible to the kernels that follow.
    fn stage(&self, call: &mut Call<Self::Input>) -> Result<()>;
    /// Runs one decode step, whose operations `body` asks for. Two steps of one `shape` differ in
    /// nothing but what was staged, so a backend may record the operations of one and replay them for
    /// the next without calling `body`. `None`: every step has lengths or buffers of its own.
    fn step(
        &self,
        _input: &Self::Input,
        _shape: Option<usize>,
        body: impl FnOnce() -> Result<Self::Tensor>,
    ) -> Result<Self::Tensor> {
        body()
    }

    /// Whether [`Self::step`] replays recordings. One serves the buffers that it was made with, so a copy
    /// of a session that steps are timed on is then restored in place, and not made anew.
    fn replays(&self) -> bool {
        false
    }

    // ---- for those who measure

    /// Runs `work`, and says how long the device took for it by its own clock, where it has one. Returns
    /// when the work is done.
    fn device_ns<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, Option<u64>)> {
        Ok((work()?, None))
    }
    /// Called before every timed step, outside the clock: a device that was asked for steps with a cold
    /// cache empties it here.
    fn before_step(&self) -> Result<()> {
        Ok(())
    }
    /// What the device's own bookkeeping says of its memory, where there is one.
    fn device_memory(&self) -> Result<Option<DeviceMemory>> {
        Ok(None)
    }
    /// What was made ready so far, once and not at every step.
    fn prepared(&self) -> Prepared {
        Prepared::default()
    }
    /// Forgets the kernels that were compiled for lengths of their own, so that the next decode pays for
    /// all of them again.
    fn forget_compiled(&self) {}

    // ---- layers; `n` is the number of new rows

    /// `table[token] (+ positions[at + i])`: `[batch, n, width]`.
    /// table `[1, vocab, width]`, positions `[1, capacity, width]`.
    fn embed(
        &self,
        call: &Call<Self::Input>,
        table: &Self::Tensor,
        positions: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// `(x - mean) / sqrt(var + 1e-5) · gain + bias`, each row by itself; gain, bias `[1, 1, width]`.
    fn layer_norm(&self, x: &Self::Tensor, gain: &Self::Tensor, bias: &Self::Tensor) -> Result<Self::Tensor>;
    /// `activation(x · weightᵀ + bias) (+ residual)`: x `[batch, n, in]`, result `[batch, n, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        layer: &Linear<Self::Tensor>,
        activation: Activation,
        residual: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// `softmax(mask(q·kᵀ/√D))·v` for each of `heads` heads, `[batch, n, width]`. Row r of k and v
    /// is visible to new row i when r <= at + i. With [`Layout::Masked`] all rows are read and
    /// the others are deselected, in the scores and in v: what they hold cannot matter, NaN included.
    fn attention(
        &self,
        call: &Call<Self::Input>,
        q: Columns<'_, Self::Tensor>,
        k: View<'_, Self::Tensor>,
        v: View<'_, Self::Tensor>,
        heads: usize,
    ) -> Result<Self::Tensor>;
    /// Causal convolution, gated linear unit, residual, for the newest n rows of `rows`:
    /// `u = bias + Σ_k x[p-K+1+k]·W[k]`, `y = (u[..C]·sigmoid(u[C..]) + x[p])·√½`, `[batch, n, C]`.
    /// layer.weight `[1, 2C, K·C]` with the tap the slower index; positions before 0 count as zero.
    fn conv_glu(
        &self,
        call: &Call<Self::Input>,
        rows: View<'_, Self::Tensor>,
        layer: &Linear<Self::Tensor>,
        taps: usize,
    ) -> Result<Self::Tensor>;
    /// The row that [`Call::last`] names: `[batch, 1, width]`.
    fn last_row(&self, call: &Call<Self::Input>, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// Index of the largest number in each batch entry's first row; ties to the lowest index.
    fn argmax(&self, x: &Self::Tensor) -> Result<Vec<u32>>;

    // ---- what strategies do to the rows they keep

    /// Allocates the last `keep` rows of `past` followed by `new` without its first `skip` rows:
    /// `[batch, keep + n - skip, width]`.
    fn concat(
        &self,
        past: Option<(&Self::Tensor, usize)>,
        new: Columns<'_, Self::Tensor>,
        skip: usize,
    ) -> Result<Self::Tensor>;
    /// Allocates `past` followed by rows of zeros: `[batch, rows, width]`.
    fn grow(&self, past: &Self::Tensor, rows: usize) -> Result<Self::Tensor>;
    /// `rows[at + i] = new[i]`.
    fn write_rows(
        &self,
        call: &Call<Self::Input>,
        rows: &mut Self::Tensor,
        new: Columns<'_, Self::Tensor>,
    ) -> Result<()>;
    /// `rows[(at + i) mod R] = new[i]`, for the last R new rows.
    fn write_ring(
        &self,
        call: &Call<Self::Input>,
        rows: &mut Self::Tensor,
        new: Columns<'_, Self::Tensor>,
    ) -> Result<()>;
    /// The same into rows of zeros, as a scatter over all R rows: `rows[r] += Σ_i hot[r, i]·new[i]`
    /// with hot[r, i] = (r == at + i).
    fn write_onehot(
        &self,
        call: &Call<Self::Input>,
        rows: &mut Self::Tensor,
        new: Columns<'_, Self::Tensor>,
    ) -> Result<()>;
    /// Moves every row n places down, drops the first n, appends the last of `new`.
    fn shift(&self, rows: &mut Self::Tensor, new: Columns<'_, Self::Tensor>) -> Result<()>;
    /// The `keep` rows before position `at` of a ring or a queue, oldest first, followed by `new`, in
    /// scratch memory: what a window needs to read when several rows come at once.
    /// The result has [`Layout::Tail`]; positions before 0 are rows of zeros.
    fn unroll(
        &self,
        call: &Call<Self::Input>,
        past: View<'_, Self::Tensor>,
        keep: usize,
        new: Columns<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Allocates `out[b] = x[order[b]]`.
    fn gather_batch(&self, x: &Self::Tensor, order: &[usize]) -> Result<Self::Tensor>;
}

#[cfg(test)]
pub mod tests;
