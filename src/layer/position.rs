//! What tells positions apart, as tables that are made once.

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

/// Rotary positions (Su et al. 2021), `[positions, size]`: the cosines of row p's angles `p·theta^(-2j/size)`
/// and then their sines, as [`crate::backend::Backend::rope`] reads them.
pub fn rotary(theta: f64, positions: usize, size: usize) -> Result<Vec<f32>> {
    let half = size / 2;
    let angle = |position: usize, j: usize| position as f64 * theta.powf(-2.0 * j as f64 / size as f64);
    let number = |position: usize, column: usize| match column {
        j if j < half => angle(position, j).cos(),
        j => angle(position, j - half).sin(),
    };
    let places = (0..positions).flat_map(|p| (0..size).map(move |c| (p, c)));
    collect(positions * size, places.map(|(p, c)| number(p, c) as f32))
}

/// Attention with linear biases (Press et al. 2022): by how much the scores of each head fall with every
/// row of distance, `2^(-8(h+1)/heads)` for a power of two of heads.
pub fn alibi(heads: usize) -> Vec<f32> {
    (0..heads).map(|head| 2f32.powf(-8.0 * (head + 1) as f32 / heads as f32)).collect()
}
