//! For measuring: the device's own clock, and a cold second-level cache.

use std::cell::Cell;

use super::driver::Pointer;
use super::kernels::MOST_LENGTHS;
use super::stream::Timed;
use super::{checked, failed, Cuda, Kernel, Launch, Tensor};
use crate::backend::{bytes, DeviceTime};
use crate::error::Result;

/// More than the cycles of any GPU's clock in a nanosecond.
const CYCLES_A_NS: u64 = 4;
/// The shortest and the longest that a device is kept busy while the host queues.
const HEAD_STARTS_NS: (u64, u64) = (50_000, 50_000_000);
/// Of 16 bytes, that a kernel of ours can count: 16 GiB.
const MOST_PACKS: usize = 1 << 30;

/// How long the device is kept busy while the host queues what is to be timed.
pub struct HeadStart {
    /// `None` once the longest was not enough: the host waits for the device, and would for ever.
    ns: Cell<Option<u64>>,
}

impl Default for HeadStart {
    fn default() -> HeadStart {
        HeadStart { ns: Cell::new(Some(HEAD_STARTS_NS.0)) }
    }
}

impl HeadStart {
    /// Learns from work that took the host `queue_ns` to queue: the next gets three times that.
    fn learn(&self, &Timed { queue_ns, waited, .. }: &Timed) {
        let (least, most) = HEAD_STARTS_NS;
        let helps = self.ns.get().filter(|&given| !waited || given < most);
        self.ns.set(helps.map(|_| queue_ns.saturating_mul(3).clamp(least, most)));
    }
}

/// Two buffers, each larger than the second-level cache.
pub struct Flusher {
    written: Tensor,
    /// After the other was written: what the cache holds then need not be written back when a step makes room.
    read: Tensor,
    /// What the read blocks add up to.
    sums: Tensor,
}

impl Cuda {
    /// The same, with the device's second-level cache emptied before every timed step.
    pub fn with_cold_l2(mut self) -> Result<Cuda> {
        let packs = self.device().map_or(0, |device| 2 * device.l2_bytes) / 16;
        let blocks = 4 * self.device().map_or(1, |device| device.multiprocessors as usize);
        let (written, read) = (self.random(packs)?, self.random(packs)?);
        let sums = self.kept([1, 1, blocks])?;
        self.flusher = Some(Flusher { written, read, sums });
        Ok(self)
    }

    pub(super) fn flush(&self) -> Result<()> {
        let Some(Flusher { written, read, sums }) = &self.flusher else { return Ok(()) };
        self.stream.zero(written.start(), bytes(written.shape()))?;
        let ([_, _, blocks], packs) = (sums.shape(), bytes(read.shape()) / 16);
        self.read(blocks, [read.start(), sums.start()], packs, 1)
    }

    /// Packs of four numbers read by so many blocks, in as many passes as are asked for.
    pub(super) fn read(
        &self,
        blocks: usize,
        buffer_and_sums: [Pointer; 2],
        packs: usize,
        passes: usize,
    ) -> Result<()> {
        let launch = Launch::new(Kernel::CeilingRead, 4, [blocks, 1, 1], 256);
        self.start(launch, buffer_and_sums, [packs, passes])
    }

    /// So many packs of four numbers from -1 to 1, no two alike, made on the device.
    pub(super) fn random(&self, packs: usize) -> Result<Tensor> {
        if packs > MOST_PACKS {
            let (asked, most) = (16 * packs as u64, 16 * MOST_PACKS as u64);
            return Err(failed(format!("a buffer of {asked} bytes was to be read, and {most} are the most")));
        }
        let tensor = self.kept([1, packs, 4])?;
        let launch = Launch::new(Kernel::FillRandom, 4, [packs.div_ceil(256).clamp(1, 1024), 1, 1], 256);
        self.start(launch, [tensor.start()], [packs])?;
        Ok(tensor)
    }

    /// Starts a kernel that is no part of a step: not counted, and its lengths never compiled in.
    pub(super) fn start<const P: usize, const L: usize>(
        &self,
        launch: Launch,
        pointers: [Pointer; P],
        lengths: [usize; L],
    ) -> Result<()> {
        let Some(device) = &self.device else { return Ok(()) };
        let lengths = checked(lengths)?;
        let (function, _) = device.kernel(&launch.variant([0; MOST_LENGTHS]))?;
        // SAFETY: the callers, one for each kernel, pass what its file declares, and tensors of the shapes
        // that the lengths say.
        unsafe { self.stream.launch(&function, launch.grid, &pointers, &lengths) }
    }

