//! Causal attention, the same code for every way to keep keys and values.
//!
//! One query at a time, or few: one pass over keys and values with an online softmax in blocks of
//! rows, bound by memory. 1024 rows of 12 layers of width 768 (75 MB) are read in 1.3 times what
//! the memory needs, on one core of a shared 2-core Sapphire-Rapids-class virtual machine; it would
//! be twice that without the prefetch. Many queries: products of blocks by the `gemm` crate.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ndarray::{s, ArrayView2, ArrayView3, ArrayViewMut2, ArrayViewMut3, Axis};
use pulp::{Arch, Simd, WithSimd};

use super::linear::{dots, matmul, prefetch, LINE};
use super::math::exp;
use super::{arch, Matrix, MatrixMut};
use crate::backend::cpu::element::Element;
use crate::backend::cpu::pool::{part, Pool};
use crate::backend::{Layout, Mask};
use crate::dtype::Dtype;

/// From this many queries on, they are multiplied in blocks.
const MANY: usize = 16;
/// Queries in a block.
const QUERIES: usize = 64;
/// Keys and values of a head are strided, which the machine does not foresee: how many rows ahead
/// to prefetch.
const AHEAD: usize = 8;
/// Rows between two corrections of the online softmax.
const ROWS: usize = 128;

/// What attention is besides its operands.
#[derive(Clone, Copy)]
pub struct AttentionTask<'a> {
    /// Number of query heads.
    pub heads: usize,
    /// Of keys and values; each serves `heads / kv_heads` heads of queries.
    pub kv_heads: usize,
    /// Of the products of queries and keys.
    pub scale: f32,
    /// Rows that a query attends to.
    pub mask: Mask,
    /// ALiBi: one slope for each head.
    pub slopes: Option<&'a [f32]>,
    /// How positions lie in the rows of k and v.
    pub layout: Layout,
    /// Index of the first new row.
    pub at: usize,
    /// The first row of each entry of k and v that is no padding.
    pub left_padding: &'a [usize],
}

/// Keys or values, as they are kept.
pub struct PastRows<'a, E> {
    /// `[batch, rows, kv_heads·D]`
    pub numbers: ArrayView3<'a, E>,
    /// The bytes of an f32 for each row and head, `[batch, rows, 4·kv_heads]`, where numbers have scales.
    pub scales: Option<ArrayView3<'a, u8>>,
}

/// One head of one batch entry of [`PastRows`].
#[derive(Clone, Copy)]
struct HeadRows<'a, E> {
    numbers: Matrix<'a, E>,
    scales: Option<Matrix<'a, u8>>,
}

impl<E: Element> PastRows<'_, E> {
    fn head(&self, entry: usize, head: usize, size: usize) -> HeadRows<'_, E> {
        let columns = |from| part_of(from, entry, 4 * head..4 * (head + 1));
        let numbers = part_of(&self.numbers, entry, head * size..(head + 1) * size);
        HeadRows { numbers, scales: self.scales.as_ref().map(columns) }
    }
}

impl<E: Element> HeadRows<'_, E> {
    #[inline(always)]
    fn scale(&self, row: usize) -> f32 {
        let four = |scales: Matrix<'_, u8>| scales.row(row).try_into().expect("four columns");
        self.scales.map_or(1.0, |scales| f32::from_ne_bytes(four(scales)))
    }
}

/// `softmax(mask(scale·q·kᵀ))·v` for each head of width D: q and out `[batch, n, heads·D]`,
/// k and v `[batch, rows, kv_heads·D]`; out is contiguous.
///
/// With [`Layout::Masked`] all rows are read and computed with, and those that no query may see are
/// deselected, so that nothing they hold can matter, NaN included. Otherwise they are not read.
pub fn attention<'a, E: Element>(
    pool: &Pool,
    what: AttentionTask<'a>,
    q: ArrayView3<'a, f32>,
    k: PastRows<'a, E>,
    v: PastRows<'a, E>,
    out: ArrayViewMut3<'a, f32>,
) {
    let ((batch, queries, width), AttentionTask { heads, kv_heads, .. }) = (q.dim(), what);
    let (entries, rows, kv_width) = k.numbers.dim();
    assert_eq!(out.dim(), q.dim());
    assert_eq!(k.numbers.dim(), v.numbers.dim());
    assert!(rows > 0 && width % heads == 0 && heads % kv_heads == 0, "no rows, or heads of unequal width");
    assert_eq!(width / heads * kv_heads, kv_width);
    assert!(
        batch % entries == 0 && what.left_padding.len() == entries,
        "entries that share rows are neighbours"
    );
    let out = out.into_shape_with_order((batch * queries, width)).expect("the result must be contiguous");
    let call = Call { what, q, k, v, out: MatrixMut::new(out), arch: arch() };
    if queries < MANY || what.layout == Layout::Ring {
        call.one_by_one(pool);
    } else {
        call.in_blocks(pool);
    }
}

