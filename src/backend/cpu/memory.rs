//! Where tensors live. Three kinds of memory, told apart because they cost differently:
//! weights lie one behind the other on huge pages, in the order a step reads them; what a strategy
//! keeps is asked of the allocator; scratch is recycled.

use std::alloc::{alloc, dealloc, Layout};
use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use memmap2::{MmapOptions, MmapRaw};

use super::element::Element;
use crate::backend::{Format, Meter, Shape};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// A cache line, and the widest vector.
const ALIGN: usize = 64;
/// The usual huge page of 64-bit machines.
const HUGE_PAGE: usize = 2 << 20;
/// Weights come in pieces of at least this; what is never touched costs nothing.
const CHUNK: usize = 64 << 20;

/// Tells the allocator to keep what is freed. By default glibc gives freed memory back to the kernel
/// when much of it lies at the end of the heap, and takes large blocks from the kernel each time:
/// then whether a concatenation pays for a thousand page faults depends on what else was freed
/// before, an untimed fork for example, and not on the strategy. Measured on concat at position
/// 500 of `toy`: 1100 µs after a fork and 750 µs inside a decode by default, the same kept.
/// Returns what the environment record says of it.
pub fn keep_freed_memory() -> String {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const MMAP_THRESHOLD: i32 = 32 << 20; // the most that glibc takes
        const TRIM_THRESHOLD: i32 = i32::MAX;
        // SAFETY: mallopt may be called at any time; it sets two numbers of the allocator.
        let set = unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD) == 1
        };
        if set {
            return "glibc malloc, M_MMAP_THRESHOLD 32 MiB, M_TRIM_THRESHOLD 2 GiB".into();
        }
    }
    "the system's, nothing set".into()
}

/// An empty vector with room for `len` values. Memory that grows with a model or a call is asked for here or in
/// [`Allocation`]: the system may refuse it, and that is an error like any other.
pub(crate) fn room<T>(len: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    let refused = |_| Error::NoMemory { bytes: len.saturating_mul(size_of::<T>()) };
    room.try_reserve_exact(len).map(|()| room).map_err(refused)
}

/// The first `len` values.
pub(crate) fn collect<T>(len: usize, values: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut collected = room(len)?;
    collected.extend(values.into_iter().take(len));
    Ok(collected)
}

/// So many zeros.
pub(crate) fn zeros(len: usize) -> Result<Vec<f32>> {
    let mut zeros = room(len)?;
    zeros.resize(len, 0.0);
    Ok(zeros)
}

/// `[batch, rows, width]`, row-major.
pub struct Tensor {
    shape: Shape,
    format: Format,
    storage: Storage,
}

enum Storage {
    WeightPages(WeightPages),
    Kept {
        block: Allocation,
        meter: Rc<Meter>,
    },
    /// `None` only while it is being dropped.
    Scratch {
        block: Option<Allocation>,
        home: Rc<Scratch>,
    },
}

