//! Axes: limits from the data, ticks where people expect them.

use crate::units::Quantity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

#[derive(Clone, Debug)]
pub struct Axis {
    pub quantity: Quantity,
    pub scale: Scale,
    lo: f64,
    hi: f64,
    /// A logarithmic axis gives zero a place of its own, below a break.
    zero: bool,
    pub ticks: Vec<f64>,
    /// Ticks without a label.
    pub minor: Vec<f64>,
}

/// Share of a logarithmic axis below the break.
const ZERO_SHARE: f64 = 0.09;

impl Axis {
    /// Logarithmic if the values span a factor of three or more, which logarithmic ticks need.
    pub fn fit(quantity: Quantity, values: impl Iterator<Item = f64>) -> Axis {
        let values: Vec<f64> = values.filter(|v| v.is_finite()).collect();
        let positive = values.iter().copied().filter(|v| *v > 0.0);
        let (lo, hi) = positive.fold((f64::INFINITY, 0.0f64), |(lo, hi), v| (lo.min(v), hi.max(v)));
        if hi / lo >= 3.0 {
            return Axis::log(quantity, lo, hi, values.contains(&0.0));
        }
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if lowest > highest {
            return Axis::linear(quantity, 0.0, 1.0);
        }
        Axis::linear(quantity, lowest, highest)
    }

    fn log(quantity: Quantity, lo: f64, hi: f64, zero: bool) -> Axis {
        let pad = (hi / lo).powf(0.04);
        let (lo, hi) = (lo / pad, hi * pad);
        let ladders = ladders(quantity).iter().map(|steps| log_ticks(*steps, lo, hi));
        let all: Vec<Vec<f64>> = ladders.collect();
        let ticks = all.iter().find(|ticks| ticks.len() <= most_ticks(quantity)).cloned().unwrap_or_default();
        let minor = match quantity {
            Quantity::Nanoseconds | Quantity::Multiple | Quantity::TokensPerSecond => {
                log_ticks(Ladder::Digits(&NINE), lo, hi)
            }
            Quantity::Bytes | Quantity::Tokens => log_ticks(Ladder::Power(1), lo, hi),
        };
        let minor = if minor.len() > 60 { Vec::new() } else { minor };
        Axis { quantity, scale: Scale::Log, lo, hi, zero, ticks, minor }
    }

    /// From a little below to a little above; from exactly zero where the values begin there.
    pub fn linear(quantity: Quantity, lowest: f64, highest: f64) -> Axis {
        let span = if highest > lowest { highest - lowest } else { highest.abs().max(1.0) * 0.2 };
        let lo = if lowest == 0.0 { 0.0 } else { lowest - 0.06 * span };
        let hi = highest + 0.06 * span;
        let step = round_step(quantity, (hi - lo) / 7.0);
        let first = (lo / step).ceil() as i64;
        let ticks = (first..).map(|i| i as f64 * step).take_while(|t| *t <= hi).collect();
        Axis { quantity, scale: Scale::Linear, lo, hi, zero: false, ticks, minor: Vec::new() }
    }

    /// 0 at the lower end of the axis, 1 at the upper.
    pub fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.lo) / (self.hi - self.lo),
            Scale::Log => (value.max(self.lo) / self.lo).ln() / (self.hi / self.lo).ln(),
        };
        match (self.zero, value == 0.0) {
            (true, true) => ZERO_SHARE * 0.25,
            (true, false) => ZERO_SHARE + (1.0 - ZERO_SHARE) * share,
            (false, _) => share,
        }
    }

    /// Ticks with their labels, zero's included.
    pub fn labels(&self) -> Vec<(f64, String)> {
        let zero = self.zero.then_some(0.0);
        zero.into_iter().chain(self.ticks.iter().copied()).map(|t| (t, self.quantity.tick(t))).collect()
    }

    /// Where the break above zero is.
    pub fn broken_at(&self) -> Option<f64> {
        self.zero.then_some(ZERO_SHARE * 0.7)
    }
}