struct Call<'a, E> {
    what: AttentionTask<'a>,
    q: ArrayView3<'a, f32>,
    k: PastRows<'a, E>,
    v: PastRows<'a, E>,
    out: MatrixMut<'a>,
    arch: Arch,
}

impl<E: Element> Call<'_, E> {
    fn one_by_one(&self, pool: &Pool) {
        let ((batch, queries, _), heads) = (self.q.dim(), self.what.heads);
        pool.run(&|thread| {
            for unit in part(batch * heads * queries, pool.threads(), thread, 1) {
                let query = Query { head: self.head(unit / queries), query: unit % queries };
                self.arch.dispatch(query);
            }
        });
    }

    fn in_blocks(&self, pool: &Pool) {
        let ((batch, queries, _), heads) = (self.q.dim(), self.what.heads);
        let blocks = queries.div_ceil(QUERIES);
        // The blocks are of unequal work, so they are taken, not dealt.
        let taken = AtomicUsize::new(0);
        let take = || Some(taken.fetch_add(1, Relaxed)).filter(|&unit| unit < batch * heads * blocks);
        pool.run(&|_| {
            while let Some(unit) = take() {
                let first = unit % blocks * QUERIES;
                let tile = QueryTile {
                    head: self.head(unit / blocks),
                    queries: first..queries.min(first + QUERIES),
                };
                SCRATCH.with_borrow_mut(|scratch| tile.attend(self.arch, scratch));
            }
        });
    }

    fn head(&self, number: usize) -> Head<'_, E> {
        let ((batch, queries, width), AttentionTask { heads, kv_heads, slopes, .. }) =
            (self.q.dim(), self.what);
        let (entry, head) = (number / heads, number % heads);
        let (size, kv_head) = (width / heads, head / (heads / kv_heads));
        let shared = entry / (batch / self.k.numbers.len_of(Axis(0)));
        let columns = size * head..size * (head + 1);
        Head {
            q: part_of(&self.q, entry, columns.clone()),
            k: self.k.head(shared, kv_head, size),
            v: self.v.head(shared, kv_head, size),
            what: self.what,
            start: self.what.left_padding[shared],
            slope: slopes.map_or(0.0, |slopes| slopes[head]),
            out: self.out,
            first: entry * queries,
            columns,
        }
    }
}

fn part_of<'a, E>(x: &'a ArrayView3<E>, entry: usize, columns: Range<usize>) -> Matrix<'a, E> {
    Matrix::new(x.index_axis(Axis(0), entry)).columns(columns)
}

/// One head of one batch entry.
struct Head<'a, E> {
    q: Matrix<'a>,
    k: HeadRows<'a, E>,
    v: HeadRows<'a, E>,
    what: AttentionTask<'a>,
    start: usize,
    slope: f32,
    /// The result of query i is in these columns of row `first + i`.
    out: MatrixMut<'a>,
    first: usize,
    columns: Range<usize>,
}

/// Rows that lie in the order of their positions.
#[derive(Clone, Default)]
struct Run {
    /// To read.
    rows: Range<usize>,
    /// Of these, to see.
    seen: Range<usize>,
    /// Position of row 0, which may be one that never was.
    origin: isize,
}

