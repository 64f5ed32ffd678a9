//! Every operation of every backend against an oracle that is dumber and more exact: plain loops,
//! sums in f64, inputs that are random, never zero and sometimes large, sizes that divide by nothing.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cpu::Cpu;
use super::cuda::{Cuda, Device, Mode};
use super::*;

/// The first GPU, or the software that stands in for one. Without, the test is skipped and says so,
/// unless `DECODE_BENCH_REQUIRE_CUDA=1` asks that it fails.
pub fn device() -> Option<Arc<Device>> {
    static DEVICE: OnceLock<Result<Arc<Device>, String>> = OnceLock::new();
    match DEVICE.get_or_init(|| Device::open(0).map_err(|e| e.to_string())) {
        Ok(device) => Some(device.clone()),
        Err(why) => {
            assert!(std::env::var("DECODE_BENCH_REQUIRE_CUDA").map_or(true, |v| v != "1"), "{why}");
            // not `eprintln`, which the test runner swallows
            let _ = writeln!(std::io::stderr(), "skipped: {why}");
            None
        }
    }
}

#[test]
fn cpu_operations_are_the_oracle_s() {
    operations_are_the_oracle_s(&Cpu::new(1));
    operations_are_the_oracle_s(&Cpu::new(3));
}

#[test]
fn cuda_operations_are_the_oracle_s() {
    if let Some(device) = device() {
        operations_are_the_oracle_s(&Cuda::new(&device, Mode::Stream).unwrap());
    }
}

fn operations_are_the_oracle_s<B: Backend>(b: &B) {
    embed(b);
    norm(b);
    linear(b);
    attention(b);
    conv_glu(b);
    last_row(b);
    argmax(b);
    concat(b);
    grow(b);
    write_rows(b);
    write_ring(b);
    write_onehot(b);
    shift(b);
    unroll(b);
    gather_batch(b);
}

/// `[batch, rows, width]` in f64, the oracle's tensor.
#[derive(Clone)]
struct Numbers {
    shape: Shape,
    data: Vec<f64>,
}

impl Numbers {
    /// Between -1 and 1, away from zero; every ninth a hundred times that.
    fn random(shape: Shape, seed: u64) -> Numbers {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut number = |i: usize| {
            let bits = rng.next_u32();
            let size = 0.05 + 0.95 * f64::from(bits >> 8) / f64::from(1u32 << 24);
            let size = if i % 9 == 4 { 100.0 * size } else { size };
            f64::from(if bits & 1 == 0 { size as f32 } else { -size as f32 })
        };
        let data = (0..shape.iter().product()).map(&mut number).collect();
        Numbers { shape, data }
    }

    /// The same without the large ones, for what goes through an exponential.
    fn moderate(shape: Shape, seed: u64) -> Numbers {
        let mut numbers = Numbers::random(shape, seed);
        numbers.data.iter_mut().filter(|x| x.abs() > 1.0).for_each(|x| *x = f64::from((*x / 20.0) as f32));
        numbers
    }

    fn filled(shape: Shape, with: impl Fn(usize, usize, usize) -> f64) -> Numbers {
        let [batch, rows, width] = shape;
        let at = |i: usize| with(i / (rows * width), i / width % rows, i % width);
        Numbers { shape, data: (0..batch * rows * width).map(at).collect() }
    }

    fn at(&self, entry: usize, row: usize, column: usize) -> f64 {
        let [_, rows, width] = self.shape;
        self.data[(entry * rows + row) * width + column]
    }

    fn upload<B: Backend>(&self, b: &B) -> B::Tensor {
        let data: Vec<f32> = self.data.iter().map(|&x| x as f32).collect();
        b.upload(self.shape, &data).unwrap()
    }

    /// Where a backend may write.
    fn keep<B: Backend>(&self, b: &B) -> B::Tensor {
        b.duplicate(&self.upload(b)).unwrap()
    }

    /// Columns that begin inside of a wider tensor, as the parts of a fused product do.
    fn inside_of_wider<B: Backend>(&self, b: &B, from: usize, behind: usize) -> B::Tensor {
        let [batch, rows, width] = self.shape;
        let other = Numbers::random([batch, rows, from + width + behind], 99);
        Numbers::filled(other.shape, |e, r, c| match c.checked_sub(from).filter(|&c| c < width) {
            Some(c) => self.at(e, r, c),
            None => other.at(e, r, c),
        })
        .upload(b)
    }
}

fn columns<T>(tensor: &T, from: usize, width: usize) -> Columns<'_, T> {
    Columns { tensor, from, width }
}