/// Rungs of a logarithmic axis.
#[derive(Clone, Copy)]
enum Ladder {
    /// These digits in every decade.
    Digits(&'static [f64]),
    /// Every n-th decade.
    Decades(i32),
    /// Every power of 2^n.
    Power(i32),
}

const NINE: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

/// Labels that fit beside each other, or above each other.
fn most_ticks(quantity: Quantity) -> usize {
    if quantity == Quantity::Tokens {
        12
    } else {
        8
    }
}

/// The finest first.
fn ladders(quantity: Quantity) -> &'static [Ladder] {
    use Ladder::*;
    match quantity {
        Quantity::Nanoseconds | Quantity::Multiple | Quantity::TokensPerSecond => &[
            Digits(&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]),
            Digits(&[1.0, 2.0, 3.0, 5.0, 7.0]),
            Digits(&[1.0, 2.0, 5.0]),
            Digits(&[1.0, 3.0]),
            Decades(1),
            Decades(2),
            Decades(3),
        ],
        Quantity::Bytes | Quantity::Tokens => &[Power(1), Power(2), Power(3), Power(5), Power(10)],
    }
}

fn log_ticks(ladder: Ladder, lo: f64, hi: f64) -> Vec<f64> {
    let within = |ticks: Vec<f64>| -> Vec<f64> {
        ticks.into_iter().filter(|t| (lo * (1.0 - 1e-9)..=hi * (1.0 + 1e-9)).contains(t)).collect()
    };
    let decades = lo.log10().floor() as i32..=hi.log10().ceil() as i32;
    let octaves = lo.log2().floor() as i32..=hi.log2().ceil() as i32;
    match ladder {
        Ladder::Digits(digits) => {
            within(decades.flat_map(|e| digits.iter().map(move |d| d * 10f64.powi(e))).collect())
        }
        Ladder::Decades(n) => {
            within(decades.filter(|e| e.rem_euclid(n) == 0).map(|e| 10f64.powi(e)).collect())
        }
        Ladder::Power(n) => within(octaves.filter(|e| e.rem_euclid(n) == 0).map(|e| 2f64.powi(e)).collect()),
    }
}

/// The next larger step that counts well: 1, 2 or 5 times a power of ten, or a power of two for bytes.
fn round_step(quantity: Quantity, at_least: f64) -> f64 {
    if quantity == Quantity::Bytes {
        return 2f64.powf(at_least.log2().ceil()).max(1.0);
    }
    let decade = 10f64.powf(at_least.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * decade >= at_least * (1.0 - 1e-9));
    digit.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(quantity: Quantity, values: &[f64]) -> Vec<String> {
        Axis::fit(quantity, values.iter().copied()).labels().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_in_readable_units() {
        use Quantity::*;
        assert_eq!(
            labels(Nanoseconds, &[3e5, 6e6]),
            ["300 µs", "500 µs", "700 µs", "1 ms", "2 ms", "3 ms", "5 ms"]
        );
        assert_eq!(
            labels(Nanoseconds, &[1e3, 9e8]),
            ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"]
        );
        assert_eq!(
            labels(Nanoseconds, &[1e6, 2e6]),
            ["1 ms", "1.2 ms", "1.4 ms", "1.6 ms", "1.8 ms", "2 ms"]
        );
        assert_eq!(
            labels(Bytes, &[0.0, 4096.0, 1048576.0]),
            ["0", "4 KiB", "16 KiB", "64 KiB", "256 KiB", "1 MiB"]
        );
        assert_eq!(
            labels(Tokens, &[1.0, 512.0]),
            ["1", "2", "4", "8", "16", "32", "64", "128", "256", "512"]
        );
        assert_eq!(labels(Multiple, &[0.9, 5.0]).last().unwrap(), "5×");
    }

    #[test]
    fn everything_given_is_inside() {
        for values in [vec![5.0], vec![0.0], vec![2.0, 2.1], vec![0.0, 1.0, 1e9], vec![1e-3, 7.0]] {
            let axis = Axis::fit(Quantity::Nanoseconds, values.iter().copied());
            assert!(values.iter().all(|v| (0.0..=1.0).contains(&axis.place(*v))), "{values:?} {axis:?}");
        }
        let broken = Axis::fit(Quantity::Bytes, [0.0, 10.0, 100.0].into_iter());
        assert!(
            broken.place(0.0) < broken.broken_at().unwrap()
                && broken.broken_at().unwrap() < broken.place(10.0)
        );
    }
}