impl<'a, E> Head<'a, E> {
    /// What a query visits: one run of rows, or two where a ring has come round.
    fn runs(&self, query: usize) -> [Run; 2] {
        let (rows, AttentionTask { mask, layout, at, .. }) = (self.k.numbers.rows, self.what);
        let end = at + query + 1;
        let first = match mask {
            Mask::Causal => self.start,
            Mask::SlidingWindow(window) => self.start.max(end.saturating_sub(window)),
            Mask::Full => {
                let seen = self.start.min(rows)..rows;
                return [Run { rows: seen.clone(), seen, origin: 0 }, Run::default()];
            }
        };
        let one = |seen: Range<usize>, origin| [Run { rows: seen.clone(), seen, origin }, Run::default()];
        match layout {
            Layout::Tail => {
                // a queue that is not full yet has rows before position 0
                let gone = (at + self.q.rows) as isize - rows as isize;
                let row = |position: usize| (position as isize - gone).clamp(0, rows as isize) as usize;
                one(row(first)..row(end.max(first)), gone)
            }
            Layout::Bounded => one(first.min(rows)..end.max(first).min(rows), 0),
            Layout::Masked => {
                let seen = first.min(rows)..end.max(first).min(rows);
                [Run { rows: 0..rows, seen, origin: 0 }, Run::default()]
            }
            Layout::Ring => {
                let first = first.max(end.saturating_sub(rows)).min(end); // padding has no query of its own
                let (row, count) = (first % rows, end - first);
                let before = row..rows.min(row + count);
                let after = 0..count - before.len();
                let origin = first as isize - row as isize;
                [
                    Run { rows: before.clone(), seen: before, origin },
                    Run { rows: after.clone(), seen: after, origin: origin + rows as isize },
                ]
            }
        }
    }

    /// # Safety
    /// Each query belongs to one thread, which asks once at a time.
    unsafe fn out(&self, query: usize) -> &'a mut [f32] {
        // SAFETY: the place is this query's own.
        unsafe { self.out.part(self.first + query, self.columns.clone()) }
    }

    /// Takes from the scores of rows `first ..` what their distance from the query costs.
    #[inline(always)]
    fn fade(&self, query: usize, first: isize, scores: &mut [f32]) {
        if self.slope != 0.0 {
            let distance = (self.what.at + query) as isize - first;
            for (i, score) in (0isize..).zip(scores) {
                *score -= self.slope * (distance - i) as f32;
            }
        }
    }
}

struct Query<'a, E> {
    head: Head<'a, E>,
    query: usize,
}

impl<E: Element> WithSimd for Query<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { head, query } = self;
        let mut scores = [0.0; ROWS];
        // SAFETY: every query is dealt to one thread.
        let out = unsafe { head.out(query) };
        out.fill(0.0);
        let runs = head.runs(query);
        if runs.iter().all(|run| run.seen.is_empty()) {
            return;
        }
        let (mut largest, mut total) = (f32::NEG_INFINITY, 0.0);
        for Run { rows, seen, origin } in runs {
            for first in rows.clone().step_by(ROWS) {
                let visible = seen.start.saturating_sub(first)..seen.end.saturating_sub(first);
                let scores = &mut scores[..ROWS.min(rows.end - first)];
                score(simd, head.q.row(query), head.k, first, head.what.scale, scores);
                head.fade(query, origin + first as isize, scores);
                select(scores, visible.clone());
                let before = largest;
                largest = max(scores, before);
                if largest == f32::NEG_INFINITY {
                    continue; // nothing visible so far
                }
                let correction = exp(before - largest);
                total = total * correction + exponentials(scores, largest);
                let seen = &seen_bits(visible)[..scores.len()];
                if E::SCALED {
                    for ((row, score), seen) in (first..).zip(&mut *scores).zip(seen) {
                        *score *= f32::from_bits(head.v.scale(row).to_bits() & seen);
                    }
                }
                add_values(simd, out, correction, Values { v: head.v.numbers, first, weights: scores, seen });
            }
        }
        out.iter_mut().for_each(|out| *out /= total);
    }
}

/// `scores[i] = q·k[first + i]·scale`.
#[inline(always)]
fn score<S: Simd, E: Element>(
    simd: S,
    q: &[f32],
    rows: HeadRows<E>,
    first: usize,
    scale: f32,
    scores: &mut [f32],
) {
    let (fours, rest) = scores.as_chunks_mut::<4>();
    let k = rows.numbers;
    let ahead = AHEAD * k.stride;
    let mut row = first;
    for scores in fours {
        let rows = [k.row(row), k.row(row + 1), k.row(row + 2), k.row(row + 3)];
        for (score, [sum]) in scores.iter_mut().zip(dots::<S, E, 4, 1>(simd, rows, [q], ahead)) {
            *score = sum * scale;
        }
        row += 4;
    }
    for score in rest {
        let [[sum]] = dots::<S, E, 1, 1>(simd, [k.row(row)], [q], ahead);
        *score = sum * scale;
        row += 1;
    }
    if E::SCALED {
        for (row, score) in (first..).zip(scores) {
            *score *= rows.scale(row);
        }
    }
}

