//! The models on an NVIDIA GPU: one hand-written kernel for each operation, in `kernels/` under the
//! operation's name, compiled at run time by NVRTC and queued on one stream.
//!
//! Three ways to run the same kernels, because they cost differently:
//!
//! | backend | a step is | lengths are |
//! |---|---|---|
//! | `cuda` | as many launches as operations | arguments |
//! | `cuda-graph` | recorded once, then one launch; for strategies whose steps have one shape | arguments, fixed by the recording |
//! | `cuda-specialised` | as many launches as operations | compiled in: another length, another compile, as XLA does |
//!
//! What changes between two steps of one shape (position, tokens) is data on the device in all three.

mod ceiling;
pub mod compile;
mod device;
mod graph;
mod kernels;
mod memory;
mod nvrtc;
mod stream;

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::CudaFunction;

pub use device::{Device, DeviceInfo};
pub use kernels::{Kernel, Variant};
pub use memory::Tensor;
pub use nvrtc::Nvrtc;

use super::{
    bytes, Activation, Attend, Backend, Call, CaptureTimes, Columns, Convolution, DeviceMemory, Layout,
    Linear, Meter, Norm, Prepared, Sees, Shape, View,
};
use crate::error::{Error, Result};
use graph::Recorder;
use kernels::MOST_LENGTHS;
use memory::{kept, weights, Pointer, Scratch};
use stream::{Grid, Stream};

fn failed(what: impl Into<String>) -> Error {
    Error::Device { backend: "cuda", what: what.into() }
}

/// How steps are run. See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Stream,
    Graph,
    Specialised,
}

pub struct Cuda {
    mode: Mode,
    /// `None` for a plan, which lists kernels and runs none.
    device: Option<Arc<Device>>,
    stream: Rc<Stream>,
    meter: Rc<Meter>,
    /// The pool in use: while a step is recorded, the recording's own.
    scratch: RefCell<Rc<Scratch>>,
    kernels: RefCell<HashMap<Variant, Option<CudaFunction>>>,
    compiled: RefCell<Vec<(Variant, u64)>>,
    captures: RefCell<Vec<CaptureTimes>>,
    /// Written before every timed step, where the second-level cache is to be cold.
    flusher: Option<Tensor>,
}

/// A [`Call`]'s numbers on the device, and what was recorded of the steps that read them there.
#[derive(Clone, Default)]
pub struct Input {
    staged: Rc<RefCell<Staged>>,
    recorder: Rc<RefCell<Recorder>>,
}

#[derive(Default)]
struct Staged {
    /// `struct Call` of `kernels/common.cuh`: at, last, starts, tokens.
    numbers: Vec<i32>,
    buffer: Option<Tensor>,
}

impl Input {
    fn start(&self) -> Pointer {
        self.staged
            .borrow()
            .buffer
            .as_ref()
            .expect("a call is staged before its kernels are asked for")
            .start()
    }
}

/// What one launch is: its kernel, what is fixed when that is compiled, its grid.
struct Launch {
    kernel: Kernel,
    vec: usize,
    head: usize,
    grid: Grid,
}

impl Cuda {
    pub fn new(device: &Arc<Device>, mode: Mode) -> Result<Cuda> {
        Ok(Cuda::on(Stream::new(device)?, Some(device.clone()), mode))
    }

    /// A backend that runs nothing and needs no GPU. What it returns are shapes, and zeros for numbers;
    /// what it is for is [`Self::kernels_asked_for`].
    pub fn plan() -> Cuda {
        Cuda::on(Stream::Plan, None, Mode::Specialised)
    }

    fn on(stream: Stream, device: Option<Arc<Device>>, mode: Mode) -> Cuda {
        let (stream, meter) = (Rc::new(stream), Rc::new(Meter::default()));
        let scratch = RefCell::new(Scratch::new(&stream, &meter));
        let (kernels, compiled, captures) = Default::default();
        Cuda { mode, device, stream, meter, scratch, kernels, compiled, captures, flusher: None }
    }

