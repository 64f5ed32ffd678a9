//! What tells positions apart, as tables that are made once.

use std::f64::consts::TAU;

use crate::backend::cpu::collect;
use crate::error::Result;

/// Two ways to write the same idea (Vaswani et al. 2017): sines in the first half of a row and cosines in
/// the second, whose wavelengths grow geometrically to `2π·10000` or nearly so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sinusoid {
    /// Frequencies `10000^(-2i/d)`: the paper's, and Marian's.
    Paper,
    /// `10000^(-i/(d/2-1))`: tensor2tensor's, fairseq's and Flax's.
    Tensor2Tensor,
}

/// `[positions, width]`: row p is what is added to an embedding at position p.
pub fn sinusoid(form: Sinusoid, positions: usize, width: usize) -> Result<Vec<f32>> {
    let half = width / 2;
    let steps = match form {
        Sinusoid::Paper => width as f64 / 2.0,
        Sinusoid::Tensor2Tensor => half.saturating_sub(1).max(1) as f64,
    };
    let angle = |position: usize, i: usize| position as f64 * 10_000f64.powf(-(i as f64) / steps);
    let number = |position: usize, column: usize| match column {
        sine if sine < half => angle(position, sine).sin(),
        cosine => angle(position, (cosine - half).min(half.saturating_sub(1))).cos(),
    };
    let places = (0..positions).flat_map(|p| (0..width).map(move |c| (p, c)));
    collect(positions * width, places.map(|(p, c)| number(p, c) as f32))
}

/// By what rotary positions (Su et al. 2021) turn each pair of a head's `size` numbers with every position:
/// `theta^(-2j/size)` for pair j.
pub fn frequencies(theta: f64, size: usize) -> Vec<f64> {
    (0..size / 2).map(|j| theta.powf(-2.0 * j as f64 / size as f64)).collect()
}

/// How a model's rotary frequencies are lowered for sequences longer than those it was first trained on, by the
/// names that transformers gives to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Default,
    /// All by one factor (Chen et al. 2023).
    Linear {
        /// They are divided by it.
        factor: f64,
    },
    /// Llama 3.1's: waves that go round less than `low` times in the original positions are divided by the factor, those
    /// that go round more than `high` times stay, and what is between is mixed from the two.
    Llama3 {
        /// As in `Linear`.
        factor: f64,
        /// Rounds, `low_freq_factor`.
        low: f64,
        /// Rounds, `high_freq_factor`; more than `low`.
        high: f64,
        /// `original_max_position_embeddings`.
        original: usize,
    },
    /// YaRN's (Peng et al. 2023): pairs whose waves go round less than `slow` times in the original positions are divided
    /// by the factor, those that go round more than `fast` times stay, and those between them are mixed by their place.
    Yarn {
        /// As in `Linear`.
        factor: f64,
        /// Rounds, `beta_fast`.
        fast: f64,
        /// Rounds, `beta_slow`.
        slow: f64,
        /// `original_max_position_embeddings`.
        original: usize,
        /// Whether the first and the last pair between the two are whole numbers.
        truncate: bool,
        /// What turned queries and keys are multiplied with, `attention_factor`.
        magnitude: f64,
    },
}

impl RopeScaling {
    /// What becomes of [`frequencies`].
    pub fn frequencies(self, theta: f64, size: usize) -> Vec<f64> {
        let mut found = frequencies(theta, size);
        match self {
            RopeScaling::Default => {}
            RopeScaling::Linear { factor } => found.iter_mut().for_each(|frequency| *frequency /= factor),
            RopeScaling::Llama3 { factor, low, high, original } => {
                for frequency in &mut found {
                    let rounds = original as f64 * *frequency / TAU;
                    *frequency = mixed(*frequency, factor, (rounds - low) / (high - low));
                }
            }
            RopeScaling::Yarn { factor, fast, slow, original, truncate, .. } => {
                let place =
                    |rounds: f64| size as f64 * (original as f64 / (rounds * TAU)).ln() / (2.0 * theta.ln());
                let (first, last) = match truncate {
                    true => (place(fast).floor(), place(slow).ceil()),
                    false => (place(fast), place(slow)),
                };
                let (first, last) = (first.max(0.0), last.min(size as f64 - 1.0));
                let between = if first == last { 0.001 } else { last - first };
                for (j, frequency) in found.iter_mut().enumerate() {
                    *frequency = mixed(*frequency, factor, 1.0 - (j as f64 - first) / between);
                }
            }
        }
        found
    }

    /// What turned queries and keys are multiplied with.
    pub fn magnitude(self) -> f64 {
        match self {
            RopeScaling::Yarn { magnitude, .. } => magnitude,
            RopeScaling::Default | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
        }
    }
}

/// A share of a frequency, between nothing and all, and the rest divided by the factor.
fn mixed(frequency: f64, factor: f64, share: f64) -> f64 {
    let share = share.clamp(0.0, 1.0);
    share * frequency + (1.0 - share) * frequency / factor
}

/// `[positions, 2 · frequencies]`: the cosines of row p's angles, p times each frequency, and then their sines, as
/// [`crate::backend::Backend::rope`] reads them; all of them times `magnitude`.
pub fn turns(frequencies: &[f64], magnitude: f64, positions: usize) -> Result<Vec<f32>> {
    let half = frequencies.len();
    let number = |position: usize, column: usize| match column {
        j if j < half => (position as f64 * frequencies[j]).cos(),
        j => (position as f64 * frequencies[j - half]).sin(),
    };
    let places = (0..positions).flat_map(|p| (0..2 * half).map(move |c| (p, c)));
    collect(positions * 2 * half, places.map(|(p, c)| (magnitude * number(p, c)) as f32))
}

/// The same with frequencies that are not scaled, `[positions, size]`.
pub fn rotary(theta: f64, positions: usize, size: usize) -> Result<Vec<f32>> {
    turns(&frequencies(theta, size), 1.0, positions)
}

/// Attention with linear biases (Press et al. 2022): by how much the scores of each head fall with every
/// row of distance, `2^(-8(h+1)/heads)` for a power of two of heads.
pub fn alibi(heads: usize) -> Vec<f32> {
    (0..heads).map(|head| 2f32.powf(-8.0 * (head + 1) as f32 / heads as f32)).collect()
}
