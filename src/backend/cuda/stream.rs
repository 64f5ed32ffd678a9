//! The one stream that all work is queued on, or none: a plan asks for the same kernels in the same
//! order and runs nothing, which is how the kernels of a whole decode are listed without a GPU.

use std::ffi::c_void;
use std::ptr::{from_ref, null_mut};
use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::{result, sys, CudaGraph, CudaStream};

use super::device::{broken, Device};
use super::driver::{self, Function, Pointer};
use super::failed;
use super::kernels::MOST_LENGTHS;
use crate::backend::CaptureTimes;
use crate::error::Result;

pub enum Stream {
    Device {
        stream: Arc<CudaStream>,
        /// Whether kernels may start while the one ahead still runs.
        overlaps: bool,
    },
    Plan,
}

/// A recording, what the work that was recorded returned, and how long it took the host.
pub struct Captured<R> {
    pub graph: CudaGraph,
    pub done: R,
    pub times: CaptureTimes,
}

/// Blocks, and threads of one.
#[derive(Clone, Copy)]
pub struct Grid {
    pub blocks: [usize; 3],
    pub threads: u32,
}

/// Pointers and lengths of one launch: no kernel has more.
const MOST_ARGUMENTS: usize = 8 + MOST_LENGTHS;

impl Grid {
    /// Blocks as the driver takes them.
    ///
    /// # Errors
    /// A grid beyond what every device has, or with more threads along x than a kernel counts.
    fn checked(&self) -> Result<[u32; 3]> {
        let [x, y, z] = self.blocks;
        let threads = x.saturating_mul(self.threads as usize);
        match threads <= i32::MAX as usize && y <= MOST_BLOCKS && z <= MOST_BLOCKS {
            true => Ok([x as u32, y as u32, z as u32]),
            false => Err(failed(format!(
                "a launch of {x} x {y} x {z} blocks was asked for, and a device has at most {MOST_BLOCKS} along y \
                 and z: take a smaller batch, or fewer tokens at once"
            ))),
        }
    }
}

/// Along y and z, on every device.
const MOST_BLOCKS: usize = 65_535;

impl Stream {
    pub fn new(device: &Device) -> Result<Stream> {
        let stream = device.context.new_stream().map_err(|e| broken("make a stream", e))?;
        Ok(Stream::Device { stream, overlaps: device.info.overlaps() })
    }

    /// The stream with its context current on this thread.
    fn open(&self) -> Result<Option<&Arc<CudaStream>>> {
        let Stream::Device { stream, .. } = self else { return Ok(None) };
        stream.context().bind_to_thread().map_err(|e| broken("use the device", e))?;
        Ok(Some(stream))
    }

