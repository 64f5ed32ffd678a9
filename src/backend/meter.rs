//! Counting, apart from timing. A [`Meter`] belongs to a backend and counts what only that can know:
//! allocations, launches, synchronisations. [`Metered`] stands around any backend and counts what
//! follows from the calls themselves: FLOPs and bytes. Timed runs go without it.

use std::cell::Cell;
use std::ops::Sub;

use super::{
    Activation, AttentionParams, Backend, Call, Columns, Convolution, DeviceMemory, Format, Linear, Norm,
    Shape, View,
};
use crate::dtype::Dtype;
use crate::error::Result;

/// Work done, as running totals. What one step did is the difference of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Requests that reached the allocator: rows kept, and scratch that could not be recycled.
    pub allocs: u64,
    /// Bytes of these requests.
    pub alloc_bytes: u64,
    /// Read and written to keep rows: concatenation, growth, writes. Not what layers then read.
    pub copied_bytes: u64,
    /// Rows of the past and the present that layers read, each once a call.
    pub read_bytes: u64,
    /// Of dense layers, convolutions, attention and one-hot products; a multiply-add is two.
    pub flops: u64,
    /// Kernels started; on the CPU, operations called.
    pub launches: u64,
    /// Times that the host waited for the device.
    pub host_syncs: u64,
}

impl Sub for Work {
    type Output = Work;
    fn sub(self, before: Work) -> Work {
        Work {
            allocs: self.allocs - before.allocs,
            alloc_bytes: self.alloc_bytes - before.alloc_bytes,
            copied_bytes: self.copied_bytes - before.copied_bytes,
            read_bytes: self.read_bytes - before.read_bytes,
            flops: self.flops - before.flops,
            launches: self.launches - before.launches,
            host_syncs: self.host_syncs - before.host_syncs,
        }
    }
}

/// Running totals of a backend's work, and what is allocated of it now and was at most.
#[derive(Default)]
pub struct Meter {
    work: Cell<Work>,
    kept_bytes: Cell<usize>,
    scratch_bytes: Cell<usize>,
    kept_peak_bytes: Cell<usize>,
    peak_bytes: Cell<usize>,
}

impl Meter {
    /// Totals so far.
    pub fn work(&self) -> Work {
        self.work.get()
    }

    /// Bytes of rows kept by strategies, now.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.kept_bytes.get()
    }

    /// The most kept at once since [`Self::reset_peaks`].
    pub(crate) fn kept_peak_bytes(&self) -> usize {
        self.kept_peak_bytes.get()
    }

    /// The same with the scratch tensors in use.
    pub(crate) fn peak_bytes(&self) -> usize {
        self.peak_bytes.get()
    }

    /// Begins to look for the most anew, from what is held now.
    pub(crate) fn reset_peaks(&self) {
        self.kept_peak_bytes.set(self.kept_bytes.get());
        self.peak_bytes.set(self.kept_bytes.get() + self.scratch_bytes.get());
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Work)) {
        let mut work = self.work.get();
        change(&mut work);
        self.work.set(work);
    }

    pub(super) fn allocated(&self, bytes: usize) {
        self.count(|work| {
            work.allocs += 1;
            work.alloc_bytes += bytes as u64;
        });
    }

    pub(super) fn keep(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() + bytes);
        self.raise_peaks();
    }

    pub(super) fn drop_kept(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get() - bytes);
    }

    pub(super) fn borrow_scratch(&self, bytes: usize) {
        self.scratch_bytes.set(self.scratch_bytes.get() + bytes);
        self.raise_peaks();
    }

    pub(super) fn return_scratch(&self, bytes: usize) {
        self.scratch_bytes.set(self.scratch_bytes.get() - bytes);
    }

    fn raise_peaks(&self) {
        let (kept, scratch) = (self.kept_bytes.get(), self.scratch_bytes.get());
        self.kept_peak_bytes.set(self.kept_peak_bytes.get().max(kept));
        self.peak_bytes.set(self.peak_bytes.get().max(kept + scratch));
    }
}

/// Any backend, with the work that its calls ask for counted on its meter. Its steps are never
/// replayed from a recording: every one makes its calls, so that they can be counted.
pub struct Metered<B>(pub B);

impl<B: Backend> Metered<B> {
    fn count(&self, change: impl FnOnce(&mut Work)) {
        self.0.meter().count(change);
    }

    /// Bytes of `rows` rows of each batch entry of a tensor.
    fn rows_bytes(&self, tensor: &B::Tensor, rows: usize, width: usize) -> u64 {
        let [batch, _, _] = self.0.shape(tensor);
        self.0.format(tensor).bytes([batch, rows, width]) as u64
    }

    fn copied(&self, bytes: u64) {
        self.count(|work| work.copied_bytes += bytes);
    }
}

