//! A figure, and a name for the rows behind it: the same rows have the same name wherever they are, and
//! a digit changed in one of them gives another.

use sha2::{Digest, Sha256};

use super::compare::{compare, compare_across, Comparison};
use super::estimate::Estimate;
use super::figure::Figure;
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
    /// What is told of it.
    pub figure: Figure,
    /// One repetition, in the figure's unit.
    pub value: Estimate,
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
    /// The cited figure over this case's; the verdict is of the times, of a rate's those of one token.
    pub comparison: Comparison,
    /// [`rows_hash`] of this case's rows.
    pub hash: String,
}

/// # Errors
/// When the run has no such case, naming the nearest; when a sample of it failed, or its logits are not naive's; when
/// no ratio can be formed.
pub fn citation<'a>(run: &'a Run, case: Case, figure: Figure, other: Option<Case>) -> Result<Citation<'a>> {
    let all = rows(run);
    let samples = |case: Case| {
        let metric = figure.metric(case.strategy);
        sound(run, &case, metric)?;
        all.get(&(case, metric)).ok_or_else(|| {
            let known = all.keys().filter(|(_, m)| *m == metric).map(|(case, _)| case.to_string());
            Error::Unknown { kind: "case", name: case.to_string(), known: known.collect() }
        })
    };
    if !figure.applies_to(&case) {
        return Err(Error::Input(format!(
            "`{case}` has no {figure}: its source is encoded outside of the time"
        )));
    }
    let mine = samples(case)?;
    let of_mine = series(mine, 1.0);
    let against = |other: Case| {
        let theirs = samples(other)?;
        // where rates are compared, the time of a token is
        let [a, b] = [(mine, case), (theirs, other)]
            .map(|(rows, case)| series(rows, figure.tokens(&case).unwrap_or(1.0)));
        let beside = Case { strategy: case.strategy, cache: case.cache, ..other } == case
            && theirs[0].metric == mine[0].metric;
        let comparison = match beside {
            true => compare(&a, &b),
            false => compare_across(&a, &b), // rounds of other cases are other moments
        };
        let comparison = comparison.filter(|_| a.protocol() == b.protocol());
        let mut comparison = comparison.ok_or_else(|| {
            Error::Input(format!("`{other}` gives no ratio: its samples are of another kind, or zero"))
        })?;
        if figure.tokens(&case).is_some() {
            comparison.ratio = comparison.ratio.inverse();
        }
        Ok::<_, Error>(Other { case: other, comparison, hash: rows_hash(run, theirs) })
    };
    let value = of_mine.median().ok_or_else(|| Error::file(&run.path, "no samples"))?;
    let value = figure.of(&case, value);
    let (protocol, hash) = (of_mine.protocol(), rows_hash(run, mine));
    Ok(Citation { run, case, figure, value, protocol, hash, other: other.map(against).transpose()? })
}

/// # Errors
/// When the run itself says that the case has no figure.
fn sound(run: &Run, case: &Case, metric: Metric) -> Result<()> {
    let refused = |what: String| Err(Error::file(&run.path, format!("{case} has no figure to cite: {what}")));
    let failed = run.samples.iter().filter(|sample| sample.case == *case && sample.metric == metric);
    if let Some(error) = failed.filter_map(|sample| sample.error.as_ref()).next() {
        return refused(format!("a sample of its {metric} failed: {error}"));
    }
    let mut compared = run.equality.iter().filter(|row| row.case.at(1) == case.at(1));
    match compared.find(|row| row.error.is_some() || row.exceeds()) {
        None => Ok(()),
        Some(row) => {
            let larger = || format!("they differ by more than {:e} of the largest", row.tolerance);
            let how = row.error.clone().unwrap_or_else(larger);
            refused(format!(
                "its logits at position {} are not known to be naive's: {how}",
                row.case.position
            ))
        }
    }
}

/// One repetition over a number of parts.
fn series(rows: &[&Sample], parts: f64) -> Series {
    let value = |row: &&Sample| Some((row.round, row.per_iteration()? / parts));
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
    use crate::record::{synthetic, Round};
    use crate::strategy::Strategy;

    const STEP: Figure = Figure::Metric(Metric::StepNs);

    #[test]
    fn another_row_or_another_origin_is_another_hash() {
        let case: Case = "transformer-toy/padded/cpu/b1/t256".parse().unwrap();
        let hash = |run: &Run| citation(run, case, STEP, None).unwrap().hash;
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

    #[test]
    fn what_failed_or_differs_has_no_figure() {
        let case: Case = "transformer-toy/padded/cpu/b1/t256".parse().unwrap();
        let sound = synthetic::run(6);
        let refused = |change: &dyn Fn(&mut Run)| {
            let mut run = sound.clone();
            change(&mut run);
            let alone = citation(&run, case, STEP, None);
            let beside = citation(&run, case.under(Strategy::Concat), STEP, Some(case));
            assert_eq!(alone.as_ref().err().map(Error::to_string), beside.err().map(|e| e.to_string()));
            alone.err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(&|_| {}), "");
        let failed = |run: &mut Run| {
            run.samples.push(Sample::failed(case, Metric::StepNs, Round::Interleaved(3), "no memory"));
        };
        assert!(refused(&failed).ends_with("a sample of its step_ns failed: no memory"));
        let row = |run: &Run, at: usize| run.equality.iter().position(|row| row.case == case.at(at)).unwrap();
        for at in [256, 64] {
            let differs = |run: &mut Run| {
                let row = row(run, at);
                run.equality[row].error = Some("entry 0 logit 1 is 2 and naive's is 3".into());
            };
            assert!(
                refused(&differs).contains(&format!("position {at} are not known to be naive's: entry 0"))
            );
            let large = |run: &mut Run| {
                let row = row(run, at);
                run.equality[row].max_rel = Some(2e-4);
            };
            assert!(refused(&large).ends_with("they differ by more than 1e-4 of the largest"));
        }
        let other = |run: &mut Run| {
            let concat = run.equality.iter_mut().find(|row| row.case.strategy == Strategy::Bounded);
            concat.unwrap().error = Some("of another strategy".into());
        };
        assert_eq!(refused(&other), "");
    }
}
