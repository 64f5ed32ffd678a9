//! Operations on rows: normalise, gate, look for the largest, copy, scatter.

use half::{bf16, f16};
use ndarray::{ArrayView2, ArrayViewMut2};
use pulp::{Simd, WithSimd};

use super::math::{sigmoid, silu};
use super::{arch, Matrix, MatrixMut};
use crate::backend::cpu::element::Element;
use crate::backend::cpu::pool::{part, Pool};
use crate::backend::Format;
use crate::dtype::Dtype;

/// Fewer numbers than this are moved by the caller alone.
const PARALLEL: usize = 16 * 1024;

/// `(x - mean) / sqrt(var + eps) · gain + bias`, each row by itself; without a bias the mean is taken
/// to be zero.
pub fn norm(x: ArrayView2<f32>, gain: &[f32], bias: Option<&[f32]>, eps: f32, out: ArrayViewMut2<f32>) {
    assert_eq!(x.dim(), out.dim());
    assert!(gain.len() == x.ncols() && bias.is_none_or(|bias| bias.len() == x.ncols()));
    arch().dispatch(Norm { x: Matrix::new(x), gain, bias, eps, out: MatrixMut::new(out) });
}

struct Norm<'a> {
    x: Matrix<'a>,
    gain: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
    out: MatrixMut<'a>,
}

impl WithSimd for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { x, gain, bias, eps, out } = self;
        for row in 0..x.rows {
            // SAFETY: no other thread, and one row at a time.
            let out = unsafe { out.part(row, 0..x.width) };
            let x = x.row(row);
            let mean = if bias.is_some() { sum(x, |x| x) / x.len() as f32 } else { 0.0 };
            let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            for ((out, x), gain) in out.iter_mut().zip(x).zip(gain) {
                *out = (x - mean) * scale * gain;
            }
            if let Some(bias) = bias {
                for (out, bias) in out.iter_mut().zip(bias) {
                    *out += bias;
                }
            }
        }
    }
}

/// Σ f(x), in sixteen interleaved sums: vectors, and less rounding than one.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| f(x)).sum::<f32>()
}

/// `u[..C]·sigmoid(u[C..])`, and with rows x to add `(that + x)·√½`: u `[rows, 2C]`, x and out `[rows, C]`.
pub fn glu(u: ArrayView2<f32>, x: Option<ArrayView2<f32>>, out: ArrayViewMut2<f32>) {
    assert_eq!(u.dim(), (out.nrows(), 2 * out.ncols()));
    assert!(x.is_none_or(|x| x.dim() == out.dim()));
    arch().dispatch(Glu { u: Matrix::new(u), x: x.map(Matrix::new), out: MatrixMut::new(out) });
}

struct Glu<'a> {
    u: Matrix<'a>,
    x: Option<Matrix<'a>>,
    out: MatrixMut<'a>,
}

impl WithSimd for Glu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { u, x, out } = self;
        for row in 0..u.rows {
            // SAFETY: no other thread, and one row at a time.
            let out = unsafe { out.part(row, 0..u.width / 2) };
            let (value, gate) = u.row(row).split_at(u.width / 2);
            for ((out, value), &gate) in out.iter_mut().zip(value).zip(gate) {
                *out = value * sigmoid(gate);
            }
            for (out, x) in out.iter_mut().zip(x.map_or(&[][..], |x| x.row(row))) {
                *out = (*out + x) * std::f32::consts::FRAC_1_SQRT_2;
            }
        }
    }
}

/// `silu(x[..F])·x[F..]`: x `[rows, 2F]`, out `[rows, F]`.
pub fn swiglu(x: ArrayView2<f32>, out: ArrayViewMut2<f32>) {
    assert_eq!(x.dim(), (out.nrows(), 2 * out.ncols()));
    arch().dispatch(Swiglu { x: Matrix::new(x), out: MatrixMut::new(out) });
}

struct Swiglu<'a> {
    x: Matrix<'a>,
    out: MatrixMut<'a>,
}

impl WithSimd for Swiglu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in 0..self.x.rows {
            // SAFETY: no other thread, and one row at a time.
            let out = unsafe { self.out.part(row, 0..self.x.width / 2) };
            let (gate, value) = self.x.row(row).split_at(self.x.width / 2);
            for ((out, &gate), value) in out.iter_mut().zip(gate).zip(value) {
                *out = silu(gate) * value;
            }
        }
    }
}

