//! What the device can do at most: how fast it reads, how fast it multiplies and adds, how fast it starts
//! kernels.

use std::time::Instant;

use super::{Backend, Cuda, Kernel, Launch};
use crate::backend::{bytes, DeviceTime};
use crate::error::Result;

/// The best of several grids.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    /// Bytes, or operations.
    pub per_second: f64,
    /// Which grid gave it.
    pub how: String,
}

/// Bytes per second from a buffer as large as some weights, and from memory.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadCeilings {
    /// The same bytes again and again, as steps read weights.
    pub again: Ceiling,
    /// Whether they stay in the second-level cache meanwhile.
    pub in_l2: bool,
    /// Of a buffer that is several times the second-level cache, so that nothing is found in there; `None`
    /// where the memory that is free does not allow it.
    pub cold: Option<Ceiling>,
}

/// What starting one of many kernels takes, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchCosts {
    /// Queued one after the other.
    pub launch_ns: u64,
    /// As a node of a graph that is replayed.
    pub graph_node_ns: u64,
}

/// Blocks of 256 threads for each multiprocessor.
const BLOCKS: [usize; 5] = [1, 2, 4, 8, 16];
const REPEATS: usize = 4;
/// Queued between two events: one alone would be told with its start, of several microseconds.
const LAUNCHES: usize = 50;
/// Read by one launch at least, in several passes: the device needs a microsecond from one to the next.
const BYTES_A_LAUNCH: usize = 64 << 20;
/// The cold buffer, in second-level caches, and how many it has at least.
const COLD: (usize, usize) = (8, 4);

impl Cuda {
    /// How fast a buffer of `bytes` random bytes can be read: see [`ReadCeilings`]. `None` where there is no
    /// device, or only an emulator's.
    ///
    /// # Errors
    /// When the buffer is larger than the memory, or than a kernel can count.
    pub fn read_ceilings(&self, bytes: usize) -> Result<Option<ReadCeilings>> {
        let Some(l2) = self.device().filter(|device| !device.emulated).map(|device| device.l2_bytes) else {
            return Ok(None);
        };
        let (packs, in_l2) = ((bytes / 16).max(1), bytes <= l2);
        let again = self.read_ceiling(packs, BYTES_A_LAUNCH.div_ceil(16 * packs))?;
        let free = self.free_bytes()?.unwrap_or(0) as usize;
        let cold = cold_bytes(bytes, l2, free).map(|bytes| self.read_ceiling(bytes / 16, 1)).transpose()?;
        Ok(again.map(|again| ReadCeilings { again, in_l2, cold: cold.flatten() }))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.device().map_or(0, |device| device.memory_bytes)
    }

    fn read_ceiling(&self, packs: usize, passes: usize) -> Result<Option<Ceiling>> {
        let buffer = self.random(packs)?;
        let ceiling = self.best(|blocks| {
            let sums = self.scratch([1, 1, blocks])?;
            self.read(blocks, [buffer.start(), sums.start()], packs, passes)?;
            Ok(passes * bytes(buffer.shape()))
        })?;
        let over = |best: Ceiling| Ceiling { how: format!("{}, {} bytes", best.how, 16 * packs), ..best };
        Ok(ceiling.map(over))
    }

    /// Fused multiply-adds per second on registers, two operations each.
    pub fn flops_ceiling(&self) -> Result<Option<Ceiling>> {
        let (angle, rounds) = (self.upload([1, 1, 1], &[0.1])?, 1024);
        self.best(|blocks| {
            let out = self.scratch([1, 1, blocks * 256])?;
            self.turn(blocks, &angle, &out, rounds)?;
            Ok(blocks * 256 * 8 * rounds * 4)
        })
    }

    fn turn(&self, blocks: usize, angle: &super::Tensor, out: &super::Tensor, rounds: usize) -> Result<()> {
        let launch = Launch::new(Kernel::CeilingFlops, 1, [blocks, 1, 1], 256);
        self.start(launch, [angle.start(), out.start()], [rounds])
    }

    /// The largest rate of the units of work that `run` says it queued for a grid of so many blocks, by
    /// the device's clock. `None` where there is no clock, or only that of an emulator.
    fn best(&self, run: impl Fn(usize) -> Result<usize>) -> Result<Option<Ceiling>> {
        let Some(device) = self.device().filter(|device| !device.emulated) else { return Ok(None) };
        let multiprocessors = device.multiprocessors as usize;
        let mut best: Option<Ceiling> = None;
        for blocks in BLOCKS.map(|blocks| blocks * multiprocessors) {
            let queued = || (0..LAUNCHES).map(|_| run(blocks)).sum::<Result<usize>>();
            for _ in 0..REPEATS {
                let (work, ns) = match self.device_ns(queued)? {
                    (work, DeviceTime::Ns(ns)) => (work, ns),
                    (_, DeviceTime::Waited) => continue,
                    (_, DeviceTime::Unknown) => return Ok(best),
                };
                let per_second = work as f64 * 1e9 / ns.max(1) as f64;
                if best.as_ref().is_none_or(|best| per_second > best.per_second) {
                    best = Some(Ceiling { per_second, how: format!("{blocks} blocks of 256 threads") });
                }
            }
        }
        Ok(best)
    }

    /// What it takes to start kernels, many one after the other. `None` where there is no device, or only an
    /// emulator's.
    pub fn launch_costs(&self) -> Result<Option<LaunchCosts>> {
        match self.device() {
            Some(device) if !device.emulated => self.time_launches(1000, 200).map(Some),
            _ => Ok(None),
        }
    }

