//! The models on a CPU: vector kernels with run-time detection, one pool of threads for all that
//! is parallel, `ndarray` views over memory of three kinds (`memory`).

pub mod ceiling;
mod element;
mod free;
pub mod kernels;
mod memory;
pub mod pool;

use std::rc::Rc;

use half::{bf16, f16};
use ndarray::{s, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis, ShapeBuilder};

use element::Element;
use kernels::PastRows;
pub(crate) use memory::{collect, room, zeros};
pub use memory::{keep_freed_memory, Tensor};
use memory::{kept, kept_zeros, Arena, Scratch};
use pool::Pool;

use super::{
    whole, Activation, AttentionParams, Backend, Call, Columns, Convolution, Format, Layout, Linear, Meter,
    Norm, Shape, View,
};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// The CPU as a backend: a pool of threads, and memory that is recycled.
pub struct Cpu {
    pool: Pool,
    meter: Rc<Meter>,
    scratch: Rc<Scratch>,
    weights: Arena,
}

impl Cpu {
    /// A backend that runs every operation on `threads` threads, the caller's among them.
    ///
    /// # Errors
    /// When the system has not so many to give.
    pub fn new(threads: usize) -> Result<Cpu> {
        keep_freed_memory();
        let meter = Rc::new(Meter::default());
        let scratch = Rc::new(Scratch::new(meter.clone()));
        Ok(Cpu { pool: Pool::new(threads)?, meter, scratch, weights: Arena::default() })
    }

    /// The threads that all operations share.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    fn launch(&self) {
        self.meter.count(|work| work.launches += 1);
    }
}

impl Tensor {
    fn view(&self) -> ArrayView3<'_, f32> {
        ArrayView3::from_shape(self.shape(), self.as_slice()).expect("a slice of the shape's size")
    }

    fn view_mut(&mut self) -> ArrayViewMut3<'_, f32> {
        ArrayViewMut3::from_shape(self.shape(), self.as_mut_slice()).expect("a slice of the shape's size")
    }

    /// Rows of all batch entries, one below the other.
    fn rows(&self) -> ArrayView2<'_, f32> {
        self.rows_of()
    }

    fn rows_of<E: Element>(&self) -> ArrayView2<'_, E> {
        let [batch, rows, width] = self.shape();
        ArrayView2::from_shape((batch * rows, width), self.elements()).expect("a slice of the shape's size")
    }

    fn rows_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        let [batch, rows, width] = self.shape();
        ArrayViewMut2::from_shape((batch * rows, width), self.as_mut_slice())
            .expect("a slice of the shape's size")
    }
}

/// An expression over a kind of numbers: an [`Element`] for each [`Dtype`], and for int8, unless it is given, another
/// expression.
macro_rules! with_element {
    ($dtype:expr, |$element:ident| $body:expr) => {
        with_element!($dtype, |$element| $body, {
            type $element = i8;
            $body
        })
    };
    ($dtype:expr, |$element:ident| $body:expr, $of_int8:expr) => {
        match $dtype {
            Dtype::F32 => {
                type $element = f32;
                $body
            }
            Dtype::Bf16 => {
                type $element = bf16;
                $body
            }
            Dtype::F16 => {
                type $element = f16;
                $body
            }
            Dtype::Int8 => $of_int8,
        }
    };
}

/// An expression over the rows of weights.
macro_rules! with_rows {
    ($tensor:expr, |$rows:ident| $body:expr) => {
        with_element!(
            $tensor.format().dtype,
            |E| {
                let $rows = $tensor.rows_of::<E>();
                $body
            },
            unreachable!("no weights are int8")
        )
    };
}

/// `[batch, rows, columns.width]`.
fn view<'a>(columns: Columns<'a, Tensor>) -> ArrayView3<'a, f32> {
    columns.tensor.view().slice_move(s![.., .., columns.from..columns.from + columns.width])
}

/// The bytes of these columns, whatever they are of; of int8 all columns are taken, and the scales with them.
fn bytes_of(columns: Columns<'_, Tensor>) -> ArrayView3<'_, u8> {
    let Columns { tensor, from, width } = columns;
    let ([batch, rows, all], Format { dtype, .. }) = (tensor.shape(), tensor.format());
    let shape = (batch, rows, tensor.format().row_bytes(all));
    let bytes = ArrayView3::from_shape(shape, tensor.raw()).expect("rows of so many bytes");
    match dtype {
        Dtype::Int8 => {
            assert_eq!((from, width), (0, all), "a head's scale is not among its columns");
            bytes
        }
        _ => bytes.slice_move(s![.., .., from * dtype.bytes()..(from + width) * dtype.bytes()]),
    }
}

fn bytes_of_mut(tensor: &mut Tensor) -> ArrayViewMut3<'_, u8> {
    let [batch, rows, width] = tensor.shape();
    let shape = (batch, rows, tensor.format().row_bytes(width));
    ArrayViewMut3::from_shape(shape, tensor.raw_mut()).expect("rows of so many bytes")
}