fn call<B: Backend>(b: &B, batch: usize, n: usize, at: usize, last: usize) -> Call<B::Input> {
    let tokens = (0..batch * n).map(|i| (i * 7 % 11) as u32).collect();
    let mut call = Call { last, ..Call::new(tokens, batch, at) };
    b.stage(&mut call).unwrap();
    call
}

/// Sums of f32 in any order are this close, relative to the largest.
const TOLERANCE: f64 = 2e-5;

fn assert_close<B: Backend>(b: &B, got: &B::Tensor, want: &Numbers, what: &str) {
    assert_within(b, got, want, TOLERANCE, what);
}

/// Numbers that were only moved are the same to the bit.
fn assert_moved<B: Backend>(b: &B, got: &B::Tensor, want: &Numbers, what: &str) {
    assert_within(b, got, want, 0.0, what);
}

fn assert_within<B: Backend>(b: &B, got: &B::Tensor, want: &Numbers, tolerance: f64, what: &str) {
    assert_eq!(b.shape(got), want.shape, "{}: {what}", b.name());
    let largest = want.data.iter().fold(1.0, |largest: f64, x| largest.max(x.abs()));
    for (i, (got, want)) in b.download(got).unwrap().into_iter().zip(&want.data).enumerate() {
        let close = (f64::from(got) - want).abs() <= tolerance * largest;
        assert!(close, "{}: {what}: number {i} is {got} and should be {want}", b.name());
    }
}

fn embed<B: Backend>(b: &B) {
    for (width, batch, n) in [(5, 1, 1), (8, 2, 3), (132, 3, 1)] {
        let (table, positions) = (Numbers::random([1, 11, width], 1), Numbers::random([1, 6, width], 2));
        let call = call(b, batch, n, 2, 0);
        let token = |e: usize, i: usize| call.tokens[e * n + i] as usize;
        let want = Numbers::filled([batch, n, width], |e, i, c| table.at(0, token(e, i), c));
        assert_moved(b, &b.embed(&call, &table.upload(b), None).unwrap(), &want, "embed");
        let want = Numbers::filled(want.shape, |e, i, c| want.at(e, i, c) + positions.at(0, 2 + i, c));
        let got = b.embed(&call, &table.upload(b), Some(&positions.upload(b))).unwrap();
        assert_close(b, &got, &want, "embed with positions");
    }
}