impl Tensor {
    /// Three lengths, the last of which is contiguous.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How its numbers are kept.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    fn bytes(&self) -> usize {
        self.format.bytes(self.shape)
    }

    /// All numbers, row-major.
    ///
    /// # Panics
    /// When they are not f32.
    pub fn as_slice(&self) -> &[f32] {
        self.elements()
    }

    /// All numbers, row-major.
    ///
    /// # Panics
    /// When they are of another element.
    pub(super) fn elements<E: Element>(&self) -> &[E] {
        assert_eq!(E::DTYPE, self.format.dtype, "an operation that takes numbers of one kind alone");
        let len = self.raw().len() / size_of::<E>();
        // SAFETY: so many numbers are what the bytes are, aligned for any; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.raw().as_ptr().cast(), len) }
    }

    /// Row after row, each as [`Format::row_bytes`] says.
    pub(super) fn raw(&self) -> &[u8] {
        // SAFETY: so many bytes of its own begin there.
        unsafe { std::slice::from_raw_parts(self.start(), self.bytes()) }
    }

    fn start(&self) -> *mut u8 {
        match &self.storage {
            Storage::WeightPages(weights) => weights.start(),
            Storage::Kept { block, .. } => block.start.as_ptr().cast(),
            Storage::Scratch { block, .. } => block.as_ref().expect("alive").start.as_ptr().cast(),
        }
    }

    /// # Panics
    /// For weights, which nothing changes.
    pub(super) fn raw_mut(&mut self) -> &mut [u8] {
        assert!(!matches!(self.storage, Storage::WeightPages(_)), "no operation writes to weights");
        // SAFETY: as above, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.bytes()) }
    }

    /// # Panics
    /// For weights, which nothing changes, and for numbers that are not f32.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        assert_eq!(self.format.dtype, Dtype::F32, "an operation that takes numbers of one kind alone");
        let (start, len) = (self.raw_mut().as_mut_ptr(), self.shape.iter().product());
        // SAFETY: so many numbers are what the bytes are; `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), len) }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        let bytes = self.bytes();
        match &mut self.storage {
            Storage::WeightPages(_) => {}
            Storage::Kept { meter, .. } => meter.drop_kept(bytes),
            Storage::Scratch { block, home } => home.give_back(block.take().expect("alive"), bytes),
        }
    }
}

/// A piece of the allocator's memory, aligned for vectors.
struct Allocation {
    start: NonNull<f32>,
    capacity: usize,
}

impl Allocation {
    /// Memory as the allocator hands it out: the caller writes every number before any is read.
    fn unwritten(capacity: usize) -> Result<Allocation> {
        let refused = || Error::NoMemory { bytes: capacity.saturating_mul(4) };
        let layout = Allocation::layout(capacity).ok_or_else(refused)?;
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start.cast()).ok_or_else(refused)?;
        Ok(Allocation { start, capacity })
    }

    fn zeroed(capacity: usize) -> Result<Allocation> {
        let mut block = Allocation::unwritten(capacity)?;
        block.as_mut_slice().fill(0.0); // by hand: pages that appear at first use would tax later steps
        Ok(block)
    }

    /// `None`: larger than any memory.
    fn layout(capacity: usize) -> Option<Layout> {
        Layout::array::<f32>(capacity.max(1)).and_then(|l| l.align_to(ALIGN)).ok()
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.capacity) }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, in `unwritten`.
        unsafe {
            dealloc(self.start.as_ptr().cast(), Allocation::layout(self.capacity).expect("it was allocated"))
        }
    }
}

/// A tensor of the allocator's memory, unwritten: see [`Allocation::unwritten`].
pub fn kept(meter: &Rc<Meter>, shape: Shape, format: Format) -> Result<Tensor> {
    let bytes = format.bytes(shape);
    let block = Allocation::unwritten(bytes.div_ceil(size_of::<f32>()))?;
    meter.allocated(bytes);
    meter.keep(bytes);
    Ok(Tensor { shape, format, storage: Storage::Kept { block, meter: meter.clone() } })
}

pub fn kept_zeros(meter: &Rc<Meter>, shape: Shape, format: Format) -> Result<Tensor> {
    let mut tensor = kept(meter, shape, format)?;
    tensor.raw_mut().fill(0); // in any format a zero
    Ok(tensor)
}

/// Blocks that are free, by the power of two of their capacity; the smallest that will do is lent.
/// A step of a shape seen before, or of a smaller one, finds all it needs here and allocates nothing.
pub struct Scratch {
    free: RefCell<[Vec<Allocation>; usize::BITS as usize]>,
    meter: Rc<Meter>,
}

impl Scratch {
    pub fn new(meter: Rc<Meter>) -> Scratch {
        Scratch { free: RefCell::new(std::array::from_fn(|_| Vec::new())), meter }
    }

    /// A tensor whose contents are whatever was there before.
    pub fn tensor(self: &Rc<Self>, shape: Shape) -> Result<Tensor> {
        self.tensor_as(shape, Format::F32)
    }

