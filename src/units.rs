//! Numbers for people. Files never hold them.

use std::fmt::Display;

use crate::analysis::{Estimate, Figure};
use crate::record::Unit;

/// Which units a number is shown in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// In ns, µs, ms or s.
    Nanoseconds,
    /// In B, KiB, MiB or GiB.
    Bytes,
    /// Positions and tokens.
    Tokens,
    /// A multiple of something.
    Multiple,
    /// A rate.
    TokensPerSecond,
}

const TIME: [(&str, f64); 4] = [("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)];
const BYTES: [(&str, f64); 4] = [("GiB", 1073741824.0), ("MiB", 1048576.0), ("KiB", 1024.0), ("B", 1.0)];
const THOUSANDS: [(&str, f64); 1] = [("", 1.0)];
const TOKENS_PER_SECOND: [(&str, f64); 1] = [("tokens/s", 1.0)];
const TIMES: [(&str, f64); 1] = [("×", 1.0)];

impl Quantity {
    /// What a metric of this unit is shown in.
    pub fn of(unit: Unit) -> Quantity {
        match unit {
            Unit::Nanoseconds => Quantity::Nanoseconds,
            Unit::Bytes => Quantity::Bytes,
            Unit::Flops | Unit::Count => Quantity::Tokens,
        }
    }

    /// What a figure is shown in.
    pub fn of_figure(figure: Figure) -> Quantity {
        match figure {
            Figure::Metric(metric) => Quantity::of(metric.unit()),
            Figure::Ttft => Quantity::Nanoseconds,
            Figure::DecodeTokensPerSecond | Figure::PrefillTokensPerSecond => Quantity::TokensPerSecond,
        }
    }

    /// The units by name, each with its size, the largest first.
    pub fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Quantity::Nanoseconds => &TIME,
            Quantity::Bytes => &BYTES,
            Quantity::Tokens => &THOUSANDS,
            Quantity::Multiple => &TIMES,
            Quantity::TokensPerSecond => &TOKENS_PER_SECOND,
        }
    }

    fn unit(self, value: f64) -> (&'static str, f64) {
        let units = self.units();
        let fits = units.iter().find(|(_, size)| value.abs() >= size * 0.9995);
        *fits.unwrap_or(&units[units.len() - 1])
    }

    /// Three digits that count: `12.3 µs`, `512 KiB`, `1.02 ×`.
    pub fn show(self, value: f64) -> String {
        let (unit, size) = self.unit(value);
        format!("{} {unit}", digits(value / size)).trim_end().to_string()
    }

    /// A figure and its interval in one unit: `11.2 [9.80, 11.5] ms`.
    pub fn show_estimate(self, Estimate { value, lo, hi, .. }: Estimate) -> String {
        self.show_interval(value, lo, hi)
    }

    /// An interval alone, in the unit of the value.
    pub(crate) fn show_interval(self, value: f64, lo: f64, hi: f64) -> String {
        let (unit, size) = self.unit(value);
        let [value, lo, hi] = [value, lo, hi].map(|x| digits(x / size));
        format!("{value} [{lo}, {hi}] {unit}").trim_end().to_string()
    }

    /// A round number as a tick says it: `500 µs`, `2 ms`, `1.5 KiB`.
    pub(crate) fn tick(self, value: f64) -> String {
        if value == 0.0 {
            return "0".into();
        }
        let (unit, size) = self.unit(value);
        let number = format!("{:.6}", value / size);
        let number = number.trim_end_matches('0').trim_end_matches('.');
        match unit {
            "×" => format!("{number}×"),
            _ => format!("{number} {unit}").trim_end().to_string(),
        }
    }
}

fn digits(x: f64) -> String {
    let decimals = match x.abs() {
        x if x < 0.9995e-2 && x > 0.0 => return format!("{x:.1e}"),
        x if x < 0.09995 => 4,
        x if x < 0.9995 => 3,
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{x:.decimals$}");
    match text.contains('.') && x.fract() == 0.0 {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// `102, 128`; an end that is absent lies outside of what was measured.
pub fn interval<T: Display>(lo: Option<T>, hi: Option<T>) -> String {
    match (lo, hi) {
        (Some(lo), Some(hi)) => format!("{lo}, {hi}"),
        (Some(lo), None) => format!("not before {lo}"),
        (None, Some(hi)) => format!("at the latest {hi}"),
        (None, None) => "anywhere".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        let shown = [812.0, 999.6, 12_340.0, 1e6, 3.456e9].map(|x| Quantity::Nanoseconds.show(x));
        assert_eq!(shown, ["812 ns", "1.00 µs", "12.3 µs", "1 ms", "3.46 s"]);
        assert_eq!(Quantity::Tokens.show(0.01234), "0.0123");
        assert_eq!(Quantity::Bytes.show(512.0 * 1024.0), "512 KiB");
        let estimate = Estimate { value: 1020.0, lo: 900.0, hi: 1100.0, n: 9, confidence: 0.95 };
        assert_eq!(Quantity::Nanoseconds.show_estimate(estimate), "1.02 [0.900, 1.10] µs");
        assert_eq!(Quantity::Multiple.show(1.0234), "1.02 ×");
        assert_eq!(Quantity::Bytes.show(0.0), "0 B");
    }

    #[test]
    fn ticks_are_as_short_as_they_can_be() {
        let shown = [200.0, 500_000.0, 2.5e6, 1e9].map(|x| Quantity::Nanoseconds.tick(x));
        assert_eq!(shown, ["200 ns", "500 µs", "2.5 ms", "1 s"]);
        assert_eq!(Quantity::Multiple.tick(1.5), "1.5×");
        assert_eq!(Quantity::Tokens.tick(1024.0), "1024");
    }
}
