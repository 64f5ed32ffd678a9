//! A figure, and a name for the rows behind it: the same rows have the same name wherever they are, and
//! a digit changed in one of them gives another.

use sha2::{Digest, Sha256};

use super::compare::{compare, compare_across, Comparison};
use super::estimate::Estimate;
use super::measurements::{rows, Series};
use crate::case::Case;
use crate::error::{Error, Result};
use crate::record::{Metric, Protocol, Run, Sample};

/// The figure of one case, and its ratio to another of the same run where that was asked for.
#[derive(Clone, Debug)]
pub struct Citation<'a> {
    /// That the rows are in.
    pub run: &'a Run,
    /// That the figure is of.
    pub case: Case,
    /// That the figure is of; its unit is the figure's.
    pub metric: Metric,
    /// One repetition, in the metric's unit.
    pub value: Estimate,
    /// Whether it is a step of whole decodes, and not one from a copy of a session.
    /// How the samples were taken.
    pub protocol: Protocol,
    /// [`rows_hash`] of the rows behind the figure: 16 hexadecimal digits.
    pub hash: String,
    /// What the figure is compared with.
    pub other: Option<Other>,
}

/// The other side of a ratio.
#[derive(Clone, Debug)]
pub struct Other {
    /// Of the same run.
    pub case: Case,
    /// The cited figure over this case's.
    pub comparison: Comparison,
    /// [`rows_hash`] of this case's rows.
    pub hash: String,
}

/// # Errors
/// When the run has no such case, naming the nearest; when no ratio can be formed.
pub fn citation<'a>(run: &'a Run, case: Case, metric: Metric, other: Option<Case>) -> Result<Citation<'a>> {
    let all = rows(run);
    let samples = |case: Case| {
        all.get(&(case, metric)).ok_or_else(|| {
            let known = all.keys().filter(|(_, m)| *m == metric).map(|(case, _)| case.to_string());
            Error::Unknown { kind: "case", name: case.to_string(), known: known.collect() }
        })
    };
    let mine = samples(case)?;
    let series = series(mine);
    let against = |case: Case| {
        let theirs = samples(case)?;
        let beside = case.under(mine[0].case.strategy) == mine[0].case;
        let comparison = match beside {
            true => compare(&series, &self::series(theirs)),
            false => compare_across(&series, &self::series(theirs)), // rounds of other cases are other moments
        };
        let comparison = comparison.filter(|_| series.protocol() == self::series(theirs).protocol());
        let comparison = comparison.ok_or_else(|| {
            Error::Input(format!("`{case}` gives no ratio: its samples are of another kind, or zero"))
        })?;
        Ok::<_, Error>(Other { case, comparison, hash: rows_hash(run, theirs) })
    };
    let value = series.median().ok_or_else(|| Error::file(&run.path, "no samples"))?;
    let (protocol, hash) = (series.protocol(), rows_hash(run, mine));
    Ok(Citation { run, case, metric, value, protocol, hash, other: other.map(against).transpose()? })
}

fn series(rows: &[&Sample]) -> Series {
    let value = |row: &&Sample| Some((row.round, row.per_iteration()?));
    Series { samples: rows.iter().filter_map(value).collect() }
}

/// The first 16 digits of the SHA-256 of what the figure rests on: on what machine, by which program, from
/// which weights, and the rows, in the order taken.
pub fn rows_hash(run: &Run, rows: &[&Sample]) -> String {
    let e = &run.environment;
    let gpu = e.gpu.as_ref().and_then(|gpu| gpu.name.clone());
    let origin = serde_json::json!([
        e.tool_version,
        e.git_revision,
        e.git_dirty,
        e.profile,
        e.cpu_model,
        e.physical_cores,
        e.threads,
        e.virtualised,
        e.emulated,
        gpu,
        e.seed,
        e.started_utc,
    ]);
    let mut hasher = Sha256::new();
    hasher.update(format!("{origin}\n"));
    for Sample { case, metric, round, iters, value, mark, .. } in rows {
        let (value, mark) = (value.unwrap_or_default(), mark.as_deref().unwrap_or_default());
        let round = round.code();
        hasher.update(format!("{case},{metric},{round},{iters},{value},{mark}\n"));
    }
    hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::synthetic;

    #[test]
    fn another_row_or_another_origin_is_another_hash() {
        let case: Case = "transformer-toy/padded/cpu/b1/t256".parse().unwrap();
        let hash = |run: &Run| citation(run, case, Metric::StepNs, None).unwrap().hash;
        let run = synthetic::run(6);
        let same = hash(&run);
        assert!(same.len() == 16 && same.bytes().all(|b| b.is_ascii_hexdigit()), "{same}");
        let mut elsewhere = run.clone();
        elsewhere.path = "other/place".into();
        elsewhere.samples.retain(|sample| sample.case == case);
        assert_eq!(hash(&elsewhere), same, "only the rows and where they were taken count");
        for sample in 0..elsewhere.samples.len() {
            let mut changed = elsewhere.clone();
            let value = changed.samples[sample].value.as_mut().unwrap();
            *value += 1;
            assert_eq!(hash(&changed) != same, changed.samples[sample].metric == Metric::StepNs);
        }
        elsewhere.environment.git_dirty = Some(true);
        assert_ne!(hash(&elsewhere), same);
    }
}
