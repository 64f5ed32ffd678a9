//! The seam between models and machines: [`Backend`], a trait of about twenty-five fused operations.
//!
//! An operation is what one would write by hand as one kernel: not a primitive (a GPU step would
//! be launch overhead and this trait a framework), not a whole model (two copies that drift).
//! Each is one method here, one in [`cpu`], one in [`cuda`], one file of `kernels/`, and one oracle in
//! the tests, in the same order.
//!
//! Everything is three-dimensional, `[batch, rows, width]`, row-major, and computed in f32. Weights are stored
//! `[1, out, in]`, in any [`Dtype`]: one-row products then read them in order, and the tied embedding table of the
//! transformer is read by rows and multiplied without a second copy.

pub mod cpu;
pub mod cuda;
mod meter;

pub use meter::{Meter, Metered, Work};

use crate::dtype::Dtype;
use crate::error::Result;

/// `[batch, rows, width]`.
pub type Shape = [usize; 3];

/// How the numbers of a tensor are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Of the numbers.
    pub dtype: Dtype,
    /// Parts of a row, each with a scale of its own, of int8: the scales, f32, follow the row's numbers.
    pub heads: usize,
}

impl Format {
    /// Of all but weights and caches.
    pub const F32: Format = Format { dtype: Dtype::F32, heads: 1 };

    /// Bytes of a row of so many numbers.
    pub fn row_bytes(self, width: usize) -> usize {
        match self.dtype {
            Dtype::Int8 => width + size_of::<f32>() * self.heads,
            dtype => width * dtype.bytes(),
        }
    }

    /// Bytes of a tensor of this shape.
    pub fn bytes(self, [batch, rows, width]: Shape) -> usize {
        batch * rows * self.row_bytes(width)
    }
}

/// Bytes of a tensor of this shape in f32.
pub fn bytes(shape: Shape) -> usize {
    Format::F32.bytes(shape)
}

/// Columns `from .. from + width` of every row of a tensor: the queries of a fused
/// query-key-value product are read where they lie.
pub struct Columns<'a, T> {
    /// Whose columns they are.
    pub tensor: &'a T,
    /// The first column.
    pub from: usize,
    /// How many columns.
    pub width: usize,
}

impl<T> Clone for Columns<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Columns<'_, T> {}

/// All columns of a tensor.
pub fn whole<'a, B: Backend>(b: &B, tensor: &'a B::Tensor) -> Columns<'a, B::Tensor> {
    let [_, _, width] = b.shape(tensor);
    Columns { tensor, from: 0, width }
}

/// The rows a layer may read, as its history hands them out.
pub struct View<'a, T> {
    /// Keys, values or inputs, `[batch, rows, width]`.
    pub rows: Columns<'a, T>,
    /// Which position each row holds.
    pub layout: Layout,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<'_, T> {}

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
    /// The sum as it is.
    None,
    /// GPT-2's tanh approximation of the Gaussian error linear unit.
    Gelu,
    /// The Gaussian error linear unit itself: `x/2·(1 + erf(x/√2))`.
    GeluErf,
    /// `max(x, 0)`.
    Relu,
    /// `x·sigmoid(x)`, also called swish.
    Silu,
}

impl Activation {
    /// All of them.
    pub const ALL: &[Activation] =
        &[Activation::None, Activation::Gelu, Activation::GeluErf, Activation::Relu, Activation::Silu];
}

/// How a row is brought to one size: `(x - mean) / sqrt(var + eps) · gain + bias`, or, root mean square,
/// `x / sqrt(mean(x²) + eps) · gain`; gain and bias `[1, 1, width]`.
pub struct Norm<T> {
    /// `[1, 1, width]`
    pub gain: T,
    /// `None`: by the root mean square.
    pub bias: Option<T>,
    /// Keeps the root from zero.
    pub eps: f32,
}

/// Which rows of keys and values a query attends to. Padding, before its sentence's
/// [`Call::left_padding`], is never among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Its own position and all before it.
    Causal,
    /// The latest so many positions, its own among them (Mistral's sliding window).
    SlidingWindow(usize),
    /// Every row: those of an encoder's output, which has no order in time.
    Full,
}

/// `1/√D`, so that products of random queries and keys have a spread of 1.
pub fn usual_scale(size: usize) -> f32 {
    1.0 / (size as f32).sqrt()
}