/// Only the `visible` scores count.
#[inline(always)]
fn select(scores: &mut [f32], visible: Range<usize>) {
    let [start, end] = [visible.start, visible.end].map(|place| place.min(scores.len()) as u32);
    for (i, score) in (0u32..).zip(scores) {
        *score = if start <= i && i < end { *score } else { f32::NEG_INFINITY };
    }
}

/// All bits for each of the `visible` rows, none for the others.
#[inline(always)]
fn seen_bits(visible: Range<usize>) -> [u32; ROWS] {
    let [start, end] = [visible.start, visible.end].map(|place| place.min(ROWS) as u32);
    let mut seen = [0; ROWS];
    for (i, seen) in (0u32..).zip(&mut seen) {
        *seen = u32::from(start <= i && i < end).wrapping_neg();
    }
    seen
}

#[inline(always)]
fn max(scores: &[f32], start: f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = scores.as_chunks::<16>();
    let mut largest = [start; 16];
    for chunk in chunks {
        for (largest, &score) in largest.iter_mut().zip(chunk) {
            *largest = larger(*largest, score);
        }
    }
    largest.iter().chain(rest).copied().fold(start, larger)
}

/// Replaces each score by `exp(score - largest)`; their sum.
#[inline(always)]
fn exponentials(scores: &mut [f32], largest: f32) -> f32 {
    let (chunks, rest) = scores.as_chunks_mut::<16>();
    let mut sums = [0.0; 16];
    for chunk in chunks {
        for (score, sum) in chunk.iter_mut().zip(&mut sums) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    for (score, sum) in rest.iter_mut().zip(&mut sums) {
        *score = exp(*score - largest);
        *sum += *score;
    }
    sums.iter().sum()
}

/// `out = out·correction + Σ_i weights[i]·(v[first + i] & seen[i])`.
#[inline(always)]
fn add_values<S: Simd, E: Element>(simd: S, out: &mut [f32], correction: f32, values: Values<E>) {
    for out in &mut *out {
        *out *= correction;
    }
    let (vectors, rest) = S::as_mut_simd_f32s(out);
    let (fours, others) = vectors.as_chunks_mut::<4>();
    let (twos, ones) = others.as_chunks_mut::<2>();
    let mut from = 0;
    for four in fours {
        values.add::<S, 4, 2>(simd, four, from);
        from += 4 * S::F32_LANES;
    }
    for two in twos {
        values.add::<S, 2, 4>(simd, two, from);
        from += 2 * S::F32_LANES;
    }
    for one in ones {
        values.add::<S, 1, 8>(simd, std::array::from_mut(one), from);
        from += S::F32_LANES;
    }
    if !rest.is_empty() {
        values.add_rest(simd, rest, from);
    }
}

/// Rows of values from row `first` on, their weights, and all bits or none for visible or not: bits,
/// not a factor of zero, which NaN would survive; and not a branch, since the rows that are masked
/// are to be read all the same.
struct Values<'a, E> {
    v: Matrix<'a, E>,
    first: usize,
    weights: &'a [f32],
    seen: &'a [u32],
}

impl<E: Element> Values<'_, E> {
    /// Adds C vectors of columns of all rows, from column `from` on, R rows at a time into sums of
    /// their own: one sum would wait for itself.
    #[inline(always)]
    fn add<S: Simd, const C: usize, const R: usize>(&self, simd: S, out: &mut [S::f32s; C], from: usize) {
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        let count = self.weights.len();
        for first in (0..count).step_by(R) {
            for (i, sums) in (first..count).zip(&mut sums) {
                self.add_row(simd, i, from, sums);
            }
        }
        for sums in sums {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = simd.add_f32s(*out, sum);
            }
        }
    }

    #[inline(always)]
    fn add_row<S: Simd, const C: usize>(&self, simd: S, i: usize, from: usize, sums: &mut [S::f32s; C]) {
        let row = &self.v.row(self.first + i)[from..from + C * S::F32_LANES];
        let weight = simd.splat_f32s(self.weights[i]);
        let seen = simd.splat_f32s(f32::from_bits(self.seen[i]));
        for line in (0..C * S::F32_LANES).step_by(LINE / size_of::<E>()) {
            prefetch(row.as_ptr().wrapping_add(line + AHEAD * self.v.stride));
        }
        for (c, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the row has C vectors from the column on.
            let value = unsafe { E::load(simd, row.as_ptr().add(c * S::F32_LANES)) };
            *sum = simd.mul_add_e_f32s(weight, simd.and_f32s(value, seen), *sum);
        }
    }

    /// Adds the columns from `from` on, fewer than a vector.
    #[inline(always)]
    fn add_rest<S: Simd>(&self, simd: S, out: &mut [f32], from: usize) {
        let mut sum = simd.partial_load_f32s(out);
        for (i, (&weight, &seen)) in self.weights.iter().zip(self.seen).enumerate() {
            let value = E::load_rest(simd, &self.v.row(self.first + i)[from..]);
            let value = simd.and_f32s(value, simd.splat_f32s(f32::from_bits(seen)));
            sum = simd.mul_add_e_f32s(simd.splat_f32s(weight), value, sum);
        }
        simd.partial_store_f32s(out, sum);
    }
}

