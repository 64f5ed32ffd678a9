//! One run out of the runs of a plan's shards.
//!
//! A task that was killed and begun again has several attempts, and sometimes all of them finish. What was
//! measured together, the cases of a position or the whole decodes of a model, is taken from one attempt
//! alone: the last finished one, and only where none finished, the one that got furthest. So nothing counts
//! twice, and the samples of a round are of one machine.
//!
//! The result follows from the set of parts: in another order, twice, or through merged runs, it is the same.

use std::collections::BTreeMap;

use super::{Place, Plan};
use crate::analysis::MIN_ROUNDS;
use crate::case::Case;
use crate::error::{Error, Result};
use crate::record::{
    differences, refused_and_said, Bandwidth, Environment, EqualityRow, LedgerRow, Merged, MergedRun,
    MergedSample, Metric, Origin, Round, Run, Sample, Use,
};
use crate::strategy::Strategy;
use crate::suite;

/// A merged run, not written yet.
pub struct Merge {
    /// Of the merged run.
    pub environment: Environment,
    /// Of all parts, each with where it came from.
    pub samples: Vec<MergedSample>,
    /// Of all parts.
    pub equality: Vec<EqualityRow>,
    /// Of all parts.
    pub ledger: Vec<LedgerRow>,
    /// What was planned and is not there, in words.
    pub missing: Vec<String>,
    /// In what the parts differ besides, in words.
    pub notes: Vec<String>,
}

/// What is taken from one attempt as a whole: the case that stands for it, at position 0 for whole decodes.
type UnitOfWork = Case;

fn unit(case: &Case, round: Round) -> UnitOfWork {
    let case = case.under(Strategy::Naive);
    match round.is_decode() {
        true if suite::is_passed(&case) => case.at(0),
        true => case.at(suite::next_position(&case)), // of the end of a decode
        false => case,
    }
}

/// The rows of a unit in one run.
struct Found<'a> {
    part: &'a MergedRun,
    samples: Vec<&'a Sample>,
    run: &'a Run,
    /// Which of the runs: one may be given twice.
    given: usize,
}

impl Found<'_> {
    /// The larger, the better. The name decides between attempts of one number, so that the order in which
    /// runs are given does not.
    fn rank(&self) -> impl Ord + '_ {
        let MergedRun { run, attempt, started_utc, finished_utc, .. } = self.part;
        let finished = finished_utc.is_some();
        let samples = if finished { 0 } else { self.samples.len() };
        (finished, samples, *attempt, started_utc, run)
    }
}

const NO_SAMPLES: &str = "the run has no samples";

/// # Errors
/// When a run is no shard's, has no samples although it ended, or differs from the others in what makes numbers
/// comparable: names what.
pub fn merge(runs: &[Run]) -> Result<Merge> {
    let parts = runs.iter().map(parts).collect::<Result<Vec<_>>>()?;
    let mut notes = comparable(runs)?;
    // one that was killed at once holds nothing yet; one that ended holds less than it did
    for Run { path, environment, .. } in runs.iter().filter(|run| run.samples.is_empty()) {
        match environment.finished_utc {
            Some(_) => return Err(Error::file(path, NO_SAMPLES)),
            None => notes.push(format!("{}: {NO_SAMPLES}", path.display())),
        }
    }
    let mut units: BTreeMap<UnitOfWork, Vec<Found<'_>>> = BTreeMap::new();
    for (given, (run, parts)) in runs.iter().zip(&parts).enumerate() {
        for (sample, part) in run.samples.iter().zip(origins(run, parts)?) {
            let found = units.entry(unit(&sample.case, sample.round)).or_default();
            match found.iter_mut().find(|found| found.part == part && found.given == given) {
                Some(found) => found.samples.push(sample),
                None => found.push(Found { part, samples: vec![sample], run, given }),
            }
        }
    }
    let (mut samples, mut equality, mut ledger) = (Vec::new(), Vec::new(), Vec::new());
    for (unit_of, found) in units {
        let Some(Found { part, samples: taken, run, .. }) =
            found.into_iter().max_by(|a, b| a.rank().cmp(&b.rank()))
        else {
            continue;
        };
        samples.extend(taken.into_iter().cloned().map(|sample| MergedSample {
            sample,
            run: part.run.clone(),
            attempt: part.attempt,
        }));
        equality.extend(run.equality.iter().filter(|row| unit(&row.case, Round::Single) == unit_of).cloned());
        ledger.extend(run.ledger.iter().filter(|row| unit(&row.case, Round::Single) == unit_of).cloned());
    }
    if samples.is_empty() {
        return Err(Error::file(&runs[0].path, NO_SAMPLES));
    }
    let (plan, merged) = plan(runs, parts.concat())?;
    let missing = missing(&plan, &samples);
    let environment = environment(runs, merged, missing.is_empty());
    Ok(Merge { environment, samples, equality, ledger, missing, notes })
}