/// Rotary position embedding of one head: numbers j and j + half are a point, rotated by the angle of cosine `cos_sin[j]` and sine
/// `cos_sin[j + half]`.
pub fn rope(x: &[f32], cos_sin: &[f32], out: &mut [f32]) {
    let half = x.len() / 2;
    let ((cosines, sines), (left, right)) = (cos_sin.split_at(half), x.split_at(half));
    let (out_left, out_right) = out.split_at_mut(half);
    for (j, (out_left, out_right)) in out_left.iter_mut().zip(out_right).enumerate() {
        *out_left = left[j] * cosines[j] - right[j] * sines[j];
        *out_right = right[j] * cosines[j] + left[j] * sines[j];
    }
}

/// The index of the largest number, the lowest if there are several; NaN is never the largest.
pub fn argmax(x: &[f32]) -> u32 {
    let largest = arch().dispatch(Largest(x));
    x.iter().position(|&x| x == largest).unwrap_or(0) as u32
}

struct Largest<'a>(&'a [f32]);

impl WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let larger = |largest: f32, &x: &f32| if x > largest { x } else { largest };
        let (chunks, rest) = self.0.as_chunks::<64>();
        let mut largest = [f32::NEG_INFINITY; 64];
        for chunk in chunks {
            for (largest, x) in largest.iter_mut().zip(chunk) {
                *largest = larger(*largest, x);
            }
        }
        largest.iter().chain(rest).fold(f32::NEG_INFINITY, larger)
    }
}

/// A row in another format, as [`Format::row_bytes`] says.
pub fn cast_row(from: &[f32], format: Format, to: &mut [u8]) {
    match format.dtype {
        Dtype::F32 => numbers(from, |x| x.to_ne_bytes(), to),
        Dtype::Bf16 => numbers(from, |x| bf16::from_f32(x).to_ne_bytes(), to),
        Dtype::F16 => numbers(from, |x| f16::from_f32(x).to_ne_bytes(), to),
        Dtype::Int8 => {
            let size = from.len() / format.heads;
            let (numbers, scales) = to.split_at_mut(from.len());
            let heads = from.chunks_exact(size).zip(numbers.chunks_exact_mut(size));
            for ((from, numbers), scale) in heads.zip(scales.chunks_exact_mut(size_of::<f32>())) {
                scale.copy_from_slice(&cast_head(from, numbers).to_ne_bytes());
            }
        }
    }
}

fn numbers<const BYTES: usize>(from: &[f32], cast: impl Fn(f32) -> [u8; BYTES], to: &mut [u8]) {
    let (to, _) = to.as_chunks_mut::<BYTES>();
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = cast(from));
}

/// Its scale. NaN stays visible: as the scale.
fn cast_head(from: &[f32], to: &mut [u8]) -> f32 {
    let largest = from
        .iter()
        .fold(0.0f32, |largest, x| if x.abs() > largest || x.is_nan() { x.abs() } else { largest });
    let scale = largest / 127.0;
    if scale < f32::MIN_POSITIVE {
        to.fill(0); // zeros, or numbers whose scale has no inverse
        return 0.0;
    }
    let inverse = 1.0 / scale;
    for (to, x) in to.iter_mut().zip(from) {
        *to = i8::nearest(x * inverse).to_ne_bytes()[0];
    }
    scale
}

/// `dst = src`, rows of bytes.
pub fn copy_rows(pool: &Pool, dst: ArrayViewMut2<u8>, src: ArrayView2<u8>) {
    assert_eq!(dst.dim(), src.dim());
    let (dst, src) = (MatrixMut::new(dst), Matrix::new(src));
    for_rows(pool, src.rows, src.width / size_of::<f32>(), &|row| {
        // SAFETY: every row is somebody's own.
        unsafe { dst.part(row, 0..src.width) }.copy_from_slice(src.row(row));
    });
}

/// `rows[r] += Σ_i (r == at + i)·new[i]`: every row is read and written, as a scatter by a product
/// with one-hot vectors does it.
pub fn scatter_onehot(pool: &Pool, rows: ArrayViewMut2<f32>, at: usize, new: ArrayView2<f32>) {
    assert_eq!(rows.ncols(), new.ncols());
    let (rows, new, arch) = (MatrixMut::new(rows), Matrix::new(new), arch());
    for_rows(pool, rows.rows, rows.width * new.rows, &|row| {
        // SAFETY: every row is somebody's own.
        let to = unsafe { rows.part(row, 0..rows.width) };
        arch.dispatch(ScatterRow { to, position: row.wrapping_sub(at), new });
    });
}

struct ScatterRow<'a> {
    to: &'a mut [f32],
    position: usize,
    new: Matrix<'a>,
}

