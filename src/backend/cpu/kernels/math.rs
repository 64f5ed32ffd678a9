//! The elementary functions, plain code that the compiler turns into vectors where it is inlined.
//!
//! No fused multiply-add: on a machine without one it would be a call.

/// eˣ, relative error at most 2e-7; infinity beyond the range of f32, NaN for NaN, and 0 where the
/// result would be subnormal: arithmetic on such numbers takes a hundred times as long, and the rows
/// that a mask deselects would all be such.
///
/// x = n·ln 2 + r, eˣ = 2ⁿ·eʳ, with Cephes' polynomial for eʳ. The conversion to an integer is the
/// addition of 1.5·2²³, and 2ⁿ is two factors so that the upper end of the range is reached.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LOWEST: f32 = -87.33;
    let vanishes = x < LOWEST;
    // Not `clamp`: comparisons in this order are one instruction each and keep NaN.
    let x = if x < LOWEST { LOWEST } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let exp_r = p * (r * r) + r + 1.0;
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let result = exp_r * power_of_two(half) * power_of_two(n.wrapping_sub(half));
    if vanishes {
        0.0
    } else {
        result
    }
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `x/2·(1 + tanh u)` with `u = √(2/π)·(x + 0.044715·x³)`, as the equal `x·sigmoid(2u)`.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const TWICE_ROOT: f32 = 1.595_769;
    x / (1.0 + exp(-(TWICE_ROOT * (x + 0.044_715 * (x * x * x)))))
}

/// `x/2·(1 + erf(x/√2))`, with the fifth-order form of 1 - erf in Abramowitz and Stegun (1964), 7.1.26, which is
/// within 1.5e-7.
#[inline(always)]
pub fn gelu_erf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let terms =
        t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let beyond = 0.5 * terms * exp(-(z * z));
    x * if x < 0.0 { beyond } else { 1.0 - beyond }
}

#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::tests::numbers::erf;

    fn sweep(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |i| from + (to - from) * i as f32 / 200_000.0)
    }

    #[test]
    fn exp_is_accurate_where_f32_is_normal() {
        for x in sweep(-87.3, 88.72) {
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2e-7, "exp({x}): relative error {error:e}");
        }
    }

    #[test]
    fn exp_has_the_right_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(1e30), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(-87.34), 0.0);
    }

    #[test]
    fn gelu_and_sigmoid_are_accurate() {
        for x in sweep(-30.0, 30.0) {
            let y = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (y + 0.044715 * y.powi(3));
            let errors = [
                f64::from(gelu(x)) - 0.5 * y * (1.0 + u.tanh()),
                f64::from(gelu_erf(x)) - 0.5 * y * (1.0 + erf(y / 2f64.sqrt())),
                f64::from(sigmoid(x)) - 1.0 / (1.0 + (-y).exp()),
            ];
            assert!(errors.iter().all(|error| error.abs() < 2.5e-7 * (1.0 + y.abs())), "{x}: {errors:?}");
        }
    }

    #[test]
    fn gelu_and_sigmoid_have_the_right_ends() {
        for large in [100.0, 1e6, 1e30] {
            assert_eq!((gelu(large), gelu(-large)), (large, 0.0));
            assert_eq!((gelu_erf(large), gelu_erf(-large)), (large, 0.0));
            assert_eq!((sigmoid(large), sigmoid(-large)), (1.0, 0.0));
        }
        assert!(gelu(f32::NAN).is_nan() && gelu_erf(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }
}
