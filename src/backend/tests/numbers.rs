//! The oracle's tensor, how it gets to a machine, and how what comes back is compared with it.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::backend::{Backend, Call, Columns, Layout, Shape};

/// `[batch, rows, width]` in f64, the oracle's tensor.
#[derive(Clone)]
pub struct Numbers {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Numbers {
    /// Between -1 and 1, away from zero; every ninth a hundred times that.
    pub fn random(shape: Shape, seed: u64) -> Numbers {
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
    pub fn moderate(shape: Shape, seed: u64) -> Numbers {
        let mut numbers = Numbers::random(shape, seed);
        numbers.data.iter_mut().filter(|x| x.abs() > 1.0).for_each(|x| *x = f64::from((*x / 20.0) as f32));
        numbers
    }

    pub fn filled(shape: Shape, with: impl Fn(usize, usize, usize) -> f64) -> Numbers {
        let [batch, rows, width] = shape;
        let at = |i: usize| with(i / (rows * width), i / width % rows, i % width);
        Numbers { shape, data: (0..batch * rows * width).map(at).collect() }
    }

    pub fn at(&self, entry: usize, row: usize, column: usize) -> f64 {
        let [_, rows, width] = self.shape;
        self.data[(entry * rows + row) * width + column]
    }

    pub fn upload<B: Backend>(&self, b: &B) -> B::Tensor {
        let data: Vec<f32> = self.data.iter().map(|&x| x as f32).collect();
        b.upload(self.shape, &data).unwrap()
    }

    /// Where a backend may write.
    pub fn keep<B: Backend>(&self, b: &B) -> B::Tensor {
        b.duplicate(&self.upload(b)).unwrap()
    }

    /// Columns that begin inside of a wider tensor, as the parts of a fused product do.
    pub fn inside_of_wider<B: Backend>(&self, b: &B, from: usize, behind: usize) -> B::Tensor {
        let [batch, rows, width] = self.shape;
        let other = Numbers::random([batch, rows, from + width + behind], 99);
        Numbers::filled(other.shape, |e, r, c| match c.checked_sub(from).filter(|&c| c < width) {
            Some(c) => self.at(e, r, c),
            None => other.at(e, r, c),
        })
        .upload(b)
    }
}

/// What the layouts hold of a sequence of positions: rows, and the position in each; poison where there is
/// none, or none yet.
pub fn laid_out(sequence: &Numbers, layout: Layout, rows: usize, newest: usize, poison: f64) -> Numbers {
    let [batch, _, width] = sequence.shape;
    let position = |r: usize| match layout {
        Layout::Tail => (newest + 1 + r).checked_sub(rows),
        Layout::Bounded | Layout::Masked => Some(r),
        Layout::Ring => (0..=newest).rev().find(|p| p % rows == r),
    };
    Numbers::filled([batch, rows, width], |e, r, c| match position(r) {
        Some(p) if p <= newest => sequence.at(e, p, c),
        _ => poison,
    })
}

/// The same with poison in the rows before each entry's start: what is there cannot matter.
pub fn padded(sequence: &Numbers, left_padding: &[usize], poison: f64) -> Numbers {
    Numbers::filled(sequence.shape, |e, p, c| if p < left_padding[e] { poison } else { sequence.at(e, p, c) })
}

pub fn columns<T>(tensor: &T, from: usize, width: usize) -> Columns<'_, T> {
    Columns { tensor, from, width }
}

/// n new rows of each entry, the first at index `at`, without padding; the logits wanted of row `last`.
pub fn call<B: Backend>(b: &B, batch: usize, n: usize, at: usize, last: usize) -> Call<B::Input> {
    staged(b, &vec![0; batch], n, at, last)
}

/// The same with padding before the starts of the entries.
pub fn call_from<B: Backend>(b: &B, left_padding: &[usize], n: usize, at: usize) -> Call<B::Input> {
    staged(b, left_padding, n, at, 0)
}

fn staged<B: Backend>(b: &B, left_padding: &[usize], n: usize, at: usize, last: usize) -> Call<B::Input> {
    let (batch, left_padding) = (left_padding.len(), left_padding.to_vec());
    let tokens = (0..batch * n).map(|i| (i * 7 % 11) as u32).collect();
    let mut call = Call { last, left_padding, ..Call::new(tokens, batch, at) };
    b.stage(&mut call).unwrap();
    call
}

/// Sums of f32 in any order are this close, relative to the largest.
const TOLERANCE: f64 = 2e-5;

pub fn assert_close<B: Backend>(b: &B, got: &B::Tensor, want: &Numbers, what: &str) {
    assert_within(b, got, want, TOLERANCE, what);
}

/// Numbers that were only moved are the same to the bit.
pub fn assert_moved<B: Backend>(b: &B, got: &B::Tensor, want: &Numbers, what: &str) {
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

/// `2/√π ∫ exp(-t²)`, from 0 to x, by a series without a minus (Abramowitz and Stegun 1964, 7.1.6).
pub fn erf(x: f64) -> f64 {
    let (mut sum, mut term) = (0.0, x);
    for n in 1..400 {
        sum += term;
        term *= 2.0 * x * x / (2 * n + 1) as f64;
    }
    if x.abs() < 6.0 {
        2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
    } else {
        x.signum()
    }
}