    /// The work by the device's clock. What software queues, it has run: there is no head start to give.
    pub(super) fn timed<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<(R, DeviceTime)> {
        let emulated = self.device().is_some_and(|device| device.emulated);
        let Some(ns) = self.head_start.ns.get() else { return Ok((work()?, DeviceTime::Unknown)) };
        let cycles = if emulated { 1 } else { ns * CYCLES_A_NS } as usize;
        let spin = || self.start(Launch::new(Kernel::Spin, 1, [1, 1, 1], 32), [], [cycles]);
        let (done, timed) = self.stream.device_ns(spin, work)?;
        let Some(timed) = timed else { return Ok((done, DeviceTime::Unknown)) };
        if emulated {
            return Ok((done, DeviceTime::Ns(timed.device_ns)));
        }
        self.head_start.learn(&timed);
        Ok((done, if timed.waited { DeviceTime::Waited } else { DeviceTime::Ns(timed.device_ns) }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use crate::backend::tests::device;
    use crate::backend::Backend;

    fn timed(queue_ns: u64, waited: bool) -> Timed {
        Timed { device_ns: 1, queue_ns, waited }
    }

    #[test]
    fn the_head_start_follows_what_queueing_takes() {
        let start = HeadStart::default();
        start.learn(&timed(400_000, true));
        assert_eq!(start.ns.get(), Some(1_200_000));
        start.learn(&timed(1_000, false));
        assert_eq!(start.ns.get(), Some(50_000), "no shorter than the least");
    }

    /// A host that waits for the device while it queues is late however long the head start is.
    #[test]
    fn a_head_start_that_never_helps_is_given_up() {
        let start = HeadStart::default();
        start.learn(&timed(10_000_000_000, true));
        assert_eq!(start.ns.get(), Some(50_000_000), "no longer than the most");
        start.learn(&timed(60_000_000, true));
        assert_eq!(start.ns.get(), None);
    }

    #[test]
    fn the_device_is_kept_busy_and_then_free() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        let spin = |cycles| b.start(Launch::new(Kernel::Spin, 1, [1, 1, 1], 32), [], [cycles]);
        spin(1000).unwrap();
        b.synchronize().unwrap();
        let (rows, time) = b.device_ns(|| b.zeros([1, 1000, 1])).unwrap();
        assert_eq!(rows.shape(), [1, 1000, 1]);
        assert!(!device.info.emulated || matches!(time, DeviceTime::Ns(_)), "{time:?}");
    }

    /// Numbers that are all alike, or zero, would cost a device less to move.
    #[test]
    fn random_numbers_are_spread_over_their_range() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        let mut numbers = b.download(&b.random(1001).unwrap()).unwrap();
        assert!(numbers.iter().all(|x| (-1.0..=1.0).contains(x)));
        let (mean, n) = (numbers.iter().sum::<f32>() / numbers.len() as f32, numbers.len());
        let squares = numbers.iter().map(|x| x * x).sum::<f32>() / n as f32;
        assert!(mean.abs() < 0.05 && (squares - 1.0 / 3.0).abs() < 0.03, "mean {mean}, squares {squares}");
        numbers.sort_by(f32::total_cmp);
        numbers.dedup();
        assert!(numbers.len() > n - 10, "{} of {n} differ", numbers.len());
    }

    #[test]
    fn a_buffer_beyond_what_is_counted_is_refused_in_a_line() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        let error = b.random(MOST_PACKS + 1).err().expect("too many").to_string();
        assert_eq!(error, "cuda: a buffer of 17179869200 bytes was to be read, and 17179869184 are the most");
        let error = b.random(MOST_PACKS).err().map(|e| e.to_string());
        let fits = device.info.memory_bytes > 17 << 30;
        assert!(fits || error.is_some_and(|e| e.contains("out of memory") && e.lines().count() == 1));
    }

    #[test]
    fn a_cold_cache_was_written_and_then_read_over() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Specialised).unwrap().with_cold_l2().unwrap();
        let launches = b.meter().work().launches;
        assert!(!b.pipelines(), "only the first of a row of steps would find a cold cache");
        b.before_step().unwrap();
        b.before_step().unwrap();
        b.synchronize().unwrap();
        let Flusher { written, read, sums } = b.flusher.as_ref().unwrap();
        for tensor in [written, read] {
            assert!(bytes(tensor.shape()) >= 2 * device.info.l2_bytes / 16 * 16);
        }
        let first = |tensor: &Tensor| b.stream.download::<f32>(tensor.start(), 4).unwrap();
        assert_eq!(first(written), [0.0; 4]);
        let total = |tensor: &Tensor| -> f64 { b.download(tensor).unwrap().into_iter().map(f64::from).sum() };
        let (all, read) = (total(read), total(sums));
        assert!(
            all != 0.0 && (all - read).abs() < 1e-3 * all.abs().max(1.0),
            "{all} is there, {read} was read"
        );
        assert_eq!(b.meter().work().launches, launches, "no part of a step");
        assert!(b.compiled().is_empty(), "nor of what its shapes compile");
    }
}