    pub fn alloc(&self, bytes: usize) -> Result<Pointer> {
        let Some(stream) = self.open()? else { return Ok(0) };
        // SAFETY: nothing reads the memory before it was written; see the callers.
        unsafe { result::malloc_async(stream.cu_stream(), bytes.max(1)) }.map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = result::mem_get_info().unwrap_or_default();
                failed(format!("out of memory: {bytes} bytes were asked for, and {free} of {total} are free"))
            }
            _ => broken(&format!("allocate {bytes} bytes"), e),
        })
    }

    pub fn free(&self, start: Pointer) {
        if let Ok(Some(stream)) = self.open() {
            // SAFETY: the caller owns the memory and queues nothing more on it. An error means that the
            // device is lost, memory and all; the next call that returns a result reports it.
            let _ = unsafe { result::free_async(start, stream.cu_stream()) };
        }
    }

    /// Memory of the host that stays where it is and that kernels can address, zeros.
    pub fn pin(&self, bytes: usize) -> Result<*mut i32> {
        let Some(_) = self.open()? else { return Err(failed("a plan has no memory to pin")) };
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: the memory is written below before it is read, within its size.
        let start = unsafe { result::malloc_host(bytes, flags) }
            .map_err(|e| broken(&format!("pin {bytes} bytes of the host's memory"), e))?;
        // SAFETY: so many bytes were just allocated there.
        unsafe { start.cast::<u8>().write_bytes(0, bytes) };
        Ok(start.cast())
    }

    pub fn unpin(&self, start: *mut i32) {
        if let Ok(Some(_)) = self.open() {
            // SAFETY: the caller owns the memory, and no kernel reads it any more. An error means that the
            // device is lost, and the memory with it.
            let _ = unsafe { result::free_host(start.cast()) };
        }
    }

    pub fn zero(&self, start: Pointer, bytes: usize) -> Result<()> {
        let Some(stream) = self.open()? else { return Ok(()) };
        // SAFETY: the caller owns so many bytes there.
        unsafe { result::memset_d8_async(start, 0, bytes, stream.cu_stream()) }
            .map_err(|e| broken("clear memory", e))
    }

    pub fn copy(&self, to: Pointer, from: Pointer, bytes: usize) -> Result<()> {
        let Some(stream) = self.open()? else { return Ok(()) };
        // SAFETY: the caller owns so many bytes at both, which do not overlap.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }
            .map_err(|e| broken("copy memory", e))
    }

    pub fn upload<T>(&self, to: Pointer, data: &[T]) -> Result<()> {
        let Some(stream) = self.open()? else { return Ok(()) };
        // SAFETY: the caller owns as many bytes there. The memory is pageable: the driver has read
        // it when the call returns.
        unsafe { result::memcpy_htod_async(to, data, stream.cu_stream()) }.map_err(|e| broken("upload", e))
    }

    /// Waits for the work queued so far, and for the copy.
    pub fn download<T: Copy + Default>(&self, from: Pointer, len: usize) -> Result<Vec<T>> {
        let mut data = vec![T::default(); len];
        if let Some(stream) = self.open()? {
            // SAFETY: the caller owns so many numbers there, plain ones of which any bits are valid;
            // `data` is not touched before the stream has been waited for.
            unsafe { result::memcpy_dtoh_async(&mut data, from, stream.cu_stream()) }
                .map_err(|e| broken("download", e))?;
            self.synchronize()?;
        }
        Ok(data)
    }

    pub fn synchronize(&self) -> Result<()> {
        let Some(stream) = self.open()? else { return Ok(()) };
        stream.synchronize().map_err(|e| broken("finish the work queued", e))
    }

    /// # Safety
    /// The kernel takes these pointers and then these lengths, and stays within the memory that
    /// the pointers name.
    pub unsafe fn launch(
        &self,
        kernel: &Function,
        grid: Grid,
        pointers: &[Pointer],
        lengths: &[i32],
    ) -> Result<()> {
        let (Some(stream), &Stream::Device { overlaps, .. }) = (self.open()?, self) else { return Ok(()) };
        assert!(
            pointers.len() + lengths.len() <= MOST_ARGUMENTS,
            "a kernel has more arguments than there is room for"
        );
        let mut arguments = [null_mut::<c_void>(); MOST_ARGUMENTS];
        let pointers_at = pointers.iter().map(|pointer| from_ref(pointer).cast());
        let lengths_at = lengths.iter().map(|length| from_ref(length).cast());
        for (argument, at) in arguments.iter_mut().zip(pointers_at.chain(lengths_at)) {
            *argument = <*const c_void>::cast_mut(at);
        }
        let blocks = grid.checked()?;
        // SAFETY: the caller's promise; the driver reads the arguments during the call.
        let launched = unsafe {
            driver::launch(kernel, blocks, grid.threads, (stream.cu_stream(), overlaps), &mut arguments)
        };
        launched.map_err(|e| broken("launch a kernel", e))
    }

    /// Records what `work` queues instead of running it.
    pub fn capture<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<Captured<R>> {
        let Some(stream) = self.open()? else {
            return Err(failed("a plan runs nothing that could be recorded"));
        };
        let start = Instant::now();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(|e| broken("begin to capture", e))?;
        let done = work();
        let capture_ns = start.elapsed().as_nanos() as u64;
        // ended also when the work failed: the stream must come out of capturing
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0));
        let instantiate_ns = start.elapsed().as_nanos() as u64 - capture_ns;
        let done = done?;
        let graph = graph.map_err(|e| broken("capture a step", e))?;
        let graph = graph.ok_or_else(|| failed("nothing was recorded of a step"))?;
        let uploading = Instant::now();
        graph.upload().map_err(|e| broken("upload a graph", e))?;
        self.synchronize()?;
        let upload_ns = uploading.elapsed().as_nanos() as u64;
        Ok(Captured {
            graph,
            done,
            times: CaptureTimes { capture_ns, instantiate_ns, upload_ns, first_replay_ns: 0 },
        })
    }

    /// What the device took for what `work` queues, between two events of the stream: gaps between operations
    /// are inside. An event on an idle stream fires at once, so `head_start` is queued first, and is to keep
    /// the device busy until all of `work` is queued. Waits for the end.
    pub fn device_ns<R>(
        &self,
        head_start: impl FnOnce() -> Result<()>,
        work: impl FnOnce() -> Result<R>,
    ) -> Result<(R, Option<Timed>)> {
        let Some(stream) = self.open()? else { return Ok((work()?, None)) };
        let event = || {
            let flags = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
            stream.record_event(flags).map_err(|e| broken("record an event", e))
        };
        head_start()?;
        let start = event()?;
        let queueing = Instant::now();
        let done = work()?;
        let end = event()?;
        let queue_ns = queueing.elapsed().as_nanos() as u64;
        let waited = start.try_is_complete().map_err(|e| broken("look at an event", e))?;
        let elapsed_ms = start.elapsed_ms(&end).map_err(|e| broken("time the device", e))?;
        Ok((done, Some(Timed { device_ns: (f64::from(elapsed_ms) * 1e6) as u64, queue_ns, waited })))
    }
}

/// Some work by the device's clock.
pub struct Timed {
    pub device_ns: u64,
    /// How long the host took to queue it.
    pub queue_ns: u64,
    /// Whether the device began before all was queued, so that its time may contain the host's.
    pub waited: bool,
}
