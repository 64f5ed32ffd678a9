//! Rows in the formats that a cache may keep: rounded as they should be, moved as they are, and read as the
//! numbers that they are.

use super::numbers::*;
use crate::backend::{whole, AttentionParams, Backend, Convolution, Format, Layout, Linear, View};
use crate::dtype::Dtype;
use crate::error::Result;

const HEADS: usize = 3;
const WIDTH: usize = 15;

fn formats() -> impl Iterator<Item = Format> {
    Dtype::ALL.iter().map(|&dtype| Format { dtype, heads: HEADS })
}

pub fn cast<B: Backend>(b: &B) {
    let x = Numbers::random([2, 4, WIDTH], 30);
    let there = x.inside_of_wider(b, 4, 3);
    for format in formats().filter(|format| format.dtype != Dtype::F32) {
        let got = match b.cast(columns(&there, 4, WIDTH), format) {
            Err(error) if b.name() == "cuda" => {
                assert!(error.to_string().contains("CUDA kernels read f32 alone"), "{error}");
                continue;
            }
            got => got.unwrap(),
        };
        assert_eq!((b.shape(&got), b.format(&got)), (x.shape, format));
        // half a unit in the last place: of 24, 8 or 11 bits, or of a 127th of the head's largest
        let head = WIDTH / HEADS;
        let largest = |i: usize| {
            let first = i / head * head;
            x.data[first..first + head].iter().fold(0.0, |largest: f64, x| largest.max(x.abs()))
        };
        for (i, (got, want)) in b.download(&got).unwrap().into_iter().zip(&x.data).enumerate() {
            let most = match format.dtype {
                Dtype::F32 => 0.0,
                Dtype::Bf16 => want.abs() / 256.0,
                Dtype::F16 => want.abs() / 2048.0,
                Dtype::Int8 => largest(i) / 253.9,
            };
            assert!((f64::from(got) - want).abs() <= most, "{format:?}: {got} is not the nearest to {want}");
        }
    }
    for format in formats().filter(|_| b.name() == "cpu") {
        let zeros = Numbers::filled([1, 2, WIDTH], |_, _, _| 0.0).upload(b);
        assert!(b.download(&b.cast(whole(b, &zeros), format).unwrap()).unwrap().iter().all(|&x| x == 0.0));
        assert!(b.download(&b.zeros_as([2, 3, WIDTH], format).unwrap()).unwrap().iter().all(|&x| x == 0.0));
    }
}

/// Rows of so many entries and rows that a strategy may write, in a format; and the same numbers in f32.
fn kept<B: Backend>(b: &B, [batch, rows]: [usize; 2], format: Format, seed: u64) -> [B::Tensor; 2] {
    let there = Numbers::moderate([batch, rows, WIDTH], seed).upload(b);
    let cast = b.cast(whole(b, &there), format).unwrap();
    let numbers = b.download(&cast).unwrap();
    let wide = b.duplicate(&b.upload([batch, rows, WIDTH], &numbers).unwrap()).unwrap();
    [b.duplicate(&cast).unwrap(), wide]
}

/// That an operation on rows of any format gives what it gives on the same numbers in f32.
fn same<B: Backend>(
    b: &B,
    what: &str,
    sizes: [[usize; 2]; 2],
    tolerance: f32,
    run: impl Fn(B::Tensor, &B::Tensor) -> Result<B::Tensor>,
) {
    for format in formats() {
        let [[past, wide_past], [new, wide_new]] =
            [(sizes[0], 31), (sizes[1], 32)].map(|(sizes, seed)| kept(b, sizes, format, seed));
        let numbers = |past, new: &B::Tensor| b.download(&run(past, new).unwrap()).unwrap();
        let (got, want) = (numbers(past, &new), numbers(wide_past, &wide_new));
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.into_iter().zip(want).enumerate() {
            assert!(
                (got - want).abs() <= tolerance,
                "{what} {format:?}: number {i} is {got}, should be {want}"
            );
        }
    }
}

pub fn moved<B: Backend>(b: &B) {
    let one = |at: usize| call(b, 2, 1, at, 0);
    same(b, "concat", [[2, 5], [2, 3]], 0.0, |past, new| b.concat(Some((&past, 4)), whole(b, new), 1));
    same(b, "grow", [[2, 3], [2, 1]], 0.0, |past, _| b.grow(&past, 7));
    same(b, "write_rows", [[2, 6], [2, 1]], 0.0, |mut past, new| {
        b.write_rows(&one(4), &mut past, whole(b, new))?;
        Ok(past)
    });
    same(b, "write_ring", [[2, 3], [2, 5]], 0.0, |mut past, new| {
        b.write_ring(&call(b, 2, 5, 7, 0), &mut past, whole(b, new))?;
        Ok(past)
    });
    same(b, "shift", [[2, 4], [2, 1]], 0.0, |mut past, new| {
        b.shift(&mut past, whole(b, new))?;
        Ok(past)
    });
    same(b, "unroll", [[2, 3], [2, 2]], 0.0, |past, new| {
        let ring = View { rows: whole(b, &past), layout: Layout::Ring };
        b.unroll(&call(b, 2, 2, 2, 0), ring, 2, whole(b, new))
    });
    same(b, "gather_batch", [[3, 4], [1, 1]], 0.0, |past, _| b.gather_batch(&past, &[2, 0, 0, 1]));
    same(b, "overwrite", [[2, 3], [2, 3]], 0.0, |mut past, new| {
        b.overwrite(&mut past, new)?;
        Ok(past)
    });
}

pub fn read<B: Backend>(b: &B) {
    let weight = Numbers::moderate([1, 2 * WIDTH, 3 * WIDTH], 33).upload(b);
    let convolution =
        Convolution { linear: Linear { norm: None, weight, bias: None }, taps: 3, ahead: 0, residual: true };
    for layout in [Layout::Tail, Layout::Ring] {
        same(b, "conv_glu", [[2, 3], [1, 1]], 0.0, |past, _| {
            b.conv_glu(&call(b, 2, 1, 8, 0), View { rows: whole(b, &past), layout }, &convolution)
        });
        same(b, "lag", [[2, 3], [1, 1]], 0.0, |past, _| {
            b.lag(&call(b, 2, 1, 8, 0), View { rows: whole(b, &past), layout }, 2)
        });
    }
    // a query at a time, and many in blocks; two heads of queries for each of keys
    for (n, at, rows, layout) in [
        (1, 140, 150, Layout::Masked),
        (2, 5, 7, Layout::Tail),
        (40, 3, 50, Layout::Bounded),
        (40, 3, 50, Layout::Masked),
    ] {
        let q = Numbers::moderate([2, n, 2 * WIDTH], 34).upload(b);
        let params = AttentionParams { kv_heads: HEADS, ..AttentionParams::causal(2 * HEADS, WIDTH / HEADS) };
        same(b, "attention", [[2, rows], [2, rows]], 2e-5, |k, v| {
            let [k, v] = [&k, v].map(|rows| View { rows: whole(b, rows), layout });
            b.attention(&call(b, 2, n, at, 0), whole(b, &q), k, v, &params)
        });
    }
}
