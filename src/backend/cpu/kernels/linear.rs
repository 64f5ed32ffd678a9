//! Dense layers.
//!
//! Few rows are bound by memory: every weight is read once, in the pattern that reads fastest
//! ([`ceiling`](crate::backend::cpu::ceiling)), and used for all rows; up to four rows take no longer
//! than one. Each thread has its share of the outputs and reads it at four distant places, at each
//! row after row, with the prefetch running across the ends of rows.
//!
//! Many rows are bound by arithmetic and go to the `gemm` crate, one call a thread. GFLOP/s on one
//! core of a shared 2-core Sapphire-Rapids-class virtual machine, 512 rows:
//!
//! | in × out | gemm 0.19 | faer 0.24 | matrixmultiply 0.3 |
//! |---|---|---|---|
//! | 768 × 768 | 115 | 99 | 88 |
//! | 768 × 2304 | 116 | 81 | 85 |
//! | 768 × 3072 | 110 | 76 | 77 |
//! | 3072 × 768 | 94 | 75 | 60 |
//!
//! That crate packs all weights at every call, which few rows do not repay. Time of the first
//! method over that of the second, by rows, for weights of 0.8, 3 and 7 MB:
//!
//! | 8 | 16 | 24 | 32 | 48 | 64 |
//! |---|---|---|---|---|---|
//! | 0.2 to 0.3 | 0.4 to 0.5 | 0.4 to 0.7 | 0.5 to 0.9 | 0.8 to 1.1 | 0.9 to 1.2 |

use std::array;
use std::cell::RefCell;
use std::ops::Range;

use ndarray::{s, ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};

use super::math::{gelu, gelu_erf, silu};
use super::{arch, Matrix, MatrixMut};
use crate::backend::cpu::element::Element;
use crate::backend::cpu::pool::{part, Pool};
use crate::backend::Activation;

/// Up to this many rows are multiplied by [`FewRows`].
const FEW: usize = 32;
/// Weights are read at this many places at once.
const STREAMS: usize = 4;
/// Rows of x that share one pass over the weights in cache.
const TOGETHER: usize = 4;
/// How far ahead of each stream to prefetch, in bytes.
const AHEAD: usize = 2048;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;
/// Outputs whose weights are widened at once for [`matmul`], if they are not f32.
const PANEL: usize = 128;

thread_local! {
    static WIDENED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `activation(x·weightᵀ + bias) (+ residual)`: x `[rows, in]`, weight `[out, in]`, out `[rows, out]`.
pub fn linear<E: Element>(
    pool: &Pool,
    x: ArrayView2<f32>,
    weight: ArrayView2<E>,
    bias: Option<&[f32]>,
    activation: Activation,
    residual: Option<ArrayView2<f32>>,
    out: ArrayViewMut2<f32>,
) {
    assert_eq!(x.ncols(), weight.ncols());
    assert_eq!(out.dim(), (x.nrows(), weight.nrows()));
    assert!(bias.is_none_or(|bias| bias.len() == weight.nrows()));
    assert!(residual.is_none_or(|residual| residual.dim() == out.dim()));
    let epilogue = Epilogue { bias, activation, residual: residual.map(Matrix::new) };
    let (x, weight, out, arch) = (Matrix::new(x), Matrix::new(weight), MatrixMut::new(out), arch());
    pool.run(&|thread| {
        let outputs = part(weight.rows, pool.threads(), thread, 1);
        if x.rows <= FEW {
            arch.dispatch(FewRows { x, weight, outputs: outputs.clone(), out });
        } else {
            many_rows(x, weight, outputs.clone(), out);
        }
        arch.dispatch(Finish { epilogue, outputs, out });
    });
}

/// `out[.., outputs] = x·weight[outputs]ᵀ`, of outputs that are this thread's own.
fn many_rows<E: Element>(x: Matrix, weight: Matrix<E>, outputs: Range<usize>, out: MatrixMut) {
    let weight = weight.view();
    // SAFETY: these outputs are this thread's own.
    let product = |outputs: Range<usize>| unsafe { out.view(0..x.rows, outputs) };
    if let Some(weight) = E::as_f32(weight) {
        return matmul(1.0, x.view(), weight.slice(s![outputs.clone(), ..]).t(), product(outputs));
    }
    WIDENED.with_borrow_mut(|widened| {
        for start in outputs.clone().step_by(PANEL) {
            let panel = start..outputs.end.min(start + PANEL);
            let stored = weight.slice(s![panel.clone(), ..]);
            widened.clear();
            for row in stored.rows() {
                widened.extend(row.to_slice().expect("rows are contiguous").iter().map(|x| x.widen()));
            }
            let wide = ArrayView2::from_shape(stored.dim(), widened).expect("as many numbers");
            matmul(1.0, x.view(), wide.t(), product(panel));
        }
    });
}

/// What is done to the sums.
#[derive(Clone, Copy)]
struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    activation: Activation,
    residual: Option<Matrix<'a>>,
}

