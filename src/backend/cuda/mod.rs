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
mod driver;
mod graph;
mod kernels;
mod memory;
mod nvrtc;
mod stream;
mod timing;

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

pub use ceiling::{Ceiling, LaunchCosts, ReadCeilings};
pub use device::{Device, DeviceInfo};
pub use driver::CudaVersion;
pub use kernels::{Kernel, Variant};
pub use memory::Tensor;
pub use nvrtc::{Image, Need, Nvrtc, Suitability, Survey};

use super::{
    bytes, Activation, AttentionParams, Backend, Call, CaptureTimes, Columns, Convolution, DeviceMemory,
    DeviceTime, Format, Layout, Linear, Mask, Meter, Norm, Prepared, Shape, View,
};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use driver::Function;
use driver::Pointer;
use graph::Recorder;
use kernels::MOST_LENGTHS;
use memory::{kept, weights, PinnedSlot, PinnedSlots, Scratch};
use stream::{Grid, Stream};
use timing::{Flusher, HeadStart};

/// # Errors
/// For other numbers, which no kernel reads so far.
fn only_f32(dtype: Dtype) -> Result<()> {
    match dtype {
        Dtype::F32 => Ok(()),
        _ => Err(Error::Input(format!("{dtype}: CUDA kernels read f32 alone so far; use --backend cpu"))),
    }
}

fn failed(what: impl Into<String>) -> Error {
    Error::Device { backend: "cuda", what: what.into() }
}

/// How steps are run. See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A launch for each operation: `cuda`.
    Stream,
    /// Recorded once and replayed: `cuda-graph`.
    Graph,
    /// Lengths compiled in: `cuda-specialised`.
    Specialised,
}

/// A GPU as a backend, in one of the three ways to run a step.
pub struct Cuda {
    mode: Mode,
    /// `None` for a plan, which lists kernels and runs none.
    device: Option<Arc<Device>>,
    stream: Rc<Stream>,
    meter: Rc<Meter>,
    /// The pool in use: while a step is recorded, the recording's own.
    scratch: RefCell<Rc<Scratch>>,
    kernels: RefCell<HashMap<Variant, Option<Arc<Function>>>>,
    compiled: RefCell<Vec<(Variant, u64)>>,
    captures: RefCell<Vec<CaptureTimes>>,
    /// Of a plan: what would have been launched.
    planned: RefCell<Vec<(Kernel, usize)>>,
    /// Written before every timed step, where the second-level cache is to be cold.
    flusher: Option<Flusher>,
    head_start: HeadStart,
    slots: Rc<PinnedSlots>,
    /// How many blocks of each head of attention are done: zeros between kernels. Made when first asked for.
    done: RefCell<Option<Tensor>>,
}

/// A [`Call`]'s numbers on the device, and what was recorded of the steps that read them there.
#[derive(Clone, Default)]
pub struct Input {
    staged: Rc<RefCell<Staged>>,
    recorder: Rc<RefCell<Recorder>>,
}

/// On their way, or there.
#[derive(Default)]
struct Staged {
    /// `struct Call` of `kernels/common.cuh`: at, last, left_padding, tokens.
    numbers: Vec<i32>,
    /// Written by the host; without one on a plan.
    slot: Option<PinnedSlot>,
    /// Whether the slot holds what `buffer` does not yet.
    pending: bool,
    /// For each entry the token that [`Backend::choose`] chose, and then the numbers.
    buffer: Option<Tensor>,
}

impl Staged {
    fn chosen(&self) -> Pointer {
        self.buffer.as_ref().expect("a call is staged before its kernels are asked for").start()
    }

    /// A recording that fetches what the slot holds was started.
    fn taken(&mut self) {
        self.pending = false;
        self.slot.iter_mut().for_each(PinnedSlot::asked);
    }

    fn call(&self, batch: usize) -> Pointer {
        self.chosen() + (batch * size_of::<i32>()) as Pointer
    }
}

/// What one launch is: its kernel, what is fixed when that is compiled, its grid.
struct Launch {
    kernel: Kernel,
    vec: usize,
    head: usize,
    rows: usize,
    grid: Grid,
}