    /// Every variant asked for so far, in no order.
    pub fn kernels_asked_for(&self) -> Vec<Variant> {
        self.kernels.borrow().keys().copied().collect()
    }

    /// Kernels compiled for this backend, in order, and how long each took: NVRTC, and the driver's
    /// assembler when it loads what NVRTC made. In one process, kernels for run-time lengths are compiled
    /// once for all backends of a device.
    pub fn compiled(&self) -> Ref<'_, Vec<(Variant, u64)>> {
        self.compiled.borrow()
    }

    /// What each recording cost, in order.
    pub fn captures(&self) -> Ref<'_, Vec<CaptureTimes>> {
        self.captures.borrow()
    }

    /// The device that kernels run on; a plan has none.
    pub fn device(&self) -> Option<&DeviceInfo> {
        self.device.as_ref().map(|device| &device.info)
    }

    /// The same, with the device's second-level cache emptied before every timed step.
    pub fn with_cold_l2(mut self) -> Result<Cuda> {
        let held = self.device.as_ref().map_or(0, |device| device.info.l2_bytes);
        self.flusher = Some(self.upload([1, 1, held / 2], &vec![0.0; held / 2])?); // twice its size
        Ok(self)
    }

    fn scratch(&self, shape: Shape) -> Result<Tensor> {
        let pool = self.scratch.borrow().clone();
        pool.tensor(shape)
    }

    fn kept(&self, shape: Shape) -> Result<Tensor> {
        kept(&self.stream, &self.meter, shape)
    }

    /// The one place where kernels are started: pointers first, then lengths, as every kernel takes them.
    fn launch<const P: usize, const L: usize>(
        &self,
        launch: Launch,
        pointers: [Pointer; P],
        lengths: [usize; L],
    ) -> Result<()> {
        let lengths = lengths.map(|length| length as i32);
        let mut fixed = [0; MOST_LENGTHS];
        if self.mode == Mode::Specialised {
            fixed[..L].copy_from_slice(&lengths);
        }
        let Launch { kernel, vec, head, grid } = launch;
        let variant = Variant { kernel, vec: vec as u8, head: head as u16, lengths: fixed };
        self.meter.count(|work| work.launches += 1);
        match self.kernel(variant)? {
            // SAFETY: the callers, one for each kernel, pass what its file declares, and tensors of
            // the shapes that the lengths say.
            Some(function) => unsafe { self.stream.launch(&function, grid, &pointers, &lengths) },
            None => Ok(()),
        }
    }

    fn kernel(&self, variant: Variant) -> Result<Option<CudaFunction>> {
        if let Some(function) = self.kernels.borrow().get(&variant) {
            return Ok(function.clone());
        }
        let function = match &self.device {
            None => None,
            Some(device) if self.mode == Mode::Specialised => {
                let (function, compile_ns) = device.load(&variant)?;
                self.compiled.borrow_mut().push((variant, compile_ns));
                Some(function)
            }
            Some(device) => {
                let (function, compile_ns) = device.kernel(&variant)?;
                self.compiled.borrow_mut().extend(compile_ns.map(|ns| (variant, ns)));
                Some(function)
            }
        };
        self.kernels.borrow_mut().insert(variant, function.clone());
        Ok(function)
    }

    /// A product of many rows: x, weight, bias, residual, out; rows, inner, outs, activation.
    fn linear_many(
        &self,
        [x, weight, bias, residual, out]: [Pointer; 5],
        vec: usize,
        [rows, inner, outs, activation]: [usize; 4],
    ) -> Result<()> {
        let [across, down] = [outs, rows].map(|length| length.div_ceil(64));
        let (part, splits) = parts(across * down, inner);
        let partial = match splits {
            1 => None,
            _ => Some(self.scratch([splits, rows, outs])?),
        };
        let partial = Tensor::or_null(partial.as_ref());
        self.launch(
            Launch::new(Kernel::Linear, vec, [across, down, splits], 256),
            [x, weight, bias, residual, partial, out],
            [rows, inner, outs, activation, part],
        )?;
        if splits > 1 {
            self.launch(
                Launch::elementwise(Kernel::LinearCombine, vec_of([outs]), rows * outs, 1),
                [partial, bias, residual, out],
                [rows, outs, activation, splits],
            )?;
        }
        Ok(())
    }
}