/// What attention is besides its queries, keys and values.
pub struct AttentionParams<'a, T> {
    /// Number of query heads.
    pub heads: usize,
    /// Heads of keys and values; each serves `heads / kv_heads` neighbouring ones of the queries.
    pub kv_heads: usize,
    /// Of the products of queries and keys; usually `1/√D`.
    pub scale: f32,
    /// Rows that a query attends to.
    pub mask: Mask,
    /// `[1, 1, heads]`: a head's scores are less by its slope times the distance (ALiBi; Press et al. 2022).
    pub slopes: Option<&'a T>,
}

impl<T> AttentionParams<'_, T> {
    /// As many heads of keys as of queries, each `size` wide, looking at the past.
    pub fn causal(heads: usize, size: usize) -> Self {
        AttentionParams { heads, kv_heads: heads, scale: usual_scale(size), mask: Mask::Causal, slopes: None }
    }

    /// Rows that new row i of an entry visits.
    pub(crate) fn visited(&self, layout: Layout, rows: usize, at: usize, start: usize, i: usize) -> usize {
        let end = at + i + 1;
        match (self.mask, layout) {
            (Mask::Full, _) => rows.saturating_sub(start),
            (_, Layout::Masked) => rows,
            (Mask::Causal, _) => end.saturating_sub(start).min(rows),
            (Mask::SlidingWindow(window), _) => end.saturating_sub(start).min(window).min(rows),
        }
    }

    /// Rows that any of an entry's n new rows visits, each counted once.
    pub fn read(&self, layout: Layout, rows: usize, at: usize, start: usize, n: usize) -> usize {
        let by_last = self.visited(layout, rows, at, start, n - 1);
        match (self.mask, layout) {
            (Mask::SlidingWindow(_), Layout::Tail | Layout::Bounded | Layout::Ring) => {
                (by_last + n - 1).min(rows).min((at + n).saturating_sub(start))
            }
            _ => by_last,
        }
    }
}

/// A convolution with its gated linear unit. Weight `[1, 2C, K·C]` with the tap the slower index.
pub struct Convolution<T> {
    /// Weight `[1, 2C, K·C]`, and its bias; no norm.
    pub linear: Linear<T>,
    /// K.
    pub taps: usize,
    /// How many of the taps lie on later rows: 0, unless all rows are there from the start.
    pub ahead: usize,
    /// Whether the row itself is added to what the gate lets through, and the sum scaled by √½.
    pub residual: bool,
}

/// A dense layer's parameters: `weight [1, out, in]`, `bias [1, 1, out]`, and the norm of its input, where there is
/// one.
pub struct Linear<T> {
    /// What its rows are brought to one size by, before the product.
    pub norm: Option<Norm<T>>,
    /// `[1, out, in]`
    pub weight: T,
    /// `[1, 1, out]`
    pub bias: Option<T>,
}

/// Token ids, one equally long sequence per batch entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(pub Vec<Vec<u32>>);

impl Tokens {
    /// Of the longest sequence.
    pub fn longest(&self) -> usize {
        self.0.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Ids for positions `from .. to`, the same in every run and for every strategy, different in each
    /// batch entry. What they say does not matter to the time; that they differ does to the logits.
    pub fn given(batch: usize, from: usize, to: usize, vocab: usize) -> Tokens {
        let id = |entry: usize, position: usize| {
            ((position * 7919 + entry * 104_729 + position * position) % vocab) as u32
        };
        Tokens((0..batch).map(|entry| (from..to).map(|position| id(entry, position)).collect()).collect())
    }
}

/// What changes from one call of a model to the next while every shape stays the same. It is
/// staged once per call, before the first kernel, and is data of the device from then on, so
/// that one compiled or captured step serves every position.
#[derive(Clone, Debug, Default)]
pub struct Call<Input> {
    /// Ids of the new rows, `[batch, n]` row-major.
    pub tokens: Vec<u32>,
    /// Entries, each of as many new rows.
    pub batch: usize,
    /// Where each entry begins: rows before are padding, so that sentences of several lengths end
    /// together. A row's position in its sentence is its index less this.
    pub left_padding: Vec<usize>,
    /// Index of the first new row. The only position counter there is: the embedding, the
    /// write index and the mask all read this one.
    pub at: usize,
    /// Which of the new rows the logits are wanted of.
    pub last: usize,
    /// The same where the backend's kernels can read it.
    pub input: Input,
}

/// In place of a token: the one that [`Backend::choose`] chose last for the entry.
pub const NEXT: u32 = u32::MAX;

impl<Input: Default> Call<Input> {
    /// `tokens` of `batch` entries side by side, the first at position `at`, without padding; the logits
    /// wanted of the last. Not staged yet.
    pub fn new(tokens: Vec<u32>, batch: usize, at: usize) -> Call<Input> {
        let last = (tokens.len() / batch).saturating_sub(1);
        Call { tokens, batch, left_padding: vec![0; batch], at, last, input: Input::default() }
    }
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

/// How long some work took by the clock of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTime {
    /// It has no such clock, or none that can be used.
    Unknown,
    /// The device began before all was queued, so that its time may contain the host's. It will be kept busy
    /// for longer the next time.
    Waited,
    /// Nanoseconds.
    Ns(u64),
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
    /// Bringing it to the device.
    pub upload_ns: u64,
    /// The first replay, from its launch to its end: a whole step, and what is only done then.
    pub first_replay_ns: u64,
}

/// A machine that can run the models. See the module's documentation.
///
/// A method that returns a tensor takes it from the backend's scratch pool, unless it says
/// *allocates*: the memory that a strategy keeps is asked of the allocator, for every strategy
/// the same one, and what a layer computes in passing is recycled, for every strategy alike.
pub trait Backend: Sized + 'static {
    /// Numbers of three lengths where the backend keeps them: f32, but weights and kept rows may be of another [`Dtype`].
    type Tensor: 'static;
    /// A [`Call`]'s numbers where the kernels can read them. Made once, restaged at every call.
    /// A clone is another handle to the same.
    type Input: Default + Clone + 'static;

