//! The arithmetic of the CPU backend: functions over views whose rows are contiguous.
//!
//! The stock build finds AVX-512 or AVX2 at run time, by way of [`pulp`]; elsewhere the same code
//! runs on what the compiler makes of it. Nothing here allocates when there is one new row.

mod attention;
mod linear;
mod math;
mod retention;
mod rows;

pub use attention::{attention, AttentionTask, PastRows};
pub use linear::linear;
pub use retention::{retain, RetentionTask};
pub use rows::{argmax, cast_row, copy_rows, glu, norm, rope, scatter_onehot, swiglu};

use std::marker::PhantomData;
use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
use pulp::Arch;

/// The instruction set to run on: the best that the machine has.
pub(super) fn arch() -> Arch {
    #[cfg(test)]
    if let Some(forced) = tests::FORCED.get() {
        return forced;
    }
    Arch::new()
}

/// A matrix with contiguous rows, to read.
#[derive(Clone, Copy)]
struct Matrix<'a, E = f32> {
    start: *const E,
    stride: usize,
    rows: usize,
    width: usize,
    borrow: PhantomData<&'a [E]>,
}

// SAFETY: it is a shared borrow of numbers.
unsafe impl<E: Sync> Sync for Matrix<'_, E> {}
// SAFETY: likewise.
unsafe impl<E: Sync> Send for Matrix<'_, E> {}

impl<'a, E> Matrix<'a, E> {
    fn new(view: ArrayView2<'a, E>) -> Self {
        let (rows, width) = view.dim();
        let stride = row_stride(view.dim(), view.strides());
        Self { start: view.as_ptr(), stride, rows, width, borrow: PhantomData }
    }

    #[inline(always)]
    fn row(&self, row: usize) -> &'a [E] {
        assert!(row < self.rows);
        // SAFETY: the row exists, its `width` numbers are contiguous and borrowed for 'a.
        unsafe { std::slice::from_raw_parts(self.start.add(row * self.stride), self.width) }
    }

    fn view(&self) -> ArrayView2<'a, E> {
        let shape = (self.rows, self.width).strides((self.stride, 1));
        // SAFETY: the matrix was made of a view like this one, or is part of such a matrix.
        unsafe { ArrayView2::from_shape_ptr(shape, self.start) }
    }

    /// These columns of the rows.
    fn columns(&self, columns: Range<usize>) -> Self {
        assert!(columns.start <= columns.end && columns.end <= self.width);
        // SAFETY: the first of the columns lies in the first row, or just behind it.
        let start = if self.rows == 0 { self.start } else { unsafe { self.start.add(columns.start) } };
        Self { start, width: columns.len(), ..*self }
    }
}

/// A matrix with contiguous rows that several threads write, each its own part.
#[derive(Clone, Copy)]
struct MatrixMut<'a, E = f32> {
    start: *mut E,
    stride: usize,
    rows: usize,
    width: usize,
    borrow: PhantomData<&'a mut [E]>,
}

// SAFETY: it gives access only through an unsafe function, whose callers keep threads apart.
unsafe impl<E: Send> Sync for MatrixMut<'_, E> {}
// SAFETY: likewise.
unsafe impl<E: Send> Send for MatrixMut<'_, E> {}

impl<'a, E> MatrixMut<'a, E> {
    fn new(mut view: ArrayViewMut2<'a, E>) -> Self {
        let (rows, width) = view.dim();
        let stride = row_stride(view.dim(), view.strides());
        Self { start: view.as_mut_ptr(), stride, rows, width, borrow: PhantomData }
    }

    /// Some columns of one row.
    ///
    /// # Safety
    /// While the result is in use, nobody else asks for a part that overlaps it.
    #[inline(always)]
    unsafe fn part(&self, row: usize, columns: Range<usize>) -> &'a mut [E] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.width);
        // SAFETY: it lies in the matrix and is contiguous; the caller keeps it unshared.
        unsafe {
            let start = self.start.add(row * self.stride + columns.start);
            std::slice::from_raw_parts_mut(start, columns.len())
        }
    }

    /// Some columns of some rows.
    ///
    /// # Safety
    /// As for [`MatrixMut::part`].
    unsafe fn view(&self, rows: Range<usize>, columns: Range<usize>) -> ArrayViewMut2<'a, E> {
        assert!(rows.start < rows.end && rows.end <= self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.width);
        let shape = (rows.len(), columns.len()).strides((self.stride, 1));
        // SAFETY: it lies in the matrix; the caller keeps it unshared.
        unsafe {
            ArrayViewMut2::from_shape_ptr(shape, self.start.add(rows.start * self.stride + columns.start))
        }
    }
}

/// The distance between rows, after checking that columns are neighbours and rows do not overlap.
fn row_stride((rows, width): (usize, usize), strides: &[isize]) -> usize {
    assert!(width <= 1 || strides[1] == 1, "columns must be neighbours");
    assert!(rows <= 1 || strides[0] >= width as isize, "rows must follow one another");
    if rows <= 1 {
        width
    } else {
        strides[0] as usize
    }
}

#[cfg(test)]
pub(in crate::backend::cpu) mod tests {
    use std::cell::Cell;

    use ndarray::{Array, Dimension, ShapeBuilder};
    use pulp::Arch;
    use rand_chacha::rand_core::{RngCore, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    thread_local! {
        pub static FORCED: Cell<Option<Arch>> = const { Cell::new(None) };
    }

    /// Runs a test on every instruction set that this machine has.
    pub fn on_every_arch(test: impl Fn()) {
        #[allow(unused_mut)]
        let mut archs = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
        for arch in archs {
            FORCED.set(Some(arch));
            test();
        }
        FORCED.set(None);
    }

    /// Numbers of order one, with a large one now and then; never zero.
    pub fn random<D: Dimension>(shape: impl ShapeBuilder<Dim = D>, seed: u64) -> Array<f32, D> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array::from_shape_simple_fn(shape, || {
            let bits = rng.next_u32();
            let unit = (bits >> 8) as f32 / (1 << 23) as f32 - 1.0 + 1e-4;
            if bits & 63 == 0 {
                20.0 * unit
            } else {
                unit
            }
        })
    }

    /// `|a - b| <= tolerance · (1 + |b|)` everywhere.
    pub fn assert_close<'a>(
        got: impl IntoIterator<Item = &'a f32>,
        want: impl IntoIterator<Item = &'a f64>,
        tolerance: f64,
    ) {
        let mut got = got.into_iter();
        for (index, &want) in want.into_iter().enumerate() {
            let got = *got.next().expect("too few numbers");
            let error = (f64::from(got) - want).abs() / (1.0 + want.abs());
            assert!(error <= tolerance, "at {index}: {got}, should be {want}");
        }
        assert!(got.next().is_none(), "too many numbers");
    }
}