impl WithSimd for ScatterRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for i in 0..self.new.rows {
            // A number, not a branch: the rows that are not hit are to be read and written too.
            let hot = f32::from(u8::from(self.position == i));
            for (to, new) in self.to.iter_mut().zip(self.new.row(i)) {
                *to += hot * new;
            }
        }
    }
}

/// Calls `f` for every row, in parallel if `rows·work` is large.
fn for_rows(pool: &Pool, rows: usize, work: usize, f: &(dyn Fn(usize) + Sync)) {
    if rows * work < PARALLEL {
        return (0..rows).for_each(f);
    }
    pool.run(&|thread| part(rows, pool.threads(), thread, 1).for_each(f));
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, on_every_arch, random};
    use super::*;
    use ndarray::{s, Array2};

    const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 256), (3, 5), (5, 17), (17, 33), (200, 100)];

    #[test]
    fn norm_agrees_with_the_formula() {
        on_every_arch(|| {
            for (rows, width) in SHAPES {
                let x = random((rows, width + 3), 1);
                let x = x.slice(s![.., 1..=width]);
                let (gain, bias) = (random(width, 2), random(width, 3));
                let mut out = Array2::zeros((rows, width));
                norm(x, gain.as_slice().unwrap(), bias.as_slice(), 1e-5, out.view_mut());
                let want = Array2::from_shape_fn((rows, width), |(r, c)| {
                    let row = x.row(r).mapv(f64::from);
                    let mean = row.sum() / width as f64;
                    let variance = row.mapv(|x| (x - mean).powi(2)).sum() / width as f64;
                    (row[c] - mean) / (variance + 1e-5).sqrt() * f64::from(gain[c]) + f64::from(bias[c])
                });
                assert_close(&out, &want, 2e-5);
            }
        });
    }

    #[test]
    fn glu_agrees_with_the_formula() {
        on_every_arch(|| {
            for (rows, width) in SHAPES {
                let (u, x) = (random((rows, 2 * width), 1), random((rows, width), 2));
                let mut out = Array2::zeros((rows, width));
                glu(u.view(), None, out.view_mut());
                let want = Array2::from_shape_fn((rows, width), |(r, c)| {
                    f64::from(u[[r, c]]) / (1.0 + (-f64::from(u[[r, width + c]])).exp())
                });
                assert_close(&out, &want, 1e-6);
                glu(u.view(), Some(x.view()), out.view_mut());
                assert_close(&out, &((want + x.mapv(f64::from)) * 0.5f64.sqrt()), 1e-6);
            }
        });
    }

    #[test]
    fn argmax_takes_the_first_of_the_largest() {
        on_every_arch(|| {
            for length in [1, 2, 63, 64, 65, 1024, 50257] {
                let mut x = random(length, length as u64).to_vec();
                for place in [0, length / 3, length - 1] {
                    x[length - 1] = 99.0;
                    x[place] = 99.0;
                    assert_eq!(argmax(&x), place as u32);
                    x[place] = -1.0;
                }
            }
        });
        assert_eq!(argmax(&[f32::NAN, -3.0, f32::NAN, -2.0]), 3);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 70]), 0);
    }

    #[test]
    fn copied_rows_are_equal_and_nothing_else_is_touched() {
        let pool = Pool::new(3).unwrap();
        for (rows, width) in SHAPES {
            let src = random((rows, 3 * width), 1).mapv(|x| x.to_bits() as u8);
            let src = src.slice(s![.., width..2 * width]);
            let mut dst = Array2::from_elem((rows, width + 2), 7);
            copy_rows(&pool, dst.slice_mut(s![.., 1..=width]), src);
            assert_eq!(dst.slice(s![.., 1..=width]), src);
            assert!(dst.column(0).iter().chain(dst.column(width + 1)).all(|&x| x == 7));
        }
    }

    #[test]
    fn the_scatter_adds_where_it_should() {
        let pool = Pool::new(2).unwrap();
        on_every_arch(|| {
            for (n, at, width) in [(1, 0, 5), (1, 99, 400), (3, 17, 24), (5, 98, 64)] {
                let (before, new) = (random((100, width), 1), random((n, width), 2));
                let mut rows = before.clone();
                scatter_onehot(&pool, rows.view_mut(), at, new.view());
                for r in 0..100 {
                    let added =
                        if r >= at && r - at < n { new.row(r - at).to_vec() } else { vec![0.0; width] };
                    assert_eq!(rows.row(r), &before.row(r) + &ndarray::Array1::from(added));
                }
            }
        });
    }
}