    /// As in a case id: `cpu`.
    fn name(&self) -> &'static str;
    /// What was allocated and counted so far.
    fn meter(&self) -> &Meter;
    /// Returns when everything asked for is done.
    fn synchronize(&self) -> Result<()>;

    // ---- memory

    /// Constants of a model, in f32. Not counted as memory of a strategy.
    fn upload(&self, shape: Shape, data: &[f32]) -> Result<Self::Tensor> {
        self.upload_as(shape, data, Dtype::F32)
    }
    /// The same, rounded to the nearest numbers of a type.
    ///
    /// # Errors
    /// When one is too large for it, or the backend computes with no such numbers.
    fn upload_as(&self, shape: Shape, data: &[f32], dtype: Dtype) -> Result<Self::Tensor>;
    /// All numbers, row-major, as f32. Waits for the device.
    fn download(&self, x: &Self::Tensor) -> Result<Vec<f32>>;
    /// Three lengths: `[batch, rows, width]` of most.
    fn shape(&self, x: &Self::Tensor) -> Shape;
    /// How its numbers are kept.
    fn format(&self, x: &Self::Tensor) -> Format;
    /// Bytes of a tensor.
    fn bytes(&self, x: &Self::Tensor) -> usize {
        self.format(x).bytes(self.shape(x))
    }
    /// Allocates rows of zeros for a strategy to keep, in f32.
    fn zeros(&self, shape: Shape) -> Result<Self::Tensor> {
        self.zeros_as(shape, Format::F32)
    }
    /// The same in any format.
    fn zeros_as(&self, shape: Shape, format: Format) -> Result<Self::Tensor>;
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

    // ---- for measuring

