//! Memory of the device, of the same three kinds as on the CPU: weights; what a strategy keeps,
//! asked of the driver's stream-ordered allocator; scratch, recycled.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{fence, Ordering};
use std::time::{Duration, Instant};

use super::driver::Pointer;
use super::stream::Stream;
use crate::backend::{bytes, Meter, Shape};
use crate::error::Result;

/// `[batch, rows, width]`, row-major.
pub struct Tensor {
    shape: Shape,
    storage: Storage,
}

enum Storage {
    Weights(Allocation),
    Kept {
        block: Allocation,
        meter: Rc<Meter>,
    },
    /// `None` only while it is being dropped.
    Scratch {
        block: Option<Allocation>,
        home: Rc<Scratch>,
    },
    /// The result of a recorded step, written anew at every replay.
    Replayed(Rc<Tensor>),
}

impl Tensor {
    /// Three lengths, the last of which is contiguous.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn start(&self) -> Pointer {
        match &self.storage {
            Storage::Weights(block) | Storage::Kept { block, .. } => block.start,
            Storage::Scratch { block, .. } => block.as_ref().expect("alive").start,
            Storage::Replayed(tensor) => tensor.start(),
        }
    }

    pub(super) fn replayed(tensor: &Rc<Tensor>) -> Tensor {
        Tensor { shape: tensor.shape, storage: Storage::Replayed(tensor.clone()) }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        match &mut self.storage {
            Storage::Weights(_) | Storage::Replayed(_) => {}
            Storage::Kept { meter, .. } => meter.drop_kept(bytes(self.shape)),
            Storage::Scratch { block, home } => {
                home.give_back(block.take().expect("alive"), bytes(self.shape))
            }
        }
    }
}

/// A piece of the allocator's memory. Its end is queued like work: kernels before it still see it.
struct Allocation {
    start: Pointer,
    bytes: usize,
    stream: Rc<Stream>,
}

impl Allocation {
    fn new(stream: &Rc<Stream>, bytes: usize) -> Result<Allocation> {
        Ok(Allocation { start: stream.alloc(bytes)?, bytes, stream: stream.clone() })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.stream.free(self.start);
    }
}

/// Constants of a model.
pub fn weights(stream: &Rc<Stream>, shape: Shape, data: &[f32]) -> Result<Tensor> {
    let block = Allocation::new(stream, bytes(shape))?;
    stream.upload(block.start, data)?;
    stream.synchronize()?; // the copy out of memory that is not pinned may go on after the call
    Ok(Tensor { shape, storage: Storage::Weights(block) })
}

/// A tensor of the allocator's memory, unwritten: the caller writes every number before any is read.
pub fn kept(stream: &Rc<Stream>, meter: &Rc<Meter>, shape: Shape) -> Result<Tensor> {
    let block = Allocation::new(stream, bytes(shape))?;
    meter.allocated(bytes(shape));
    meter.keep(bytes(shape));
    Ok(Tensor { shape, storage: Storage::Kept { block, meter: meter.clone() } })
}

/// Blocks that are free, by the power of two of their size; the smallest that will do is lent. One
/// stream serves all, so a block may be lent again while the kernels that used it are still queued.
pub struct Scratch {
    free: RefCell<[Vec<Allocation>; usize::BITS as usize]>,
    stream: Rc<Stream>,
    meter: Rc<Meter>,
}

impl Scratch {
    pub fn new(stream: &Rc<Stream>, meter: &Rc<Meter>) -> Rc<Scratch> {
        let free = RefCell::new(std::array::from_fn(|_| Vec::new()));
        Rc::new(Scratch { free, stream: stream.clone(), meter: meter.clone() })
    }

    /// A tensor whose contents are whatever was there before.
    pub fn tensor(self: &Rc<Self>, shape: Shape) -> Result<Tensor> {
        let size = bytes(shape).next_power_of_two().max(256);
        let free = self.free.borrow_mut()[size.ilog2() as usize..].iter_mut().find_map(Vec::pop);
        let block = match free {
            Some(block) => block,
            None => {
                let block = Allocation::new(&self.stream, size)?;
                self.meter.allocated(size);
                block
            }
        };
        self.meter.borrow_scratch(bytes(shape));
        Ok(Tensor { shape, storage: Storage::Scratch { block: Some(block), home: self.clone() } })
    }