struct FewRows<'a, E> {
    x: Matrix<'a>,
    weight: Matrix<'a, E>,
    outputs: Range<usize>,
    out: MatrixMut<'a>,
}

impl<E: Element> WithSimd for FewRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Range { start, end } = self.outputs;
        let each = (end - start) / STREAMS;
        for i in 0..each {
            self.outputs::<S, STREAMS>(simd, array::from_fn(|stream| start + stream * each + i));
        }
        for output in start + STREAMS * each..end {
            self.outputs::<S, 1>(simd, [output]);
        }
    }
}

impl<E: Element> FewRows<'_, E> {
    #[inline(always)]
    fn outputs<S: Simd, const W: usize>(&self, simd: S, outputs: [usize; W]) {
        for first in (0..self.x.rows).step_by(TOGETHER) {
            match self.x.rows - first {
                1 => self.block::<S, W, 1>(simd, outputs, first),
                2 => self.block::<S, W, 2>(simd, outputs, first),
                3 => self.block::<S, W, 3>(simd, outputs, first),
                _ => self.block::<S, W, TOGETHER>(simd, outputs, first),
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const W: usize, const X: usize>(&self, simd: S, outputs: [usize; W], first: usize) {
        let (mut w, mut x): ([&[E]; W], [&[f32]; X]) = ([&[]; W], [&[]; X]);
        for (w, &output) in w.iter_mut().zip(&outputs) {
            *w = self.weight.row(output);
        }
        for (i, x) in x.iter_mut().enumerate() {
            *x = self.x.row(first + i);
        }
        for (output, sums) in outputs.into_iter().zip(dots::<S, E, W, X>(simd, w, x, AHEAD / size_of::<E>()))
        {
            for (i, sum) in sums.into_iter().enumerate() {
                // SAFETY: this output is this thread's own.
                let out = unsafe { self.out.part(first + i, output..output + 1) };
                out[0] = sum;
            }
        }
    }
}

/// The inner products of each `w` with each `x`, all equally long, prefetching `ahead` numbers ahead
/// in each `w`.
///
/// Loops, not `map` with closures: a closure that is not inlined leaves the instruction set behind.
#[inline(always)]
pub(super) fn dots<S: Simd, E: Element, const W: usize, const X: usize>(
    simd: S,
    w: [&[E]; W],
    x: [&[f32]; X],
    ahead: usize,
) -> [[f32; X]; W] {
    let length = w[0].len();
    let whole = length - length % S::F32_LANES;
    let (x, x_rest) = vectors::<S, X>(x, length);
    assert!(w.iter().all(|w| w.len() == length));
    let mut sums = [[simd.splat_f32s(0.0); X]; W];
    for i in 0..length / S::F32_LANES {
        for (w, sums) in w.iter().zip(&mut sums) {
            let from = w.as_ptr().wrapping_add(i * S::F32_LANES);
            if (i * S::F32_LANES * size_of::<E>()).is_multiple_of(LINE) {
                prefetch(from.wrapping_add(ahead));
            }
            // SAFETY: `i` counts the whole vectors of the slice.
            let w = unsafe { E::load(simd, from) };
            for (x, sum) in x.iter().zip(sums) {
                *sum = simd.mul_add_e_f32s(w, x[i], *sum);
            }
        }
    }
    if whole < length {
        for (w, sums) in w.iter().zip(&mut sums) {
            let w = E::load_rest(simd, &w[whole..]);
            for (x, sum) in x_rest.iter().zip(sums) {
                *sum = simd.mul_add_e_f32s(w, simd.partial_load_f32s(x), *sum);
            }
        }
    }
    reduce(simd, sums)
}

/// Each slice as whole vectors and the rest, of lengths that the compiler sees to be equal, so that
/// it need not check them at every index.
#[inline(always)]
fn vectors<S: Simd, const N: usize>(slices: [&[f32]; N], length: usize) -> ([&[S::f32s]; N], [&[f32]; N]) {
    let (mut whole, mut rest): ([&[S::f32s]; N], [&[f32]; N]) = ([&[]; N], [&[]; N]);
    for ((slice, whole), rest) in slices.iter().zip(&mut whole).zip(&mut rest) {
        (*whole, *rest) = S::as_simd_f32s(&slice[..length]);
        *whole = &whole[..length / S::F32_LANES];
    }
    (whole, rest)
}

#[inline(always)]
fn reduce<S: Simd, const W: usize, const X: usize>(simd: S, sums: [[S::f32s; X]; W]) -> [[f32; X]; W] {
    let mut reduced = [[0.0; X]; W];
    for (reduced, sums) in reduced.iter_mut().zip(sums) {
        for (reduced, sum) in reduced.iter_mut().zip(sums) {
            *reduced = simd.reduce_sum_f32s(sum);
        }
    }
    reduced
}

/// Asks for a cache line; the address may be anything.
#[inline(always)]
pub(super) fn prefetch<E>(address: *const E) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see and never faults.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// `out = scale·a·b`, on this thread.
#[rustfmt::skip] // one operand a line
pub(super) fn matmul(scale: f32, a: ArrayView2<f32>, b: ArrayView2<f32>, mut out: ArrayViewMut2<f32>) {
    let ((rows, depth), columns) = (a.dim(), b.ncols());
    assert_eq!(b.nrows(), depth);
    assert_eq!(out.dim(), (rows, columns));
    let [to, left, right] = [out.strides(), a.strides(), b.strides()].map(|s| [s[1], s[0]]);
    // SAFETY: sizes, places and strides (columns first) are those of three views that agree in
    // shape, the first of them exclusive.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            rows, columns, depth,
            out.as_mut_ptr(), to[0], to[1], false,
            a.as_ptr(), left[0], left[1],
            b.as_ptr(), right[0], right[1],
            0.0, scale,
            false, false, false,
            gemm_common::Parallelism::None,
        )
    }
}