thread_local! {
    /// Grows to the largest block that this thread has seen, and stays.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

struct QueryTile<'a, E> {
    head: Head<'a, E>,
    queries: Range<usize>,
}

impl<E: Element> QueryTile<'_, E> {
    fn attend(&self, arch: Arch, scratch: &mut Vec<f32>) {
        let Self { head, queries } = self;
        // SAFETY: every block of queries is taken by one thread.
        let mut out = unsafe {
            head.out.view(head.first + queries.start..head.first + queries.end, head.columns.clone())
        };
        // what one query or another reads, and sees: a ring never has several
        let [first, last] = [queries.start, queries.end - 1].map(|query| head.runs(query)[0].clone());
        let (rows, seen) = (first.rows.start..last.rows.end, first.seen.start..last.seen.end);
        if seen.is_empty() {
            return out.fill(0.0);
        }
        let masked = head.what.layout == Layout::Masked;
        let is_copied = masked || E::DTYPE != Dtype::F32;
        let width = head.v.numbers.width;
        let sizes = [queries.len() * rows.len(), if is_copied { rows.len() * width } else { 0 }];
        scratch.resize(scratch.len().max(sizes[0] + sizes[1]), 0.0);
        let (scores, copies) = scratch[..sizes[0] + sizes[1]].split_at_mut(sizes[0]);
        let k = match E::as_f32(head.k.numbers.view()) {
            Some(k) => k.slice_move(s![rows.clone(), ..]),
            None => self.selected(arch, head.k, rows.clone(), rows.clone(), copies),
        };
        self.weights(arch, k, rows.clone(), scores);
        let v = match E::as_f32(head.v.numbers.view()).filter(|_| !masked) {
            Some(v) => v.slice_move(s![rows.clone(), ..]),
            None => self.selected(arch, head.v, rows.clone(), seen, copies),
        };
        matmul(1.0, matrix(scores, rows.len()), v, out);
    }

    /// The softmax of the scores, zero where a query may not look.
    fn weights(&self, arch: Arch, k: ArrayView2<f32>, rows: Range<usize>, scores: &mut [f32]) {
        let Self { head, queries } = self;
        let q = head.q.view().slice_move(s![queries.clone(), ..]);
        let shape = (queries.len(), rows.len());
        let product = ArrayViewMut2::from_shape(shape, &mut *scores).expect("the scores fill it");
        matmul(head.what.scale, q, k.t(), product);
        arch.dispatch(Softmax { head, queries: queries.clone(), rows, scores });
    }

    /// The rows that one of the queries may see, and zeros for the others; all read.
    fn selected<'s>(
        &self,
        arch: Arch,
        from: HeadRows<'_, E>,
        rows: Range<usize>,
        seen: Range<usize>,
        to: &'s mut [f32],
    ) -> ArrayView2<'s, f32> {
        arch.dispatch(Select { from, rows, seen, to: &mut *to });
        matrix(to, from.numbers.width)
    }
}

fn matrix(numbers: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((numbers.len() / width, width), numbers).expect("whole rows")
}

/// Softmax of each query's scores of the same rows.
struct Softmax<'a, E> {
    head: &'a Head<'a, E>,
    queries: Range<usize>,
    rows: Range<usize>,
    scores: &'a mut [f32],
}

impl<E> WithSimd for Softmax<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { head, queries, rows, scores } = self;
        for (query, scores) in queries.zip(scores.chunks_exact_mut(rows.len())) {
            let [Run { seen, origin, .. }, _] = head.runs(query);
            if seen.is_empty() {
                scores.fill(0.0);
                continue;
            }
            head.fade(query, origin + rows.start as isize, scores);
            select(scores, seen.start - rows.start..seen.end - rows.start);
            let largest = max(scores, f32::NEG_INFINITY);
            let scale = 1.0 / exponentials(scores, largest);
            scores.iter_mut().for_each(|score| *score *= scale);
        }
    }
}

