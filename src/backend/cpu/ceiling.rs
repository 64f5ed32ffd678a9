//! What the machine can do at best: how fast memory can be read, how fast numbers can be multiplied.
//!
//! A model cannot step faster than its weights can be read, so a step is told in multiples of
//! `bytes / read_bandwidth`. One sequential stream does not reach what the memory can give, hence
//! the best of many access patterns. On a shared 2-core Sapphire-Rapids-class virtual machine, huge
//! pages, one thread, GB/s:
//!
//! | buffer | one stream | best | with |
//! |---|---|---|---|
//! | 10.5 MB | 30 | 32 | almost anything |
//! | 92 MB | 9 | 30 | 2 or 4 streams, prefetch 2 to 4 KB ahead |
//! | 494 MB | 7 | 14 to 15 | 4 to 16 streams, prefetch 1 to 8 KB ahead |
//!
//! Two threads reach twice that (57 and 31 at 92 and 494 MB) when both cores are free.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ndarray::Array2;
use pulp::{Simd, WithSimd};

use super::kernels::{arch, linear};
use super::pool::{part, Pool};
use crate::backend::Activation;

/// The best patterns of a short trial, which are tried at length.
const FINALISTS: usize = 4;
/// Numbers in a cache line.
const LINE: usize = 16;

/// How fast a buffer can be read.
pub struct MeasuredBandwidth {
    /// Of the best pattern.
    pub bytes_per_second: f64,
    /// How it was read.
    pub pattern: String,
}

/// How fast products can be.
pub struct Peak {
    /// Of the best product; a multiply-add is two.
    pub flops_per_second: f64,
    /// Of which product.
    pub how: String,
}

/// The rate of the best pattern: the one that a tenth of its passes over the buffer exceed. The very
/// best of many passes would be luck of this one measurement, the median would be the neighbours'.
pub fn read_bandwidth(pool: &Pool, buffer: &[f32]) -> MeasuredBandwidth {
    let mut patterns = patterns();
    patterns.sort_by_cached_key(|&pattern| quantile(passes(pool, buffer, &[pattern], 3), 0.5));
    let finalists = &patterns[..FINALISTS];
    let times = passes(pool, buffer, finalists, FINALISTS * 16);
    let finals = finalists.iter().enumerate().map(|(index, pattern)| {
        let times = times.iter().skip(index).step_by(FINALISTS);
        (quantile(times.copied().collect(), 0.1), pattern)
    });
    let (time, pattern) = finals.min_by_key(|&(time, _)| time).expect("there are finalists");
    let bytes_per_second = size_of_val(buffer) as f64 / time.as_secs_f64();
    MeasuredBandwidth { bytes_per_second, pattern: pattern.to_string() }
}

/// The times of `count` passes, the patterns in turn.
fn passes(pool: &Pool, buffer: &[f32], patterns: &[Pattern], count: usize) -> Vec<Duration> {
    patterns.iter().cycle().take(count).map(|&pattern| pass(pool, buffer, pattern)).collect()
}

fn quantile(mut times: Vec<Duration>, quantile: f64) -> Duration {
    times.sort();
    times[(quantile * (times.len() - 1) as f64) as usize]
}

/// The rate of the best of several square products.
pub fn peak_flops(pool: &Pool) -> Peak {
    let rates = [384, 512, 768, 1024, 1536].map(|size| {
        let x = Array2::from_shape_fn((size, size), |(i, j)| (i * 31 + j * 17) as f32 / size as f32);
        let mut out = Array2::zeros((size, size));
        let times = (0..8).map(|_| {
            let start = Instant::now();
            linear(pool, x.view(), x.view(), None, Activation::None, None, out.view_mut());
            start.elapsed()
        });
        let seconds = quantile(times.collect(), 0.1).as_secs_f64();
        Peak { flops_per_second: 2.0 * (size as f64).powi(3) / seconds, how: format!("{size}x{size}x{size}") }
    });
    let [first, others @ ..] = rates;
    others
        .into_iter()
        .fold(first, |best, peak| if peak.flops_per_second > best.flops_per_second { peak } else { best })
}

fn patterns() -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for streams in [1, 2, 4, 8, 16] {
        patterns.push(Pattern { streams, ahead: 0, hint: Hint::No });
        for ahead in [1024, 2048, 4096] {
            patterns.extend([Hint::T0, Hint::T1].map(|hint| Pattern { streams, ahead, hint }));
        }
    }
    patterns
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { streams, ahead, hint } = self;
        match hint {
            Hint::No => write!(f, "{streams} streams per thread"),
            _ => write!(f, "{streams} streams per thread, prefetch {hint:?} {ahead} bytes ahead"),
        }
    }
}

/// A way to read a buffer.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    /// Places that each thread reads in turn, a line at a time.
    streams: usize,
    /// How far ahead of each to prefetch, in bytes.
    ahead: usize,
    hint: Hint,
}

/// Into which cache to prefetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    No,
    T0,
    T1,
}

/// One pass over the buffer.
fn pass(pool: &Pool, buffer: &[f32], pattern: Pattern) -> Duration {
    let arch = arch();
    let start = Instant::now();
    pool.run(&|thread| {
        let part = &buffer[part(buffer.len(), pool.threads(), thread, LINE)];
        black_box(arch.dispatch(Read { part, pattern }));
    });
    start.elapsed()
}

struct Read<'a> {
    part: &'a [f32],
    pattern: Pattern,
}

impl WithSimd for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        match self.pattern.hint {
            Hint::No => self.hinted::<S, 0>(simd),
            Hint::T0 => self.hinted::<S, 1>(simd),
            Hint::T1 => self.hinted::<S, 2>(simd),
        }
    }
}

impl Read<'_> {
    #[inline(always)]
    fn hinted<S: Simd, const H: usize>(&self, simd: S) -> f32 {
        match self.pattern.streams {
            1 => self.sum::<S, H, 1>(simd),
            2 => self.sum::<S, H, 2>(simd),
            4 => self.sum::<S, H, 4>(simd),
            8 => self.sum::<S, H, 8>(simd),
            _ => self.sum::<S, H, 16>(simd),
        }
    }

    #[inline(always)]
    fn sum<S: Simd, const H: usize, const STREAMS: usize>(&self, simd: S) -> f32 {
        let length = self.part.len() / STREAMS / LINE * LINE;
        let mut streams: [&[S::f32s]; STREAMS] = [&[]; STREAMS];
        for (stream, numbers) in streams.iter_mut().zip(self.part.chunks_exact(length.max(1))) {
            *stream = &S::as_simd_f32s(numbers).0[..length / S::F32_LANES];
        }
        let mut sums = [simd.splat_f32s(0.0); STREAMS];
        for line in (0..length / S::F32_LANES).step_by(LINE / S::F32_LANES) {
            for (stream, sum) in streams.iter().zip(&mut sums) {
                let here = stream.as_ptr().wrapping_add(line);
                prefetch::<H>(here.wrapping_byte_add(self.pattern.ahead).cast());
                for &numbers in &stream[line..][..LINE / S::F32_LANES] {
                    *sum = simd.add_f32s(*sum, numbers);
                }
            }
        }
        let mut total = 0.0;
        for sum in sums {
            total += simd.reduce_sum_f32s(sum);
        }
        total
    }
}

#[inline(always)]
fn prefetch<const H: usize>(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see and never faults.
    unsafe {
        use std::arch::x86_64::*;
        match H {
            1 => _mm_prefetch::<_MM_HINT_T0>(address.cast()),
            2 => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
            _ => {}
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