fn norm<B: Backend>(b: &B) {
    for (width, rows) in [(5, 1), (36, 3), (301, 2), (1100, 1)] {
        let x = Numbers::random([2, rows, width], 3);
        let (gain, bias) = (Numbers::random([1, 1, width], 4), Numbers::random([1, 1, width], 5));
        let moments = |e: usize, r: usize| {
            let row: Vec<f64> = (0..width).map(|c| x.at(e, r, c)).collect();
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
            (mean, (variance + 1e-5).sqrt())
        };
        let want = Numbers::filled(x.shape, |e, r, c| {
            let (mean, deviation) = moments(e, r);
            (x.at(e, r, c) - mean) / deviation * gain.at(0, 0, c) + bias.at(0, 0, c)
        });
        let norm = Norm { gain: gain.upload(b), bias: Some(bias.upload(b)), eps: 1e-5 };
        assert_close(b, &b.norm(&x.upload(b), &norm).unwrap(), &want, &format!("norm {width}"));
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

fn product(x: &Numbers, weight: &Numbers, bias: Option<&Numbers>) -> Numbers {
    let ([batch, n, inner], [_, outs, _]) = (x.shape, weight.shape);
    Numbers::filled([batch, n, outs], |e, i, o| {
        let sum: f64 = (0..inner).map(|k| x.at(e, i, k) * weight.at(0, o, k)).sum();
        sum + bias.map_or(0.0, |bias| bias.at(0, 0, o))
    })
}

fn linear<B: Backend>(b: &B) {
    let shapes = [(1, 1, 5, 7), (3, 1, 8, 6), (2, 4, 36, 10), (1, 1, 1036, 5), (3, 3, 7, 5), (1, 70, 20, 66)];
    for (batch, n, inner, outs) in shapes {
        let (x, weight) = (Numbers::random([batch, n, inner], 6), Numbers::random([1, outs, inner], 7));
        let (bias, residual) = (Numbers::random([1, 1, outs], 8), Numbers::random([batch, n, outs], 9));
        let what = format!("linear {batch} {n} {inner} {outs}");
        let layer = Linear { weight: weight.upload(b), bias: Some(bias.upload(b)) };
        let (x_there, residual_there) = (x.upload(b), residual.upload(b));
        let got = b.linear(&x_there, &layer, Activation::Gelu, Some(&residual_there)).unwrap();
        let sum = product(&x, &weight, Some(&bias));
        let want = Numbers::filled(sum.shape, |e, i, o| gelu(sum.at(e, i, o)) + residual.at(e, i, o));
        assert_close(b, &got, &want, &what);
        let layer = Linear { bias: None, ..layer };
        let got = b.linear(&x_there, &layer, Activation::None, None).unwrap();
        assert_close(b, &got, &product(&x, &weight, None), &format!("{what}, no bias"));
    }
}

/// Heads, numbers of one, entries, new rows, position of the first, rows of the cache.
type Attention = (usize, usize, usize, usize, usize, usize);

fn attention<B: Backend>(b: &B) {
    let shapes: [Attention; 9] = [
        (1, 5, 1, 1, 0, 1),
        (3, 5, 3, 1, 4, 9),
        (2, 8, 1, 1, 69, 70),
        (2, 8, 2, 1, 40, 130),
        (1, 32, 1, 1, 20, 33),
        (2, 36, 1, 3, 2, 7),
        (1, 64, 2, 1, 5, 40),
        (1, 160, 1, 2, 3, 6),
        (2, 7, 2, 5, 0, 5),
    ];
    for shape in shapes {
        for layout in [Layout::Tail, Layout::Bounded, Layout::Masked] {
            for poison in [f64::NAN, 1e30] {
                attend(b, shape, layout, poison);
            }
        }
    }
}

/// Rows past the newest hold poison, in keys and in values: what is there cannot matter.
fn attend<B: Backend>(b: &B, shape: Attention, layout: Layout, poison: f64) {
    let (heads, head, batch, n, at, capacity) = shape;
    let (width, rows) = (heads * head, if layout == Layout::Tail { at + n } else { capacity });
    let q = Numbers::moderate([batch, n, width], 10);
    let [k, v] = [Numbers::moderate([batch, rows, width], 11), Numbers::random([batch, rows, width], 12)]
        .map(|x| Numbers::filled(x.shape, |e, r, c| if r < at + n { x.at(e, r, c) } else { poison }));
    let score = |e: usize, i: usize, h: usize, r: usize| -> f64 {
        let dot: f64 = (0..head).map(|d| q.at(e, i, h * head + d) * k.at(e, r, h * head + d)).sum();
        dot / (head as f64).sqrt()
    };
    let want = Numbers::filled([batch, n, width], |e, i, c| {
        let scores: Vec<f64> = (0..=at + i).map(|r| score(e, i, c / head, r)).collect();
        let top = scores.iter().fold(f64::NEG_INFINITY, |top, &s| top.max(s));
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().enumerate().map(|(r, w)| w * v.at(e, r, c)).sum();
        sum / weights.iter().sum::<f64>()
    });
    let (q_there, k_there, v_there) = (q.inside_of_wider(b, width, width), k.upload(b), v.upload(b));
    let view = |tensor| View { rows: columns(tensor, 0, width), layout };
    let call = call(b, batch, n, at, 0);
    let (q_there, attend) = (columns(&q_there, width, width), Attend::causal(heads, head));
    let got = b.attention(&call, q_there, view(&k_there), view(&v_there), &attend);
    assert_close(b, &got.unwrap(), &want, &format!("attention {shape:?} {layout:?} poison {poison}"));
}

/// What the layouts hold of a sequence of positions: rows, and the position in each.
fn laid_out(sequence: &Numbers, layout: Layout, rows: usize, newest: usize) -> Numbers {
    let [batch, _, width] = sequence.shape;
    let position = |r: usize| match layout {
        Layout::Tail => (newest + 1 + r).checked_sub(rows),
        Layout::Bounded | Layout::Masked => Some(r),
        Layout::Ring => (0..=newest).rev().find(|p| p % rows == r),
    };
    Numbers::filled([batch, rows, width], |e, r, c| match position(r) {
        Some(p) if p <= newest => sequence.at(e, p, c),
        _ => f64::NAN,
    })
}

fn conv_glu<B: Backend>(b: &B) {
    // channels, taps, entries, new rows, position of the first, layout, rows
    let shapes = [
        (5, 1, 1, 1, 3, Layout::Tail, 1),
        (8, 4, 2, 1, 9, Layout::Ring, 4),
        (7, 3, 3, 1, 1, Layout::Ring, 3),
        (7, 5, 1, 1, 1, Layout::Tail, 2),
        (8, 3, 2, 1, 6, Layout::Tail, 3),
        (6, 3, 1, 1, 4, Layout::Bounded, 9),
        (8, 4, 2, 6, 0, Layout::Tail, 6),
        (5, 3, 2, 4, 1, Layout::Tail, 6),
        (260, 2, 1, 2, 3, Layout::Tail, 3),
    ];
    for (channels, taps, batch, n, at, layout, rows) in shapes {
        let x = Numbers::random([batch, at + n, channels], 13);
        let weight = Numbers::random([1, 2 * channels, taps * channels], 14);
        let bias = Numbers::random([1, 1, 2 * channels], 15);
        let window = Numbers::filled([batch, n, taps * channels], |e, i, k| {
            let position = (at + i + 1 + k / channels).checked_sub(taps);
            position.map_or(0.0, |p| x.at(e, p, k % channels))
        });
        let u = product(&window, &weight, Some(&bias));
        let want = Numbers::filled([batch, n, channels], |e, i, c| {
            let gate = 1.0 / (1.0 + (-u.at(e, i, channels + c)).exp());
            (u.at(e, i, c) * gate + x.at(e, at + i, c)) * 0.5f64.sqrt()
        });
        // a window cut from a sequence that is longer than it; before its begin there is nothing
        let held = laid_out(&x, layout, rows, at + n - 1).upload(b);
        let linear = Linear { weight: weight.upload(b), bias: Some(bias.upload(b)) };
        let convolution = Convolution { linear, taps, ahead: 0, residual: true };
        let view = View { rows: columns(&held, 0, channels), layout };
        let got = b.conv_glu(&call(b, batch, n, at, 0), view, &convolution).unwrap();
        let what = format!("conv_glu {channels} {taps} {batch} {n} {at} {layout:?} {rows}");
        assert_close(b, &got, &want, &what);
    }
}

fn last_row<B: Backend>(b: &B) {
    for (width, batch, n, last) in [(5, 3, 4, 2), (1032, 2, 1, 0)] {
        let x = Numbers::random([batch, n, width], 16);
        let want = Numbers::filled([batch, 1, width], |e, _, c| x.at(e, last, c));
        assert_moved(b, &b.last_row(&call(b, batch, n, 0, last), &x.upload(b)).unwrap(), &want, "last_row");
    }
}

fn argmax<B: Backend>(b: &B) {
    for (width, places) in [(1, [0, 0]), (7, [6, 2]), (1500, [1437, 1029])] {
        let mut x = Numbers::random([2, 2, width], 17);
        for (entry, &place) in places.iter().enumerate() {
            for tied in (place..width).step_by(40) {
                x.data[entry * 2 * width + tied] = 1e6;
            }
        }
        assert_eq!(b.argmax(&x.upload(b)).unwrap(), places.map(|p| p as u32), "{}: argmax", b.name());
    }
}

fn concat<B: Backend>(b: &B) {
    for (width, batch, held, keep, n, skip) in
        [(5, 2, 4, 3, 2, 0), (8, 3, 7, 7, 1, 0), (12, 1, 3, 0, 9, 4), (260, 1, 3, 2, 1, 0)]
    {
        let (past, new) = (Numbers::random([batch, held, width], 18), Numbers::random([batch, n, width], 19));
        let want = Numbers::filled([batch, keep + n - skip, width], |e, r, c| match r.checked_sub(keep) {
            None => past.at(e, held - keep + r, c),
            Some(r) => new.at(e, skip + r, c),
        });
        let new_there = new.inside_of_wider(b, width, 3);
        let part = columns(&new_there, width, width);
        assert_moved(b, &b.concat(Some((&past.upload(b), keep)), part, skip).unwrap(), &want, "concat");
        let want = Numbers::filled([batch, n - skip, width], |e, r, c| new.at(e, skip + r, c));
        assert_moved(b, &b.concat(None, part, skip).unwrap(), &want, "concat to nothing");
    }
}

fn grow<B: Backend>(b: &B) {
    for (width, batch, held, rows) in [(5, 2, 3, 7), (8, 1, 1, 2), (260, 1, 2, 3)] {
        let past = Numbers::random([batch, held, width], 20);
        let want =
            Numbers::filled([batch, rows, width], |e, r, c| if r < held { past.at(e, r, c) } else { 0.0 });
        assert_moved(b, &b.grow(&past.upload(b), rows).unwrap(), &want, "grow");
    }
}

/// Width, entries, rows, new rows, position of the first.
const WRITES: [(usize, usize, usize, usize, usize); 4] =
    [(5, 2, 6, 1, 5), (8, 3, 7, 3, 2), (15, 1, 4, 1, 0), (260, 1, 3, 2, 1)];

fn write_rows<B: Backend>(b: &B) {
    for (width, batch, rows, n, at) in WRITES {
        let (past, new) = (Numbers::random([batch, rows, width], 21), Numbers::random([batch, n, width], 22));
        let want = Numbers::filled(past.shape, |e, r, c| match r.checked_sub(at).filter(|&i| i < n) {
            Some(i) => new.at(e, i, c),
            None => past.at(e, r, c),
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, width, width));
        b.write_rows(&call(b, batch, n, at, 0), &mut kept, columns(&new_there, width, width)).unwrap();
        assert_moved(b, &kept, &want, "write_rows");
    }
}

fn write_ring<B: Backend>(b: &B) {
    for (width, batch, rows, n, at) in [(5, 2, 3, 1, 7), (8, 1, 4, 2, 3), (6, 3, 3, 5, 4), (7, 1, 1, 1, 9)] {
        let (past, new) = (Numbers::random([batch, rows, width], 23), Numbers::random([batch, n, width], 24));
        let newest = |r: usize| (0..n).rev().find(|i| (at + i) % rows == r);
        let want = Numbers::filled(past.shape, |e, r, c| match newest(r) {
            Some(i) => new.at(e, i, c),
            None => past.at(e, r, c),
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, 4, 1));
        b.write_ring(&call(b, batch, n, at, 0), &mut kept, columns(&new_there, 4, width)).unwrap();
        assert_moved(b, &kept, &want, "write_ring");
    }
}

fn write_onehot<B: Backend>(b: &B) {
    for (width, batch, rows, n, at) in WRITES {
        let (past, new) = (Numbers::random([batch, rows, width], 25), Numbers::random([batch, n, width], 26));
        let want = Numbers::filled(past.shape, |e, r, c| {
            past.at(e, r, c) + r.checked_sub(at).filter(|&i| i < n).map_or(0.0, |i| new.at(e, i, c))
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, width, 0));
        b.write_onehot(&call(b, batch, n, at, 0), &mut kept, columns(&new_there, width, width)).unwrap();
        assert_close(b, &kept, &want, "write_onehot");
    }
}

fn shift<B: Backend>(b: &B) {
    for (width, batch, rows, n) in [(5, 2, 3, 1), (8, 1, 4, 2), (6, 3, 3, 5), (520, 1, 1, 1)] {
        let (past, new) = (Numbers::random([batch, rows, width], 27), Numbers::random([batch, n, width], 28));
        let want = Numbers::filled(past.shape, |e, r, c| match (r + n).checked_sub(rows) {
            Some(i) => new.at(e, i, c),
            None => past.at(e, r + n, c),
        });
        let (mut kept, new_there) = (past.keep(b), new.inside_of_wider(b, 3, 0));
        b.shift(&mut kept, columns(&new_there, 3, width)).unwrap();
        assert_moved(b, &kept, &want, "shift");
    }
}

fn unroll<B: Backend>(b: &B) {
    let shapes = [
        (5, 2, 3, 2, 7, Layout::Ring, 2),
        (8, 1, 4, 3, 1, Layout::Ring, 3),
        (8, 2, 4, 3, 5, Layout::Tail, 2),
        (6, 1, 2, 3, 2, Layout::Tail, 4),
    ];
    for (width, batch, rows, keep, at, layout, n) in shapes {
        let sequence = Numbers::random([batch, at + n, width], 29);
        let want = Numbers::filled([batch, keep + n, width], |e, r, c| {
            (at + r).checked_sub(keep).map_or(0.0, |p| sequence.at(e, p, c))
        });
        let past = laid_out(&sequence, layout, rows, at - 1).upload(b);
        let new = Numbers::filled([batch, n, width], |e, i, c| sequence.at(e, at + i, c));
        let (new_there, view) = (new.upload(b), View { rows: columns(&past, 0, width), layout });
        let got = b.unroll(&call(b, batch, n, at, 0), view, keep, columns(&new_there, 0, width)).unwrap();
        assert_moved(b, &got, &want, &format!("unroll {width} {rows} {keep} {at} {layout:?}"));
    }
}

fn gather_batch<B: Backend>(b: &B) {
    for (width, order) in [(5, vec![2, 0, 0]), (8, vec![1]), (130, vec![0, 1, 2, 2, 1])] {
        let x = Numbers::random([3, 2, width], 30);
        let want = Numbers::filled([order.len(), 2, width], |e, r, c| x.at(order[e], r, c));
        assert_moved(b, &b.gather_batch(&x.upload(b), &order).unwrap(), &want, "gather_batch");
    }
}
