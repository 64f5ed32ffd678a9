//! What is printed of a case that criterion measured.

use super::Output;
use crate::analysis::median_of;
use crate::units::Quantity;

/// Of criterion's report, the interval; and the change with its verdict, if that is asked for.
pub fn brief(said: &str, output: Output) -> String {
    let change = output == Output::Brief { change: true };
    let lines: Vec<&str> = said.lines().collect();
    let find = |word: &str| lines.iter().position(|line| line.contains(word));
    let from = |line: &str, word: &str| line[line.find(word).unwrap_or(0)..].trim().to_string();
    let mut parts: Vec<String> = find("time: ").map(|at| from(lines[at], "time: ")).into_iter().collect();
    if let Some(at) = find("change: ").filter(|_| change) {
        parts.push(from(lines[at], "change: "));
        parts.extend(lines.get(at + 1).map(|verdict| verdict.trim().to_string()));
    }
    parts.join("  ")
}

/// Median and standard deviation of samples in nanoseconds, as the crate `bencher` prints them.
pub fn bencher(samples: &[f64]) -> String {
    let [_, deviation, median, _] = statistics(samples).map(|ns| grouped(ns as u64));
    format!("bench: {median:>11} ns/iter (+/- {deviation})")
}

/// What criterion adds to its report when it is asked for more: estimates without their intervals.
pub fn spread(samples: &[f64]) -> String {
    let names = ["mean", "std. dev.", "median", "med. abs. dev."];
    let shown = names.iter().zip(statistics(samples));
    let shown: Vec<String> =
        shown.map(|(name, ns)| format!("{name} {}", Quantity::Nanoseconds.show(ns))).collect();
    shown.join("  ")
}

/// Mean, standard deviation, median, and the median's deviation scaled to a standard deviation.
fn statistics(samples: &[f64]) -> [f64; 4] {
    let (count, median) = (samples.len() as f64, median_of(samples).unwrap_or(0.0));
    let mean = samples.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    let apart: Vec<f64> = samples.iter().map(|x| (x - median).abs()).collect();
    let scaled = 1.4826 * median_of(&apart).unwrap_or(0.0); // exact where the samples are normal
    [mean, (squares / (count - 1.0).max(1.0)).sqrt(), median, scaled]
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits: Vec<char> = number.to_string().chars().collect();
    let groups: Vec<String> = digits.rchunks(3).rev().map(|group| group.iter().collect()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
Benchmarking transformer-tiny/concat/cpu/b1/t16
transformer-tiny/concat/cpu/b1/t16
                        time:   [11.0 µs 12.0 µs 13.0 µs]
                 change: [-1.0% +0.5% +2.0%] (p = 0.40 > 0.05)
                        No change in performance detected.
Found 1 outliers among 10 measurements (10.00%)
";

    #[test]
    fn a_case_is_one_line() {
        let interval = "time:   [11.0 µs 12.0 µs 13.0 µs]";
        assert_eq!(brief(SAID, Output::Brief { change: false }), interval);
        let all = format!(
            "{interval}  change: [-1.0% +0.5% +2.0%] (p = 0.40 > 0.05)  No change in performance detected."
        );
        assert_eq!(brief(SAID, Output::Brief { change: true }), all);
        assert_eq!(brief("", Output::Brief { change: true }), "");
    }

    #[test]
    fn samples_are_summed_up() {
        let samples = [1_000_000.0, 1_234_000.0, 1_400_000.0];
        assert_eq!(bencher(&samples), "bench:   1,234,000 ns/iter (+/- 200,961)");
        assert_eq!(spread(&samples), "mean 1.21 ms  std. dev. 201 µs  median 1.23 ms  med. abs. dev. 246 µs");
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
