//! What `--fail-if-slower` takes and says, of runs and of builds.

use std::collections::BTreeSet;

use decode_bench::analysis::{Comparison, Verdict};
use decode_bench::case::Case;

/// A limit, as a part: `5%` is 0.05.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let number = number.filter(|number| number.is_finite() && *number >= 0.0);
    number.map(|number| number / 100.0).ok_or_else(|| "a percentage is wanted, as 5%".into())
}

/// Of so many compared cases those that are slower with their whole interval beyond the limit, in words; `None`: none is.
pub fn slower(
    compared: impl ExactSizeIterator<Item = (Case, Option<Comparison>)>,
    limit: f64,
) -> Option<String> {
    let all = compared.len();
    let beyond = compared.filter_map(|(case, comparison)| {
        let c = comparison.filter(|c| c.verdict == Verdict::Slower && c.ratio.lo > 1.0 + limit)?;
        Some(format!("{case} by {:.3} [{:.3}, {:.3}]", c.ratio.value, c.ratio.lo, c.ratio.hi))
    });
    let named: Vec<String> = beyond.collect::<BTreeSet<_>>().into_iter().collect();
    let (n, percent) = (named.len(), limit * 100.0);
    (n > 0).then(|| format!("{n} of {all} are slower by more than {percent} %: {}", named.join("; ")))
}