    /// Runs `work`, and says how long the device took for it by its own clock. Returns when the work is done.
    fn device_ns<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, DeviceTime)> {
        Ok((work()?, DeviceTime::Unknown))
    }
    /// Whether steps can be queued one behind the other, and it is asked how long they take then.
    fn pipelines(&self) -> bool {
        false
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
    /// Bytes that tensors may still take, where that is known.
    fn free_bytes(&self) -> Result<Option<u64>> {
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

    /// `table[token] (+ positions[at + i - start])`: `[batch, n, width]`; padding has position 0.
    /// table `[1, vocab, width]`, positions `[1, capacity, width]`.
    fn embed(
        &self,
        call: &Call<Self::Input>,
        table: &Self::Tensor,
        positions: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Each row by itself, as [`Norm`] says; where the gain is shorter than a row, each head of as many numbers.
    fn norm(&self, x: &Self::Tensor, norm: &Norm<Self::Tensor>) -> Result<Self::Tensor>;
    /// `activation(norm(x) · weightᵀ + bias) (+ residual)`: x `[batch, n, in]`, result `[batch, n, out]`.
    fn linear(
        &self,
        x: &Self::Tensor,
        layer: &Linear<Self::Tensor>,
        activation: Activation,
        residual: Option<&Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// `silu(x[..F]) ⊙ x[F..]`: x `[batch, n, 2F]`, result `[batch, n, F]`.
    fn swiglu(&self, x: &Self::Tensor) -> Result<Self::Tensor>;
    /// `(a + b)·scale`.
    fn add(&self, a: &Self::Tensor, b: &Self::Tensor, scale: f32) -> Result<Self::Tensor>;
    /// Rotary position embedding: each head of `size` numbers rotated by its position, `[batch, n, x.width]`: numbers j and j + size/2
    /// are a point, rotated by the angle whose cosine and sine are `cos_sin[at + i - left_padding][j]` and `[j + size/2]`.
    /// cos_sin `[1, capacity, size]`.
    fn rope(
        &self,
        call: &Call<Self::Input>,
        x: Columns<'_, Self::Tensor>,
        cos_sin: &Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// `softmax(mask(scale·q·kᵀ))·v` for each head, `[batch, n, q.width]`; which rows are visible says
    /// [`AttentionParams::mask`]. With [`Layout::Masked`] all rows are read and the others are deselected, in the
    /// scores and in v: what they hold cannot matter, NaN included. A row that sees none is zeros.
    /// With [`Mask::Full`] k and v may have fewer entries than q, and then each serves as many neighbours.
    fn attention(
        &self,
        call: &Call<Self::Input>,
        q: Columns<'_, Self::Tensor>,
        k: View<'_, Self::Tensor>,
        v: View<'_, Self::Tensor>,
        params: &AttentionParams<'_, Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Convolution and gated linear unit for the newest n rows of `rows`:
    /// `u = bias + Σ_k x[p-K+1+k+ahead]·W[k]`, `y = u[..C]·sigmoid(u[C..])`, with a residual
    /// `(y + x[p])·√½`: `[batch, n, C]`. Positions that are not there, or padding, count as zero.
    fn conv_glu(
        &self,
        call: &Call<Self::Input>,
        rows: View<'_, Self::Tensor>,
        convolution: &Convolution<Self::Tensor>,
    ) -> Result<Self::Tensor>;
    /// Retention (Sun et al. 2023): `S = decay·S + kᵀ·v` and `q·S` of each head, row after row,
    /// `[batch, n, v.width]`. `decays [1, 1, heads]`; `state [batch, heads·D, v.width/heads]` is S before the
    /// first new row and after the last; without, it begins as zeros. Padding leaves no trace.
    fn retain(
        &self,
        call: &Call<Self::Input>,
        qkv: [Columns<'_, Self::Tensor>; 3],
        state: Option<&mut Self::Tensor>,
        decays: &Self::Tensor,
    ) -> Result<Self::Tensor>;
    /// The row `back` before each new one, `[batch, n, width]`: zeros where that is before the first.
    fn lag(
        &self,
        call: &Call<Self::Input>,
        rows: View<'_, Self::Tensor>,
        back: usize,
    ) -> Result<Self::Tensor>;
    /// The row that [`Call::last`] names: `[batch, 1, width]`; x itself where it has no other.
    fn last_row(&self, call: &Call<Self::Input>, x: Self::Tensor) -> Result<Self::Tensor>;
    /// Index of the largest number in each batch entry's first row; ties to the lowest index.
    fn argmax(&self, x: &Self::Tensor) -> Result<Vec<u32>>;
    /// Whether [`Self::choose`] can be asked, so that a step is queued before its token is known to the host.
    fn chooses_ahead(&self) -> bool {
        false
    }
    /// [`Self::argmax`] without waiting: into row `row` of `ids` `[1, rows, batch]`, as bits, and as what tokens
    /// that are staged as [`NEXT`] mean from now on.
    fn choose(
        &self,
        _call: &Call<Self::Input>,
        _x: &Self::Tensor,
        _ids: &mut Self::Tensor,
        _row: usize,
    ) -> Result<()> {
        unreachable!("asked only of those who choose ahead")
    }

    // ---- what strategies do to the rows they keep, all of one format

    /// New rows in the format that they are kept in, which is not f32, `[batch, n, width]`: the nearest numbers; for int8 the largest of
    /// a head is ±127 times its scale, and a head of zeros has the scale 0.
    ///
    /// # Errors
    /// When the backend computes with no such numbers.
    fn cast(&self, new: Columns<'_, Self::Tensor>, format: Format) -> Result<Self::Tensor>;
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