/// 4 when everything is a multiple of 4, so that 16 bytes can be moved at once; otherwise 1.
fn vec_of<const N: usize>(widths: [usize; N]) -> usize {
    if widths.iter().all(|width| width % 4 == 0) {
        4
    } else {
        1
    }
}

impl Launch {
    fn new(kernel: Kernel, vec: usize, blocks: [usize; 3], threads: u32) -> Launch {
        Launch { kernel, vec, head: 0, grid: Grid { blocks, threads } }
    }

    /// One thread for each pack of `numbers` numbers of each batch entry.
    fn elementwise(kernel: Kernel, vec: usize, numbers: usize, batch: usize) -> Launch {
        Launch::new(kernel, vec, [(numbers / vec).div_ceil(256), batch, 1], 256)
    }
}

impl Tensor {
    fn or_null(tensor: Option<&Tensor>) -> Pointer {
        tensor.map_or(0, Tensor::start)
    }
}

impl Columns<'_, Tensor> {
    /// Of the first row's first number.
    fn start(&self) -> Pointer {
        self.tensor.start() + (self.from * size_of::<f32>()) as Pointer
    }

    /// Numbers from a row to the next.
    fn stride(&self) -> usize {
        let [_, _, width] = self.tensor.shape();
        width
    }
}

/// The number of a layout in the kernels.
fn code(layout: Layout) -> usize {
    match layout {
        Layout::Tail => 0,
        Layout::Bounded => 1,
        Layout::Masked => 2,
        Layout::Ring => 3,
    }
}

/// The number of an activation in the kernels.
fn activation_code(activation: Activation) -> usize {
    match activation {
        Activation::None => 0,
        Activation::Gelu => 1,
        Activation::Relu => 2,
        Activation::Silu => 3,
    }
}

/// What attention's kernel calls its window.
fn window_code(sees: Sees) -> usize {
    match sees {
        Sees::All => 0,
        Sees::Past => i32::MAX as usize,
        Sees::Window(rows) => rows,
    }
}

/// A number that is no length, among lengths: its bits, as the kernel takes them.
fn as_length(number: f32) -> usize {
    number.to_bits() as usize
}

/// Rows a block of attention visits, and how many blocks share a head: enough blocks to occupy a large
/// device twice over, each with enough rows to be worth a block.
fn spans(rows: usize, heads_and_queries: usize) -> (usize, usize) {
    let wanted = 256usize.div_ceil(heads_and_queries).min(64);
    let span = rows.div_ceil(wanted).max(32);
    (span, rows.div_ceil(span))
}

/// New rows of an entry from which on attention takes them in tiles, which read keys and values once.
const MANY_QUERIES: usize = 16;

/// New rows of a tile; `queries` in kernels/attention_many.cu.
const QUERY_TILE: usize = 16;

/// Of wider heads, the tiles of keys and values would not fit into 48 KiB of shared memory.
const WIDEST_TILED_HEAD: usize = 128;

/// Rows that a tile of new rows visits in one block, and how many blocks share it, as for [`spans`]: each has a
/// few tiles of keys, of 32 rows.
fn tile_spans(rows: usize, blocks: usize) -> (usize, usize) {
    let wanted = (ENOUGH_BLOCKS / blocks).clamp(1, 64);
    let span = rows.div_ceil(wanted).max(64).next_multiple_of(32);
    (span, rows.div_ceil(span))
}

/// Blocks that occupy a large device, of 132 multiprocessors, twice over.
const ENOUGH_BLOCKS: usize = 264;