struct Finish<'a> {
    epilogue: Epilogue<'a>,
    outputs: Range<usize>,
    out: MatrixMut<'a>,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Epilogue { bias, activation, residual } = self.epilogue;
        for row in 0..self.out.rows {
            // SAFETY: these outputs are this thread's own.
            let out = unsafe { self.out.part(row, self.outputs.clone()) };
            if let Some(bias) = bias {
                for (out, bias) in out.iter_mut().zip(&bias[self.outputs.clone()]) {
                    *out += bias;
                }
            }
            match activation {
                Activation::None => {}
                Activation::Gelu => out.iter_mut().for_each(|out| *out = gelu(*out)),
                Activation::GeluErf => out.iter_mut().for_each(|out| *out = gelu_erf(*out)),
                Activation::Relu => out.iter_mut().for_each(|out| *out = out.max(0.0)),
                Activation::Silu => out.iter_mut().for_each(|out| *out = silu(*out)),
            }
            if let Some(residual) = residual {
                for (out, residual) in out.iter_mut().zip(&residual.row(row)[self.outputs.clone()]) {
                    *out += residual;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, on_every_arch, random};
    use super::*;
    use crate::backend::tests::numbers::erf;
    use half::{bf16, f16};
    use ndarray::Array2;

    fn oracle<E: Element>(
        x: ArrayView2<f32>,
        weight: ArrayView2<E>,
        bias: Option<&[f32]>,
        activation: Activation,
        residual: Option<ArrayView2<f32>>,
    ) -> Array2<f64> {
        Array2::from_shape_fn((x.nrows(), weight.nrows()), |(row, output)| {
            let products = x
                .row(row)
                .into_iter()
                .zip(weight.row(output))
                .map(|(&x, w)| f64::from(x) * f64::from(w.widen()));
            let sum = products.sum::<f64>() + bias.map_or(0.0, |bias| f64::from(bias[output]));
            let u = (2.0 / std::f64::consts::PI).sqrt() * (sum + 0.044715 * sum.powi(3));
            let active = match activation {
                Activation::None => sum,
                Activation::Gelu => 0.5 * sum * (1.0 + u.tanh()),
                Activation::GeluErf => 0.5 * sum * (1.0 + erf(sum / 2f64.sqrt())),
                Activation::Relu => sum.max(0.0),
                Activation::Silu => sum / (1.0 + (-sum).exp()),
            };
            active + residual.map_or(0.0, |residual| f64::from(residual[[row, output]]))
        })
    }

    fn check<E: Element>(pool: &Pool, [rows, width, outputs]: [usize; 3]) {
        let (x, weight) = (random((rows, width + 5), 1), random((outputs, width), 2).mapv(E::nearest));
        let (x, bias) = (x.slice(s![.., 3..width + 3]), random(outputs, 3));
        let residual = random((rows, outputs + 1), 4);
        for (bias, activation, residual) in [
            (None, Activation::None, None),
            (bias.as_slice(), Activation::Gelu, None),
            (bias.as_slice(), Activation::GeluErf, None),
            (bias.as_slice(), Activation::Relu, None),
            (None, Activation::Silu, None),
            (bias.as_slice(), Activation::None, Some(residual.slice(s![.., 1..]))),
        ] {
            let mut out = Array2::from_elem((rows, outputs + 2), f32::NAN);
            let mut columns = out.slice_mut(s![.., 1..=outputs]);
            linear(pool, x, weight.view(), bias, activation, residual, columns.view_mut());
            let want = oracle(x, weight.view(), bias, activation, residual);
            assert_close(&columns, &want, 1e-5 * (width as f64).sqrt());
            assert!(out.column(0).iter().chain(out.column(outputs + 1)).all(|x| x.is_nan()));
        }
    }

    #[test]
    fn linear_agrees_with_plain_loops() {
        let pools = [1, 2, 3].map(|threads| Pool::new(threads).unwrap());
        on_every_arch(|| {
            for rows in [1, 2, 3, 4, 5, 8, 9, 10, 24, 70] {
                for [width, outputs] in
                    [[1, 1], [3, 5], [17, 3], [16, 24], [64, 10], [100, 67], [257, 33], [40, 300]]
                {
                    for pool in &pools {
                        check::<f32>(pool, [rows, width, outputs]);
                        check::<bf16>(pool, [rows, width, outputs]);
                        check::<f16>(pool, [rows, width, outputs]);
                    }
                }
            }
        });
    }

    #[test]
    fn weights_may_have_gaps_between_rows() {
        let pool = Pool::new(2).unwrap();
        for rows in [1, 30] {
            let (x, weight) = (random((rows, 20), 1), random((19, 33), 2));
            let weight = weight.slice(s![.., 5..25]);
            let mut out = Array2::zeros((rows, 19));
            linear(&pool, x.view(), weight, None, Activation::None, None, out.view_mut());
            assert_close(&out, &oracle(x.view(), weight, None, Activation::None, None), 1e-4);
        }
    }
}
