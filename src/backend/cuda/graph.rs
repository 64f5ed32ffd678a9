//! One decode step as a graph: recorded once, then started by one launch. A recording fixes every
//! address and every length, so it serves the steps of one shape of one session, whose index and
//! tokens are data.

use std::rc::Rc;
use std::time::Instant;

use cudarc::driver::CudaGraph;

use super::device::broken;
use super::memory::Scratch;
use super::{failed, Cuda, Input, Tensor};
use crate::backend::{bytes, Backend, CaptureTimes};
use crate::error::Result;

/// What a session's steps left to be replayed. The first steps of a shape run as they are, in them
/// buffers grow and kernels are loaded, until one allocates nothing: nor will the next then, which is
/// recorded. All further ones are replayed.
#[derive(Default)]
pub struct Recorder {
    shape: Option<usize>,
    step: Option<Recorded>,
    /// Scratch of the recording's own: its addresses are in the graph and must not be lent elsewhere.
    scratch: Option<Rc<Scratch>>,
}

struct Recorded {
    graph: CudaGraph,
    logits: Rc<Tensor>,
}

impl Cuda {
    pub(super) fn replay(
        &self,
        input: &Input,
        shape: Option<usize>,
        body: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let recorder = &mut *input.recorder.borrow_mut();
        if shape.is_none() {
            return Err(failed(
                "cuda-graph replays one step's addresses and lengths, and this strategy has others at every step",
            ));
        }
        if recorder.shape != shape {
            recorder.step = None;
            let allocs = self.meter.work().allocs;
            let logits = self.in_memory_of(recorder, body)?;
            recorder.shape = shape.filter(|_| self.meter.work().allocs == allocs);
            return self.outside(logits);
        }
        match &recorder.step {
            // the caller still holds the last result, which a replay would overwrite
            Some(step) if Rc::strong_count(&step.logits) > 1 => {
                let logits = self.in_memory_of(recorder, body)?;
                return self.outside(logits);
            }
            Some(step) => {
                self.launch_graph(input, step)?;
                return Ok(Tensor::replayed(&step.logits));
            }
            None => {}
        }
        let (step, mut times) = self.record(recorder, body)?;
        let start = Instant::now();
        self.launch_graph(input, &step)?;
        self.stream.synchronize()?;
        times.first_replay_ns = start.elapsed().as_nanos() as u64;
        self.captures.borrow_mut().push(times);
        let logits = Tensor::replayed(&step.logits);
        recorder.step = Some(step);
        Ok(logits)
    }

    fn launch_graph(&self, input: &Input, step: &Recorded) -> Result<()> {
        step.graph.launch().map_err(|e| broken("launch a graph", e))?;
        self.meter.count(|work| work.launches += 1);
        input.staged.borrow_mut().taken(); // the recording begins by fetching the call's numbers
        Ok(())
    }

    /// A copy in the memory that all share: the recording's own must not be held when a step is recorded.
    fn outside(&self, logits: Tensor) -> Result<Tensor> {
        let copy = self.scratch(logits.shape())?;
        self.stream.copy(copy.start(), logits.start(), bytes(logits.shape()))?;
        Ok(copy)
    }

    fn record(
        &self,
        recorder: &mut Recorder,
        body: impl FnOnce() -> Result<Tensor>,
    ) -> Result<(Recorded, CaptureTimes)> {
        let launches = self.meter().work().launches;
        let recorded = self.stream.capture(|| self.in_memory_of(recorder, body))?;
        // recording starts no kernel
        self.meter.count(|work| work.launches = launches);
        Ok((Recorded { graph: recorded.graph, logits: Rc::new(recorded.done) }, recorded.times))
    }

    /// The step, with scratch of the recording's own.
    fn in_memory_of(&self, recorder: &mut Recorder, body: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let own = recorder.scratch.get_or_insert_with(|| Scratch::new(&self.stream, &self.meter)).clone();
        let shared = self.scratch.replace(own);
        let done = body();
        self.scratch.replace(shared);
        done
    }
}