/// Rows that a strategy keeps, as attention reads them.
fn past<E: Element>(columns: Columns<'_, Tensor>) -> PastRows<'_, E> {
    assert_eq!(E::DTYPE, columns.tensor.format().dtype, "keys and values are of one type");
    let bytes = bytes_of(columns);
    let ((batch, rows, row_bytes), width) = (bytes.dim(), columns.width);
    let [entry, row] = [0, 1].map(|axis| bytes.strides()[axis] as usize / size_of::<E>());
    let shape = (batch, rows, width).strides((entry, row, 1));
    // SAFETY: every row begins with its numbers, aligned, since rows of all but int8 are whole numbers of them.
    let numbers = unsafe { ArrayView3::from_shape_ptr(shape, bytes.as_ptr().cast()) };
    let scales = E::SCALED.then(|| bytes.slice_move(s![.., .., width..row_bytes]));
    PastRows { numbers, scales }
}

/// One of these rows, as f32.
fn widen_row(columns: Columns<'_, Tensor>, [entry, row]: [usize; 2], to: &mut [f32]) {
    let Format { dtype, heads } = columns.tensor.format();
    with_element!(dtype, |E| {
        let PastRows { numbers, scales } = past::<E>(columns);
        let from = numbers.slice_move(s![entry, row, ..]).to_slice().expect("contiguous");
        to.iter_mut().zip(from).for_each(|(to, from)| *to = from.widen());
        if let Some(scales) = scales {
            let bytes = scales.slice_move(s![entry, row, ..]);
            let scales = bytes.as_slice().expect("contiguous").chunks_exact(4);
            for (head, scale) in to.chunks_exact_mut(columns.width / heads).zip(scales) {
                let scale = f32::from_ne_bytes(scale.try_into().expect("four bytes"));
                head.iter_mut().for_each(|x| *x *= scale);
            }
        }
    });
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Input = ();

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn synchronize(&self) -> Result<()> {
        Ok(()) // every operation has ended when it returns
    }

    fn upload_as(&self, shape: Shape, data: &[f32], dtype: Dtype) -> Result<Tensor> {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        let int8 = || Error::Input("weights in int8: only a cache can be kept in it".into());
        with_element!(dtype, |E| self.weights.store::<E>(shape, data), Err(int8()))
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        let [batch, rows, width] = x.shape();
        let mut numbers = zeros(batch * rows * width)?;
        for (i, to) in numbers.chunks_exact_mut(width.max(1)).enumerate() {
            widen_row(whole(self, x), [i / rows, i % rows], to);
        }
        Ok(numbers)
    }

    fn shape(&self, x: &Tensor) -> Shape {
        x.shape()
    }

    fn format(&self, x: &Tensor) -> Format {
        x.format()
    }

    fn zeros_as(&self, shape: Shape, format: Format) -> Result<Tensor> {
        kept_zeros(&self.meter, shape, format)
    }

    fn duplicate(&self, x: &Tensor) -> Result<Tensor> {
        let mut copy = kept(&self.meter, x.shape(), x.format())?;
        copy.raw_mut().copy_from_slice(x.raw());
        Ok(copy)
    }

    fn overwrite(&self, x: &mut Tensor, by: &Tensor) -> Result<()> {
        x.raw_mut().copy_from_slice(by.raw());
        Ok(())
    }

    fn stage(&self, _: &mut Call<()>) -> Result<()> {
        Ok(()) // kernels read the call itself
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        Ok(free::free_bytes())
    }

    fn embed(&self, call: &Call<()>, table: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
        self.launch();
        let [_, _, width] = table.shape();
        let mut out = self.scratch.tensor([call.batch, call.rows(), width])?;
        for (i, (mut row, &token)) in out.rows_mut().rows_mut().into_iter().zip(&call.tokens).enumerate() {
            with_rows!(table, |table| row.zip_mut_with(&table.row(token as usize), |x, of| *x = of.widen()));
            if let Some(positions) = positions {
                let position = (call.at + i % call.rows()).saturating_sub(call.left_padding[i / call.rows()]);
                with_rows!(positions, |table| row
                    .zip_mut_with(&table.row(position), |x, of| *x += of.widen()));
            }
        }
        Ok(out)
    }

    fn norm(&self, x: &Tensor, norm: &Norm<Tensor>) -> Result<Tensor> {
        self.launch();
        let mut out = self.scratch.tensor(x.shape())?;
        let (gain, bias) = (norm.gain.as_slice(), norm.bias.as_ref().map(Tensor::as_slice));
        let heads = (x.as_slice().len() / gain.len(), gain.len());
        let x = ArrayView2::from_shape(heads, x.as_slice()).expect("whole heads");
        let of = ArrayViewMut2::from_shape(heads, out.as_mut_slice()).expect("as many");
        kernels::norm(x, gain, bias, norm.eps, of);
        Ok(out)
    }

    fn linear(
        &self,
        x: &Tensor,
        layer: &Linear<Tensor>,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = layer.norm.as_ref().map(|norm| self.norm(x, norm)).transpose()?;
        let x = normed.as_ref().unwrap_or(x);
        self.launch();
        let ([batch, rows, _], [_, width, _]) = (x.shape(), layer.weight.shape());
        let mut out = self.scratch.tensor([batch, rows, width])?;
        let bias = layer.bias.as_ref().map(Tensor::as_slice);
        let residual = residual.map(Tensor::rows);
        with_rows!(layer.weight, |weight| {
            kernels::linear(&self.pool, x.rows(), weight, bias, activation, residual, out.rows_mut())
        });
        Ok(out)
    }

    fn swiglu(&self, x: &Tensor) -> Result<Tensor> {
        self.launch();
        let [batch, n, width] = x.shape();
        let mut out = self.scratch.tensor([batch, n, width / 2])?;
        kernels::swiglu(x.rows(), out.rows_mut());
        Ok(out)
    }

    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        self.launch();
        debug_assert_eq!(a.shape(), b.shape());
        let mut out = self.scratch.tensor(a.shape())?;
        for ((out, a), b) in out.as_mut_slice().iter_mut().zip(a.as_slice()).zip(b.as_slice()) {
            *out = (a + b) * scale;
        }
        Ok(out)
    }

    fn rope(&self, call: &Call<()>, x: Columns<'_, Tensor>, cos_sin: &Tensor) -> Result<Tensor> {
        self.launch();
        let ([_, _, size], n) = (cos_sin.shape(), call.rows());
        let mut out = self.scratch.tensor([call.batch, n, x.width])?;
        let x = view(x);
        for (i, mut out) in out.rows_mut().rows_mut().into_iter().enumerate() {
            let (entry, row) = (i / n, i % n);
            let position = (call.at + row).saturating_sub(call.left_padding[entry]);
            let cos_sin = &cos_sin.as_slice()[position * size..][..size];
            let x = x.slice(s![entry, row, ..]).to_slice().expect("contiguous");
            let heads = out.as_slice_mut().expect("contiguous").chunks_exact_mut(size);
            for (out, x) in heads.zip(x.chunks_exact(size)) {
                kernels::rope(x, cos_sin, out);
            }
        }
        Ok(out)
    }

    fn attention(
        &self,
        call: &Call<()>,
        q: Columns<'_, Tensor>,
        k: View<'_, Tensor>,
        v: View<'_, Tensor>,
        params: &AttentionParams<'_, Tensor>,
    ) -> Result<Tensor> {
        self.launch();
        let [batch, n, _] = q.tensor.shape();
        let mut out = self.scratch.tensor([batch, n, q.width])?;
        let &AttentionParams { heads, kv_heads, scale, mask, slopes } = params;
        let what = kernels::AttentionTask {
            heads,
            kv_heads,
            scale,
            mask,
            slopes: slopes.map(Tensor::as_slice),
            layout: k.layout,
            at: call.at,
            left_padding: &call.left_padding,
        };
        with_element!(k.rows.tensor.format().dtype, |E| {
            kernels::attention(&self.pool, what, view(q), past::<E>(k.rows), past(v.rows), out.view_mut())
        });
        Ok(out)
    }

    fn conv_glu(
        &self,
        call: &Call<()>,
        rows: View<'_, Tensor>,
        convolution: &Convolution<Tensor>,
    ) -> Result<Tensor> {
        self.launch();
        let Convolution { linear, taps, ahead, residual } = convolution;
        let (n, channels) = (call.rows(), rows.rows.width);
        let mut window = self.scratch.tensor([call.batch, n, taps * channels])?;
        let mut taken = window.as_mut_slice().chunks_exact_mut(channels);
        let held = held(call, rows);
        for (entry, i) in (0..call.batch).flat_map(|entry| (0..n).map(move |i| (entry, i))) {
            for (tap, to) in (0..*taps).zip(&mut taken) {
                match held.row(entry, (call.at + i + ahead + tap).checked_sub(taps - 1)) {
                    Some(row) => widen_row(rows.rows, [entry, row], to),
                    None => to.fill(0.0),
                }
            }
        }
        let [_, width, _] = linear.weight.shape();
        let mut u = self.scratch.tensor([call.batch, n, width])?;
        let bias = linear.bias.as_ref().map(Tensor::as_slice);
        with_rows!(linear.weight, |weight| {
            kernels::linear(&self.pool, window.rows(), weight, bias, Activation::None, None, u.rows_mut())
        });
        let mut out = self.scratch.tensor([call.batch, n, channels])?;
        let own = (taps - 1 - ahead) * channels;
        let newest = residual.then(|| window.rows().slice_move(s![.., own..own + channels]));
        kernels::glu(u.rows(), newest, out.rows_mut());
        Ok(out)
    }

    fn retain(
        &self,
        call: &Call<()>,
        qkv: [Columns<'_, Tensor>; 3],
        state: Option<&mut Tensor>,
        decays: &Tensor,
    ) -> Result<Tensor> {
        self.launch();
        let ([q, k, v], [_, _, heads]) = (qkv, decays.shape());
        let (mut fresh, mut out) = (None, self.scratch.tensor([call.batch, call.rows(), v.width])?);
        let state = match state {
            Some(state) => state,
            None => {
                let zeros = fresh.insert(self.scratch.tensor([call.batch, q.width, v.width / heads])?);
                zeros.as_mut_slice().fill(0.0);
                zeros
            }
        };
        let rows = kernels::RetentionTask {
            q: view(q),
            k: view(k),
            v: view(v),
            decays: decays.as_slice(),
            at: call.at,
            left_padding: &call.left_padding,
        };
        kernels::retain(&self.pool, rows, state.view_mut(), out.view_mut());
        Ok(out)
    }

    fn lag(&self, call: &Call<()>, rows: View<'_, Tensor>, back: usize) -> Result<Tensor> {
        self.launch();
        let (n, width) = (call.rows(), rows.rows.width);
        let mut out = self.scratch.tensor([call.batch, n, width])?;
        let held = held(call, rows);
        for (i, out) in out.as_mut_slice().chunks_exact_mut(width).enumerate() {
            match held.row(i / n, (call.at + i % n).checked_sub(back)) {
                Some(row) => widen_row(rows.rows, [i / n, row], out),
                None => out.fill(0.0),
            }
        }
        Ok(out)
    }

    fn last_row(&self, call: &Call<()>, x: Tensor) -> Result<Tensor> {
        let [batch, n, width] = x.shape();
        if n == 1 {
            return Ok(x);
        }
        self.launch();
        let mut out = self.scratch.tensor([batch, 1, width])?;
        out.rows_mut().assign(&x.view().index_axis(Axis(1), call.last));
        Ok(out)
    }

    fn argmax(&self, x: &Tensor) -> Result<Vec<u32>> {
        Ok(x.view()
            .outer_iter()
            .map(|entry| kernels::argmax(entry.row(0).to_slice().expect("contiguous")))
            .collect())
    }

    fn cast(&self, new: Columns<'_, Tensor>, format: Format) -> Result<Tensor> {
        self.launch();
        let [batch, n, _] = new.tensor.shape();
        let mut out = self.scratch.tensor_as([batch, n, new.width], format)?;
        let rows = out.raw_mut().chunks_exact_mut(format.row_bytes(new.width));
        for (from, to) in view(new).rows().into_iter().zip(rows) {
            kernels::cast_row(from.to_slice().expect("contiguous"), format, to);
        }
        Ok(out)
    }

    fn concat(
        &self,
        past: Option<(&Tensor, usize)>,
        new: Columns<'_, Tensor>,
        skip: usize,
    ) -> Result<Tensor> {
        self.launch();
        let [batch, n, _] = new.tensor.shape();
        let keep = past.map_or(0, |(_, keep)| keep);
        let mut out = kept(&self.meter, [batch, keep + n - skip, new.width], new.tensor.format())?;
        if let Some((past, keep)) = past {
            let [_, held, _] = past.shape();
            self.copy(&mut out, 0, bytes_of(whole(self, past)).slice_move(s![.., held - keep.., ..]));
        }
        self.copy(&mut out, keep, bytes_of(new).slice_move(s![.., skip.., ..]));
        Ok(out)
    }

    fn grow(&self, past: &Tensor, rows: usize) -> Result<Tensor> {
        self.launch();
        let [batch, held, width] = past.shape();
        let mut out = kept(&self.meter, [batch, rows, width], past.format())?;
        self.copy(&mut out, 0, bytes_of(whole(self, past)));
        bytes_of_mut(&mut out).slice_mut(s![.., held.., ..]).fill(0);
        Ok(out)
    }

    fn write_rows(&self, call: &Call<()>, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        self.launch();
        self.copy(rows, call.at, bytes_of(new));
        Ok(())
    }

    fn write_ring(&self, call: &Call<()>, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        self.launch();
        let ([_, taps, _], new) = (rows.shape(), bytes_of(new));
        let n = new.len_of(Axis(1));
        for i in n.saturating_sub(taps)..n {
            self.copy(rows, (call.at + i) % taps, new.slice(s![.., i..i + 1, ..]));
        }
        Ok(())
    }

    fn write_onehot(&self, call: &Call<()>, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        self.launch();
        for (rows, new) in rows.view_mut().outer_iter_mut().zip(view(new).outer_iter()) {
            kernels::scatter_onehot(&self.pool, rows, call.at, new);
        }
        Ok(())
    }

    fn shift(&self, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        self.launch();
        let ([batch, taps, width], new) = (rows.shape(), bytes_of(new));
        let (n, row_bytes) = (new.len_of(Axis(1)).min(taps), rows.format().row_bytes(width));
        for entry in rows.raw_mut().chunks_exact_mut(taps * row_bytes) {
            entry.copy_within(n * row_bytes.., 0);
        }
        debug_assert_eq!(new.len_of(Axis(0)), batch);
        self.copy(rows, taps - n, new.slice(s![.., new.len_of(Axis(1)) - n.., ..]));
        Ok(())
    }

    fn unroll(
        &self,
        call: &Call<()>,
        past: View<'_, Tensor>,
        keep: usize,
        new: Columns<'_, Tensor>,
    ) -> Result<Tensor> {
        self.launch();
        let n = call.rows();
        let mut out = self.scratch.tensor_as([call.batch, keep + n, new.width], new.tensor.format())?;
        let rows = bytes_of(past.rows);
        let held = Held { end: call.at, left_padding: &[0], ..held(call, past) }; // padding moves like the rest
        for back in 1..=keep {
            match held.row(0, call.at.checked_sub(back)) {
                Some(row) => self.copy(&mut out, keep - back, rows.slice(s![.., row..row + 1, ..])),
                None => bytes_of_mut(&mut out).slice_mut(s![.., keep - back, ..]).fill(0),
            }
        }
        self.copy(&mut out, keep, bytes_of(new));
        Ok(out)
    }

    fn gather_batch(&self, x: &Tensor, order: &[usize]) -> Result<Tensor> {
        self.launch();
        let [_, rows, width] = x.shape();
        let mut out = kept(&self.meter, [order.len(), rows, width], x.format())?;
        let entry = rows * x.format().row_bytes(width);
        for (to, &from) in out.raw_mut().chunks_exact_mut(entry).zip(order) {
            to.copy_from_slice(&x.raw()[from * entry..][..entry]);
        }
        Ok(out)
    }
}

impl Cpu {
    /// `to[.., at.., ..] = from`, each batch entry by itself.
    fn copy(&self, to: &mut Tensor, at: usize, from: ArrayView3<'_, u8>) {
        let rows = from.len_of(Axis(1));
        for (mut to, from) in bytes_of_mut(to).outer_iter_mut().zip(from.outer_iter()) {
            kernels::copy_rows(&self.pool, to.slice_mut(s![at..at + rows, ..]), from);
        }
    }
}

fn held<'a>(call: &'a Call<()>, rows: View<'_, Tensor>) -> Held<'a> {
    let [_, held, _] = rows.rows.tensor.shape();
    Held { layout: rows.layout, rows: held, end: call.at + call.rows(), left_padding: &call.left_padding }
}

/// Where the rows of positions lie.
struct Held<'a> {
    layout: Layout,
    rows: usize,
    /// Positions there are, the new ones among them.
    end: usize,
    left_padding: &'a [usize],
}

impl Held<'_> {
    /// The row of an index, if there is one that is no padding.
    fn row(&self, entry: usize, index: Option<usize>) -> Option<usize> {
        let index = index.filter(|&index| self.left_padding[entry] <= index && index < self.end)?;
        match self.layout {
            Layout::Tail => (index + self.rows).checked_sub(self.end),
            Layout::Ring => Some(index % self.rows),
            Layout::Bounded | Layout::Masked => Some(index),
        }
    }
}