/// Numbers of the inner dimension that a tile of a product goes over, and how many parts that makes: as many as
/// occupy a large device, each of whole slices and long enough to be worth a block.
fn parts(tiles: usize, inner: usize) -> (usize, usize) {
    const SLICE: usize = 16; // of kernels/linear.cu
    let wanted = (ENOUGH_BLOCKS / tiles).max(1);
    let part = inner.div_ceil(wanted).max(64).next_multiple_of(SLICE);
    (part, inner.div_ceil(part))
}

/// Rows up to which a product reads the weights once for each: below, the tiles of a matrix product
/// would be mostly empty.
const FEW_ROWS: usize = 8;

impl Backend for Cuda {
    type Tensor = Tensor;
    type Input = Input;

    fn name(&self) -> &'static str {
        match self.mode {
            Mode::Stream => "cuda",
            Mode::Graph => "cuda-graph",
            Mode::Specialised => "cuda-specialised",
        }
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn synchronize(&self) -> Result<()> {
        self.meter.count(|work| work.host_syncs += 1);
        self.stream.synchronize()
    }

    fn upload(&self, shape: Shape, data: &[f32]) -> Result<Tensor> {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        weights(&self.stream, shape, data)
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.meter.count(|work| work.host_syncs += 1);
        self.stream.download(x.start(), x.shape().iter().product())
    }

    fn shape(&self, x: &Tensor) -> Shape {
        x.shape()
    }

    fn zeros(&self, shape: Shape) -> Result<Tensor> {
        let tensor = self.kept(shape)?;
        self.stream.zero(tensor.start(), bytes(shape))?;
        Ok(tensor)
    }

    fn duplicate(&self, x: &Tensor) -> Result<Tensor> {
        let copy = self.kept(x.shape())?;
        self.stream.copy(copy.start(), x.start(), bytes(x.shape()))?;
        Ok(copy)
    }

    fn overwrite(&self, x: &mut Tensor, by: &Tensor) -> Result<()> {
        debug_assert_eq!(x.shape(), by.shape());
        self.stream.copy(x.start(), by.start(), bytes(x.shape()))
    }

    fn stage(&self, call: &mut Call<Input>) -> Result<()> {
        let mut staged = call.input.staged.borrow_mut();
        let Staged { numbers, buffer } = &mut *staged;
        numbers.clear();
        numbers.extend([call.at as i32, call.last as i32]);
        numbers.extend(call.starts.iter().map(|&start| start as i32));
        numbers.extend(call.tokens.iter().map(|&token| token as i32));
        let held = buffer.as_ref().map_or(0, |buffer| buffer.shape()[2]);
        if held < numbers.len() {
            *buffer = None; // back to the pool, before a larger one is taken
            *buffer = Some(self.scratch([1, 1, numbers.len()])?);
            *call.input.recorder.borrow_mut() = Recorder::default(); // it reads the old one
        }
        self.stream.upload(buffer.as_ref().expect("made above").start(), numbers)
    }

    fn step(
        &self,
        input: &Input,
        shape: Option<usize>,
        body: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self.mode {
            Mode::Graph => self.replay(&mut input.recorder.borrow_mut(), shape, body),
            Mode::Stream | Mode::Specialised => body(),
        }
    }

    fn replays(&self) -> bool {
        self.mode == Mode::Graph
    }