impl<B: Backend> Backend for Metered<B> {
    type Tensor = B::Tensor;
    type Input = B::Input;

    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn meter(&self) -> &Meter {
        self.0.meter()
    }
    fn synchronize(&self) -> Result<()> {
        self.0.synchronize()
    }
    fn upload_as(&self, shape: Shape, data: &[f32], dtype: Dtype) -> Result<B::Tensor> {
        self.0.upload_as(shape, data, dtype)
    }
    fn download(&self, x: &B::Tensor) -> Result<Vec<f32>> {
        self.0.download(x)
    }
    fn shape(&self, x: &B::Tensor) -> Shape {
        self.0.shape(x)
    }
    fn format(&self, x: &B::Tensor) -> Format {
        self.0.format(x)
    }
    fn zeros_as(&self, shape: Shape, format: Format) -> Result<B::Tensor> {
        self.0.zeros_as(shape, format)
    }
    fn duplicate(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.0.duplicate(x)
    }
    fn overwrite(&self, x: &mut B::Tensor, by: &B::Tensor) -> Result<()> {
        self.0.overwrite(x, by)
    }
    fn stage(&self, call: &mut Call<B::Input>) -> Result<()> {
        self.0.stage(call)
    }
    fn device_memory(&self) -> Result<Option<DeviceMemory>> {
        self.0.device_memory()
    }
    fn free_bytes(&self) -> Result<Option<u64>> {
        self.0.free_bytes()
    }