    /// The same in any format.
    pub fn tensor_as(self: &Rc<Self>, shape: Shape, format: Format) -> Result<Tensor> {
        let bytes = format.bytes(shape);
        let capacity = bytes.div_ceil(size_of::<f32>()).next_power_of_two().max(ALIGN / 4);
        let free = self.free.borrow_mut()[capacity.ilog2() as usize..].iter_mut().find_map(Vec::pop);
        let block = match free {
            Some(block) => block,
            None => {
                let block = Allocation::zeroed(capacity)?;
                self.meter.allocated(4 * capacity);
                block
            }
        };
        self.meter.borrow_scratch(bytes);
        Ok(Tensor { shape, format, storage: Storage::Scratch { block: Some(block), home: self.clone() } })
    }

    fn give_back(&self, block: Allocation, bytes: usize) {
        self.meter.return_scratch(bytes);
        self.free.borrow_mut()[block.capacity.ilog2() as usize].push(block);
    }
}

/// Part of a chunk of weights.
struct WeightPages {
    chunk: Rc<MmapRaw>,
    /// In bytes.
    from: usize,
}

impl WeightPages {
    /// The arena gave the part of the live chunk that begins here to these weights alone, filled it before it
    /// made them, and nothing writes there again.
    fn start(&self) -> *mut u8 {
        // SAFETY: the part lies in the chunk.
        unsafe { self.chunk.as_mut_ptr().add(self.from) }
    }
}

/// Weights one behind the other, on huge pages where the system has them: at thousands of small
/// pages a step, looking up pages costs more than the arithmetic.
#[derive(Default)]
pub struct Arena {
    /// The chunk being filled, and how far.
    open: RefCell<Option<(Rc<MmapRaw>, usize)>>,
}

impl Arena {
    /// # Errors
    /// When the system has no room, or a number is too large for the element.
    pub fn store<E: Element>(&self, shape: Shape, data: &[f32]) -> Result<Tensor> {
        let size = (data.len() * size_of::<E>()).next_multiple_of(ALIGN);
        let mut open = self.open.borrow_mut();
        let fits = |(chunk, used): &(Rc<MmapRaw>, usize)| used + size <= chunk.len();
        if !open.as_ref().is_some_and(fits) {
            let chunk = chunk(size.max(CHUNK))?;
            let start = chunk.as_ptr().align_offset(HUGE_PAGE);
            *open = Some((Rc::new(chunk), start));
        }
        let (chunk, used) = open.as_mut().expect("opened above");
        let weights = WeightPages { chunk: chunk.clone(), from: *used };
        // SAFETY: `used + size` is within the chunk, beyond all parts given away, aligned for any number.
        let start: *mut E = unsafe { chunk.as_mut_ptr().add(*used).cast() };
        for (i, &x) in data.iter().enumerate() {
            let nearest = E::nearest(x);
            if x.is_finite() && !nearest.widen().is_finite() {
                return Err(Error::Input(format!("a weight of {x} is too large for {}", E::DTYPE)));
            }
            // SAFETY: as above.
            unsafe { start.add(i).write(nearest) };
        }
        *used += size;
        let format = Format { dtype: E::DTYPE, ..Format::F32 };
        Ok(Tensor { shape, format, storage: Storage::WeightPages(weights) })
    }
}

fn chunk(size: usize) -> Result<MmapRaw> {
    let map = MmapOptions::new().len(size + HUGE_PAGE).map_anon();
    let map = map.map_err(|_| Error::NoMemory { bytes: size })?;
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage); // without them everything works, slower
    Ok(map.into())
}

#[cfg(test)]
impl Tensor {
    /// Fills all rows with a number, and with a scale where it has one.
    pub(crate) fn poison(&mut self, number: f32) {
        let (format, [_, _, width]) = (self.format, self.shape);
        let row = vec![number; width];
        for to in self.raw_mut().chunks_exact_mut(format.row_bytes(width)) {
            super::kernels::cast_row(&row, format, to);
        }
    }
}