impl Cuda {
    /// A backend with a stream and memory of its own on the device.
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
        let slots = PinnedSlots::new(&stream, device.as_ref().is_some_and(|device| device.info.emulated));
        let (kernels, compiled, captures, planned) = Default::default();
        Cuda {
            mode,
            device,
            stream,
            meter,
            scratch,
            kernels,
            compiled,
            captures,
            planned,
            flusher: None,
            head_start: HeadStart::default(),
            slots,
            done: RefCell::default(),
        }
    }

    /// Every launch asked for so far: its kernel and how many blocks.
    pub fn launches_asked_for(&self) -> Vec<(Kernel, usize)> {
        self.planned.borrow().clone()
    }

    /// Every variant asked for so far, in no order.
    pub fn kernels_asked_for(&self) -> Vec<Variant> {
        self.kernels.borrow().keys().copied().collect()
    }

    /// Kernels compiled for this backend, in order, and how long each took, by NVRTC and by the driver when it
    /// loads what NVRTC made. In one process, kernels for run-time lengths are compiled
    /// once for all backends of a device.
    pub fn compiled(&self) -> Ref<'_, Vec<(Variant, u64)>> {
        self.compiled.borrow()
    }

    /// What each recording cost, in order.
    #[cfg(test)]
    pub(crate) fn captures(&self) -> Ref<'_, Vec<CaptureTimes>> {
        self.captures.borrow()
    }

    /// The device that kernels run on; a plan has none.
    pub fn device(&self) -> Option<&DeviceInfo> {
        self.device.as_ref().map(|device| &device.info)
    }

    fn scratch(&self, shape: Shape) -> Result<Tensor> {
        let pool = self.scratch.borrow().clone();
        pool.tensor(shape)
    }

    fn kept(&self, shape: Shape) -> Result<Tensor> {
        kept(&self.stream, &self.meter, shape)
    }

    /// Where the kernels read the call's numbers. Those that the host wrote last are fetched before the first
    /// kernel that asks, in whichever way that is run: a recorded step begins with it.
    fn numbers(&self, call: &Call<Input>) -> Result<Pointer> {
        let staged = &mut *call.input.staged.borrow_mut();
        let (chosen, to) = (staged.chosen(), staged.call(call.batch));
        if let (true, Some(slot)) = (staged.pending, &mut staged.slot) {
            self.fetch(slot, [chosen, to], staged.numbers.len(), call.batch)?;
            self.meter.count(|work| work.launches += 1);
            staged.pending = false;
        }
        Ok(to)
    }

    /// Starts the kernel that takes so many numbers out of a slot, the last `batch` of them tokens that may be
    /// those chosen, to where the last pointer says.
    fn fetch(
        &self,
        slot: &mut PinnedSlot,
        [chosen, to]: [Pointer; 2],
        numbers: usize,
        batch: usize,
    ) -> Result<()> {
        let launch = Launch::new(Kernel::Stage, 1, [1; 3], 256);
        self.start(launch, [slot.start(), chosen, to], [numbers, batch])?;
        slot.asked();
        Ok(())
    }

    /// The one place where kernels are started: pointers first, then lengths, as every kernel takes them.
    fn launch<const P: usize, const L: usize>(
        &self,
        launch: Launch,
        pointers: [Pointer; P],
        lengths: [usize; L],
    ) -> Result<()> {
        let lengths = checked(lengths)?;
        let mut fixed = [0; MOST_LENGTHS];
        if self.mode == Mode::Specialised {
            fixed[..L].copy_from_slice(&lengths);
        }
        let (variant, Launch { kernel, grid, .. }) = (launch.variant(fixed), launch);
        self.meter.count(|work| work.launches += 1);
        if self.device.is_none() {
            self.planned.borrow_mut().push((kernel, grid.blocks.iter().product()));
        }
        match self.kernel(variant)? {
            // SAFETY: the callers, one for each kernel, pass what its file declares, and tensors of
            // the shapes that the lengths say.
            Some(function) => unsafe { self.stream.launch(&function, grid, &pointers, &lengths) },
            None => Ok(()),
        }
    }

    fn kernel(&self, variant: Variant) -> Result<Option<Arc<Function>>> {
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

    /// Where attention counts the blocks that are done, of as many heads as are ever shared out.
    fn done(&self) -> Result<Pointer> {
        let done = &mut *self.done.borrow_mut();
        let done = match done {
            Some(done) => done,
            None => done.insert(weights(&self.stream, [1, 1, ENOUGH_BLOCKS], &[0.0; ENOUGH_BLOCKS])?),
        };
        Ok(done.start())
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
    /// Its kernel with these lengths compiled in, or none where they are zeros.
    fn variant(&self, lengths: [i32; MOST_LENGTHS]) -> Variant {
        let &Launch { kernel, vec, head, rows, .. } = self;
        Variant { kernel, vec: vec as u8, head: head as u16, rows: rows as u8, lengths }
    }

    fn new(kernel: Kernel, vec: usize, blocks: [usize; 3], threads: u32) -> Launch {
        Launch { kernel, vec, head: 0, rows: 0, grid: Grid { blocks, threads } }
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
        Activation::GeluErf => 4,
    }
}

/// What attention's kernel calls its window.
fn window_code(mask: Mask) -> usize {
    match mask {
        Mask::Full => 0,
        Mask::Causal => i32::MAX as usize,
        Mask::SlidingWindow(rows) => rows,
    }
}

/// A number that is no length, among lengths: its bits, as the kernel takes them, and a mark that they are.
fn as_length(number: f32) -> usize {
    number.to_bits() as usize | BITS
}

const BITS: usize = 1 << 63;

/// As the kernels take them.
///
/// # Errors
/// When one is more than an `int` holds.
fn checked<const L: usize>(lengths: [usize; L]) -> Result<[i32; L]> {
    let mut taken = [0; L];
    for (to, from) in taken.iter_mut().zip(lengths) {
        *to = if from & BITS == 0 { length(from)? } else { from as u32 as i32 };
    }
    Ok(taken)
}

fn length(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| {
        failed(format!(
            "a length of {n} was asked for, and kernels count to {}: take a smaller shape",
            i32::MAX
        ))
    })
}