struct Select<'a, E> {
    from: HeadRows<'a, E>,
    rows: Range<usize>,
    seen: Range<usize>,
    to: &'a mut [f32],
}

impl<E: Element> WithSimd for Select<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (r, to) in self.rows.zip(self.to.chunks_exact_mut(self.from.numbers.width)) {
            let seen = u32::from(self.seen.contains(&r)).wrapping_neg();
            let scale = self.from.scale(r);
            for (to, value) in to.iter_mut().zip(self.from.numbers.row(r)) {
                *to = f32::from_bits((value.widen() * scale).to_bits() & seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, on_every_arch, random};
    use super::*;
    use half::{bf16, f16};
    use ndarray::{Array3, Ix3};

    #[derive(Clone, Copy)]
    struct Case {
        batch: usize,
        queries: usize,
        rows: usize,
        heads: usize,
        head: usize,
        at: usize,
    }

    fn oracle(case: Case, [q, k, v]: [ArrayView3<f32>; 3]) -> Array3<f64> {
        let mut out = Array3::zeros(q.dim());
        for (b, i, h) in ndarray::indices((case.batch, case.queries, case.heads)) {
            let columns = case.head * h..case.head * (h + 1);
            let rows = s![b, ..case.rows.min(case.at + i + 1), columns.clone()];
            let [k, v] = [k, v].map(|x| x.slice(rows).mapv(f64::from));
            let q = q.slice(s![b, i, columns.clone()]).mapv(f64::from);
            let scores = k.dot(&q) / (case.head as f64).sqrt();
            let largest = scores.fold(f64::MIN, |a, &b| a.max(b));
            let weights = scores.mapv(|score| (score - largest).exp());
            out.slice_mut(s![b, i, columns]).assign(&(weights.dot(&v) / weights.sum()));
        }
        out
    }

    fn check<E: Element>(pool: &Pool, case: Case) {
        let width = case.heads * case.head;
        let q = random((case.batch, case.queries, 3 * width), 1);
        let kept = |seed| random((case.batch, case.rows, width + 7), seed).mapv(E::nearest);
        let [mut k, mut v] = [2, 3].map(kept);
        let q = q.slice(s![.., .., width..2 * width]);
        let columns = s![.., .., 7..];
        let [wide_k, wide_v] = [&k, &v].map(|x| x.slice(columns).mapv(E::widen));
        let want = oracle(case, [q, wide_k.view(), wide_v.view()]);
        let left_padding = vec![0; case.batch];
        for (layout, poison) in [
            (Layout::Bounded, f32::NAN),
            (Layout::Masked, f32::NAN),
            (Layout::Masked, 1e30),
            (Layout::Masked, f32::INFINITY),
        ] {
            let unwritten = s![.., case.rows.min(case.at + case.queries).., ..];
            k.slice_mut(unwritten).fill(E::nearest(poison));
            v.slice_mut(unwritten).fill(E::nearest(poison));
            let mut out = Array3::from_elem(Ix3(case.batch, case.queries, width), f32::NAN);
            let what = AttentionTask {
                heads: case.heads,
                kv_heads: case.heads,
                scale: 1.0 / (case.head as f32).sqrt(),
                mask: Mask::Causal,
                slopes: None,
                layout,
                at: case.at,
                left_padding: &left_padding,
            };
            let past = |numbers| PastRows { numbers, scales: None };
            attention(pool, what, q, past(k.slice(columns)), past(v.slice(columns)), out.view_mut());
            assert_close(&out, &want, 2e-5);
        }
    }

    #[test]
    fn attention_agrees_with_plain_loops() {
        let pools = [1, 3].map(|threads| Pool::new(threads).unwrap());
        on_every_arch(|| {
            for head in [5, 8, 32, 64, 80, 100] {
                for (batch, queries, rows, at) in [
                    (1, 1, 1, 0),
                    (1, 1, 300, 10),
                    (2, 1, 131, 130),
                    (3, 5, 17, 9),
                    (1, 17, 24, 3),
                    (2, 130, 200, 50),
                    (1, 70, 70, 0),
                ] {
                    for heads in [1, 3] {
                        let case = Case { batch, queries, rows, heads, head, at };
                        for pool in &pools {
                            check::<f32>(pool, case);
                            check::<bf16>(pool, case);
                            check::<f16>(pool, case);
                        }
                    }
                }
            }
        });
    }
}
