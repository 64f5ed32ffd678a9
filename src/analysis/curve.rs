//! Curves over positions: cumulative time, slopes, floors.

use crate::case::Case;
use crate::cost::Step;
use crate::record::Environment;

/// The time in which the machine could at best have read what the step must read.
pub fn floor_ns(environment: &Environment, case: &Case) -> Option<f64> {
    let bytes = Step::floor_of(case)?;
    let ceiling = environment.read_ceiling(case)?;
    Some(bytes as f64 * 1e9 / ceiling as f64)
}

/// Time of the first t tokens, at every position measured. A step that was not measured is taken
/// from the straight line between its neighbours, or from the first one measured.
pub fn cumulative(steps: &[(usize, f64)]) -> Vec<(usize, f64)> {
    let Some(&(mut before, mut step)) = steps.first() else { return Vec::new() };
    let mut total = before as f64 * step;
    let mut all = vec![(before, total)];
    for &(position, next) in &steps[1..] {
        let gap = (position - before) as f64;
        // Σ of step + (next - step)·i/gap for i = 1 .. gap
        total += gap * step + (next - step) * (gap + 1.0) / 2.0;
        all.push((position, total));
        (before, step) = (position, next);
    }
    all
}

/// `y = factor · x^slope`, by least squares on logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Exponent of x: 1 is linear.
    pub slope: f64,
    /// y at x = 1.
    pub factor: f64,
    /// Root mean square of ln(y / fit): 0.05 is five per cent.
    pub residual: f64,
    /// Points that were fitted.
    pub n: usize,
}

/// `None` for fewer than three points; points that are not positive are left out.
pub fn loglog_fit(points: &[(f64, f64)]) -> Option<Fit> {
    let logs: Vec<(f64, f64)> =
        points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len();
    if n < 3 {
        return None;
    }
    let mean = |f: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(f).sum::<f64>() / n as f64;
    let (mean_x, mean_y) = (mean(&|p| p.0), mean(&|p| p.1));
    let slope = mean(&|p| (p.0 - mean_x) * (p.1 - mean_y)) / mean(&|p| (p.0 - mean_x).powi(2));
    let residual = mean(&|p| (p.1 - mean_y - slope * (p.0 - mean_x)).powi(2)).sqrt();
    let fit = Fit { slope, factor: (mean_y - slope * mean_x).exp(), residual, n };
    fit.slope.is_finite().then_some(fit)
}

/// Points at the end of a curve, from a quarter of its last position on: where its slope is
/// that of the strategy and not that of the fixed costs.
pub fn tail(points: &[(usize, f64)]) -> Vec<(f64, f64)> {
    let from = points.last().map_or(0, |(t, _)| t / 4);
    points.iter().filter(|(t, _)| *t >= from).map(|&(t, y)| (t as f64, y)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_with_a_straight_line() {
        let every: Vec<_> = (1..=16).map(|t| (t, 5.0 + 2.0 * t as f64)).collect();
        let some: Vec<_> = every.iter().copied().filter(|(t, _)| [1, 4, 9, 16].contains(t)).collect();
        let exact = cumulative(&every);
        for (t, total) in cumulative(&some) {
            assert!((total - exact[t - 1].1).abs() < 1e-9);
        }
        assert_eq!(cumulative(&[(8, 2.0)]), [(8, 16.0)]);
        assert!(cumulative(&[]).is_empty());
    }

    #[test]
    fn a_power_law_is_found_again() {
        let points: Vec<_> = (1..50).map(|x| (f64::from(x), 3.0 * f64::from(x).powf(2.5))).collect();
        let fit = loglog_fit(&points).unwrap();
        assert!((fit.slope - 2.5).abs() < 1e-9 && (fit.factor - 3.0).abs() < 1e-9 && fit.residual < 1e-9);
        assert_eq!(loglog_fit(&points[..2]), None);
        assert_eq!(loglog_fit(&[(2.0, 1.0); 5]), None);
    }
}
