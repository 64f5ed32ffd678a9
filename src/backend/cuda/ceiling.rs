//! What the device can do at most: how fast it reads, and how fast it multiplies and adds.

use super::{Backend, Cuda, Kernel, Launch};
use crate::error::Result;

/// The best of several grids.
#[derive(Clone, Debug, PartialEq)]
pub struct Ceiling {
    pub per_second: f64,
    pub how: String,
}

/// Blocks of 256 threads for each multiprocessor.
const BLOCKS: [usize; 5] = [1, 2, 4, 8, 16];
const REPEATS: usize = 5;

impl Cuda {
    /// Bytes per second read from a buffer of `bytes`: from the second-level cache where it fits in there,
    /// as the weights of a model of that size would be.
    pub fn read_ceiling(&self, bytes: usize) -> Result<Option<Ceiling>> {
        let numbers = bytes / 16 * 4; // whole packs
        let buffer = self.upload([1, 1, numbers], &vec![1.0; numbers])?;
        self.best(|blocks| {
            let out = self.scratch([1, 1, blocks])?;
            let launch = Launch::new(Kernel::CeilingRead, 4, [blocks, 1, 1], 256);
            self.launch(launch, [buffer.start(), out.start()], [numbers])?;
            Ok(4 * numbers)
        })
    }

    /// Fused multiply-adds per second on registers, two operations each.
    pub fn flops_ceiling(&self) -> Result<Option<Ceiling>> {
        let (scale, rounds) = (self.upload([1, 1, 1], &[0.5])?, 4096);
        self.best(|blocks| {
            let out = self.scratch([1, 1, blocks * 256])?;
            let launch = Launch::new(Kernel::CeilingFlops, 1, [blocks, 1, 1], 256);
            self.launch(launch, [scale.start(), out.start()], [rounds])?;
            Ok(blocks * 256 * 8 * rounds * 2)
        })
    }

    /// The largest rate of the units of work that `run` says it queued for a grid of so many blocks, by
    /// the device's clock. `None` where there is no clock, or only that of an emulator.
    fn best(&self, run: impl Fn(usize) -> Result<usize>) -> Result<Option<Ceiling>> {
        let mut best: Option<Ceiling> = None;
        for per_multiprocessor in BLOCKS {
            let Some(device) = self.device().filter(|device| !device.emulated) else { return Ok(None) };
            let blocks = per_multiprocessor * device.multiprocessors as usize;
            for _ in 0..REPEATS {
                let (work, Some(ns)) = self.device_ns(|| run(blocks))? else { return Ok(None) };
                let per_second = work as f64 * 1e9 / ns.max(1) as f64;
                if best.as_ref().is_none_or(|best| per_second > best.per_second) {
                    best = Some(Ceiling { per_second, how: format!("{blocks} blocks of 256 threads") });
                }
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;
    use crate::backend::tests::device;

    /// What is said to be read is read, and what is said to be computed is.
    #[test]
    fn the_kernels_do_the_work_that_is_counted() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        let numbers = 4 * 4001;
        let data: Vec<f32> = (0..numbers).map(|i| (i % 7) as f32).collect();
        let (x, out) = (b.upload([1, 1, numbers], &data).unwrap(), b.scratch([1, 1, 3]).unwrap());
        let launch = Launch::new(Kernel::CeilingRead, 4, [3, 1, 1], 256);
        b.launch(launch, [x.start(), out.start()], [numbers]).unwrap();
        assert_eq!(b.download(&out).unwrap().iter().sum::<f32>(), data.iter().sum::<f32>());

        let (scale, out) = (b.upload([1, 1, 1], &[0.5]).unwrap(), b.scratch([1, 1, 256]).unwrap());
        let launch = Launch::new(Kernel::CeilingFlops, 1, [1, 1, 1], 256);
        b.launch(launch, [scale.start(), out.start()], [40]).unwrap();
        // x <- x / 2 + 1 ends at 2
        assert!(b.download(&out).unwrap().iter().all(|sum| (sum - 16.0).abs() < 1e-4));
    }

    /// An emulator has no ceiling to tell.
    #[test]
    fn a_ceiling_is_a_devices_own() {
        let Some(device) = device() else { return };
        let b = Cuda::new(&device, Mode::Stream).unwrap();
        assert_eq!(b.read_ceiling(1 << 16).unwrap().is_some(), !device.info.emulated);
        assert_eq!(Cuda::plan().flops_ceiling().unwrap(), None);
    }
}