    fn give_back(&self, block: Allocation, bytes: usize) {
        self.meter.return_scratch(bytes);
        self.free.borrow_mut()[block.bytes.ilog2() as usize].push(block);
    }
}

/// Pinned memory of the host that kernels read by themselves, as `kernels/stage.cu` says: a count of what was
/// written, a count of what was taken, numbers. Slots are recycled, for pinning costs more than a step.
pub struct PinnedSlots {
    free: RefCell<Vec<Pinned>>,
    stream: Rc<Stream>,
    /// How long a kernel is waited for before the whole stream is: in software none runs until it is.
    patience: Duration,
}

impl PinnedSlots {
    pub fn new(stream: &Rc<Stream>, emulated: bool) -> Rc<PinnedSlots> {
        let patience = if emulated { Duration::ZERO } else { Duration::from_secs(1) };
        Rc::new(PinnedSlots { free: RefCell::default(), stream: stream.clone(), patience })
    }

    /// One with room for so many numbers.
    pub fn take(self: &Rc<Self>, numbers: usize) -> Result<PinnedSlot> {
        let words = (numbers + 2).next_power_of_two().max(64);
        let mut free = self.free.borrow_mut();
        let found = free.iter().position(|pinned| pinned.words >= words);
        let pinned = match found {
            Some(i) => free.swap_remove(i),
            None => Pinned { start: self.stream.pin(words * size_of::<i32>())?, words, written: 0, asked: 0 },
        };
        Ok(PinnedSlot { pinned: Some(pinned), home: self.clone() })
    }
}

impl Drop for PinnedSlots {
    fn drop(&mut self) {
        let _ = self.stream.synchronize(); // what a lost device had queued no longer reads anything
        self.free.get_mut().iter().for_each(|pinned| self.stream.unpin(pinned.start));
    }
}

struct Pinned {
    start: *mut i32,
    words: usize,
    /// How often the host has written here, and which of its writings a kernel was started for.
    written: i32,
    asked: i32,
}

/// Pinned memory that is its owner's until dropped. A kernel may still read it then: whoever has it next waits.
pub struct PinnedSlot {
    /// `None` only while it is being dropped.
    pinned: Option<Pinned>,
    home: Rc<PinnedSlots>,
}

impl PinnedSlot {
    /// Where the host and, because all memory has one set of addresses, kernels find it.
    pub fn start(&self) -> Pointer {
        self.pinned().start as Pointer
    }

    fn pinned(&self) -> &Pinned {
        self.pinned.as_ref().expect("alive")
    }

    /// Writes numbers for the next kernel to take, once the last one that was started has taken its own.
    pub fn write(&mut self, numbers: &[i32]) -> Result<()> {
        self.wait()?;
        let pinned = self.pinned.as_mut().expect("alive");
        assert!(numbers.len() + 2 <= pinned.words, "a slot is taken with room for what is written");
        pinned.written = pinned.written.wrapping_add(1);
        // SAFETY: the memory is this slot's, has room for the numbers, and no kernel reads it now: the last
        // that was started for it has said that it is done.
        unsafe {
            pinned.start.write_volatile(pinned.written);
            for (i, &number) in numbers.iter().enumerate() {
                pinned.start.add(2 + i).write_volatile(number);
            }
        }
        fence(Ordering::SeqCst); // before the launch that reads it
        Ok(())
    }

    /// A kernel that takes what was written has been started.
    pub fn asked(&mut self) {
        let pinned = self.pinned.as_mut().expect("alive");
        pinned.asked = pinned.written;
    }

    fn wait(&mut self) -> Result<()> {
        let &Pinned { start, asked, .. } = self.pinned();
        // SAFETY: the memory is this slot's; kernels write this word whole.
        let taken = || unsafe { start.add(1).read_volatile() } == asked;
        let since = Instant::now();
        while !taken() {
            if since.elapsed() >= self.home.patience {
                self.home.stream.synchronize()?;
                break;
            }
            std::hint::spin_loop();
        }
        fence(Ordering::SeqCst);
        Ok(())
    }
}

impl Drop for PinnedSlot {
    fn drop(&mut self) {
        self.home.free.borrow_mut().push(self.pinned.take().expect("alive"));
    }
}
