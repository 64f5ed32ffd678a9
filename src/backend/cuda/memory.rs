//! Memory of the device, of the same three kinds as on the CPU: weights; what a strategy keeps,
//! asked of the driver's stream-ordered allocator; scratch, recycled.

use std::cell::RefCell;
use std::rc::Rc;

use super::stream::Stream;
use crate::backend::{bytes, Meter, Shape};
use crate::error::Result;

/// A pointer into the memory of the device.
pub type Pointer = u64;

/// `[batch, rows, width]`, row-major.
pub struct Tensor {
    shape: Shape,
    storage: Storage,
}

enum Storage {
    Weights(Block),
    Kept {
        block: Block,
        meter: Rc<Meter>,
    },
    /// `None` only while it is being dropped.
    Scratch {
        block: Option<Block>,
        home: Rc<Scratch>,
    },
    /// The result of a recorded step, written anew at every replay.
    Lent(Rc<Tensor>),
}

impl Tensor {
    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub(super) fn start(&self) -> Pointer {
        match &self.storage {
            Storage::Weights(block) | Storage::Kept { block, .. } => block.start,
            Storage::Scratch { block, .. } => block.as_ref().expect("alive").start,
            Storage::Lent(tensor) => tensor.start(),
        }
    }

    pub(super) fn lend(tensor: &Rc<Tensor>) -> Tensor {
        Tensor { shape: tensor.shape, storage: Storage::Lent(tensor.clone()) }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        match &mut self.storage {
            Storage::Weights(_) | Storage::Lent(_) => {}
            Storage::Kept { meter, .. } => meter.drop_kept(bytes(self.shape)),
            Storage::Scratch { block, home } => {
                home.give_back(block.take().expect("alive"), bytes(self.shape))
            }
        }
    }
}

/// A piece of the allocator's memory. Its end is queued like work: kernels before it still see it.
struct Block {
    start: Pointer,
    bytes: usize,
    stream: Rc<Stream>,
}

impl Block {
    fn new(stream: &Rc<Stream>, bytes: usize) -> Result<Block> {
        Ok(Block { start: stream.alloc(bytes)?, bytes, stream: stream.clone() })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.stream.free(self.start);
    }
}

/// Constants of a model.
pub fn weights(stream: &Rc<Stream>, shape: Shape, data: &[f32]) -> Result<Tensor> {
    let block = Block::new(stream, bytes(shape))?;
    stream.upload(block.start, data)?;
    Ok(Tensor { shape, storage: Storage::Weights(block) })
}

/// A tensor of the allocator's memory, unwritten: the caller writes every number before any is read.
pub fn kept(stream: &Rc<Stream>, meter: &Rc<Meter>, shape: Shape) -> Result<Tensor> {
    let block = Block::new(stream, bytes(shape))?;
    meter.allocated(bytes(shape));
    meter.keep(bytes(shape));
    Ok(Tensor { shape, storage: Storage::Kept { block, meter: meter.clone() } })
}

/// Blocks that are free, by the power of two of their size; the smallest that will do is lent. One
/// stream serves all, so a block may be lent again while the kernels that used it are still queued.
pub struct Scratch {
    free: RefCell<[Vec<Block>; usize::BITS as usize]>,
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
                let block = Block::new(&self.stream, size)?;
                self.meter.allocated(size);
                block
            }
        };
        self.meter.borrow_scratch(bytes(shape));
        Ok(Tensor { shape, storage: Storage::Scratch { block: Some(block), home: self.clone() } })
    }

    fn give_back(&self, block: Block, bytes: usize) {
        self.meter.return_scratch(bytes);
        self.free.borrow_mut()[block.bytes.ilog2() as usize].push(block);
    }
}