/// Rows of keys that a block of attention works on at once, as `kernels/attention.cu` has it: of narrow heads
/// four to a group of lanes, of wide ones two.
fn rows_in_flight(head: usize, vec: usize) -> usize {
    let packs = head / vec;
    let lanes = packs.next_power_of_two().min(32);
    128 / lanes * if packs > lanes { 2 } else { 4 }
}

/// Rows a block of attention visits, and how many blocks share a head: enough blocks to occupy a large
/// device twice over, each with whole iterations of its loop.
fn spans(rows: usize, heads_and_queries: usize, at_once: usize) -> (usize, usize) {
    let wanted = ENOUGH_BLOCKS.div_ceil(heads_and_queries).min(MOST_SPLITS);
    let span = rows.div_ceil(wanted).next_multiple_of(at_once);
    (span, rows.div_ceil(span))
}

/// As many as the kernel that combines them has room for.
const MOST_SPLITS: usize = 64;

/// New rows of an entry from which on attention takes them in tiles, which read keys and values once.
const MANY_QUERIES: usize = 16;

/// New rows of a tile; `queries` in kernels/attention_many.cu.
const QUERY_TILE: usize = 16;

/// Of wider heads, the tiles of keys and values would not fit into 48 KiB of shared memory.
const WIDEST_TILED_HEAD: usize = 128;