    /// elapsed = (Σ launches of a kernel that does nothing, synchronize) / their number, by the host's clock,
    /// the median of some.
    fn time_launches(&self, launches: usize, nodes: usize) -> Result<LaunchCosts> {
        const REPLAYS: usize = 20;
        let start = || self.launch(Launch::new(Kernel::Empty, 1, [1, 1, 1], 32), [], []);
        let launch_ns = self.time_each(launches, || (0..launches).try_for_each(|_| start()))?;
        let recorded = self.stream.capture(|| (0..nodes).try_for_each(|_| start()))?;
        let replay = || recorded.graph.launch().map_err(|e| super::device::broken("launch a graph", e));
        let graph_node_ns = self.time_each(REPLAYS * nodes, || (0..REPLAYS).try_for_each(|_| replay()))?;
        Ok(LaunchCosts { launch_ns, graph_node_ns })
    }

    /// Nanoseconds of each of `count` things that `work` queues.
    fn time_each(&self, count: usize, work: impl Fn() -> Result<()>) -> Result<u64> {
        let time = || {
            self.stream.synchronize()?;
            let start = Instant::now();
            work()?;
            self.stream.synchronize()?;
            Ok(start.elapsed().as_nanos() as u64)
        };
        time()?; // compiles, uploads
        let mut times = (0..5).map(|_| time()).collect::<Result<Vec<u64>>>()?;
        times.sort();
        Ok(times[times.len() / 2].div_ceil(count as u64))
    }
}

/// How large a buffer must be for nothing of it to be found in a cache of `l2` bytes, and its half not either
/// when that is as large as the weights; `None` when a quarter of what is free is too little.
fn cold_bytes(weights: usize, l2: usize, free: usize) -> Option<usize> {
    let wanted = (COLD.0 * l2).max(2 * weights).min(free / 4);
    (wanted >= COLD.1 * l2).then_some(wanted / 16 * 16)
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use crate::backend::tests::{device, told};

    /// What is said to be read is read, as often as it is said to be.
    #[test]
    fn the_reading_kernel_reads_what_is_counted() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        let packs = 4001;
        let data: Vec<f32> = (0..4 * packs).map(|i| (i % 7) as f32).collect();
        let (x, out) = (b.upload([1, packs, 4], &data).unwrap(), b.scratch([1, 1, 3]).unwrap());
        for passes in [1, 3] {
            b.read(3, [x.start(), out.start()], packs, passes).unwrap();
            let want = passes as f32 * data.iter().sum::<f32>();
            assert_eq!(b.download(&out).unwrap().iter().sum::<f32>(), want);
        }
    }

    /// What is said to be computed is, on numbers that never settle.
    #[test]
    fn the_computing_kernel_turns_its_points() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        let (angle, out) = (b.upload([1, 1, 1], &[0.1]).unwrap(), b.scratch([1, 1, 256]).unwrap());
        let after = |rounds| {
            b.turn(1, &angle, &out, rounds).unwrap();
            b.download(&out).unwrap()
        };
        let start = b.download(&b.random(512).unwrap()).unwrap();
        let turned = |thread: usize, rounds: usize| -> f32 {
            let points = start[8 * thread..][..8].iter().map(|&x| {
                (0..rounds).fold((x, 0.0f32), |(x, y), _| {
                    let x = y.mul_add(-0.1, x);
                    (x, x.mul_add(0.1, y))
                })
            });
            points.map(|(x, y)| x + y).sum()
        };
        for rounds in [0, 1, 40] {
            let got = after(rounds);
            for thread in [0, 1, 255] {
                let want = turned(thread, rounds);
                assert!((got[thread] - want).abs() < 1e-4, "{rounds}: {} and {want}", got[thread]);
            }
        }
        assert_ne!(after(40), after(41));
    }

    /// An emulator has no ceiling to tell, nor any other time.
    #[test]
    fn a_ceiling_is_a_devices_own() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        if device.info.emulated {
            assert!(b.read_ceilings(1 << 16).unwrap().is_none());
            assert!(b.flops_ceiling().unwrap().is_none());
            assert!(b.launch_costs().unwrap().is_none());
        } else {
            assert!(told(|| b.read_ceilings(1 << 16)).is_some());
            assert!(told(|| b.flops_ceiling()).is_some());
            assert!(told(|| b.launch_costs()).is_some());
        }
        assert_eq!(Cuda::plan().flops_ceiling().unwrap(), None);
        assert_eq!(Cuda::plan().launch_costs().unwrap(), None);
    }

    #[test]
    fn empty_kernels_are_started_and_recorded() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Graph).unwrap();
        let costs = b.time_launches(7, 5).unwrap();
        assert!(costs.launch_ns > 0 && costs.graph_node_ns > 0, "{costs:?}");
    }

    #[test]
    fn cold_is_several_times_the_cache_and_leaves_memory_to_others() {
        let (mib, gib) = (1 << 20, 1 << 30);
        assert_eq!(cold_bytes(14 * mib, 50 * mib, 80 * gib), Some(400 * mib));
        assert_eq!(cold_bytes(570 * mib, 50 * mib, 80 * gib), Some(1140 * mib));
        assert_eq!(cold_bytes(570 * mib, 50 * mib, gib), Some(256 * mib), "a quarter of what is free");
        assert_eq!(cold_bytes(14 * mib, 50 * mib, gib / 2), None, "128 MiB are too few");
    }
}
