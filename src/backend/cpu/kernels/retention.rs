//! Retention: what attention is when its weights fade with the distance and are not normalised, so that
//! all of the past fits in one matrix a head.

use ndarray::{ArrayView3, ArrayViewMut3, Axis};
use pulp::{Simd, WithSimd};

use super::{arch, Matrix, MatrixMut};
use crate::backend::cpu::pool::{part, Pool};

/// Rows and what they fade by.
#[derive(Clone, Copy)]
pub struct RetentionTask<'a> {
    /// `[batch, n, heads·D]`
    pub q: ArrayView3<'a, f32>,
    /// `[batch, n, heads·D]`
    pub k: ArrayView3<'a, f32>,
    /// `[batch, n, heads·E]`
    pub v: ArrayView3<'a, f32>,
    /// One a head.
    pub decays: &'a [f32],
    /// Index of the first new row.
    pub at: usize,
    /// The first row of each entry that is no padding.
    pub left_padding: &'a [usize],
}

/// Row after row `S = decay·S + kᵀ·v`, `out = q·S`, each head by itself: state `[batch, heads·D, E]`, which
/// is S before and after, out `[batch, n, heads·E]`. Rows that are padding give zeros and leave S alone.
/// A step reads and writes S once: 2·D·E numbers a head.
pub fn retain<'a>(
    pool: &Pool,
    rows: RetentionTask<'a>,
    state: ArrayViewMut3<'a, f32>,
    out: ArrayViewMut3<'a, f32>,
) {
    let (batch, n, _) = rows.q.dim();
    let heads = rows.decays.len();
    let (states, size) = (state.len_of(Axis(1)), state.len_of(Axis(2)));
    assert_eq!((state.len_of(Axis(0)), states), (batch, rows.q.len_of(Axis(2))));
    assert_eq!(out.dim(), (batch, n, heads * size));
    assert!(rows.k.dim() == rows.q.dim() && rows.v.dim() == out.dim() && rows.left_padding.len() == batch);
    let state = state.into_shape_with_order((batch * states, size)).expect("a state is contiguous");
    let out = out.into_shape_with_order((batch * n, heads * size)).expect("the result is contiguous");
    let (state, out, arch) = (MatrixMut::new(state), MatrixMut::new(out), arch());
    pool.run(&|thread| {
        for unit in part(batch * heads, pool.threads(), thread, 1) {
            arch.dispatch(Head { rows, state, out, entry: unit / heads, head: unit % heads });
        }
    });
}

struct Head<'a> {
    rows: RetentionTask<'a>,
    state: MatrixMut<'a>,
    out: MatrixMut<'a>,
    entry: usize,
    head: usize,
}

impl WithSimd for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rows, state, out, entry, head } = self;
        let (decay, heads, size) = (rows.decays[head], rows.decays.len(), state.width);
        let [q, k, v] = [rows.q, rows.k, rows.v].map(|x| Matrix::new(x.index_axis_move(Axis(0), entry)));
        let (n, keys) = (q.rows, q.width / heads);
        for i in 0..n {
            // SAFETY: a head of an entry is dealt to one thread.
            let out = unsafe { out.part(entry * n + i, head * size..(head + 1) * size) };
            out.fill(0.0);
            if rows.at + i < rows.left_padding[entry] {
                continue;
            }
            let of_head = head * keys..(head + 1) * keys;
            let value = &v.row(i)[head * size..(head + 1) * size];
            for ((d, &q), &k) in q.row(i)[of_head.clone()].iter().enumerate().zip(&k.row(i)[of_head]) {
                // SAFETY: as above.
                let row = unsafe { state.part((entry * heads + head) * keys + d, 0..size) };
                for ((state, out), v) in row.iter_mut().zip(&mut *out).zip(value) {
                    *state = decay * *state + k * v;
                    *out += q * *state;
                }
            }
        }
    }
}