/// Rows that a tile of new rows visits in one block, and how many blocks share it, as for [`spans`]: each has a
/// few tiles of keys, of 32 rows.
fn tile_spans(rows: usize, blocks: usize) -> (usize, usize) {
    let wanted = (ENOUGH_BLOCKS / blocks).clamp(1, MOST_SPLITS);
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

/// Rows up to which a product reads the weights once for all of them and keeps a sum for each: beyond, the
/// tiles of a matrix product serve better.
const FEW_ROWS: usize = 8;
/// Numbers in a row of weights up to which one warp makes an output, as in `kernels/linear_one.cu`.
const WARP_INNER: usize = 768;

/// Outputs up to which each works out the norm of its input again: of more, as of a vocabulary, that costs more than
/// a launch.
const MOST_NORMED: usize = 8192;

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

    fn upload_as(&self, shape: Shape, data: &[f32], dtype: Dtype) -> Result<Tensor> {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        only_f32(dtype)?;
        weights(&self.stream, shape, data)
    }

    fn download(&self, x: &Tensor) -> Result<Vec<f32>> {
        self.meter.count(|work| work.host_syncs += 1);
        self.stream.download(x.start(), x.shape().iter().product())
    }

    fn shape(&self, x: &Tensor) -> Shape {
        x.shape()
    }

    fn format(&self, _: &Tensor) -> Format {
        Format::F32
    }

    fn zeros_as(&self, shape: Shape, format: Format) -> Result<Tensor> {
        only_f32(format.dtype)?;
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
        let Staged { numbers, slot, pending, buffer } = &mut *staged;
        numbers.clear();
        numbers.extend([length(call.at)?, length(call.last)?]);
        for &start in &call.left_padding {
            numbers.push(length(start)?);
        }
        numbers.extend(call.tokens.iter().map(|&token| token as i32)); // NEXT is -1, as the kernel takes it
        let held = buffer.as_ref().map_or(0, |buffer| buffer.shape()[2]);
        if held < call.batch + numbers.len() {
            *buffer = None; // back to the pool, before a larger one is taken
            *buffer = Some(self.scratch([1, 1, call.batch + numbers.len()])?);
            *slot = None;
            *call.input.recorder.borrow_mut() = Recorder::default(); // it reads the old ones
        }
        if self.device.is_some() {
            let slot = match slot {
                Some(slot) => slot,
                None => slot.insert(self.slots.take(numbers.len())?),
            };
            slot.write(numbers)?;
            *pending = true;
        }
        Ok(())
    }

    fn step(
        &self,
        input: &Input,
        shape: Option<usize>,
        body: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self.mode {
            Mode::Graph => self.replay(input, shape, body),
            Mode::Stream | Mode::Specialised => body(),
        }
    }

    fn replays(&self) -> bool {
        self.mode == Mode::Graph
    }

    fn device_ns<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, DeviceTime)> {
        self.timed(work)
    }

    fn before_step(&self) -> Result<()> {
        self.flush()
    }

    /// Where every length is compiled in, what is queued waits for a compiler.
    fn pipelines(&self) -> bool {
        self.mode != Mode::Specialised && self.flusher.is_none()
    }

    fn device_memory(&self) -> Result<Option<DeviceMemory>> {
        self.device.as_ref().map(|device| device.memory()).transpose()
    }

    fn free_bytes(&self) -> Result<Option<u64>> {
        let free = |memory: DeviceMemory| (self.memory_bytes() as u64).saturating_sub(memory.used_bytes);
        Ok(self.device_memory()?.map(free))
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
            [self.numbers(call)?, table.start(), Tensor::or_null(positions), out.start()],
            [call.batch, n, width],
        )?;
        Ok(out)
    }

    fn norm(&self, x: &Tensor, norm: &Norm<Tensor>) -> Result<Tensor> {
        let ([batch, rows, whole], [_, _, width]) = (x.shape(), norm.gain.shape());
        let (out, bias) = (self.scratch(x.shape())?, Tensor::or_null(norm.bias.as_ref()));
        self.launch(
            Launch::new(Kernel::Norm, vec_of([width]), [batch * rows * whole / width, 1, 1], 256),
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
        let (bias, residual) = (Tensor::or_null(layer.bias.as_ref()), Tensor::or_null(residual));
        let (vec, weight) = (vec_of([inner]), layer.weight.start());
        let normed = match &layer.norm {
            Some(norm) if rows <= FEW_ROWS && inner <= WARP_INNER && outs <= MOST_NORMED => {
                let out = self.scratch([batch, n, outs])?;
                let (gain, shift) = (norm.gain.start(), Tensor::or_null(norm.bias.as_ref()));
                self.launch(
                    Launch::new(Kernel::LinearNormed, vec, [outs.div_ceil(4), 1, 1], 128),
                    [x.start(), gain, shift, weight, bias, residual, out.start()],
                    [rows, inner, outs, activation, as_length(norm.eps)],
                )?;
                return Ok(out);
            }
            Some(norm) => Some(self.norm(x, norm)?),
            None => None,
        };
        let x = normed.as_ref().unwrap_or(x);
        let out = self.scratch([batch, n, outs])?;
        let pointers = [x.start(), weight, bias, residual, out.start()];
        if rows > FEW_ROWS {
            self.linear_many(pointers, vec, [rows, inner, outs, activation])?;
            return Ok(out);
        }
        let blocks = if inner > WARP_INNER { outs } else { outs.div_ceil(4) };
        let launch = Launch::new(Kernel::LinearOne, vec, [blocks, 1, 1], 128);
        let launch = Launch { rows: rows.next_power_of_two(), ..launch };
        self.launch(launch, pointers, [rows, inner, outs, activation])?;
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

    fn rope(&self, call: &Call<Input>, x: Columns<'_, Tensor>, cos_sin: &Tensor) -> Result<Tensor> {
        let ([_, _, size], n, rows) = (cos_sin.shape(), call.rows(), call.tokens.len());
        let out = self.scratch([call.batch, n, x.width])?;
        let vec = vec_of([size / 2, x.stride(), x.from]);
        self.launch(
            Launch::new(Kernel::Rope, vec, [(x.width / 2 / vec).div_ceil(128), rows, 1], 128),
            [self.numbers(call)?, x.start(), cos_sin.start(), out.start()],
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
        params: &AttentionParams<'_, Tensor>,
    ) -> Result<Tensor> {
        let ([batch, n, _], [entries, rows, _]) = (q.tensor.shape(), k.rows.tensor.shape());
        let &AttentionParams { heads, kv_heads, scale, mask, slopes } = params;
        debug_assert!(k.layout != Layout::Ring || n == 1, "several rows read a ring unrolled");
        let (queries, head) = (batch * n, q.width / heads);
        let tiled = n >= MANY_QUERIES && head <= WIDEST_TILED_HEAD;
        let visited = match (mask, k.layout) {
            (Mask::SlidingWindow(window), Layout::Tail | Layout::Bounded | Layout::Ring) if tiled => {
                rows.min(window.saturating_add(QUERY_TILE - 1))
            }
            (Mask::SlidingWindow(window), Layout::Tail | Layout::Bounded | Layout::Ring) => window.min(rows),
            _ => rows,
        };
        let [q_stride, k_stride, v_stride] = [q, k.rows, v.rows].map(|columns| columns.stride());
        let vec = vec_of([head, q_stride, k_stride, v_stride, q.from, k.rows.from, v.rows.from]);
        let tiles = n.div_ceil(QUERY_TILE);
        let (span, splits) = match tiled {
            true => tile_spans(visited, tiles * heads * batch),
            false => spans(visited, queries * heads, rows_in_flight(head, vec)),
        };
        let out = self.scratch([batch, n, q.width])?;
        let partial = match splits {
            1 => None,
            _ => Some(self.scratch([queries * heads, splits, 2 + head])?),
        };
        let (partial, slopes) = (Tensor::or_null(partial.as_ref()), Tensor::or_null(slopes));
        let (k, v, layout) = (k.rows, v.rows, code(k.layout));
        let (group, share) = (heads / kv_heads, batch / entries);
        let (window, scale) = (window_code(mask), as_length(scale));
        let [q, k, v] = [q, k, v].map(|columns| columns.start());
        let (call, out_at) = (self.numbers(call)?, out.start());
        let lengths =
            [n, heads, group, share, rows, span, splits, q_stride, k_stride, v_stride, layout, window, scale];
        if !tiled {
            let launch =
                Launch { head, ..Launch::new(Kernel::Attention, vec, [splits, heads, queries], 128) };
            let done = if splits > 1 { self.done()? } else { 0 };
            self.launch(launch, [call, q, k, v, slopes, partial, done, out_at], lengths)?;
            return Ok(out);
        }
        self.launch(
            Launch { head, ..Launch::new(Kernel::AttentionMany, vec, [tiles * splits, heads, batch], 128) },
            [call, q, k, v, slopes, partial, out_at],
            lengths,
        )?;
        if splits > 1 {
            self.launch(
                Launch { head, ..Launch::new(Kernel::AttentionCombine, 1, [heads, queries, 1], 128) },
                [partial, out_at],
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
            [self.numbers(call)?, rows.rows.start(), linear.weight.start(), bias, out.start()],
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
            [self.numbers(call)?, q.start(), k.start(), v.start(), decays.start(), state, out.start()],
            [n, heads, size, q.stride(), k.stride(), v.stride()],
        )?;
        Ok(out)
    }

    fn lag(&self, call: &Call<Input>, rows: View<'_, Tensor>, back: usize) -> Result<Tensor> {
        let ([_, held, stride], n, width) = (rows.rows.tensor.shape(), call.rows(), rows.rows.width);
        let out = self.scratch([call.batch, n, width])?;
        self.launch(
            Launch::elementwise(Kernel::Lag, vec_of([width, stride, rows.rows.from]), n * width, call.batch),
            [self.numbers(call)?, rows.rows.start(), out.start()],
            [n, held, width, stride, code(rows.layout), back],
        )?;
        Ok(out)
    }

    fn last_row(&self, call: &Call<Input>, x: Tensor) -> Result<Tensor> {
        let [batch, n, width] = x.shape();
        if n == 1 {
            return Ok(x);
        }
        let out = self.scratch([batch, 1, width])?;
        self.launch(
            Launch::elementwise(Kernel::LastRow, vec_of([width]), width, batch),
            [self.numbers(call)?, x.start(), out.start()],
            [n, width],
        )?;
        Ok(out)
    }

    fn argmax(&self, x: &Tensor) -> Result<Vec<u32>> {
        let [batch, _, _] = x.shape();
        let out = self.scratch([1, 1, batch])?;
        self.argmax_to(x, out.start())?;
        self.meter.count(|work| work.host_syncs += 1);
        self.stream.download(out.start(), batch)
    }

    fn chooses_ahead(&self) -> bool {
        true
    }

    fn choose(&self, call: &Call<Input>, x: &Tensor, ids: &mut Tensor, row: usize) -> Result<()> {
        let [_, _, batch] = ids.shape();
        let to = ids.start() + (row * batch * size_of::<i32>()) as Pointer;
        self.argmax_to(x, to)?;
        self.stream.copy(call.input.staged.borrow().chosen(), to, batch * size_of::<i32>())
    }

    fn cast(&self, _: Columns<'_, Tensor>, format: Format) -> Result<Tensor> {
        only_f32(format.dtype)?;
        unreachable!("nobody casts f32 to f32")
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
            [self.numbers(call)?, new.start(), rows.start()],
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
            [self.numbers(call)?, new.start(), rows.start()],
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
            [self.numbers(call)?, new.start(), rows.start()],
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
            [self.numbers(call)?, past.rows.start(), new.start(), out.start()],
            [keep, held, n, new.width, past_stride, new.stride(), code(past.layout)],
        )?;
        Ok(out)
    }

    fn gather_batch(&self, x: &Tensor, order: &[usize]) -> Result<Tensor> {
        let [_, rows, width] = x.shape();
        let out = self.kept([order.len(), rows, width])?;
        let indices = order.iter().map(|&entry| length(entry)).collect::<Result<Vec<i32>>>()?;
        let on_device = self.scratch([1, 1, order.len()])?;
        if self.device.is_some() {
            let mut slot = self.slots.take(indices.len())?;
            slot.write(&indices)?;
            self.fetch(&mut slot, [0, on_device.start()], indices.len(), 0)?;
        }
        self.launch(
            Launch::elementwise(Kernel::GatherBatch, vec_of([width]), rows * width, order.len()),
            [on_device.start(), x.start(), out.start()],
            [rows * width],
        )?;
        Ok(out)
    }
}

impl Cuda {
    fn argmax_to(&self, x: &Tensor, to: Pointer) -> Result<()> {
        let [batch, rows, width] = x.shape();
        let launch = Launch::new(Kernel::Argmax, 1, [batch, 1, 1], 1024);
        self.launch(launch, [x.start(), to], [rows, width])
    }

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
            [self.numbers(call)?, rows.rows.start(), window.start()],
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

#[cfg(test)]
mod shapes {
    use super::{rows_in_flight, spans, MOST_SPLITS};

    /// No block of attention has part of an iteration to do but the last, and none has nothing.
    #[test]
    fn spans_are_whole_iterations() {
        for head in [8, 32, 64, 128, 160, 512] {
            for vec in [1, 4] {
                let at_once = rows_in_flight(head, vec);
                for (rows, heads) in [(1, 8), (64, 8), (512, 8), (1024, 12), (1000, 1), (5000, 3), (513, 96)]
                {
                    let (span, splits) = spans(rows, heads, at_once);
                    assert!(span % at_once == 0 && splits <= MOST_SPLITS, "{head} {rows} {heads}");
                    assert!((splits - 1) * span < rows && rows <= splits * span, "{head} {rows} {heads}");
                }
            }
        }
        // as kernels/attention.cu has it: 8 groups of 16 lanes, 4 groups of 32, each four rows; wide heads two
        assert_eq!([64, 128, 160].map(|head| rows_in_flight(head, 4)), [32, 16, 8]);
    }
}