    fn device_ns<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, Option<u64>)> {
        self.stream.device_ns(work)
    }

    /// Writes more than the second-level cache holds.
    fn before_step(&self) -> Result<()> {
        match &self.flusher {
            None => Ok(()),
            Some(flusher) => self.stream.zero(flusher.start(), bytes(flusher.shape())),
        }
    }

    fn device_memory(&self) -> Result<Option<DeviceMemory>> {
        self.device.as_ref().map(|device| device.memory()).transpose()
    }

    fn prepared(&self) -> Prepared {
        let compile_ns = self.compiled.borrow().iter().map(|(_, ns)| *ns).collect();
        Prepared { compile_ns, captures: self.captures.borrow().clone() }
    }

    fn forget_compiled(&self) {
        if self.mode == Mode::Specialised {
            self.kernels.borrow_mut().clear();
            self.compiled.borrow_mut().clear();
        }
    }

    fn embed(&self, call: &Call<Input>, table: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
        let ([_, _, width], n) = (table.shape(), call.rows());
        let out = self.scratch([call.batch, n, width])?;
        self.launch(
            Launch::new(Kernel::Embed, vec_of([width]), [call.batch * n, 1, 1], 128),
            [call.input.start(), table.start(), Tensor::or_null(positions), out.start()],
            [call.batch, n, width],
        )?;
        Ok(out)
    }

    fn norm(&self, x: &Tensor, norm: &Norm<Tensor>) -> Result<Tensor> {
        let ([batch, rows, width], out) = (x.shape(), self.scratch(x.shape())?);
        let bias = Tensor::or_null(norm.bias.as_ref());
        self.launch(
            Launch::new(Kernel::Norm, vec_of([width]), [batch * rows, 1, 1], 256),
            [x.start(), norm.gain.start(), bias, out.start()],
            [width, as_length(norm.eps)],
        )?;
        Ok(out)
    }

    fn linear(
        &self,
        x: &Tensor,
        layer: &Linear<Tensor>,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let ([batch, n, inner], [_, outs, _]) = (x.shape(), layer.weight.shape());
        let (rows, activation) = (batch * n, activation_code(activation));
        let out = self.scratch([batch, n, outs])?;
        let (bias, residual) = (Tensor::or_null(layer.bias.as_ref()), Tensor::or_null(residual));
        let vec = vec_of([inner]);
        if rows > FEW_ROWS {
            let pointers = [x.start(), layer.weight.start(), bias, residual, out.start()];
            self.linear_many(pointers, vec, [rows, inner, outs, activation])?;
            return Ok(out);
        }
        self.launch(
            Launch::new(Kernel::LinearOne, vec, [outs.div_ceil(4), rows, 1], 128),
            [x.start(), layer.weight.start(), bias, residual, out.start()],
            [inner, outs, activation],
        )?;
        Ok(out)
    }

    fn swiglu(&self, x: &Tensor) -> Result<Tensor> {
        let [batch, n, both] = x.shape();
        let (rows, width) = (batch * n, both / 2);
        let out = self.scratch([batch, n, width])?;
        self.launch(
            Launch::elementwise(Kernel::Swiglu, vec_of([width]), rows * width, 1),
            [x.start(), out.start()],
            [rows, width],
        )?;
        Ok(out)
    }

    fn add(&self, a: &Tensor, b: &Tensor, scale: f32) -> Result<Tensor> {
        debug_assert_eq!(a.shape(), b.shape());
        let (size, out) = (a.shape().iter().product(), self.scratch(a.shape())?);
        self.launch(
            Launch::elementwise(Kernel::Add, vec_of([size]), size, 1),
            [a.start(), b.start(), out.start()],
            [size, as_length(scale)],
        )?;
        Ok(out)
    }

    fn rotate(&self, call: &Call<Input>, x: Columns<'_, Tensor>, turns: &Tensor) -> Result<Tensor> {
        let ([_, _, size], n, rows) = (turns.shape(), call.rows(), call.tokens.len());
        let out = self.scratch([call.batch, n, x.width])?;
        let vec = vec_of([size / 2, x.stride(), x.from]);
        self.launch(
            Launch::new(Kernel::Rotate, vec, [(x.width / 2 / vec).div_ceil(128), rows, 1], 128),
            [call.input.start(), x.start(), turns.start(), out.start()],
            [n, x.width, size, x.stride()],
        )?;
        Ok(out)
    }

    fn attention(
        &self,
        call: &Call<Input>,
        q: Columns<'_, Tensor>,
        k: View<'_, Tensor>,
        v: View<'_, Tensor>,
        attend: &Attend<'_, Tensor>,
    ) -> Result<Tensor> {
        let ([batch, n, _], [entries, rows, _]) = (q.tensor.shape(), k.rows.tensor.shape());
        let &Attend { heads, kv_heads, scale, sees, slopes } = attend;
        debug_assert!(k.layout != Layout::Ring || n == 1, "several rows read a ring unrolled");
        let (queries, head) = (batch * n, q.width / heads);
        let tiled = n >= MANY_QUERIES && head <= WIDEST_TILED_HEAD;
        let visited = match (sees, k.layout) {
            (Sees::Window(window), Layout::Tail | Layout::Bounded | Layout::Ring) if tiled => {
                rows.min(window.saturating_add(QUERY_TILE - 1))
            }
            (Sees::Window(window), Layout::Tail | Layout::Bounded | Layout::Ring) => window.min(rows),
            _ => rows,
        };
        let tiles = n.div_ceil(QUERY_TILE);
        let (span, splits) = match tiled {
            true => tile_spans(visited, tiles * heads * batch),
            false => spans(visited, queries * heads),
        };
        let out = self.scratch([batch, n, q.width])?;
        let partial = match splits {
            1 => None,
            _ => Some(self.scratch([queries * heads, splits, 2 + head])?),
        };
        let (partial, slopes) = (Tensor::or_null(partial.as_ref()), Tensor::or_null(slopes));
        let (k, v, layout) = (k.rows, v.rows, code(k.layout));
        let [q_stride, k_stride, v_stride] = [q, k, v].map(|columns| columns.stride());
        let vec = vec_of([head, q_stride, k_stride, v_stride, q.from, k.from, v.from]);
        let (group, share) = (heads / kv_heads, batch / entries);
        let (window, scale) = (window_code(sees), as_length(scale));
        let (kernel, grid) = match tiled {
            true => (Kernel::AttentionMany, [tiles * splits, heads, batch]),
            false => (Kernel::Attention, [splits, heads, queries]),
        };
        self.launch(
            Launch { head, ..Launch::new(kernel, vec, grid, 128) },
            [call.input.start(), q.start(), k.start(), v.start(), slopes, partial, out.start()],
            [n, heads, group, share, rows, span, splits, q_stride, k_stride, v_stride, layout, window, scale],
        )?;
        if splits > 1 {
            self.launch(
                Launch { head, ..Launch::new(Kernel::AttentionCombine, 1, [heads, queries, 1], 64) },
                [partial, out.start()],
                [heads, splits],
            )?;
        }
        Ok(out)
    }

    fn conv_glu(
        &self,
        call: &Call<Input>,
        rows: View<'_, Tensor>,
        convolution: &Convolution<Tensor>,
    ) -> Result<Tensor> {
        if call.rows() > 1 {
            return self.conv_glu_many(call, rows, convolution);
        }
        let Convolution { linear, taps, ahead, residual } = convolution;
        let ([_, held, stride], channels) = (rows.rows.tensor.shape(), rows.rows.width);
        let out = self.scratch([call.batch, 1, channels])?;
        let bias = Tensor::or_null(linear.bias.as_ref());
        self.launch(
            Launch::new(
                Kernel::ConvGlu,
                vec_of([channels, stride, rows.rows.from]),
                [channels.div_ceil(2), call.batch, 1],
                128,
            ),
            [call.input.start(), rows.rows.start(), linear.weight.start(), bias, out.start()],
            [held, channels, *taps, *ahead, usize::from(*residual), stride, code(rows.layout)],
        )?;
        Ok(out)
    }

    fn retain(
        &self,
        call: &Call<Input>,
        qkv: [Columns<'_, Tensor>; 3],
        state: Option<&mut Tensor>,
        decays: &Tensor,
    ) -> Result<Tensor> {
        let ([q, k, v], [_, _, heads], n) = (qkv, decays.shape(), call.rows());
        let (head, size) = (q.width / heads, v.width / heads);
        let out = self.scratch([call.batch, n, v.width])?;
        let state = Tensor::or_null(state.as_deref());
        let vec = vec_of([size, v.stride(), v.from]);
        let blocks = [(size / vec).div_ceil(8), heads, call.batch];
        self.launch(
            Launch { head, ..Launch::new(Kernel::Retain, vec, blocks, 128) },
            [call.input.start(), q.start(), k.start(), v.start(), decays.start(), state, out.start()],
            [n, heads, size, q.stride(), k.stride(), v.stride()],
        )?;
        Ok(out)
    }

    fn lag(&self, call: &Call<Input>, rows: View<'_, Tensor>, back: usize) -> Result<Tensor> {
        let ([_, held, stride], n, width) = (rows.rows.tensor.shape(), call.rows(), rows.rows.width);
        let out = self.scratch([call.batch, n, width])?;
        self.launch(
            Launch::elementwise(Kernel::Lag, vec_of([width, stride, rows.rows.from]), n * width, call.batch),
            [call.input.start(), rows.rows.start(), out.start()],
            [n, held, width, stride, code(rows.layout), back],
        )?;
        Ok(out)
    }

    fn last_row(&self, call: &Call<Input>, x: &Tensor) -> Result<Tensor> {
        let [batch, n, width] = x.shape();
        let out = self.scratch([batch, 1, width])?;
        self.launch(
            Launch::elementwise(Kernel::LastRow, vec_of([width]), width, batch),
            [call.input.start(), x.start(), out.start()],
            [n, width],
        )?;
        Ok(out)
    }

    fn argmax(&self, x: &Tensor) -> Result<Vec<u32>> {
        let [batch, rows, width] = x.shape();
        let out = self.scratch([1, 1, batch])?;
        self.launch(
            Launch::new(Kernel::Argmax, 1, [batch, 1, 1], 1024),
            [x.start(), out.start()],
            [rows, width],
        )?;
        self.meter.count(|work| work.host_syncs += 1);
        self.stream.download(out.start(), batch)
    }

    fn concat(
        &self,
        past: Option<(&Tensor, usize)>,
        new: Columns<'_, Tensor>,
        skip: usize,
    ) -> Result<Tensor> {
        let [batch, n, stride] = new.tensor.shape();
        let (held, keep) = past.map_or((0, 0), |(past, keep)| (past.shape()[1], keep));
        let out = self.kept([batch, keep + n - skip, new.width])?;
        self.launch(
            Launch::elementwise(
                Kernel::Concat,
                vec_of([new.width, stride, new.from]),
                (keep + n - skip) * new.width,
                batch,
            ),
            [Tensor::or_null(past.map(|(past, _)| past)), new.start(), out.start()],
            [held, keep, n, skip, new.width, stride],
        )?;
        Ok(out)
    }

    fn grow(&self, past: &Tensor, rows: usize) -> Result<Tensor> {
        let [batch, held, width] = past.shape();
        let out = self.kept([batch, rows, width])?;
        self.launch(
            Launch::elementwise(Kernel::Grow, vec_of([width]), rows * width, batch),
            [past.start(), out.start()],
            [held, rows, width],
        )?;
        Ok(out)
    }

    fn write_rows(&self, call: &Call<Input>, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        let ([batch, capacity, width], n) = (rows.shape(), call.rows());
        fits(call, capacity)?;
        self.launch(
            Launch::elementwise(Kernel::WriteRows, vec_of([width, new.stride(), new.from]), n * width, batch),
            [call.input.start(), new.start(), rows.start()],
            [n, capacity, width, new.stride()],
        )
    }

    fn write_ring(&self, call: &Call<Input>, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        let ([batch, held, width], n) = (rows.shape(), call.rows());
        self.launch(
            Launch::elementwise(
                Kernel::WriteRing,
                vec_of([width, new.stride(), new.from]),
                n.min(held) * width,
                batch,
            ),
            [call.input.start(), new.start(), rows.start()],
            [n, held, width, new.stride()],
        )
    }

    fn write_onehot(&self, call: &Call<Input>, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        let ([batch, capacity, width], n) = (rows.shape(), call.rows());
        fits(call, capacity)?;
        self.launch(
            Launch::elementwise(
                Kernel::WriteOnehot,
                vec_of([width, new.stride(), new.from]),
                capacity * width,
                batch,
            ),
            [call.input.start(), new.start(), rows.start()],
            [n, capacity, width, new.stride()],
        )
    }

    fn shift(&self, rows: &mut Tensor, new: Columns<'_, Tensor>) -> Result<()> {
        let ([batch, held, width], [_, n, stride]) = (rows.shape(), new.tensor.shape());
        let vec = vec_of([width, stride, new.from]);
        self.launch(
            Launch::new(Kernel::Shift, vec, [(width / vec).div_ceil(128), batch, 1], 128),
            [new.start(), rows.start()],
            [n, held, width, stride],
        )
    }

    fn unroll(
        &self,
        call: &Call<Input>,
        past: View<'_, Tensor>,
        keep: usize,
        new: Columns<'_, Tensor>,
    ) -> Result<Tensor> {
        let ([_, held, past_stride], n) = (past.rows.tensor.shape(), call.rows());
        let out = self.scratch([call.batch, keep + n, new.width])?;
        self.launch(
            Launch::elementwise(
                Kernel::Unroll,
                vec_of([new.width, new.stride(), new.from, past_stride, past.rows.from]),
                (keep + n) * new.width,
                call.batch,
            ),
            [call.input.start(), past.rows.start(), new.start(), out.start()],
            [keep, held, n, new.width, past_stride, new.stride(), code(past.layout)],
        )?;
        Ok(out)
    }

    fn gather_batch(&self, x: &Tensor, order: &[usize]) -> Result<Tensor> {
        let [_, rows, width] = x.shape();
        let out = self.kept([order.len(), rows, width])?;
        let indices: Vec<i32> = order.iter().map(|&entry| entry as i32).collect();
        let on_device = self.scratch([1, 1, order.len()])?;
        self.stream.upload(on_device.start(), &indices)?;
        self.launch(
            Launch::elementwise(Kernel::GatherBatch, vec_of([width]), rows * width, order.len()),
            [on_device.start(), x.start(), out.start()],
            [rows * width],
        )?;
        Ok(out)
    }
}