    fn embed(
        &self,
        call: &Call<B::Input>,
        table: &B::Tensor,
        positions: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        self.0.embed(call, table, positions)
    }
    fn norm(&self, x: &B::Tensor, norm: &Norm<B::Tensor>) -> Result<B::Tensor> {
        self.0.norm(x, norm)
    }
    fn linear(
        &self,
        x: &B::Tensor,
        layer: &Linear<B::Tensor>,
        activation: Activation,
        residual: Option<&B::Tensor>,
    ) -> Result<B::Tensor> {
        let ([batch, rows, inner], [_, out, _]) = (self.0.shape(x), self.0.shape(&layer.weight));
        self.count(|work| work.flops += (2 * batch * rows * inner * out) as u64);
        self.0.linear(x, layer, activation, residual)
    }
    fn swiglu(&self, x: &B::Tensor) -> Result<B::Tensor> {
        self.0.swiglu(x)
    }
    fn add(&self, a: &B::Tensor, b: &B::Tensor, scale: f32) -> Result<B::Tensor> {
        self.0.add(a, b, scale)
    }
    fn rope(
        &self,
        call: &Call<B::Input>,
        x: Columns<'_, B::Tensor>,
        cos_sin: &B::Tensor,
    ) -> Result<B::Tensor> {
        self.0.rope(call, x, cos_sin)
    }
    fn attention(
        &self,
        call: &Call<B::Input>,
        q: Columns<'_, B::Tensor>,
        k: View<'_, B::Tensor>,
        v: View<'_, B::Tensor>,
        params: &AttentionParams<'_, B::Tensor>,
    ) -> Result<B::Tensor> {
        let ([batch, n, _], [entries, rows, _]) = (self.0.shape(q.tensor), self.0.shape(k.rows.tensor));
        let visited = |start: usize, i: usize| params.visited(k.layout, rows, call.at, start, i);
        let pairs = |start: usize| (0..n).map(|i| visited(start, i)).sum::<usize>();
        let pairs = call.left_padding.iter().map(|&start| pairs(start)).sum::<usize>() * (batch / entries);
        let read: usize =
            call.left_padding.iter().map(|&start| params.read(k.layout, rows, call.at, start, n)).sum();
        self.count(|work| {
            work.flops += (4 * pairs * q.width) as u64;
            work.read_bytes += 2 * self.0.format(k.rows.tensor).bytes([1, read, k.rows.width]) as u64;
        });
        self.0.attention(call, q, k, v, params)
    }
    fn conv_glu(
        &self,
        call: &Call<B::Input>,
        rows: View<'_, B::Tensor>,
        convolution: &Convolution<B::Tensor>,
    ) -> Result<B::Tensor> {
        let [_, out, inner] = self.0.shape(&convolution.linear.weight);
        let read = self.rows_bytes(rows.rows.tensor, convolution.taps - 1 + call.rows(), rows.rows.width);
        self.count(|work| {
            work.flops += (2 * call.batch * call.rows() * inner * out) as u64;
            work.read_bytes += read;
        });
        self.0.conv_glu(call, rows, convolution)
    }
    fn retain(
        &self,
        call: &Call<B::Input>,
        qkv: [Columns<'_, B::Tensor>; 3],
        state: Option<&mut B::Tensor>,
        decays: &B::Tensor,
    ) -> Result<B::Tensor> {
        let ([q, _, v], [_, _, heads]) = (qkv, self.0.shape(decays));
        let numbers = call.batch * q.width * v.width / heads;
        // S is multiplied, added to and multiplied with once a row; read once and written once a call
        self.count(|work| {
            work.flops += (5 * call.rows() * numbers) as u64;
            work.read_bytes += 4 * numbers as u64;
        });
        if state.is_some() {
            self.copied(4 * numbers as u64);
        }
        self.0.retain(call, qkv, state, decays)
    }
    fn lag(&self, call: &Call<B::Input>, rows: View<'_, B::Tensor>, back: usize) -> Result<B::Tensor> {
        if back > 0 {
            // with none back it copies new rows, which no cache keeps
            let read = self.rows_bytes(rows.rows.tensor, call.rows(), rows.rows.width);
            self.count(|work| work.read_bytes += read);
        }
        self.0.lag(call, rows, back)
    }
    fn last_row(&self, call: &Call<B::Input>, x: B::Tensor) -> Result<B::Tensor> {
        self.0.last_row(call, x)
    }
    fn argmax(&self, x: &B::Tensor) -> Result<Vec<u32>> {
        self.0.argmax(x)
    }
    fn chooses_ahead(&self) -> bool {
        self.0.chooses_ahead()
    }
    fn choose(&self, call: &Call<B::Input>, x: &B::Tensor, ids: &mut B::Tensor, row: usize) -> Result<()> {
        self.0.choose(call, x, ids, row)
    }

    fn cast(&self, new: Columns<'_, B::Tensor>, format: Format) -> Result<B::Tensor> {
        let [batch, n, _] = self.0.shape(new.tensor);
        self.copied(format.bytes([batch, n, new.width]) as u64);
        self.0.cast(new, format)
    }
    fn concat(
        &self,
        past: Option<(&B::Tensor, usize)>,
        new: Columns<'_, B::Tensor>,
        skip: usize,
    ) -> Result<B::Tensor> {
        let (keep, [_, n, _]) = (past.map_or(0, |(_, keep)| keep), self.0.shape(new.tensor));
        self.copied(self.rows_bytes(new.tensor, 2 * keep + n - skip, new.width));
        self.0.concat(past, new, skip)
    }
    fn grow(&self, past: &B::Tensor, rows: usize) -> Result<B::Tensor> {
        let [_, held, width] = self.0.shape(past);
        self.copied(self.rows_bytes(past, held + rows, width));
        self.0.grow(past, rows)
    }
    fn write_rows(
        &self,
        call: &Call<B::Input>,
        rows: &mut B::Tensor,
        new: Columns<'_, B::Tensor>,
    ) -> Result<()> {
        self.copied(self.rows_bytes(rows, call.rows(), new.width));
        self.0.write_rows(call, rows, new)
    }
    fn write_ring(
        &self,
        call: &Call<B::Input>,
        rows: &mut B::Tensor,
        new: Columns<'_, B::Tensor>,
    ) -> Result<()> {
        let [_, taps, _] = self.0.shape(rows);
        self.copied(self.rows_bytes(rows, taps.min(call.rows()), new.width));
        self.0.write_ring(call, rows, new)
    }
    fn write_onehot(
        &self,
        call: &Call<B::Input>,
        rows: &mut B::Tensor,
        new: Columns<'_, B::Tensor>,
    ) -> Result<()> {
        let [batch, all, width] = self.0.shape(rows);
        self.copied(self.rows_bytes(rows, 2 * all, width));
        self.count(|work| work.flops += (2 * batch * all * width * call.rows()) as u64);
        self.0.write_onehot(call, rows, new)
    }
    fn shift(&self, rows: &mut B::Tensor, new: Columns<'_, B::Tensor>) -> Result<()> {
        let ([_, taps, width], [_, n, _]) = (self.0.shape(rows), self.0.shape(new.tensor));
        let moved = taps.saturating_sub(n);
        self.copied(self.rows_bytes(rows, moved + taps, width));
        self.0.shift(rows, new)
    }
    fn unroll(
        &self,
        call: &Call<B::Input>,
        past: View<'_, B::Tensor>,
        keep: usize,
        new: Columns<'_, B::Tensor>,
    ) -> Result<B::Tensor> {
        self.copied(self.rows_bytes(new.tensor, 2 * (keep + call.rows()), new.width));
        self.0.unroll(call, past, keep, new)
    }
    fn gather_batch(&self, x: &B::Tensor, order: &[usize]) -> Result<B::Tensor> {
        let [_, rows, width] = self.0.shape(x);
        self.copied(2 * self.0.format(x).bytes([order.len(), rows, width]) as u64);
        self.0.gather_batch(x, order)
    }
}