/// The parts that a run holds: itself, or those it was merged from.
fn parts(run: &Run) -> Result<Vec<MergedRun>> {
    let Environment { sharding, merged, started_utc, finished_utc, .. } = &run.environment;
    match (sharding, merged) {
        (_, Some(merged)) => Ok(merged.parts.clone()),
        (Some(sharding), None) => Ok(vec![MergedRun {
            run: run.environment.folder_name(),
            shard: sharding.shard.clone(),
            attempt: sharding.attempt,
            started_utc: started_utc.clone(),
            finished_utc: finished_utc.clone(),
        }]),
        (None, None) => Err(Error::file(
            &run.path,
            "no part of a plan: `merge` takes what `run --shard` and `merge` wrote",
        )),
    }
}

/// For each sample the part it is from.
fn origins<'a>(run: &Run, parts: &'a [MergedRun]) -> Result<Vec<&'a MergedRun>> {
    if run.environment.merged.is_none() {
        return Ok(vec![&parts[0]; run.samples.len()]);
    }
    let column = run.extra.columns.iter().position(|column| column == "run");
    let part = |row: &Vec<String>| parts.iter().find(|part| Some(&part.run) == column.map(|at| &row[at]));
    run.extra.rows.iter().map(part).collect::<Option<_>>().ok_or_else(|| {
        Error::file(&run.path, "a merged run with a sample that is of none of the parts it names")
    })
}

/// What makes numbers comparable is the same in all; returns what else differs.
fn comparable(runs: &[Run]) -> Result<Vec<String>> {
    let Some((first, others)) = runs.split_first() else {
        return Err(Error::Input("no run to merge".into()));
    };
    let mut notes = Vec::new();
    for (earlier, run) in (1..).zip(others) {
        let (mut was, mut now) = (first.environment.clone(), run.environment.clone());
        // shards without a case on a GPU name none, and agree with every one that does
        was.gpu = now.gpu.as_ref().and(runs[..earlier].iter().find_map(|run| run.environment.gpu.clone()));
        now.gpu = was.gpu.as_ref().and(now.gpu);
        let was = Origin { environment: &was, samples: &first.samples };
        let unmet = differences(Use::Merge, was, Origin { environment: &now, samples: &run.samples });
        let [mut refused, said] = refused_and_said(&unmet);
        let (was, now) = (plan_of(first), plan_of(run));
        if was != now {
            refused.push(format!("plan: {}, now {}", was.0, now.0));
        }
        if !refused.is_empty() {
            let what = format!("cannot be merged with {}: {}", first.path.display(), refused.join("; "));
            return Err(Error::file(&run.path, what));
        }
        notes.extend(said.iter().map(|said| format!("{}: {said}", run.path.display())));
    }
    Ok(notes)
}

/// The plan's name and its filter.
fn plan_of(run: &Run) -> (&str, Option<&str>) {
    let Environment { sharding, merged, .. } = &run.environment;
    let of_shard = || sharding.as_ref().map(|s| (s.plan.as_str(), s.filter.as_deref()));
    merged
        .as_ref()
        .map(|m| (m.plan.as_str(), m.filter.as_deref()))
        .or_else(of_shard)
        .unwrap_or(("none", None))
}

/// The plan that all are parts of, made anew, and what is written down about the merge.
fn plan(runs: &[Run], mut parts: Vec<MergedRun>) -> Result<(Plan, Merged)> {
    let bad = |what: String| Error::file(&runs[0].path, what);
    let any = parts.first().ok_or_else(|| bad("merged from no part".into()))?;
    let of: Place = any.shard.parse().map_err(bad)?;
    let (id, filter) = plan_of(&runs[0]);
    let plan = Plan::new(filter, of.of)?;
    if plan.id() != id {
        let what = format!("its plan is {id}, and this version of decode-bench plans {}", plan.id());
        return Err(bad(what));
    }
    // a part that was seen unfinished before and is finished now is finished
    parts.sort_by(|a, b| {
        let key =
            |part: &MergedRun| (part.started_utc.clone(), part.run.clone(), part.finished_utc.is_none());
        key(a).cmp(&key(b))
    });
    parts.dedup_by(|a, b| a.run == b.run);
    let merged = Merged { plan: id.into(), shards: of.of as u64, filter: filter.map(String::from), parts };
    Ok((plan, merged))
}