impl Cuda {
    /// The convolution of several new rows, as a product over the rows under the taps.
    fn conv_glu_many(
        &self,
        call: &Call<Input>,
        rows: View<'_, Tensor>,
        convolution: &Convolution<Tensor>,
    ) -> Result<Tensor> {
        let &Convolution { ref linear, taps, ahead, residual } = convolution;
        let ([_, held, stride], channels) = (rows.rows.tensor.shape(), rows.rows.width);
        let (batch, n) = (call.batch, call.rows());
        let window = self.scratch([batch, n, taps * channels])?;
        self.launch(
            Launch::elementwise(
                Kernel::ConvWindow,
                vec_of([channels, stride, rows.rows.from]),
                n * taps * channels,
                batch,
            ),
            [call.input.start(), rows.rows.start(), window.start()],
            [n, held, channels, taps, ahead, stride, code(rows.layout)],
        )?;
        let u = self.linear(&window, linear, Activation::None, None)?;
        let out = self.scratch([batch, n, channels])?;
        self.launch(
            Launch::new(Kernel::ConvGate, 1, [channels.div_ceil(256), batch * n, 1], 256),
            [u.start(), Tensor::or_null(residual.then_some(&window)), out.start()],
            [channels, taps, taps - 1 - ahead],
        )?;
        Ok(out)
    }
}

#[cfg(test)]
impl Cuda {
    /// Breaks the device for the rest of the process, as a kernel does that reads where nothing is.
    pub(crate) fn lose_device(&self) -> Error {
        let nowhere = 16;
        let launch = Launch::elementwise(Kernel::LastRow, 1, 256, 1);
        let lost = self.launch(launch, [nowhere; 3], [1, 256]).and_then(|()| self.stream.synchronize());
        lost.expect_err("nothing is there")
    }
}

/// That the new rows lie within the buffer, said before anything is written.
fn fits(call: &Call<Input>, capacity: usize) -> Result<()> {
    match call.at + call.rows() {
        wanted if wanted > capacity => Err(Error::CacheFull { capacity, wanted }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