/// Planned cases that were neither timed in rounds enough for an interval nor failed, or not counted; and
/// whole decodes that no round has.
fn missing(plan: &Plan, samples: &[MergedSample]) -> Vec<String> {
    let mut timed: BTreeMap<Case, Vec<Round>> = BTreeMap::new();
    let (mut counted, mut decoded, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for Sample { case, metric, round, error, .. } in samples.iter().map(|merged| &merged.sample) {
        match (metric, error) {
            (_, Some(_)) => failed.push(*case),
            (Metric::StepNs, None) if !(round.is_decode() && case.backend.is_cuda()) => {
                timed.entry(*case).or_default().push(*round);
            }
            (Metric::CacheLiveBytes, None) => counted.push(*case),
            (Metric::DecodeNs, None) => decoded.push(*case),
            _ => {}
        }
    }
    let rounds = |case: &Case| {
        let mut rounds = timed.get(case).cloned().unwrap_or_default();
        rounds.sort();
        rounds.dedup();
        rounds.len()
    };
    let mut missing = Vec::new();
    for (shard, group) in
        (1..=plan.shards()).flat_map(|shard| plan.groups(shard).iter().map(move |g| (shard, g)))
    {
        let of = |what: &dyn std::fmt::Display| format!("{what}, of shard {shard}/{}", plan.shards());
        let is_timed =
            |case: &Case| (suite::is_passed(case) && !case.backend.is_cuda()) || rounds(case) >= MIN_ROUNDS;
        let is_there = |case: &Case| failed.contains(case) || is_timed(case) && counted.contains(case);
        missing.extend(group.cases.iter().filter(|case| !is_there(case)).map(|case| of(case)));
        let is_decoded = |case: &Case| match case.strategy {
            Strategy::NaivePadded => rounds(case) > 0, // the end of a decode
            _ => decoded.contains(case),
        };
        let undecoded = group.decodes.iter().filter(|case| !is_decoded(case));
        missing.extend(undecoded.map(|case| of(&format!("the whole decode {case}"))));
    }
    missing
}

/// That of the part which began first, with the ceilings that any of them measured.
fn environment(runs: &[Run], merged: Merged, complete: bool) -> Environment {
    let environments = || runs.iter().map(|run| &run.environment);
    let began = |run: &&Run| parts(run).into_iter().flatten().map(|part| (part.started_utc, part.run)).min();
    let first = &runs.iter().min_by_key(began).expect("`comparable` found one").environment;
    let peak = |of: &dyn Fn(&Environment) -> Option<crate::record::PeakFlops>| {
        environments().filter_map(of).max_by_key(|peak| (peak.flops_per_second, peak.how.clone()))
    };
    let mut gpu = environments().filter_map(|e| e.gpu.clone()).min_by_key(|gpu| format!("{gpu:?}"));
    if let Some(gpu) = &mut gpu {
        gpu.read_bandwidth =
            union(environments().filter_map(|e| e.gpu.as_ref()).flat_map(|g| &g.read_bandwidth));
        gpu.peak_flops = peak(&|e| e.gpu.as_ref()?.peak_flops.clone());
    }
    let doubtful = environments().find(|e| e.doubtful_revision().is_some());
    Environment {
        checkout: doubtful.unwrap_or(first).checkout.clone(),
        read_bandwidth: union(environments().flat_map(|e| &e.read_bandwidth)),
        peak_flops: peak(&|e| e.peak_flops.clone()),
        gpu,
        finished_utc: merged
            .parts
            .iter()
            .filter_map(|part| part.finished_utc.clone())
            .max()
            .filter(|_| complete),
        sharding: None,
        merged: Some(merged),
        ..first.clone()
    }
}

fn union<'a>(all: impl Iterator<Item = &'a Bandwidth>) -> Vec<Bandwidth> {
    let mut all: Vec<Bandwidth> = all.cloned().collect();
    let key = |b: &Bandwidth| (b.model_shape.clone(), b.threads, b.bytes_per_second, b.pattern.clone());
    all.sort_by_key(key);
    all.dedup();
    all
}

#[cfg(test)]
mod tests;
